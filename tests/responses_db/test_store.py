"""The store: what it keeps, what it refuses, what a cost is, and what its content hash means."""

import hashlib
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from responses_db import LabError, ResponseStore

QUERY = {
    "query_id": "d/1",
    "dataset": "d",
    "split": "train",
    "domain": "sums",
    "messages": '[{"role":"user","content":"1+1?"}]',
    "question": "1+1?",
    "grader": "exact",
}
RESPONSE = {
    "run_id": "r",
    "query_id": "d/1",
    "model_id": "m",
    "prompt_style": "plain",
    "sample_index": 0,
    "text": "2",
    "input_tokens": 1_000,
    "output_tokens": 100,
    "provenance": "local",
    "status": "ok",
}
CARD = {
    "model_id": "m",
    "valid_from": date(2020, 1, 1),
    "input_usd_per_mtok": 10.0,
    "cached_input_usd_per_mtok": 1.0,
    "output_usd_per_mtok": 20.0,
    "source": "test",
}
CELL_ID = hashlib.md5(b"d/1\x1fm\x1fplain\x1f0").hexdigest()


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, infer_schema_length=None)


def add_model(store: ResponseStore, model_id: str) -> None:
    store.append("models", frame({"model_id": model_id, "provider": "p"}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with one query, one model and one ungraded response."""
    path = tmp_path / "new" / "store.duckdb"
    with ResponseStore(path, write=True) as store:
        store.append("queries", frame(QUERY))
        add_model(store, "m")
        store.append("responses", frame(RESPONSE))
    return path


def test_a_response_is_read_back_under_the_id_of_its_cell(path: Path) -> None:
    with ResponseStore(path) as store:
        (row,) = store.frame("SELECT * FROM responses").to_dicts()
    assert {name: row[name] for name in RESPONSE} == RESPONSE
    assert row["response_id"] == CELL_ID
    assert row["reported_cost_usd"] is None


def test_readers_cannot_write(path: Path) -> None:
    with ResponseStore(path) as store, pytest.raises(LabError, match="read-only"):
        add_model(store, "n")


def test_any_number_of_readers(path: Path) -> None:
    with ResponseStore(path) as one, ResponseStore(path) as other:
        assert one.content_hash() == other.content_hash()


def test_an_equal_key_is_refused_and_the_transaction_with_it(path: Path) -> None:
    with ResponseStore(path, write=True) as store:
        with pytest.raises(LabError, match=r"nothing was written.*Duplicate key"), store.transaction():  # noqa: PT012
            add_model(store, "n")
            store.append("responses", frame(RESPONSE))
        assert store.frame("SELECT model_id FROM models")["model_id"].to_list() == ["m"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("status", "fine"),
        ("provenance", "dreamt"),
        ("input_tokens", -1),
        ("reported_cost_usd", -0.1),
        ("latency_s", -1.0),
    ],
)
def test_the_schema_refuses_what_cannot_be(path: Path, column: str, value: object) -> None:
    with ResponseStore(path, write=True) as store, pytest.raises(LabError, match="breaks a rule of the store"):
        store.append("responses", frame(RESPONSE | {"sample_index": 1, column: value}))


def test_an_exception_of_the_caller_rolls_back_and_comes_through(path: Path) -> None:
    with ResponseStore(path, write=True) as store:
        with pytest.raises(ZeroDivisionError), store.transaction():  # noqa: PT012
            add_model(store, "n")
            raise ZeroDivisionError
        assert store.frame("SELECT * FROM models").height == 1


def test_new_only_keeps_the_rows_whose_key_is_new(path: Path) -> None:
    other = RESPONSE | {"sample_index": 1}
    with ResponseStore(path) as store:
        new = store.new_only("responses", frame(RESPONSE, other))
    assert new.to_dicts() == [other]


def test_a_run_is_noted_when_it_begins_and_when_it_ends(path: Path) -> None:
    with ResponseStore(path, write=True) as store:
        run_id = store.begin_run("harvest", {"seed": 1})
        assert store.frame("SELECT counts, ended_at FROM runs").row(0) == (None, None)
        store.end_run(run_id, {"responses": 3})
        counts, finished = store.frame("SELECT counts, ended_at >= started_at FROM runs").row(0)
    assert run_id.startswith("harvest-")
    assert (counts, finished) == ('{"responses": 3}', True)


class TestCost:
    """The column cost_usd of the view `graded`."""

    @staticmethod
    def cost(path: Path, response: dict[str, Any], *cards: dict[str, Any]) -> float | None:
        with ResponseStore(path, write=True) as store:
            store.append("responses", frame(RESPONSE | {"sample_index": 1} | response))
            store.append("price_cards", frame(*cards) if cards else pl.DataFrame())
            cost: float | None = store.frame("SELECT cost_usd FROM graded WHERE sample_index = 1").item()
        return cost

    def test_it_is_tokens_times_the_card(self, path: Path) -> None:
        assert self.cost(path, {}, CARD) == pytest.approx((1_000 * 10 + 100 * 20) / 1e6)

    def test_cached_input_has_its_own_price(self, path: Path) -> None:
        assert self.cost(path, {"cached_input_tokens": 800}, CARD) == pytest.approx(
            (200 * 10 + 800 * 1 + 100 * 20) / 1e6
        )

    def test_cached_input_costs_as_other_input_where_the_card_is_silent(self, path: Path) -> None:
        silent = CARD | {"cached_input_usd_per_mtok": None}
        assert self.cost(path, {"cached_input_tokens": 800}, silent) == pytest.approx((1_000 * 10 + 100 * 20) / 1e6)

    def test_the_latest_card_in_force_counts(self, path: Path) -> None:
        newer = CARD | {"valid_from": date(2021, 1, 1), "output_usd_per_mtok": 0.0}
        future = CARD | {"valid_from": date(2999, 1, 1), "output_usd_per_mtok": 99.0}
        assert self.cost(path, {}, CARD, newer, future) == pytest.approx(0.01)

    def test_a_billed_cost_is_used_as_it_is(self, path: Path) -> None:
        assert self.cost(path, {"reported_cost_usd": 0.5}, CARD) == 0.5

    def test_without_a_card_or_a_price_or_tokens_it_is_unknown_and_not_zero(self, path: Path) -> None:
        assert self.cost(path, {}) is None
        with ResponseStore(path, write=True) as store:
            store.append("price_cards", frame(CARD | {"output_usd_per_mtok": None}))
            assert store.frame("SELECT cost_usd FROM graded")["cost_usd"].to_list() == [None, None]
            store.con.execute("UPDATE price_cards SET output_usd_per_mtok = 1")
            store.con.execute("UPDATE responses SET output_tokens = NULL")
            assert store.frame("SELECT cost_usd FROM graded")["cost_usd"].to_list() == [None, None]


def test_the_latest_version_of_the_querys_own_grader_gives_the_score(path: Path) -> None:
    score = {"response_id": CELL_ID, "grader": "exact", "grader_version": 1, "score": 0.0, "answer": "3"}
    better = score | {"grader_version": 2, "score": 1.0, "answer": "2"}
    foreign = score | {"grader": "judge", "grader_version": 9, "score": 0.5}
    with ResponseStore(path, write=True) as store:
        store.append("scores", frame(score, better, foreign))
        rows = store.frame("SELECT score, answer, grader_version FROM graded").rows()
    assert rows == [(1.0, "2", 2)]


class TestContentHash:
    def test_it_does_not_depend_on_the_order_of_rows_nor_on_when_they_came(self, tmp_path: Path) -> None:
        other = RESPONSE | {"sample_index": 1}
        hashes = set()
        for name, rows in {
            "a": [RESPONSE, other],
            "b": [other | {"run_id": "later", "latency_s": 9.0}, RESPONSE],
        }.items():
            with ResponseStore(tmp_path / name, write=True) as store:
                store.append("responses", frame(*rows))
                hashes.add(store.content_hash())
        assert len(hashes) == 1

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE responses SET text = '3'",
            "UPDATE responses SET reported_cost_usd = 0",
            "UPDATE responses SET provenance = 'simulated'",
            "UPDATE queries SET split = 'test'",
            "DELETE FROM models",
            "INSERT INTO price_cards VALUES ('m', '2020-01-01', 1, NULL, 1, 's')",
        ],
    )
    def test_it_depends_on_what_was_asked_answered_and_paid(self, path: Path, change: str) -> None:
        with ResponseStore(path, write=True) as store:
            before = store.content_hash()
            store.con.execute(change)
            assert store.content_hash() != before


class TestOpening:
    def test_a_missing_store_is_named_with_the_cure(self, tmp_path: Path) -> None:
        with pytest.raises(LabError, match=r"no store at .*none\.duckdb: fill one with"):
            ResponseStore(tmp_path / "none.duckdb")
        assert not list(tmp_path.iterdir())

    def test_a_database_of_something_else_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "other.duckdb"
        with duckdb.connect(str(path)) as con:
            con.execute("CREATE TABLE mine (i INTEGER)")
        for write in (False, True):
            with pytest.raises(LabError, match="is a DuckDB file but no store"):
                ResponseStore(path, write=write)
        with duckdb.connect(str(path)) as con:
            assert con.execute("SELECT table_name FROM duckdb_tables()").fetchall() == [("mine",)]

    def test_a_newer_schema_asks_for_an_upgrade_of_the_program(self, path: Path) -> None:
        with ResponseStore(path, write=True) as store:
            store.con.execute("INSERT INTO migrations VALUES (99, now())")
        for write in (False, True):
            with pytest.raises(LabError, match="schema version 99, newer than this program: upgrade xrouter-sim"):
                ResponseStore(path, write=write)

    def test_an_empty_database_becomes_a_store_when_written_to(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.duckdb"
        duckdb.connect(str(path)).close()
        with pytest.raises(LabError, match="is empty: any harvest or import"):
            ResponseStore(path)
        with ResponseStore(path, write=True) as store:
            assert store.frame("SELECT version FROM migrations")["version"].to_list() == [1, 2]

    def test_opening_again_changes_nothing(self, path: Path, tmp_path: Path) -> None:
        with ResponseStore(path) as store:
            before = store.content_hash()
        shutil.copy(path, tmp_path / "copy.duckdb")
        for _ in range(2):
            with ResponseStore(tmp_path / "copy.duckdb", write=True) as store:
                assert store.content_hash() == before
                assert store.frame("SELECT * FROM migrations").height == 2
