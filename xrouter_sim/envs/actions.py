"""The engine's actions as tool calls of a face: what a demonstration says. The inverse of what the tools do."""

from collections.abc import Sequence
from typing import Any

from xrouter_sim.engine.semantics import Final
from xrouter_sim.envs.brief import BriefRoutingEnv
from xrouter_sim.envs.episode_text import TextEpisode
from xrouter_sim.envs.tools import FINALS, ToolRoutingEnv

Call = tuple[str, dict[str, Any]]
"""A tool's name and its arguments."""


def as_tool_call(env: TextEpisode, calls: Sequence[int], final: int) -> Call:
    """The tool call of this face that stands for an action: arms called, and a Final or a slot.

    Raises ValueError for an action that has none: calls that end with a selection, an end without an answer, or with
    an answer in the policy's own words (those are no tool calls, but text).
    """
    named = [env._names[arm // len(_styles(env))] for arm in calls]
    styles = [_styles(env)[arm % len(_styles(env))] for arm in calls]
    if isinstance(env, BriefRoutingEnv):
        return _brief(_with_style(named, styles, len(_styles(env)) > 1), final)
    if isinstance(env, ToolRoutingEnv):
        return _explained(named, styles if len(_styles(env)) > 1 else None, final)
    raise ValueError(f"no action language for {type(env).__name__}")


def _styles(env: TextEpisode) -> list[str]:
    return env.simulator.replay.prompt_styles


def _with_style(models: list[str], styles: list[str], several: bool) -> list[str]:
    return [f"{model}/{style}" if several else model for model, style in zip(models, styles, strict=True)]


def _brief(arms: list[str], final: int) -> Call:
    verbs = {Final.CONTINUE: "call", Final.ADOPT: "use", Final.VOTE: "poll"}
    if arms and final in verbs:
        return verbs[Final(final)], {"what": " ".join(arms)}
    if not arms and final >= 0:
        return "take", {"what": str(final + 1)}
    if not arms and final == Final.VOTE:
        return "vote", {}
    raise ValueError(f"no tool call stands for {len(arms)} calls with final {final}")


def _explained(models: list[str], styles: list[str] | None, final: int) -> Call:
    then = {value: name for name, value in FINALS.items()}
    if models and final in then:
        ending = {} if final == Final.CONTINUE else {"then": then[Final(final)]}
        if len(models) == 1:
            return "call_model", {"model": models[0]} | ({"prompt_style": styles[0]} if styles else {}) | ending
        return "call_models", {"models": models} | ({"prompt_styles": styles} if styles else {}) | ending
    if not models and final >= 0:
        return "select_response", {"number": final + 1}
    if not models and final in (Final.VOTE, Final.WEIGHTED_VOTE):
        return ("majority_vote" if final == Final.VOTE else "weighted_vote"), {}
    raise ValueError(f"no tool call stands for {len(models)} calls with final {final}")
