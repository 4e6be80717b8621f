"""The live orchestration engine: carries out the page of `semantics` against models that answer now.

It differs from the simulator in where an attempt's outcome, seconds and bill come from, and in nothing else: samples,
jitter, retries, cache, budget, deadline, votes and the end follow the same page with the same draws, and the episode is
written down as the same trace. So `replaying.replayed` of a live trace is that trace.

The clock is the page's: a turn takes its slowest call, a call its attempts and waits. What the engine itself takes, and
the router to decide, is not on it. Calls of a turn run side by side; the same arm twice in a turn is asked one after
the other, since the second asks for what the first has not brought.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from responses_db import LabError
from responses_db.completion import Usage
from responses_db.graders import GRADERS, JUDGE, grade
from responses_db.query import Query
from xrouter_sim.engine.arrays import golden_steps
from xrouter_sim.engine.live_view import Seen, observation
from xrouter_sim.engine.profile import Client, Profile
from xrouter_sim.engine.randomness import Purpose, counter, episode_words, mix
from xrouter_sim.engine.rollout import Policy
from xrouter_sim.engine.semantics import DELIVERED, NO_CALL, RETRIED, Final, Outcome
from xrouter_sim.engine.trace import (
    AttemptTrace,
    CallTrace,
    End,
    EpisodeTrace,
    Offer,
    TurnTrace,
    action_words,
    profile_settings,
)
from xrouter_sim.reward import reward

CAME_BACK = (Outcome.OK, Outcome.TRUNCATED, Outcome.REFUSED, Outcome.FAILED)
"""How a call itself can end; what else there is happened on the way."""

UNGRADED = "none"
"""The grader of a query that nobody knows the answer to, as people ask them: its episode has no score and no reward."""


@dataclass(frozen=True)
class Arm:
    """A model with a prompt style, and the system message that the style is (empty: none)."""

    model: str
    prompt_style: str
    system: str = ""


@dataclass(frozen=True)
class Reply:
    """How one attempt came back: seconds as measured, USD as billed. An unknown bill is an estimate, never nothing."""

    status: Outcome
    text: str | None
    seconds: float
    cost_usd: float
    mean_logprob: float | None = None
    usage: Usage | None = None


@lru_cache(16)
def _settings(client: Client) -> dict[str, Any]:
    """The profile of a live world, as a trace has it: the same for all episodes of a client."""
    return profile_settings(Profile("live", client=client))


class Asker(Protocol):
    """Who asks the models. One attempt at a time: when to try again is the engine's business."""

    provenance: str

    async def ask(self, arm: Arm, sample: int, query: Query, timeout_s: float) -> Reply:
        """One attempt, given up after `timeout_s` with status TIMEOUT."""
        ...


@dataclass(frozen=True)
class Limits:
    """What an episode may take; None: no limit."""

    budget_usd: float | None = None
    deadline_s: float | None = None


@dataclass
class _Episode:
    """One under way."""

    query: Query
    key: int
    penalty: float
    limits: Limits
    away: frozenset[str]
    graded: bool = True
    slots: list[Seen] = field(default_factory=list)
    cost: float = 0.0
    time: float = 0.0
    turn: int = 0

    @property
    def over(self) -> bool:
        budget, deadline = self.limits.budget_usd, self.limits.deadline_s
        return (budget is not None and self.cost >= budget) or (deadline is not None and self.time >= deadline)


