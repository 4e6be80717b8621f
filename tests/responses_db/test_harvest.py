"""The whole way over loopback: harvest, harvest again, lose the store, be killed, be stopped."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from responses_db import ResponseStore
from responses_db.cells import all_cells
from responses_db.graders import Grader, Verdict, grade
from responses_db.harvest_config import read_config
from responses_db.query import Query
from tests.responses_db.worlds import simulated_config
from xrouter_sim.cli import main


def run(*arguments: object, exit_code: int = 0) -> str:
    """`xrouter-sim harvest …`, in this process: what it printed on stdout (and stderr, when it fails)."""
    result = CliRunner().invoke(main, ["harvest", *map(str, arguments)])
    assert result.exit_code == exit_code, result.output
    return result.stdout if exit_code == 0 else result.output


def facts(*arguments: object) -> dict[str, Any]:
    values = json.loads(run(*arguments, "--json", "--quiet"))
    assert isinstance(values, dict)
    return values


def servers() -> list[str]:
    """Simulated servers that run on this machine for this test's process tree, or that have lost their parent."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, parent = (folder / "cmdline").read_text(), (folder / "stat").read_text().split()[3]
        except OSError:
            continue
        if "responses_db.providers.simulated.server" in command and parent in ("1", str(os.getpid())):
            found.append(folder.name)
    return found


def test_a_second_run_does_nothing_new_and_says_so(tmp_path: Path) -> None:
    config, db = simulated_config(tmp_path, queries=8), tmp_path / "store.duckdb"
    words = run(config, "--db", db)
    assert "96 answers stored, 96 asked for and 0 from the cache" in words
    assert "SIMULATED" in words
    assert "nothing new" in run(config, "--db", db)
    with ResponseStore(db) as store:
        assert store.frame("SELECT provenance, status, count(*) FROM responses GROUP BY ALL").rows() == [
            ("simulated", "ok", 96)
        ]
        assert store.frame("SELECT count(*) FROM graded WHERE score IS NULL OR cost_usd IS NULL").item() == 0
        assert store.frame("SELECT DISTINCT provider FROM models").rows() == [("simulated",)]
        assert store.frame("SELECT counts ->> 'asked' FROM runs").rows() == [("96",)]
    assert servers() == []


def test_a_deleted_store_is_rebuilt_from_the_cache_without_a_call(tmp_path: Path) -> None:
    config = simulated_config(tmp_path, queries=8)
    first = facts(config, "--db", tmp_path / "one.duckdb", "--cache", tmp_path / "cache")
    again = facts(config, "--db", tmp_path / "two.duckdb", "--cache", tmp_path / "cache")
    assert (first["asked"], first["cached"]) == (96, 0)
    assert (again["asked"], again["cached"]) == (0, 96)
    assert again["content_hash"] == first["content_hash"]
    assert again["cost_usd"] == first["cost_usd"] > 0


def test_answers_depend_on_the_seed_and_not_on_order_or_on_how_many_are_asked(tmp_path: Path) -> None:
    config = simulated_config(tmp_path, queries=8)
    at_once = facts(config, "--db", tmp_path / "a" / "store.duckdb")
    facts(config, "--db", tmp_path / "b" / "store.duckdb", "--limit", 3)
    in_parts = facts(config, "--db", tmp_path / "b" / "store.duckdb", "--concurrency", 1)
    assert in_parts["asked"] == 60
    assert in_parts["content_hash"] == at_once["content_hash"]
    other = simulated_config(tmp_path, queries=8, seed=2)
    assert facts(other, "--db", tmp_path / "c" / "store.duckdb")["content_hash"] != at_once["content_hash"]
    assert "is there already with another metadata" in run(
        simulated_config(tmp_path, queries=9, seed=2), "--db", tmp_path / "a" / "store.duckdb", exit_code=1
    )


def test_progress_shows_rate_spend_and_what_is_left(tmp_path: Path) -> None:
    config, db = simulated_config(tmp_path, queries=120), tmp_path / "store.duckdb"
    facts(config, "--db", db, "--limit", 10)
    # One call at a time: a quick machine would be done before there is anything to show.
    bar = CliRunner().invoke(main, ["harvest", str(config), "--db", str(db), "--concurrency", "1"]).stderr
    assert re.search(r"\d+/1320 \[\d\d:\d\d<.*answers/s, \$\d+\.\d\d\]", bar), bar


def test_more_samples_of_the_same_config_are_only_added(tmp_path: Path) -> None:
    db = tmp_path / "store.duckdb"
    assert facts(simulated_config(tmp_path, queries=4, samples=1), "--db", db)["stored"] == 24
    assert facts(simulated_config(tmp_path, queries=4, samples=3), "--db", db)["asked"] == 48


def start(config: Path, folder: Path) -> subprocess.Popen[str]:
    """A harvest in a process of its own that has at least 200 answers in its cache and has not ended."""
    program = "import sys; from xrouter_sim.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        program,
        "harvest",
        str(config),
        "--db",
        str(folder / "s.duckdb"),
        "--concurrency",
        "4",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while cached(folder) < 200:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def cached(folder: Path) -> int:
    try:
        with sqlite3.connect(f"file:{folder / 'cache/cache.db'}?mode=ro", uri=True) as database:
            return int(database.execute("SELECT count(*) FROM Cache WHERE key <> 'layout'").fetchone()[0])
    except sqlite3.Error:
        return 0


