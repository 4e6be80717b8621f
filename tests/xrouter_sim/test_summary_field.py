"""A run's scores of the field, its bounds and its standard routers: recomputed from the decisions by hand."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from tests.xrouter_sim.fake_run import COST_UNIT, SKILL, USD, edited, write_fake_run
from tests.xrouter_sim.tiny import tiny_replay
from xrouter_sim.bounds import all_bounds
from xrouter_sim.cli import main
from xrouter_sim.evaluation.metrics import selection_entropy
from xrouter_sim.evaluation.predictions import PREDICTIONS, predictions
from xrouter_sim.evaluation.runs import load_run
from xrouter_sim.evaluation.statistics import Figure
from xrouter_sim.evaluation.summary import RunSummary, as_json, summarise
from xrouter_sim.replay import Replay, cost_unit
from xrouter_sim.routers.fixed import Cheapest
from xrouter_sim.routers.table import Table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("runs") / "fake")


@pytest.fixture(scope="module")
def summary(folder: Path) -> RunSummary:
    return summarise(load_run(folder), replicates=200)


def test_every_comparison_has_the_standard_routers_or_says_what_it_lacks(folder: Path, tmp_path: Path) -> None:
    assert summarise(load_run(folder), replicates=100).missing == []
    poorer = write_fake_run(tmp_path / "poorer", queries=12)
    edited(poorer, lambda rows: rows.filter(~pl.col("router").is_in(["knn", "random"])))
    assert summarise(load_run(poorer), replicates=100).missing == ["random", "knn"]
    result = CliRunner().invoke(main, ["evaluate", str(poorer), "--replicates", "100"])
    assert result.exit_code == 0, result.output
    assert "\nkNN: not in this run\n" in result.output
    assert "\nrandom: not in this run\n" in result.output
    assert "best single" in result.output


def test_a_run_of_one_router_alone_is_told_with_all_that_it_lacks(tmp_path: Path) -> None:
    alone = write_fake_run(tmp_path / "alone", queries=12)
    edited(alone, lambda rows: rows.filter(router="rl"))
    found = summarise(load_run(alone), replicates=100)
    assert found.missing == ["best single", "cheapest", "random", "table", "knn", "oracle"]
    assert (found.bounds, found.zero_router, found.best_model) == ([], None, None)
    assert "no decisions of single models" in found.bounds_note
    assert found["rl"].field.optimal_selection.value is None
    assert found["rl"].field.arena.value is not None
    result = CliRunner().invoke(main, ["evaluate", str(alone), "--replicates", "100"])
    assert result.exit_code == 0, result.output


def test_the_fields_scores_are_those_of_the_decisions_file(folder: Path, summary: RunSummary) -> None:
    rows = pl.read_parquet(folder / "decisions.parquet")
    here = rows.filter(setting=1.0)
    singles = here.filter(pl.col("router").str.starts_with("always:"))
    right = singles.filter(score=1.0).sort("cost_usd").group_by("query_id").first()
    knn = here.filter(router="knn").join(right.select("query_id", "answered_by", "cost_usd"), on="query_id")
    found = summary["knn"].field
    assert found.optimal_selection.value == pytest.approx((knn["answered_by"] == knn["answered_by_right"]).mean())
    paid = (knn["cost_usd_right"] / knn["cost_usd"]).clip(upper_bound=1)
    assert found.optimal_cost.value == pytest.approx(paid.mean())
    possible = singles.group_by("query_id").agg(pl.col("score").max())["score"].mean()
    assert found.optimal_accuracy.value == pytest.approx(here.filter(router="knn")["score"].mean() / possible)
    taken = here.filter(router="knn")["answered_by"].value_counts()["count"].to_numpy()
    assert found.selection_entropy.value == pytest.approx(float(selection_entropy(taken, len(SKILL))))


def test_the_best_single_model_and_the_oracle_stand_where_they_must(summary: RunSummary) -> None:
    best, oracle = summary[f"always:{summary.best_model}"].field, summary["oracle"]
    assert (best.performance_gain.value, best.cost_save.value) == (0, 0)
    assert best.quality_neutral_cost.value == pytest.approx(1)
    assert best.selection_entropy.value == 0
    assert oracle.field.optimal_selection.value == pytest.approx(1)
    assert oracle.field.optimal_accuracy.value == pytest.approx(1)
    assert oracle.regret_to["oracle"].value == pytest.approx(0, abs=1e-12)
    assert all((row.regret_to["oracle"].value or 0) >= -1e-12 for row in summary.routers)


def test_bounds_are_in_order_and_say_where_they_come_from(summary: RunSummary) -> None:
    assert [bound.name for bound in summary.bounds][:2] == ["oracle", "foresight"]
    values = [bound.reward.value or 0 for bound in summary.bounds]
    assert values == sorted(values, reverse=True)
    assert "one draw" in summary.bounds_note
    knn = summary["knn"]
    mine = knn.headline.reward[1.0].value
    for bound in summary.bounds:
        assert knn.regret_to[bound.name].value == pytest.approx(bound.reward.value - mine)


def test_the_store_at_hand_gives_the_bounds_and_else_the_draws_that_were_played(
    tiny_store: Path, tmp_path: Path
) -> None:
    """With one answer a cell both are the same."""
    db = shutil.copy(tiny_store, tmp_path / "store.duckdb")
    trained = CliRunner().invoke(main, ["train", "table", "--db", str(db), "--out", str(tmp_path / "run")])
    assert trained.exit_code == 0, trained.output
    run = load_run(tmp_path / "run")
    stored = summarise(run, replicates=100)
    replay = Replay.load(db)
    due = all_bounds(replay, replay.indices("test"), 1.0, cost_unit(replay, replay.indices("train")))
    assert "in the store" in stored.bounds_note
    assert {b.name: b.reward.value for b in stored.bounds} == pytest.approx(
        {name: bound.reward.mean() for name, bound in due.items()}
    )
    Path(db).unlink()
    played = summarise(run, replicates=100)
    assert "as played" in played.bounds_note
    assert as_json(played["table"].regret_to) == as_json(stored["table"].regret_to)
    assert stored["oracle"].regret_to["oracle"].value == pytest.approx(0)


def test_a_failed_episode_is_in_every_denominator(summary: RunSummary) -> None:
    """The cascade ends in none on one query of sixty."""
    assert summary["cascade"].field.invalid_actions.value == pytest.approx(1 / 60)
    assert summary["knn"].field.invalid_actions.value == 0


def test_the_zero_router_mixes_single_models(summary: RunSummary) -> None:
    zero = summary.zero_router
    assert zero is not None
    singles = [row for row in summary.routers if row.router.startswith("always:")]
    assert zero.aiq.value >= max(row.headline.aiq.value for row in singles)
    assert zero.difference.value == pytest.approx(summary["rl"].headline.aiq.value - zero.aiq.value)
    assert set(zero.hull) <= {row.hull[0] for row in singles}


def test_prices_times_anything_change_no_figure_without_a_unit(
    folder: Path, tmp_path: Path, summary: RunSummary
) -> None:
    """With the unit of cost scaled as well, rewards are the same, and so must be whatever is normalised."""
    dear = write_fake_run(tmp_path / "dear")
    calls = pl.col("calls").list.eval(pl.element().struct.with_fields(cost=pl.element().struct.field("cost") * 7))
    edited(dear, lambda rows: rows.with_columns(pl.col("cost_usd") * 7, calls=calls))
    manifest = json.loads((dear / "manifest.json").read_text())
    (dear / "manifest.json").write_text(json.dumps(manifest | {"cost_unit_usd": COST_UNIT * 7}))
    again = summarise(load_run(dear), replicates=200)
    for row in summary.routers:
        other = again[row.router]
        for figure in ("aiq", "aiq_code_form"):
            assert getattr(other.headline, figure).value == pytest.approx(getattr(row.headline, figure).value)
        for name in ("performance_gain", "cost_save", "pareto_distance", "quality_neutral_cost", "optimal_cost"):
            value = getattr(row.field, name).value
            assert getattr(other.field, name).value == (value if value is None else pytest.approx(value))
    assert again["rl"].field.arena.value < summary["rl"].field.arena.value  # RouterArena's is in dollars


def test_two_models_have_gaps_and_thresholds(tmp_path: Path) -> None:
    pair = {name: SKILL[name] for name in ("small-8b", "<b>grand</b>")}
    usd = {name: USD[name] for name in pair}
    folder = write_fake_run(tmp_path / "pair", queries=200, skill=pair, usd=usd)
    found = summarise(load_run(folder), replicates=200)
    weak, strong = found["always:small-8b"], found["always:<b>grand</b>"]
    assert weak.field.apgr.value == pytest.approx(0)
    assert strong.field.apgr.value == pytest.approx(0)  # one point, at a share of 1: nothing below it
    assert strong.field.cpt[0.5].value == pytest.approx(1)
    assert weak.field.cpt[0.5].value is None
    knn = found["knn"].field
    assert 0 < knn.cpt[0.5].value < knn.cpt[0.8].value < 1
    assert knn.apgr.value > 0.5  # a router that calls at random recovers half
    scaled = summarise(load_run(_times(folder, 1000)), replicates=200)
    assert as_json(scaled["knn"].field.cpt) == as_json(knn.cpt)
    result = CliRunner().invoke(main, ["evaluate", str(folder), "--replicates", "200"])
    assert "CPT(50%)" in result.output


def test_more_than_two_models_have_neither(summary: RunSummary) -> None:
    assert summary["rl"].field.cpt == {}
    assert summary["rl"].field.apgr == Figure(None)


def _times(folder: Path, factor: float) -> Path:
    edited(folder, lambda rows: rows.with_columns(pl.col("cost_usd") * factor))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"cost_unit_usd": COST_UNIT * factor}))
    return folder


def test_predictions_beside_the_decisions_are_calibrated_or_not(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", queries=12)
    rows = pl.read_parquet(folder / "decisions.parquet").filter(
        pl.col("router").str.starts_with("always:"), setting=0.0
    )
    told = rows.select(
        "router", "seed", "query_id", "score", model=pl.col("router").str.strip_prefix("always:"), predicted="score"
    ).with_columns(router=pl.lit("knn"))
    flat = told.with_columns(predicted=pl.lit(0.5), router=pl.lit("table"))
    pl.concat([told, flat]).select(PREDICTIONS.names()).write_parquet(folder / "predictions.parquet")
    found = summarise(load_run(folder), replicates=100)
    assert found["knn"].calibration.brier.value == 0
    assert found["knn"].calibration.expected_calibration_error == 0
    assert found["table"].calibration.brier.value == pytest.approx(0.25)
    assert found["rl"].calibration is None
    json.dumps(as_json(found), allow_nan=False)


def test_routers_that_foretell_scores_are_asked_for_them() -> None:
    replay = tiny_replay()
    train, test = replay.indices("train"), replay.indices("test")
    table, cheapest = Table(), Cheapest()
    for router in (table, cheapest):
        router.fit(replay, train, 0.002, 0)
    found = predictions([table, cheapest], replay, test, seed=3)
    assert found.schema == PREDICTIONS
    assert found["router"].unique().to_list() == ["table"]
    assert found.height == len(test) * replay.arms
    row = found.row(4, named=True)  # the second query's second model
    assert (row["query_id"], row["model"]) == (replay.query_ids[test[1]], "b")
    assert row["predicted"] == pytest.approx(table.predicted_score[test[1], 1])
    assert row["score"] == pytest.approx(replay.mean_score[test[1], 1])
