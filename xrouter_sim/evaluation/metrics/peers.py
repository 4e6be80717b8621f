"""The scores by which published benchmarks rank routers, so that figures here can stand beside theirs.

Points and shapes as in `curves`: points (…, K), everything else (…). Where a paper leaves a choice open, the docstring
says what was chosen. RouteLLM: arXiv 2406.18665; RouterArena: arXiv 2510.00202; LLMRouterBench: arXiv 2601.07206;
UniRoute: arXiv 2502.08773.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xrouter_sim.evaluation.metrics.curves import Array, aiq, cost_to_reach, points

ARENA_COST = (0.0044, 200.0)
"""USD per 1,000 queries between which RouterArena counts: the cheapest and the dearest it has."""

ARENA_BETA = 0.1
"""RouterArena's weight of cost against accuracy."""

ROUNDING = 1e-12
"""So much below a target still reaches it: what rounding makes of equal means."""


def performance_gap_recovered(score: ArrayLike, weak: ArrayLike, strong: ArrayLike) -> Array:
    """RouteLLM's PGR: which part of the way from the weak to the strong model's score; nan where there is none.

    All (…). 0 is the weak model, 1 the strong one; below 0 and above 1 are possible.

    >>> performance_gap_recovered([0.7, 0.85, 0.95], 0.7, 0.9).round(6).tolist()
    [0.0, 0.75, 1.25]
    """
    gap = np.asarray(strong, dtype=float) - np.asarray(weak, dtype=float)
    above = np.asarray(score, dtype=float) - np.asarray(weak, dtype=float)
    recovered: Array = np.where(gap > 0, above / np.where(gap > 0, gap, 1.0), np.nan)
    return recovered


def apgr(share: ArrayLike, score: ArrayLike, weak: ArrayLike, strong: ArrayLike) -> Array:
    """RouteLLM's average PGR: the mean PGR over all shares of queries for which the strong model is called.

    `share` (…, K) in [0, 1], `score` (…, K), `weak` and `strong` (…). RouteLLM averages ten evenly spaced shares; this
    is the mean height of the points' hull over [0, 1], to which that tends. Nothing (PGR 0, the weak model) below the
    hull's first point, flat beyond its last. A router that calls at random has 0.5. nan where strong is not better.

    >>> float(apgr([0.0, 1.0], [0.7, 0.9], 0.7, 0.9).round(6))
    0.5
    >>> float(apgr([0.0, 0.5, 1.0], [0.7, 0.88, 0.9], 0.7, 0.9).round(6))  # 0.5 · 0.45 + 0.5 · 0.95
    0.7
    """
    weak, strong = np.asarray(weak, dtype=float), np.asarray(strong, dtype=float)
    recovered = performance_gap_recovered(score, weak[..., None], strong[..., None])
    known = np.broadcast_to(strong > weak, recovered.shape[:-1])
    height = aiq(share, np.where(np.isnan(recovered) & ~known[..., None], 0.0, recovered), 0.0, 1.0)
    return np.where(known, height, np.nan)


def call_performance_threshold(
    share: ArrayLike, score: ArrayLike, weak: ArrayLike, strong: ArrayLike, part: ArrayLike
) -> Array:
    """RouteLLM's CPT: the least share of queries sent to the strong model that recovers `part` of the gap.

    Read off the points' hull (mixtures of settings count); nan where it is never reached, and where strong is not
    better. Shapes as in `apgr`; `part` (…) in [0, 1].

    >>> points = [0.0, 0.5, 1.0], [0.7, 0.88, 0.9]
    >>> [float(call_performance_threshold(*points, 0.7, 0.9, part).round(6)) for part in (0.5, 0.95)]
    [0.277778, 0.75]
    >>> float(call_performance_threshold([0.0, 0.5], [0.7, 0.8], 0.7, 0.9, 0.8))
    nan
    """
    weak, strong = np.asarray(weak, dtype=float), np.asarray(strong, dtype=float)
    reached = cost_to_reach(share, score, weak + np.asarray(part, dtype=float) * (strong - weak) - ROUNDING)
    return np.where(strong > weak, reached, np.nan)


def arena_score(accuracy: ArrayLike, cost_per_1000_usd: ArrayLike, beta: float = ARENA_BETA) -> Array:
    """RouterArena's score (1 + β)·A·C / (β·A + C), a weighted harmonic mean of accuracy A and cheapness C, in [0, 1].

    C = (log2 200 − log2 c) / (log2 200 − log2 0.0044) with c in USD per 1,000 queries, held to [0.0044, 200] as in
    RouterArena's code. All (…). Raises ValueError for a missing or negative cost.

    >>> float(arena_score(0.7396, 10.02).round(4))
    0.6432
    >>> arena_score([0.9, 0.9], [0.0044, 200.0]).round(4).tolist()
    [0.9083, 0.0]
    """
    accuracy, cost = np.asarray(accuracy, dtype=float), np.asarray(cost_per_1000_usd, dtype=float)
    if np.isnan(accuracy).any() or not (cost >= 0).all():
        raise ValueError(
            "the arena score needs an accuracy and a cost of at least 0 for every row: none may be missing"
        )
    low, high = np.log2(ARENA_COST)
    cheap = (high - np.log2(np.clip(cost, *ARENA_COST))) / (high - low)
    below = beta * accuracy + cheap
    score: Array = np.where(below > 0, (1 + beta) * accuracy * cheap / np.where(below > 0, below, 1.0), 0.0)
    return score


