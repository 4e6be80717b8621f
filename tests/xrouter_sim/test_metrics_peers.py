"""The field's scores: pinned values, and what must hold for any router."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import SHARED_DATA
from tests.xrouter_sim.test_metrics import COSTS, LEVELS, POINTS, axes
from xrouter_sim.evaluation import metrics
from xrouter_sim.evaluation.metrics import Front

RATES = st.sampled_from([1e-3, 0.37, 8.0, 1e4])
Points = list[tuple[float, float]]
SHARES = st.integers(0, 20).map(lambda n: n / 20)
ROUTES = st.lists(st.tuples(SHARES, LEVELS), min_size=1, max_size=10)


def singles(points: Points) -> tuple[float, float]:
    """Cost and score of the best single model among points; of equals the cheapest."""
    return max(points, key=lambda point: (point[1], -point[0]))


def test_arena_score_is_routerarenas() -> None:
    assert metrics.arena_score(0.7396, 10.02) == pytest.approx(0.6432, abs=5e-5)
    assert metrics.arena_score(0.6809, 0.54) == pytest.approx(0.6666, abs=2e-3)  # its leaderboard: cost has two digits
    assert metrics.arena_score(1.0, 0.0) == 1  # what costs nothing is as cheap as the cheapest it has
    assert metrics.arena_score(1.0, 1e6) == 0


@given(LEVELS, LEVELS, COSTS, COSTS)
def test_arena_score_grows_with_accuracy_and_falls_with_cost(
    low: float, more: float, cost: float, extra: float
) -> None:
    assert metrics.arena_score(min(low + more, 1.0), cost) >= metrics.arena_score(low, cost) - 1e-12
    assert metrics.arena_score(low, cost + extra) <= metrics.arena_score(low, cost) + 1e-12


def test_a_failed_row_stays_in_the_denominator() -> None:
    score, cost = np.array([[1.0, 1.0, 0.0]]), np.array([[2.0, 2.0, 2.0]])
    counts, selected, ratio = metrics.optimal_choice([0, -1, -1], [2.0, 0.5, 0.0], score, cost)
    assert counts.tolist() == [True, True, False]  # nobody was right about the third query: RouterArena leaves it out
    assert selected.tolist() == [True, False, False]
    assert ratio[counts].tolist() == [1.0, 1.0]
    assert metrics.optimal_choice([-1], [0.0], score[:, :1], cost[:, :1])[2].tolist() == [0.0]  # no answer, no spending


def test_of_models_as_cheap_and_right_any_is_the_optimal_one() -> None:
    score, cost = [[1.0, 0.5], [1.0, 1.0], [1.0, 1.0]], [[3.0, 1.0], [1.0, 2.0], [1.0, 9.0]]
    for chosen, selected in ((0, [False, False]), (1, [True, True]), (2, [True, False])):
        spent = np.array(cost)[chosen]
        assert metrics.optimal_choice([chosen] * 2, spent, score, cost)[1].tolist() == selected


@given(
    st.lists(st.tuples(LEVELS, COSTS, LEVELS, COSTS, LEVELS, COSTS), min_size=1, max_size=8), st.permutations(range(3))
)
def test_order_of_models_changes_no_choice(rows: list[tuple[float, ...]], order: list[int]) -> None:
    table = np.array(rows).T
    score, cost = table[::2], table[1::2]
    chosen = np.arange(len(rows)) % 3
    spent = cost[chosen, np.arange(len(rows))]
    before = metrics.optimal_choice(chosen, spent, score, cost)
    after = metrics.optimal_choice(np.argsort(order)[chosen], spent, score[order], cost[order])
    for one, other in zip(before, after, strict=True):
        assert (one == other).all()


def test_gap_recovered_of_two_models_by_hand() -> None:
    """Weak .6, strong .9: half of the calls recover .24 of .3."""
    share, score = [0.0, 0.5, 1.0], [0.6, 0.84, 0.9]
    assert metrics.performance_gap_recovered(0.84, 0.6, 0.9) == pytest.approx(0.8)
    assert metrics.apgr(share, score, 0.6, 0.9) == pytest.approx((0.4 + 0.9) / 2)
    assert metrics.call_performance_threshold(share, score, 0.6, 0.9, 0.5) == pytest.approx(0.5 * 0.5 / 0.8)
    assert metrics.call_performance_threshold(share, score, 0.6, 0.9, 0.8) == pytest.approx(0.5)


def test_a_threshold_that_is_never_reached_is_never() -> None:
    assert np.isnan(metrics.call_performance_threshold([0.1, 0.4], [0.6, 0.7], 0.6, 0.9, 0.5))
    assert np.isnan(metrics.call_performance_threshold([0.1, 0.4], [0.6, 0.7], 0.9, 0.9, 0.5))  # no gap
    assert np.isnan(metrics.apgr([0.1, 0.4], [0.6, 0.7], 0.9, 0.6))


@given(ROUTES, st.randoms())
def test_order_of_settings_changes_no_gap(points: Points, draw: object) -> None:
    mixed = list(points)
    draw.shuffle(mixed)  # type: ignore[attr-defined]
    one, other = (
        [float(metrics.apgr(*axes(p), 0.2, 0.8)), float(metrics.call_performance_threshold(*axes(p), 0.2, 0.8, 0.5))]
        for p in (points, mixed)
    )
    assert one == pytest.approx(other, nan_ok=True)


@given(POINTS)
def test_the_best_single_model_gains_and_saves_nothing(points: Points) -> None:
    cost, score = singles(points)
    against = ([cost], [score], cost, score)
    if score > 0:
        assert metrics.performance_gain([score], score) == 0
    assert metrics.cost_save(*against) == pytest.approx(0)
    assert metrics.quality_neutral_cost(*against) == pytest.approx(1)


@given(POINTS, POINTS)
def test_a_router_that_is_never_as_accurate_saves_never(points: Points, models: Points) -> None:
    cost, score = singles(models)
    reaches = max(level for _, level in points) >= score
    assert np.isnan(metrics.cost_save(*axes(points), cost, score)) == (not reaches)
    assert np.isnan(metrics.quality_neutral_cost(*axes(points), cost, score)) == (not reaches)
    if reaches:  # mixtures only help
        saved = float(metrics.cost_save(*axes(points), cost, score))
        assert float(metrics.quality_neutral_cost(*axes(points), cost, score)) <= 1 - saved + 1e-9


@given(POINTS, POINTS, RATES)
def test_the_currency_does_not_matter_to_the_fields_scores(points: Points, models: Points, rate: float) -> None:
    (x, y), (mx, my), (cost, score) = axes(points), axes(models), singles(models)
    everyone = [np.concatenate(axis) for axis in ((x, mx), (y, my))]
    figures = [
        (
            float(metrics.cost_save(x * k, y, cost * k, score)),
            float(metrics.quality_neutral_cost(x * k, y, cost * k, score)),
            float(Front.of(everyone[0] * k, everyone[1]).distance(x * k, y)),
        )
        for k in (1.0, rate)
    ]
    assert figures[0] == pytest.approx(figures[1], nan_ok=True, abs=1e-9)


@given(POINTS, LEVELS, COSTS)
def test_a_dominated_point_moves_no_pareto_front(points: Points, part: float, extra: float) -> None:
    cost, score = points[0]
    more = [*points, (cost + extra, score * part)]
    assert (metrics.pareto_front(*axes(more))[:-1] == metrics.pareto_front(*axes(points))).all()
    assert not metrics.pareto_front(*axes(more))[-1]
    before, after = (Front.of(*axes(p)).distance(*axes(points)) for p in (points, more))
    assert after == pytest.approx(before)


@given(POINTS)
def test_the_front_is_what_no_point_dominates(points: Points) -> None:
    def dominated(x: float, y: float) -> bool:
        return any(a <= x and b >= y and (a < x or b > y) for a, b in points)

    assert metrics.pareto_front(*axes(points)).tolist() == [not dominated(x, y) for x, y in points]


@given(POINTS, POINTS)
def test_a_router_on_the_front_has_no_distance_to_it(points: Points, models: Points) -> None:
    x, y = axes([*points, *models])
    on = metrics.pareto_front(x, y)
    front = Front.of(x, y)
    assert front.distance(x[on], y[on]) == pytest.approx(0)
    assert front.distance(x, y) >= 0


def test_fronts_of_replicates_are_measured_together_as_one_by_one() -> None:
    rng = np.random.default_rng(4)
    cost, score = rng.random((30, 12)), rng.random((30, 12)).round(1)
    together = Front.of(cost, score).distance(cost[:, :4], score[:, :4])
    alone = [float(Front.of(x, y).distance(x[:4], y[:4])) for x, y in zip(cost, score, strict=True)]
    assert together == pytest.approx(alone)


@pytest.mark.parametrize(
    "measure",
    [
        lambda gap: metrics.aiq([gap, 1.0], [0.5, 0.6], 0.0, 1.0),
        lambda gap: metrics.arena_score(0.5, gap),
        lambda gap: metrics.optimal_choice([0], [gap], [[1.0]], [[1.0]]),
        lambda gap: metrics.optimal_choice([0], [1.0], [[1.0]], [[gap]]),
        lambda gap: metrics.cost_save([gap], [0.5], 1.0, 0.5),
        lambda gap: metrics.quality_neutral_cost([gap], [0.5], 1.0, 0.5),
        lambda gap: Front.of([gap, 1.0], [0.5, 0.6]),
        lambda gap: metrics.zero_router([gap, 1.0], [0.5, 0.6]),
        lambda gap: metrics.brier([gap], [1.0]),
    ],
)
def test_what_is_missing_is_an_error_and_never_a_zero(measure: object) -> None:
    with pytest.raises(ValueError, match=r"missing|lacks"):
        measure(float("nan"))  # type: ignore[operator]


@pytest.mark.skipif(
    not (SHARED_DATA / "model_calibration.csv").exists(), reason="needs the real data beside the checkout"
)
def test_flagship_models_of_llmrouterbench() -> None:
    """GPT-5 is its best single model; accuracy is the mean over its ten benchmarks, cost what all its queries cost."""
    table = (
        pl.read_csv(SHARED_DATA / "model_calibration.csv")
        .group_by("model")
        .agg(pl.col("accuracy").mean(), cost=pl.col("total_cost_usd").sum(), benchmarks=pl.len())
    )
    table = table.filter(pl.col("benchmarks") == 10).sort("accuracy", descending=True)
    best = table.row(0, named=True)
    assert best["model"].startswith("GPT-5")
    for row in table.iter_rows(named=True):
        gain = float(metrics.performance_gain([row["accuracy"]], best["accuracy"]))
        assert gain == 0 if row["model"] == best["model"] else gain < 0
    front = metrics.pareto_front(table["cost"], table["accuracy"])
    assert front[0]  # the best model, and whatever is cheaper than all that are better
    assert front.sum() < table.height
    assert Front.of(table["cost"], table["accuracy"]).distance(table["cost"], table["accuracy"]) > 0
