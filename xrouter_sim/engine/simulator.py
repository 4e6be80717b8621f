"""The simulated orchestration engine: plays batches of episodes on a replay.

An episode is one query. In each turn the router names the arms to call (several run in parallel) and, if it likes, how
the episode ends:

    turn:  calls ──▶ attempts (retry, back off) ──▶ responses in slots ──▶ final? ──▶ graded and rewarded
                                                                  └── no ──▶ next turn

* Each call is tried up to `profile.attempts` times; rate limits, server errors, timeouts and malformed answers are
  tried again after an exponential backoff with jitter, truncated and refused ones are not.
* Failed attempts are billed as providers bill them (`BILLED_SHARE`).
* Calling an arm again draws its next recorded sample; once all are used the call comes from the cache, free, at once.
* Time is virtual: a turn takes as long as its slowest call, turns add up.
* ADOPT takes the last response of this very turn unseen; if that call failed the episode goes on instead.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

import numpy as np

from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.randomness import Purpose, draw, normal, uniform
from xrouter_sim.replay import Bools, Floats, Ints, Replay
from xrouter_sim.reward import reward


class Outcome(IntEnum):
    """How a call's last attempt came back."""

    OK = 0
    TIMEOUT = 1
    RATE_LIMITED = 2
    SERVER_ERROR = 3
    MALFORMED = 4
    TRUNCATED = 5
    REFUSED = 6
    FAILED = 7  # the recorded call had failed for good


RETRIED = (Outcome.TIMEOUT, Outcome.RATE_LIMITED, Outcome.SERVER_ERROR, Outcome.MALFORMED)

BILLED_SHARE = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.2, 1.0])
"""Share of the recorded cost that an attempt with each outcome is billed. Providers bill what they generated: an answer
that arrives too late, broken or cut is paid for, a rejected request is not; a refusal is short, after a full prompt."""

FROM_STATUS = np.array([Outcome.OK, Outcome.TRUNCATED, Outcome.REFUSED, Outcome.FAILED])
"""Outcome of a recorded status, in the order of `replay.STATUSES`."""


class Final(IntEnum):
    """How an episode ends; a number from 0 up selects the response in that slot."""

    CONTINUE = -1
    NONE = -2
    VOTE = -3
    ADOPT = -4


NO_CALL = -1


@dataclass
class Action:
    """What a router does in one turn, for B episodes."""

    calls: Ints  # [B, W] arms to call in parallel, NO_CALL where fewer
    final: Ints  # [B] a Final, or a slot number

    @classmethod
    def call(cls, arm: Ints, final: Final = Final.CONTINUE) -> Self:
        """One call each."""
        return cls(arm[:, None], np.full(len(arm), final, np.int64))


@dataclass
class Observation:
    """What a router sees of B episodes with up to L slots for responses. Never a score."""

    row: Ints  # [B] the episode's place among those played together
    key: Ints  # [B] the episode's number
    query: Ints  # [B] index into the replay
    penalty: Floats  # [B] λ
    price: Floats  # [B, M] factor on the price card
    on_offer: Bools  # [B, M]
    turn: Ints  # [B]
    last_turn: Bools  # [B] this turn must end the episode
    cost: Floats  # [B] USD so far
    arm: Ints  # [B, L] NO_CALL where the slot is empty
    outcome: Ints  # [B, L]
    answer: Ints  # [B, L] equal numbers are equal answers; -1 none
    evidence: Floats  # [B, L, E] see replay.EVIDENCE; 0 where there is no answer to look at

    def __len__(self) -> int:
        return len(self.query)

    @property
    def ok(self) -> Bools:
        """[B, L] slots with a usable response."""
        usable: Bools = (self.arm != NO_CALL) & (self.outcome == Outcome.OK)
        return usable


@dataclass
class Episodes:
    """The state of B episodes."""

    row: Ints  # [B] place among the episodes played together
    query: Ints  # [B]
    key: Ints  # [B] with the seed it fixes the whole world of the episode
    penalty: Floats  # [B] λ
    price: Floats  # [B, M]
    on_offer: Bools  # [B, M]
    turn: Ints  # [B]
    n_slots: Ints  # [B]
    arm: Ints  # [B, L] NO_CALL where the slot is empty
    sample: Ints  # [B, L]
    outcome: Ints  # [B, L]
    attempts: Ints  # [B, L]
    slot_turn: Ints  # [B, L]
    slot_cost: Floats  # [B, L] USD
    cost: Floats  # [B] USD so far
    time: Floats  # [B] virtual seconds so far
    done: Bools  # [B]
    final: Ints  # [B] slot whose response is the answer, or Final.NONE
    voted: Bools  # [B]
    adopted: Bools  # [B]
    score: Floats  # [B]
    reward: Floats  # [B]

    def __len__(self) -> int:
        return len(self.query)


