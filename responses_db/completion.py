"""What a chat completion says, read with care: endpoints differ, and one odd field must not cost the whole batch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CHARACTERS_PER_TOKEN = 4
"""For estimates, where an endpoint does not say: about what tokenizers make of English."""

HIGHEST_COUNT = 2**53


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. `cached` are part of `input`, `reasoning` of `output`; `source` is usage or estimate."""

    input: int
    output: int
    cached: int | None
    reasoning: int | None
    source: str


def usage_of(body: Mapping[str, Any], prompt_characters: int) -> Usage:
    """The tokens that the endpoint counted; whatever of input and output it does not say is estimated from characters.

    Where the total is more than input and output together, the rest is output: some endpoints leave reasoning out.
    """
    usage = body.get("usage") or {}
    given_in, given_out = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    total = _count(usage, "total_tokens")
    tokens_in = estimate(prompt_characters) if given_in is None else given_in
    tokens_out = estimate(_written(body)) if given_out is None else given_out
    reasoning = _count(usage.get("completion_tokens_details"), "reasoning_tokens")
    if total is not None and given_in is not None and total - given_in > tokens_out:
        reasoning = reasoning or total - given_in - tokens_out
        tokens_out, given_out = total - given_in, total - given_in
    cached = _count(usage.get("prompt_tokens_details"), "cached_tokens")
    if cached is None:
        cached = _count(usage, "prompt_cache_hit_tokens")  # DeepSeek's spelling
    return Usage(
        input=tokens_in,
        output=tokens_out,
        cached=None if cached is None else min(cached, tokens_in),
        reasoning=None if reasoning is None else min(reasoning, tokens_out),
        source="estimate" if given_in is None or given_out is None else "usage",
    )


def estimate(characters: int) -> int:
    """Tokens of so many characters."""
    return math.ceil(characters / CHARACTERS_PER_TOKEN)


def billed_usd(body: Mapping[str, Any]) -> float | None:
    """What the endpoint says that the call cost (OpenRouter does), in USD; None where it says nothing."""
    usage = body.get("usage")
    cost = usage.get("cost") if isinstance(usage, dict) else None
    known = isinstance(cost, int | float) and not isinstance(cost, bool) and 0 <= cost < math.inf
    return float(cost) if known and cost is not None else None


def text_of(body: Mapping[str, Any]) -> str | None:
    """The answer's text, of its text parts where it comes in parts."""
    content = body["choices"][0]["message"].get("content")
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
        content = "".join(part for part in parts if isinstance(part, str)) or None
    return clean(content)


def clean(value: Any) -> str | None:
    """A text that can be stored (no half of a surrogate pair), or None for anything that is no text."""
    if not isinstance(value, str):
        return None
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def status_of(body: Mapping[str, Any]) -> str:
    """ok, truncated or refused."""
    choice = body["choices"][0]
    if choice.get("finish_reason") == "length":
        return "truncated"
    refused = choice.get("finish_reason") == "content_filter" or choice["message"].get("refusal")
    return "refused" if refused else "ok"


def mean_logprob(body: Mapping[str, Any]) -> float | None:
    """Mean over the tokens that came with one, in nats, at most 0; None without any."""
    logprobs = body["choices"][0].get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(tokens, list):
        return None
    values = [token.get("logprob") for token in tokens if isinstance(token, dict)]
    known = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
    return min(sum(known) / len(known), 0.0) if known else None


def _written(body: Mapping[str, Any]) -> int:
    """Characters of the answer and of the reasoning that came with it."""
    reasoning = body["choices"][0]["message"].get("reasoning_content")
    return len(text_of(body) or "") + (len(reasoning) if isinstance(reasoning, str) else 0)


def _count(counts: Any, name: str) -> int | None:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < HIGHEST_COUNT else None
