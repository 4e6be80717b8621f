"""Several folders as one table, and several seeds of a router kept apart from the noise of the queries."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from tests.xrouter_sim.fake_run import COST_UNIT, KINDS, edited, write_fake_run
from xrouter_sim.cli import main
from xrouter_sim.evaluation.joining import joined
from xrouter_sim.evaluation.report import write_report
from xrouter_sim.evaluation.robustness import robustness
from xrouter_sim.evaluation.runs import load_run
from xrouter_sim.evaluation.summary import as_json, summarise
from xrouter_sim.evaluation.words import verdicts
from xrouter_sim.reward import reward

QUERIES = 30
PLAIN = [router for router in KINDS if router not in ("rl", "knn", "cascade")]


def bench(
    root: Path, router: str, seed: int, *, keep: list[str] = PLAIN, bad_luck: float = 0.0, **manifest: Any
) -> Path:
    """A folder as a bench writes it: one router, one seed, and the plain routers beside it unless `keep` says less.

    `bad_luck` is a share of the router's answers that this seed gets wrong, so that seeds differ.
    """
    folder = write_fake_run(root / f"{router}-{seed}", queries=QUERIES, name=f"{router}-{seed}")
    rng = np.random.default_rng(seed)

    def one(rows: pl.DataFrame) -> pl.DataFrame:
        rows = rows.filter(pl.col("router").is_in([router, *keep])).with_columns(seed=pl.lit(seed, pl.Int64))
        unlucky = pl.Series(rng.random(rows.height) < bad_luck) & (rows["router"] == router)
        rows = rows.with_columns(score=pl.when(unlucky).then(0.0).otherwise("score"))
        earned = reward(rows["score"], rows["cost_usd"], rows["setting"], COST_UNIT)
        return rows.with_columns(reward=pl.Series(earned))

    for name in ("decisions", "robustness"):
        edited(folder, one, name)
    facts = json.loads((folder / "manifest.json").read_text())
    facts |= {"router": router, "seed": seed, "config": {"seed": seed}} | manifest
    (folder / "manifest.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three seeds of rl that differ, two of knn that do not; only rl's folders hold the plain routers."""
    root = tmp_path_factory.mktemp("bench")
    rl = [bench(root, "rl", seed, bad_luck=0.1 * seed) for seed in range(3)]
    return [*rl, *(bench(root, "knn", seed, keep=[]) for seed in range(2))]


def test_folders_that_agree_are_one_run(folders: list[Path]) -> None:
    (run,) = joined([load_run(folder) for folder in folders])
    assert set(run.panels) == {"rl", "knn", *PLAIN}
    assert {router: panel.seeds for router, panel in run.panels.items() if router in ("rl", "knn")} == {
        "rl": [0, 1, 2],
        "knn": [0, 1],
    }
    assert run.router == "rl"
    assert [made["name"] for made in run.manifest["joined"]] == [folder.name for folder in folders]
    assert {item.router for item in robustness(run, replicates=100)} == {"rl", "knn", *PLAIN}


def test_order_of_folders_changes_no_figure(folders: list[Path]) -> None:
    runs = [load_run(folder) for folder in folders]
    one, other = (summarise(*joined(order), replicates=100) for order in (runs, runs[::-1]))
    for row in one.routers:
        assert as_json(other[row.router]) == as_json(row)


def test_joint_figures_are_means_over_seeds_with_the_queries_interval(folders: list[Path]) -> None:
    (run,) = joined([load_run(folder) for folder in folders])
    found = summarise(run, replicates=200)
    rows = pl.concat(pl.read_parquet(folder / "decisions.parquet") for folder in folders[:3]).filter(router="rl")
    by_seed = rows.filter(setting=1.0).group_by("seed").agg(pl.col("reward").mean()).sort("seed")["reward"].to_list()
    rl = found["rl"]
    assert (found.queries, found.seeds, rl.seeds) == (QUERIES, 3, 3)
    assert rl.headline.reward[1.0].value == pytest.approx(np.mean(by_seed))
    assert rl.spread.reward[1.0].values == pytest.approx(by_seed)
    assert rl.spread.reward[1.0].sd == pytest.approx(np.std(by_seed, ddof=1))
    assert rl.spread.reward[1.0].sd > 0
    assert found["knn"].spread.reward[1.0].sd == 0
    assert rl.spread.aiq.low < rl.spread.aiq.high


