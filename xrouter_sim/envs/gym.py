"""One routing episode at a time, as a Gymnasium environment."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.envs.vector import ENDED, POOL_ONLY, VectorRoutingEnv, first_key
from xrouter_sim.features import FeatureSpec
from xrouter_sim.replay import Ints


class RoutingEnv(gymnasium.Env[dict[str, Any], Any]):
    """The n-th episode of env 0 of a VectorRoutingEnv of one, on NumPy: the same engine, worlds and observations.

    `stride` is the distance between the numbers of its episodes: with B environments of stride B and `first_key` 0 to
    B − 1 the B of them play what one VectorRoutingEnv of B plays.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012, as Gymnasium has it

    def __init__(
        self,
        simulator: Simulator,
        queries: Ints,
        *,
        penalties: Sequence[float] = (1.0,),
        spec: FeatureSpec = POOL_ONLY,
        width: int = 1,
        budget_usd: float | None = None,
        deadline_s: float | None = None,
        stride: int = 1,
    ) -> None:
        """See VectorRoutingEnv; the simulator's backend must be NumPy."""
        self._one = VectorRoutingEnv(
            simulator,
            queries,
            1,
            penalties=penalties,
            spec=spec,
            width=width,
            budget_usd=budget_usd,
            deadline_s=deadline_s,
        )
        self.simulator, self.code, self._stride = simulator, self._one.code, stride
        self.action_space, self.observation_space = self._one.single_action_space, self._one.single_observation_space
        self._key = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The next episode; the first one of a sequence when there is a seed, or a `first_key` in `options`."""
        super().reset(seed=seed)
        if seed is not None or (options and "first_key" in options):
            self._key = first_key(seed, options)
        observation, _ = self._one.reset(options={"first_key": self._key})
        self._key += self._stride
        return _only(observation), {"key": self._key - self._stride}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One turn. After the end the observation shows the finished episode, and `info` how it ended."""
        episodes = self._one.episodes
        self.simulator.step(episodes, self.code.decode(np.asarray(action)[None]))
        done = bool(episodes.done[0])
        info = {name: getattr(episodes, name)[0].item() for name in ENDED} if done else {}
        return _only(self._one._observe()), float(episodes.reward[0]) * done, done, False, info


def _only(observation: dict[str, Any]) -> dict[str, Any]:
    """The one episode's part of a batch of one."""
    return {name: values[0] for name, values in observation.items()}
