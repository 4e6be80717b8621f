"""Oracles: policies that know draws before they pay, and how much of what they win is luck (docs/bounds.md, §2 and §3).

The oracle picks among all stored responses. With foresight one sees one draw of every arm and picks among those. The
luck-corrected oracle may not use the response it is graded on: guessing among many models is not skill.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from xrouter_sim.bounds.base import NO_ARM, TIE, Bound, Cells, best, pick
from xrouter_sim.bounds.single import best_per_domain, informed_single
from xrouter_sim.replay import Bools, Floats, Ints

CHUNK = 8_000_000
"""Numbers held at once while outcomes are compared pairwise."""


def oracle(cells: Cells, penalty: float, unit: float, otherwise: Literal["nothing", "cheapest"] = "nothing") -> Bound:
    """The clairvoyant oracle: of all stored responses the one that earns most, the cheapest where that is a tie.

    At λ = 0 that is the lexicographic oracle: the best score, for binary scores the cheapest correct response. Where no
    response earns anything it calls nothing; with `otherwise="cheapest"` it calls the cheapest one all the same, as
    RouterBench's oracle does (same score and reward, a little more cost).
    """
    shape = cells.score.shape
    flat = [np.where(cells.mask, x, fill).reshape(shape[0], -1) for x, fill in _outcomes(cells, penalty, unit)]
    score, cost, earned = flat
    chosen = best(earned, cost)
    if otherwise == "cheapest":
        chosen = np.where(chosen == NO_ARM, cost.argmin(axis=1), chosen)
    arm, sample = np.where(chosen == NO_ARM, NO_ARM, chosen // shape[2]), np.maximum(chosen, 0) % shape[2]
    return Bound(
        "oracle",
        "every stored response; pays for the one it takes",
        pick(score, chosen),
        pick(cost, chosen),
        pick(earned, chosen),
        arm=arm,
        sample=np.where(arm == NO_ARM, NO_ARM, sample),
    )


def foresight(cells: Cells, penalty: float, unit: float) -> Bound:
    """One draw of every arm is seen before one is paid for: E max_a R(a), each arm drawing independently.

    The engine's world with the first draw of every arm laid open. Equal to the oracle where cells hold one sample.
    """
    knows = "one draw of every arm; pays for the one it takes"
    if (cells.mask.sum(axis=2) == 1).all():
        seen = oracle(cells, penalty, unit)
        return Bound("foresight", knows, seen.score, seen.cost_usd, seen.reward, arm=seen.arm)
    earned = cells.reward(penalty, unit)
    weight = chance_of_best(earned, cells.cost_usd, cells.chance) * (earned > 0)
    return Bound(
        "foresight", knows, _total(weight, cells.score), _total(weight, cells.cost_usd), _total(weight, earned)
    )


def luck_corrected_oracle(cells: Cells, penalty: float, unit: float) -> Bound:
    """What is left of the oracle when no response helps to choose itself.

    Queries with two samples or more of every arm: chosen on all samples but one, graded on that one (`cross_fitted`).
    The others: in each domain the gain over the best fixed arm of an oracle that sees each cell's mean (with one sample
    that is the oracle), less what it would gain from dice with the arms' own accuracies (`dice`). In no domain is it
    worse than that domain's best arm, which needs no luck.
    """
    fixed, several = best_per_domain(cells, penalty, unit), (cells.mask.sum(axis=2) >= 2).all(axis=1)
    kept = {name: getattr(fixed, name).copy() for name in ("score", "cost_usd", "reward")}
    for rows in (several, ~several):
        if rows.any():
            part = _better(cells.take(rows), penalty, unit, crossed=bool(several[rows][0]))
            for name, values in kept.items():
                values[rows] = part[name]
    return Bound("luck-corrected oracle", "what of the oracle would come again: luck taken out", **kept)


@dataclass(frozen=True)
class Dice:
    """A domain's oracle beside one that throws dice: mean rewards, each in [0, 1]."""

    domain: str
    queries: int
    fixed: float  # the best fixed arm
    observed: float  # an oracle that sees every cell's mean: with one sample a cell, the oracle
    by_luck: float  # the same over arms whose answers have nothing to do with the query

    @property
    def kept(self) -> float:
        """The share in [0, 1] of the oracle's gain over the best fixed arm that dice do not explain."""
        gain = self.observed - self.fixed
        return max(0.0, self.observed - self.by_luck) / gain if gain > TIE else 0.0


def dice(cells: Cells, penalty: float, unit: float) -> list[Dice]:
    """For each domain, what an oracle would earn if every arm's cells were shuffled over the domain's queries.

    That is E max_a R_a with R_a drawn independently from arm a's own mean rewards in the domain: each arm keeps its
    accuracy and costs, but no query is any arm's strength.
    """
    earned, seen, found = cells.mean(cells.reward(penalty, unit)), informed_single(cells, penalty, unit).reward, []
    fixed = best_per_domain(cells, penalty, unit).reward
    for domain in np.unique(cells.domains):
        rows = cells.domains == domain
        luck = _expected_maximum(earned[rows])
        means = (float(fixed[rows].mean()), float(seen[rows].mean()))
        found.append(Dice(str(domain), int(rows.sum()), *means, luck))
    return found


