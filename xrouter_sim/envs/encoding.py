"""Actions and observations of the Gymnasium faces as plain arrays, for one episode or many."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from xrouter_sim.engine.arrays import Array
from xrouter_sim.engine.episodes import Observation
from xrouter_sim.engine.semantics import NO_CALL, Action, Outcome
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.features import FeatureSpec, query_features, response_embeddings
from xrouter_sim.replay import Ints

FINALS = 6
"""Action codes from here on select a slot; below they are CONTINUE, NONE, VOTE, ADOPT, DIRECT and WEIGHTED_VOTE."""

STATE = ("penalty", "turn", "turns_left", "cost", "seconds", "budget_left", "seconds_left")
"""What every observation tells of the episode: λ; turns; cost and what is left of a budget in cost units, −1 without
one; seconds, and what is left until a deadline, −1 without one."""


@dataclass(frozen=True)
class ActionCode:
    """An action is W + 1 integers: arm + 1 for each of up to W parallel calls, 0 for none; then how the turn ends."""

    arms: int
    width: int
    slots: int

    def space(self) -> spaces.MultiDiscrete:
        return spaces.MultiDiscrete([self.arms + 1] * self.width + [FINALS + self.slots])

    def decode(self, code: Array) -> Action:
        """[B, W + 1] codes to an action."""
        slot = code[:, self.width] - FINALS
        below = slot >> 63  # all bits, where it is no slot but ends as −1 − code says
        return Action(code[:, : self.width] - 1, (slot ^ below) + FINALS * below)

    def encode(self, action: Action) -> Array:
        """An action to [B, W + 1] codes; its calls are padded to W. NumPy only."""
        missing = self.width - action.calls.shape[1]
        calls = np.pad(action.calls, ((0, 0), (0, missing)), constant_values=NO_CALL) + 1
        ending = np.where(action.final >= 0, action.final + FINALS, -1 - action.final)
        return np.concatenate([calls, ending[:, None]], axis=1)


class Encoder:
    """What a policy is shown: the parts of a FeatureSpec as float32 arrays, beside the state of the episode."""

    def __init__(self, simulator: Simulator, spec: FeatureSpec, train: Ints) -> None:
        """`train` [n] query indices from which the arms' expected costs are taken."""
        replay, xp = simulator.replay, simulator.xp
        self.simulator, self.spec, self.xp = simulator, spec, xp
        self.dims, self.arms = spec.dims, replay.arms
        self.slots, self.turns = simulator.profile.client.max_calls, simulator.profile.client.max_turns
        self._cost = xp.put_in(replay.mean_cost[train].mean(axis=0) / simulator.cost_unit)
        self._model = xp.put_in(replay.model_of_arm)
        self._query = xp.put_in(query_features(replay, spec)) if self.dims.query else None
        if "embedding" in spec.response:
            texts = response_embeddings(replay, _embedder(spec))
            self._no_text = len(texts.vectors)
            blank = np.zeros((1, texts.vectors.shape[1]), np.float32)
            self._texts = xp.put_in(np.concatenate([texts.vectors, blank]))
            self._text = xp.put_in(np.where(texts.index < 0, self._no_text, texts.index.astype(np.int64)).reshape(-1))

    def space(self) -> spaces.Dict:
        """Of one episode."""
        shapes = {
            "state": (len(STATE),),
            "query": (self.dims.query,),
            "pool": (self.arms, self.dims.pool),
            "response": (self.slots, self.dims.response),
        }
        unbounded = {
            name: spaces.Box(-np.inf, np.inf, shape, np.float32) for name, shape in shapes.items() if shape[-1]
        }
        return spaces.Dict(
            unbounded
            | {
                "on_offer": spaces.Box(0, 1, (self.arms,), np.int8),
                "arm": spaces.Box(NO_CALL, self.arms - 1, (self.slots,), np.int64),
            }
        )

    def __call__(self, seen: Observation) -> dict[str, Array]:
        """[B, …] each, by the names in `space`."""
        shown: dict[str, Array] = {"state": self._state(seen)}
        if self._query is not None:
            shown["query"] = self.xp.take(self._query, seen.query)
        if self.dims.pool:
            shown["pool"] = self.xp.stack([column for part in self.spec.pool for column in self._pool(part, seen)])
        if self.dims.response:
            columns = [column for part in self.spec.response for column in self._response(part, seen)]
            shown["response"] = self._join(columns)
        shown["on_offer"] = self.xp.to_byte(seen.on_offer[:, self._model])
        shown["arm"] = seen.arm
        return shown

    def _state(self, seen: Observation) -> Array:
        unit, xp = self.simulator.cost_unit, self.xp
        return xp.stack(
            [
                seen.penalty,
                seen.turn,
                self.turns - seen.turn,
                seen.cost / unit,
                seen.time,
                _left(xp, seen.budget, seen.cost, unit),
                _left(xp, seen.deadline, seen.time, 1.0),
            ]
        )

    def _pool(self, part: str, seen: Observation) -> list[Array]:
        if part == "price":
            return [self.xp.log(seen.price[:, self._model] * self._cost + 1e-9)]
        models = len(self.simulator.replay.model_ids)
        place = self.simulator.place(seen.world)[:, self._model]
        return [self.xp.to_float(place) / max(models - 1, 1)]

    def _response(self, part: str, seen: Observation) -> list[Array]:
        if part == "length":
            return [seen.evidence[..., 0]]
        if part == "errors":
            return [seen.outcome == int(outcome) for outcome in Outcome if 0 < outcome <= Outcome.FAILED]
        if part == "logprob":
            return [seen.evidence[..., 1], seen.evidence[..., 1] != 0]
        if part == "agreement":
            has = seen.answer >= 0
            same = (seen.answer[:, :, None] == seen.answer[:, None, :]) & has[:, :, None]
            others = has.sum(-1)[:, None] - 1
            share = self.xp.to_float((same.sum(-1) - 1) * has) / self.xp.maximum(others, 1)
            return [has, share]
        cell = self.simulator.cells(seen.query, seen.words)
        text = self.xp.where(cell >= 0, self.xp.take(self._text, cell * (cell >= 0)), self._no_text)
        return [self.xp.take(self._texts, text)]

    def _join(self, columns: list[Array]) -> Array:
        """[B, L, D] float32 of columns [B, L] and blocks [B, L, d]."""
        flat, blocks = [c for c in columns if c.ndim == 2], [c for c in columns if c.ndim == 3]
        if not blocks:
            return self.xp.stack(flat)
        ordered: list[Array] = []
        for column in columns:
            ordered += [column] if column.ndim == 2 else [column[..., i] for i in range(column.shape[2])]
        return self.xp.stack(ordered)


def _left(xp: Any, limit: Array, used: Array, unit: float) -> Array:
    """What is left of a limit, in units; −1 where there is none."""
    return xp.where(limit < np.inf, (limit - used) / unit, -1.0)


def _embedder(spec: FeatureSpec) -> Any:
    from xrouter_sim.embeddings import get_embedder

    return get_embedder(spec.embedder)
