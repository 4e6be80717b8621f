"""A model on this machine: what its table may say, what a vote is, and that its server never outlives a harvest.

Tests with the real model skip where its file or its engine is missing; `make harvest-local` fetches both.
"""

import asyncio
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from responses_db import LabError, ResponseStore
from responses_db.cells import all_cells
from responses_db.harvest_config import read_config
from responses_db.harvester import Harvested, harvest
from responses_db.providers import local
from responses_db.providers.child import child_server
from responses_db.providers.local.gguf import describe
from responses_db.providers.local.server import LocalServer
from responses_db.providers.local.voting import majority, with_examples

MODEL = Path("data/models/SmolLM2-135M-Instruct.Q4_1.gguf").resolve()
EXAMPLE = Path("experiments/harvest/local.toml")


@pytest.fixture(autouse=True)
def _others() -> None:
    """Other tests may have left a process that is kept for the next one, such as the worker of the `math` grader."""
    KEPT.clear()
    KEPT.update(children(os.getpid()))


KEPT = set[int]()


def children(parent: int) -> list[int]:
    """The processes that a process has started since the test began and that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, owner = (folder / "stat").read_text().rpartition(") ")[2].split()[:2]
        except OSError:
            continue
        if owner == str(parent) and state != "Z" and int(folder.name) not in KEPT:
            found.append(int(folder.name))
    return found


def gguf(path: Path, **pairs: int | str) -> Path:
    """A GGUF file that is all head: texts, and numbers of 32 bits; after a list of two texts, as tokenisers have."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    def value(one: int | str) -> bytes:
        return struct.pack("<I", 8) + text(one) if isinstance(one, str) else struct.pack("<II", 4, one)

    tokens = text("tokenizer.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")
    body = b"".join(text(f"general.{key}") + value(one) for key, one in pairs.items())
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs) + 1) + tokens + body)
    return path


CONFIG = """
seed = 3

[[tasks]]
kind = "jsonl"
path = "sums.jsonl"
grader = "numeric"

[[providers]]
kind = "local"
name = "tiny"
path = "PATH"

[providers.price]
input = 0.5
output = 1.5
valid_from = 2026-01-01
source = "a guess"

[providers.examples]
sums = [["1 + 1?", "Answer: 2"]]

[[providers.models]]
id = "greedy"

[[providers.models]]
id = "vote"
examples = "sums"
votes = 3
parameters = { temperature = 0.8 }
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two variants of a file that is a head alone, asked one sum."""
    (tmp_path / "sums.jsonl").write_text('{"question": "2 + 3?", "reference": "5", "id": "a"}\n')
    path = tmp_path / "tiny.toml"
    file = gguf(tmp_path / "tiny.gguf", architecture="llama", name="Tiny", file_type=3)
    path.write_text(CONFIG.replace("PATH", str(file)))
    return path


def test_a_models_metadata_tell_its_file_and_what_makes_it_a_variant(config: Path) -> None:
    (provider,) = read_config(config).providers
    greedy, vote = provider.models
    assert provider.provenance == "local"
    assert greedy.metadata["quantisation"] == "Q4_1"
    assert greedy.metadata["model_name"] == "Tiny"
    assert len(greedy.metadata["sha256"]) == 64
    assert vote.metadata["votes"] == 3
    assert vote.metadata["examples"] == "sums"
    assert vote.metadata["parameters"] == {"temperature": 0.8}
    assert vote.price is not None
    assert vote.price.source == "notional, as a local model has no price: a guess"


