"""Linear regressions on the question's embedding: ridge, and the linear support vector regression of RouterBench.

RouterBench (Hu et al., arXiv 2403.12031) fits the latter with its absolute loss. On grades of 0 and 1 that loss is
least at the median, not the mean: every arm that is right more often than not looks alike, and dear arms are never
worth their price. Under a squared loss both are the same model, and estimate the chance of a right answer.
"""

import warnings
from typing import ClassVar, Literal

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVR

from xrouter_sim.features import FeatureSpec
from xrouter_sim.replay import Floats
from xrouter_sim.routers.predictive import Predictive


class Linear(Predictive):
    """Ridge regression for all arms; `setting` is its penalty."""

    name = "linear"
    settings: ClassVar = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)

    def predict(self, known: Floats, targets: Floats, asked: Floats, setting: float, seed: int) -> Floats:
        predicted: Floats = Ridge(setting).fit(known, targets).predict(asked)
        return predicted.reshape(len(asked), -1)


class SupportVector(Predictive):
    """Linear support vector regression, arm by arm; `setting` is C.

    `SupportVector(1.0, "absolute")` is RouterBench's.
    """

    name = "svm"
    settings: ClassVar = (0.003, 0.01, 0.03, 0.1)

    def __init__(
        self,
        setting: float | None = None,
        loss: Literal["squared", "absolute"] = "squared",
        spec: FeatureSpec | None = None,
    ) -> None:
        super().__init__(setting, spec)
        self.loss = {"squared": "squared_epsilon_insensitive", "absolute": "epsilon_insensitive"}[loss]

    def predict(self, known: Floats, targets: Floats, asked: Floats, setting: float, seed: int) -> Floats:
        model = LinearSVR(C=setting, loss=self.loss, dual="auto", random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # RouterBench's setting stops at its limit of passes
            return np.stack([model.fit(known, column).predict(asked) for column in targets.T], axis=1)
