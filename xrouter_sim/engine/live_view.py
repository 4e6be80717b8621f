"""What a router sees of a live episode: the Observation of the simulator, made of what came back so far."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import log1p
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np

from xrouter_sim.engine.episodes import (
    ARM,
    ATTEMPTS,
    CACHED,
    EMPTY,
    OUTCOME,
    RECORDED,
    SAMPLE,
    TURN,
    Observation,
)
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.semantics import Outcome
from xrouter_sim.engine.simulator import NO_LIMIT, Simulator
from xrouter_sim.engine.trace import AttemptTrace
from xrouter_sim.replay import EVIDENCE, Bools, Floats, Ints

if TYPE_CHECKING:
    from xrouter_sim.engine.live import LiveEngine, _Episode

HEDGES = re.compile(
    r"(?i)\b(maybe|perhaps|probably|possibly|not (entirely )?(sure|certain)|i think|i guess|might be|roughly)\b"
)
"""How often a text voices doubt: `hedges_in` of responses_db/schema_2.sql, for texts that are in no store."""


def option_of(answer: str | None) -> int:
    """Which letter an answer is, from A (1) to J, as `features.answer_options` has it; 0: none. A grader may fold case.

    >>> option_of("b"), option_of("42")
    (2, 0)
    """
    letter = "ABCDEFGHIJ".find(answer.upper()) if answer and len(answer) == 1 else -1
    return letter + 1


@dataclass
class Seen:
    """A slot: one call, and what came of it."""

    arm: int
    sample: int
    turn: int
    outcome: Outcome = Outcome.FAILED
    cached: bool = False
    recorded: bool = False
    attempts: list[AttemptTrace] = field(default_factory=list)
    cost: float = 0.0
    seconds: float = 0.0
    text: str | None = None
    answer: str | None = None
    mean_logprob: float | None = None
    score: float | None = None
    """Known only once the episode is over."""

    @property
    def tried(self) -> int:
        """Attempts that were sent."""
        return sum(attempt.sent for attempt in self.attempts)

    @property
    def usable_answer(self) -> str | None:
        """The answer, where the response is OK."""
        return self.answer if self.outcome == Outcome.OK else None

    def take_from_cache(self, earlier: Seen) -> None:
        """Be the response of an earlier call: free, at once, as it was."""
        self.cached = self.recorded = True
        self.outcome, self.text, self.answer = earlier.outcome, earlier.text, earlier.answer
        self.mean_logprob = earlier.mean_logprob

    def word(self) -> int:
        """As a slot of `Episodes` has it."""
        parts = ((self.arm, ARM), (self.sample, SAMPLE), (self.outcome, OUTCOME), (self.tried, ATTEMPTS))
        flags = ((self.turn, TURN), (self.cached, CACHED), (self.recorded, RECORDED))
        return sum(int(value) << place for value, place in (*parts, *flags))

    def evidence(self) -> list[float]:
        """See `replay.EVIDENCE`."""
        text = self.text or ""
        values = {
            "log_length": log1p(len(text)),
            "mean_logprob": self.mean_logprob or 0.0,
            "hedges": float(len(HEDGES.findall(text))),
            "has_answer": float(self.answer is not None),
        }
        return [values[name] for name in EVIDENCE]


@dataclass(frozen=True)
class _Lookup:
    """In the place of an Observation's simulator: what the simulator looks up, of one live episode."""

    profile: Profile
    there: Bools  # [1, M]
    answers: Ints  # [1, L]
    evidences: Floats  # [1, L, E]
    options: Ints  # [1, L] which letter each answer is, from A (1); 0 none
    live: ClassVar[bool] = True

    def price(self, world: Ints, period: Ints) -> Floats:
        """Live prices are those of the price cards."""
        return np.ones(self.there.shape)

    def on_offer(self, world: Ints) -> Bools:
        return self.there

    def answer(self, query: Ints, words: Ints) -> Ints:
        return self.answers

    def evidence(self, query: Ints, words: Ints) -> Floats:
        return self.evidences


def observation(now: _Episode, place: int, engine: LiveEngine) -> Observation:
    """Of one episode; a snapshot. `place` is the query's index."""
    slots, most = now.slots, engine.client.max_calls
    words, costs, times = np.full((1, most), EMPTY), np.zeros((1, most)), np.zeros((1, most))
    answers, evidences = np.full((1, most), -1), np.zeros((1, most, len(EVIDENCE)))
    options = np.zeros((1, most), np.int64)
    known = sorted({seen.usable_answer for seen in slots if seen.usable_answer is not None})
    for slot, seen in enumerate(slots):
        words[0, slot], costs[0, slot], times[0, slot] = seen.word(), seen.cost, seen.seconds
        if seen.outcome == Outcome.OK:
            evidences[0, slot] = seen.evidence()
            answers[0, slot] = -1 if seen.answer is None else known.index(seen.answer)
            options[0, slot] = option_of(seen.answer)
    there = np.array([[model not in now.away for model in engine.models]])
    lookup = _Lookup(Profile("live", client=engine.client), there, answers, evidences, options)
    budget, deadline = now.limits.budget_usd, now.limits.deadline_s
    return Observation(
        simulator=cast(Simulator, lookup),
        row=np.zeros(1, np.int64),
        key=np.array([now.key]),
        query=np.array([place]),
        penalty=np.array([now.penalty]),
        turn=np.array([now.turn]),
        cost=np.array([now.cost]),
        time=np.array([now.time]),
        budget=np.array([NO_LIMIT if budget is None else budget]),
        deadline=np.array([NO_LIMIT if deadline is None else deadline]),
        world=np.zeros(1, np.int64),
        period=np.zeros(1, np.int64),
        words=words,
        slot_cost=costs,
        slot_time=times,
    )
