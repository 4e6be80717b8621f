"""The best plan of calls under the success-gated reward where each call's cost is certain (docs/bounds.md, §5).

Arm i succeeds with chance p, and then has cost a, or fails and has cost b. A plan is a sequence of arms, called until
one succeeds; success at a total spending of x earns 1 − x, failure earns 0 whatever was spent. Costs are in units of
the whole reward. Two facts make the optimum a choice of a subset: an arm that could only succeed at x > 1 may be left
out, and within any subset the order by (p·a + (1 − p)·b) / p, expected cost over chance of success, is the best.
"""

from dataclasses import dataclass

import numpy as np

from xrouter_sim.bounds.base import TIE
from xrouter_sim.replay import Bools, Floats, Ints

GRID = 128
"""Intervals of the wealth grid whose interpolated values prune the search; finer is quicker only on odd pools."""

CHUNK = 2_000
"""Queries solved at once."""

MAX_NODES = 1_000_000
"""Open nodes at which the search stops and reports what it has proven so far."""


@dataclass(frozen=True)
class Plans:
    """The best plans of n queries: their value, a proven upper bound on it, chance of success, spending, first arm."""

    value: Floats  # [n]
    upper: Floats  # [n] equal to value unless the search was cut short
    success: Floats  # [n] the chance in [0, 1] that some call succeeds
    spent: Floats  # [n] expected spending, in units of the whole reward
    first: Ints  # [n] -1 where nothing is called


def best_plans(p: Floats, a: Floats, b: Floats) -> Plans:
    """The best plan of each query: p, a, b [n, A], chance of success, cost on success, cost on failure.

    Exact for any number of arms: a branch and bound over take or leave, in the order of the index, all queries
    together. Where more than MAX_NODES nodes stay open at once, `upper` is above `value` for the queries concerned.
    """
    useful = (p > 0) & (a < 1)
    mean = p * a + (1 - p) * b
    index = np.where(useful, mean / np.where(useful, p, 1.0), np.inf)
    order = np.argsort(index, axis=1, kind="stable")
    p, a, b = (np.take_along_axis(np.where(useful, x, 0.0), order, axis=1) for x in (p, a, b))
    parts = [slice(i, i + CHUNK) for i in range(0, len(p), CHUNK)]
    found = [_Search(p[part], a[part], b[part], order[part]).run() for part in parts]
    return Plans(*(np.concatenate([getattr(plan, name) for plan in found]) for name in Plans.__dataclass_fields__))


class _Search:
    """Branch and bound over arms in the order of their index."""

    def __init__(self, p: Floats, a: Floats, b: Floats, order: Ints) -> None:
        self.p, self.a, self.b = p, a, b
        self.order = np.pad(order, ((0, 0), (0, 1)))
        n, arms = p.shape
        self.best = np.zeros((4, n))  # value, success, spent, first arm + 1 of the best plan so far
        self.upper = np.zeros(n)
        self._take_all(n, arms)

    def _take_all(self, n: int, arms: int) -> None:
        """For each k: what taking every arm from k on brings, as a line in the wealth, and when nothing beats it."""
        self.rest = np.zeros((arms + 1, 4, n))  # chance of success, loss, spending, wealth at which it is the optimum
        total = np.zeros(n)
        slack = np.zeros(n)
        for k in reversed(range(arms)):
            p, a, b = self.p[:, k], self.a[:, k], self.b[:, k]
            success, loss, spent, _ = self.rest[k + 1]
            total = total + b
            slack = np.where(p > 0, np.maximum(slack, a - b), slack)
            q = 1 - p
            lost = p * a + q * (loss + b * success)
            self.rest[k] = p + q * success, lost, p * a + q * (b + spent), total + slack

    def run(self) -> Plans:
        values = _wealth_values(self.p, self.a, self.b)
        rows = np.arange(len(self.p))
        # A node: wealth left, chance that all taken arms failed, value so far, expected spending so far, first arm + 1.
        nodes = np.vstack([np.ones(len(rows)), np.ones(len(rows)), np.zeros((3, len(rows)))])
        for k in range(self.p.shape[1] + 1):
            rows, nodes = self._prune(k, rows, nodes, values[k])
            if not len(rows) or k == self.p.shape[1]:
                break
            if len(rows) > MAX_NODES // 2:
                np.maximum.at(self.upper, rows, _reach(nodes, values[k], rows))
                break
            taken, taken_rows = self._take(k, rows, nodes)
            rows, nodes = _merged(np.concatenate([rows, taken_rows]), np.hstack([nodes, taken]))
        value, success, spent, first = self.best
        return Plans(value, np.maximum(self.upper, value), success, spent, first.astype(np.int64) - 1)

    def _prune(self, k: int, rows: Ints, nodes: Floats, values: Floats) -> tuple[Ints, Floats]:
        """Close what is solved, and drop what cannot beat the best plan known."""
        wealth, alive, value, spent, first = nodes
        success, loss, more, enough = self.rest[k][:, rows]
        rest = success * wealth - loss
        takes = rest > 0
        started = np.where(takes & (first == 0), self.order[rows, k] + 1, first)
        found = np.stack(
            [
                value + np.where(takes, alive * rest, 0.0),
                1 - alive * np.where(takes, 1 - success, 1.0),
                spent + np.where(takes, alive * more, 0.0),
                started,
            ]
        )
        self._record(rows, found)
        open_ = (wealth < enough) & (_reach(nodes, values, rows) > self.best[0, rows] + TIE)
        return rows[open_], nodes[:, open_]

    def _record(self, rows: Ints, found: Floats) -> None:
        """Keep the best plan of each query; of plans of equal value the one that spends least."""
        order = np.lexsort((found[2], -np.round(found[0], 12), rows))
        first = np.unique(rows[order], return_index=True)[1]
        rows, found = rows[order[first]], found[:, order[first]]
        better = found[0] > self.best[0, rows] + TIE
        better |= (found[0] >= self.best[0, rows] - TIE) & (found[2] < self.best[2, rows])
        better &= found[0] > 0
        self.best[:, rows[better]] = found[:, better]

    def _take(self, k: int, rows: Ints, nodes: Floats) -> tuple[Floats, Ints]:
        wealth, alive, value, spent, first = nodes
        p, a, b = self.p[rows, k], self.a[rows, k], self.b[rows, k]
        can = (p > 0) & (a < wealth)
        taken = np.stack(
            [
                wealth - b,
                alive * (1 - p),
                value + alive * p * (wealth - a),
                spent + alive * (p * a + (1 - p) * b),
                np.where(first > 0, first, self.order[rows, k] + 1),
            ]
        )
        return taken[:, can], rows[can]


