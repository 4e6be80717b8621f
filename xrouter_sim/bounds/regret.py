"""Regret: what a router leaves on the table, against each bound, paired query by query."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from xrouter_sim.bounds.base import Bound
from xrouter_sim.evaluation.statistics import Bootstrap, Figure, figure


def regret(rewards: ArrayLike, bound: Bound, bootstrap: Bootstrap | None = None) -> Figure:
    """Mean over queries of the bound's reward minus the router's, with a paired 95% interval.

    `rewards`: the router's realised rewards, [n] or [seeds, n], on the bound's queries in the bound's order and at its
    λ; seeds of a query are averaged, so that they do not pass as several queries. Raises ValueError where the number
    of queries differs. A regret below 0 is luck: a bound holds in expectation over the draws.
    """
    return regrets(rewards, [bound], bootstrap)[bound.name]


def regrets(rewards: ArrayLike, bounds: Iterable[Bound], bootstrap: Bootstrap | None = None) -> dict[str, Figure]:
    """Regret against several bounds over the same resampled queries, by the bounds' names. See `regret`."""
    earned = np.atleast_2d(np.asarray(rewards, dtype=float)).mean(axis=0)
    bootstrap = bootstrap or Bootstrap(len(earned))
    found = {}
    for bound in bounds:
        if bound.reward.shape != earned.shape:
            raise ValueError(f"{earned.size} rewards beside a bound on {bound.reward.size} queries")
        found[bound.name] = figure(bootstrap.means(bound.reward - earned))
    return found