class Simulator:
    """Plays episodes on a replay under a profile. Deterministic in (seed, episode key), whatever the batch."""

    def __init__(self, replay: Replay, profile: Profile, seed: int, cost_unit: float) -> None:
        """`cost_unit` in USD, see `replay.cost_unit`."""
        self.replay, self.profile, self.seed, self.cost_unit = replay, profile, seed, cost_unit
        self._thresholds = np.cumsum(profile.failure_rates)
        self._fails = profile.outage > 0 or self._thresholds[-1] > 0
        self._latency = np.nan_to_num(replay.latency_s)

    def reset(self, query: Ints, key: Ints, penalty: Floats, first_row: int = 0) -> Episodes:
        """Begin B episodes on these queries ([B] indices), keys and λ. Rows are numbered from `first_row`."""
        batch, slots = len(query), self.profile.max_turns
        per_slot = {name: np.zeros((batch, slots), np.int64) for name in ("sample", "outcome", "attempts", "slot_turn")}
        return Episodes(
            row=first_row + np.arange(batch),
            query=query,
            key=key,
            penalty=penalty,
            price=self._prices(key),
            on_offer=self._pools(key),
            turn=np.zeros(batch, np.int64),
            n_slots=np.zeros(batch, np.int64),
            arm=np.full((batch, slots), NO_CALL),
            **per_slot,
            slot_cost=np.zeros((batch, slots)),
            cost=np.zeros(batch),
            time=np.zeros(batch),
            done=np.zeros(batch, np.bool_),
            final=np.full(batch, int(Final.NONE)),
            voted=np.zeros(batch, np.bool_),
            adopted=np.zeros(batch, np.bool_),
            score=np.zeros(batch),
            reward=np.zeros(batch),
        )

    def observe(self, episodes: Episodes, rows: Ints) -> Observation:
        """What a router may see of some of the episodes ([n] row numbers)."""
        query, arm, outcome = episodes.query[rows], episodes.arm[rows], episodes.outcome[rows]
        seen = (arm != NO_CALL) & (outcome == Outcome.OK)
        evidence = self.replay.evidence[query[:, None], arm, episodes.sample[rows]]
        return Observation(
            row=episodes.row[rows],
            key=episodes.key[rows],
            query=query,
            penalty=episodes.penalty[rows],
            price=episodes.price[rows],
            on_offer=episodes.on_offer[rows],
            turn=episodes.turn[rows],
            last_turn=episodes.turn[rows] >= self.profile.max_turns - 1,
            cost=episodes.cost[rows],
            arm=arm,
            outcome=outcome,
            answer=self._answers(episodes, rows),
            evidence=np.where(seen[:, :, None], evidence, 0.0),
        )

    def step(self, episodes: Episodes, action: Action) -> None:
        """Carry out one turn of every episode that is not done, in place."""
        live = ~episodes.done
        time = np.zeros(len(episodes))
        for arm in action.calls.T:
            rows = np.flatnonzero(live & (arm != NO_CALL) & (episodes.n_slots < episodes.arm.shape[1]))
            time[rows] = np.maximum(time[rows], self._call(episodes, rows, arm[rows]))
        episodes.time += time
        episodes.turn[live] += 1
        self._finish(episodes, np.where(live, action.final, Final.CONTINUE))

    def _prices(self, key: Ints) -> Floats:
        models = np.arange(len(self.replay.model_ids))
        if self.profile.price_sigma == 0:
            return np.ones((len(key), len(models)))
        return np.exp(self.profile.price_sigma * normal(self.seed, Purpose.PRICE, key[:, None], models))

    def _pools(self, key: Ints) -> Bools:
        models = np.arange(len(self.replay.model_ids))
        if self.profile.pool_drop == 0:
            return np.ones((len(key), len(models)), np.bool_)
        luck = uniform(self.seed, Purpose.POOL, key[:, None], models)
        rank = np.argsort(np.argsort(-luck, axis=1), axis=1)
        return (luck >= self.profile.pool_drop) | (rank < self.profile.pool_min)

    def _call(self, episodes: Episodes, rows: Ints, arm: Ints) -> Floats:
        """Call one arm in each of the rows; returns the seconds each call takes."""
        query, model = episodes.query[rows], self.replay.model_of_arm[arm]
        sample, cached = self._next_sample(episodes, rows, arm)
        outcome, attempts, billed, time = self._attempt(episodes, rows, arm, query, sample)
        price = np.where(cached, 0.0, episodes.price[rows, model])
        cost = self.replay.cost_usd[query, arm, sample] * price * billed
        slot = episodes.n_slots[rows]
        for values, name in ((arm, "arm"), (sample, "sample"), (outcome, "outcome"), (attempts, "attempts")):
            getattr(episodes, name)[rows, slot] = values
        episodes.slot_turn[rows, slot] = episodes.turn[rows]
        episodes.slot_cost[rows, slot] = cost
        episodes.cost[rows] += cost
        episodes.n_slots[rows] += 1
        return np.where(cached, 0.0, time)

    def first_sample(self, query: Ints, key: Ints, arm: Ints) -> Ints:
        """The sample that an arm's first call in an episode draws."""
        samples = self.replay.samples[query, arm].astype(np.uint64)
        return (draw(self.seed, Purpose.SAMPLE, key, arm) % samples).astype(np.int64)

    def _next_sample(self, episodes: Episodes, rows: Ints, arm: Ints) -> tuple[Ints, Bools]:
        """The sample this call draws, and whether it had been drawn before (then it comes from the cache)."""
        query, earlier = episodes.query[rows], (episodes.arm[rows] == arm[:, None]).sum(axis=1)
        samples = self.replay.samples[query, arm]
        return (self.first_sample(query, episodes.key[rows], arm) + earlier) % samples, earlier >= samples

    def _attempt(
        self, episodes: Episodes, rows: Ints, arm: Ints, query: Ints, sample: Ints
    ) -> tuple[Ints, Ints, Floats, Floats]:
        """Outcome, attempts made, share of the recorded cost billed and seconds of one call in each row."""
        recorded = FROM_STATUS[self.replay.status[query, arm, sample]]
        latency = self._latency[query, arm, sample]
        if not self._fails:
            return recorded, np.ones_like(arm), BILLED_SHARE[recorded], latency
        key, profile = episodes.key[rows], self.profile
        # Attempts are counted over the whole episode, so that a later call of the same arm meets new luck.
        before = ((episodes.arm[rows] == arm[:, None]) * episodes.attempts[rows]).sum(axis=1)
        stretch = key // profile.outage_episodes
        down = uniform(self.seed, Purpose.OUTAGE, stretch, self.replay.model_of_arm[arm]) < profile.outage
        outcome, attempts = recorded.copy(), np.zeros_like(arm)
        billed, time, trying = np.zeros(len(arm)), np.zeros(len(arm)), np.ones(len(arm), np.bool_)
        for attempt in range(profile.attempts):
            luck = uniform(self.seed, Purpose.FAILURE, key, arm, before + attempt)
            failure = np.searchsorted(self._thresholds, luck, side="right")
            tried = np.where(failure < len(self._thresholds), failure + 1, recorded)
            tried = np.where(down, int(Outcome.SERVER_ERROR), tried)
            seconds = np.where(tried == Outcome.TIMEOUT, profile.timeout_s, latency)
            seconds = np.where(np.isin(tried, (Outcome.RATE_LIMITED, Outcome.SERVER_ERROR)), profile.error_s, seconds)
            jitter = 0.5 + uniform(self.seed, Purpose.BACKOFF, key, arm, before + attempt)
            waited = profile.backoff_s * 2.0 ** (attempt - 1) * jitter if attempt else 0.0
            outcome = np.where(trying, tried, outcome)
            billed += np.where(trying, BILLED_SHARE[tried], 0.0)
            time += np.where(trying, seconds + waited, 0.0)
            attempts += trying
            trying &= np.isin(tried, RETRIED)
        return outcome, attempts, billed, time

    def _finish(self, episodes: Episodes, final: Ints) -> None:
        last = episodes.n_slots - 1
        rows = np.arange(len(episodes))
        adopts = (final == Final.ADOPT) & (last >= 0) & (episodes.outcome[rows, last] == Outcome.OK)
        votes = final == Final.VOTE
        ends = adopts | votes | (final == Final.NONE) | (final >= 0)
        ends |= ~episodes.done & (episodes.turn >= self.profile.max_turns)
        chosen = np.where(adopts, last, np.where(votes, self._majority(episodes), final))
        episodes.final[ends] = np.where(chosen >= 0, chosen, int(Final.NONE))[ends]
        episodes.adopted |= adopts
        episodes.voted |= votes
        episodes.done |= ends
        self._grade(episodes, np.flatnonzero(ends))

    def _majority(self, episodes: Episodes) -> Ints:
        """The first slot of the largest group of equal answers; Final.NONE where no response has an answer."""
        answer = self._answers(episodes, np.arange(len(episodes)))
        votes = ((answer[:, :, None] == answer[:, None, :]) & (answer >= 0)[:, :, None]).sum(axis=2)
        best: Ints = votes.argmax(axis=1)
        return np.where(votes.max(axis=1) > 0, best, int(Final.NONE))

    def _answers(self, episodes: Episodes, rows: Ints) -> Ints:
        """[n, L] the answer read out of each slot's response; -1 where there is none."""
        arm = episodes.arm[rows]
        answer = self.replay.answer[episodes.query[rows][:, None], arm, episodes.sample[rows]]
        return np.where((arm != NO_CALL) & (episodes.outcome[rows] == Outcome.OK), answer, -1)

    def _grade(self, episodes: Episodes, rows: Ints) -> None:
        slot = np.maximum(episodes.final[rows], 0)
        score = self.replay.score[episodes.query[rows], episodes.arm[rows, slot], episodes.sample[rows, slot]]
        answered = (episodes.final[rows] >= 0) & (episodes.outcome[rows, slot] == Outcome.OK)
        answered &= slot < episodes.n_slots[rows]
        episodes.score[rows] = np.where(answered, score, 0.0)
        episodes.reward[rows] = reward(
            episodes.score[rows], episodes.cost[rows], episodes.penalty[rows], self.cost_unit
        )
