"""The informed sequential optimum of the success-gated reward: what looking at answers could win at the very best.

Knows each arm's chances on the query, calls arms one after another, sees each response's score (a perfect verifier),
and stops when it likes. The answer is the best response seen; the reward is its score · (1 − λ · all spent / unit)⁺.
Spending is paid through the gate only: failing is free, so this is not Pandora's box (docs/bounds.md, §5 and §6).

Each arm is called at most once: a replay holds few samples of a cell, and drawing them without replacement would make
success certain after a few calls, which no live model does. A router that calls one arm again can beat this bound, but
never the oracle.
"""

from dataclasses import replace

import numpy as np

from xrouter_sim.bounds import plans, tree
from xrouter_sim.bounds.base import TIE, Bound, Cells
from xrouter_sim.bounds.oracles import foresight
from xrouter_sim.bounds.single import informed_single
from xrouter_sim.bounds.weitzman import weitzman
from xrouter_sim.replay import Bools, Floats
from xrouter_sim.reward import reward

MAX_LEVELS = 16
"""Distinct scores a sandwich is made of; with more of them, scores are rounded to this many steps, outwards."""

MAX_STATES = 1024
"""States a query for which every policy is searched; larger queries get a plan and a proven bound above it."""

NAME = "informed sequential"
KNOWS = "each arm's chances on this query; sees each score after its call; calls each arm once"


def informed_sequential(cells: Cells, penalty: float, unit: float, max_states: int = MAX_STATES) -> Bound:
    """The best expected reward of any sequence of calls; `penalty` λ ≥ 0, `unit` in USD.

    Exact at λ = 0; where a query's arms each have certain costs and scores; where they have few enough outcomes
    (`max_states`); for binary scores also where costs depend on success alone, or all arms together are affordable.
    Elsewhere `reward` is a proven upper bound and `floor` what a known policy reaches. See `Bound.exact`.
    """
    if penalty == 0:  # Failing is free in either objective: the same score, and the least spending that reaches it.
        return replace(weitzman(cells, penalty, unit), name=NAME, knows=KNOWS)
    query = tree.Queries.of(cells, penalty / unit)
    small = query.states <= max_states
    bound = informed_single(cells, penalty, unit)
    found = {name: np.array(getattr(bound, name)) for name in ("score", "cost_usd", "reward", "floor", "arm")}
    for rows, solved in ((small, _solved), (~small, _sandwiched)):
        if rows.any():
            part = solved(cells.take(rows), query.take(rows), penalty, unit)
            for name, values in found.items():
                values[rows] = getattr(part, name)
    floor = found.pop("floor")
    return Bound(NAME, KNOWS, floor_reward=floor, **found)


def verified_cascade(cells: Cells, penalty: float, unit: float) -> Bound:
    """No bound, but what a perfect verifier brings alone: cheapest arm first on every query, until an answer is right.

    Arms in the order of their mean cost over these queries; every call is paid; a score of 1 ends it, else the best
    response of all arms is the answer. With several samples a cell, sample k of every arm makes world k (arms with
    fewer begin again), and figures are means over these worlds.
    """
    n, _, worlds = cells.score.shape
    order, count = cells.mean(cells.cost_usd).mean(axis=0).argsort(kind="stable"), cells.mask.sum(axis=2)
    at_hand, spent = np.zeros((n, worlds)), np.zeros((n, worlds))
    for arm in order:
        sample = np.arange(worlds) % count[:, arm, None]
        score, cost = (np.take_along_axis(x[:, arm], sample, axis=1) for x in (cells.score, cells.cost_usd))
        spent += np.where(at_hand < 1 - TIE, cost, 0.0)
        at_hand = np.where(at_hand < 1 - TIE, np.maximum(at_hand, score), at_hand)
    earned = reward(at_hand, spent, penalty, unit).mean(axis=1)
    knows = "nothing; cheapest arm first, sees whether it was right"
    first = np.full(n, order[0])
    return Bound("verified cascade", knows, at_hand.mean(axis=1), spent.mean(axis=1), earned, arm=first)


