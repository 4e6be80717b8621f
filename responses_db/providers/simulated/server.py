"""The simulated models behind an OpenAI-compatible server on loopback, in a process of its own.

`python -m responses_db.providers.simulated.server` reads one line of JSON from standard input (seed, model ids, items),
prints its port as JSON, and serves until standard input closes: when whoever started it ends, however that is, so
does the server. It is on 127.0.0.1 only. Nothing in a request tells the reference: the server has the items already.
"""

import asyncio
import json
import os
import signal
import sys
from typing import Any

from aiohttp import web

from responses_db.providers.simulated.calibration import SimulatedModel, simulated_models
from responses_db.providers.simulated.items import message_key
from responses_db.providers.simulated.world import Answer, Item, World

HOST = "127.0.0.1"
HEADERS = {"Content-Type": "application/json"}
COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
DEFAULT_MAX_TOKENS = 1 << 20


class SimulatedServer:
    """Answers POST /v1/chat/completions for the models and items it was started with."""

    def __init__(self, world: World, models: dict[str, SimulatedModel], items: dict[str, Item]) -> None:
        self.world, self.models, self.items = world, models, items

    async def handle(self, request: web.BaseRequest) -> web.Response:
        if request.method != "POST" or not request.path.endswith("/chat/completions"):
            return _error(404, f"no {request.method} {request.path} here: POST /v1/chat/completions")
        try:
            return self.complete(json.loads(await request.read()))
        except (ValueError, KeyError, TypeError) as error:
            return _error(400, f"not a chat completion request: {error!r}")

    def complete(self, body: dict[str, Any]) -> web.Response:
        """The response to one request body. `seed` is the sample index: equal requests get equal answers."""
        model, messages = self.models.get(body["model"]), body["messages"]
        if model is None:
            return _error(404, f"the model {body['model']!r} does not exist")
        item = self.items.get(message_key(messages))
        if item is None:
            return _error(400, "simulated models only answer the queries that they were started with")
        system = "\n".join(m["content"] for m in messages if m["role"] == "system")
        prompt = "\n".join(m["content"] for m in messages if m["role"] != "system")
        limit = body.get("max_tokens", DEFAULT_MAX_TOKENS)
        answer = self.world.answer(model, item, system, prompt, body.get("seed", 0), limit)
        return _json(200, _completion(model.model_id, answer, bool(body.get("logprobs"))))


def _completion(model_id: str, answer: Answer, with_logprobs: bool) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.text},
        "finish_reason": answer.finish_reason,
    }
    if with_logprobs:
        tokens = ("Answer", ":", " …", "") if answer.finish_reason == "stop" else ("…",) * 4
        pairs = zip(tokens, answer.logprobs, strict=True)
        choice["logprobs"] = {"content": [{"token": token, "logprob": logprob} for token, logprob in pairs]}
    return {
        "object": "chat.completion",
        "model": model_id,
        "choices": [choice],
        "usage": {
            "prompt_tokens": answer.input_tokens,
            "completion_tokens": answer.output_tokens,
            "total_tokens": answer.input_tokens + answer.output_tokens,
            "completion_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        },
        "simulated": {"latency_s": answer.latency_s},
    }


def _json(status: int, value: Any) -> web.Response:
    return web.Response(status=status, body=COMPACT.encode(value).encode(), headers=HEADERS)


def _error(status: int, message: str) -> web.Response:
    return _json(status, {"error": {"message": message, "type": "invalid_request_error"}})


async def _serve(server: SimulatedServer) -> None:
    runner = web.ServerRunner(web.Server(server.handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    ((_, port, *_rest),) = runner.addresses
    print(json.dumps({"port": port}), flush=True)
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), lambda: over.set() if not os.read(sys.stdin.fileno(), 4096) else None)
    await over.wait()
    await runner.cleanup()


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the harvest, which lets calls under way finish
    start = json.loads(sys.stdin.readline())
    models = {model_id: simulated_models()[model_id] for model_id in start["models"]}
    items = {key: Item(*fields) for key, fields in start["items"].items()}
    asyncio.run(_serve(SimulatedServer(World(start["seed"]), models, items)))


if __name__ == "__main__":
    _main()