def optimal_choice(
    chosen: ArrayLike, spent: ArrayLike, score: ArrayLike, cost: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Array]:
    """RouterArena's Opt.Sel and Opt.Cost, query by query; their means over the queries `counts` are the scores.

    The optimal model of a query is the cheapest one whose answer is right (score 1). `chosen` (…, Q): index of the
    model whose answer the router took, -1 for none; `spent` (…, Q) USD; `score`, `cost` (M, Q) of each model.
    Returns, each (…, Q): `counts`, whether any model is right; `selected`, whether the choice is the optimal model (or
    one as cheap and right); `ratio`, optimal cost / spent, in [0, 1]. RouterArena's code leaves out queries that the
    router got wrong; here, as in its definition, they count. A wrong answer that cost less than the optimal one has
    ratio 1; spending nothing and answering nothing has 0. Raises ValueError for a missing cost or score.

    >>> score, cost = [[1, 1, 0], [1, 1, 0]], [[1.0] * 3, [4.0] * 3]
    >>> counts, selected, ratio = optimal_choice([0, 1, 1], [1.0, 4.0, 4.0], score, cost)
    >>> counts.tolist(), selected.tolist(), ratio.tolist()
    ([True, True, False], [True, False, False], [1.0, 0.25, 0.0])
    """
    chosen, spent = np.asarray(chosen), np.asarray(spent, dtype=float)
    score, cost = points(cost, score)[::-1]
    if np.isnan(spent).any():
        raise ValueError("a cost is missing: every decision needs what was spent on it")
    right = score >= 1 - ROUNDING
    least = np.where(right, cost, np.inf).min(axis=0)
    counts = np.broadcast_to(right.any(axis=0), spent.shape)
    queries = np.arange(score.shape[1])
    taken = np.maximum(chosen, 0)
    selected = (chosen >= 0) & right[taken, queries] & (cost[taken, queries] <= least) & counts
    paid = np.where(spent > 0, spent, 1.0)
    ratio = np.where(spent > 0, np.minimum(np.where(counts, least, 0.0) / paid, 1.0), (chosen >= 0).astype(float))
    return counts, selected, np.where(counts, ratio, 0.0)


def optimal_accuracy(accuracy: ArrayLike, possible: ArrayLike) -> Array:
    """RouterArena's Opt.Acc: accuracy as a part of that of always taking a right answer where any model has one.

    `accuracy`, `possible` (…), over all queries; `possible` is the mean over queries of the best model's score. nan
    where it is 0.

    >>> float(optimal_accuracy(0.72, 0.9).round(6))
    0.8
    """
    possible = np.asarray(possible, dtype=float)
    part: Array = np.asarray(accuracy, dtype=float) / np.where(possible > 0, possible, 1.0)
    return np.where(possible > 0, part, np.nan)


def performance_gain(score: ArrayLike, best: ArrayLike) -> Array:
    """LLMRouterBench's PerfGain: by which part the router's best setting beats the best single model's accuracy.

    `score` (…, K), `best` (…); 0 for the best single model itself, nan where `best` is 0. The best setting is picked on
    the very queries, so several settings find a little luck.

    >>> float(performance_gain([0.6, 0.66, 0.63], 0.6).round(6))
    0.1
    """
    best = np.asarray(best, dtype=float)
    gain: Array = np.asarray(score, dtype=float).max(axis=-1) / np.where(best > 0, best, 1.0) - 1.0
    return np.where(best > 0, gain, np.nan)


def cost_save(cost: ArrayLike, score: ArrayLike, best_cost: ArrayLike, best_score: ArrayLike) -> Array:
    """LLMRouterBench's CostSave: the part of the best single model's cost that the router saves at its accuracy.

    Over the settings that were run (no mixtures, unlike `quality_neutral_cost`): 1 − the least cost that reaches
    `best_score` / `best_cost`; below 0 where it is dearer, nan where none reaches it. Points (…, K), the rest (…).

    >>> float(cost_save([1.0, 2.0, 3.0], [0.5, 0.7, 0.8], 4.0, 0.7))
    0.5
    """
    x, y = points(cost, score)
    target, price = np.asarray(best_score, dtype=float)[..., None], np.asarray(best_cost, dtype=float)
    least = np.where(y >= target - ROUNDING, x, np.inf).min(axis=-1)
    known = np.isfinite(least) & (price > 0)
    return np.where(known, 1.0 - np.where(known, least, 0.0) / np.where(price > 0, price, 1.0), np.nan)


def quality_neutral_cost(cost: ArrayLike, score: ArrayLike, best_cost: ArrayLike, best_score: ArrayLike) -> Array:
    """UniRoute's QNC: at which part of the best single model's cost the hull first stands at its accuracy.

    The minimum relative cost of matching the most accurate single model; 1 for that model itself, nan for never.
    Mixtures of settings count. Points (…, K), the rest (…).

    >>> float(quality_neutral_cost([1.0, 3.0], [0.5, 0.9], 4.0, 0.7).round(6))
    0.5
    """
    price = np.asarray(best_cost, dtype=float)
    reached = cost_to_reach(cost, score, np.asarray(best_score, dtype=float) - ROUNDING)
    return np.where(price > 0, reached / np.where(price > 0, price, 1.0), np.nan)
