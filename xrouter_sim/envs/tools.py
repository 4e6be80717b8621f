"""Routing as tool calls in text, for language-model policies: the engine's third face, made for TRL's environment hook.

    texts = StoreTexts(replay)
    trainer = GRPOTrainer(
        model,
        train_dataset=Dataset.from_list(dataset(simulator, texts, "train", 512, seed=0)),
        environment_factory=lambda: ToolRoutingEnv(simulator, replay.indices("train"), texts=texts),
        reward_funcs=answer_with_last_message,   # optional: a plain last message counts as the final answer
        …
    )

One tool call is one turn of the engine. A trainer carries out the tool calls of one message one after the other; what
shall run in parallel goes into one `call_models`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from responses_db import LabError
from responses_db.query import Message
from xrouter_sim.engine.arrays import NumpyArrays
from xrouter_sim.engine.randomness import Purpose
from xrouter_sim.engine.semantics import Action, Final
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.envs.narrator import Narrator
from xrouter_sim.envs.pool_text import INSTRUCTIONS, OVER
from xrouter_sim.envs.texts import StoreTexts, Texts
from xrouter_sim.envs.vector import first_key
from xrouter_sim.replay import Ints
from xrouter_sim.reward import reward

LONGEST = 1500
"""Characters of a response that are shown unless told otherwise."""

MISTAKES = 10
"""Tool calls that cannot be carried out, after which an episode ends without an answer."""

Then = Literal["continue", "select_last", "majority_vote", "weighted_vote"]

FINALS: dict[str, Final] = {
    "continue": Final.CONTINUE,
    "select_last": Final.ADOPT,
    "majority_vote": Final.VOTE,
    "weighted_vote": Final.WEIGHTED_VOTE,
}


class _MistakeError(Exception):
    """A tool call that cannot be carried out, in words that help."""


class ToolRoutingEnv:
    """One routing episode at a time, in text. Its public methods but `reset` and `get_reward` are tools.

    What the engine can carry out, it does, and the policy is told what came of it; what means nothing (an unknown name,
    a number out of range) is refused with a hint, and is no turn. `steps` has the engine's action of every turn, as
    (arms called, final), and `episodes` the engine's state, a batch of one.

    The policy's own tokens cost nothing here: the bill is that of the models it calls.
    """

    def __init__(
        self,
        simulator: Simulator,
        queries: Ints,
        *,
        penalties: Sequence[float] = (1.0,),
        texts: Texts | None = None,
        budget_usd: float | None = None,
        deadline_s: float | None = None,
        longest: int = LONGEST,
    ) -> None:
        """`queries` [n] indices and `penalties` are what is drawn from for an episode that `reset` is told nothing of.

        `texts` are those of the replay's store; hand one `StoreTexts` to all environments, for it reads every text.
        Raises LabError for a simulator on torch, or one with an arm for direct answers: this policy gives its own.
        """
        if not isinstance(simulator.xp, NumpyArrays):
            raise LabError(f"tool calls are played one by one on NumPy, not on {simulator.xp.name}: leave out `xp`")
        if simulator.direct_arm is not None:
            raise LabError(
                "a policy that writes text answers directly by itself: make the simulator without direct_arm"
            )
        self.simulator, self.texts = simulator, texts or StoreTexts(simulator.replay)
        self.steps: list[tuple[tuple[int, ...], int]] = []
        self._queries, self._penalties = queries, np.array(penalties, np.float64)
        limits = {"budget": budget_usd, "deadline": deadline_s}
        self._limits: dict[str, Any] = {
            name: np.array([float(value)]) for name, value in limits.items() if value is not None
        }
        self._places = {query_id: place for place, query_id in enumerate(simulator.replay.query_ids)}
        self._narrator = Narrator(simulator, self.texts, queries, longest)
        self._next_key = 0
        self.reset()  # so that there is an episode in any case
        self._next_key = 0

    # --- the hook -----------------------------------------------------------------------------------------------------

    def reset(
        self,
        query_id: str | None = None,
        key: int | None = None,
        penalty: float | None = None,
        prompt: str | Sequence[Message] | None = None,
        **_columns: object,
    ) -> str:
        """Begin an episode and describe its pool. Takes a row of `dataset`; other columns are no matter.

        Without a `key` it is the next episode, and the key fixes the query and λ where they are not given. Without a
        `prompt` the text begins with the question. Raises LabError for a query that the replay lacks.
        """
        number = self._next_key if key is None else int(key)
        self._next_key = number + 1
        query, drawn = _draw(self.simulator, self._queries, self._penalties, np.array([number]))
        if query_id is not None:
            if query_id not in self._places:
                raise LabError(f"no query {query_id!r} in {self.simulator.replay.store['path']}")
            query = np.array([self._places[query_id]])
        weight = drawn if penalty is None else np.array([float(penalty)])
        limits = {name: values + 0 for name, values in self._limits.items()}
        self.episodes = self.simulator.reset(query, np.array([number]), weight, **limits)
        self.steps, self._mistakes, self._ungraded = [], 0, ""
        self._names = self._narrator.names(self.episodes)
        pool = self._narrator.pool(self.episodes)
        asked = bool(prompt) if isinstance(prompt, str) else any(message["content"] for message in prompt or ())
        return f"\n\n{pool}" if asked else f"{_question(self.texts.messages(self._query))}\n\n{pool}"

    def get_reward(self) -> float:
        """The success-gated reward, in [0, 1]. An episode that is not over ends here, without an answer.

        Raises LabError when the answer could not be graded: that is never a zero.
        """
        if not self._done:
            self._turn([], Final.NONE)
        if self._ungraded:
            raise LabError(self._ungraded)
        return float(self.episodes.reward[0])

    # --- tools --------------------------------------------------------------------------------------------------------

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

        def read() -> tuple[list[int], int]:
            if not self.texts.can_grade(self._query):
                raise _MistakeError("An answer in your own words cannot be graded here: select a response, or vote.")
            if not isinstance(text, str) or not text.strip():
                raise _MistakeError("The answer is empty: give the final answer as text.")
            return [], Final.DIRECT

        was_over = self._done
        told = self._act(read)
        if not was_over and self.episodes.ending[0] == Final.DIRECT:
            self._grade(text)
        return told

    # --- from words to actions ----------------------------------------------------------------------------------------

    def _act(self, read: Callable[[], tuple[list[int], int]]) -> str:
        """Carry out the action that `read` makes of a tool's arguments, as one turn; or say why there is none."""
        if self._done:
            return OVER
        try:
            calls, final = read()
        except _MistakeError as mistake:
            self._mistakes += 1
            if self._mistakes < MISTAKES:
                return f"Nothing was done, and nothing is billed. {mistake}"
            return f"{mistake} That was mistake number {MISTAKES}. {self._turn([], Final.NONE)}"
        return self._turn(calls, final)

    def _arms(self, models: Any, styles: Any) -> list[int]:
        models, styles = _listed(models), _listed(styles) or [""]
        if not models:
            raise _MistakeError("Name at least one model.")
        if len(styles) == 1:
            styles *= len(models)
        if len(styles) != len(models):
            raise _MistakeError(
                f"{len(models)} models but {len(styles)} prompt styles: give one for each, or one for all."
            )
        return [self._arm(model, style) for model, style in zip(models, styles, strict=True)]

    def _arm(self, model: Any, style: Any) -> int:
        styles = self.simulator.replay.prompt_styles
        name, style = str(model).strip(), str(style or styles[0]).strip()
        if name not in self._names:
            raise _MistakeError(
                f"There is no model {name!r}. On offer are {', '.join(self._narrator.offered(self.episodes))}."
            )
        if style not in styles:
            raise _MistakeError(f"There is no prompt style {style!r}. There is {', '.join(styles)}.")
        return self._names.index(name) * len(styles) + styles.index(style)

    def _slot(self, number: Any) -> int:
        n_slots = int(self.episodes.n_slots[0])
        if not n_slots:
            raise _MistakeError("There is no response yet: call a model first.")
        try:
            place = float(number)
        except (TypeError, ValueError):
            place = 0.0
        if place not in range(1, n_slots + 1):
            raise _MistakeError(f"There is no response {number!r}: the responses are numbered 1 to {n_slots}.")
        return int(place) - 1

    # --- turns --------------------------------------------------------------------------------------------------------

    @property
    def _done(self) -> bool:
        return bool(self.episodes.done[0])

    @property
    def _query(self) -> int:
        return int(self.episodes.query[0])

    def _turn(self, calls: list[int], final: int) -> str:
        before = int(self.episodes.n_slots[0])
        self.steps.append((tuple(calls), int(final)))
        self.simulator.step(self.episodes, Action(np.array([calls], np.int64), np.array([int(final)])))
        return self._narrator.turn(self.episodes, before, calls, final)

    def _grade(self, text: str) -> None:
        """The engine knows recorded scores; that of the policy's own words comes from the query's grader."""
        episodes, query = self.episodes, self._query
        try:
            score = self.texts.grade(query, text)
        except Exception as error:  # whatever a grader raises; a trainer would show it to the policy and go on
            query_id = self.simulator.replay.query_ids[query]
            self._ungraded = f"{query_id}: the answer {text[:60]!r} could not be graded: {error}"
            return
        episodes.score[0] = score
        episodes.reward[0] = reward(score, episodes.cost[0], episodes.penalty[0], self.simulator.cost_unit)


