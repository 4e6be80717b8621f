"""Metrics: pinned values, the published figures, and what must hold for any router."""

import doctest
import sys
from types import FunctionType, ModuleType

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import SHARED_DATA
from xrouter_sim.evaluation import metrics
from xrouter_sim.evaluation.metrics import (
    aiq,
    aiq_code_form,
    behaviours,
    calibration,
    cost_to_reach,
    curves,
    ndch,
    peers,
    zero_router,
)
from xrouter_sim.reward import reward

LEVELS = st.integers(0, 20).map(lambda n: n / 20)
COSTS = st.integers(1, 1000).map(lambda n: n / 1e5)
POINTS = st.lists(st.tuples(COSTS, LEVELS), min_size=1, max_size=12)


def axes(points: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    cost, score = zip(*points, strict=True)
    return np.array(cost), np.array(score)


@pytest.mark.parametrize("module", [curves, peers, behaviours, calibration])
def test_worked_examples(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_every_metric_has_a_worked_example() -> None:
    public = [getattr(metrics, name) for name in metrics.__all__]
    functions = [function for function in public if isinstance(function, FunctionType)]
    assert len(functions) > 20
    assert [function.__name__ for function in functions if ">>>" not in (function.__doc__ or "")] == []


def test_the_worked_example_of_the_reward() -> None:
    assert doctest.testmod(sys.modules[reward.__module__]).attempted == 1
    assert doctest.testmod(sys.modules[reward.__module__]).failed == 0


def test_reward_is_gated_by_success_and_never_negative() -> None:
    assert reward(1.0, 0.005, 1.0, 0.01) == pytest.approx(0.5)
    assert reward(0.5, 0.005, 1.0, 0.01) == pytest.approx(0.25)
    assert reward(0.0, 0.0, 1.0, 0.01) == 0
    assert reward(1.0, 1.0, 80.0, 0.01) == 0
    assert reward(1.0, 1.0, 0.0, 0.01) == 1


def test_hull_drops_what_lies_below_it_and_where_it_falls() -> None:
    cost, score = ndch([1, 2, 3, 4, 5], [0.2, 0.1, 0.6, 0.7, 0.65])
    assert cost.tolist() == [1, 3, 4]
    assert score.tolist() == [0.2, 0.6, 0.7]


def test_of_equally_cheap_points_the_better_starts_the_hull() -> None:
    cost, score = ndch([1, 1, 2], [0.2, 0.4, 0.3])
    assert (cost.tolist(), score.tolist()) == ([1], [0.4])


def test_range_form_counts_nothing_below_the_first_point_and_cuts_at_both_ends() -> None:
    assert aiq([0.0, 10.0], [0.0, 1.0], 2.0, 4.0) == pytest.approx(0.3)  # the hull's mean height on [2, 4]
    assert aiq([3.0], [0.8], 2.0, 4.0) == pytest.approx(0.4)
    assert aiq([1.0], [0.8], 2.0, 4.0) == pytest.approx(0.8)
    assert aiq([5.0], [0.8], 2.0, 4.0) == 0


def test_a_range_without_width_has_no_aiq() -> None:
    assert np.isnan(aiq([1.0], [0.8], 2.0, 2.0))


def test_curves_are_measured_together_as_they_are_one_by_one() -> None:
    rng = np.random.default_rng(3)
    cost, score = rng.random((40, 9)), rng.random((40, 9))
    low, high = rng.random(40) * 0.3, 0.5 + rng.random(40)
    one_by_one = [float(aiq(*line)) for line in zip(cost, score, low, high, strict=True)]
    assert aiq(cost, score, low, high) == pytest.approx(one_by_one)


def test_cost_to_reach_is_never_when_the_hull_stays_below() -> None:
    assert cost_to_reach([1.0, 2.0], [0.5, 0.9], 0.7) == pytest.approx(1.5)
    assert cost_to_reach([1.0, 2.0], [0.5, 0.9], 0.3) == 1.0
    assert np.isnan(cost_to_reach([1.0, 2.0], [0.5, 0.9], 0.95))


def test_a_failed_escalation_is_none_exclusively_and_escalate_among_traits() -> None:
    assert metrics.BEHAVIOURS[int(metrics.behaviour(2, 2, "none"))] == "none"
    found = metrics.traits([2], [2], ["none"])
    assert found["escalate"].all()
    assert found["none"].all()


def test_shares_of_a_free_group_are_zero() -> None:
    assert metrics.shares(["a"], ["m"], [0.0]) == {"a": {"m": 0.0}}


@given(POINTS, st.randoms())
def test_order_changes_nothing(points: list[tuple[float, float]], draw: object) -> None:
    mixed = list(points)
    draw.shuffle(mixed)  # type: ignore[attr-defined]
    assert aiq(*axes(mixed), 1e-3, 8e-3) == pytest.approx(float(aiq(*axes(points), 1e-3, 8e-3)))


@given(POINTS, LEVELS, COSTS)
def test_a_dominated_point_moves_no_frontier(points: list[tuple[float, float]], part: float, extra: float) -> None:
    cost, score = points[0]
    more = [*points, (cost + extra, score * part)]
    before, after = ndch(*axes(points)), ndch(*axes(more))
    assert after[0] == pytest.approx(before[0])
    assert after[1] == pytest.approx(before[1])


@given(POINTS, COSTS, COSTS)
def test_aiq_is_a_mean_score(points: list[tuple[float, float]], low: float, width: float) -> None:
    for value in (aiq(*axes(points), low, low + width), aiq_code_form(*axes(points), low + width)):
        assert -1e-9 <= value <= max(score for _, score in points) + 1e-9


@given(POINTS, COSTS, COSTS, st.sampled_from([1e-3, 0.37, 8.0, 1e4]))
def test_the_currency_does_not_matter(points: list[tuple[float, float]], low: float, width: float, rate: float) -> None:
    cost, score = axes(points)
    high = low + width
    scaled = aiq(cost * rate, score, low * rate, high * rate)
    assert scaled == pytest.approx(float(aiq(cost, score, low, high)), abs=1e-9)
    assert aiq_code_form(cost * rate, score, high * rate) == pytest.approx(
        float(aiq_code_form(cost, score, high)), abs=1e-9
    )


@given(POINTS)
def test_a_hull_rises_ever_more_slowly_above_every_point(points: list[tuple[float, float]]) -> None:
    cost, score = ndch(*axes(points))
    slopes = np.diff(score) / np.diff(cost)
    assert (slopes > 0).all()
    assert (np.diff(slopes) < 1e-6 * np.abs(slopes[:-1])).all()
    assert all(np.interp(x, cost, score) >= y - 1e-9 for x, y in points)


@pytest.mark.skipif(
    not (SHARED_DATA / "routerbench.parquet").exists(), reason="needs the real data beside the checkout"
)
def test_published_figures_of_routerbench() -> None:
    rows = pl.read_parquet(SHARED_DATA / "routerbench.parquet").filter(pl.col("split") == "test")
    score, cost = (
        rows.pivot(on="model", index="query_id", values=column, maintain_order=True).drop("query_id").to_numpy()
        for column in ("score", "cost_usd")
    )
    low, high = cost.mean(axis=0).min(), cost.mean(axis=0).max()
    assert low == pytest.approx(8.108426610348483e-5)
    assert high == pytest.approx(5.002967265047512e-3)
    assert score.mean(axis=0)[cost.mean(axis=0).argmax()] == pytest.approx(0.8796, abs=5e-5)
    assert aiq(cost.mean(axis=0), score.mean(axis=0), low, high) == pytest.approx(0.823, abs=5e-4)
    hull = zero_router(cost.mean(axis=0), score.mean(axis=0))
    assert aiq(*hull, low, high) == pytest.approx(0.823, abs=5e-4)
    best = np.where(score > 0, cost, np.inf).min(axis=1)
    paid = np.where(np.isinf(best), cost.min(axis=1), best)
    assert (score.max(axis=1).mean(), paid.mean()) == pytest.approx((0.9757, 0.000211), abs=5e-5)
    with_oracle = [*zip(cost.mean(axis=0), score.mean(axis=0), strict=True), (paid.mean(), score.max(axis=1).mean())]
    assert aiq(*axes(with_oracle), low, high) == pytest.approx(0.971, abs=5e-4)
