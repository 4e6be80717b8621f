"""An episode as a conversation: the same messages in demonstrations, in GRPO's rollouts and in evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from responses_db.query import Message
from xrouter_sim.envs.actions import Call
from xrouter_sim.envs.episode_text import TextEpisode


@dataclass
class Conversation:
    """A policy's talk with an environment. Columns of `row` are those of `tools.dataset`."""

    env: TextEpisode
    row: Mapping[str, Any]
    messages: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def begin(cls, env: TextEpisode, row: Mapping[str, Any]) -> "Conversation":
        """Reset the environment; the pool is told at the end of the last message of the row's `prompt`."""
        told = env.reset(**row)
        prompt: Sequence[Message] = row["prompt"]
        last = prompt[-1]
        return cls(env, row, [*map(dict, prompt[:-1]), {**last, "content": last["content"] + told}])

    @property
    def over(self) -> bool:
        return env_is_over(self.env)

    def says(self, text: str, calls: Sequence[Call]) -> None:
        """The policy's message: its tool calls are carried out one after the other; plain text is its answer."""
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if calls:
            message["tool_calls"] = [
                {"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in calls
            ]
        self.messages.append(message)
        for name, arguments in calls:
            self.messages.append({"role": "tool", "name": name, "content": carry_out(self.env, name, arguments)})
        if not calls:
            self.env._answer(text)


def env_is_over(env: TextEpisode) -> bool:
    return bool(env.episodes.done[0])


def tools_of(env: TextEpisode) -> list[Any]:
    """The tools as TRL finds them: public methods of the class but `reset` and `get_reward`."""
    names = [
        name
        for kind in reversed(type(env).__mro__)
        for name, member in vars(kind).items()
        if callable(member) and not name.startswith("_") and name not in ("reset", "get_reward")
    ]
    return [getattr(env, name) for name in sorted(dict.fromkeys(names))]


def carry_out(env: TextEpisode, name: str, arguments: Mapping[str, Any]) -> str:
    """A tool call's result. A tool that there is not, or that takes other arguments, is the policy's mistake."""
    tools = {tool.__name__: tool for tool in tools_of(env)}
    if name not in tools:
        return env._refuse(f"There is no tool {name!r}. There are {', '.join(tools)}.")
    try:
        return str(tools[name](**arguments))
    except TypeError as error:
        return env._refuse(f"{name}: {error}.")
