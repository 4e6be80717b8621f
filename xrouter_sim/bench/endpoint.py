"""An OpenAI-compatible endpoint for benches, in a process of its own: slow, faulty, with a ledger of what it billed.

`python -m xrouter_sim.bench.endpoint` reads one line of JSON from standard input (`Behaviour`), prints its port as
JSON, and serves on 127.0.0.1 until standard input closes. Each request meets its fault by a draw from (seed, request,
how often it was asked), so a trial meets the same faults whatever the order. GET /ledger gives every call so far, GET
/count their number.
"""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from aiohttp import web

HOST = "127.0.0.1"
INPUT_TOKENS, OUTPUT_TOKENS = 60, 40
TEXT = "The two numbers are taken from the question and put together step by step; nothing else is given. " * 5
CALLS_A_READ = 20_000


@dataclass(frozen=True)
class Behaviour:
    """`faults` are shares of requests by kind: 429, 500, malformed, hang, cut. Delays in seconds."""

    delay_s: float = 0.0
    retry_after_s: float = 0.1
    faults: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    keep_ledger: bool = False


class FaultyEndpoint:
    """Answers chat completions with one text. The ledger's rows: (request's hash, what was done, asked at, sent at).

    Times are of the monotonic clock, which all processes of a machine share. What was done is `answered`, which is
    billed; `malformed` or `cut`, which are billed as well; `429`, `500` or `hang`, which are not.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.ledger: list[tuple[str, str, float, float]] = []
        self._asked: Counter[str] = Counter()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        asked_at = time.monotonic()
        if request.method == "GET" and request.path.endswith("/count"):
            return web.json_response(len(self.ledger))
        if request.method == "GET":
            return web.json_response(self.ledger[int(request.query.get("from", 0)) :][:CALLS_A_READ])
        body = await request.read()
        name, fault = self._fault(body)
        if fault == "hang":
            self._note(name, fault, asked_at)
            await asyncio.sleep(3600)
        if self.behaviour.delay_s:
            await asyncio.sleep(self.behaviour.delay_s)
        self._note(name, fault, asked_at)
        asked = json.loads(body)
        if asked.get("stream") and fault in ("answered", "malformed", "cut"):
            return await _streamed(request, asked["model"], whole=fault == "answered")
        return await self._respond(fault, asked["model"], request)

    def _fault(self, body: bytes) -> tuple[str, str]:
        """The request's hash, and what this asking of it will meet."""
        if not self.behaviour.keep_ledger:
            return "", "answered"
        name = hashlib.sha256(body).hexdigest()
        self._asked[name] += 1
        drawn = hashlib.sha256(f"{self.behaviour.seed} {name} {self._asked[name]}".encode()).digest()
        u = int.from_bytes(drawn[:8]) / 2**64
        for fault, share in self.behaviour.faults.items():
            if (u := u - share) < 0:
                return name, fault
        return name, "answered"

    def _note(self, name: str, done: str, asked_at: float) -> None:
        if self.behaviour.keep_ledger:
            self.ledger.append((name, done, asked_at, time.monotonic()))

    async def _respond(self, done: str, model: str, request: web.BaseRequest) -> web.StreamResponse:
        if done == "429":
            headers = {"Retry-After": f"{self.behaviour.retry_after_s:g}"}
            return web.json_response({"error": {"message": "slow down"}}, status=429, headers=headers)
        if done == "500":
            return web.Response(status=500, text="Internal Server Error")
        whole = json.dumps(completion(model)).encode()
        if done == "malformed":
            return web.Response(body=whole[: len(whole) // 2], content_type="application/json")
        if done == "cut":
            response = web.StreamResponse(headers={"Content-Length": str(len(whole))})
            await response.prepare(request)
            await response.write(whole[: len(whole) // 2])
            assert request.transport is not None
            request.transport.abort()
            return response
        return web.Response(body=whole, content_type="application/json")


async def _streamed(request: web.BaseRequest, model: str, *, whole: bool) -> web.StreamResponse:
    """The answer word by word, as server-sent events; or its first half, and the connection is cut."""
    answer = completion(model)
    words = answer["choices"][0]["message"]["content"].split(" ")
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number, word in enumerate(words if whole else words[: len(words) // 2]):
        text = word if number == 0 else f" {word}"
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        await response.write(_event({"model": model, "choices": [choice]}))
    if whole:
        await response.write(_event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        await response.write(_event({"choices": [], "usage": answer["usage"]}) + b"data: [DONE]\n\n")
    else:
        assert request.transport is not None
        request.transport.abort()
    return response


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def completion(model: str) -> dict[str, Any]:
    """A chat completion of about 500 characters that ends in `Answer: 42`."""
    return {
        "object": "chat.completion",
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": f"{TEXT}\nAnswer: 42"},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": INPUT_TOKENS,
            "completion_tokens": OUTPUT_TOKENS,
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        },
    }


@contextmanager
def running_endpoint(behaviour: Behaviour) -> Iterator[str]:
    """The base URL of such an endpoint in a process of its own, which ends with the block."""
    command = [sys.executable, "-m", "xrouter_sim.bench.endpoint"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(asdict(behaviour)).encode() + b"\n")
            process.stdin.flush()
            yield f"http://{HOST}:{json.loads(process.stdout.readline())['port']}/v1"
        finally:
            process.stdin.close()


def count_calls(base_url: str) -> int:
    """How many rows the ledger has."""
    with urllib.request.urlopen(f"{base_url}/count") as response:
        return int(json.load(response))


def read_ledger(base_url: str, start: int = 0) -> list[tuple[str, str, float, float]]:
    """The ledger's rows from number `start` on."""
    rows: list[tuple[str, str, float, float]] = []
    while True:
        with urllib.request.urlopen(f"{base_url}/ledger?from={start + len(rows)}") as response:
            page = json.load(response)
        rows += [(name, done, asked_at, sent_at) for name, done, asked_at, sent_at in page]
        if len(page) < CALLS_A_READ:
            return rows


async def _serve(endpoint: FaultyEndpoint) -> None:
    runner = web.ServerRunner(web.Server(endpoint.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, backlog=1024).start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    over = asyncio.Event()
    stdin = sys.stdin.fileno()
    asyncio.get_running_loop().add_reader(stdin, lambda: over.set() if not os.read(stdin, 4096) else None)
    await over.wait()
    await runner.cleanup()


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the bench, which closes standard input
    asyncio.run(_serve(FaultyEndpoint(Behaviour(**json.loads(sys.stdin.readline())))))


if __name__ == "__main__":
    _main()