def test_more_seeds_of_the_same_decisions_narrow_no_interval(tmp_path: Path) -> None:
    """What pooling seeds as if they were queries would do."""
    one = summarise(load_run(bench(tmp_path / "one", "rl", 0)), replicates=200)
    five = joined([load_run(bench(tmp_path / "five", "rl", seed)) for seed in range(5)])
    many = summarise(*five, replicates=200)
    assert (one.seeds, many.seeds) == (1, 5)
    for figure in ("accuracy", "cost_per_1000_usd", "aiq"):
        few, more = (getattr(found["rl"].headline, figure) for found in (one, many))
        assert (more.value, more.low, more.high) == pytest.approx((few.value, few.low, few.high))


def test_differences_are_paired_by_seed_and_told_when_seeds_disagree(folders: list[Path]) -> None:
    (run,) = joined([load_run(folder) for folder in folders])
    found = summarise(run, replicates=200)
    knn, rl = found["knn"], found["rl"]
    same = [value - knn.spread.reward[1.0].values[0] for value in rl.spread.reward[1.0].values]
    assert knn.leads["reward"] == pytest.approx(same)  # knn's seeds are alike, and it has no third
    assert rl.leads == {}
    assert any("3 seeds of rl earn from" in line for line in verdicts(found))
    assert "of 3" in verdicts(found)[0] or "each of 3 seeds" in verdicts(found)[0]


def test_one_router_of_two_minds_is_two_routers(tmp_path: Path) -> None:
    """The same name and seed with other decisions, or trained with other settings, must not pass for seeds."""
    first = bench(tmp_path / "a", "rl", 0, config={"seed": 0, "width": 64})
    second = bench(tmp_path / "b", "rl", 1, config={"seed": 1, "width": 128})
    (run,) = joined([load_run(first), load_run(second)])
    assert {"rl (rl-0)", "rl (rl-1)"} < set(run.panels)
    assert "rl" not in run.panels
    assert run.router == "rl (rl-0)"
    again = bench(tmp_path / "c", "rl", 0, bad_luck=0.5)
    (run,) = joined([load_run(bench(tmp_path / "d", "rl", 0)), load_run(again)])
    assert len([router for router in run.panels if router.startswith("rl (")]) == 2
    assert summarise(run, replicates=100).seeds == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts["store"] | {"content_hash": "another"},
        lambda facts: facts["store"] | {"costs": {"kind": "nominal", "nominal_usd_a_call": {"a": 1.0}}},
    ],
)
def test_folders_that_do_not_agree_stay_apart(change: Callable[[Any], Any], tmp_path: Path) -> None:
    one, other = bench(tmp_path, "rl", 0), bench(tmp_path, "rl", 1)
    facts = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(facts | {"store": change(facts)}))
    assert len(joined([load_run(one), load_run(other)])) == 2


def test_evaluate_prints_one_table_and_leaves_out_what_is_no_folder(folders: list[Path]) -> None:
    stray = folders[0].parent / "table.json"
    stray.write_text("{}")
    arguments = [str(path) for path in (*folders, stray)]
    result = CliRunner().invoke(main, ["evaluate", *arguments, "--replicates", "100", "--all"])
    assert result.exit_code == 0, result.output
    assert f"leaving out {stray}" in result.stderr
    assert result.stdout.count("\nrouter  ") == 2  # the comparison, and the field's scores
    assert "seed sd (n)" in result.stdout
    assert "cascade" not in result.stdout
    told = CliRunner().invoke(main, ["evaluate", *arguments, "--replicates", "100", "--json"])
    (run,) = json.loads(told.stdout)["runs"]
    rl = next(row for row in run["routers"] if row["router"] == "rl")
    assert [made["router"] for made in run["joined"]] == ["rl"] * 3 + ["knn"] * 2
    assert len(rl["spread"]["reward"]["1"]["values"]) == 3
    assert run["missing"] == []


def test_the_report_has_one_section_for_them(folders: list[Path], tmp_path: Path) -> None:
    write_report(folders, tmp_path / "page.html", replicates=100)
    page = (tmp_path / "page.html").read_text()
    assert page.count('<section class="run"') == 1
    assert "spread over seeds" in page
    assert "Runs side by side" not in page
