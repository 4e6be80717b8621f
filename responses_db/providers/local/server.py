"""A model file behind an OpenAI-compatible server on loopback, in a process of its own.

`python -m responses_db.providers.local.server` reads one line of JSON from standard input (path, threads, slots,
context), starts llama.cpp's server (`xllamacpp`) on free ports, and a small server before it whose port it prints as
JSON. That one passes requests on; it knows two fields more than others do: `examples` (pairs of question and answer
that become earlier turns) and `votes` (so many samples, of which the commonest final answer counts).
It ends when standard input closes.

Each thread is a llama.cpp server of its own, over the same mapped file. Two threads of one server wait for each other
at every layer: where other programs run, that was ten times slower than one thread.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
from aiohttp import web

from responses_db.providers.local.voting import majority, vote_seed, with_examples

HOST = "127.0.0.1"
CACHE_MIB = 128
"""Memory for prompts that were read already, beside those in the slots."""


class LocalServer:
    """Answers POST /v1/chat/completions by asking the least busy of llama.cpp's servers at `base_urls`."""

    def __init__(self, base_urls: Sequence[str], session: aiohttp.ClientSession) -> None:
        self._busy = {f"{base_url}/v1/chat/completions": 0 for base_url in base_urls}
        self._session = session

    async def handle(self, request: web.BaseRequest) -> web.Response:
        if request.method != "POST" or not request.path.endswith("/chat/completions"):
            return _error(404, f"no {request.method} {request.path} here: POST /v1/chat/completions")
        try:
            body = json.loads(await request.read())
            votes = body.pop("votes", 1)
            body["messages"] = with_examples(body["messages"], body.pop("examples", []))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return _error(400, f"not a chat completion request: {error!r}")
        return await self._ask(body) if votes == 1 else await self._vote(body, votes)

    async def _ask(self, body: Mapping[str, Any]) -> web.Response:
        url = min(self._busy, key=self._busy.__getitem__)
        self._busy[url] += 1
        try:
            async with self._session.post(url, json=body) as answer:
                return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")
        finally:
            self._busy[url] -= 1

    async def _vote(self, body: Mapping[str, Any], votes: int) -> web.Response:
        """All samples or none: what one cannot have, the vote cannot."""
        seeds = [{"seed": vote_seed(body["seed"], number)} if "seed" in body else {} for number in range(votes)]
        answers = await asyncio.gather(*(self._ask({**body, **seed}) for seed in seeds))
        for answer in answers:
            if answer.status != 200:
                return answer
        return web.json_response(majority([json.loads(_bytes(answer)) for answer in answers]))


def _bytes(answer: web.Response) -> bytes:
    assert isinstance(answer.body, bytes)
    return answer.body


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "invalid_request_error"}}, status=status)


def _llama(start: Mapping[str, Any]) -> Any:
    """One of llama.cpp's servers, running on one thread. RuntimeError when it cannot load the file."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = start["path"]
    params.hostnames, params.port = [HOST], 0
    params.n_parallel = -(-start["slots"] // start["threads"])
    params.n_ctx = start["context"] * params.n_parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_gpu_layers, params.cache_ram_mib = 0, CACHE_MIB
    params.ui, params.endpoint_slots, params.offline, params.verbosity = False, False, True, 0
    return xllamacpp.Server(params)


async def _serve(base_urls: Sequence[str]) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        server = LocalServer(base_urls, session)
        runner = web.ServerRunner(web.Server(server.handle, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, HOST, 0).start()
        ((_, port, *_rest),) = runner.addresses
        print(json.dumps({"port": port}), flush=True)
        over = asyncio.Event()
        asyncio.get_running_loop().add_reader(
            sys.stdin.fileno(), lambda: over.set() if not os.read(sys.stdin.fileno(), 4096) else None
        )
        await over.wait()


def _main() -> None:
    start = json.loads(sys.stdin.readline())
    try:
        servers = [_llama(start) for _ in range(start["threads"])]
    except Exception as error:  # whatever the library raises
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the harvest, which lets calls under way finish
    asyncio.run(_serve([server.listening_address for server in servers]))
    os._exit(0)  # without waiting for answers that nobody takes any more


if __name__ == "__main__":
    _main()