def cross_fitted(cells: Cells, penalty: float, unit: float) -> Bound:
    """Choose on all samples of every arm but one, be graded on that one; the mean over all ways to leave one out.

    Every arm needs two samples (ValueError otherwise). On no query is it above the informed single call: a sample that
    makes its arm look good is not the one that is graded.
    """
    count = cells.mask.sum(axis=2, keepdims=True)
    if (count < 2).any():
        raise ValueError("cross-fitting needs two samples of every arm")
    earned, cost = cells.reward(penalty, unit), cells.cost_usd
    hoped, expected_cost = ((x.sum(axis=2, keepdims=True) - x) / (count - 1) for x in (earned, cost))
    weight = chance_of_best(hoped, expected_cost, cells.chance) * (hoped > TIE)
    return Bound(
        "cross-fitted oracle",
        "all samples but the one it is graded on",
        _total(weight, cells.score),
        _total(weight, cost),
        _total(weight, earned),
    )


def chance_of_best(value: Floats, cost: Floats, chance: Floats) -> Floats:
    """[n, A, K] the chance that each outcome is drawn and has the highest value of all arms' independent draws.

    Ties go to the cheaper outcome; what is a tie in cost as well is shared evenly, so the order of arms is irrelevant.
    Where outcomes tie, each draws a uniform number u and the greatest wins: given u, arm b is beaten with chance
    P(b below) + u · P(b level), and the integral over u of that product is a polynomial that Gauss–Legendre nodes
    integrate exactly.
    """
    step = max(1, CHUNK // (value.shape[1] * value.shape[2]) ** 2)
    parts = [slice(start, start + step) for start in range(0, len(value), step)]
    return np.concatenate([_chance_of_best(_ranks(value[p], cost[p]), chance[p]) for p in parts])


def _chance_of_best(rank: Ints, chance: Floats) -> Floats:
    n, arms, draws = rank.shape
    flat = rank.reshape(n, -1, 1)
    below, level = np.empty((n, arms * draws, arms)), np.empty((n, arms * draws, arms))
    for arm in range(arms):
        below[:, :, arm] = ((rank[:, None, arm] < flat) * chance[:, None, arm]).sum(axis=2)
        level[:, :, arm] = ((rank[:, None, arm] == flat) * chance[:, None, arm]).sum(axis=2)
    own = np.repeat(np.arange(arms), draws)
    below[:, np.arange(arms * draws), own], level[:, np.arange(arms * draws), own] = 1.0, 0.0
    nodes, weights = np.polynomial.legendre.leggauss(arms // 2 + 1 if level.any() else 1)
    wins = sum(
        weight / 2 * (below + (node + 1) / 2 * level).prod(axis=2) for node, weight in zip(nodes, weights, strict=True)
    )
    won: Floats = np.asarray(wins).reshape(rank.shape) * chance
    return won


def _ranks(value: Floats, cost: Floats) -> Ints:
    """[n, A, K] places by value, then cheapness, within a query; equal outcomes have equal places."""
    # What rounding alone tells apart is a tie: rewards are of the order of 1, costs of 1e-6 USD and more.
    flat_value, flat_cost = np.round(value.reshape(len(value), -1), 12), np.round(-cost.reshape(len(cost), -1), 16)
    order = np.lexsort((flat_cost, flat_value), axis=1)
    changes = np.zeros(order.shape, np.int64)
    for x in (flat_value, flat_cost):
        changes[:, 1:] |= np.diff(np.take_along_axis(x, order, axis=1), axis=1) != 0
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, changes.cumsum(axis=1), axis=1)
    return rank.reshape(value.shape)


def _better(cells: Cells, penalty: float, unit: float, crossed: bool) -> dict[str, Floats]:
    """In each domain the corrected oracle or the best fixed arm, whichever earns more there."""
    fixed = best_per_domain(cells, penalty, unit)
    if crossed:
        other = cross_fitted(cells, penalty, unit)
        domains = np.unique(cells.domains)
        share = {d: float(_gain(other, fixed, cells.domains == d) > 0) for d in domains}
    else:
        other = informed_single(cells, penalty, unit)
        share = {table.domain: table.kept for table in dice(cells, penalty, unit)}
    part = np.array([share[str(domain)] for domain in cells.domains])
    names = ("score", "cost_usd", "reward")
    return {name: part * getattr(other, name) + (1 - part) * getattr(fixed, name) for name in names}


def _gain(one: Bound, other: Bound, rows: Bools) -> float:
    return float((one.reward - other.reward)[rows].mean())


def _expected_maximum(earned: Floats) -> float:
    """E of the greatest of A independent draws, arm a's from its column of [n, A]."""
    values, place = np.unique(earned, return_inverse=True)
    cdf = np.ones(len(values))
    for column in place.reshape(earned.shape).T:
        cdf *= np.bincount(column, minlength=len(values)).cumsum() / len(earned)
    return float(values @ np.diff(cdf, prepend=0.0))


def _total(weight: Floats, values: Floats) -> Floats:
    total: Floats = (weight * values).sum(axis=(1, 2))
    return total


def _outcomes(cells: Cells, penalty: float, unit: float) -> list[tuple[Floats, float]]:
    """Score, cost and reward [n, A, K], each with what stands where there is no sample."""
    return [(cells.score, 0.0), (cells.cost_usd, np.inf), (cells.reward(penalty, unit), -1.0)]
