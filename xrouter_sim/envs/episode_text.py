"""One routing episode in text: what the tool-calling faces share. They differ in their tools and in their wording."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from responses_db import LabError
from responses_db.query import Message
from xrouter_sim.engine.arrays import NumpyArrays
from xrouter_sim.engine.randomness import Purpose
from xrouter_sim.engine.semantics import Action, Final
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.envs.narrator import Narrator, Wording
from xrouter_sim.envs.pool_text import OVER, cut
from xrouter_sim.envs.texts import StoreTexts, Texts
from xrouter_sim.replay import Floats, Ints
from xrouter_sim.reward import reward

LONGEST = 1500
"""Characters of a response that are shown unless told otherwise."""

MISTAKES = 10
"""Actions that cannot be carried out, after which an episode ends without an answer."""


class MistakeError(Exception):
    """An action that cannot be carried out, in words that help."""


class TextEpisode:
    """One episode at a time. Subclasses add tools: TRL takes every public method but `reset` and `get_reward` for one.

    What the engine can carry out, it does, and the policy is told what came of it; what means nothing (an unknown name,
    a number out of range) is refused with a hint, and is no turn. `steps` has the engine's action of every turn, as
    (arms called, final), `mistakes` counts what was refused, and `episodes` is the engine's state, a batch of one.

    The bill is that of the models called, and `own_usd`: what the policy's own tokens cost, which whoever generates
    them says (`charge`).
    """

    wording: ClassVar[Wording]

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
        longest_question: int | None = None,
        told_at_end: str | None = None,
        most_mistakes: int = MISTAKES,
        switch: bool = True,
        parallel: bool = True,
        letters: bool = False,
    ) -> None:
        """`queries` [n] indices and `penalties` are what is drawn from for an episode that `reset` is told nothing of.

        `texts` are those of the replay's store; hand one `StoreTexts` to all environments, for it reads every text.
        `longest` and `longest_question` in characters; the middle of what is longer is left out. `told_at_end` is what
        a tool returns once the episode is over, in place of how it ended; `most_mistakes` end it without an answer.
        Without `switch` models are called in one turn at most, without `parallel` one model a turn: for ablations.
        With `letters` models are called by a letter each, the same in every episode: a name may take a dozen tokens.
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
        self._narrator = Narrator(simulator, self.texts, queries, longest, self.wording, letters)
        self._longest_question, self._told_at_end = longest_question, told_at_end
        self._most_mistakes, self._switch, self._parallel = most_mistakes, switch, parallel
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
        query, drawn = draw(self.simulator, self._queries, self._penalties, np.array([number]))
        if query_id is not None:
            if query_id not in self._places:
                raise LabError(f"no query {query_id!r} in {self.simulator.replay.store['path']}")
            query = np.array([self._places[query_id]])
        weight = drawn if penalty is None else np.array([float(penalty)])
        limits = {name: values + 0 for name, values in self._limits.items()}
        self.episodes = self.simulator.reset(query, np.array([number]), weight, **limits)
        self.steps, self.mistakes, self.own_usd, self._ungraded = [], 0, 0.0, ""
        self._names = self._narrator.names(self.episodes)
        pool = self._narrator.pool(self.episodes)
        asked = bool(prompt) if isinstance(prompt, str) else any(message["content"] for message in prompt or ())
        if asked:
            return f"\n\n{pool}"
        question = "\n\n".join(message["content"] for message in self.texts.messages(self._query))
        return f"{shortened(question, self._longest_question)}\n\n{pool}"

    def get_reward(self) -> float:
        """The success-gated reward, in [0, 1]. An episode that is not over ends here, without an answer.

        Raises LabError when the answer could not be graded: that is never a zero.
        """
        if not self._done:
            self._turn([], Final.NONE)
        if self._ungraded:
            raise LabError(self._ungraded)
        return float(self.episodes.reward[0])

    def _charge(self, usd: float) -> None:
        """Put what the policy's own tokens cost onto the bill of an episode that is over. No tool: the policy's host
        calls it, once."""
        self.own_usd = usd
        self.episodes.cost[0] += usd
        self._pay(float(self.episodes.score[0]))

    # --- from words to actions ----------------------------------------------------------------------------------------

    def _act(self, read: Callable[[], tuple[list[int], int]]) -> str:
        """Carry out the action that `read` makes of a tool's arguments, as one turn; or say why there is none."""
        if self._done:
            return self._told_at_end or OVER
        try:
            calls, final = read()
            self._check(calls)
        except MistakeError as mistake:
            return self._refuse(str(mistake))
        return self._turn(calls, final)

    def _check(self, calls: list[int]) -> None:
        if len(calls) > 1 and not self._parallel:
            raise MistakeError("Call one model at a time.")
        if calls and not self._switch and any(called for called, _ in self.steps):
            raise MistakeError("You have called already: end the episode.")

    def _refuse(self, why: str) -> str:
        """Count a mistake. No turn is lost, but too many mistakes end the episode."""
        if self._done:
            return self._told_at_end or OVER
        self.mistakes += 1
        if self.mistakes < self._most_mistakes:
            return f"Nothing was done, and nothing is billed. {why}"
        return f"{why} That was mistake number {self._most_mistakes}. {self._turn([], Final.NONE)}"

    def _arm(self, model: Any, style: Any) -> int:
        styles = self.simulator.replay.prompt_styles
        name, style = str(model).strip(), str(style or styles[0]).strip()
        if name not in self._names:
            raise MistakeError(
                f"There is no model {name!r}. On offer are {', '.join(self._narrator.offered(self.episodes))}."
            )
        if style not in styles:
            raise MistakeError(f"There is no prompt style {style!r}. There is {', '.join(styles)}.")
        return self._names.index(name) * len(styles) + styles.index(style)

    def _slot(self, number: Any) -> int:
        n_slots = int(self.episodes.n_slots[0])
        if not n_slots:
            raise MistakeError("There is no response yet: call a model first.")
        try:
            place = float(number)
        except (TypeError, ValueError):
            place = 0.0
        if place not in range(1, n_slots + 1):
            raise MistakeError(f"There is no response {number!r}: the responses are numbered 1 to {n_slots}.")
        return int(place) - 1

    def _answer(self, text: Any) -> str:
        """End the episode with the policy's own words, and have them graded."""

        def read() -> tuple[list[int], int]:
            if not self.texts.can_grade(self._query):
                raise MistakeError("An answer in your own words cannot be graded here: select a response, or vote.")
            if not isinstance(text, str) or not text.strip():
                raise MistakeError("The answer is empty: give the final answer as text.")
            return [], Final.DIRECT

        was_over = self._done
        told = self._act(read)
        if not was_over and self.episodes.ending[0] == Final.DIRECT:
            self._grade(text)
        return told

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
        if self._done and self._told_at_end is not None:
            return self._told_at_end
        return self._narrator.turn(self.episodes, before, calls, final)

    def _grade(self, text: str) -> None:
        """The engine knows recorded scores; that of the policy's own words comes from the query's grader."""
        query = self._query
        try:
            score = self.texts.grade(query, text)
        except Exception as error:  # whatever a grader raises; a trainer would show it to the policy and go on
            query_id = self.simulator.replay.query_ids[query]
            self._ungraded = f"{query_id}: the answer {text[:60]!r} could not be graded: {error}"
            return
        self._pay(score)

    def _pay(self, score: float) -> None:
        episodes = self.episodes
        episodes.score[0] = score
        episodes.reward[0] = reward(score, episodes.cost[0], episodes.penalty[0], self.simulator.cost_unit)


def draw(simulator: Simulator, queries: Ints, penalties: Floats, key: Ints) -> tuple[Ints, Floats]:
    """Query and λ of episodes [B], as the other environments draw them."""
    fate = simulator.fate(key)
    query: Ints = queries[simulator.pick(fate, Purpose.QUERY, len(queries))]
    return query, penalties[simulator.pick(fate, Purpose.PENALTY, len(penalties))]


def shortened(question: str, longest: int | None) -> str:
    """A question, its middle left out where it has more than `longest` characters."""
    return question if longest is None else cut(question, longest)
