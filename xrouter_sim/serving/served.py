"""What came of a request: the final answer, and what the router did for it."""

from dataclasses import dataclass
from typing import Any, Protocol

from xrouter_sim.engine.trace import CallTrace, EpisodeTrace
from xrouter_sim.serving.asked import Asked
from xrouter_sim.serving.errors import Refusal
from xrouter_sim.serving.metered import Mouth

FINISH = {"ok": "stop", "truncated": "length", "refused": "content_filter"}


@dataclass(frozen=True)
class Tokens:
    """Of the final answer. 0 where nobody counted."""

    input: int = 0
    output: int = 0


@dataclass(frozen=True)
class Served:
    """An answer with its episode. `decision_s` is what the router itself took, all turns together."""

    text: str
    finish_reason: str
    tokens: Tokens
    trace: EpisodeTrace
    metadata: dict[str, Any]
    decision_s: float


class Backend(Protocol):
    """Who answers: providers, or a store."""

    models: list[str]
    domains: list[str]

    async def answer(self, asked: Asked, request_id: str, key_id: int, mouth: Mouth | None) -> Served:
        """Route a request to its end. Raises Refusal when no answer comes of it."""
        ...


def metadata_of(trace: EpisodeTrace, decision_s: float, **more: Any) -> dict[str, Any]:
    """`router_metadata`: what was decided, what was called, what it cost and took. No texts."""
    return {
        "router": trace.router,
        "lambda": trace.penalty,
        "answers": trace.label.removeprefix(f"{trace.engine} episode over "),
        "engine": trace.engine,
        "decisions": [_decision(turn.asked, turn.final, turn.selected) for turn in trace.turns],
        "calls": [_call(call) for call in trace.calls],
        "answered_by": None if trace.end.slot is None else arm_of(trace.calls[trace.end.slot]),
        "cost_usd": trace.cost_usd,
        "latency_s": trace.time_s,
        "decision_s": round(decision_s, 6),
        **more,
    }


def chosen(trace: EpisodeTrace, metadata: dict[str, Any], *, want_of_budget: bool) -> CallTrace:
    """The call whose response is the answer. Raises Refusal where there is none, and says why."""
    if trace.end.slot is not None and trace.calls[trace.end.slot].text is not None:
        return trace.calls[trace.end.slot]
    outcomes = [call.outcome for call in trace.calls]
    if want_of_budget or "over_limit" in outcomes:
        message = "the budget (of the key, the server or the request) does not reach for another call"
        raise Refusal(429, "insufficient_quota", "insufficient_quota", message, metadata=metadata)
    if "timeout" in outcomes and trace.deadline_s is not None and trace.time_s >= trace.deadline_s:
        raise Refusal(504, "timeout", "deadline", "no answer within the deadline", metadata=metadata)
    if outcomes and set(outcomes) == {"rate_limited"}:
        message = "the providers' rate limits are reached"
        raise Refusal(429, "rate_limit_error", "upstream_rate_limit", message, retry_after_s=5.0, metadata=metadata)
    came = f"calls came back {', '.join(outcomes)}" if outcomes else "nothing is on offer"
    raise Refusal(502, "upstream_error", "no_answer", f"no answer: {came}", metadata=metadata)


def arm_of(call: CallTrace) -> str:
    return f"{call.model}/{call.prompt_style}"


def _decision(asked: list[str], final: str, selected: int | None) -> dict[str, Any]:
    return {"call": asked, "final": final} | ({} if selected is None else {"select": selected})


def _call(call: CallTrace) -> dict[str, Any]:
    return {
        "model": call.model,
        "prompt_style": call.prompt_style,
        "outcome": call.outcome,
        "attempts": sum(attempt.sent for attempt in call.attempts),
        "cached": call.cached,
        "cost_usd": call.cost_usd,
        "seconds": call.seconds,
    }