def test_all_that_makes_a_variant_is_in_its_request_and_the_file_is_in_the_identity(config: Path) -> None:
    pytest.importorskip("xllamacpp")
    settings = read_config(config)
    greedy, vote = (json.loads(cell.request()) for cell in all_cells(settings, None))
    assert (greedy["model"], greedy["temperature"]) == ("greedy", 0.0)
    assert "votes" not in greedy
    assert (vote["votes"], vote["examples"], vote["temperature"]) == (3, [["1 + 1?", "Answer: 2"]], 0.8)
    assert isinstance(vote["seed"], int)
    identity = settings.providers[0].identity(settings.queries[0])
    gguf(config.parent / "tiny.gguf", architecture="llama", name="Other", file_type=3)
    assert read_config(config).providers[0].identity(settings.queries[0]) != identity


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tiny.gguf", "none.gguf", r"none\.gguf: no such model file .*`make harvest-local` fetches one"),
        ("tiny.gguf", "sums.jsonl", r"sums\.jsonl is no GGUF file \(it does not begin with GGUF\)"),
        ('name = "tiny"', 'name = "tiny"\nsha256 = "00"', "is another file .sha256 "),
        ('examples = "sums"', 'examples = "sum"', "examples 'sum' is not known .did you mean 'sums'"),
        ("{ temperature = 0.8 }", "{ top_k = 1 }", "`votes` at temperature 0 are all alike"),
        ('[["1 + 1?", "Answer: 2"]]', '["1 + 1?"]', r"examples 'sums' must be a list of \[question, answer\]"),
        ("{ temperature = 0.8 }", "{ temperature = 0.8, seed = 3 }", "`parameters` must not hold seed"),
        ("votes = 3", "votes = 0", "`votes` is 0, but must be at least 1"),
        ("votes = 3", "vote = 3", "unknown key `vote` .did you mean 'votes'"),
        ('source = "a guess"', "", "`source` is missing"),
        ("output = 1.5", 'catalogue = "nobody/nothing"', "no provider 'nobody'"),
    ],
)
def test_a_mistake_in_the_table_is_one_line(config: Path, old: str, new: str, message: str) -> None:
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(LabError, match=message) as error:
        read_config(config)
    assert "\n" not in str(error.value)


def test_the_example_is_one_file_as_six_models_held_to_a_form_of_answer(tmp_path: Path) -> None:
    """Read with a file that is a head alone, so that it is checked where nobody has fetched the model."""
    text = EXAMPLE.read_text().replace(f"data/models/{MODEL.name}", str(gguf(tmp_path / "head.gguf", file_type=3)))
    path = tmp_path / "local.toml"
    path.write_text("\n".join(line for line in text.splitlines() if not line.startswith("sha256")))
    settings = read_config(path)
    requests = [json.loads(cell.request()) for cell in all_cells(settings, 3)]
    assert len({request["model"] for request in requests}) == 6
    assert {request.get("votes", 1) for request in requests} == {1, 5}
    assert {request["temperature"] for request in requests} == {0.0, 0.7}
    assert all("Answer: " in request["grammar"] for request in requests)
    assert {query.domain for query in settings.queries} == {"products", "chain_sum", "prime_factorization"}
    path.write_text(text)  # with the hash of the real one
    with pytest.raises(LabError, match="is another file"):
        read_config(path)


def test_a_damaged_head_is_no_gguf(tmp_path: Path) -> None:
    whole = gguf(tmp_path / "whole.gguf", file_type=7, name="x").read_bytes()
    assert describe(tmp_path / "whole.gguf")["quantisation"] == "Q8_0"
    for end in range(len(whole)):
        (tmp_path / "cut.gguf").write_bytes(whole[:end])
        with pytest.raises(LabError, match="is no GGUF file"):
            describe(tmp_path / "cut.gguf")


def test_without_the_engine_the_harvest_says_what_to_install(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise local.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(local.metadata, "version", missing)
    with pytest.raises(LabError, match=r"needs the package xllamacpp: pip install 'xrouter-sim\[local\]'"):
        read_config(config).providers[0].prepare([])


def completion(text: str, output_tokens: int = 4) -> dict[str, Any]:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": output_tokens,
        "total_tokens": 10 + output_tokens,
        "prompt_tokens_details": {"cached_tokens": 6},
    }
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"model": "m", "choices": [choice], "usage": usage}


