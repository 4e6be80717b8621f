"""Nearest neighbours: an arm is as good and as dear as it was on the training queries most like this one."""

import numpy as np
from sklearn.neighbors import NearestNeighbors

from xrouter_sim.features import text_features
from xrouter_sim.replay import Ints, Replay
from xrouter_sim.routers.base import SingleShot

NEIGHBOURS = (10, 30, 100)


class NearestNeighbour(SingleShot):
    """kNN on text features. The number of neighbours is chosen by leave-one-out error on the training queries."""

    name = "knn"
    reads = ("query text", "prices", "penalty")
    neighbours: int

    def fit(self, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> None:
        self.cost_unit, self.model_of_arm = cost_unit, replay.model_of_arm
        features = text_features(replay, queries)
        known_score, known_cost = replay.mean_score[queries], replay.mean_cost[queries]
        most = min(max(NEIGHBOURS), len(queries) - 1)
        index = NearestNeighbors(n_neighbors=most).fit(features[queries])
        others = index.kneighbors(return_distance=False)  # each training query's neighbours without itself
        errors = {
            k: float(np.mean((known_score[others[:, :k]].mean(axis=1) - known_score) ** 2))
            for k in {min(k, most) for k in NEIGHBOURS}
        }
        self.neighbours = min(errors, key=lambda k: (errors[k], k))
        near = index.kneighbors(features, n_neighbors=self.neighbours, return_distance=False)
        self.predicted_score = known_score[near].mean(axis=1)
        self.predicted_cost = known_cost[near].mean(axis=1)
