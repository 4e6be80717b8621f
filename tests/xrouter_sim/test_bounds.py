"""Bounds: what each knows decides their order; known values; the published figures of RouterBench."""

import doctest

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from responses_db import ResponseStore
from responses_db.importers import check, land, tidy
from tests.xrouter_sim.test_bounds_sequential import PENALTY, SCORES, UNIT, cells_of, unhurried, worlds
from tests.xrouter_sim.tiny import tiny_replay
from xrouter_sim.bounds import (
    BOUNDS,
    Cells,
    all_bounds,
    base,
    best_fixed,
    cross_fitted,
    dice,
    foresight,
    informed_sequential,
    informed_single,
    luck_corrected_oracle,
    oracle,
    regret,
    regrets,
    single,
    verified_cascade,
    weitzman,
    zero_router,
)
from xrouter_sim.evaluation.statistics import Bootstrap
from xrouter_sim.replay import STATUSES, Replay, cost_unit

WORLDS = st.sampled_from(list(SCORES)).flatmap(lambda scores: worlds(arms=3, scores=scores, queries=4))


def test_worked_examples() -> None:
    assert doctest.testmod(base).failed == doctest.testmod(single).failed == 0


def in_domains(cells: Cells, names: list[str]) -> Cells:
    return Cells(cells.score, cells.cost_usd, cells.mask, np.array(names))


@unhurried
@given(WORLDS, PENALTY)
def test_who_knows_more_earns_more(cells: Cells, penalty: float) -> None:
    cells = in_domains(cells, ["a", "a", "b", "b"])
    means = [bound(cells, penalty, UNIT).reward.mean() for bound in BOUNDS]
    assert (np.diff(means) <= 1e-9).all()
    on_each = [find(cells, penalty, UNIT).reward for find in (oracle, foresight, informed_sequential, informed_single)]
    assert (np.diff(on_each, axis=0) <= 1e-9).all()
    assert (weitzman(cells, penalty, UNIT).reward <= informed_sequential(cells, penalty, UNIT).reward + 1e-9).all()


@unhurried
@given(WORLDS, PENALTY, st.floats(0.0, 2.0))
def test_a_higher_penalty_never_pays(cells: Cells, penalty: float, more: float) -> None:
    for bound in (oracle, foresight, informed_sequential, informed_single, best_fixed, weitzman):
        assert bound(cells, penalty + more, UNIT).reward.mean() <= bound(cells, penalty, UNIT).reward.mean() + 1e-9


@unhurried
@given(WORLDS, PENALTY, st.randoms())
def test_the_order_of_arms_and_samples_is_irrelevant(cells: Cells, penalty: float, draw) -> None:
    arms, samples = (draw.sample(range(n), n) for n in cells.mask.shape[1:])
    mixed = Cells(*(x[:, arms][:, :, samples] for x in (cells.score, cells.cost_usd, cells.mask)), cells.domains)
    for bound in (*BOUNDS, weitzman):
        one, other = bound(cells, penalty, UNIT), bound(mixed, penalty, UNIT)
        assert one.reward.mean() == pytest.approx(other.reward.mean(), abs=1e-9)


@unhurried
@given(WORLDS, PENALTY)
def test_another_arm_never_hurts(cells: Cells, penalty: float) -> None:
    assume(cells.mask.shape[1] > 1)
    fewer = Cells(*(x[:, :-1] for x in (cells.score, cells.cost_usd, cells.mask)), cells.domains)
    for bound in (oracle, foresight, informed_sequential, informed_single, best_fixed, weitzman):
        assert bound(fewer, penalty, UNIT).reward.mean() <= bound(cells, penalty, UNIT).reward.mean() + 1e-9


@unhurried
@given(worlds(arms=3, scores="fractional", queries=2), PENALTY)
def test_foresight_is_the_mean_over_all_draws_of_the_best_one(cells: Cells, penalty: float) -> None:
    earned = cells.reward(penalty, UNIT)
    bound = foresight(cells, penalty, UNIT)
    for query in range(2):
        draws = [earned[query, arm, cells.mask[query, arm]] for arm in range(earned.shape[1])]
        assert bound.reward[query] == pytest.approx(np.maximum.reduce(np.meshgrid(*draws)).mean())


