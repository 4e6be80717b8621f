"""The per-domain table: each arm's mean score and cost in the query's domain."""

import numpy as np

from xrouter_sim.replay import Ints, Replay
from xrouter_sim.routers.base import SingleShot


class Table(SingleShot):
    """Knows the name of the query's domain and nothing else. Hard to beat with query features alone."""

    name = "table"
    reads = ("domain", "prices", "penalty")

    def fit(self, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> None:
        self.cost_unit, self.model_of_arm = cost_unit, replay.model_of_arm
        self.predicted_score = np.tile(replay.mean_score[queries].mean(axis=0), (len(replay.query_ids), 1))
        self.predicted_cost = np.tile(replay.mean_cost[queries].mean(axis=0), (len(replay.query_ids), 1))
        for domain in np.unique(replay.domains[queries]):
            members = queries[replay.domains[queries] == domain]
            rows = replay.domains == domain
            self.predicted_score[rows] = replay.mean_score[members].mean(axis=0)
            self.predicted_cost[rows] = replay.mean_cost[members].mean(axis=0)
