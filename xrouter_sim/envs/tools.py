"""Routing as tool calls in text, for language-model policies: the engine's third face, made for TRL's environment hook.

    texts = StoreTexts(replay)
    trainer = GRPOTrainer(
        model,
        train_dataset=Dataset.from_list(dataset(ToolRoutingEnv, simulator, texts, "train", 512, seed=0)),
        environment_factory=lambda: ToolRoutingEnv(simulator, replay.indices("train"), texts=texts),
        reward_funcs=answer_with_last_message,   # optional: a plain last message counts as the final answer
        …
    )

One tool call is one turn of the engine. A trainer carries out the tool calls of one message one after the other; what
shall run in parallel goes into one `call_models`. `brief` has the same face in few tokens.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from responses_db.query import Message
from xrouter_sim.engine.semantics import Final
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.envs import pool_text
from xrouter_sim.envs.episode_text import MistakeError, TextEpisode, draw, shortened
from xrouter_sim.envs.narrator import Wording
from xrouter_sim.envs.texts import Texts
from xrouter_sim.envs.vector import first_key

Then = Literal["continue", "select_last", "majority_vote", "weighted_vote"]

FINALS: dict[str, Final] = {
    "continue": Final.CONTINUE,
    "select_last": Final.ADOPT,
    "majority_vote": Final.VOTE,
    "weighted_vote": Final.WEIGHTED_VOTE,
}


class ToolRoutingEnv(TextEpisode):
    """Tools with names that explain themselves and JSON schemas, for models that know how to call tools."""

    wording: ClassVar[Wording] = pool_text

    def call_model(self, model: str, prompt_style: str = "", then: Then = "continue") -> str:
        """
        Ask one model the question and read its response. Asking a model again brings another response.

        Args:
            model: The name of a model on offer.
            prompt_style: One of the prompt styles, if several are listed; the first one if left out.
            then: What to do once the response is there: continue, or end the episode in the same turn by select_last
                (the response becomes the final answer if it is usable), majority_vote or weighted_vote.

        Returns:
            The response, what it cost, and which earlier responses agree with it.
        """
        return self._act(lambda: ([self._arm(model, prompt_style)], _final(then)))

    def call_models(self, models: list[str], prompt_styles: list[str] | None = None, then: Then = "continue") -> str:
        """
        Ask several models the question at once, in one turn, and read their responses. It takes as long as the slowest.

        Args:
            models: Names of models on offer. A model that stands twice is asked twice.
            prompt_styles: A prompt style for each of the models, or one for all; the first one listed if left out.
            then: What to do once the responses are there: continue, or end the episode in the same turn by select_last
                (the last response becomes the final answer if it is usable), majority_vote or weighted_vote.

        Returns:
            The responses, what each cost, and which earlier responses agree with it.
        """
        return self._act(lambda: (self._arms(models, prompt_styles), _final(then)))

    def select_response(self, number: int) -> str:
        """
        End the episode with an earlier response as the final answer.

        Args:
            number: The number of the response.

        Returns:
            A word on how the episode ended.
        """
        return self._act(lambda: ([], self._slot(number)))

    def majority_vote(self) -> str:
        """
        End the episode with the answer that most responses agree on as the final answer. The earliest wins a tie.

        Returns:
            A word on how the episode ended.
        """
        return self._act(lambda: ([], Final.VOTE))

    def weighted_vote(self) -> str:
        """
        End the episode with a vote in which the responses of more able models count for more.

        Returns:
            A word on how the episode ended.
        """
        return self._act(lambda: ([], Final.WEIGHTED_VOTE))

    def answer(self, text: str) -> str:
        """
        End the episode with an answer in your own words.

        Args:
            text: The final answer, in the form that the question asks for.

        Returns:
            A word on how the episode ended.
        """
        return self._answer(text)

    def _arms(self, models: Any, styles: Any) -> list[int]:
        models, styles = _listed(models), _listed(styles) or [""]
        if not models:
            raise MistakeError("Name at least one model.")
        if len(styles) == 1:
            styles *= len(models)
        if len(styles) != len(models):
            raise MistakeError(
                f"{len(models)} models but {len(styles)} prompt styles: give one for each, or one for all."
            )
        return [self._arm(model, style) for model, style in zip(models, styles, strict=True)]


def dataset(
    face: type[TextEpisode],
    simulator: Simulator,
    texts: Texts,
    split: str,
    n: int,
    seed: int,
    penalties: Sequence[float] = (1.0,),
    longest_question: int | None = None,
) -> list[dict[str, Any]]:
    """n rows for a trainer: `prompt` (chat messages), and `query_id`, `key` and `penalty` for the face's `reset`.

    Row i is episode i of a VectorRoutingEnv on the same split, penalties and seed. A trainer that plays a row several
    times, as GRPO does, meets the same world every time: what differs is the policy's doing.
    Raises LabError for an empty split.
    """
    key = np.arange(n) + first_key(seed, None)
    query, penalty = draw(simulator, simulator.replay.indices(split), np.array(penalties, np.float64), key)
    rows = zip(query.tolist(), key.tolist(), penalty.tolist(), strict=True)
    return [
        {
            "prompt": opening(face.wording, texts.messages(q), longest_question),
            "query_id": simulator.replay.query_ids[q],
            "key": k,
            "penalty": p,
        }
        for q, k, p in rows
    ]


def answer_with_last_message(
    completions: Sequence[Any], environments: Sequence[TextEpisode], **_columns: object
) -> list[float]:
    """A reward function for TRL that pays nothing: where an episode is not over, the policy's last message ends it as
    its answer, so that `get_reward`, which is asked afterwards, pays for it.
    """
    for completion, environment in zip(completions, environments, strict=True):
        last = completion if isinstance(completion, str) else _last_text(completion)
        if last and not environment._done:
            environment._answer(last)
    return [0.0] * len(completions)


def _last_text(messages: Sequence[dict[str, Any]]) -> str:
    """What the policy says at last; nothing where its last message calls tools."""
    last = messages[-1] if messages else {}
    if last.get("role") != "assistant" or last.get("tool_calls"):
        return ""
    return str(last.get("content") or "").strip()


def opening(wording: Wording, messages: Sequence[Message], longest_question: int | None = None) -> list[Message]:
    """The instructions as system message (before the query's own), then what is asked."""
    own = [message["content"] for message in messages if message["role"] == "system"]
    asked = [
        {**message, "content": shortened(message["content"], longest_question)}
        for message in messages
        if message["role"] != "system"
    ]
    return [{"role": "system", "content": "\n\n".join([wording.INSTRUCTIONS, *own])}, *asked]


def _listed(names: Any) -> list[Any]:
    """What a model gives for a list: a list, or one name by itself."""
    if not names:
        return []
    return list(names) if isinstance(names, list | tuple) else [names]


def _final(then: Any) -> Final:
    if not isinstance(then, str) or then not in FINALS:
        raise MistakeError(f"`then` is one of {', '.join(FINALS)}, not {then!r}.")
    return FINALS[then]
