"""Clusters of questions: an arm is as good as it was in the cluster where the question falls (k-means).

Avengers-Pro (Zhang et al., arXiv 2508.12631) is the same with another trade-off of score and cost.
"""

import warnings
from typing import ClassVar

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from xrouter_sim.replay import Floats
from xrouter_sim.routers.predictive import Predictive

STARTS = 4
"""Of k-means: it keeps the best of so many."""


class Clusters(Predictive):
    """The mean score in the nearest of `setting` clusters of training questions."""

    name = "clusters"
    settings: ClassVar = (1, 2, 4, 8, 16, 32, 64)

    def predict(self, known: Floats, targets: Floats, asked: Floats, setting: float, seed: int) -> Floats:
        clusters = KMeans(min(int(setting), len(known)), n_init=STARTS, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different questions than clusters
            member = clusters.fit_predict(known)
        total, count = np.zeros((clusters.n_clusters, targets.shape[1])), np.zeros((clusters.n_clusters, 1))
        np.add.at(total, member, targets)
        np.add.at(count, member, 1.0)
        mean: Floats = np.take(total / np.maximum(count, 1.0), clusters.predict(asked), axis=0)
        return mean


class AvengersPro(Clusters):
    """Avengers-Pro: among the arms of a question, the score is stretched to [0, 1] and the cost divided by the largest.

    It maximises α · score − (1 − α) · cost. Its α has no unit; here it is 1 / (1 + λ), which sweeps all of (0, 1].
    The paper has 60 clusters, its code in LLMRouterBench (arXiv 2601.07206) 32.
    """

    name = "avengers-pro"

    def worth(self, score: Floats, cost: Floats, penalty: Floats) -> Floats:
        low, high = score.min(axis=1, keepdims=True), score.max(axis=1, keepdims=True)
        quality = (score - low) / np.maximum(high - low, 1e-12)
        expense = cost / np.maximum(cost.max(axis=1, keepdims=True), 1e-12)
        share = 1.0 / (1.0 + penalty)
        balance: Floats = share * quality - (1.0 - share) * expense
        return balance
