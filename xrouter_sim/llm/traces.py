"""Demonstrations as conversations, for supervised fine-tuning."""

from collections.abc import Sequence
from typing import Any

from xrouter_sim.envs.actions import as_tool_call
from xrouter_sim.envs.episode_text import TextEpisode
from xrouter_sim.llm.conversation import Conversation
from xrouter_sim.llm.teacher import Shares, Teacher


def demonstrate(
    teacher: Teacher, envs: Sequence[TextEpisode], rows: Sequence[dict[str, Any]], shares: Shares
) -> list[dict[str, Any]]:
    """One trace a row: `messages`, which end with the policy's last word, the behaviour and what it earned.

    A row's `world` is its environment's place in `envs`. An episode that the teacher gives up has no trace.
    """
    traces = []
    for row in rows:
        env = envs[row.get("world", 0)]
        talk = Conversation.begin(env, row)
        behaviour = teacher.behaviour(env, shares)
        for step in teacher.steps(env, behaviour):
            if step.text is not None:
                talk.says(step.text, [])
            else:
                talk.says("", [as_tool_call(env, step.calls, step.final)])
        if not talk.over:
            continue
        while talk.messages[-1]["role"] == "tool":
            talk.messages.pop()
        traces.append({"messages": talk.messages, "behaviour": behaviour, "reward": env.get_reward()})
    return traces
