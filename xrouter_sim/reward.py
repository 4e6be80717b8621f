"""The success-gated, cost-aware reward: the one definition that engine, routers, training and evaluation share."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

SETTINGS = (
    *(0.0, 0.02, 0.035, 0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.35, 0.42, 0.5, 0.75, 1.0),
    *(1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 40.0, 80.0),
)
"""λ at which every router is evaluated: from cost does not matter to only the cheapest will do."""


def reward(score: ArrayLike, cost_usd: ArrayLike, penalty: ArrayLike, cost_unit: float) -> NDArray[np.float64]:
    """score · (1 − min(λ · cost / cost_unit, 1)), in [0, 1] (xRouter, arXiv 2510.08439, with K = 1).

    No success, no reward; on success cheaper is better. `score` in [0, 1], `cost_usd` and `cost_unit` in USD, `penalty`
    is λ ≥ 0; they broadcast.

    >>> reward([1.0, 1.0, 0.0], [0.001, 0.02, 0.001], 2.0, 0.01).round(3).tolist()
    [0.8, 0.0, 0.0]
    """
    spent = np.asarray(penalty, np.float64) * np.asarray(cost_usd, np.float64) / cost_unit
    earned: NDArray[np.float64] = np.asarray(score, np.float64) * (1.0 - np.minimum(spent, 1.0))
    return earned
