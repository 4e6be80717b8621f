"""Bad moments for a store: a killed writer, an older schema, half a file, a clock set back, a remembered hash."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from responses_db import LabError, ResponseStore
from responses_db.store import MIGRATIONS
from responses_db.verify import verify
from tests.responses_db.store_worlds import CELLS, card, fill, frame, model, query, response, score, world
from xrouter_sim.cli import main


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return fill(tmp_path / "s.duckdb", world(CELLS))


def in_another_process(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"from responses_db import ResponseStore\n{code}", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("write", [True, False])
def test_whoever_comes_while_another_process_writes_is_told_which(path: Path, write: bool) -> None:
    with ResponseStore(path, write=True):
        done = in_another_process(f"import sys; ResponseStore(sys.argv[1], write={write})", path)
    last = done.stderr.splitlines()[-1]
    assert f"{path} is in use by another process (PID {os.getpid()}): wait for it to end, or give another --db" in last


def test_what_was_committed_survives_a_kill_and_the_rest_is_gone(tmp_path: Path) -> None:
    """A new store, so that the write-ahead log that is left holds the migrations as well."""
    path = tmp_path / "s.duckdb"
    code = """
import os, sys, polars as pl
store = ResponseStore(sys.argv[1], write=True)
store.append("models", pl.DataFrame([{"model_id": "kept", "provider": "p"}]))
store.con.execute("BEGIN")
store.append("models", pl.DataFrame([{"model_id": "lost", "provider": "p"}]))
os.kill(os.getpid(), 9)
"""
    assert in_another_process(code, path).returncode == -9
    with ResponseStore(path) as store:
        assert store.frame("SELECT model_id FROM models")["model_id"].to_list() == ["kept"]


def test_half_a_file_is_refused_in_one_line_and_left_as_it_is(path: Path) -> None:
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half)
    for write in (False, True):
        with pytest.raises(LabError, match=str(path)) as raised:
            ResponseStore(path, write=write).compute_hash()
        assert "\n" not in str(raised.value)
    assert path.read_bytes() == half


class TestUpgrade:
    @pytest.fixture
    def old(self, tmp_path: Path) -> Path:
        """A store of schema version 1 with one graded and priced answer."""
        path = tmp_path / "old.duckdb"
        with duckdb.connect(str(path)) as con:
            con.execute("CREATE TABLE migrations (version INTEGER PRIMARY KEY, applied TIMESTAMPTZ)")
            con.execute(MIGRATIONS[0])
            con.execute("INSERT INTO migrations VALUES (1, now())")
            con.execute("INSERT INTO queries VALUES ('d/0', 'd', 'train', 'x', '[]', 'q', NULL, 'exact', NULL)")
            con.execute("INSERT INTO models VALUES ('a', 'p', NULL)")
            con.execute("INSERT INTO runs VALUES ('r', 'import', '{}', '{}', '{}', now(), now())")
            con.execute("INSERT INTO price_cards VALUES ('a', '2020-01-01', 1, NULL, 1, 's')")
            con.execute(
                """INSERT INTO responses (response_id, run_id, query_id, model_id, prompt_style, sample_index, text,
                input_tokens, output_tokens, provenance, status) VALUES (
                md5(concat_ws(chr(31), 'd/0', 'a', 'plain', 0)), 'r', 'd/0', 'a', 'plain', 0, 'Maybe so',
                1, 1, 'live', 'ok')"""
            )
            con.execute("INSERT INTO scores SELECT response_id, 'exact', 1, 1, 'so' FROM responses")
        return path

    def test_a_reader_is_told_how(self, old: Path) -> None:
        with pytest.raises(
            LabError, match=r"has the older schema 1: `xrouter-sim store upgrade --db .*brings it up to date"
        ):
            ResponseStore(old)

    def test_it_loses_nothing(self, old: Path) -> None:
        done = CliRunner().invoke(main, ["store", "upgrade", "--db", str(old)])
        assert done.exit_code == 0
        with ResponseStore(old) as store:
            assert store.frame("SELECT text, text_length, hedges, score, cost_usd FROM graded").rows() == [
                ("Maybe so", 8, 1, 1.0, 2e-6)
            ]
            assert verify(store) == []

    def test_killed_halfway_it_can_be_done_again(self, old: Path) -> None:
        """DuckDB 2.0 cannot read the log of an ALTER of this table, so no migration may have one: see schema_2.sql."""
        code = """
