"""The sequential optima against every policy there is: plain recursion over what each arm has answered."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrouter_sim.bounds import Cells, foresight, informed_sequential, informed_single, weitzman
from xrouter_sim.bounds.plans import best_plans

UNIT = 0.01
unhurried = settings(deadline=None)  # a busy machine is no failure


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


@unhurried
@given(worlds(), PENALTY)
def test_no_policy_beats_the_gated_optimum_and_one_reaches_it(cells: Cells, penalty: float) -> None:
    bound = informed_sequential(cells, penalty, UNIT)
    assert bound.exact.all()
    assert bound.reward[0] == pytest.approx(brute_force(cells, 0, penalty, gated=True))


@unhurried
@given(worlds(scores="fractional", arms=3), PENALTY)
def test_graded_scores_are_solved_as_exactly(cells: Cells, penalty: float) -> None:
    bound = informed_sequential(cells, penalty, UNIT)
    assert bound.reward[0] == pytest.approx(brute_force(cells, 0, penalty, gated=True))


@unhurried
@given(worlds(scores="fractional", arms=3), PENALTY)
def test_beyond_the_exact_search_the_optimum_lies_between_floor_and_bound(cells: Cells, penalty: float) -> None:
    bound = informed_sequential(cells, penalty, UNIT, max_states=0)
    optimum = brute_force(cells, 0, penalty, gated=True)
    assert bound.floor[0] <= optimum + 1e-9
    assert bound.reward[0] >= optimum - 1e-9


@unhurried
@given(worlds(scores="fractional", arms=3), PENALTY)
def test_weitzmans_rule_is_the_best_of_all_policies_that_pay_for_every_call(cells: Cells, penalty: float) -> None:
    bound = weitzman(cells, penalty, UNIT)
    assert bound.reward[0] == pytest.approx(brute_force(cells, 0, penalty, gated=False), abs=1e-12)


@unhurried
@given(worlds(), PENALTY)
def test_binary_scores_are_sandwiched_too(cells: Cells, penalty: float) -> None:
    bound = informed_sequential(cells, penalty, UNIT, max_states=0)
    optimum = brute_force(cells, 0, penalty, gated=True)
    assert bound.floor[0] - 1e-9 <= optimum <= bound.reward[0] + 1e-9


@unhurried
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=4),
    st.integers(1, 12),
)
def test_the_best_plan_is_the_best_of_all_orders_of_all_subsets(arms, wealth: int) -> None:
    p, a, b = (np.array(x, dtype=float) for x in zip(*arms, strict=True))
    p, a, b = p / 4, a / wealth, b / wealth

    def value(untried: tuple[int, ...], spent: float) -> float:
        calls = [
            p[i] * max(0.0, 1 - spent - a[i]) + (1 - p[i]) * value(tuple(j for j in untried if j != i), spent + b[i])
            for i in untried
        ]
        return max([0.0, *calls])

    found = best_plans(p[None], a[None], b[None])
    assert found.value[0] == found.upper[0] == pytest.approx(value(tuple(range(len(p))), 0.0), abs=1e-9)


def test_large_pools_of_certain_costs_are_solved_exactly() -> None:
    """Sixteen arms, each with chances in quarters: more subsets than a glance, checked against all 65,536 of them."""
    rng = np.random.default_rng(4)
    p, cost = rng.integers(1, 4, (3, 16)) / 4, rng.uniform(0.05, 0.6, (3, 16))
    found = best_plans(p, cost, cost)
    assert found.value == pytest.approx(found.upper, abs=1e-12)
    for query in range(3):
        order = np.argsort(cost[query] / p[query])
        subsets = [(0.0, 1.0, 0.0)]  # spent, chance that all failed, value
        for arm in order:
            c, q = cost[query, arm], 1 - p[query, arm]
            subsets += [(x + c, f * q, v + f * (1 - q) * (1 - x - c)) for x, f, v in subsets if x + c < 1]
        assert found.value[query] == pytest.approx(max(v for _, _, v in subsets))


def test_a_pool_of_equals_is_solved_too() -> None:
    """Sixteen even chances for a fifth of the means each: four calls earn, whichever; 1,820 ways to choose them."""
    same = np.full((1, 16), 0.5), np.full((1, 16), 0.2), np.full((1, 16), 0.2)
    found = best_plans(*same)
    assert found.value[0] == pytest.approx(0.5 * 0.8 + 0.25 * 0.6 + 0.125 * 0.4 + 0.0625 * 0.2)
    assert found.value[0] == pytest.approx(found.upper[0], abs=1e-12)


def test_an_arm_may_be_skipped_though_its_index_is_best() -> None:
    """The first arm is the best buy (0.9 for 0.9) but leaves nothing to win; half a chance for half the means is."""
    found = best_plans(np.array([[0.9, 0.49]]), np.array([[0.9, 0.5]]), np.array([[0.9, 0.5]]))
    assert (found.value[0], found.first[0]) == (pytest.approx(0.49 * 0.5), 1)


def test_where_failing_is_free_one_goes_on_where_pandora_stops() -> None:
    """One chance in ten for nine tenths of the reward: not worth paying for, but worth trying for nothing."""
    cells = cells_of([[[1.0] + [0.0] * 9]], [[[0.009] * 10]])
    assert informed_sequential(cells, 1.0, UNIT).reward[0] == pytest.approx(0.01)
    assert weitzman(cells, 1.0, UNIT).reward[0] == 0


def test_a_perfect_verifier_makes_a_cheap_gamble_pay() -> None:
    """Half a chance for 1 mUSD, then a sure answer for 5 mUSD: 0.5 · 0.9 + 0.5 · 0.4, spending 3.5 mUSD on average."""
    cells = cells_of([[[1.0, 0.0], [1.0, 1.0]]], [[[0.001, 0.001], [0.005, 0.005]]])
    bound = informed_sequential(cells, 1.0, UNIT)
    assert bound.arm.tolist() == [0]
    assert (bound.reward[0], bound.score[0]) == pytest.approx((0.65, 1.0))
    assert bound.cost_usd[0] == pytest.approx(0.001 + 0.5 * 0.005)
    assert informed_single(cells, 1.0, UNIT).reward[0] == pytest.approx(0.5)


def test_at_no_cost_penalty_the_best_score_comes_at_the_least_cost() -> None:
    """Both arms are tried until one is right; the better buy (cost a success 2 against 4 mUSD) first."""
    cells = cells_of([[[1.0, 0.0], [1.0, 0.0]]], [[[0.002, 0.002], [0.001, 0.001]]])
    bound = informed_sequential(cells, 0.0, UNIT)
    assert (bound.score[0], bound.cost_usd[0], bound.arm[0]) == (0.75, pytest.approx(0.002), 1)


@unhurried
@given(worlds(samples=4), PENALTY)
def test_score_and_cost_are_those_of_the_policy(cells: Cells, penalty: float) -> None:
    """Its reward is at least score − λ · cost (failures are forgiven), at most the score."""
    bound = informed_sequential(cells, penalty, UNIT)
    assert bound.reward[0] <= bound.score[0] + 1e-9
    assert bound.reward[0] >= bound.score[0] - penalty * bound.cost_usd[0] / UNIT - 1e-9
    assert bound.reward[0] <= foresight(cells, penalty, UNIT).reward[0] + 1e-9
