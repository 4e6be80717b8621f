"""Several seeds of one router: what training adds to chance, kept apart from what the choice of queries adds.

A figure is the mean over seeds, its interval that of the queries. The spread over seeds stands beside it and never
enters the interval: five seeds on 900 queries are 900 queries, not 4,500.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from xrouter_sim.evaluation import metrics
from xrouter_sim.evaluation.metrics import Array
from xrouter_sim.evaluation.rows import LAMBDAS
from xrouter_sim.evaluation.runs import Panel


@dataclass(frozen=True)
class Spread:
    """One figure of each seed."""

    values: list[float]  # in the order of the seeds
    sd: float  # standard deviation over seeds (n − 1)
    low: float
    high: float

    @classmethod
    def of(cls, values: Array) -> "Spread | None":
        """None where the figure is not defined, or there is one seed only."""
        if len(values) < 2 or np.isnan(values).any():
            return None
        return cls(values.tolist(), float(values.std(ddof=1)), float(values.min()), float(values.max()))


@dataclass(frozen=True)
class BySeed:
    """A router's main figures seed by seed (seeds,): the sample's, without replicates."""

    seeds: list[int]
    accuracy: Array
    cost_per_1000_usd: Array
    reward: dict[float, Array]
    aiq: Array


@dataclass(frozen=True)
class SeedSpread:
    """How far the seeds of one router lie apart."""

    seeds: list[int]
    accuracy: Spread | None
    cost_per_1000_usd: Spread | None
    reward: dict[float, Spread | None]
    aiq: Spread | None


def by_seed(panel: Panel, at: float, low: float, high: float) -> BySeed:
    """Each seed's figures at the setting `at`, its AIQ over the one cost range [`low`, `high`] of all seeds."""
    cost, score, reward = (values.mean(axis=2) for values in (panel.cost, panel.score, panel.reward))
    here = panel.nearest(at)
    places = {lam: panel.at(lam) for lam in sorted({*LAMBDAS, at})}
    return BySeed(
        panel.seeds,
        score[:, here],
        cost[:, here] * 1000,
        {lam: reward[:, place] for lam, place in places.items() if place is not None},
        metrics.aiq(cost, score, low, high) if panel.priced else np.full(len(panel.seeds), np.nan),
    )


def spread(found: BySeed) -> SeedSpread | None:
    """None where there is one seed only."""
    if len(found.seeds) < 2:
        return None
    return SeedSpread(
        found.seeds,
        Spread.of(found.accuracy),
        Spread.of(found.cost_per_1000_usd),
        {lam: Spread.of(values) for lam, values in found.reward.items()},
        Spread.of(found.aiq),
    )


def leads(mine: BySeed, other: BySeed, at: float) -> dict[str, list[float]]:
    """What each seed of one router has over another router, by figure; empty where both have one seed only.

    A seed is set against the other router's same seed, which met the same world; against the mean of its seeds where it
    has none such.
    """
    if len(mine.seeds) < 2 and len(other.seeds) < 2:
        return {}
    figures: Mapping[str, Callable[[BySeed], Array]] = {
        "accuracy": lambda found: found.accuracy,
        "aiq": lambda found: found.aiq,
        "reward": lambda found: found.reward.get(at, np.full(len(found.seeds), np.nan)),
    }
    seeds = mine.seeds if len(mine.seeds) >= len(other.seeds) else other.seeds
    told = {}
    for name, of in figures.items():
        ours, theirs = (_lookup(found.seeds, of(found)) for found in (mine, other))
        apart = [ours(seed) - theirs(seed) for seed in seeds]
        if not np.isnan(apart).any():
            told[name] = apart
    return told


def _lookup(seeds: list[int], values: Array) -> Callable[[int], float]:
    known = dict(zip(seeds, values.tolist(), strict=True))
    return lambda seed: known.get(seed, float(values.mean()))