class LiveEngine:
    """Plays episodes against an Asker. Arms are numbered as in `Replay`: model · styles + style."""

    def __init__(
        self,
        asker: Asker,
        models: Sequence[str],
        prompt_styles: Mapping[str, str],
        *,
        client: Client,
        seed: int,
        cost_unit: float,
        samples: int = 1,
        direct_arm: int | None = None,
        vote_weights: Sequence[float] | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`prompt_styles` name to system message. `samples`: how many different answers an arm can be asked for; after
        them the cache answers. `cost_unit` in USD, `direct_arm` and `vote_weights` as in the Simulator."""
        self.asker, self.client, self.seed, self.cost_unit = asker, client, seed, cost_unit
        self.models, self.styles, self.samples = list(models), list(prompt_styles), samples
        self.arms = [Arm(model, style, system) for model in models for style, system in prompt_styles.items()]
        self.direct_arm, self.vote_weights, self._sleep = direct_arm, vote_weights, sleep

    async def play(
        self,
        policy: Policy,
        query: Query,
        *,
        episode: int,
        penalty: float,
        limits: Limits | None = None,
        away: Sequence[str] = (),
        place: int = 0,
        router: str = "policy",
    ) -> EpisodeTrace:
        """One episode to its end. `away` are models not on offer; `place` is what the policy knows the query by (its
        index in the replay that it was fitted on). Raises LabError when the query's answers cannot be graded at once.
        """
        graded = query.grader != UNGRADED
        grader = GRADERS.get(query.grader if graded else "exact")  # what a text marks as its answer can be compared
        if grader is None or query.grader == JUDGE:
            raise LabError(f"{query.query_id}: grader {query.grader!r} gives no grade at once: no reward can be paid")
        now = _Episode(query, episode, penalty, limits or Limits(), frozenset(away), graded)
        turns: list[tuple[list[int], int, range, float, float]] = []
        ended: int | None = None
        while ended is None:
            action = policy(observation(now, place, self))
            calls, final = action.calls[0][action.calls[0] != NO_CALL].tolist(), int(action.final[0])
            before = len(now.slots)
            await self._turn(now, calls, final, grader.extract)
            turns.append((calls, final, range(before, len(now.slots)), now.cost, now.time))
            ended = self._ended(now, final)
        for seen in now.slots:
            if seen.recorded and graded:
                seen.score = (await asyncio.to_thread(grade, grader, seen.text, query)).score  # some run programs
        return self._trace(now, turns, ended, router)

    # --- a turn -------------------------------------------------------------------------------------------------------

    async def _turn(self, now: _Episode, calls: list[int], final: int, extract: Callable[[str], str | None]) -> None:
        if final == Final.DIRECT and self.direct_arm is not None:
            calls = [*calls, self.direct_arm]
        calls = calls[: self.client.max_calls - len(now.slots)]
        over, brought = now.over, dict[int, Seen]()

        async def ask_in_turn(arm: int) -> None:
            earlier = [seen for seen in now.slots if seen.arm == arm]
            for column in (column for column, each in enumerate(calls) if each == arm):
                brought[column] = await self._call(now, arm, earlier, over, extract)
                earlier.append(brought[column])

        async with asyncio.TaskGroup() as side_by_side:
            for arm in dict.fromkeys(calls):
                side_by_side.create_task(ask_in_turn(arm))
        fresh = [brought[column] for column in range(len(calls))]
        for seen in fresh:
            now.cost += seen.cost
        now.time += max((seen.seconds for seen in fresh), default=0.0)
        now.slots += fresh
        now.turn += 1

    async def _call(
        self, now: _Episode, arm: int, earlier: list[Seen], over: bool, extract: Callable[[str], str | None]
    ) -> Seen:
        """Point 1 to 5 of the page's call."""
        delivered = sum(seen.outcome in DELIVERED for seen in earlier)
        first = ((self._bits(now, Purpose.SAMPLE, arm, 0) & 0x7FFFFFFF) * self.samples) >> 31
        seen = Seen(arm, (first + delivered) % self.samples, now.turn)
        if over:
            seen.outcome = Outcome.OVER_LIMIT
        elif self.arms[arm].model in now.away:
            seen.outcome = Outcome.UNAVAILABLE
        elif delivered >= self.samples:
            seen.take_from_cache(next(each for each in earlier if each.sample == seen.sample and each.recorded))
        else:
            await self._attempts(now, seen, sum(each.tried for each in earlier), extract)
        return seen

    async def _attempts(self, now: _Episode, seen: Seen, tried: int, extract: Callable[[str], str | None]) -> None:
        deadline = now.limits.deadline_s
        remaining = None if deadline is None else deadline - now.time
        for number in range(self.client.attempts):
            wait = self._wait(now, seen.arm, tried, number)
            went = await self._attempt(now, seen, wait, remaining, extract)
            seen.attempts.append(went)
            seen.outcome, seen.recorded = Outcome[went.outcome.upper()], went.recorded
            seen.cost, seen.seconds = seen.cost + went.cost_usd, seen.seconds + went.waited_s + went.seconds
            if not went.sent or seen.outcome not in RETRIED:
                return

    async def _attempt(
        self, now: _Episode, seen: Seen, wait: float, remaining: float | None, extract: Callable[[str], str | None]
    ) -> AttemptTrace:
        """Wait, then ask once, both no longer than until the deadline."""
        left = None if remaining is None else remaining - seen.seconds
        if left is not None and not wait < left:
            await self._sleep(left)
            return AttemptTrace("timeout", sent=False, recorded=False, waited_s=left, seconds=0.0, cost_usd=0.0)
        if wait:
            await self._sleep(wait)
        most = self.client.timeout_s if left is None else min(self.client.timeout_s, left - wait)
        reply = await self.asker.ask(self.arms[seen.arm], seen.sample, now.query, most)
        outcome, seconds = reply.status, reply.seconds
        if outcome == Outcome.TIMEOUT or seconds > most:
            outcome, seconds = Outcome.TIMEOUT, most
        answer = extract(reply.text or "")
        if outcome == Outcome.OK and answer is None and (now.graded or not (reply.text or "").strip()):
            outcome = Outcome.MALFORMED  # validation: nothing there that could be graded, voted on or read
        recorded = outcome in CAME_BACK
        if recorded:
            seen.text, seen.answer, seen.mean_logprob = reply.text, answer, reply.mean_logprob
        return AttemptTrace(outcome.name.lower(), True, recorded, wait, seconds, reply.cost_usd)

    def _wait(self, now: _Episode, arm: int, tried: int, number: int) -> float:
        """Seconds before an attempt; `tried` attempts of the arm were made before this call."""
        if not number:
            return 0.0
        jitter = ((self._bits(now, Purpose.CALL, arm, tried + number) >> 8) & 0xFFFF) * 2.0**-16 + 0.5
        return float(jitter * (self.client.backoff_s * 2.0 ** (number - 1)))

    def _bits(self, now: _Episode, purpose: Purpose, arm: int, attempt: int) -> int:
        """The draw that the simulator makes for this arm and attempt under this seed and episode."""
        state = episode_words(self.seed, np.array([now.key])) + golden_steps(counter(purpose, np.array([arm]), attempt))
        return int(mix(state.view(np.uint64)).view(np.int64)[0])

    # --- the end ------------------------------------------------------------------------------------------------------

    def _ended(self, now: _Episode, final: int) -> int | None:
        """The slot of the answer, or Final.NONE; None while the episode goes on."""
        last_turn, count = now.turn >= self.client.max_turns, len(now.slots)
        newest_ok = bool(now.slots) and now.slots[-1].outcome == Outcome.OK
        if final == Final.CONTINUE or (final == Final.ADOPT and not newest_ok):
            return int(Final.NONE) if last_turn else None
        if newest_ok and (final == Final.ADOPT or (final == Final.DIRECT and self.direct_arm is not None)):
            return count - 1
        if final in (Final.VOTE, Final.WEIGHTED_VOTE):
            return self._voted(now, weighted=final == Final.WEIGHTED_VOTE)
        return final if 0 <= final < count else int(Final.NONE)

    def _voted(self, now: _Episode, weighted: bool) -> int:
        weights = self.vote_weights if weighted and self.vote_weights is not None else [1.0] * len(self.arms)
        answers = np.full(self.client.max_calls, -1)
        known = sorted({seen.usable_answer for seen in now.slots if seen.usable_answer is not None})
        weight = np.zeros(len(answers))
        for slot, seen in enumerate(now.slots):
            weight[slot] = weights[seen.arm]
            answers[slot] = -1 if seen.usable_answer is None else known.index(seen.usable_answer)
        has = answers >= 0
        support = ((answers[:, None] == answers) & has * has[:, None]) @ weight
        return int(np.where(has, support, -np.inf).argmax()) if has.any() else int(Final.NONE)

    # --- the trace ----------------------------------------------------------------------------------------------------

    def _trace(
        self, now: _Episode, turns: list[tuple[list[int], int, range, float, float]], ended: int, router: str
    ) -> EpisodeTrace:
        chosen = now.slots[ended] if ended >= 0 else None
        score = ((chosen.score or 0.0) if chosen else 0.0) if now.graded else None
        names = [arm.model if len(self.styles) == 1 else f"{arm.model}/{arm.prompt_style}" for arm in self.arms]
        return EpisodeTrace(
            episode=now.key,
            query_id=now.query.query_id,
            question=now.query.question,
            domain=now.query.domain,
            router=router,
            engine="live",
            label=f"live episode over {self.asker.provenance} answers",
            seed=self.seed,
            penalty=now.penalty,
            cost_unit_usd=self.cost_unit,
            budget_usd=now.limits.budget_usd,
            deadline_s=now.limits.deadline_s,
            profile=dict(_settings(self.client)),
            models=self.models,
            prompt_styles=self.styles,
            direct=None if self.direct_arm is None else names[self.direct_arm],
            vote_weights=None if self.vote_weights is None else list(self.vote_weights),
            latency_known=True,
            pool=[Offer(name, name not in now.away, None if name in now.away else 1.0, None) for name in self.models],
            turns=[
                TurnTrace(
                    asked=[names[arm] for arm in calls],
                    final=action_words(final)[0],
                    selected=action_words(final)[1],
                    calls=[self._call_trace(now.slots[slot], slot) for slot in slots],
                    cost_usd=cost,
                    time_s=time,
                )
                for calls, final, slots, cost, time in turns
            ],
            end=End(
                how=action_words(turns[-1][1])[0],
                slot=ended if chosen else None,
                model=self.arms[chosen.arm].model if chosen else None,
                answer=chosen.answer if chosen else None,
                score=score,
                reward=None if score is None else float(reward(score, now.cost, now.penalty, self.cost_unit)),
            ),
            cost_usd=now.cost,
            time_s=now.time,
        )

    def _call_trace(self, seen: Seen, slot: int) -> CallTrace:
        arm = self.arms[seen.arm]
        return CallTrace(
            slot=slot,
            model=arm.model,
            prompt_style=arm.prompt_style,
            sample=seen.sample,
            samples=self.samples,
            cached=seen.cached,
            outcome=seen.outcome.name.lower(),
            cost_usd=seen.cost,
            seconds=seen.seconds,
            attempts=seen.attempts,
            text=seen.text if seen.recorded else None,
            answer=seen.answer if seen.recorded else None,
            score=seen.score if seen.recorded else None,
        )
