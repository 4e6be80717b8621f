"""A run's figures: recomputed from the decisions by hand, the same in any order, and errors that tell how to mend."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from responses_db.errors import LabError
from tests.xrouter_sim.fake_run import COST_UNIT, DOMAINS, KINDS, SETTINGS, write_fake_run
from xrouter_sim.cli import main
from xrouter_sim.evaluation.robustness import robustness
from xrouter_sim.evaluation.runs import load_run
from xrouter_sim.evaluation.summary import RunSummary, as_json, compare, summarise
from xrouter_sim.evaluation.words import between_runs, interval, money, provenance_words, verdicts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("runs") / "fake")


@pytest.fixture(scope="module")
def summary(folder: Path) -> RunSummary:
    return summarise(load_run(folder), replicates=200)


def test_figures_are_those_of_the_decisions_file(folder: Path, summary: RunSummary) -> None:
    rows = pl.read_parquet(folder / "decisions.parquet").filter(router="knn", setting=1.0)
    knn = summary["knn"]
    assert knn.kind == "single-shot"
    assert knn.headline.accuracy.value == pytest.approx(rows["score"].mean())
    assert knn.headline.cost_per_1000_usd.value == pytest.approx(1000 * rows["cost_usd"].mean())
    assert knn.headline.reward[1.0].value == pytest.approx(rows["reward"].mean())
    assert knn.calls_per_episode.value == pytest.approx(1)
    assert [point.setting for point in knn.points] == list(SETTINGS)


def test_differences_are_the_reference_minus_the_other(summary: RunSummary) -> None:
    rl, knn = summary["rl"].headline, summary["knn"].headline
    difference = summary["knn"].difference
    assert difference is not None
    assert difference.reward[1.0].value == pytest.approx(rl.reward[1.0].value - knn.reward[1.0].value)
    assert summary["rl"].difference is None


def test_the_oracle_has_no_regret_and_nobody_less(summary: RunSummary) -> None:
    assert summary.oracle == "oracle"
    for lam, regret in summary["oracle"].regret.items():
        assert (regret.value, regret.low, regret.high) == (0, 0, 0), lam
    assert all((row.regret[1.0].value or 0) >= 0 for row in summary.routers)


def test_every_aiq_is_a_mean_score(summary: RunSummary) -> None:
    values = {row.router: row.headline.aiq.value for row in summary.routers}
    assert all(value is not None and 0 <= value <= 1 for value in values.values())


def test_behaviours_add_up_and_traits_may_overlap(summary: RunSummary) -> None:
    for row in summary.routers:
        assert sum(figure.value or 0 for figure in row.behaviour.values()) == pytest.approx(1)
    free = summary["rl"].points[0].behaviour
    assert free["parallel"] == pytest.approx(1 / 3)
    assert summary["cascade"].traits["none"].value == pytest.approx(1 / 60)


def test_the_dearest_model_reaches_its_accuracy_at_its_cost(summary: RunSummary) -> None:
    assert summary.best_model == "<b>grand</b>"
    assert summary["always:<b>grand</b>"].cost_share_to_reach[1.0].value == pytest.approx(1)
    assert summary["always:tiny-1b"].cost_share_to_reach[0.95].value is None


def test_shares_are_told_by_domain(summary: RunSummary) -> None:
    for table in (summary["rl"].calls_by_domain, summary["rl"].cost_by_domain):
        assert sorted(table) == sorted(DOMAINS)
        assert all(sum(line.values()) == pytest.approx(1) for line in table.values())


def test_order_of_rows_changes_nothing(folder: Path, summary: RunSummary, tmp_path: Path) -> None:
    mixed = write_fake_run(tmp_path / "fake")
    rows = pl.read_parquet(folder / "decisions.parquet").sample(fraction=1, shuffle=True, seed=3)
    rows.write_parquet(mixed / "decisions.parquet")
    again = summarise(load_run(mixed), replicates=200)
    for row in summary.routers:
        assert as_json(again[row.router]) == as_json(row)


def test_seeds_are_averaged_and_do_not_pass_for_more_queries(tmp_path: Path) -> None:
    one, three = (load_run(write_fake_run(tmp_path / f"{n}", queries=30, seeds=n)) for n in (1, 3))
    many = summarise(three, replicates=200)
    assert (many.seeds, many.queries) == (3, 30)
    rows = three.decisions.filter(router="knn", setting=2.0)
    assert many["knn"].headline.reward[2.0].value == pytest.approx(rows["reward"].mean())
    assert summarise(one, replicates=200).queries == 30


def test_robustness_is_reward_kept(folder: Path) -> None:
    found = {(item.router, item.profile): item for item in robustness(load_run(folder), replicates=200)}
    assert len(found) == 3 * len(KINDS)
    assert found["rl", "calm"].kept.value == pytest.approx(1)
    kept, calm = found["rl", "prices"], found["rl", "calm"]
    assert kept.kept.value == pytest.approx(kept.reward.value / calm.reward.value)
    assert kept.kept.value < 1
    assert found["knn", "failures"].no_answer.value == pytest.approx(0.1)


def test_verdicts_give_the_answer_and_whom_the_choice_of_rival_favours(summary: RunSummary) -> None:
    best = summary.best_one_call["reward λ=1"].router
    lines = verdicts(summary)
    assert best in lines[0]
    assert "in its favour" in lines[0]
    assert any("regret to oracle" in line for line in lines)


def test_provenance_says_simulated_in_words() -> None:
    assert "All 12 answers in this store are SIMULATED" in provenance_words(
        {"store": {"provenance": {"simulated": 12}}}
    )
    mixed = provenance_words({"store": {"provenance": {"simulated": 1, "imported": 2}}})
    assert "Of the 3 answers" in mixed
    assert "SIMULATED" in mixed
    assert "does not say" in provenance_words({"store": {}})


def test_numbers_as_words() -> None:
    assert money(0.0812345) == "$0.0812"
    assert money(None) == "–"
    assert interval(summarise_nothing()) == "–"


def summarise_nothing() -> Any:
    from xrouter_sim.evaluation.statistics import Figure

    return Figure(None)


def test_runs_on_the_same_queries_are_compared_in_pairs(folder: Path, tmp_path: Path) -> None:
    run, fewer = load_run(folder), load_run(write_fake_run(tmp_path / "fewer", queries=30))
    same = compare(run, run, at=1.0, replicates=100)
    assert same is not None
    assert same.reward[1.0].value == 0
    assert compare(run, fewer, at=1.0) is None
    assert "not comparable" in between_runs([run, fewer], 1.0, 100, 0)[0]


def test_evaluate_prints_a_table_verdicts_and_provenance(folder: Path) -> None:
    result = CliRunner().invoke(main, ["evaluate", str(folder), "--all", "--replicates", "200"])
    assert result.exit_code == 0, result.output
    assert "SIMULATED" in result.output
    assert "R(λ=0.5)" in result.output
    for router in KINDS:
        assert f"\n{router} " in result.output
    assert "\n- rl earns" in result.output


def test_evaluate_folds_poor_single_models_away_but_says_so(folder: Path, summary: RunSummary) -> None:
    result = CliRunner().invoke(main, ["evaluate", str(folder), "--replicates", "200"])
    singles = [row.router for row in summary.ranked() if row.router.startswith("always:")]
    hidden = [single for single in singles if f"\n{single} " not in result.output]
    assert hidden
    assert f"… and {len(hidden)} more single models (--all)" in result.output
    assert f"\nalways:{summary.best_model} " in result.output


def test_evaluate_json_holds_the_same_figures_and_no_nan(folder: Path, summary: RunSummary) -> None:
    result = CliRunner().invoke(main, ["evaluate", str(folder), "--json", "--replicates", "200"])
    assert result.exit_code == 0, result.output
    (run,) = json.loads(result.output, parse_constant=lambda name: pytest.fail(f"JSON holds {name}"))["runs"]
    rl = next(row for row in run["routers"] if row["router"] == "rl")
    assert rl["headline"]["reward"]["1"] == summary["rl"].headline.reward[1.0].to_json()
    assert set(rl["headline"]["aiq"]) == {"value", "low", "high"}
    assert run["provenance"]["counts"] == {"simulated": 720}


def test_another_reference_and_setting(folder: Path) -> None:
    found = summarise(load_run(folder), reference="knn", at=2.0, replicates=100)
    assert (found.reference, found.at) == ("knn", 2.0)
    assert found["rl"].difference is not None


def _drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _spoil(name: str, text: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_text(text)

    return spoil


def _edit(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "decisions.parquet"
        change(pl.read_parquet(path)).write_parquet(path)

    return edit


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_drop("manifest.json"), "no manifest.json"),
        (_drop("decisions.parquet"), "no decisions.parquet"),
        (_spoil("manifest.json", "{"), "is not JSON"),
        (_spoil("manifest.json", "[]"), "no JSON object"),
        (_spoil("manifest.json", '{"router": "rl", "store": {}}'), "lacks cost_unit_usd"),
        (_spoil("manifest.json", '{"router": "rl", "store": {}, "cost_unit_usd": 0}'), "must be a positive number"),
        (_spoil("decisions.parquet", "not parquet"), "the file is damaged"),
        (_spoil("training.parquet", "not parquet"), "the file is damaged"),
        (_edit(lambda rows: rows.drop("reward")), "lacks the columns reward"),
        (_edit(lambda rows: rows.head(0)), "holds no decisions"),
        (_edit(lambda rows: rows.with_columns(score=pl.lit(None, pl.Float64))), "have no score"),
        (_edit(lambda rows: rows.with_columns(score=pl.lit(math.nan))), "have no score"),
        (_edit(lambda rows: rows.with_columns(cost_usd=pl.lit(None, pl.Float64))), "have no cost_usd"),
        (_edit(lambda rows: rows.with_columns(pl.col("reward") + 0.1)), "rewards are not score"),
        (_edit(lambda rows: rows.head(-1)), "are due"),
        (_edit(lambda rows: pl.concat([rows, rows.head(1)])), "are due"),
        (_edit(lambda rows: rows.filter(router="rl").with_columns(router=pl.lit("other"))), "has no router rl"),
    ],
)
def test_a_spoilt_run_is_told_in_one_line(spoil: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", queries=12)
    spoil(folder)
    result = CliRunner().invoke(main, ["evaluate", str(folder)])
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1


def test_a_missing_run_or_setting_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="xrouter-sim train"):
        load_run(tmp_path / "nowhere")
    run = load_run(write_fake_run(tmp_path / "run", queries=12))
    with pytest.raises(LabError, match="choose --at among"):
        summarise(run, at=0.7)
    with pytest.raises(LabError, match="choose --reference among"):
        summarise(run, reference="nobody")


def test_a_run_may_lack_what_is_optional(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", queries=12)
    for name in ("robustness.parquet", "training.parquet"):
        (folder / name).unlink()
    run = load_run(folder)
    assert run.training is None
    assert robustness(run) == []
    assert run.cost_unit == COST_UNIT
