"""Which episodes GRPO plays, from easy to hard, and which it passes over because they teach nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xrouter_sim.engine.randomness import Purpose
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.envs.episode_text import TextEpisode
from xrouter_sim.envs.texts import Texts
from xrouter_sim.envs.tools import opening
from xrouter_sim.envs.vector import first_key
from xrouter_sim.replay import Ints

SAME = 1e-4
"""Rewards that differ by less teach nothing: what a router's own few tokens cost is of that size."""

TRIES = 16
"""Keys drawn for one place before an episode is taken that may teach nothing."""


@dataclass
class Curriculum:
    """Rows of a training set of `n` places, made when they are asked for.

    The world and the hardest queries allowed follow the place; the key fixes query, λ and luck. A group plays one row,
    so its episodes share a world and differ by what the router does.
    """

    simulators: Sequence[Simulator]  # from easy to hard
    queries: Ints
    penalties: Sequence[float]
    texts: Texts
    face: type[TextEpisode]
    n: int
    seed: int
    longest_question: int
    easy_first: bool = True
    dynamic: bool = True
    silent: dict[str, int] = field(default_factory=dict)
    """Query to how many more draws of it are passed over."""
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        replay = self.simulators[0].replay
        mean = replay.mean_score[self.queries].mean(axis=1)
        self.ease = dict(zip(self.queries.tolist(), mean.tolist(), strict=True))
        # Where no model is ever right, or text can be graded and all are, no call earns more than another.
        self.hopeless = {query for query, ease in self.ease.items() if ease == 0}
        self.hard = float(np.quantile(mean, 1 / 3)) if len(mean) else 0.0

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        """Columns for the places of a batch: a transform of a `datasets.Dataset`."""
        rows = [self.row(place) for place in batch["place"]]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def row(self, place: int) -> dict[str, Any]:
        if place not in self.rows:
            self.rows[place] = self._drawn(place)
        return self.rows[place]

    def learn(self, keys: Sequence[int], query_ids: Sequence[str], rewards: Sequence[float]) -> None:
        """A group that earned the same throughout has no gradient: its query rests for its next draws."""
        groups: dict[int, list[float]] = {}
        query_of = dict(zip(keys, query_ids, strict=True))
        for key, earned in zip(keys, rewards, strict=True):
            groups.setdefault(key, []).append(earned)
        for key, earned_by_group in groups.items():
            if len(earned_by_group) > 1 and max(earned_by_group) - min(earned_by_group) < SAME:
                self.silent[query_of[key]] = 2
            else:
                self.silent.pop(query_of[key], None)

    def _drawn(self, place: int) -> dict[str, Any]:
        share = place / max(self.n, 1)
        world = min(int(share * len(self.simulators)), len(self.simulators) - 1)
        simulator = self.simulators[world]
        penalties = np.array(self.penalties, np.float64)
        keys = first_key(self.seed, None) + place * TRIES + np.arange(TRIES)
        fate = simulator.fate(keys)
        drawn = self.queries[simulator.pick(fate, Purpose.QUERY, len(self.queries))]
        weights = penalties[simulator.pick(fate, Purpose.PENALTY, len(penalties))]
        chosen = next((at for at in range(TRIES) if self._teaches(int(drawn[at]), share)), 0)
        query = int(drawn[chosen])
        return {
            "prompt": opening(self.face.wording, self.texts.messages(query), self.longest_question),
            "query_id": simulator.replay.query_ids[query],
            "key": int(keys[chosen]),
            "penalty": float(weights[chosen]),
            "world": world,
            "environment": str(world),
        }

    def _teaches(self, query: int, share: float) -> bool:
        if query in self.hopeless or (self.easy_first and share < 1 / 3 and self.ease[query] < self.hard):
            return False
        query_id = self.simulators[0].replay.query_ids[query]
        if not self.dynamic or query_id not in self.silent:
            return True
        self.silent[query_id] -= 1
        if self.silent[query_id] <= 0:
            del self.silent[query_id]
        return False
