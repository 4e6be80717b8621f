"""`xrouter-sim serve` as a process, asked by the official client."""

import concurrent.futures
import http.client
import json
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import openai
import pytest
from click.testing import CliRunner

from tests.xrouter_sim.serving.served_process import ADMIN, Running, serving
from xrouter_sim.bench.endpoint import Behaviour, read_ledger, running_endpoint
from xrouter_sim.cli import main

QUESTION = "Question 41 about words?\nA) one\nB) two\nC) three\nD) four"
NEW = "What is the capital of a country that no store has heard of?"
Write = Callable[..., Path]
CALL_NANO = 60 * 1000 + 40 * 4000
"""What the loopback endpoint bills at the test's price: 60 tokens in at 1 USD a million, 40 out at 4."""


def ask(client: openai.OpenAI, text: str = NEW, model: str = "xrouter-sim", **more: object) -> object:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **more)


def post(server: Running, body: bytes, **headers: str) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    standard = {"Content-Type": "application/json", "Authorization": f"Bearer {ADMIN}"}
    connection.request("POST", "/v1/chat/completions", body, standard | headers)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def charges(ledger: Path) -> list[tuple[str, int]]:
    with sqlite3.connect(ledger) as con:
        return con.execute("SELECT outcome, nano FROM charges ORDER BY charge_id").fetchall()


# --- from a store -----------------------------------------------------------------------------------------------------


def test_a_store_answers_the_official_client_always_the_same(run_folder: Path, tmp_path: Path) -> None:
    with serving(run_folder, "runs/table", "--replay", "data/responses.duckdb", "--ledger", str(tmp_path / "l")) as at:
        client = at.client()
        assert [each.id for each in client.models.list()] == ["xrouter-sim", "giant", "large", "medium", "small"]
        first, again = ask(client, QUESTION), ask(client, QUESTION)
        told, repeated = first.router_metadata, again.router_metadata
        assert first.choices[0].message.content == again.choices[0].message.content
        assert told["calls"] == repeated["calls"]
        assert told["decisions"][0]["final"] == "adopt"
        assert told["answers"] == "imported answers"
        assert first.usage.prompt_tokens == 81
        streamed = list(ask(client, QUESTION, stream=True, stream_options={"include_usage": True}))
        said = "".join(piece.choices[0].delta.content or "" for piece in streamed if piece.choices)
        assert said == first.choices[0].message.content
        assert streamed[-1].usage.prompt_tokens == 81
        alone = ask(client, QUESTION, "xrouter-sim/lambda=0,pool=small").router_metadata
        assert (alone["lambda"], alone["answered_by"].split("/")[0]) == (0.0, "small")
        assert ask(client, QUESTION, "giant").router_metadata["answered_by"].startswith("giant/")
        by_header = ask(client, QUESTION, extra_headers={"X-Xrouter-Lambda": "80"}).router_metadata
        assert by_header["lambda"] == 80.0
        with pytest.raises(openai.NotFoundError, match="holds no such question"):
            ask(client, NEW)
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            ask(client, QUESTION, "gpt-9")
        with pytest.raises(openai.AuthenticationError):
            ask(at.client("guessed"), QUESTION)


def test_decisions_of_a_known_question_are_those_of_the_lab(run_folder: Path, tmp_path: Path) -> None:
    import polars as pl

    decided = pl.read_parquet(run_folder / "runs/table/decisions.parquet")
    decided = decided.filter((pl.col("router") == "table") & (pl.col("setting") == 1.0))
    with serving(run_folder, "runs/table", "--replay", "data/responses.duckdb", "--ledger", str(tmp_path / "l")) as at:
        for query, calls in decided.select("query_id", "calls").rows():
            number = int(query.rsplit("q", 1)[1])
            text = QUESTION.replace("41", str(number)).replace("words", ("sums", "words")[number % 2])
            told = ask(at.client(), text).router_metadata
            assert [call["model"] for call in told["calls"]] == [call["model"] for call in calls]


# --- live -------------------------------------------------------------------------------------------------------------


def live(run_folder: Path, file: Path, ledger: Path, *more: str, budget: str = "1") -> list[str]:
    assert run_folder
    return ["runs/table", "--providers", str(file), "--budget", budget, "--ledger", str(ledger), *more]


def test_live_answers_are_paid_for_and_streamed(run_folder: Path, providers: Write, tmp_path: Path) -> None:
    ledger = tmp_path / "l"
    with running_endpoint(Behaviour(keep_ledger=True)) as url:
        file = providers(small=url, medium=url)
        with serving(run_folder, *live(run_folder, file, ledger)) as at:
            answer = ask(at.client())
            told = answer.router_metadata
            assert answer.choices[0].message.content.endswith("Answer: 42")
            assert told["cost_usd"] == pytest.approx(CALL_NANO / 1e9)
            assert told["routed_as"], "the text is in no store: a known question stands in"
            pieces = list(ask(at.client(), stream=True))
            assert len(pieces) > 20, "passed on word by word"
            assert pieces[-1].router_metadata["answered_by"]
            metrics = http.client.HTTPConnection("127.0.0.1", at.port)
            metrics.request("GET", "/metrics", headers={"Authorization": f"Bearer {ADMIN}"})
            assert b'xrouter_requests_total{code="ok",status="200"} 2.0' in metrics.getresponse().read()
        assert charges(ledger) == [("ok", CALL_NANO)] * 2
        assert len(read_ledger(url)) == 2


