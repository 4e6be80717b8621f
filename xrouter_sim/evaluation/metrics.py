"""Cost–quality curves and behaviours of routers: pure functions on NumPy arrays.

A router's *points* are its mean cost and mean score over the test queries, one point a setting of its dial.
Every curve function takes points in the last axis, shape (…, K), in any order, and works on all leading axes at
once: that is how thousands of bootstrap replicates of a curve are measured in one go.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

BEHAVIOURS = ("single call", "escalate", "parallel", "direct", "none")
"""The ways an episode can go; each episode goes exactly one of them (see `behaviour`)."""

TRAITS = ("escalate", "parallel", "select", "vote", "none")
"""What an episode can have about it; an episode may have several of them, or none (see `traits`)."""


def ndch(cost: ArrayLike, score: ArrayLike) -> tuple[Array, Array]:
    """Vertices of one router's non-decreasing convex hull, from its cheapest point rightwards.

    The upper concave envelope of the points (K,), cut where it starts to fall: what mixing the settings at random can
    reach (RouterBench, arXiv 2403.12031, §4). Returns costs (V,) and scores (V,), both strictly increasing.

    >>> ndch([1.0, 2.0, 3.0, 4.0], [0.2, 0.3, 0.6, 0.5])
    (array([1., 3.]), array([0.2, 0.6]))
    """
    ends = [(float(x), float(y)) for _, _, x, y in _segments(*_points(cost, score))]
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
    for x0, y0, x1, y1 in _segments(*_points(cost, score)):
        rise = np.where(y1 > y0, y1 - y0, 1.0)
        at = x0 + np.clip((target - y0) / rise, 0.0, 1.0) * (x1 - x0)
        reached = np.where(np.isnan(reached) & (y1 >= target), at, reached)
    return reached


def behaviour(calls: ArrayLike, turns: ArrayLike, final: ArrayLike) -> NDArray[np.int64]:
    """How each episode went, as an index into BEHAVIOURS: exactly one an episode, the first that holds of

    * none: it ended without an answer, whatever was called;
    * direct: the router answered itself;
    * parallel: some turn called several models;
    * escalate: it called in more than one turn, one model a turn;
    * single call: the rest.

    `calls`: number of calls; `turns`: number of turns with a call; `final`: text, as in the decisions file. All (…).

    >>> went = behaviour([1, 2, 3, 0, 1], [1, 2, 2, 0, 1], ["call", "select", "vote", "direct", "none"])
    >>> [BEHAVIOURS[i] for i in went]
    ['single call', 'escalate', 'parallel', 'direct', 'none']
    """
    calls, turns, final = np.asarray(calls), np.asarray(turns), np.asarray(final)
    conditions = [final == "none", final == "direct", calls > turns, turns > 1]
    order = [BEHAVIOURS.index(name) for name in ("none", "direct", "parallel", "escalate")]
    return np.select(conditions, order, default=BEHAVIOURS.index("single call")).astype(np.int64)


def traits(calls: ArrayLike, turns: ArrayLike, final: ArrayLike) -> dict[str, NDArray[np.bool_]]:
    """What each episode has about it, one boolean array (…) for each of TRAITS; they may overlap.

    escalate: calls in more than one turn; parallel: a turn with several calls; select: an earlier response was chosen
    as final; vote: the final answer was made from several; none: no answer. Arguments as in `behaviour`.

    >>> {k: v.tolist() for k, v in traits([3], [2], ["vote"]).items() if v.any()}
    {'escalate': [True], 'parallel': [True], 'vote': [True]}
    """
    calls, turns, final = np.asarray(calls), np.asarray(turns), np.asarray(final)
    return {
        "escalate": turns > 1,
        "parallel": calls > turns,
        "select": final == "select",
        "vote": final == "vote",
        "none": final == "none",
    }


def shares(groups: ArrayLike, names: ArrayLike, amounts: ArrayLike) -> dict[str, dict[str, float]]:
    """Each name's share of its group's amounts, in [0, 1], adding up to 1 in every group with a positive sum.

    For model shares by domain: `groups` the calls' domains, `names` their models, `amounts` ones (share of calls) or
    USD (share of cost); all (N,). A group whose amounts add up to nothing has only zeros.

    >>> shares(["math", "math", "code"], ["a", "b", "a"], [3.0, 1.0, 2.0])
    {'code': {'a': 1.0, 'b': 0.0}, 'math': {'a': 0.75, 'b': 0.25}}
    """
    rows, row = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    columns, column = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    table = np.zeros((len(rows), len(columns)))
    np.add.at(table, (row, column), np.asarray(amounts, dtype=float))
    sums = table.sum(axis=1, keepdims=True)
    parts = (table / np.where(sums > 0, sums, 1.0)).tolist()
    models = [str(name) for name in columns]
    return {str(group): dict(zip(models, line, strict=True)) for group, line in zip(rows, parts, strict=True)}


def _points(cost: ArrayLike, score: ArrayLike) -> tuple[Array, Array]:
    x, y = np.broadcast_arrays(np.asarray(cost, dtype=float), np.asarray(score, dtype=float))
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError("a curve needs at least one point")
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
    for x0, y0, x1, y1 in _segments(*_points(cost, score)):
        left, right = np.clip(x0, low, high), np.clip(x1, low, high)
        width = np.where(x1 > x0, x1 - x0, 1.0)
        middle = y0 + (y1 - y0) * np.clip(((left + right) / 2 - x0) / width, 0.0, 1.0)
        area = area + (right - left) * middle
    area = area + y1 * (high - np.clip(x1, low, high))
    return area


def _over(area: Array, width: Array) -> Array:
    wide = width > 0
    return np.where(wide, area / np.where(wide, width, 1.0), np.nan)
