"""Answers in the form of OpenAI's API: whole, and as a stream of events."""

import json
import time
from typing import Any

from xrouter_sim.serving.errors import Refusal
from xrouter_sim.serving.served import Served

DONE = b"data: [DONE]\n\n"


def completion(served: Served, request_id: str, model: str) -> dict[str, Any]:
    """A chat completion. `usage` is that of the final answer; `router_metadata` has every call."""
    message = {"role": "assistant", "content": served.text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": served.finish_reason, "logprobs": None}
    return {
        **_head(request_id, model, "chat.completion"),
        "choices": [choice],
        "usage": usage_of(served),
        "router_metadata": served.metadata,
    }


def usage_of(served: Served) -> dict[str, int]:
    tokens = served.tokens
    total = tokens.input + tokens.output
    return {"prompt_tokens": tokens.input, "completion_tokens": tokens.output, "total_tokens": total}


def piece(request_id: str, model: str, text: str, *, first: bool) -> bytes:
    """An event with a piece of the text."""
    delta = ({"role": "assistant"} if first else {}) | {"content": text}
    return _chunk(request_id, model, [{"index": 0, "delta": delta, "finish_reason": None}])


def ending(request_id: str, model: str, served: Served, *, include_usage: bool) -> bytes:
    """The last events: why it ended, with the metadata, and what was used where that is wanted."""
    choice = {"index": 0, "delta": {}, "finish_reason": served.finish_reason}
    last = _chunk(request_id, model, [choice], router_metadata=served.metadata)
    return last + (_chunk(request_id, model, [], usage=usage_of(served)) if include_usage else b"") + DONE


def broken(refusal: Refusal) -> bytes:
    """The event of a stream that cannot go on."""
    return event(refusal.body()) + DONE


def event(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def _chunk(request_id: str, model: str, choices: list[dict[str, Any]], **more: Any) -> bytes:
    return event({**_head(request_id, model, "chat.completion.chunk"), "choices": choices, **more})


def _head(request_id: str, model: str, kind: str) -> dict[str, Any]:
    return {"id": request_id, "object": kind, "created": int(time.time()), "model": model}
