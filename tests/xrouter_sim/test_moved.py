"""`xrouter-sim compare`: differences as the decisions give them, queries that moved, and what cannot be compared."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from responses_db.errors import LabError
from tests.xrouter_sim.fake_run import edited, rewarded, write_fake_run
from xrouter_sim.cli import main
from xrouter_sim.evaluation.moved import Comparison, compare_runs, did
from xrouter_sim.evaluation.runs import load_run

Q3 = "q0003"


@pytest.fixture(scope="module")
def a(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("runs") / "a", queries=30, name="a")


@pytest.fixture(scope="module")
def b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, but for one query that comes out right for another price, at λ = 1, of the trained router."""
    here = (pl.col("router") == "rl") & (pl.col("setting") == 1.0) & (pl.col("query_id") == Q3)

    def change(rows: pl.DataFrame) -> pl.DataFrame:
        return rewarded(
            rows.with_columns(
                score=pl.when(here).then(1 - pl.col("score")).otherwise("score"),
                cost_usd=pl.when(here).then(2 * pl.col("cost_usd")).otherwise("cost_usd"),
            )
        )

    return edited(write_fake_run(tmp_path_factory.mktemp("runs") / "b", queries=30, name="b"), change)


def compared(a: Path, b: Path, **options: object) -> Comparison:
    return compare_runs(load_run(a), load_run(b), replicates=100, **options)  # type: ignore[arg-type]


def test_one_changed_query_is_the_one_that_moved(a: Path, b: Path) -> None:
    found = compared(a, b)
    assert (found.at, found.queries, found.same) == (1.0, 30, 29)
    assert found.better_a + found.better_b == 1
    assert found.cheaper_a == found.cheaper_b == 0
    moved = found.won_by_a + found.won_by_b
    assert [row.query_id for row in moved] == [Q3]
    assert moved[0].cost_usd_b == pytest.approx(2 * (moved[0].cost_usd_a or 0))
    assert "/plain" in moved[0].did_a
    gap = moved[0].score_a - moved[0].score_b
    assert found.difference.accuracy.value == pytest.approx(gap / 30)
    assert sum(part.queries * (part.accuracy.value or 0) for part in found.domains) == pytest.approx(gap)


def test_sides_swapped_change_the_sign(a: Path, b: Path) -> None:
    there, back = compared(a, b), compared(b, a)
    assert there.difference.reward[1.0].value == pytest.approx(-(back.difference.reward[1.0].value or 0))
    assert there.difference.reward[1.0].low == pytest.approx(-(back.difference.reward[1.0].high or 0))
    assert (there.better_a, there.won_by_a) == (back.better_b, [*map(_turned, back.won_by_b)])


def _turned(row: object) -> object:
    facts = dict(vars(row))
    sides = {key: facts[f"{key[:-1]}{'b' if key[-1] == 'a' else 'a'}"] for key in facts if key[-2:] in ("_a", "_b")}
    return type(row)(**facts | sides)


def test_two_routers_of_one_run_differ_as_their_decisions_do(a: Path) -> None:
    found = compared(a, a, routers=("knn", "always:tiny-1b"), at=2.0, show=3)
    rows = pl.read_parquet(a / "decisions.parquet").filter(setting=2.0)
    knn, tiny = (rows.filter(router=name).sort("query_id") for name in ("knn", "always:tiny-1b"))
    assert found.difference.accuracy.value == pytest.approx((knn["score"] - tiny["score"]).mean())
    assert found.better_a == ((knn["score"] - tiny["score"]) > 0).sum()
    gaps = [row.reward_a - row.reward_b for row in found.won_by_a]
    assert len(gaps) <= 3
    assert gaps == sorted(gaps, reverse=True)
    assert min(gaps) > 0


def test_runs_of_other_queries_are_compared_on_those_they_share(a: Path, tmp_path: Path) -> None:
    fewer = edited(
        write_fake_run(tmp_path / "fewer", queries=30, name="fewer"),
        lambda rows: rows.filter(pl.col("query_id") < "q0020"),
    )
    found = compared(a, fewer)
    assert found.queries == 20
    assert any("10 of a" in note for note in found.notes)
    assert found.difference.accuracy.value == 0


def test_what_cannot_be_compared_says_how_to_mend_it(a: Path) -> None:
    run = load_run(a)
    elsewhere = replace(run, manifest=run.manifest | {"store": {"content_hash": "ffff"}})
    with pytest.raises(LabError, match=r"different answers \(stores 0123456789ab and ffff\): train both on one store"):
        compare_runs(run, elsewhere)
    with pytest.raises(LabError, match="in different units"):
        compare_runs(run, replace(run, manifest=run.manifest | {"cost_unit_usd": 0.02}))
    with pytest.raises(LabError, match="no router nobody: choose among rl, "):
        compared(a, a, routers=("nobody", None))
    with pytest.raises(LabError, match=r"choose --at among 0, 0\.25"):
        compared(a, a, at=0.3)


def test_the_command_prints_words_or_json(a: Path, b: Path) -> None:
    told = CliRunner().invoke(main, ["compare", str(a), str(b), "--replicates", "100"])
    assert told.exit_code == 0, told.output
    for words in ("A: rl of a", "SIMULATED", "A − B  [95%]", "29 came out the same", Q3, "reward, λ=2"):
        assert words in told.output
    plain = CliRunner().invoke(main, ["compare", str(a), str(b), "--replicates", "100", "--json"])
    facts = json.loads(plain.output)
    assert facts["difference"]["accuracy"].keys() == {"value", "low", "high"}
    assert len(facts["won_by_a"] + facts["won_by_b"]) == 1
    wrong = CliRunner().invoke(main, ["compare", str(a), str(a.parent / "none")])
    assert wrong.exit_code == 1
    assert wrong.output.count("\n") == 1


def test_an_episode_in_words() -> None:
    call = {"turn": 0, "model": "small", "prompt_style": "cot", "outcome": "ok"}
    assert did([call], "call", "small") == "small/cot"
    assert did([], "direct", None) == "answers itself"
    assert did([call, call | {"model": "large"}], "vote", "large") == "small/cot + large/cot → vote large"
    assert did([call | {"outcome": "timeout"}], "none", None) == "small/cot (timeout) → no answer"