def test_a_vote_takes_the_commonest_answer_and_is_billed_for_all() -> None:
    voted = majority([completion(f"Let me see.\nAnswer: {answer}", 7) for answer in ("4", "5", "**5**")])
    assert voted["choices"][0]["message"]["content"] == "Let me see.\nAnswer: 5"
    assert voted["votes"] == ["4", "5", "5"]
    assert voted["usage"] == {
        "prompt_tokens": 30,
        "completion_tokens": 21,
        "total_tokens": 51,
        "prompt_tokens_details": {"cached_tokens": 18},
    }


def test_a_vote_of_equals_goes_to_the_earliest_and_no_answer_has_no_vote() -> None:
    texts = ["well", "Answer: 9", "Answer: 8", "hm"]
    voted = majority([completion(text) for text in texts])
    assert voted["choices"][0]["message"]["content"] == "Answer: 9"
    assert voted["votes"] == [None, "9", "8", None]
    assert majority([completion("well"), completion("hm")])["choices"][0]["message"]["content"] == "well"


def test_examples_are_turns_between_the_system_prompt_and_the_question() -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "2 + 3?"}]
    assert with_examples(messages, [["1 + 1?", "Answer: 2"]]) == [
        messages[0],
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "Answer: 2"},
        messages[1],
    ]


