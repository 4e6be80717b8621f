"""Two harvesters, full disks, clocks that jump, damaged caches, kills: a clear line or correct work, nothing lost."""

import itertools
import json
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from responses_db import LabError, ResponseStore
from responses_db.harvester import _Harvest
from tests.responses_db.worlds import FlakyEndpoint, completion, fill, simulated_config
from xrouter_sim.bench.faults import paid_twice
from xrouter_sim.cli import main

PROGRAM = [sys.executable, "-c", "from xrouter_sim.cli import main; main()"]


def harvest(config: Path, db: Path, limit_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """As a process of its own, which may write no file larger than the limit."""

    def limit() -> None:
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    command = [*PROGRAM, "harvest", str(config), "--db", str(db), "--json", "--quiet"]
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, timeout=120, check=False)


def facts(config: Path, db: Path) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["harvest", str(config), "--db", str(db), "--json", "--quiet"])
    assert result.exit_code == 0, result.output
    values: dict[str, Any] = json.loads(result.stdout)
    return values


def one_error(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the store `store.duckdb`, as a harvest does."""
    script = "import sys\nfrom responses_db import ResponseStore\nwith ResponseStore(sys.argv[1], write=True):"
    script += "\n    print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(tmp_path / "store.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.communicate()


def test_a_second_harvester_on_a_store_asks_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    db = tmp_path / "store.duckdb"
    line = one_error(harvest(simulated_config(tmp_path, queries=2), db))
    assert f"{db} is in use by another process (PID {holder.pid}): wait for it to end, or give another --db" in line
    assert not (tmp_path / "cache").exists()


def test_on_a_full_disk_it_stops_in_one_line_and_the_next_run_asks_only_for_the_rest(tmp_path: Path) -> None:
    config, db = simulated_config(tmp_path, queries=60), tmp_path / "store.duckdb"
    line = one_error(harvest(config, db, limit_bytes=600_000))
    assert "cannot use the cache (disk I/O error): check the disk and its free space" in line
    kept = entries(tmp_path / "cache")
    assert kept > 0
    again = facts(config, db)
    assert again["missing"] == again["asked"] + again["cached"]
    assert again["asked"] <= 720 - kept
    assert again["left"] == 0


def test_when_the_cache_cannot_be_written_what_arrived_still_goes_into_the_store(
    tmp_path: Path, endpoint: FlakyEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise LabError("cache: no space")

    monkeypatch.setattr("responses_db.cache.ResponseCache.put", full)
    with pytest.raises(LabError, match="cache: no space"):
        fill(tmp_path, endpoint, *(f"ok {n}" for n in range(30)))
    asked = endpoint.asked.total()
    assert asked <= 8  # those under way
    with ResponseStore(tmp_path / "store.duckdb") as store:
        assert store.frame("SELECT count(*) FROM responses").item() == asked


def test_when_the_store_cannot_be_written_what_arrives_still_goes_into_the_cache(
    tmp_path: Path, endpoint: FlakyEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise LabError("store: no space")

    questions = [f"ok {n}" for n in range(30)]
    with monkeypatch.context() as patch:
        patch.setattr(_Harvest, "_record", full)
        with pytest.raises(LabError, match="store: no space"):
            fill(tmp_path, endpoint, *questions)
    asked = endpoint.asked.total()
    done, _ = fill(tmp_path, endpoint, *questions)
    assert done.cached == asked
    assert endpoint.asked.total() == 30


def test_a_clock_that_runs_backwards_alters_nothing(
    tmp_path: Path, endpoint: FlakyEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    years = itertools.count(start=2e9, step=-3e7)
    monkeypatch.setattr(time, "time", lambda: next(years))
    questions = ["ok", "busy-once", "broken-once"]
    done, rows = fill(tmp_path, endpoint, *questions, provider="requests_per_minute = 6000")
    assert rows["status"].to_list() == ["ok"] * 3
    assert rows["latency_s"].is_between(0, 5).all()
    (tmp_path / "store.duckdb").unlink()
    again, _ = fill(tmp_path, endpoint, *questions)
    assert (again.cached, again.asked) == (3, 0)
    assert 0 < done.seconds < 60


def entries(cache: Path) -> int:
    try:
        with sqlite3.connect(f"file:{cache / 'cache.db'}?mode=ro", uri=True) as database:
            return int(database.execute("SELECT count(*) FROM Cache WHERE key <> 'layout'").fetchone()[0])
    except sqlite3.Error:
        return 0


def test_a_damaged_cached_answer_is_asked_again_and_said(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    fill(tmp_path, endpoint, "ok 1", "ok 2", "ok 3")
    (tmp_path / "store.duckdb").unlink()
    with sqlite3.connect(tmp_path / "cache" / "cache.db") as database:
        sql = "UPDATE Cache SET value = CAST(replace(value, 'yes', 'no!') AS BLOB) WHERE rowid = "
        database.execute(sql + "(SELECT max(rowid) FROM Cache)")
    done, rows = fill(tmp_path, endpoint, "ok 1", "ok 2", "ok 3")
    assert (done.damaged, done.cached, done.asked) == (1, 2, 1)
    assert rows["answer"].to_list() == ["yes"] * 3


def test_an_answer_that_holds_the_key_is_kept_without_it(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    key = "sk-very-secret-0123456789"
    endpoint.odd = completion(f"Your key is {key}. Answer: yes")
    _, rows = fill(tmp_path, endpoint, "odd")
    assert rows["text"].to_list() == ["Your key is ***. Answer: yes"]
    assert not [f for f in tmp_path.rglob("*") if f.is_file() and key.encode() in f.read_bytes()]


def test_a_cache_from_elsewhere_serves_another_store(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    fill(tmp_path, endpoint, "ok 1", "ok 2")
    other = tmp_path / "other"
    other.mkdir()
    shutil.copytree(tmp_path / "cache", other / "cache")
    done, _ = fill(other, endpoint, "ok 1", "ok 2", "ok 3")
    assert (done.cached, done.asked) == (2, 1)


# The benches, in their quick forms.


def bench(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["bench", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    figures: dict[str, Any] = json.loads(result.stdout)
    return figures


def test_a_short_fault_trial_finds_nothing_lost_paid_twice_or_overspent() -> None:
    figures = bench("faults", "--calls", 150, "--kills", 2, "--seed", 1)
    names = ("cells_missing", "cells_duplicated", "answers_paid_twice", "overspend_usd", "files_with_key")
    assert [figures[name] for name in names] == [0] * 5
    assert figures["kills"] in (1, 2), "a quick machine may be done before the second"
    assert figures["outcomes"]["answered"] >= 150
    assert min(figures["outcomes"].get(fault, 0) for fault in ("429", "500", "malformed")) > 0


def test_the_trial_tells_an_answer_in_flight_at_a_kill_from_one_that_was_lost() -> None:
    """Rows of a ledger: request, what was done, when it was asked and sent. One kill, at 10."""
    kill = [(10.0, 10.1)]
    again = ("a", "answered", 20.0, 20.1)
    assert paid_twice([("a", "answered", 9.0, 10.5), again], kill)[:2] == (0, 1)
    assert paid_twice([("a", "answered", 9.0, 9.5), again], kill)[:2] == (0, 1)
    assert paid_twice([("a", "answered", 5.0, 8.0), again], kill)[:2] == (1, 0)
    assert paid_twice([("a", "answered", 11.0, 12.0), again], kill)[:2] == (1, 0)
    assert paid_twice([("a", "malformed", 5.0, 6.0), again], kill)[:2] == (0, 0)


def test_the_speed_bench_compares_a_whole_harvest_with_a_bare_client() -> None:
    figures = bench("harvest", "--calls", 200, "--concurrency", 50, "--rounds", 1)
    ratio = figures["harvest_requests_s"] / figures["bare_client_requests_s"]
    assert figures["vs_bare_client"] == pytest.approx(ratio, rel=0.02)
    assert 0 < ratio < 1.5
