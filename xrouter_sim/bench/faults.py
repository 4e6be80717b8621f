"""Does a harvest lose an answer, pay for one twice or spend too much, when everything that can go wrong does?

A faulty endpoint in a process of its own keeps a ledger of what it bills. `xrouter-sim harvest` is run against it as a
user would, killed with SIGKILL at random moments, and run again, first with a budget that is too small for all answers,
then with one that is enough. At the end the store is compared with the ledger.

An answer may be billed twice only if it was in flight at a kill: asked before it, and not yet on disk. The endpoint
sees when an answer was sent, not when it is on disk; so one is excused when it was sent after the kill or at most
GRACE_S before, and at most as many are excused for a kill as there were calls at a time.
"""

import json
import os
import random
import secrets
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from responses_db import ResponseStore
from responses_db.errors import LabError
from xrouter_sim.bench.endpoint import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    Behaviour,
    count_calls,
    read_ledger,
    running_endpoint,
)

FAULTS = {"429": 0.05, "500": 0.05, "malformed": 0.02, "hang": 0.01, "cut": 0.01}
BILLED = ("answered", "malformed", "cut")
CONCURRENCY = 64
TIMEOUT_S = 3.0
GRACE_S = 1.0
KEY_VARIABLE = "XROUTER_BENCH_API_KEY"

MICRO_USD = {"input": 1, "output": 10}
"""Micro-USD a token, which are USD a million tokens."""

CALL_USD = (INPUT_TOKENS * MICRO_USD["input"] + OUTPUT_TOKENS * MICRO_USD["output"]) / 1e6

FIRST_BUDGET, WHOLE_BUDGET = 0.4, 2.0
"""Of what all answers cost. The rest of the second is for what was cut off, which counts at the most it can cost."""

LOST_AT_A_KILL = 4 * CONCURRENCY
"""Answers' worth that a kill may take out of a budget: what is in flight, noted ahead, at the most that it can cost."""

CONFIG = """
max_tokens = 64

[prompt_styles]
plain = "End with a line 'Answer: …'."

[[tasks]]
kind = "jsonl"
path = "questions.jsonl"
grader = "exact"

[[providers]]
kind = "openai"
name = "faulty"
base_url = "{url}"
api_key_env = "{variable}"
concurrency = {concurrency}
timeout_s = {timeout_s}

[[providers.models]]
name = "faulty-1"
price = {{ input = {input}, output = {output}, valid_from = 2026-01-01, source = "the bench" }}
"""

Row = tuple[str, str, float, float]


@dataclass
class Trial:
    """One trial: its folder, the endpoint, and what has happened so far. Kill times are of the monotonic clock."""

    folder: Path
    url: str
    key: str
    calls: int
    draw: random.Random
    moments: list[int]
    kills: list[tuple[float, float]] = field(default_factory=list)
    overspent_usd: float = 0.0
    runs: int = 0

    @property
    def db(self) -> Path:
        return self.folder / "store.duckdb"


def run(calls: int, kills: int, seed: int) -> dict[str, object]:
    """The figures. `cells_missing`, `cells_duplicated`, `answers_paid_twice`, `overspend_usd` must be 0."""
    began = time.monotonic()
    behaviour = Behaviour(delay_s=0.02, retry_after_s=0.2, faults=FAULTS, seed=seed, keep_ledger=True)
    with TemporaryDirectory() as folder, running_endpoint(behaviour) as url:
        draw = random.Random(seed)
        moments = sorted(draw.randrange(int(0.95 * calls)) for _ in range(kills))
        trial = Trial(Path(folder), url, f"sk-{secrets.token_hex(24)}", calls, draw, moments)
        _write_config(trial)
        _harvest_until_whole(trial)
        ledger = read_ledger(url)
        twice, in_flight, longest = paid_twice(ledger, trial.kills)
        missing, duplicated, failed = _cells(trial)
        return {
            "cells_missing": missing,
            "cells_duplicated": duplicated,
            "answers_paid_twice": twice,
            "overspend_usd": round(trial.overspent_usd, 6),
            "files_with_key": _files_with(trial.key, trial.folder),
            "kills": len(trial.kills),
            "runs": trial.runs,
            "asked_again_as_in_flight_at_a_kill": in_flight,
            "longest_from_sent_to_kill_s": round(longest, 3),
            "cells_failed": failed,
            "requests": len(ledger),
            "outcomes": dict(Counter(done for _, done, _, _ in ledger)),
            "billed_usd": round(_billed_usd(ledger), 6),
            "seconds": round(time.monotonic() - began, 1),
        }


