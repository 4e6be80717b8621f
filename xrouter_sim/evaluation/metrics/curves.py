"""Cost–quality curves: hulls, the area under them, frontiers. Pure functions on NumPy arrays.

A router's *points* are its mean cost and mean score over the test queries, one point a setting of its dial.
Every curve function takes points in the last axis, shape (…, K), in any order, and works on all leading axes at
once: that is how thousands of bootstrap replicates of a curve are measured in one go.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def ndch(cost: ArrayLike, score: ArrayLike) -> tuple[Array, Array]:
    """Vertices of one router's non-decreasing convex hull, from its cheapest point rightwards.

    The upper concave envelope of the points (K,), cut where it starts to fall: what mixing the settings at random can
    reach (RouterBench, arXiv 2403.12031, §4). Returns costs (V,) and scores (V,), both strictly increasing.

    >>> ndch([1.0, 2.0, 3.0, 4.0], [0.2, 0.3, 0.6, 0.5])
    (array([1., 3.]), array([0.2, 0.6]))
    """
    ends = [(float(x), float(y)) for _, _, x, y in _segments(*points(cost, score))]
    return np.array([x for x, _ in ends]), np.array([y for _, y in ends])


def aiq(cost: ArrayLike, score: ArrayLike, low: ArrayLike, high: ArrayLike) -> Array:
    """Average improvement in quality, range form: the mean height of the NDCH over the cost range [low, high].

    Flat beyond the hull's last point, nothing below its first. Shapes: points (…, K), range ends (…), result (…), in
    [0, 1] for scores in [0, 1]; nan where the range has no width. The usual range is the mean test cost of the
    cheapest and of the dearest single model.

    >>> float(aiq([1.0, 3.0], [0.2, 0.6], 1.0, 5.0))  # (2 · 0.4 + 2 · 0.6) / 4
    0.5
    >>> float(aiq([3.0], [0.6], 1.0, 5.0))  # nothing below 3
    0.3
    """
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    return _over(_area(cost, score, low, high), high - low)


def aiq_code_form(cost: ArrayLike, score: ArrayLike, high: ArrayLike) -> Array:
    """AIQ as RouterBench's code has it: the area from the hull's first point up to `high`, divided by `high`.

    Shapes as in `aiq`.

    >>> float(aiq_code_form([1.0, 3.0], [0.2, 0.6], 5.0))  # (2 · 0.4 + 2 · 0.6) / 5
    0.4
    """
    high = np.asarray(high, dtype=float)
    return _over(_area(cost, score, np.zeros_like(high), high), high)


def cost_to_reach(cost: ArrayLike, score: ArrayLike, target: ArrayLike) -> Array:
    """The least cost at which the NDCH stands at `target` or above; nan where it never does.

    Shapes: points (…, K), target (…), result (…), in the unit of `cost`.

    >>> cost_to_reach([1.0, 3.0], [0.2, 0.6], [0.1, 0.5, 0.7]).round(6).tolist()
    [1.0, 2.5, nan]
    """
    target = np.asarray(target, dtype=float)
    reached = np.full(np.broadcast_shapes(target.shape, np.shape(cost)[:-1]), np.nan)
    for x0, y0, x1, y1 in _segments(*points(cost, score)):
        rise = np.where(y1 > y0, y1 - y0, 1.0)
        at = x0 + np.clip((target - y0) / rise, 0.0, 1.0) * (x1 - x0)
        reached = np.where(np.isnan(reached) & (y1 >= target), at, reached)
    return reached


def zero_router(cost: ArrayLike, score: ArrayLike) -> tuple[Array, Array]:
    """RouterBench's zero router: the NDCH of the single models' points (M,), mixed at random without a look at a query.

    What any router must beat. Returns costs and scores of its vertices, as `ndch`; its AIQ is the singles' `aiq`.

    >>> zero_router([1.0, 2.0, 5.0], [0.5, 0.5, 0.9])
    (array([1., 5.]), array([0.5, 0.9]))
    """
    return ndch(cost, score)


def pareto_front(cost: ArrayLike, score: ArrayLike) -> NDArray[np.bool_]:
    """Which of the points (…, K) no other one dominates: none is as cheap and as good, and cheaper or better.

    Equal points are on the front together.

    >>> pareto_front([1.0, 2.0, 3.0, 3.0], [0.2, 0.6, 0.5, 0.7]).tolist()
    [True, True, False, True]
    """
    x, y = points(cost, score)
    order = np.lexsort((-y, x), axis=-1)
    x, y = (np.take_along_axis(values, order, axis=-1) for values in (x, y))
    before = np.maximum.accumulate(np.concatenate([np.full_like(y[..., :1], -np.inf), y[..., :-1]], axis=-1), axis=-1)
    leads = y > before
    place = np.maximum.accumulate(np.where(leads, np.arange(y.shape[-1]), 0), axis=-1)
    same = [np.take_along_axis(values, place, axis=-1) == values for values in (x, y)]
    front = np.empty(leads.shape, dtype=bool)
    np.put_along_axis(front, order, leads | (same[0] & same[1]), axis=-1)
    return front


@dataclass(frozen=True)
class Front:
    """The Pareto front of all methods compared, in each replicate (…), ready to measure distances to."""

    cost: Array  # (…, F) in units of the most accurate point's; inf where a point is not on this replicate's front
    score: Array
    unit: tuple[Array, Array]  # (…, 1) cost and score of the front's most accurate point, 1 where that is 0

    @classmethod
    def of(cls, cost: ArrayLike, score: ArrayLike) -> Self:
        """The front of the points (…, K) of all methods and single models."""
        axes, on = points(cost, score), pareto_front(cost, score)
        top = [np.where(on, axis, -np.inf).max(axis=-1, keepdims=True) for axis in axes]
        cost_unit, score_unit = (np.where(most > 0, most, 1.0) for most in top)
        ever = on.any(axis=tuple(range(on.ndim - 1)))
        x, y = (
            np.where(on, axis / unit, np.inf)[..., ever]
            for axis, unit in zip(axes, (cost_unit, score_unit), strict=True)
        )
        return cls(x, y, (cost_unit, score_unit))

    def distance(self, cost: ArrayLike, score: ArrayLike) -> Array:
        """LLMRouterBench's ParetoDist: the mean distance of a router's points (…, K) to the nearest one of the front.

        0 for a router all of whose settings are on the front. The paper gives it in words; here cost and score are in
        units of the front's most accurate point, so that neither the currency nor a dominated method matters.

        >>> front = Front.of([1.0, 3.0, 4.0], [0.2, 0.8, 0.8])
        >>> float(front.distance([1.0, 4.0], [0.2, 0.8]).round(6))  # on it; a third of its cost away
        0.166667
        """
        x, y = (axis / unit for axis, unit in zip(points(cost, score), self.unit, strict=True))
        total = np.zeros(np.broadcast_shapes(x.shape[:-1], self.cost.shape[:-1]))
        for setting in range(x.shape[-1]):
            apart = (x[..., setting, None] - self.cost) ** 2
            gap = (y[..., setting, None] - self.score) ** 2
            total = total + np.sqrt((apart + gap).min(axis=-1))
        mean: Array = total / x.shape[-1]
        return mean


def points(cost: ArrayLike, score: ArrayLike) -> tuple[Array, Array]:
    """Points as two arrays of one shape. Raises ValueError when there are none, or one lacks cost or score (nan)."""
    x, y = np.broadcast_arrays(np.asarray(cost, dtype=float), np.asarray(score, dtype=float))
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError("a curve needs at least one point")
    if np.isnan(x).any() or np.isnan(y).any():
        raise ValueError("a point of a curve lacks its cost or its score: a missing price is an error, not a zero")
    return x, y


def _segments(cost: Array, score: Array) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Walk the NDCH of many curves at once, yielding segments (x0, y0, x1, y1), each (…).

    First a segment of no length at the cheapest point; then from vertex to vertex along the steepest way up (gift
    wrapping). A curve that has reached its top stays there until the longest is done.
    """
    x = cost.min(axis=-1)
    y = np.where(cost == x[..., None], score, -np.inf).max(axis=-1)
    yield x, y, x, y
    while True:
        ahead = cost > x[..., None]
        with np.errstate(over="ignore"):
            slope = np.where(ahead, (score - y[..., None]) / np.where(ahead, cost - x[..., None], 1.0), 0.0)
        steepest = slope.argmax(axis=-1)[..., None]
        rises = np.take_along_axis(slope, steepest, axis=-1)[..., 0] > 0
        if not rises.any():
            return
        x1 = np.where(rises, np.take_along_axis(cost, steepest, axis=-1)[..., 0], x)
        y1 = np.where(rises, np.take_along_axis(score, steepest, axis=-1)[..., 0], y)
        yield x, y, x1, y1
        x, y = x1, y1


def _area(cost: ArrayLike, score: ArrayLike, low: Array, high: Array) -> Array:
    """Area under the NDCH over [low, high], flat beyond its last point, nothing below its first."""
    area: Array = np.zeros(np.broadcast_shapes(low.shape, high.shape, np.shape(cost)[:-1]))
    for x0, y0, x1, y1 in _segments(*points(cost, score)):
        left, right = np.clip(x0, low, high), np.clip(x1, low, high)
        width = np.where(x1 > x0, x1 - x0, 1.0)
        middle = y0 + (y1 - y0) * np.clip(((left + right) / 2 - x0) / width, 0.0, 1.0)
        area = area + (right - left) * middle
    area = area + y1 * (high - np.clip(x1, low, high))
    return area


def _over(area: Array, width: Array) -> Array:
    wide = width > 0
    return np.where(wide, area / np.where(wide, width, 1.0), np.nan)
