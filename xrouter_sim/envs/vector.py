"""Many episodes at once in Gymnasium's vector API: the face for training, at the speed of the engine."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from xrouter_sim.engine.arrays import Array
from xrouter_sim.engine.randomness import Purpose, draw
from xrouter_sim.engine.simulator import Fate, Simulator
from xrouter_sim.envs.encoding import ActionCode, Encoder
from xrouter_sim.features import FeatureSpec
from xrouter_sim.replay import Ints

POOL_ONLY = FeatureSpec(query=(), pool=("price", "position"), response=("length", "errors", "agreement", "logprob"))
"""What an environment shows unless told otherwise: all but embeddings."""


class VectorRoutingEnv(VectorEnv[Any, Any, Any]):
    """B routing episodes side by side. Observations, actions and rewards are arrays of the simulator's backend, so
    torch tensors go in and out without a copy.

    Environment i plays the episodes i, i + B, i + 2B, … (plus an offset that a seed sets); the episode's number fixes
    its query, its λ and its world. A finished episode is followed at once by the next (`AutoresetMode.SAME_STEP`):
    `infos["episode"]` tells how it ended, for the environments listed in `infos["episode"]["env"]`.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012, as Gymnasium has it

    def __init__(
        self,
        simulator: Simulator,
        queries: Ints,
        num_envs: int,
        *,
        penalties: Sequence[float] = (1.0,),
        spec: FeatureSpec = POOL_ONLY,
        width: int = 1,
        budget_usd: float | None = None,
        deadline_s: float | None = None,
        observes: bool = True,
    ) -> None:
        """`queries` [n] indices and `penalties` are drawn from with equal chances; `width` calls at most in a turn.
        `budget_usd` and `deadline_s` hold for every episode.

        `spec` says what is shown. Without `observes` the observations stay empty: for policies that use
        `simulator.observe(env.episodes)` themselves.
        """
        self.simulator, self.num_envs = simulator, num_envs
        self.xp = simulator.xp
        in_order = np.array_equal(queries, np.arange(len(queries)))  # the n-th query is the n-th: nothing to look up
        self._queries = None if in_order else self.xp.put_in(queries)
        self._penalties = self.xp.put_in(np.array(penalties, np.float64))
        self._n_queries = len(queries)
        self._encoder = Encoder(simulator, spec, queries) if observes else None
        self.code = ActionCode(simulator.replay.arms, width, simulator.profile.client.max_calls)
        self.single_action_space = self.code.space()
        self.action_space = batch_space(self.single_action_space, num_envs)
        if self._encoder is not None:
            self.single_observation_space = self._encoder.space()
            self.observation_space = batch_space(self.single_observation_space, num_envs)
        limits = {"budget": budget_usd, "deadline": deadline_s}
        self._limits = {name: self.xp.full(num_envs, float(v)) for name, v in limits.items() if v is not None}
        self._env = self.xp.arange(num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin with the first episodes. `options`: `first_key`, the number of the first one, in place of a seed."""
        first = first_key(seed, options)
        query, fate = self._draw(self._env + first)
        self.episodes = self.simulator.reset(query, fate["key"], self._penalty(fate), **self._limits)
        return self._observe(), {}

    def step(self, actions: Array) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """`actions` [B, width + 1], see `encoding.ActionCode`."""
        episodes = self.episodes
        self.simulator.step(episodes, self.code.decode(actions))
        done = episodes.done + False  # a copy: the rows begin again below
        reward = episodes.reward * done
        ended = self.xp.nonzero(done)
        told = {name: self.xp.take(getattr(episodes, name), ended) for name in ENDED}
        infos = {"episode": {"env": ended} | told}
        following = told["key"] + self.num_envs
        query, fate = self._draw(following)
        self.simulator.restart(episodes, ended, query, fate, self._penalty(fate) if len(self._penalties) > 1 else None)
        return self._observe(), reward, done, done & ~done, infos

    def _draw(self, key: Array) -> tuple[Array, Fate]:
        """Query and fate of episodes."""
        fate = self.simulator.fate(key)
        query = self.simulator.pick(fate, Purpose.QUERY, self._n_queries)
        return query if self._queries is None else self.xp.take(self._queries, query), fate

    def _penalty(self, fate: Fate) -> Array:
        """λ of episodes."""
        return self.xp.take(self._penalties, self.simulator.pick(fate, Purpose.PENALTY, len(self._penalties)))

    def _observe(self) -> dict[str, Array]:
        return {} if self._encoder is None else self._encoder(self.simulator.observe(self.episodes))


ENDED = ("key", "score", "cost", "time", "turn", "n_slots", "ending")
"""What is told of an episode when it ends: its number, score, USD, seconds, turns, calls and how it ended."""


def first_key(seed: int | None, options: dict[str, Any] | None) -> int:
    """Where the numbers of episodes begin: at 0, at an option, or where a seed says."""
    if options and "first_key" in options:
        return int(options["first_key"])
    return 0 if seed is None else int(draw(seed, Purpose.EPISODE, 0) >> np.uint64(24))
