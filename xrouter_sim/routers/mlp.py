"""A small neural network on the question's embedding (RouterBench, Hu et al., arXiv 2403.12031).

RouterBench trains one network an arm for 200 passes with next to no penalty. By then it knows the training grades by
heart, and what it says of new questions is mostly noise. Fewer passes and a penalty chosen by cross-validation stop it
before that, and one network for all arms is fitted in a fraction of the time.
"""

from typing import ClassVar

import numpy as np
from sklearn.neural_network import MLPRegressor

from xrouter_sim.features import FeatureSpec
from xrouter_sim.replay import Floats
from xrouter_sim.routers.predictive import Predictive

HIDDEN = 100


class NeuralNetwork(Predictive):
    """One hidden layer of 100, for all arms if it is `shared`, else one for each; `setting` is its L2 penalty.

    `NeuralNetwork(1e-4, passes=200, rate=1e-3, shared=False)` is RouterBench's.
    """

    name = "mlp"
    settings: ClassVar = (10.0, 3.0, 1.0, 0.3)

    def __init__(
        self,
        setting: float | None = None,
        passes: int = 20,
        rate: float = 3e-3,
        shared: bool = True,
        spec: FeatureSpec | None = None,
    ) -> None:
        super().__init__(setting, spec)
        self.passes, self.rate, self.shared = passes, rate, shared

    def predict(self, known: Floats, targets: Floats, asked: Floats, setting: float, seed: int) -> Floats:
        parts = [targets] if self.shared else np.split(targets, targets.shape[1], axis=1)
        return np.hstack([self._one(known, part, asked, setting, seed) for part in parts])

    def _one(self, known: Floats, targets: Floats, asked: Floats, penalty: float, seed: int) -> Floats:
        network = MLPRegressor(
            hidden_layer_sizes=(HIDDEN,), alpha=penalty, learning_rate_init=self.rate, random_state=seed
        )
        single = [each.astype(np.float32) for each in (known, asked, targets)]  # twice as fast
        for _ in range(self.passes):
            network.partial_fit(single[0], single[2][:, 0] if targets.shape[1] == 1 else single[2])
        predicted: Floats = network.predict(single[1]).astype(np.float64)
        return predicted.reshape(len(asked), -1)
