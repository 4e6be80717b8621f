"""A chat completion request, checked: what to route, what to pass on, and how this request wants to be routed."""

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from xrouter_sim.serving.errors import invalid

MODEL = "xrouter-sim"
"""The model to ask for; `xrouter-sim/lambda=2,pool=a+b` asks for it in a certain way; a model's own id asks for that
model alone."""

MOST_DEPTH = 32
MOST_MESSAGES = 1000

PASSED_ON = ("temperature", "top_p", "stop", "presence_penalty", "frequency_penalty", "response_format")
"""Sent to whichever model is called."""

IGNORED = ("user", "metadata", "store", "stream_options", "seed", "safety_identifier", "prompt_cache_key")
"""Taken and not passed on: `seed` picks the episode (retries, samples), and no provider is told who asks."""

ESCAPE, TEXT, BRACKET = re.compile(rb"\\.", re.S), re.compile(rb'"[^"]*"'), re.compile(rb"[\[\]{}]")

HEADERS = {
    "x-xrouter-lambda": "lambda",
    "x-xrouter-pool": "pool",
    "x-xrouter-budget-usd": "budget",
    "x-xrouter-deadline-s": "deadline",
    "x-xrouter-domain": "domain",
}


@dataclass(frozen=True)
class Wishes:
    """How one request wants to be routed; None: as the server does."""

    penalty: float | None = None
    """λ"""
    pool: frozenset[str] | None = None
    """Models that may be asked."""
    budget_usd: float | None = None
    """Calls begin only while the bill is below it; and none that could cost more than is left of it."""
    deadline_s: float | None = None
    domain: str | None = None


@dataclass(frozen=True)
class Asked:
    """A request. `question` is the last message of the user: what routers read."""

    model: str
    messages: list[dict[str, str]]
    question: str
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    seed: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    wishes: Wishes = field(default_factory=Wishes)


def read_request(raw: bytes, headers: Mapping[str, str], models: Collection[str], domains: Collection[str]) -> Asked:
    """Raises Refusal for whatever is not as it must be. `models` and `domains` are those that can be wished for."""
    body = _parsed(raw)
    known = {"model", "messages", "stream", "max_tokens", "max_completion_tokens", "n", *PASSED_ON, *IGNORED}
    if unknown := sorted(set(body) - known):
        raise invalid(f"`{_short(unknown[0])}` is not supported here: leave it out", "unsupported_parameter")
    if body.get("n") not in (None, 1):
        raise invalid("`n` must be 1: ask several times for several answers", "unsupported_parameter")
    model, messages = body.get("model"), _messages(body.get("messages"))
    if not isinstance(model, str):
        raise invalid(f"`model` must be a text, such as {MODEL!r}")
    options = body.get("stream_options")
    return Asked(
        model=model,
        messages=messages,
        question=next(each["content"] for each in reversed(messages) if each["role"] == "user"),
        stream=_flag(body, "stream"),
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        max_tokens=_tokens(body),
        seed=_whole(body, "seed") or 0,
        parameters={name: body[name] for name in PASSED_ON if body.get(name) is not None},
        wishes=_wishes(model, headers, models, domains),
    )


def _parsed(raw: bytes) -> dict[str, Any]:
    if _depth(raw) > MOST_DEPTH:
        raise invalid(f"the JSON is nested more than {MOST_DEPTH} deep")
    try:
        body = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):  # what stands there may be private: it is not repeated
        raise invalid("the body is no JSON") from None
    if not isinstance(body, dict):
        raise invalid("the body must be a JSON object")
    return body


def _depth(raw: bytes) -> int:
    """Deepest nesting, counted before anything is parsed, and no further than it matters. Texts do not count."""
    depth = deepest = 0
    for bracket in BRACKET.findall(TEXT.sub(b"", ESCAPE.sub(b"", raw))):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
        if deepest > MOST_DEPTH:
            break
    return deepest


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _messages(value: Any) -> list[dict[str, str]]:
    if not isinstance(value, list) or not 0 < len(value) <= MOST_MESSAGES:
        raise invalid(f"`messages` must be a list of 1 to {MOST_MESSAGES}")
    messages = [_message(each, place) for place, each in enumerate(value)]
    if not any(each["role"] == "user" for each in messages):
        raise invalid("`messages` must hold one of role user: it is what the router reads")
    return messages


def _message(value: Any, place: int) -> dict[str, str]:
    if not isinstance(value, dict) or value.get("role") not in ("system", "developer", "user", "assistant"):
        raise invalid(f"messages[{place}] must be an object with a role: system, developer, user or assistant")
    if set(value) - {"role", "content", "name", "refusal", "annotations", "audio"}:
        raise invalid(f"messages[{place}]: only text is routed, no tool calls", "unsupported_parameter")
    content = value.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "\n".join(part for part in parts if isinstance(part, str)) if len(parts) == len(content) else None
    if not isinstance(content, str):
        raise invalid(f"messages[{place}].content must be a text, or parts of type text")
    if any(0xD800 <= ord(sign) <= 0xDFFF for sign in content):
        raise invalid(f"messages[{place}].content holds half a surrogate pair, which is no text")
    return {"role": value["role"], "content": content}


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value not in (None, True, False):
        raise invalid(f"`{name}` must be true or false")
    return value is True


def _whole(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63):
        raise invalid(f"`{name}` must be a whole number of 64 bits")
    return value


def _tokens(body: Mapping[str, Any]) -> int | None:
    told = [value for name in ("max_tokens", "max_completion_tokens") if (value := _whole(body, name)) is not None]
    if any(value < 1 for value in told):
        raise invalid("`max_tokens` must be at least 1")
    return min(told, default=None)


def _wishes(model: str, headers: Mapping[str, str], models: Collection[str], domains: Collection[str]) -> Wishes:
    """Those in the model's name win over those in headers."""
    wishes = {wish: headers[header] for header, wish in HEADERS.items() if header in headers}
    if model in models:
        wishes["pool"] = model
    elif model.split("/", 1)[0] != MODEL:
        raise invalid(f"the model {_short(model)!r} does not exist: GET /v1/models lists them", "model_not_found", 404)
    elif "/" in model:
        wishes |= dict(_wish(part) for part in model.split("/", 1)[1].split(","))
    pool = frozenset(filter(None, wishes["pool"].split("+"))) if "pool" in wishes else None
    if pool is not None and (not pool or pool - set(models)):
        raise invalid(f"pool: no model {_short(min(pool - set(models), default=''))!r}: GET /v1/models lists them")
    domain = wishes.get("domain")
    if domain is not None and domain not in domains:
        raise invalid(f"domain {_short(domain)!r} is not one of the router's: {', '.join(sorted(domains)[:20])}")
    return Wishes(_amount(wishes, "lambda"), pool, _amount(wishes, "budget"), _amount(wishes, "deadline"), domain)


def _wish(part: str) -> tuple[str, str]:
    name, sign, value = part.partition("=")
    if not sign or name not in HEADERS.values():
        raise invalid(f"model: {_short(part)!r} is none of {', '.join(f'{name}=…' for name in HEADERS.values())}")
    return name, value


def _amount(wishes: Mapping[str, str], name: str) -> float | None:
    if name not in wishes:
        return None
    try:
        value = float(wishes[name])
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e9:
        raise invalid(f"{name} must be a number of at least 0, not {_short(wishes[name])!r}")
    return value


def _short(text: str) -> str:
    """What a client sent, fit to be told back: cut, and without signs that do something."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:60])
