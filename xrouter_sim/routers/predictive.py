"""What predictive routers share: from the question's embedding to every arm's score and cost, then one call.

A family is one method: predictions for some questions from known questions and what every arm scored on them. How much
it smooths is one number, its *setting*, chosen by cross-validation on the training queries unless it is given.

The cost of an arm is the mean of what it cost on the ten training questions nearest to this one, for all families: a
bill depends on prompt and answer length, which neighbours share far more than they share correctness. On RouterBench's
training queries (cross-validated) this has a squared error of .023 in units of the arm's mean cost, like a ridge
regression or the mean of the domain, and the arm's overall mean .078. It is never below zero.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from sklearn.neighbors import NearestNeighbors

from xrouter_sim.engine.randomness import Purpose, draw
from xrouter_sim.features import FeatureSpec, query_features
from xrouter_sim.replay import Floats, Ints, Replay
from xrouter_sim.routers.base import SingleShot
from xrouter_sim.routers.smoothers import simplest_within_one_standard_error

FOLDS = 5
COST_NEIGHBOURS = 10
QUESTION_FEATURES = "question features"


class Predictive(SingleShot):
    """A single-shot router that learns scores from the question alone.

    `setting` is what `predict` smooths by; None chooses among `settings` by cross-validated squared error, that of all
    arms together. `spec` says which parts of a query it reads.
    """

    reads = ("query text", "prices", "penalty")
    settings: ClassVar[Sequence[float]]
    """Candidates, the smoothest first."""

    def __init__(self, setting: float | None = None, spec: FeatureSpec | None = None) -> None:
        self.setting, self.spec = setting, spec or FeatureSpec()

    @abstractmethod
    def predict(self, known: Floats, targets: Floats, asked: Floats, setting: float, seed: int) -> Floats:
        """[m, A] expected scores for the features `asked` [m, F], learned from `known` [n, F] and `targets` [n, A].

        `targets` are in [0, 1]; predictions need not be. An arm's may not depend on its place among the arms.
        """

    def fit(self, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> None:
        self.cost_unit, self.model_of_arm = cost_unit, replay.model_of_arm
        features = question_features(replay, self.spec)
        known, score = features[queries], replay.mean_score[queries]
        self.chosen = self._choose(known, score, seed) if self.setting is None else self.setting
        # Not cut off at 1: above it some regressions still tell which of two arms is better.
        self.predicted_score = np.maximum(self._predict(known, score, features, self.chosen, seed), 0.0)
        self.predicted_cost = expected_cost(replay, queries, self.spec)

    def _predict(self, known: Floats, targets: Floats, asked: Floats, setting: float, seed: int) -> Floats:
        """`predict`, with the arms in an order that hangs on their scores alone, and without those that never vary."""
        varies = (targets != targets[0]).any(axis=0)
        order = np.lexsort(targets)
        order = order[varies[order]]
        predicted = np.tile(targets[0], (len(asked), 1))
        if len(order):
            predicted[:, order] = self.predict(known, targets[:, order], asked, setting, seed)
        return predicted

    def _choose(self, known: Floats, score: Floats, seed: int) -> float:
        """The smoothest setting whose cross-validated squared error is within one standard error of the least."""
        # The same folds for every seed and family: what differs between routers is then the router.
        fold = draw(0, Purpose.FOLD, np.arange(len(known))) % np.uint64(FOLDS)
        if len(np.unique(fold)) < 2:
            return self.settings[0]
        loss = np.zeros((len(self.settings), len(known)))
        for held_out in np.unique(fold):
            asked, others = fold == held_out, fold != held_out
            for place, setting in enumerate(self.settings):
                predicted = self._predict(known[others], score[others], known[asked], setting, seed)
                loss[place, asked] = ((np.clip(predicted, 0.0, 1.0) - score[asked]) ** 2).mean(axis=1)
        return self.settings[simplest_within_one_standard_error(loss)]


def question_features(replay: Replay, spec: FeatureSpec) -> Floats:
    """[Q, F] the query parts of `spec`, computed once for all routers of a replay."""
    key = (QUESTION_FEATURES, spec)
    if key not in replay.memo:
        replay.memo[key] = query_features(replay, spec).astype(np.float64)
    return replay.memo[key]


def expected_cost(replay: Replay, queries: Ints, spec: FeatureSpec) -> Floats:
    """[Q, A] USD at list price: the mean over the nearest of `queries` ([n] training indices), once for all."""
    key = ("expected cost", queries.tobytes(), spec)
    if key not in replay.memo:
        features = question_features(replay, spec)
        near = nearest(features[queries], features, COST_NEIGHBOURS)
        replay.memo[key] = replay.mean_cost[queries][near].mean(axis=1)
    return replay.memo[key]


def nearest(known: Floats, asked: Floats, neighbours: int) -> Ints:
    """[m, k] rows of `known` [n, F] that are nearest to each of `asked` [m, F] by cosine, k at most n."""
    index = NearestNeighbors(n_neighbors=min(neighbours, len(known)), metric="cosine").fit(known)
    near: Ints = index.kneighbors(asked, return_distance=False)
    return near