def dataset(
    simulator: Simulator, texts: Texts, split: str, n: int, seed: int, penalties: Sequence[float] = (1.0,)
) -> list[dict[str, Any]]:
    """n rows for a trainer: `prompt` (chat messages), and `query_id`, `key` and `penalty` for `ToolRoutingEnv.reset`.

    Row i is episode i of a VectorRoutingEnv on the same split, penalties and seed. A trainer that plays a row several
    times, as GRPO does, meets the same world every time: what differs is the policy's doing.
    Raises LabError for an empty split.
    """
    key = np.arange(n) + first_key(seed, None)
    query, penalty = _draw(simulator, simulator.replay.indices(split), np.array(penalties, np.float64), key)
    rows = zip(query.tolist(), key.tolist(), penalty.tolist(), strict=True)
    return [
        {"prompt": _prompt(texts.messages(q)), "query_id": simulator.replay.query_ids[q], "key": k, "penalty": p}
        for q, k, p in rows
    ]


def answer_with_last_message(
    completions: Sequence[Any], environments: Sequence[ToolRoutingEnv], **_columns: object
) -> list[float]:
    """A reward function for TRL that pays nothing: where an episode is not over, the policy's last message ends it as
    its answer, so that `get_reward`, which is asked afterwards, pays for it.
    """
    for completion, environment in zip(completions, environments, strict=True):
        last = completion if isinstance(completion, str) else _last_text(completion)
        if last and not environment._done:
            environment.answer(last)
    return [0.0] * len(completions)


