"""Sequential search where every call is paid, success or not: Pandora's box, solved by Weitzman's index.

Maximise E[best score seen] − (λ / unit) · E[all spent]: arms are boxes, a call opens one, the verifier is perfect
(Weitzman, Optimal search for the best alternative, Econometrica 47, 1979). docs/bounds.md, §4.
"""

import numpy as np

from xrouter_sim.bounds.base import NO_ARM, TIE, Bound, Cells
from xrouter_sim.replay import Bools, Floats, Ints


def weitzman(cells: Cells, penalty: float, unit: float) -> Bound:
    """The optimum of the additive objective, exact for any scores in [0, 1], any number of arms and random costs.

    `reward` is E[score] − λ · E[cost] / unit, at least 0; never above the success-gated optimum, which forgives what is
    spent in vain. At λ = 0 calls stop where no arm left can improve the score and arms of equal promise come cheapest
    a success first: the best score, then the least cost. Each arm is called at most once. `penalty` λ ≥ 0, `unit` USD.
    """
    cost = cells.mean(cells.cost_usd)
    index = reservation_values(cells, penalty / unit * cost)
    reaches = cells.mean((cells.score >= index[:, :, None] - TIE).astype(np.float64))
    per_success = cost / np.maximum(reaches, TIE)
    order = np.lexsort((per_success, -np.round(index, 12)), axis=1)
    score, spent = _search(cells, index, cost, order)
    first = np.where(np.take_along_axis(index, order[:, :1], axis=1)[:, 0] > TIE, order[:, 0], NO_ARM)
    knows = "each arm's chances on this query; sees each score after its call; pays for every call"
    return Bound("Weitzman (additive)", knows, score, spent, score - penalty / unit * spent, arm=first)


def reservation_values(cells: Cells, cost: Floats) -> Floats:
    """[n, A] the index σ of each arm: E[(score − σ)⁺] = cost, where cost [n, A] is in units of score.

    σ is the greatest of (E[score; score ≥ t] − cost) / P(score ≥ t) over the scores t that the arm can have: the score
    at hand at which one more call of this arm is worth just nothing.
    """
    order = np.argsort(-np.where(cells.mask, cells.score, -1.0), axis=2, kind="stable")
    score, chance = (np.take_along_axis(x, order, axis=2) for x in (cells.score, cells.chance))
    reached, earned = chance.cumsum(axis=2), (score * chance).cumsum(axis=2)
    index: Floats = ((earned - cost[:, :, None]) / reached).max(axis=2)
    return index


def _search(cells: Cells, index: Floats, cost: Floats, order: Ints) -> tuple[Floats, Floats]:
    """Expected score and cost of opening arms in this order while their index is above the best score at hand.

    Follows the distribution of the best score at hand over the scores that the query's arms can give.
    """
    n = len(cells)
    levels = np.sort(np.concatenate([np.zeros((n, 1)), cells.score.reshape(n, -1)], axis=1), axis=1)
    at_hand, spent, rows = np.zeros_like(levels), np.zeros(n), np.arange(n)
    at_hand[:, 0] = 1.0
    for arm in order.T:
        opens: Bools = levels < index[rows, arm][:, None] - TIE
        moving = np.where(opens, at_hand, 0.0)
        spent += moving.sum(axis=1) * cost[rows, arm]
        drawn = np.zeros_like(levels)  # P(score ≤ level)
        for sample in range(cells.score.shape[2]):
            drawn += cells.chance[rows, arm, sample][:, None] * (cells.score[rows, arm, sample][:, None] <= levels)
        at_hand += np.diff(moving.cumsum(axis=1) * drawn, axis=1, prepend=0.0) - moving
    return (at_hand * levels).sum(axis=1), spent
