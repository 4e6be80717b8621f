"""Logistic regression on the question's embedding, arm by arm (as in Routing Plateau, arXiv 2606.07587)."""

from typing import ClassVar

import numpy as np
from sklearn.linear_model import LogisticRegression

from xrouter_sim.replay import Floats
from xrouter_sim.routers.predictive import Predictive


class Logistic(Predictive):
    """The chance that an arm is right; `setting` is C, the inverse of the penalty.

    A score between 0 and 1 counts as so much of a right answer and the rest of a wrong one.
    """

    name = "logistic"
    settings: ClassVar = (0.01, 0.03, 0.1, 0.3, 1.0)

    def predict(self, known: Floats, targets: Floats, asked: Floats, setting: float, seed: int) -> Floats:
        return np.stack([self._one(known, column, asked, setting) for column in targets.T], axis=1)

    def _one(self, known: Floats, score: Floats, asked: Floats, setting: float) -> Floats:
        right, wrong = np.flatnonzero(score > 0), np.flatnonzero(score < 1)
        rows, label = np.r_[right, wrong], np.r_[np.ones(len(right)), np.zeros(len(wrong))]
        weight = np.r_[score[right], 1.0 - score[wrong]]
        model = LogisticRegression(C=setting, max_iter=1000).fit(known[rows], label, weight)
        chance: Floats = model.predict_proba(asked)[:, 1]
        return chance