def _last_text(messages: Sequence[dict[str, Any]]) -> str:
    """What the policy says at last; nothing where its last message calls tools."""
    last = messages[-1] if messages else {}
    if last.get("role") != "assistant" or last.get("tool_calls"):
        return ""
    return str(last.get("content") or "").strip()


def _listed(names: Any) -> list[Any]:
    """What a model gives for a list: a list, or one name by itself."""
    if not names:
        return []
    return list(names) if isinstance(names, list | tuple) else [names]


def _final(then: Any) -> Final:
    if not isinstance(then, str) or then not in FINALS:
        raise _MistakeError(f"`then` is one of {', '.join(FINALS)}, not {then!r}.")
    return FINALS[then]


def _draw(simulator: Simulator, queries: Ints, penalties: Any, key: Ints) -> tuple[Ints, Any]:
    """Query and λ of episodes [B], as the other environments draw them."""
    fate = simulator.fate(key)
    query: Ints = queries[simulator.pick(fate, Purpose.QUERY, len(queries))]
    return query, penalties[simulator.pick(fate, Purpose.PENALTY, len(penalties))]


def _prompt(messages: Sequence[Message]) -> list[Message]:
    """The instructions as system message (before the query's own), then what is asked."""
    own = [message["content"] for message in messages if message["role"] == "system"]
    asked = [dict(message) for message in messages if message["role"] != "system"]
    return [{"role": "system", "content": "\n\n".join([INSTRUCTIONS, *own])}, *asked]


def _question(messages: Sequence[Message]) -> str:
    """The messages as one text."""
    return "\n\n".join(message["content"] for message in messages)