def test_the_oracle_takes_the_cheapest_right_answer_else_nothing() -> None:
    cells = cells_of([[[1.0, 1.0], [1.0, None]], [[0.0, 0.0], [0.0, None]]], [[[3e-3, 2e-3], [4e-3, 0]]] * 2)
    bound = oracle(cells, 1.0, UNIT)
    assert (bound.arm.tolist(), bound.sample.tolist()) == ([0, -1], [1, -1])
    assert (bound.score.tolist(), bound.cost_usd.tolist()) == ([1.0, 0.0], [0.002, 0.0])
    assert bound.reward == pytest.approx([0.8, 0.0])
    assert oracle(cells, 1.0, UNIT, otherwise="cheapest").cost_usd.tolist() == [0.002, 0.002]


@unhurried
@given(WORLDS, PENALTY)
def test_looking_without_knowing_is_no_better_than_foresight_in_its_own_worlds(cells: Cells, penalty: float) -> None:
    one = Cells(*(x[:, :, :1] for x in (cells.score, cells.cost_usd, cells.mask)), cells.domains)
    cascade, seen = verified_cascade(one, penalty, UNIT), foresight(one, penalty, UNIT)
    assert (cascade.reward <= seen.reward + 1e-9).all()
    assert (cascade.score <= one.score.max(axis=(1, 2))).all()


def test_a_failed_call_is_no_answer_and_a_cut_one_counts_as_it_was_graded() -> None:
    replay = tiny_replay(queries=6, samples=1)
    replay.score[:] = 1.0
    replay.status[0], replay.status[1] = STATUSES.index("failed"), STATUSES.index("truncated")
    assert all_bounds(replay, np.arange(6), 0.5, UNIT)["oracle"].score.tolist() == [0, 1, 1, 1, 1, 1]


def test_prices_of_the_day_move_the_bounds() -> None:
    replay, queries = tiny_replay(), np.arange(120)
    dear = all_bounds(replay, queries, 0.5, UNIT, price=np.array([100.0, 1.0, 1.0]))
    assert dear["oracle"].reward.mean() < all_bounds(replay, queries, 0.5, UNIT)["oracle"].reward.mean()


def test_no_queries_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one query"):
        all_bounds(tiny_replay(), np.array([], dtype=int), 0.5, UNIT)


def guessers(queries: int, samples: int) -> Cells:
    """Five arms that throw a coin for every answer, whatever the query: all of an oracle's gain is luck."""
    score = np.random.default_rng(1).integers(0, 2, (queries, 5, samples)).astype(float)
    return cells_of(score, np.full(score.shape, 1e-4))


def test_guessing_among_many_models_is_not_skill() -> None:
    """Five coins: the oracle is right on 31 queries of 32, and nothing of that is left when luck is taken out."""
    for samples in (1, 4):
        cells = guessers(2000, samples)
        fixed = best_fixed(cells, 0.0, UNIT).reward.mean()
        assert foresight(cells, 0.0, UNIT).reward.mean() == pytest.approx(1 - 2**-5, abs=0.01)
        assert luck_corrected_oracle(cells, 0.0, UNIT).reward.mean() == pytest.approx(fixed, abs=0.015)
    (table,) = dice(guessers(2000, 1), 0.0, UNIT)
    assert table.by_luck == pytest.approx(table.observed, abs=0.01)


def test_skill_outlives_the_correction() -> None:
    """Each query has one arm that always knows and one that never does: what one sample says, the other repeats."""
    knows = np.random.default_rng(2).integers(0, 2, 200)[:, None] == np.arange(2)
    cells = cells_of(np.repeat(knows[:, :, None], 2, axis=2).astype(float), np.full((200, 2, 2), 1e-4))
    assert luck_corrected_oracle(cells, 0.0, UNIT).reward.mean() == 1.0
    once = Cells(cells.score[:, :, :1], cells.cost_usd[:, :, :1], cells.mask[:, :, :1], cells.domains)
    (table,) = dice(once, 0.0, UNIT)
    assert table.kept == pytest.approx((1 - 0.75) / 0.5, abs=0.1)  # what one sample can show of it


def test_cross_fitting_grades_on_a_sample_that_did_not_choose() -> None:
    """Arm 0: right once in two draws; arm 1 never. Chosen after the right draw it is graded on the wrong one."""
    cells = cells_of([[[1.0, 0.0], [0.0, 0.0]]], [[[1e-4] * 2] * 2])
    assert cross_fitted(cells, 0.0, UNIT).reward[0] == 0.0
    with pytest.raises(ValueError, match="two samples"):
        cross_fitted(cells_of([[[1.0], [0.0]]], [[[0.0], [0.0]]]), 0.0, UNIT)


