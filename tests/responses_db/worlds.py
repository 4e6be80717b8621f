"""Small harvest configs and a misbehaving endpoint for the tests of harvesting."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from aiohttp import web

from responses_db import ResponseStore
from responses_db.harvest_config import read_config
from responses_db.harvester import Harvested, harvest

KEY = "sk-very-secret-0123456789"


def simulated_config(folder: Path, queries: int, samples: int = 2, seed: int = 1) -> Path:
    """A config of `queries` sums for three simulated models in two styles: 3 · 2 · samples cells a query."""
    domains = ("arithmetic", "logic", "algorithmic", "language_games")
    lines = [
        {"question": f"{i} + {7 * i}?", "reference": str(8 * i), "id": f"sum{i}", "domain": domains[i % 4]}
        for i in range(queries)
    ]
    (folder / "sums.jsonl").write_text("\n".join(map(json.dumps, lines)))
    path = folder / "sums.toml"
    path.write_text(f"""
seed = {seed}
samples = {samples}

[prompt_styles]
plain = "End with a line 'Answer: …'."
cot = "Think step by step. End with a line 'Answer: …'."

[[tasks]]
kind = "jsonl"
path = "sums.jsonl"
grader = "numeric"

[[providers]]
kind = "simulated"
models = ["sim-gpt-5", "sim-qwen3-235b", "sim-deepseek-v3"]
""")
    return path


PRICE = 'price = { input = 1.0, output = 10.0, valid_from = 2026-01-01, source = "the test" }'


def endpoint_config(
    folder: Path,
    base_url: str,
    questions: list[str],
    retries: int = 2,
    *,
    head: str = "",
    provider: str = "",
    model: str = PRICE,
) -> Path:
    """A config that asks one live model these questions, whose right answer is always `yes`.

    `head`, `provider` and `model` are more lines at the top, in the provider's table and in the model's.
    """
    lines = [{"question": question, "reference": "yes", "id": question} for question in questions]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    path = folder / "endpoint.toml"
    path.write_text(f"""
{head}

[[tasks]]
kind = "jsonl"
path = "questions.jsonl"
grader = "exact"

[[providers]]
kind = "openai"
name = "flaky"
base_url = "{base_url}"
api_key_env = "FLAKY_API_KEY"
retries = {retries}
timeout_s = 0.5
{provider}

[[providers.models]]
id = "flaky-1"
name = "flaky-1-preview"
{model}
""")
    return path


class FlakyEndpoint:
    """Does what a question's first word says. `asked` counts requests by question; `healed` ends all faults.

    `bodies`, `headers` and `queries` are of all requests; `odd` is what a question `odd` gets.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.healed = False
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.queries: list[dict[str, str]] = []
        self.odd: Any = None
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.queries.append(dict(request.query))
        question = body["messages"][-1]["content"]
        self.asked[question] += 1
        fault = question.split()[0]
        if self.healed or fault == "ok" or (fault.endswith("once") and self.asked[question] > 1):
            return web.json_response(completion("Answer: yes"))
        if fault.startswith("busy"):
            return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0"})
        if fault.startswith("broken"):
            return web.Response(status=500, text="Internal Server Error")
        if fault.startswith("garbled"):
            return web.Response(text='{"choices": [{"message"', content_type="application/json")
        if fault == "odd":
            return web.json_response(self.odd)
        if fault == "tomorrow":
            return web.Response(status=429, headers={"Retry-After": "86400"})
        if fault == "empty":
            return web.json_response({"choices": []})
        if fault == "denied":
            return web.json_response({"error": {"message": f"bad key {request.headers['Authorization']}"}}, status=401)
        if fault == "slow":
            await asyncio.sleep(2.0)
        if fault == "cut":
            return web.json_response(completion("Well, let me th", finish_reason="length"))
        if fault == "refused":
            return web.json_response(completion(None, finish_reason="content_filter"))
        return web.json_response(completion("Answer: no"))


def fill(
    folder: Path, endpoint: FlakyEndpoint, *questions: str, retries: int = 2, **lines: str
) -> tuple[Harvested, pl.DataFrame]:
    """Harvest the questions. What was done, and the graded rows in the order of the questions; nulls where none is."""
    path = endpoint_config(folder, endpoint.url, list(questions), retries, **lines)
    done = harvest(read_config(path), folder / "store.duckdb", folder / "cache", None, lambda *progress: None)
    with ResponseStore(folder / "store.duckdb") as store:
        rows = store.frame("SELECT * FROM graded ORDER BY sample_index")
    order = pl.DataFrame({"query_id": [f"questions/{question}" for question in questions]})
    return done, order.join(rows, on="query_id", how="left", maintain_order="left")


def completion(text: str | None, finish_reason: str = "stop") -> dict[str, Any]:
    """A chat completion of 100 input tokens, 40 of them cached, and 20 output tokens."""
    return {
        "model": "flaky-1-2026-01-01",
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 40}},
    }


@contextmanager
def running(endpoint: FlakyEndpoint) -> Iterator[FlakyEndpoint]:
    """Serve it on loopback, in a thread of its own."""
    loop, started, over = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        runner = web.ServerRunner(web.Server(endpoint.handle), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        started.set()
        await over.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    started.wait(10)
    try:
        yield endpoint
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()
