"""The simulated orchestration engine: many episodes at once on a replay, as `semantics` says, under a profile.

Written once for NumPy and torch (see `arrays`). Turns are carried out in chunks; what is rare (a failure, a repeated
call, an end) is worked on apart where the backend can tell without stalling.
"""

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from xrouter_sim.engine.arrays import Array, Arrays, NumpyArrays, golden_steps
from xrouter_sim.engine.calls import CALL_STEP, GOLDEN, Caller
from xrouter_sim.engine.episodes import ARM, EMPTY, OUTCOME, RECORDED, SAMPLE, Episodes, Observation, field_of
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.randomness import Purpose, counter, episode_word_seed, episode_words, mix
from xrouter_sim.engine.semantics import Action, Final, Outcome
from xrouter_sim.engine.world import PERIODS, compile_world
from xrouter_sim.replay import Ints, Replay

NO_LIMIT, CONTINUE, NO_SLOT = float("inf"), int(Final.CONTINUE), int(Final.NONE)

Fate = dict[str, Array]
"""Fields of Episodes that an episode's number fixes, the number among them."""


class Simulator:
    """Plays episodes on a replay under a profile. Deterministic in (seed, episode key), whatever the batch or backend.

    Arrays that go in and come out are those of the backend, `self.xp`.
    """

    live: ClassVar[bool] = False
    """Whether responses come from elsewhere than the replay: see `live_view`."""

    def __init__(
        self,
        replay: Replay,
        profile: Profile,
        seed: int,
        cost_unit: float,
        *,
        xp: Arrays | None = None,
        direct_arm: int | None = None,
        vote_weights: npt.ArrayLike | None = None,
    ) -> None:
        """`cost_unit` in USD, see `replay.cost_unit`. `direct_arm` is the router's own model: a direct answer is its
        response, and no answer without one. `vote_weights` [A], for WEIGHTED_VOTE, come from training queries."""
        self.replay, self.profile, self.seed, self.cost_unit = replay, profile, seed, cost_unit
        self.xp = xp or NumpyArrays()
        self.direct_arm = direct_arm
        self.world = compile_world(profile, replay, seed)
        self.caller = Caller(replay, self.world, profile, self.xp)
        put = self.xp.put_in
        self._deck, self._order = len(self.world.price), put(self.world.order)
        self._place = put(np.argsort(self.world.order, axis=1))
        self._one = self.xp.full(1, 1)
        self._provider = put(self.world.provider[replay.model_of_arm])
        self._answer = put(replay.answer.reshape(-1))
        self._evidence = put(replay.evidence.reshape(-1, replay.evidence.shape[3]))
        weights = np.ones(replay.arms) if vote_weights is None else np.asarray(vote_weights, np.float64)
        self._weights = put(weights)
        self._word_seed = int(episode_word_seed(seed).view(np.int64))

    # --- episodes -----------------------------------------------------------------------------------------------------

    def reset(
        self,
        query: Array,
        key: Array,
        penalty: Array,
        first_row: int = 0,
        budget: Array | None = None,
        deadline: Array | None = None,
    ) -> Episodes:
        """Begin B episodes on these queries ([B] indices), keys and λ. Rows are numbered from `first_row`.

        `budget` [B] in USD and `deadline` [B] in virtual seconds; without them there is no limit.
        """
        xp, batch, client = self.xp, len(query), self.profile.client
        slots = (client.max_calls, batch)
        return Episodes(
            place=xp.arange(batch),
            row=xp.arange(batch) + first_row,
            query=query + 0,  # copies: a row may begin another episode later
            penalty=penalty + 0.0,
            budget=xp.full(batch, NO_LIMIT) if budget is None else budget,
            deadline=xp.full(batch, NO_LIMIT) if deadline is None else deadline,
            **self.fate(key + 0),
            turn=xp.full(batch, 0),
            n_slots=xp.full(batch, 0),
            began=xp.full(batch, 0),
            ring_word=xp.full(slots, EMPTY),
            ring_cost=xp.full(slots, 0.0),
            ring_time=xp.full(slots, 0.0),
            called=xp.full(batch, 0),
            newest_ok=xp.full(batch, False),
            newest_score=xp.full(batch, 0.0),
            cost=xp.full(batch, 0.0),
            time=xp.full(batch, 0.0),
            done=xp.full(batch, False),
            ending=xp.full(batch, int(Final.CONTINUE)),
            final=xp.full(batch, int(Final.NONE)),
            score=xp.full(batch, 0.0),
            reward=xp.full(batch, 0.0),
            lanes=xp.arange(client.max_calls),
            limited=budget is not None or deadline is not None,
        )

    def restart(self, episodes: Episodes, rows: Array, query: Array, fate: Fate, penalty: Array | None = None) -> None:
        """Begin new episodes in some rows ([n] places) of a batch, in place. Budget and deadline stay, as does λ unless
        it is given."""
        begins = {"query": query, "began": episodes.column, **fate}
        if penalty is not None:
            begins["penalty"] = penalty
        for name, values in begins.items():
            getattr(episodes, name)[rows] = values
        goes_on = self.xp.full(len(episodes), 1)
        goes_on[rows] = 0
        for kept in (episodes.turn, episodes.n_slots, episodes.called):
            kept *= goes_on  # over all rows: quicker than zeros in some
        goes_on = self.xp.to_float(goes_on)
        for kept in (episodes.cost, episodes.time):
            kept *= goes_on
        episodes.done[rows], episodes.turned = False, True

    def fate(self, key: Array) -> Fate:
        """What the seed and an episode's number fix: its stream, its world and its period."""
        models = self.caller.models
        word = self.xp.stream((self._word_seed ^ self.xp.stream(key + GOLDEN)) + GOLDEN)
        period = (key // self.profile.failures.period_episodes) & (PERIODS - 1)
        return {
            "key": key,
            "luck": word + CALL_STEP,
            "world": ((word >> 20) & (self._deck - 1)) * models,
            "period": period * models,
        }

    def pick(self, fate: Fate, purpose: Purpose, n: int) -> Array:
        """[B] a number below n for each episode, with equal chances."""
        step = int(golden_steps(counter(purpose, 0))) - CALL_STEP
        return ((self.xp.stream(fate["luck"] + step) & 0x7FFFFFFF) * n) >> 31

    def observe(self, episodes: Episodes, rows: Array | slice = slice(None)) -> Observation:
        """What a router may see of some of the episodes ([n] row numbers)."""
        names = ("row", "key", "query", "penalty", "turn", "cost", "time", "budget", "deadline", "world", "period")
        seen = {name: getattr(episodes, name)[rows] for name in names}
        seen |= {f"slot_{name}": episodes.in_slots(f"ring_{name}", rows).T for name in ("cost", "time")}
        if isinstance(rows, slice):  # a view would change as the episodes go on
            seen = {name: values + 0 for name, values in seen.items()}
        return Observation(simulator=self, words=episodes.words(rows), **seen)

    # --- what observations look up ------------------------------------------------------------------------------------

    def price(self, world: Array, period: Array) -> Array:
        """[B, M] factor on the price card for deck rows and periods [B]; 1 where the model is not on offer."""
        caller, models = self.caller, self.xp.arange(self.caller.models)
        price = self.xp.take(caller.price, world[:, None] + models)
        if caller.drifts:
            price = price * self.xp.take(caller.drift, period[:, None] + models)
        return self.xp.where(price >= 0, price, 1.0)

    def on_offer(self, world: Array) -> Array:
        """[B, M]"""
        return self.xp.take(self.caller.price, world[:, None] + self.xp.arange(self.caller.models)) >= 0

    def order(self, world: Array) -> Array:
        """[B, M] the models as the pool shows them."""
        return self.xp.take(self._order, world // self.caller.models % len(self._order))

    def place(self, world: Array) -> Array:
        """[B, M] each model's place in the pool as it is shown, from 0."""
        return self.xp.take(self._place, world // self.caller.models % len(self._place))

    def cells(self, query: Array, words: Array) -> Array:
        """[B, L] where the arrays of the replay, laid flat, have each slot's response; -1 where nothing usable is."""
        ok = (words != EMPTY) & (field_of(words, OUTCOME) == int(Outcome.OK))
        return self.xp.where(ok, self._cell_of(query[:, None], words), -1)

    def answer(self, query: Array, words: Array) -> Array:
        """[B, L] the answer read out of each slot's response ([B, L] words); -1 where there is none."""
        cell = self.cells(query, words)
        return self.xp.where(cell >= 0, self.xp.take(self._answer, cell * (cell >= 0)), -1)

    def evidence(self, query: Array, words: Array) -> Array:
        """[B, L, E] of each slot's response; 0 where there is none."""
        cell = self.cells(query, words)
        found = self.xp.take(self._evidence, cell * (cell >= 0))
        return self.xp.where((cell >= 0)[..., None], found, 0.0)

    def _cell_of(self, query: Array, word: Array) -> Array:
        return (query * self.caller.arms + field_of(word, ARM)) * self.caller.samples_most + field_of(word, SAMPLE)

    def first_sample(self, query: Ints, key: Ints, arm: Ints) -> Ints:
        """The sample that an arm's first call in an episode draws. NumPy arrays that broadcast."""
        query, key, arm = np.broadcast_arrays(query, key, arm)
        state = episode_words(self.seed, key) + golden_steps(counter(Purpose.SAMPLE, arm))
        bits = mix(state.view(np.uint64)).view(np.int64) & 0x7FFFFFFF
        drawn: Ints = (bits * self.replay.samples[query, arm]) >> 31
        return drawn

    # --- a turn -------------------------------------------------------------------------------------------------------

    def step(self, episodes: Episodes, action: Action) -> None:
        """Carry out one turn of every episode that is not done, in place."""
        columns = [c for c in range(action.calls.shape[1]) if not self.xp.is_idle(action.calls[:, c] >= 0)]
        for start in range(0, len(episodes), self.xp.chunk):
            rows = slice(start, min(start + self.xp.chunk, len(episodes)))
            self._turn(episodes.part(rows), columns, action.calls[rows], action.final[rows])
        episodes.column += len(columns)

    def _turn(self, episodes: Episodes, columns: list[int], calls: Array, final: Array) -> None:
        xp, live = self.xp, ~episodes.done
        everyone, took = xp.is_full(live), None
        if episodes.limited:
            episodes.over = (episodes.cost >= episodes.budget) | (episodes.time >= episodes.deadline)
        for column in columns:
            called = live & (calls[:, column] >= 0)
            busy = self._calls_to_same_provider(calls, column) if column and self.caller.extra else None
            seconds = self._call(episodes, calls[:, column], called, busy)
            took = seconds if took is None else xp.maximum(seconds, took)
            episodes.column += 1
        if self.direct_arm is not None:
            direct = live & (final == int(Final.DIRECT))
            if not xp.is_idle(direct):
                own = xp.full(len(episodes), self.direct_arm)
                seconds = self._call(episodes, own, direct, None)
                took = seconds if took is None else xp.maximum(seconds, took)
        if took is not None:
            episodes.time += took
        if everyone:
            episodes.turn += 1
        else:
            episodes.turn += live
            final = (final - CONTINUE) * live + CONTINUE
        self._finish(episodes, final, everyone)

    def _calls_to_same_provider(self, calls: Array, column: int) -> Array:
        """[B] how many earlier calls of the turn went to the provider of this column's call."""
        mine = self.xp.take(self._provider, calls[:, column] * (calls[:, column] >= 0))
        others = (calls[:, c] for c in range(column))
        return sum((other >= 0) & (self.xp.take(self._provider, other * (other >= 0)) == mine) for other in others)

    def _call(self, episodes: Episodes, arm: Array, mask: Array, busy: Array | None) -> Array:
        """Call one arm in each of the rows of the mask; returns the seconds each call takes, 0 elsewhere."""
        xp, capacity = self.xp, len(episodes.lanes)
        mask = mask & (episodes.n_slots < capacity)
        if xp.is_idle(mask):
            return xp.full(len(episodes), 0.0)
        rows, mask = xp.narrow(mask)
        arm = arm[rows] if mask is None else arm * mask
        called = self._one if mask is None else xp.to_int(mask)
        bit = called << (arm & 63)
        result = self.caller.call(episodes, rows, arm, bit, None if busy is None else busy[rows])
        every, slot, time = isinstance(rows, slice), episodes.n_slots[rows], result.time
        if mask is not None:  # a row that does not call writes where nothing counts, or its last slot anew
            full = slot >= capacity
            slot, time = xp.minimum(slot, capacity - 1), xp.where(mask, time, 0.0)
            for name in ("word", "cost", "time"):
                kept = episodes.in_slot(f"ring_{name}", slot, rows)
                setattr(result, name, xp.where(full, kept, getattr(result, name)))
        if every and xp.is_full(episodes.began + slot == episodes.column):
            episodes.put_in_lane(result.word, result.cost, result.time)
        else:
            episodes.put_in_slot(slot, rows, result.word, result.cost, result.time)
        xp.put(episodes.newest_ok, rows, mask, result.ok)
        xp.put(episodes.newest_score, rows, mask, result.score)
        episodes.called[rows] |= bit
        episodes.cost[rows] += result.cost if mask is None else xp.where(mask, result.cost, 0.0)
        episodes.n_slots[rows] += called
        if every:
            return time
        took = xp.full(len(episodes), 0.0)
        took[rows] = time
        return took

    # --- the end ------------------------------------------------------------------------------------------------------

    def _finish(self, episodes: Episodes, final: Array, everyone: bool) -> None:
        """End the episodes whose turn ended them, by what `final` [B] says, and grade them.

        Where none was done before (`everyone`), all are graded, which is quicker than to pick out those that end.
        """
        xp, last = self.xp, episodes.turn >= self.profile.client.max_turns
        ends = (final != int(Final.CONTINUE)) | (last if everyone else last & ~episodes.done)
        if xp.is_idle(ends):
            return
        newest_ok = episodes.newest_ok & (episodes.n_slots > 0)
        # A response that is not there cannot be adopted: the router may try something else, while it has turns left.
        ends &= (final != int(Final.ADOPT)) | newest_ok | last
        rows, mask = (slice(None), None) if everyone else xp.narrow(ends)
        final, n_slots = final[rows], episodes.n_slots[rows]
        adopts = (final == int(Final.ADOPT)) & newest_ok[rows]
        if self.direct_arm is not None:
            adopts |= (final == int(Final.DIRECT)) & newest_ok[rows]
        chosen = (n_slots - 1 - NO_SLOT) * adopts + NO_SLOT
        score = episodes.newest_score[rows] * adopts
        picks = (final >= 0) | (final == int(Final.VOTE)) | (final == int(Final.WEIGHTED_VOTE))
        if not xp.is_idle(picks):
            some, counts = xp.narrow(picks)
            places = some if isinstance(rows, slice) else rows[some]
            picked = self._voted(episodes, places, final[some])
            picked = xp.where(picked < n_slots[some], picked, NO_SLOT)
            xp.put(chosen, some, counts, picked)
            xp.put(score, some, counts, self._score(episodes, places, picked))
        bill = episodes.penalty[rows] * episodes.cost[rows]
        bill /= self.cost_unit
        xp.put(episodes.done, rows, mask, ends[rows])
        xp.put(episodes.final, rows, mask, chosen)
        xp.put(episodes.ending, rows, mask, final)
        xp.put(episodes.score, rows, mask, score)
        xp.put(episodes.reward, rows, mask, score * (1.0 - xp.minimum(bill, 1.0)))

    def _score(self, episodes: Episodes, rows: Array, chosen: Array) -> Array:
        """[n] the score of the chosen slot's response; 0 where there is none, or it was damaged on the way."""
        xp, nothing = self.xp, self.caller.tables.nothing
        score = xp.to_float(chosen * 0)
        selects = chosen >= 0
        if xp.is_idle(selects):
            return score
        some, counts = xp.narrow(selects)
        places = some if isinstance(rows, slice) else rows[some]
        slot = chosen[some] if counts is None else chosen * counts
        word = episodes.in_slot("ring_word", slot, places)
        cell = xp.where(field_of(word, RECORDED) == 1, self._cell_of(episodes.query[places], word), nothing)
        xp.put(score, some, counts, self.caller.tables.score(cell))
        return score

    def _voted(self, episodes: Episodes, rows: Array, final: Array) -> Array:
        """[n] the slot that `final` selects, and where it is a vote the first one of the group with most weight."""
        xp, chosen = self.xp, self.xp.where(final >= 0, final, NO_SLOT)
        votes = (final == int(Final.VOTE)) | (final == int(Final.WEIGHTED_VOTE))
        if xp.is_idle(votes):
            return chosen
        words = episodes.words(rows)
        answer = self.answer(episodes.query[rows], words)
        has = answer >= 0
        arm = field_of(words, ARM) * has
        weight = xp.where((final == int(Final.VOTE))[:, None], 1.0, xp.take(self._weights, arm))
        same = (answer[:, :, None] == answer[:, None, :]) & has[:, None, :] & has[:, :, None]
        support = (same * weight[:, None, :]).sum(-1)
        best = xp.where(has.any(-1), xp.argmax(xp.where(has, support, NOTHING)), NO_SLOT)
        return xp.where(votes, best, chosen)


NOTHING = -1e300
"""Below any weight of votes."""
