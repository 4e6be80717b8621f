"""What common random numbers are worth: the variance of a paired comparison of two routers over an unpaired one's.

A trial draws queries and a world and takes the difference of two routers' mean rewards. Paired, both meet the same
queries, prices, pools, outages and, where they call the same arms, the same responses and failures; unpaired, each
meets its own.
"""

from pathlib import Path
from typing import Any

import numpy as np

from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.randomness import Purpose, draw
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.replay import Floats, Ints, Replay, cost_unit
from xrouter_sim.simulation import fitted, played

RESAMPLES = 1000
ROUNDING = 1e-12
"""Reward below which two means are one."""


def bench(
    routers: tuple[str, str], db: Path, run: Path | None, profile: str, split: str, penalty: float, trials: int
) -> dict[str, Any]:
    """Ratios of variances over trials, each with a 95% interval over resampled trials; below 1, pairing helps.

    `paired_vs_unpaired`: queries (as many as the split has, with replacement) and worlds are drawn.
    `paired_vs_unpaired_worlds`: the queries are given, and only worlds are drawn.
    None where nothing varies from trial to trial, as in a calm world. Raises LabError as `simulate` does.
    """
    replay, world = Replay.load(db), Profile.load(profile)
    train, queries = replay.indices("train"), replay.indices(split)
    unit = cost_unit(replay, train)
    ready = [fitted(name, replay, train, unit, 0, run if name == "rl" else None) for name in routers]
    earned = np.zeros((2, trials, len(queries)))
    for trial in range(trials):
        simulator = Simulator(replay, world, trial, unit)
        for place, router in enumerate(ready):
            earned[place, trial] = played(router, simulator, queries, len(queries), penalty).reward
    drawn = np.stack([_drawn(trial, len(queries)) for trial in range(trials)])
    with_queries = np.take_along_axis(earned, drawn[None], axis=2).mean(axis=2)
    figures = {
        "paired_vs_unpaired": with_queries,
        "paired_vs_unpaired_worlds": earned.mean(axis=2),
    }
    found: dict[str, Any] = {}
    for name, means in figures.items():
        varies = bool((np.ptp(means, axis=1) > ROUNDING).any())
        found[name] = round(_ratio(means, np.arange(trials)), 4) if varies else None
        found[f"{name}_interval"] = _interval(means) if varies else None
    return found | {
        "routers": list(routers),
        "mean_reward": [round(float(mean), 4) for mean in earned.mean(axis=(1, 2))],
        "standard_error_paired": float(np.std(with_queries[0] - with_queries[1], ddof=1)),
        "standard_error_unpaired": float(np.sqrt(np.var(with_queries, axis=1, ddof=1).sum())),
        "profile": world.name,
        "penalty": penalty,
        "queries": len(queries),
        "trials": trials,
        "content_hash": replay.store["content_hash"],
    }


def _drawn(trial: int, queries: int) -> Ints:
    """[n] places of queries, with replacement."""
    return (draw(trial, Purpose.QUERY, np.arange(queries)) % np.uint64(queries)).astype(np.int64)


def _ratio(means: Floats, trials: Ints) -> float:
    """Of [2, trials] means: the variance of their difference, over that of one of unrelated trials."""
    some = means[:, trials]
    unpaired = max(float(np.var(some, axis=1, ddof=1).sum()), ROUNDING**2)  # a resample may hold one trial many times
    return float(np.var(some[0] - some[1], ddof=1)) / unpaired


def _interval(means: Floats) -> list[float]:
    trials = means.shape[1]
    resampled = draw(0, Purpose.SAMPLE, np.arange(RESAMPLES)[:, None], np.arange(trials)) % np.uint64(trials)
    ratios = [_ratio(means, row) for row in resampled.astype(np.int64)]
    return [round(float(end), 4) for end in np.quantile(ratios, [0.025, 0.975])]
