"""Harvesting from an endpoint that misbehaves: what is tried again, what is stored, what leaks."""

import logging
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from responses_db import LabError, ResponseStore
from responses_db.harvest_config import read_config
from responses_db.harvester import Harvested, harvest
from responses_db.providers import client
from tests.responses_db.worlds import KEY, FlakyEndpoint, endpoint_config, running


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyEndpoint]:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("FLAKY_API_KEY", KEY)
    with running(FlakyEndpoint()) as flaky:
        yield flaky


def fill(folder: Path, endpoint: FlakyEndpoint, *questions: str, retries: int = 2) -> tuple[Harvested, pl.DataFrame]:
    """Harvest the questions. What was done, and the graded rows in the order of the questions."""
    config = read_config(endpoint_config(folder, endpoint.url, list(questions), retries))
    done = harvest(config, folder / "store.duckdb", folder / "cache", None, lambda *progress: None)
    with ResponseStore(folder / "store.duckdb") as store:
        rows = store.frame("SELECT * FROM graded")
    order = pl.DataFrame({"query_id": [f"questions/{question}" for question in questions]})
    return done, order.join(rows, on="query_id", how="left", maintain_order="left")


def test_passing_faults_are_asked_again(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    questions = ["ok", "busy-once", "broken-once", "garbled-once"]
    done, rows = fill(tmp_path, endpoint, *questions)
    assert rows["status"].to_list() == ["ok"] * 4
    assert rows["score"].to_list() == [1.0] * 4
    assert [endpoint.asked[question] for question in questions] == [1, 2, 2, 2]
    assert (done.asked, done.tally.answered, done.tally.failed) == (4, 4, 0)


def test_lasting_faults_are_failed_rows_never_answers(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    questions = ["busy", "broken", "garbled", "empty", "slow", "ok"]
    done, rows = fill(tmp_path, endpoint, *questions, retries=1)
    assert rows["status"].to_list() == ["failed"] * 5 + ["ok"]
    assert rows["text"].to_list() == [None] * 5 + ["Answer: yes"]
    assert rows["score"].to_list() == [None] * 5 + [1.0]
    for error, part in zip(
        rows["error"], ["HTTP 429: slow down", "HTTP 500", "malformed", "malformed", "timeout"], strict=False
    ):
        assert part in error
    assert [endpoint.asked[question] for question in questions] == [2, 2, 2, 2, 2, 1]
    assert done.tally.failed == 5


def test_failed_cells_are_asked_again_and_their_rows_replaced(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    fill(tmp_path, endpoint, "broken", "ok", retries=0)
    endpoint.healed = True
    done, rows = fill(tmp_path, endpoint, "broken", "ok", retries=0)
    assert rows["status"].to_list() == ["ok", "ok"]
    assert (done.missing, done.asked) == (1, 1)
    assert endpoint.asked == {"broken": 2, "ok": 1}


def test_an_answer_that_was_cut_or_refused_is_its_own_outcome(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    _, rows = fill(tmp_path, endpoint, "cut", "refused", "no")
    assert rows["status"].to_list() == ["truncated", "refused", "ok"]
    assert rows["max_tokens"].to_list() == [65_536] * 3
    assert rows["text"].to_list() == ["Well, let me th", None, "Answer: no"]
    assert rows["answer"].to_list() == [None, None, "no"]
    assert rows["score"].to_list() == [0.0, 0.0, 0.0]


def test_a_row_says_who_answered_with_how_many_tokens_at_what_cost(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    done, rows = fill(tmp_path, endpoint, "ok")
    row = rows.row(0, named=True)
    assert (row["model_id"], row["model_answered"]) == ("flaky-1", "flaky-1-2026-01-01")
    assert endpoint.bodies[0]["model"] == "flaky-1-preview"
    assert (row["input_tokens"], row["cached_input_tokens"], row["output_tokens"]) == (100, 40, 20)
    assert row["cost_usd"] == pytest.approx((100 * 1.0 + 20 * 10.0) / 1e6) == done.tally.cost_usd
    assert 0 < row["latency_s"] < 5
    assert row["provenance"] == "local"


def test_a_wrong_key_is_not_tried_again_and_nothing_was_answered(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    done, _ = fill(tmp_path, endpoint, "denied")
    assert endpoint.asked["denied"] == 1
    assert "HTTP 401" in done.tally.first_failure


def test_the_key_is_nowhere_but_in_the_header(
    tmp_path: Path, endpoint: FlakyEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """The endpoint echoes the key in its error, as some do."""
    with caplog.at_level(logging.DEBUG):
        done, rows = fill(tmp_path, endpoint, "denied", "ok")
    assert "bad key Bearer ***" in rows["error"][0]
    assert KEY not in caplog.text + done.tally.first_failure
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


def test_a_key_that_is_not_set_is_said_before_anything_is_written(
    tmp_path: Path, endpoint: FlakyEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLAKY_API_KEY")
    with pytest.raises(LabError, match="environment variable FLAKY_API_KEY is not set"):
        fill(tmp_path, endpoint, "ok")
    with ResponseStore(tmp_path / "store.duckdb") as store:
        assert store.frame("SELECT * FROM runs").is_empty()


def test_a_question_of_the_store_with_another_reference_is_refused(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    fill(tmp_path, endpoint, "broken", retries=0)
    path = endpoint_config(tmp_path, endpoint.url, ["broken"], 0)
    lines = (tmp_path / "questions.jsonl").read_text().replace('"yes"', '"no"')
    (tmp_path / "questions.jsonl").write_text(lines)
    with pytest.raises(LabError, match="questions/broken is there already with another reference"):
        harvest(read_config(path), tmp_path / "store.duckdb", tmp_path / "cache", None, lambda *progress: None)