def paid_twice(ledger: Sequence[Row], kills: Sequence[tuple[float, float]]) -> tuple[int, int, float]:
    """Answers that were billed and asked for again: those that nothing excuses, and those in flight at a kill.

    Third, the longest seconds from when an excused answer was sent to the kill.
    """
    answered = defaultdict[str, list[Row]](list)
    for row in ledger:
        if row[1] == "answered":
            answered[row[0]].append(row)
    excused, unexcused, longest = Counter[int](), 0, 0.0
    for rows in answered.values():
        for _, _, asked_at, sent_at in sorted(rows, key=lambda row: row[3])[:-1]:
            kill = _in_flight_at(asked_at, sent_at, kills)
            if kill is None:
                unexcused += 1
            else:
                excused[kill] += 1
                longest = max(longest, kills[kill][0] - sent_at)
    beyond = sum(max(count - CONCURRENCY, 0) for count in excused.values())
    return unexcused + beyond, sum(excused.values()) - beyond, longest


def _in_flight_at(asked_at: float, sent_at: float, kills: Sequence[tuple[float, float]]) -> int | None:
    """The kill (number) that a call may have been in flight at."""
    for number, (before, after) in enumerate(kills):
        if asked_at <= after and before - sent_at <= GRACE_S:
            return number
    return None


def _write_config(trial: Trial) -> None:
    questions = ({"id": f"q{n}", "question": f"Question {n}?", "reference": "42"} for n in range(trial.calls))
    (trial.folder / "questions.jsonl").write_text("\n".join(map(json.dumps, questions)))
    text = CONFIG.format(
        url=trial.url, variable=KEY_VARIABLE, concurrency=CONCURRENCY, timeout_s=TIMEOUT_S, **MICRO_USD
    )
    (trial.folder / "faulty.toml").write_text(text)


def _harvest_until_whole(trial: Trial) -> None:
    """Run, kill, run again, until every cell has its answer. LabError when a run brings nothing new."""
    lost = LOST_AT_A_KILL * len(trial.moments)
    for answers in (FIRST_BUDGET * trial.calls, WHOLE_BUDGET * trial.calls + lost):
        budget = round(answers * CALL_USD, 6)
        while True:
            done = _harvest(trial, budget)
            trial.overspent_usd = max(trial.overspent_usd, _billed_usd(read_ledger(trial.url)) - budget)
            if done is None:
                continue
            if not done["left"]:
                return
            if done["budget_reached"]:
                break
            if not done["asked"]:
                raise LabError(f"the harvest does not go on: {done}")
    raise LabError(f"the larger budget is reached, which should be enough: {done}")


def _harvest(trial: Trial, budget: float) -> dict[str, object] | None:
    """One run as a process of its own: what it said, or None when it was killed."""
    program = "from xrouter_sim.cli import main; main()"
    options = ["--db", str(trial.db), "--budget", str(budget), "--json", "--quiet"]
    command = [sys.executable, "-c", program, "harvest", str(trial.folder / "faulty.toml"), *options]
    output, errors = trial.folder / f"run-{trial.runs}.json", trial.folder / f"run-{trial.runs}.log"
    trial.runs += 1
    with output.open("wb") as stdout, errors.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=os.environ | {KEY_VARIABLE: trial.key})
        if _kill_at_its_moment(trial, process):
            return None
    if process.returncode:
        raise LabError(f"the harvest failed: {errors.read_text().strip()[-500:]}")
    found: dict[str, object] = json.loads(output.read_text())
    return found


def _kill_at_its_moment(trial: Trial, process: subprocess.Popen[bytes]) -> bool:
    """Wait for the end of the process, or kill it when the endpoint has had so many calls and a little more."""
    began, late = time.monotonic(), trial.draw.uniform(0.0, 2.0)
    while process.poll() is None:
        if trial.moments and count_calls(trial.url) >= trial.moments[0] and time.monotonic() - began >= late:
            time.sleep(trial.draw.uniform(0.0, 0.2))
            before = time.monotonic()
            process.kill()
            process.wait()
            trial.kills.append((before, time.monotonic()))
            trial.moments.pop(0)
            return True
        time.sleep(0.02)
    return False


def _billed_usd(ledger: Sequence[Row]) -> float:
    return sum(done in BILLED for _, done, _, _ in ledger) * CALL_USD


def _cells(trial: Trial) -> tuple[int, int, int]:
    """Cells without a graded answer, rows beyond one a cell, and cells that are failed rows."""
    with ResponseStore(trial.db) as store:
        rows = store.frame("SELECT query_id, model_id, prompt_style, sample_index, status, score FROM graded")
    cells = rows.unique(["query_id", "model_id", "prompt_style", "sample_index"])
    good = cells.filter((cells["status"] == "ok") & cells["score"].is_not_null())
    return trial.calls - good.height, rows.height - cells.height, rows.filter(rows["status"] == "failed").height


def _files_with(key: str, folder: Path) -> int:
    return sum(key.encode() in file.read_bytes() for file in folder.rglob("*") if file.is_file())


def whole(figures: Mapping[str, object]) -> bool:
    """Whether nothing was lost, paid twice, overspent or leaked."""
    names = ("cells_missing", "cells_duplicated", "answers_paid_twice", "overspend_usd", "files_with_key")
    return not any(figures[name] for name in names)
