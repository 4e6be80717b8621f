"""Policies of one call: the informed one, the best fixed arms, and mixtures of fixed arms (the zero router)."""

from dataclasses import dataclass

import numpy as np

from xrouter_sim.bounds.base import NO_ARM, Bound, Cells, best, pick
from xrouter_sim.evaluation.metrics import ndch
from xrouter_sim.replay import Floats, Ints


def informed_single(cells: Cells, penalty: float, unit: float) -> Bound:
    """One call or none, knowing what each arm brings on this query in expectation, but not which sample it draws.

    Value max(0, max_a mean_k R(a, k)): the optimum of every router that sees the query alone and calls once.
    `penalty` is λ ≥ 0, `unit` in USD.
    """
    chosen = best(cells.mean(cells.reward(penalty, unit)), cells.mean(cells.cost_usd))
    return _one_call(
        cells, penalty, unit, chosen, "informed single", "each arm's chance on this query; one call or none"
    )


def best_fixed(cells: Cells, penalty: float, unit: float) -> Bound:
    """The one arm that earns most over all these queries: chosen on the very queries, so the best *static* choice."""
    chosen = np.full(len(cells), _best_arm(cells, penalty, unit))
    return _one_call(cells, penalty, unit, chosen, "best fixed", "each arm's mean over these queries; one arm for all")


def best_per_domain(cells: Cells, penalty: float, unit: float) -> Bound:
    """The best fixed arm in each domain, chosen on the very queries: what knowing the domain alone can bring."""
    chosen = np.full(len(cells), NO_ARM)
    for domain in np.unique(cells.domains):
        rows = cells.domains == domain
        chosen[rows] = _best_arm(cells.take(rows), penalty, unit)
    return _one_call(cells, penalty, unit, chosen, "best per domain", "each arm's mean in the query's domain; one call")


@dataclass(frozen=True)
class ZeroRouter:
    """RouterBench's zero router: single arms mixed at random, without a look at the query.

    `cost_usd`, `score` [V]: the vertices of the arms' upper concave hull in the plane of mean cost and mean score, both
    increasing. A mixture's success-gated reward is the mean of its arms', so at any λ none beats `best_fixed`.
    """

    cost_usd: Floats
    score: Floats

    def at(self, cost_usd: Floats | float) -> Floats:
        """The best mean score at a mean cost in USD: flat beyond the last vertex, nan below the first (not to be had).

        >>> ZeroRouter(np.array([1.0, 3.0]), np.array([0.2, 0.6])).at([0.5, 2.0, 9.0]).round(3).tolist()
        [nan, 0.4, 0.6]
        """
        found: Floats = np.interp(np.asarray(cost_usd, np.float64), self.cost_usd, self.score, left=np.nan)
        return found


def zero_router(cells: Cells) -> ZeroRouter:
    """The hull of the single arms on these queries (RouterBench, arXiv 2403.12031, §4)."""
    cost, score = cells.mean(cells.cost_usd).mean(axis=0), cells.mean(cells.score).mean(axis=0)
    return ZeroRouter(*ndch(cost, score))


def _best_arm(cells: Cells, penalty: float, unit: float) -> int:
    value = cells.mean(cells.reward(penalty, unit)).mean(axis=0)
    return int(best(value[None], cells.mean(cells.cost_usd).mean(axis=0)[None])[0])


def _one_call(cells: Cells, penalty: float, unit: float, arm: Ints, name: str, knows: str) -> Bound:
    values = (cells.score, cells.cost_usd, cells.reward(penalty, unit))
    score, cost, earned = (pick(cells.mean(value), arm) for value in values)
    return Bound(name, knows, score, cost, earned, arm=arm)