def test_after_kill_9_nothing_that_was_cached_is_asked_again(tmp_path: Path) -> None:
    config = simulated_config(tmp_path, queries=120)
    process = start(config, tmp_path)
    process.kill()
    process.communicate()
    kept = cached(tmp_path)
    resumed = facts(config, "--db", tmp_path / "s.duckdb")
    assert resumed["missing"] == resumed["asked"] + resumed["cached"]
    assert resumed["asked"] == 1_440 - kept
    assert resumed["content_hash"] == facts(config, "--db", tmp_path / "straight.duckdb")["content_hash"]
    assert servers() == []  # the killed harvest's server has gone too


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_harvest_commits_what_arrived(tmp_path: Path, number: signal.Signals) -> None:
    process = start(simulated_config(tmp_path, queries=120), tmp_path)
    process.send_signal(number)
    words, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped before the end" in words
    with ResponseStore(tmp_path / "s.duckdb") as store:
        (stored,) = store.frame("SELECT count(*) FROM responses").row(0)
        assert store.frame("SELECT counts ->> 'stopped' FROM runs").rows() == [("true",)]
    assert stored == cached(tmp_path)
    assert 200 <= stored < 1_440


def test_a_grader_that_crashes_is_reported_and_gives_no_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(grader: Grader, text: str | None, query: Query) -> Verdict:
        if query.query_id == "sums/sum1":
            raise RuntimeError("the scorer fell over")
        return grade(grader, text, query)

    monkeypatch.setattr("responses_db.regrade.grade", crash)
    config, db = simulated_config(tmp_path, queries=4), tmp_path / "store.duckdb"
    words = run(config, "--db", db, exit_code=1)
    assert "12 answers could not be graded, first sums/sum1: numeric: RuntimeError('the scorer fell over')" in words
    with ResponseStore(db) as store:
        assert store.frame("SELECT count(*) FROM responses").item() == 48
        assert store.frame("SELECT count(*) FROM scores").item() == 36
    monkeypatch.undo()
    assert "graded 12 answers" in run(config, "--db", db)
    with ResponseStore(db) as store:
        assert store.frame("SELECT count(*) FROM scores").item() == 48


def test_a_request_tells_neither_reference_nor_difficulty(tmp_path: Path) -> None:
    for cell in all_cells(read_config(simulated_config(tmp_path, queries=8)), None):
        request = json.loads(cell.request())
        assert set(request) == {"model", "messages", "max_tokens", "logprobs", "seed"}
        assert request["messages"] == [{"role": "system", "content": cell.system}, *cell.query.messages]
        assert request["seed"] == cell.sample


MISTAKES = {
    'seed = "one"': "`seed` is 'one', but it takes a whole number",
    "samples = 0": "`samples` is 0, but must be at least 1",
    "sample = 2": "unknown key `sample` .did you mean 'samples'",
    'kind = "jsonnl"': "kind 'jsonnl' is not known .did you mean 'jsonl'",
    'grader = "numerical"': "grader 'numerical' is not known .did you mean 'numeric'",
    'models = ["sim-gpt-6"]': "no simulated model 'sim-gpt-6'; there are sim-gemini-pro",
    'kind = "simulator"': "kind 'simulator' is not known .did you mean 'simulated'",
    'path = "none.jsonl"': "no file .*none.jsonl",
    "plain = 3": "prompt style 'plain' must be a system prompt",
}


@pytest.mark.parametrize(("line", "message"), MISTAKES.items())
def test_a_mistake_in_the_config_is_one_line_that_says_what_where_and_how(
    line: str, message: str, tmp_path: Path
) -> None:
    path = simulated_config(tmp_path, queries=2)
    key = line.split(" = ")[0]
    lines = path.read_text().splitlines()
    section = 'kind = "jsonl"' if line.startswith('kind = "jsonn') else 'kind = "simulated"'
    old = [text for text in lines if text.startswith(f"{key} =") and (key != "kind" or text == section)]
    path.write_text("\n".join(lines).replace(old[0], line) if old else line + "\n" + "\n".join(lines))
    output = run(path, "--db", tmp_path / "store.duckdb", exit_code=1)
    error = output[output.index("Error: ") :].strip()
    assert "\n" not in error
    assert re.search(f"sums.toml.*{message}", error), error


def test_an_endpoint_takes_no_key_and_no_password_in_the_config(tmp_path: Path) -> None:
    path = simulated_config(tmp_path, queries=2)
    head = path.read_text().partition("[[providers]]")[0]
    live = head + '[[providers]]\nkind = "openai"\nname = "x"\n'
    for line, message in {
        'api_key = "sk-1"\nbase_url = "https://host/v1"': "no keys in configs",
        'base_url = "https://me:secret@host/v1"\n[[providers.models]]\nname = "m"': "no user, password",
        'base_url = "ftp://host"': "is no URL",
        'base_url = "https://host:port/v1"': "is no URL",
        'base_url = "https://host/v1"\nheaders = { X-A = "one\\ntwo" }': "must be a text in quotes, on one line",
    }.items():
        path.write_text(live + line)
        assert message in run(path, "--db", tmp_path / "store.duckdb", exit_code=1)
    assert not (tmp_path / "store.duckdb").exists()
