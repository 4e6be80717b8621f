"""Harvesting from an endpoint that misbehaves: what is tried again, what is stored, what leaks."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from responses_db import LabError, ResponseStore
from responses_db.harvest_config import read_config
from responses_db.harvester import harvest
from responses_db.providers import Endpoint, Model, client
from responses_db.providers.openai import OpenAIProvider
from tests.responses_db.worlds import KEY, FlakyEndpoint, endpoint_config, fill


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


def test_an_endpoint_that_died_is_left_alone_and_the_rest_waits_for_the_next_run(
    tmp_path: Path, endpoint: FlakyEndpoint
) -> None:
    questions = ["ok 1", "ok 2", *(f"broken {n}" for n in range(30)), "ok 3"]
    lines = {"provider": "concurrency = 1\ngive_up_after = 3"}
    done, rows = fill(tmp_path, endpoint, *questions, retries=1, **lines)
    last = "HTTP 500: Internal Server Error"
    assert done.given_up == [f"flaky was given up: the last 3 calls failed, the last one with {last}"]
    assert (done.tally.answered, done.tally.failed, done.left) == (2, 3, 31)
    assert endpoint.asked.total() == 2 + 3 * 2
    assert rows["status"].to_list() == ["ok"] * 2 + ["failed"] * 3 + [None] * 28
    endpoint.healed = True
    done, rows = fill(tmp_path, endpoint, *questions, retries=1, **lines)
    assert (done.missing, done.left, done.given_up) == (31, 0, [])
    assert rows["status"].unique().to_list() == ["ok"]


def test_failures_between_answers_are_no_death(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    questions = [f"{kind} {n}" for n in range(4) for kind in ("broken", "ok")]
    done, _ = fill(tmp_path, endpoint, *questions, retries=0, provider="concurrency = 1\ngive_up_after = 2")
    assert (done.tally.answered, done.tally.failed, done.given_up) == (4, 4, [])


def test_an_endpoint_that_wants_a_day_is_not_waited_for(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    _, rows = fill(tmp_path, endpoint, "tomorrow", "ok")
    assert rows["status"].to_list() == ["failed", "ok"]
    assert endpoint.asked["tomorrow"] == 1


def test_when_one_endpoint_cannot_be_opened_calls_under_way_at_another_are_still_kept(
    tmp_path: Path, endpoint: FlakyEndpoint
) -> None:
    class Closed(OpenAIProvider):
        @asynccontextmanager
        async def endpoint(self) -> AsyncIterator[Endpoint]:
            while not endpoint.asked:
                await asyncio.sleep(0.01)
            raise LabError("its server did not start")
            yield

    path = endpoint_config(tmp_path, endpoint.url, [f"ok {n}" for n in range(30)], provider="concurrency = 1")
    config = read_config(path)
    config.providers.append(Closed("closed", Endpoint(endpoint.url), [Model("closed-1", "closed-1", None)], {}, 1))
    with pytest.raises(LabError, match="its server did not start"):
        harvest(config, tmp_path / "store.duckdb", tmp_path / "cache", None, lambda *progress: None)
    with ResponseStore(tmp_path / "store.duckdb") as store:
        assert 0 < store.frame("SELECT count(*) FROM responses").item() == endpoint.asked.total()


def test_a_call_that_waits_for_another_attempt_is_given_up_at_once_when_told(
    endpoint: FlakyEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 3600.0)
    body = json.dumps({"messages": [{"role": "user", "content": "broken"}]}).encode()

    async def ask() -> None:
        asking = client.ChatClient(Endpoint(endpoint.url, "FLAKY_API_KEY"), concurrency=1)
        call = asyncio.ensure_future(asking.complete(body))
        while not endpoint.asked:
            await asyncio.sleep(0.01)
        asking.halt.set()
        with pytest.raises(client.Halted):
            await asyncio.wait_for(call, 60)
        await asking.close()

    asyncio.run(ask())
    assert endpoint.asked["broken"] == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "0.25"}, 0.25),
        ({"Retry-After": "-1"}, 0.0),
        ({"Date": "Wed, 25 Nov 2020 09:00:00 GMT", "Retry-After": "Wed, 25 Nov 2020 09:00:07 GMT"}, 7.0),
        ({"Date": "Wed, 25 Nov 2020 09:00:00 GMT", "Retry-After": "Wed, 25 Nov 2020 08:00:00 GMT"}, 0.0),
        ({"Retry-After": "Wed, 25 Nov 2020 09:00:07 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({}, None),
    ],
)
def test_how_long_the_server_says_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    """A date counts from the server's own clock, so neither clock needs to be right."""
    assert client.told_wait(headers) == seconds