def _merged(rows: Ints, nodes: Floats) -> tuple[Ints, Floats]:
    """Of nodes that leave the same wealth with the same chance only the best: alike arms make many of them."""
    wealth, alive, value = nodes[:3]
    keys = np.stack([rows, np.round(wealth, 12), np.round(alive, 12)])
    order = np.lexsort((-value, keys[2], keys[1], keys[0]))
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(keys[:, order], axis=1) != 0).any(axis=0)
    return rows[order[new]], nodes[:, order[new]]


def _reach(nodes: Floats, values: Floats, rows: Ints) -> Floats:
    """[nodes] no plan that goes on from a node is worth more."""
    wealth, alive, value = nodes[:3]
    place = np.maximum(wealth, 0.0) * GRID
    low = np.minimum(place.astype(np.int64), GRID - 1)
    part = place - low
    return np.asarray(value + alive * ((1 - part) * values[rows, low] + part * values[rows, low + 1]))


def _wealth_values(p: Floats, a: Floats, b: Floats) -> list[Floats]:
    """For each k, [n, GRID + 1]: at least the best value that the arms from k on bring to a wealth of 0 … 1.

    The value is convex in the wealth (the greatest of straight lines, one a subset), so interpolating between grid
    points errs upwards only.
    """
    wealth = np.linspace(0.0, 1.0, GRID + 1)
    values = [np.zeros((len(p), GRID + 1))]
    for k in reversed(range(p.shape[1])):
        after = values[0]
        shift = np.minimum(b[:, k], 1.0) * GRID
        whole = shift.astype(np.int64)
        part = (shift - whole)[:, None]
        low = np.arange(GRID + 1) - whole[:, None]
        at, below = (np.where(x >= 0, np.take_along_axis(after, np.maximum(x, 0), 1), 0.0) for x in (low, low - 1))
        left = (1 - part) * at + part * below
        taken = p[:, k, None] * (wealth - a[:, k, None]) + (1 - p[:, k, None]) * left
        values.insert(0, np.maximum(after, taken))
    return values


def never_bankrupt(p: Floats, a: Floats, b: Floats) -> Bools:
    """[n] whether every arm with p > 0 is affordable after all others have failed; a, b: the most each may cost.

    Then no call is ever left out and the order of the index is optimal for random costs too.
    """
    useful = p > 0
    total = np.where(useful, b, 0.0).sum(axis=1, keepdims=True)
    worst: Bools = np.where(useful, total - b + a, 0.0).max(axis=1) <= 1.0
    return worst