def test_faults_are_retried_fallen_back_from_and_paid_for_exactly(
    run_folder: Path, providers: Write, tmp_path: Path
) -> None:
    """200 requests at once, a third of the attempts faulty: each gets an answer or an error in OpenAI's form."""
    ledger, faults = tmp_path / "l", {"429": 0.1, "500": 0.1, "malformed": 0.05, "cut": 0.05}
    with running_endpoint(Behaviour(faults=faults, keep_ledger=True, retry_after_s=0.01)) as url:
        file = providers(small=url, medium=url)
        with serving(run_folder, *live(run_folder, file, ledger)) as at:
            client = at.client()
            with concurrent.futures.ThreadPoolExecutor(32) as pool:
                done = list(pool.map(lambda n: _outcome(client, f"{NEW} {n}"), range(200)))
        billed = [done for _, done, _, _ in read_ledger(url) if done == "answered"]
    assert set(done) <= {"answer", "no_answer"}
    assert done.count("answer") > 190
    assert [nano for outcome, nano in charges(ledger) if outcome == "ok"] == [CALL_NANO] * len(billed)
    assert all(nano == 0 for outcome, nano in charges(ledger) if outcome in ("rate_limited", "server_error"))


def _outcome(client: openai.OpenAI, text: str) -> str:
    try:
        return "answer" if ask(client, text).choices[0].message.content else "empty"
    except openai.APIStatusError as error:
        return str(error.code)


def test_a_stream_that_breaks_off_ends_in_an_error_and_is_paid_for(
    run_folder: Path, providers: Write, tmp_path: Path
) -> None:
    ledger = tmp_path / "l"
    with running_endpoint(Behaviour(faults={"cut": 1.0}, keep_ledger=True)) as url:
        with serving(run_folder, *live(run_folder, providers(small=url), ledger)) as at:
            heard = []
            with pytest.raises(openai.APIError, match="broke off"):
                heard.extend(piece.choices[0].delta.content for piece in ask(at.client(), stream=True))
        assert [done for _, done, _, _ in read_ledger(url)] == ["cut"], "never asked again unnoticed"
    ((outcome, nano),) = charges(ledger)
    assert outcome == "given up"
    assert nano > CALL_NANO


def test_a_budget_holds_while_many_race_for_the_last_cent(run_folder: Path, providers: Write, tmp_path: Path) -> None:
    ledger = tmp_path / "l"
    key = CliRunner().invoke(main, ["keys", "add", "racer", "--budget", "0.01", "--ledger", str(ledger)]).stdout.strip()
    with running_endpoint(Behaviour(delay_s=0.01)) as url:
        file = providers(small=url)
        with serving(run_folder, *live(run_folder, file, ledger)) as at:
            client = at.client(key)
            with concurrent.futures.ThreadPoolExecutor(32) as pool:
                done = list(pool.map(lambda n: _keyed(client, n), range(100)))
    spent = sum(nano for _, nano in charges(ledger))
    assert set(done) == {"answer", "insufficient_quota"}
    assert spent == done.count("answer") * CALL_NANO
    assert 0 < spent <= 0.01e9


def _keyed(client: openai.OpenAI, number: int) -> str:
    try:
        ask(client, f"{NEW} {number}")
        return "answer"
    except openai.RateLimitError as error:
        return str(error.code)


def test_kill_9_loses_no_spend_and_rates_outlive_it(run_folder: Path, providers: Write, tmp_path: Path) -> None:
    ledger = tmp_path / "l"
    key = CliRunner().invoke(main, ["keys", "add", "slow", "--per-minute", "2", "--ledger", str(ledger)]).stdout.strip()
    with running_endpoint(Behaviour(delay_s=1.0, keep_ledger=True)) as url:
        file = providers(small=url)
        with serving(run_folder, *live(run_folder, file, ledger)) as at:
            ask(at.client(key))
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                under_way = pool.submit(_outcome_of_killed, at, key)
                while _held(ledger) == 0:
                    pass
                at.kill()
                assert under_way.result() == "gone"
        with serving(run_folder, *live(run_folder, file, ledger)) as at:
            assert _held(ledger) == 0
            outcomes = charges(ledger)
            assert [outcome for outcome, _ in outcomes] == ["ok", "killed"]
            assert outcomes[1][1] > CALL_NANO, "charged with all that it could have cost"
            assert _keyed(at.client(key), 3) == "rate_limit_exceeded"


def _outcome_of_killed(at: Running, key: str) -> str:
    try:
        ask(at.client(key))
        return "answer"
    except openai.APIConnectionError:
        return "gone"


def _held(ledger: Path) -> int:
    with sqlite3.connect(ledger) as con:
        return con.execute("SELECT coalesce(sum(held), 0) FROM keys").fetchone()[0]


