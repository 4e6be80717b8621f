"""The sequential optima against every policy there is: plain recursion over what each arm has answered."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrouter_sim.bounds import Cells, informed_sequential, weitzman

UNIT = 0.01


def cells_of(score, cost) -> Cells:
    """Cells of queries × arms × samples; a sample of score None is not at hand."""
    score, cost = np.array(score, dtype=float), np.array(cost, dtype=float)
    mask = ~np.isnan(score)
    return Cells(np.where(mask, score, 0.0), np.where(mask, cost, 0.0), mask, np.full(len(score), "d"))


def brute_force(cells: Cells, query: int, penalty: float, gated: bool) -> float:
    """The best expected reward of all policies that call each arm at most once and see every score."""
    draws = [
        [(cells.score[query, a, k], cells.cost_usd[query, a, k]) for k in np.flatnonzero(cells.mask[query, a])]
        for a in range(cells.mask.shape[1])
    ]

    def value(untried: tuple[int, ...], at_hand: float, spent: float) -> float:
        x = penalty * spent / UNIT
        stop = at_hand * max(0.0, 1.0 - x) if gated else at_hand - x
        calls = [
            np.mean([value(tuple(b for b in untried if b != a), max(at_hand, s), spent + c) for s, c in draws[a]])
            for a in untried
        ]
        return float(max([stop, *calls]))

    return value(tuple(range(len(draws))), 0.0, 0.0)


PENALTY = st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 5.0])
SCORES = {"binary": st.sampled_from([0.0, 1.0]), "fractional": st.sampled_from([0.0, 0.3, 0.5, 1.0])}


@st.composite
def worlds(draw, arms=4, samples=3, scores="binary", queries=1) -> Cells:
    """Up to 4 arms and 3 samples, some of them missing, costs up to two thirds of the unit."""
    shape = (queries, draw(st.integers(1, arms)), draw(st.integers(1, samples)))
    size = int(np.prod(shape))
    score = np.array(draw(st.lists(SCORES[scores], min_size=size, max_size=size))).reshape(shape)
    cost = np.array(draw(st.lists(st.integers(0, 20), min_size=size, max_size=size))).reshape(shape) / 3000
    gone = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size))).reshape(shape)
    gone[:, :, 0] = False
    return cells_of(np.where(gone, np.nan, score), cost)


@given(worlds(), PENALTY)
def test_no_policy_beats_the_gated_optimum_and_one_reaches_it(cells: Cells, penalty: float) -> None:
    bound = informed_sequential(cells, penalty, UNIT)
    assert bound.exact.all()
    assert bound.reward[0] == pytest.approx(brute_force(cells, 0, penalty, gated=True))


@given(worlds(scores="fractional", arms=3), PENALTY)
def test_graded_scores_are_solved_as_exactly(cells: Cells, penalty: float) -> None:
    bound = informed_sequential(cells, penalty, UNIT)
    assert bound.reward[0] == pytest.approx(brute_force(cells, 0, penalty, gated=True))


@given(worlds(scores="fractional", arms=3), PENALTY)
def test_beyond_the_exact_search_the_optimum_lies_between_floor_and_bound(cells: Cells, penalty: float) -> None:
    bound = informed_sequential(cells, penalty, UNIT, max_states=0)
    optimum = brute_force(cells, 0, penalty, gated=True)
    assert bound.floor[0] <= optimum + 1e-9
    assert bound.reward[0] >= optimum - 1e-9


@given(worlds(scores="fractional", arms=3), PENALTY)
def test_weitzmans_rule_is_the_best_of_all_policies_that_pay_for_every_call(cells: Cells, penalty: float) -> None:
    bound = weitzman(cells, penalty, UNIT)
    assert bound.reward[0] == pytest.approx(brute_force(cells, 0, penalty, gated=False), abs=1e-12)
