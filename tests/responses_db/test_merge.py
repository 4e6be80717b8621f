"""Merging stores: nothing twice, nothing mixed, nothing overwritten unasked, and the same content in either order."""

import json
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given, settings

from responses_db import LabError, ResponseStore
from responses_db.merge import Merged, merge
from tests.responses_db.store_worlds import card, cells, content_hash, fill, model, query, response, score, world
from xrouter_sim.cli import main

few = settings(max_examples=6, deadline=None)


def merged(into: Path, other: Path, keep: Any = None) -> Merged:
    with ResponseStore(into, write=True) as store:
        return merge(store, other, keep)


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with ResponseStore(path) as store:
        return store.frame(sql).rows()


@given(ours=cells, theirs=cells)
@few
def test_either_order_gives_the_content_of_a_store_that_had_it_all_at_once(ours: Any, theirs: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one, other = fill(Path(folder, "one"), world(ours)), fill(Path(folder, "other"), world(theirs))
        third = Path(folder, "third")
        third.write_bytes(other.read_bytes())
        assert merged(third, one).conflicts.is_empty()
        assert merged(one, other).conflicts.is_empty()
        whole = fill(Path(folder, "whole"), world(list(dict.fromkeys([*ours, *theirs]))))
        assert content_hash(one) == content_hash(third) == content_hash(whole)
        assert merged(one, other).run_id is None


@given(content=cells)
@few
def test_merging_a_store_with_itself_or_its_copy_changes_nothing(content: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = fill(Path(folder, "s.duckdb"), world(content))
        copy = Path(folder, "copy.duckdb")
        copy.write_bytes(path.read_bytes())
        before = content_hash(path), rows(path, "SELECT count(*) FROM runs")
        for other in (path, copy):
            done = merged(path, other)
            assert done.run_id is None
            assert done.equal["responses"] == len(content)
            assert (content_hash(path), rows(path, "SELECT count(*) FROM runs")) == before


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Path, Path]:
    """Two stores that agree on d/0, answer d/1 differently, and mean different queries by d/2."""
    shared, grade = response("d/0", "a"), score(response("d/0", "a"))
    one = {
        "queries": [query("d/0"), query("d/1"), query("d/2")],
        "models": [model("a"), model("b")],
        "price_cards": [card("a")],
        "responses": [shared, response("d/1", "a", text="1"), response("d/2", "a"), response("d/2", "b")],
        "scores": [grade, score(response("d/1", "a"), 0.0), score(response("d/2", "a"))],
    }
    other = {
        "queries": [query("d/0"), query("d/1"), query("d/2", question="another", messages='["another"]')],
        "models": [model("a"), model("c")],
        "price_cards": [card("a", 2.0)],
        "responses": [shared, response("d/1", "a", text="2"), response("d/2", "a", text="else"), response("d/0", "c")],
        "scores": [grade, score(response("d/1", "a"), 1.0), score(response("d/1", "a"), 1.0, version=2)],
    }
    return fill(tmp_path / "one.duckdb", one), fill(tmp_path / "other.duckdb", other)


def test_conflicts_stop_a_merge_and_are_listed(stores: tuple[Path, Path]) -> None:
    one, other = stores
    before = content_hash(one)
    conflicts = merged(one, other).conflicts
    assert content_hash(one) == before
    assert conflicts.select("table", "column", "ours", "theirs").rows() == [
        ("queries", "messages", "[]", '["another"]'),
        ("queries", "question", "d/2", "another"),
        ("price_cards", "input_usd_per_mtok", "1.0", "2.0"),
        ("price_cards", "output_usd_per_mtok", "1.0", "2.0"),
        ("responses", "text", "1", "2"),
    ]


ANSWERS = (
    "SELECT query_id, model_id, text, count(score) FROM responses LEFT JOIN scores USING (response_id) GROUP BY ALL"
)


def test_ours_stand_with_all_that_hangs_on_them(stores: tuple[Path, Path]) -> None:
    done = merged(*stores, "ours")
    assert sorted(rows(stores[0], ANSWERS)) == [
        ("d/0", "a", "d/0 a 0", 1),
        ("d/0", "c", "d/0 c 0", 0),
        ("d/1", "a", "1", 1),
        ("d/2", "a", "d/2 a 0", 1),
        ("d/2", "b", "d/2 b 0", 0),
    ]
    assert rows(stores[0], "SELECT score FROM graded WHERE query_id = 'd/1'") == [(0.0,)]
    assert done.left_out == 1
    assert done.added == {"queries": 0, "models": 1, "price_cards": 0, "runs": 0, "responses": 1, "scores": 0}


def test_theirs_take_the_place_of_ours_with_all_that_hangs_on_them(stores: tuple[Path, Path]) -> None:
    done = merged(*stores, "theirs")
    assert sorted(rows(stores[0], ANSWERS)) == [
        ("d/0", "a", "d/0 a 0", 1),
        ("d/0", "c", "d/0 c 0", 0),
        ("d/1", "a", "2", 2),
        ("d/2", "a", "else", 0),
    ]
    assert rows(stores[0], "SELECT question FROM queries WHERE query_id = 'd/2'") == [("another",)]
    assert rows(stores[0], "SELECT input_usd_per_mtok FROM price_cards") == [(2.0,)]
    assert done.replaced["responses"] == 2
    assert done.removed == {"scores": 2, "responses": 1}
    assert rows(stores[0], "SELECT kind FROM runs WHERE kind = 'merge'") == [("merge",)]


@pytest.mark.parametrize("failed_in", ["one", "other"])
def test_an_answer_takes_the_place_of_a_failure_in_either_order(tmp_path: Path, failed_in: str) -> None:
    answer = response("d/0", "a")
    failure = response("d/0", "a", text=None, status="failed", error="timeout")
    base = {"queries": [query("d/0")], "models": [model("a")]}
    for name in ("one", "other"):
        content = {"responses": [failure]} if name == failed_in else {"responses": [answer], "scores": [score(answer)]}
        fill(tmp_path / name, base | content)
    assert merged(tmp_path / "one", tmp_path / "other").conflicts.is_empty()
    assert rows(tmp_path / "one", "SELECT status, text, score FROM graded") == [("ok", "d/0 a 0", 1.0)]


def test_runs_come_along_and_a_finished_run_takes_the_place_of_its_unfinished_self(tmp_path: Path) -> None:
    with ResponseStore(tmp_path / "one", write=True) as store:
        run_id = store.begin_run("harvest", {"seed": 1})
    (tmp_path / "other").write_bytes((tmp_path / "one").read_bytes())
    with ResponseStore(tmp_path / "other", write=True) as store:
        store.end_run(run_id, {"responses": 3})
        later = store.begin_run("import", {})
    assert merged(tmp_path / "one", tmp_path / "other").conflicts.is_empty()
    found = rows(tmp_path / "one", "SELECT run_id, counts FROM runs WHERE kind <> 'merge' ORDER BY kind")
    assert found == [(run_id, '{"responses": 3}'), (later, None)]


def test_a_score_of_another_value_under_one_version_is_a_conflict(tmp_path: Path) -> None:
    answer = response("d/0", "a")
    for name, value in (("one", 0.0), ("other", 1.0)):
        fill(
            tmp_path / name,
            {
                "queries": [query("d/0")],
                "models": [model("a")],
                "responses": [answer],
                "scores": [score(answer, value)],
            },
        )
    assert merged(tmp_path / "one", tmp_path / "other").conflicts.select("table", "ours", "theirs").rows() == [
        ("scores", "0.0", "1.0")
    ]
    merged(tmp_path / "one", tmp_path / "other", "theirs")
    assert rows(tmp_path / "one", "SELECT score FROM graded") == [(1.0,)]


def test_the_command_names_conflicts_and_the_file_that_lists_them(stores: tuple[Path, Path]) -> None:
    one, other = stores
    refused = CliRunner().invoke(main, ["store", "merge", str(other), "--into", str(one)])
    listed = one.with_name("one.duckdb.conflicts.csv")
    assert refused.exit_code == 1
    assert "in 3 rows (1 price_cards, 1 queries, 1 responses), listed in" in refused.stderr
    assert pl.read_csv(listed).height == 5
    done = CliRunner().invoke(main, ["store", "merge", str(other), "--into", str(one), "--keep", "ours", "--json"])
    facts = json.loads(done.stdout)
    assert facts["added"]["responses"] == 1
    assert facts["content_hash"] == content_hash(one)


def test_a_file_that_is_no_store_makes_no_new_store(tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("junk")
    done = CliRunner().invoke(main, ["store", "merge", str(tmp_path / "junk"), "--into", str(tmp_path / "new.duckdb")])
    assert done.exit_code == 1
    assert "is no DuckDB file" in done.stderr
    assert not (tmp_path / "new.duckdb").exists()


def test_a_merge_that_fails_halfway_leaves_everything_as_it_was(
    stores: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = stores
    before = content_hash(one)

    def fail(*_: object) -> None:
        raise LabError("the disk is full")

    with ResponseStore(one, write=True) as store:
        monkeypatch.setattr(store, "end_run", fail)
        with pytest.raises(LabError, match="the disk is full"):
            merge(store, other, "theirs")
    assert content_hash(one) == before