async def asked(body: dict[str, Any], answer: Callable[[dict[str, Any]], web.Response]) -> tuple[int, Any, list[Any]]:
    """What the local server makes of a request before a llama.cpp of our own: status, body, what that was asked."""
    seen = []

    async def upstream(request: web.BaseRequest) -> web.Response:
        seen.append(await request.json())
        return answer(seen[-1])

    async with aiohttp.ClientSession() as session:
        runners = [web.ServerRunner(web.Server(upstream))]
        await runners[0].setup()
        await web.TCPSite(runners[0], "127.0.0.1", 0).start()
        front = LocalServer([f"http://127.0.0.1:{runners[0].addresses[0][1]}"], session)
        runners.append(web.ServerRunner(web.Server(front.handle)))
        await runners[1].setup()
        await web.TCPSite(runners[1], "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runners[1].addresses[0][1]}/v1/chat/completions"
        async with session.post(url, json=body) as response:
            status, reply = response.status, await response.json()
        for runner in runners:
            await runner.cleanup()
    return status, reply, seen


QUESTION = {"model": "m", "messages": [{"role": "user", "content": "2 + 3?"}], "temperature": 0.8, "seed": 11}


def test_the_server_takes_out_its_own_fields_and_passes_the_rest_on() -> None:
    body = QUESTION | {"examples": [["1 + 1?", "Answer: 2"]]}
    status, reply, seen = asyncio.run(asked(body, lambda request: web.json_response(completion("Answer: 5"))))
    assert (status, reply["choices"][0]["message"]["content"]) == (200, "Answer: 5")
    (request,) = seen
    assert [message["content"] for message in request.pop("messages")] == ["1 + 1?", "Answer: 2", "2 + 3?"]
    assert request == {"model": "m", "temperature": 0.8, "seed": 11}


def test_a_vote_asks_with_seeds_of_its_own_and_fails_as_a_whole() -> None:
    def answer(request: dict[str, Any]) -> web.Response:
        return web.json_response(completion(f"Answer: {request['seed'] % 2}"))

    status, reply, seen = asyncio.run(asked(QUESTION | {"votes": 5}, answer))
    seeds = [request["seed"] for request in seen]
    assert (status, len(set(seeds)), 11 in seeds) == (200, 5, False)
    assert sorted(reply["votes"]) == sorted(str(seed % 2) for seed in seeds)
    assert reply["usage"]["completion_tokens"] == 20

    def busy(request: dict[str, Any]) -> web.Response:
        return web.json_response({"error": {"message": "busy"}}, status=503 if len(seeds) else 200)

    assert asyncio.run(asked(QUESTION | {"votes": 5}, busy))[0] == 503


def test_what_is_no_request_is_refused() -> None:
    status, reply, seen = asyncio.run(asked({"model": "m"}, lambda request: web.json_response({})))
    assert (status, seen) == (400, [])
    assert "not a chat completion request" in reply["error"]["message"]


ECHO = """
import json, os, sys
start = json.loads(sys.stdin.readline())
print(json.dumps(start["say"]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that says what it is told to, and ends with its standard input."""
    (tmp_path / "echo_child.py").write_text(ECHO)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "echo_child"


async def port_of(module: str, say: Any) -> int:
    async with child_server(module, {"say": say}, "the echo", 20.0) as port:
        assert len(children(os.getpid())) == 1
        return port


def test_a_child_tells_its_port_and_ends(child: str) -> None:
    assert asyncio.run(port_of(child, {"port": 4711})) == 4711
    assert children(os.getpid()) == []


@pytest.mark.parametrize(
    ("say", "why"), [({"error": "no memory"}, "no memory"), ({}, "KeyError"), (None, "TypeError"), ("x", "")]
)
def test_a_child_that_does_not_start_is_one_line(child: str, say: Any, why: str) -> None:
    with pytest.raises(LabError, match=f"the echo did not start: .*{why}"):
        asyncio.run(port_of(child, say))
    assert children(os.getpid()) == []


def test_a_module_that_is_none_is_one_line() -> None:
    with pytest.raises(LabError, match="the echo did not start: it ended without a word"):
        asyncio.run(port_of("no_such_module", {}))


def command_of(process: int) -> str:
    """Its command line; nothing when it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


PARENT = """
import asyncio
from responses_db.providers.child import child_server
async def main():
    async with child_server("echo_child", {"say": {"port": 1}}, "the echo", 20.0):
        print("up", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def test_kill_9_of_the_parent_ends_the_child(child: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "up\n"
    (started,) = children(parent.pid)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 30
    while command_of(started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not command_of(started)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """Two variants of the real model, greedy and by vote, asked two sums."""
    pytest.importorskip("xllamacpp", reason="the extra `local` is not installed")
    if not MODEL.is_file():
        pytest.skip(f"no model at {MODEL}: `make harvest-local` fetches it")
    lines = [
        {"question": f"State the final answer to: {n} + 1 =", "reference": str(n + 1), "id": f"s{n}"} for n in (2, 5)
    ]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, lines)))
    path = tmp_path / "real.toml"
    text = CONFIG.replace("PATH", str(MODEL)).replace("1 + 1?", "State the final answer to: 1 + 1 =")
    path.write_text("max_tokens = 24\n" + text)
    return path


def test_a_harvest_of_the_real_model(real: Path, tmp_path: Path) -> None:
    def fill(db: str) -> Harvested:
        return harvest(read_config(real), tmp_path / db, tmp_path / "cache", None, lambda *progress: None)

    done = fill("store.duckdb")
    assert (done.asked, done.tally.failed) == (4, 0)
    with ResponseStore(tmp_path / "store.duckdb") as store:
        rows = store.frame("SELECT * FROM graded WHERE model_id = 'vote'")
        raw = store.frame("SELECT min(mean_logprob), max(mean_logprob), max(output_tokens) FROM graded").row(0)
    assert rows["provenance"].to_list() == ["local", "local"]
    assert rows["answer"].null_count() == 0  # one example suffices for the form
    assert rows["input_tokens"].min() > 3 * 20  # three samples, all billed
    assert rows["cost_usd"].min() > 0
    assert raw[0] < raw[1] <= 0
    again = fill("again.duckdb")
    assert (again.asked, again.cached, again.content_hash) == (0, 4, done.content_hash)
    assert children(os.getpid()) == []