# --- attacks ----------------------------------------------------------------------------------------------------------

GOOD = {"model": "xrouter-sim", "messages": [{"role": "user", "content": QUESTION}]}


@pytest.fixture(scope="module")
def store_server(run_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    ledger = tmp_path_factory.mktemp("ledger") / "l"
    with serving(run_folder, "runs/table", "--replay", "data/responses.duckdb", "--ledger", str(ledger)) as at:
        yield at


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"[" * 100_000, {}, 400),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, {}, 400),
        (b"{" + b" " * (1 << 20) + b"}", {}, 413),
        (b"\xff\xfe", {}, 400),
        (b'{"model": NaN}', {}, 400),
        (json.dumps(GOOD | {"messages": [{"role": "user", "content": "\ud800"}]}).encode(), {}, 400),
        (json.dumps(GOOD | {"messages": []}).encode(), {}, 400),
        (json.dumps(GOOD | {"max_tokens": 10**30}).encode(), {}, 400),
        (json.dumps(GOOD | {"tools": []}).encode(), {}, 400),
        (json.dumps(GOOD | {"model": "../../etc/passwd"}).encode(), {}, 404),
        (json.dumps(GOOD).encode(), {"Content-Type": "text/plain"}, 415),
        (json.dumps(GOOD).encode(), {"Authorization": "Bearer "}, 401),
        (json.dumps(GOOD).encode(), {"Authorization": f"Bearer {ADMIN}x"}, 401),
        (json.dumps(GOOD).encode(), {"X-Xrouter-Lambda": "nan"}, 400),
        (json.dumps(GOOD).encode(), {"X-Xrouter-Pool": "small+nobody"}, 400),
    ],
)
def test_what_is_not_as_it_must_be_gets_an_error_in_openai_form(
    store_server: Running, body: bytes, headers: dict, status: int
) -> None:
    got, answer = post(store_server, body, **headers)
    assert got == status
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert ADMIN not in json.dumps(answer)
    assert post(store_server, json.dumps(GOOD).encode())[0] == 200, "and the server goes on"


def test_a_header_cannot_be_smuggled_in(store_server: Running) -> None:
    """A wish with a line break in it comes back cut and harmless, inside JSON."""
    wish = "xrouter-sim/lambda=1\r\nX-Evil: 1"
    connection = http.client.HTTPConnection("127.0.0.1", store_server.port, timeout=20)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {ADMIN}"}
    connection.request("POST", "/v1/chat/completions", json.dumps(GOOD | {"model": wish}).encode(), headers)
    response = connection.getresponse()
    assert response.status == 400
    assert response.headers.get("X-Evil") is None


def test_a_client_that_never_ends_its_headers_is_hung_up_on(store_server: Running) -> None:
    with socket.create_connection(("127.0.0.1", store_server.port), timeout=20) as slow:
        slow.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        assert slow.recv(1) == b""


def test_without_a_key_a_foreign_name_is_turned_away(run_folder: Path, tmp_path: Path) -> None:
    arguments = ["runs/table", "--replay", "data/responses.duckdb", "--ledger", str(tmp_path / "l")]
    with serving(run_folder, *arguments, key=None) as at:
        assert post(at, json.dumps(GOOD).encode(), Host="evil.example")[0] == 403
        assert post(at, json.dumps(GOOD).encode())[0] == 200


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--replay", "data/responses.duckdb", "--host", "0.0.0.0"], "no key is set"),
        (["--providers", "p.toml"], "--budget"),
        ([], "who answers"),
    ],
)
def test_what_would_be_unsafe_is_refused(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(run_folder)
    monkeypatch.delenv("XROUTER_SIM_KEY", raising=False)
    done = CliRunner().invoke(main, ["serve", "runs/table", "--ledger", str(tmp_path / "l"), *arguments])
    assert done.exit_code != 0
    assert said in done.output


def test_weights_that_are_no_safetensors_are_refused(run_folder: Path, tmp_path: Path) -> None:
    """A run folder from elsewhere: a pickle in it that would run something is not loaded."""
    import pickle

    (tmp_path / "run").mkdir()
    manifest = json.loads((run_folder / "runs/table/manifest.json").read_text()) | {"router": "rl"}
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(pickle.dumps(Sprung(str(tmp_path / "sprung"))))
    arguments = ["serve", str(tmp_path / "run"), "--replay", str(run_folder / "data/responses.duckdb")]
    done = CliRunner().invoke(main, [*arguments, "--ledger", str(tmp_path / "l")])
    assert done.exit_code == 1
    assert "no readable checkpoint" in done.output
    assert not (tmp_path / "sprung").exists()


class Sprung:
    """Unpickled, it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (self.path,)


def test_keys_are_kept_as_hashes(tmp_path: Path) -> None:
    ledger = tmp_path / "l"
    key = CliRunner().invoke(main, ["keys", "add", "me", "--ledger", str(ledger)]).stdout.strip()
    assert key.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert ledger.stat().st_mode & 0o077 == 0
