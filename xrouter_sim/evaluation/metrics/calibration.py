"""Whether predicted chances come true: Brier score, reliability by bins, expected calibration error."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from xrouter_sim.evaluation.metrics.curves import Array

BINS = 10


@dataclass(frozen=True)
class Bin:
    """One bar of a reliability diagram."""

    low: float
    high: float
    count: int
    predicted: float  # mean predicted chance
    observed: float  # mean outcome


def brier(predicted: ArrayLike, outcome: ArrayLike) -> Array:
    """The squared error of each predicted chance (…), whose mean is the Brier score: 0 is best, 0.25 a coin's.

    `predicted` and `outcome` in [0, 1]. Raises ValueError where one is missing or outside.

    >>> float(brier([1.0, 0.5, 0.0], [1.0, 1.0, 0.0]).mean().round(6))
    0.083333
    """
    p, y = _pairs(predicted, outcome)
    error: Array = (p - y) ** 2
    return error


def reliability(predicted: ArrayLike, outcome: ArrayLike, bins: int = BINS) -> list[Bin]:
    """Mean prediction beside mean outcome in `bins` equally wide bins of the prediction; empty ones are left out.

    >>> [(b.count, b.predicted, b.observed) for b in reliability([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 0], bins=2)]
    [(2, 0.1, 0.0), (2, 0.9, 0.5)]
    """
    p, y = (values.ravel() for values in _pairs(predicted, outcome))
    place = np.minimum((p * bins).astype(int), bins - 1)
    found = []
    for b in np.unique(place).tolist():
        members = place == b
        found.append(
            Bin(b / bins, (b + 1) / bins, int(members.sum()), float(p[members].mean()), float(y[members].mean()))
        )
    return found


def expected_calibration_error(predicted: ArrayLike, outcome: ArrayLike, bins: int = BINS) -> float:
    """ECE: how far mean outcomes are from mean predictions, over the bins of `reliability`, weighted by their counts.

    0 is best. A constant prediction of the mean outcome has 0 as well: read it beside the Brier score.

    >>> round(expected_calibration_error([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 0], bins=2), 6)
    0.25
    """
    table = reliability(predicted, outcome, bins)
    total = sum(row.count for row in table)
    return sum(row.count * abs(row.predicted - row.observed) for row in table) / total


def _pairs(predicted: ArrayLike, outcome: ArrayLike) -> tuple[Array, Array]:
    p, y = np.broadcast_arrays(np.asarray(predicted, dtype=float), np.asarray(outcome, dtype=float))
    if not p.size:
        raise ValueError("calibration needs predictions")
    if not ((p >= 0) & (p <= 1) & (y >= 0) & (y <= 1)).all():
        raise ValueError("calibration needs predictions and outcomes in [0, 1], and none missing")
    return p, y