import os, sys
store = ResponseStore(sys.argv[1], write=True)
os._exit(9)  # committed, with no checkpoint
"""
        assert in_another_process(code, old).returncode == 9
        with ResponseStore(old, write=True) as store:
            assert store.frame("SELECT max(version) FROM migrations").item() == len(MIGRATIONS)
            assert store.frame("SELECT count(*) FROM responses").item() == 1

    def test_there_must_be_a_store(self, tmp_path: Path) -> None:
        done = CliRunner().invoke(main, ["store", "upgrade", "--db", str(tmp_path / "none")])
        assert done.exit_code == 1
        assert not list(tmp_path.iterdir())


def test_a_clock_set_back_breaks_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are told apart by a random part; verify notes that they end before they begin."""

    class EarlierEachTime(datetime):
        moments = iter(datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=days) for days in range(9))

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return next(cls.moments)

    monkeypatch.setattr("responses_db.store.datetime", EarlierEachTime)
    with ResponseStore(path, write=True) as store:
        first, second = store.begin_run("harvest", {}), store.begin_run("harvest", {})
        for run_id in (first, second):
            store.end_run(run_id, {"responses": 1})
        assert first != second
        assert [finding.count for finding in verify(store) if finding.check == "clock"] == [2]
        assert all(finding.note for finding in verify(store))


class TestRememberedHash:
    def test_it_is_taken_from_the_file_beside_the_store(self, path: Path) -> None:
        noted = path.with_name(path.name + ".hash")
        with ResponseStore(path) as store:
            right = store.content_hash()
            assert right == store.compute_hash()
        noted.write_text(noted.read_text().replace(right, "f" * 64))
        with ResponseStore(path) as store:
            assert store.content_hash() == "f" * 64

    def test_any_change_makes_it_forgotten_even_one_past_the_store(self, path: Path) -> None:
        with ResponseStore(path) as store:
            before = store.content_hash()
        with duckdb.connect(str(path)) as con:
            con.execute("UPDATE responses SET text = 'x' WHERE sample_index = 0")
        with ResponseStore(path) as store:
            assert store.content_hash() == store.compute_hash() != before

    def test_a_store_that_takes_the_place_of_another_has_its_own(self, path: Path, tmp_path: Path) -> None:
        with ResponseStore(path) as store:
            before = store.content_hash()
        times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        other = fill(tmp_path / "other.duckdb", world(CELLS[:-1]))
        shutil.copy(other, path)
        os.utime(path, ns=times)
        with ResponseStore(path) as store:
            assert store.content_hash() == store.compute_hash() != before

    def test_nothing_is_remembered_while_rows_are_only_in_the_log(self, path: Path) -> None:
        code = """
import os, sys, polars as pl
store = ResponseStore(sys.argv[1], write=True)
store.append("models", pl.DataFrame([{"model_id": "new", "provider": "p"}]))
os._exit(0)
"""
        in_another_process(code, path)
        assert path.with_name(path.name + ".wal").exists()
        with ResponseStore(path) as store:
            assert store.content_hash() == store.compute_hash()
        assert not path.with_name(path.name + ".hash").exists()

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"state": 1}', '{"content_hash": "x"}'])
    def test_a_damaged_note_is_as_good_as_none(self, path: Path, content: str) -> None:
        path.with_name(path.name + ".hash").write_text(content)
        with ResponseStore(path) as store:
            assert store.content_hash() == store.compute_hash()

    def test_a_folder_that_cannot_be_written_to_is_no_hindrance(self, path: Path) -> None:
        blocker = path.with_name(path.name + ".hash")
        blocker.mkdir()
        with ResponseStore(path) as store:
            assert store.content_hash() == store.compute_hash()
        assert list(path.parent.glob("*.hash.*")) == []


def test_scores_may_name_their_response_by_its_cell(path: Path) -> None:
    given = response("d/0", "a", 1)
    with ResponseStore(path, write=True) as store:
        store.append("price_cards", frame([card("a")]))
        store.append("scores", frame([score(given, 0.5, 7)]))
        sql = "SELECT score FROM graded WHERE query_id = 'd/0' AND model_id = 'a' AND sample_index = 1"
        assert store.frame(sql).item() == 0.5


def test_a_large_batch_may_land_in_any_order_and_small_ones_keep_theirs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("responses_db.store.LARGE_BATCH", 2)
    with ResponseStore(path, write=True) as store:
        store.append("models", frame([model(f"m{i}") for i in range(5)]))
        store.append("queries", frame([query("d/9")]))
        assert store.frame("SELECT current_setting('preserve_insertion_order')").item() is True
        assert store.frame("SELECT count(*) FROM models").item() == 7
