"""How sure a figure is: a paired bootstrap over queries, its intervals, and one-line verdicts in words.

Queries are what was sampled, so queries are what is resampled: all settings, seeds and routers of a query come and go
together. That makes every comparison paired and keeps several seeds of one query from passing as several queries
(a cluster bootstrap; Efron and Tibshirani, An Introduction to the Bootstrap, 1993; Miller, arXiv 2411.00640, on
clustered errors in evaluations). Intervals are percentile intervals, one figure at a time: with twenty routers in a
table, expect one in twenty of true zeros to be called a difference.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from xrouter_sim.evaluation.metrics import Array

CONFIDENCE = 0.95
REPLICATES = 1000


@dataclass(frozen=True)
class Figure:
    """A measured value with the ends of its 95% interval; None where it is not defined (or never reached)."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}

    def scaled(self, factor: float) -> "Figure":
        """The figure in another unit (factor > 0)."""
        return Figure(*(None if x is None else x * factor for x in (self.value, self.low, self.high)))


class Bootstrap:
    """One set of resampled queries, shared by everything that is to be compared.

    `weights` (1 + replicates, queries): row 0 is the sample itself, the other rows are drawn with replacement; each row
    adds up to 1. So a statistic computed along the rows gives its value in row 0 and its spread in the rest.
    """

    def __init__(self, queries: int, replicates: int = REPLICATES, seed: int = 0) -> None:
        """Draw; the same arguments give the same weights. Raises ValueError when there is nothing to draw from."""
        if queries < 1 or replicates < 1:
            raise ValueError(f"a bootstrap needs queries and replicates, not {queries} and {replicates}")
        even = np.full(queries, 1.0 / queries)
        counts = np.random.default_rng(seed).multinomial(queries, even, size=replicates)
        self.weights: Array = np.vstack([even, counts / queries])

    def means(self, values: ArrayLike) -> Array:
        """Mean over queries of values (…, queries), in the sample and in each replicate: (1 + replicates, …)."""
        table = np.asarray(values, dtype=float)
        flat: Array = self.weights @ table.reshape(-1, table.shape[-1]).T
        return flat.reshape(len(self.weights), *table.shape[:-1])

    def quantiles(self, values: ArrayLike, levels: ArrayLike) -> Array:
        """Quantiles over queries (and seeds) of values (seeds, queries): (1 + replicates, levels).

        The smallest value with at least that level of the weight at or below it.
        """
        table = np.atleast_2d(np.asarray(values, dtype=float))
        order = np.argsort(table, axis=None, kind="stable")
        ordered = table.ravel()[order]
        below = np.cumsum(self.weights[:, order % table.shape[1]] / table.shape[0], axis=1)
        # A hair below the level, so that sums like 0.1 + 0.2 + 0.2 still count as a half.
        places = np.stack([np.searchsorted(row, np.asarray(levels) - 1e-9) for row in below])
        found: Array = ordered[np.minimum(places, order.size - 1)]
        return found


def figure(rows: ArrayLike, confidence: float = CONFIDENCE) -> Figure:
    """Value and percentile interval of one statistic, from its rows (1 + replicates,) as `Bootstrap` orders them.

    nan in row 0 means not defined: Figure(None). nan in a replicate counts as beyond every bound, so an end of the
    interval that falls on one is None ("never").

    >>> figure([2.0, 1.0, 2.0, 3.0])
    Figure(value=2.0, low=1.0, high=3.0)
    """
    value, *replicates = np.asarray(rows, dtype=float).tolist()
    if math.isnan(value):
        return Figure(None)
    ordered = np.sort(np.nan_to_num(np.array(replicates), nan=np.inf))
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(ordered, [tail, 1.0 - tail], method="closest_observation").tolist()
    return Figure(value, low if math.isfinite(low) else None, high if math.isfinite(high) else None)


def figures(rows: Array) -> list[Figure]:
    """One Figure a column of rows (1 + replicates, columns)."""
    return [figure(column) for column in rows.T]


def differs(difference: Figure) -> bool:
    """Whether a difference's interval leaves out zero."""
    low, high = difference.low, difference.high
    return low is not None and high is not None and (low > 0 or high < 0)


def verdict(who: str, what: str, whom: str, difference: Figure, by_seed: Sequence[float] = ()) -> str:
    """One sentence on `who` minus `whom`, where more of `what` is better.

    `by_seed` is the same difference seed by seed, if there are several: what queries leave no doubt about, seeds may.

    >>> verdict("rl", "reward at λ=1", "knn", Figure(0.012, 0.003, 0.021))
    'rl earns +0.012 [+0.003, +0.021] more reward at λ=1 than knn'
    >>> verdict("rl", "reward at λ=1", "knn", Figure(-0.012, -0.021, -0.003))
    'rl earns 0.012 [0.003, 0.021] less reward at λ=1 than knn'
    >>> verdict("rl", "reward at λ=1", "knn", Figure(0.002, -0.004, 0.009))
    'rl and knn: no difference in reward at λ=1 at this sample size, +0.002 [−0.004, +0.009]'
    >>> verdict("rl", "reward at λ=1", "knn", Figure(0.012, 0.003, 0.021), [0.02, -0.004, 0.02])
    'rl earns +0.012 [+0.003, +0.021] more reward at λ=1 than knn, but its seeds disagree (ahead in 2 of 3)'
    """
    if difference.value is None:
        return f"{who} and {whom}: {what} cannot be compared"
    amount = f"{signed(difference.value)} [{signed(difference.low)}, {signed(difference.high)}]"
    if not differs(difference):
        return f"{who} and {whom}: no difference in {what} at this sample size, {amount}{_seeds(difference, by_seed)}"
    if difference.value > 0:
        return f"{who} earns {amount} more {what} than {whom}{_seeds(difference, by_seed)}"
    low, high = -(difference.high or 0.0), -(difference.low or 0.0)
    return (
        f"{who} earns {-difference.value:.3f} [{low:.3f}, {high:.3f}] less {what} than {whom}"
        f"{_seeds(difference, by_seed)}"
    )


def _seeds(difference: Figure, by_seed: Sequence[float]) -> str:
    """What the seeds add to a verdict."""
    ahead, count = sum(lead > 0 for lead in by_seed), len(by_seed)
    if count < 2:
        return ""
    if not differs(difference):
        return f" (ahead in {ahead} of {count} seeds)"
    agree = ahead == count if (difference.value or 0.0) > 0 else sum(lead < 0 for lead in by_seed) == count
    return f", in each of {count} seeds" if agree else f", but its seeds disagree (ahead in {ahead} of {count})"


def signed(value: float | None, digits: int = 3) -> str:
    """A number with its sign, a real minus, and no minus zero; an en dash for None."""
    if value is None:
        return "–"
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text.replace("−", "+") if float(f"{value:.{digits}f}") == 0 else text
