"""One call in each of many episodes: what it brings, costs and takes, attempt by attempt (see `semantics`).

Nearly all calls go right at the first attempt; those are settled by a few look-ups. The others (`hard`) go through the
whole protocol.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from xrouter_sim.engine.arrays import Array, Arrays, golden_steps
from xrouter_sim.engine.episodes import (
    ARM,
    ATTEMPTS,
    CACHED,
    EMPTY,
    OUTCOME,
    RECORDED,
    SAMPLE,
    TURN,
    Episodes,
    field_of,
)
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.randomness import Purpose, counter
from xrouter_sim.engine.semantics import BILLED_SHARE, FROM_STATUS, RETRIED, Outcome
from xrouter_sim.engine.world import LOWEST, LUCK_BITS, QUANTILES, World
from xrouter_sim.replay import Replay

GOLDEN, ARM_STEP, CALL_STEP, SAMPLE_STEP = golden_steps(
    np.array([1, 1 << 16, counter(Purpose.CALL, 0), counter(Purpose.SAMPLE, 0)], np.uint64)
).tolist()
"""What is added to a stream's state for the next attempt, for the next arm, and to begin (see `randomness.counter`)."""

LATENCY, SCORE = 2, 3
"""Places in a row of `Tables`, counted in halves; before them stands the cost."""

ONE_ATTEMPT, AS_RECORDED, FROM_CACHE = 1 << ATTEMPTS, 1 << RECORDED, (1 << CACHED) + (1 << RECORDED)
KEPT_BETWEEN_ATTEMPTS = ~((0xFF << OUTCOME) | (1 << RECORDED))


@dataclass
class Attempt:
    """One attempt of n calls; all arrays [n]."""

    sent: Array  # false where the deadline came while waiting
    outcome: Array
    recorded: Array  # whether the outcome is the store's own, not injected
    waited: Array  # seconds before it
    seconds: Array
    cost: Array  # USD


@dataclass
class Calls:
    """n calls under way; all arrays [n]."""

    state: Array  # of the episode's stream at the call's first attempt
    cell: Array  # of the stored response
    listed: Array  # USD that it cost at list price
    latency: Array  # seconds that it took
    score: Array
    price: Array  # factor; NaN where the model is not on offer
    cuts_row: Array
    remaining: Array | None  # seconds until the deadline
    busy: Array | None  # earlier calls of the turn to the same provider

    def at(self, rows: Array) -> "Calls":
        """Some of them."""
        if isinstance(rows, slice):
            return self
        return Calls(**{name: None if values is None else values[rows] for name, values in vars(self).items()})


@dataclass
class Result:
    """How n calls went; all arrays [n]."""

    word: Array  # of the slot, see `episodes.field_of`
    score: Array  # 0 where the response was damaged on the way
    cost: Array  # USD
    time: Array  # seconds
    ok: Array


class Tables:
    """What a call looks up of a stored response: sixteen bytes side by side, so that one trip to memory brings all.

    A cost is exact, a latency rounded to float32; a score too where that is exact, else it has a table of its own.
    """

    def __init__(self, replay: Replay, xp: Arrays) -> None:
        put, score = xp.put_in, np.append(replay.score, 0.0)
        self.nothing = replay.score.size
        """The cell of no response: it scores 0."""
        rows = np.zeros((len(score), 2))
        rows[:-1, 0] = replay.cost_usd.reshape(-1)
        halves = rows.view(np.float32)
        halves[:-1, LATENCY] = np.nan_to_num(replay.latency_s).reshape(-1)
        halves[:, SCORE] = score
        self._rows, self._float32 = put(rows), put(np.zeros(1, np.float32)).dtype
        self._scores = None if (halves[:, SCORE] == score).all() else put(score)
        self.outcome = put(FROM_STATUS[replay.status].astype(np.uint8).reshape(-1)) if replay.status.any() else None
        self.slowest = float(np.nan_to_num(replay.latency_s).max(initial=0.0))
        self._xp = xp

    def read(self, cell: Array) -> tuple[Array, Array, Array]:
        """[n] cost in USD, latency in seconds (float32) and score."""
        rows = self._xp.take(self._rows, cell)
        halves = rows.view(self._float32)
        score = halves[:, SCORE] if self._scores is None else self._xp.take(self._scores, cell)
        return rows[:, 0], halves[:, LATENCY], score

    def score(self, cell: Array) -> Array:
        """[n]"""
        return self._xp.to_float(self.read(cell)[2])