def _solved(cells: Cells, query: "tree.Queries", penalty: float, unit: float) -> Bound:
    value, score, spent, first = tree.solve(query)
    return Bound(NAME, KNOWS, score, spent * unit / penalty, value, arm=first)


def _sandwiched(cells: Cells, query: "tree.Queries", penalty: float, unit: float) -> Bound:
    """The best of the plans we know, and the least of the bounds we can prove."""
    # Weitzman's policy pays for failures too, so what it earns here is at least what it earns there.
    floor = _better(informed_single(cells, penalty, unit), weitzman(cells, penalty, unit))
    upper = np.zeros(len(cells))
    spending = cells.cost_usd * (penalty / unit)
    for low, high in _levels(cells.score):
        upper += (high - low) * _level_bound(cells, spending, cells.score > low + TIE)
        floor = _better(floor, _level_plan(cells, spending, cells.score >= high - TIE, unit / penalty, high))
    upper = np.minimum(upper, foresight(cells, penalty, unit).reward)
    return replace(floor, name=NAME, knows=KNOWS, reward=np.maximum(upper, floor.reward), floor_reward=floor.reward)


def _levels(score: Floats) -> list[tuple[float, float]]:
    """Neighbouring scores from 0 upwards, as pairs."""
    found = np.unique(np.append(score, 0.0))
    if len(found) > MAX_LEVELS + 1:
        found = np.linspace(0.0, found[-1], MAX_LEVELS + 1)
    return list(zip(found[:-1].tolist(), found[1:].tolist(), strict=True))


def _level_plan(cells: Cells, spending: Floats, good: Bools, usd: float, worth: float) -> Bound:
    """A plan that calls until a good response comes, worth at least so much: its reward is at least the one stated.

    Planned with mean costs. By Jensen's inequality the clipped reward is above the reward of mean costs, unclipped.
    """
    p, a, b = _chances(cells, spending, good, "mean")
    plan = plans.best_plans(p, a, b)
    return Bound(NAME, KNOWS, worth * plan.success, plan.spent * usd, worth * plan.value, arm=plan.first)


def _level_bound(cells: Cells, spending: Floats, good: Bools) -> Floats:
    """[n] no policy has a greater expected (1 − spent)⁺ on getting a good response.

    Costs at their least, known beforehand; the plan with mean costs where nothing can be left out for want of means.
    """
    upper = plans.best_plans(*_chances(cells, spending, good, "min")).upper
    p, a, b = _chances(cells, spending, good, "max")
    safe = plans.never_bankrupt(p, a, b)
    if safe.any():
        mean = (x[safe] for x in _chances(cells, spending, good, "mean"))
        upper[safe] = np.minimum(upper[safe], plans.best_plans(*mean).value)
    return upper


def _chances(cells: Cells, spending: Floats, good: Bools, cost: str) -> tuple[Floats, Floats, Floats]:
    """[n, A] each: chance of a good response, then the mean, least or greatest spending on success and on failure."""
    p = cells.mean(good.astype(np.float64))
    parts = []
    for rows in (good & cells.mask, ~good & cells.mask):
        if cost == "mean":
            weight = cells.chance * rows
            parts.append((weight * spending).sum(axis=2) / np.maximum(weight.sum(axis=2), TIE))
        elif cost == "min":
            least = np.where(rows, spending, np.inf).min(axis=2)
            parts.append(np.where(np.isfinite(least), least, 0.0))
        else:
            parts.append(np.where(rows, spending, 0.0).max(axis=2))
    return p, parts[0], parts[1]


def _better(one: Bound, other: Bound) -> Bound:
    """Of two policies the one that earns more, query by query."""
    wins = other.reward > one.reward
    names = ("score", "cost_usd", "reward", "arm")
    return replace(one, **{name: np.where(wins, getattr(other, name), getattr(one, name)) for name in names})