@unhurried
@given(worlds(arms=3, samples=3, queries=3), PENALTY)
def test_cross_fitting_is_never_above_the_informed_call(cells: Cells, penalty: float) -> None:
    assume((cells.mask.sum(axis=2) >= 2).all())
    fitted, informed = cross_fitted(cells, penalty, UNIT), informed_single(cells, penalty, UNIT)
    assert (fitted.reward <= informed.reward + 1e-9).all()


def test_the_zero_router_mixes_arms_and_wins_nothing_at_a_fixed_price_of_money() -> None:
    cells = cells_of([[[0.0], [1.0], [1.0]], [[0.0], [0.0], [1.0]]], [[[1e-3], [2e-3], [4e-3]]] * 2)
    hull = zero_router(cells)
    assert (hull.cost_usd.tolist(), hull.score.tolist()) == ([1e-3, 2e-3, 4e-3], [0.0, 0.5, 1.0])
    assert hull.at(3e-3) == pytest.approx(0.75)
    assert np.isnan(hull.at(5e-4))


def test_regret_is_paired_and_seeds_are_no_queries() -> None:
    bounds = all_bounds(tiny_replay(), np.arange(120), 0.5, UNIT)
    short = bounds["best fixed"].reward - 0.01
    found = regrets(np.stack([short, short + 0.02]), bounds.values(), Bootstrap(120))
    assert found["best fixed"].to_json() == pytest.approx({"value": 0.0, "low": 0.0, "high": 0.0}, abs=1e-9)
    assert found["oracle"].low > 0
    assert regret(short, bounds["best fixed"]).low == pytest.approx(0.01)
    with pytest.raises(ValueError, match="3 rewards beside a bound on 120 queries"):
        regret([0.0, 0.0, 0.0], bounds["oracle"])


@pytest.fixture(scope="module")
def routerbench(shared_data, tmp_path_factory) -> Replay:
    path = tmp_path_factory.mktemp("bounds") / "rb.duckdb"
    rows = tidy.read(shared_data / "routerbench.parquet")
    check(rows, "routerbench")
    with ResponseStore(path, write=True) as store:
        land(rows, store, {"form": "tidy", "path": "routerbench"})
    return Replay.load(path)


def test_published_figures_of_routerbench(routerbench: Replay) -> None:
    test, unit = routerbench.indices("test"), cost_unit(routerbench, routerbench.indices("train"))
    published = {0.0: (0.9757, 0.8796), 0.5: (0.9651, 0.7660), 1.0: (0.9560, 0.7526), 2.0: (0.9396, 0.7259)}
    for penalty, (best, static) in published.items():
        bounds = all_bounds(routerbench, test, penalty, unit)
        assert bounds["oracle"].reward.mean() == pytest.approx(best, abs=5e-5)
        assert bounds["best fixed"].reward.mean() == pytest.approx(static, abs=5e-5)
        for name in (
            "foresight",
            "informed sequential",
            "informed single",
        ):  # one sample: to know p is to know the draw
            assert bounds[name].reward == pytest.approx(bounds["oracle"].reward)
            assert bounds[name].exact.all()
    cells = Cells.of(routerbench, test)
    all_the_same = oracle(cells, 0.0, unit, otherwise="cheapest")
    assert (all_the_same.score.mean(), all_the_same.cost_usd.mean()) == pytest.approx((0.9757, 0.000211), abs=5e-5)
    assert all_the_same.cost_usd.mean() == pytest.approx(0.000211, abs=5e-7)
    cascade = verified_cascade(cells, 0.0, unit)
    assert cascade.score.mean() == pytest.approx(0.9757, abs=5e-5)
    assert cascade.cost_usd.mean() == pytest.approx(0.000939, abs=5e-7)


def test_the_luck_corrected_oracle_stands_where_published_routers_stand(routerbench: Replay) -> None:
    """Dice with the models' accuracies would do better than the oracle did: no gain over the best of each domain."""
    test, unit = routerbench.indices("test"), cost_unit(routerbench, routerbench.indices("train"))
    cells = Cells.of(routerbench, test)
    assert luck_corrected_oracle(cells, 0.5, unit).reward.mean() == pytest.approx(0.8020, abs=5e-5)
    assert all(table.by_luck > table.observed for table in dice(cells, 0.5, unit))