class Caller:
    """Carries out calls. Holds the tables that calls look things up in."""

    def __init__(self, replay: Replay, world: World, profile: Profile, xp: Arrays) -> None:
        self.xp, self.client = xp, profile.client
        self.arms, self.samples_most = replay.arms, replay.score.shape[2]
        put = xp.put_in
        self.tables = Tables(replay, xp)
        even = bool((replay.samples == self.samples_most).all())
        self.samples = None if even else put(replay.samples.ravel())
        self.models, self.styles = len(replay.model_ids), len(replay.prompt_styles)
        self.price, self.drift = put(world.price.ravel()), put(world.drift.ravel())
        self.cuts = put(np.ascontiguousarray(world.cuts.transpose(2, 0, 1)).ravel())  # kind by kind, to sum up quickly
        kinds = world.cuts.shape[2]
        self.cut_of_kind = put(np.arange(kinds)[:, None] * (world.cuts.size // kinds))
        self.last_cut = put(np.ascontiguousarray(world.cuts[:, :, -1]).ravel())
        self.latency, self.extra = put(world.latency), world.extra_per_parallel
        self.billed = put(BILLED_SHARE)
        self.drifts, self.drops = bool((world.drift != 1).any()), bool(np.isnan(world.price).any())
        self.fails = bool((world.cuts > LOWEST).any()) or self.extra > 0
        self.straggles = bool((world.latency != 1).any())
        self.may_time_out = self.tables.slowest * float(world.latency.max()) > self.client.timeout_s
        self.keep: Callable[[Array, Array | None, int, Attempt], None] | None = None
        """Told of every attempt: the rows and the mask (see `Arrays.narrow`), its number from 0, and how it went."""

    def call(self, episodes: Episodes, rows: Array, arm: Array, bit: Array, busy: Array | None) -> Result:
        """Call an arm in each of the rows ([n]); `bit` as in `Episodes.called`, 0 where the call does not count."""
        xp = self.xp
        cell = episodes.query[rows] * self.arms + arm
        state = episodes.luck[rows] + arm * ARM_STEP
        word = (episodes.turn[rows] << TURN) + arm
        repeats = self._repeats(episodes, rows, arm, bit)
        cached = None
        if self.samples_most > 1 or repeats is not None:
            sample, cached = self._sample(state, cell, repeats)
            cell = cell * self.samples_most + sample
            word = word + (sample << SAMPLE)
        if repeats is not None:  # a later call of an arm goes on in its stream where the earlier ones stopped
            state[repeats.rows] += repeats.tried * GOLDEN
        model = arm if self.styles == 1 else arm // self.styles
        by_period = episodes.period[rows] + model if self.drifts or len(self.last_cut) > self.models else model
        price = xp.take(self.price, episodes.world[rows] + model)
        listed, latency, score = self.tables.read(cell)
        calls = Calls(
            state=state,
            cell=cell,
            listed=listed,
            latency=latency,
            score=score,
            price=price * xp.take(self.drift, by_period) if self.drifts else price,
            cuts_row=by_period if len(self.last_cut) > self.models else model,
            remaining=episodes.deadline[rows] - episodes.time[rows] if episodes.limited else None,
            busy=busy,
        )
        result = self._attempts(calls, word)
        if cached is not None:
            self._make_free(result, cached, word, calls, None)
        if self.drops:
            self._make_free(result, price != price, word, calls, Outcome.UNAVAILABLE)
        if episodes.over is not None:
            self._make_free(result, episodes.over[rows], word, calls, Outcome.OVER_LIMIT)
        return result

    def _repeats(self, episodes: Episodes, rows: Array, arm: Array, bit: Array) -> "Repeats | None":
        """The calls whose arm was called before in their episode; None where there are none."""
        xp = self.xp
        again = (episodes.called[rows] & bit) != 0
        if xp.is_idle(again):
            return None
        some = xp.narrow(again)[0]
        words = episodes.slot_words(some if isinstance(rows, slice) else rows[some])
        hit = (words != EMPTY) & (field_of(words, ARM) == arm[some])
        delivered = (hit & (field_of(words, RECORDED) == 1)).sum(0)  # what was damaged on the way must be asked again
        return Repeats(some, delivered, (field_of(words, ATTEMPTS) * hit).sum(0))

    def _sample(self, state: Array, cell: Array, repeats: "Repeats | None") -> tuple[Array, Array | None]:
        """[n] the sample that each call asks for, and whether it comes from the cache (None: none does)."""
        xp, sample = self.xp, cell * 0
        samples = self.samples_most if self.samples is None else xp.take(self.samples, cell)
        if self.samples_most > 1:
            sample = ((xp.stream(state + (SAMPLE_STEP - CALL_STEP)) & 0x7FFFFFFF) * samples) >> 31
        if repeats is None:
            return sample, None
        at_hand = samples if self.samples is None else samples[repeats.rows]
        sample[repeats.rows] = (sample[repeats.rows] + repeats.delivered) % at_hand
        cached = sample < 0
        cached[repeats.rows] = repeats.delivered >= at_hand
        return sample, cached

    def _recorded(self, cell: Array) -> Array:
        """[n] the outcome that the store has."""
        outcome = self.tables.outcome
        return cell * 0 if outcome is None else self.xp.to_int(self.xp.take(outcome, cell))

    def _make_free(self, result: Result, mask: Array, word: Array, calls: Calls, outcome: Outcome | None) -> None:
        """Calls that are never sent cost nothing and take no time. Without an outcome they come from the cache."""
        xp = self.xp
        if xp.is_idle(mask):
            return
        rows, counts = xp.narrow(mask)
        word, free = word[rows], xp.to_float(word[rows]) * 0.0
        if outcome is None:
            came, score = self._recorded(calls.cell[rows]), calls.score[rows] + free
            word = word + (came << OUTCOME) + FROM_CACHE
        else:
            came, score = word * 0 + int(outcome), free
            word = word + (int(outcome) << OUTCOME)
        changed = {"word": word, "score": score, "cost": free, "time": free, "ok": came == int(Outcome.OK)}
        for name, values in changed.items():
            xp.put(getattr(result, name), rows, counts, values)

    def _attempts(self, calls: Calls, word: Array) -> Result:
        """Send the calls. Nearly all are settled by the first attempt, the rest goes through the whole protocol."""
        xp = self.xp
        bits = xp.stream(calls.state)
        time = self._latency_of(calls.latency, bits)
        cost = calls.listed * calls.price
        first = word + (ONE_ATTEMPT + AS_RECORDED)
        if self.tables.outcome is None:
            ok = xp.full(len(word), True)
        else:
            outcome = self._recorded(calls.cell)
            first, ok = first + (outcome << OUTCOME), outcome == int(Outcome.OK)
        result = Result(first, xp.to_float(calls.score), cost, time, ok)
        hard = None
        if self.fails:
            cut = xp.take(self.last_cut, calls.cuts_row)
            hard = _luck(bits) < (cut if calls.busy is None else cut + calls.busy * self.extra)
        if self.may_time_out:
            hard = _either(hard, time > self.client.timeout_s)
        if calls.remaining is not None:
            hard = _either(hard, time > calls.remaining)
        if self.keep is not None:
            hard = word >= 0
        if hard is None or xp.is_idle(hard):
            return result
        rows, counts = xp.narrow(hard)
        redone = self._protocol(calls.at(rows), bits[rows], word[rows], counts)
        for name, values in vars(redone).items():
            xp.put(getattr(result, name), rows, counts, values)
        return result

    def _latency_of(self, seconds: Array, bits: Array) -> Array:
        """[n] recorded seconds, drawn longer or shorter."""
        if self.straggles:
            seconds = seconds * self.xp.take(self.latency, (bits >> 24) & (QUANTILES - 1))
        return self.xp.to_float(seconds)

    def _protocol(self, calls: Calls, bits: Array, word: Array, counts: Array | None) -> Result:
        """Attempt after attempt, with waits between them, for all n calls (or those that count)."""
        xp, n, calls = self.xp, len(word), replace(calls)  # a copy, whose streams go on from attempt to attempt
        result = Result(word + 0, xp.full(n, 0.0), xp.full(n, 0.0), xp.full(n, 0.0), xp.full(n, False))
        trying = xp.full(n, True)
        trying = trying if counts is None else trying & counts
        for number in range(self.client.attempts):
            some, counts = xp.narrow(trying)
            part = calls.at(some)
            if number:
                bits = xp.stream(part.state)
            went = self._one_attempt(part, bits, number, result.time[some])
            if self.keep is not None:
                self.keep(some, counts, number, went)
            last = (went.outcome << OUTCOME) + (xp.to_int(went.recorded) << RECORDED)
            before = result.word[some] & KEPT_BETWEEN_ATTEMPTS
            xp.put(result.word, some, counts, before + (xp.to_int(went.sent) << ATTEMPTS) + last)
            xp.put(result.score, some, counts, xp.to_float(part.score) * went.recorded)
            xp.put(result.cost, some, counts, result.cost[some] + went.cost)
            xp.put(result.time, some, counts, result.time[some] + went.waited + went.seconds)
            xp.put(result.ok, some, counts, went.outcome == int(Outcome.OK))
            again = went.sent & (went.outcome >= int(min(RETRIED))) & (went.outcome <= int(max(RETRIED)))
            xp.put(trying, some, counts, again)
            if xp.is_idle(trying):
                break
            calls.state = calls.state + GOLDEN
        return result

    def _one_attempt(self, calls: Calls, bits: Array, number: int, elapsed: Array) -> Attempt:
        """`elapsed` [n] seconds since the call began."""
        xp, client = self.xp, self.client
        outcome, recorded, seconds = self._undisturbed(calls, bits)
        wait = self._jitter(bits) * (client.backoff_s * 2.0 ** (number - 1)) if number else seconds * 0.0
        sent = outcome >= 0
        if calls.remaining is not None:
            left = calls.remaining - elapsed
            sent = wait < left
            wait = xp.minimum(wait, left)
            cut = (wait + seconds > left) | ~sent  # also where the answer would have taken no time
            seconds = xp.where(cut, left - wait, seconds)
            outcome, recorded = xp.where(cut, int(Outcome.TIMEOUT), outcome), recorded & ~cut
        share = xp.where(recorded, 1.0, xp.take(self.billed, outcome)) * sent
        cost = calls.listed * calls.price * share
        return Attempt(sent, outcome, recorded, wait, seconds, cost)

    def _jitter(self, bits: Array) -> Array:
        """[n] between 0.5 and 1.5"""
        return self.xp.to_float((bits >> 8) & 0xFFFF) * 2.0**-16 + 0.5

    def _undisturbed(self, calls: Calls, bits: Array) -> tuple[Array, Array, Array]:
        """[n] outcome, whether it is the recorded one, and seconds of an attempt that no deadline cuts."""
        xp, luck, cuts = self.xp, _luck(bits), self.xp.take(self.cuts, self.cut_of_kind + calls.cuts_row)
        failure = (luck >= cuts).sum(0) + 1
        if calls.busy is not None:
            crowded = (luck >= cuts[-1]) & (luck < cuts[-1] + calls.busy * self.extra)
            failure = xp.where(crowded, int(Outcome.RATE_LIMITED), failure)
        recorded = failure > int(Outcome.REFUSED)
        outcome = xp.where(recorded, self._recorded(calls.cell), failure)
        rejected = (outcome == int(Outcome.RATE_LIMITED)) | (outcome == int(Outcome.SERVER_ERROR))
        seconds = xp.where(rejected, self.client.error_s, self._latency_of(calls.latency, bits))
        late = (outcome == int(Outcome.TIMEOUT)) | (seconds > self.client.timeout_s)
        outcome, recorded = xp.where(late, int(Outcome.TIMEOUT), outcome), recorded & ~late
        return outcome, recorded, xp.where(late, self.client.timeout_s, seconds)


@dataclass
class Repeats:
    """Calls of an arm that was called before; rows as `Arrays.narrow` gives them, the others [n] in those rows."""

    rows: Array
    delivered: Array  # earlier calls that brought their sample
    tried: Array  # attempts that the earlier calls took


def _luck(bits: Array) -> Array:
    """[n] the top 24 bits, as a number between −2^23 and 2^23: what the cuts are made for."""
    return bits >> (64 - LUCK_BITS)


def _either(mask: Array | None, other: Array) -> Array:
    return other if mask is None else mask | other
