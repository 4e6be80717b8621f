"""A simulator that writes down what happens in it, turn by turn, and changes nothing."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from responses_db.store import ResponseStore
from xrouter_sim.engine.arrays import Array
from xrouter_sim.engine.calls import Attempt
from xrouter_sim.engine.episodes import ARM, ATTEMPTS, CACHED, OUTCOME, RECORDED, SAMPLE, Episodes, field_of
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.semantics import NO_CALL, Action, Final, Outcome
from xrouter_sim.engine.simulator import Simulator
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
from xrouter_sim.replay import Ints, Replay

Place = tuple[str, str, str, int]
"""Query, model, prompt style, and which of the arm's samples, counted from 0."""

Texts = Mapping[Place, tuple[str | None, str | None]]
"""A response's text, and the answer that was read out of it."""

TEXTS_SQL = """
SELECT query_id, model_id, prompt_style, text, answer,
    row_number() OVER (PARTITION BY query_id, model_id, prompt_style ORDER BY sample_index) - 1 AS sample
FROM graded WHERE query_id IN (SELECT unnest(?::VARCHAR[]))
"""


def store_texts(path: str | Path, query_ids: Iterable[str]) -> Texts:
    """What the store has of the responses to these queries. Raises LabError when it cannot be read."""
    with ResponseStore(path) as store:
        rows = store.frame(TEXTS_SQL, [sorted(set(query_ids))])
    return {(query, model, style, sample): (text, answer) for query, model, style, text, answer, sample in rows.rows()}


@dataclass(frozen=True)
class _Turn:
    """What a turn leaves behind beside its slots."""

    asked: Ints
    final: int
    slots: range
    cost: float
    time: float


class TracedSimulator(Simulator):
    """A Simulator on NumPy arrays that keeps a record of the first `most` rows.

    Play one set of episodes on it (with `rollout.play`, or turn by turn), then take their `traces`. Outcomes are those
    of a Simulator, bit for bit.
    """

    def __init__(
        self,
        replay: Replay,
        profile: Profile,
        seed: int,
        cost_unit: float,
        *,
        direct_arm: int | None = None,
        vote_weights: npt.ArrayLike | None = None,
        most: int = sys.maxsize,
    ) -> None:
        super().__init__(replay, profile, seed, cost_unit, direct_arm=direct_arm, vote_weights=vote_weights)
        self.most, self._settings = most, profile_settings(profile)
        self._named_weights = None if vote_weights is None else np.asarray(vote_weights, np.float64).tolist()
        self._turns: dict[int, list[_Turn]] = defaultdict(list)
        self._attempts: dict[tuple[int, int], list[AttemptTrace]] = {}
        self._batches: list[dict[int, list[AttemptTrace]]] = []

    def step(self, episodes: Episodes, action: Action) -> None:
        """As in Simulator, with a note of it."""
        assert len(episodes) <= self.xp.chunk, "a turn in one piece: calls are told apart by their order"
        live, before = ~episodes.done, episodes.n_slots.copy()
        self._batches, self.caller.keep = [], self._note
        super().step(episodes, action)
        self._sort_attempts(episodes, action, live, before)
        for place in np.flatnonzero(live & (episodes.row < self.most)).tolist():
            asked = action.calls[place]
            turn = _Turn(
                asked=asked[asked >= 0],
                final=int(action.final[place]),
                slots=range(int(before[place]), int(episodes.n_slots[place])),
                cost=float(episodes.cost[place]),
                time=float(episodes.time[place]),
            )
            self._turns[int(episodes.row[place])].append(turn)

    def _note(self, rows: Array, mask: Array | None, number: int, went: Attempt) -> None:
        """The caller's `keep`: attempts of one batch of calls after another, each batch beginning with number 0."""
        if number == 0:
            self._batches.append(defaultdict(list))
        calls = range(len(went.outcome)) if isinstance(rows, slice) else rows.tolist()
        columns = (went.sent, went.recorded, went.waited, went.seconds, went.cost, went.outcome)
        for call, sent, recorded, waited, seconds, cost, outcome in zip(
            calls, *(values.tolist() for values in columns), strict=True
        ):
            attempt = AttemptTrace(_outcome(outcome), sent, recorded, waited, seconds, cost)
            self._batches[-1][call].append(attempt)

    def _sort_attempts(self, episodes: Episodes, action: Action, live: Array, before: Ints) -> None:
        """Give each batch's attempts to the slots they filled: the engine calls column by column, then directly."""
        columns = [live & (action.calls[:, column] != NO_CALL) for column in range(action.calls.shape[1])]
        if self.direct_arm is not None:
            columns.append(live & (action.final == int(Final.DIRECT)))
        batches, slot = iter(self._batches), before.copy()
        for called in columns:
            places = np.flatnonzero(called & (slot < len(episodes.slots)))
            if not len(places):
                continue
            attempts = next(batches)
            for number, place in enumerate(places.tolist()):
                self._attempts[int(episodes.row[place]), int(slot[place])] = attempts[number]
            slot[places] += 1
        assert next(batches, None) is None
        assert np.array_equal(slot, episodes.n_slots)

    def forget(self) -> None:
        """All that was recorded, so that other episodes can be played."""
        self._turns.clear()
        self._attempts.clear()

    # --- the traces ---------------------------------------------------------------------------------------------------

    def traces(self, episodes: Episodes, router: str, texts: Texts | None = None) -> list[EpisodeTrace]:
        """Of the recorded episodes that are done, by row. `texts` as from `store_texts`, where texts are wanted."""
        places = np.flatnonzero(episodes.done & (episodes.row < self.most)).tolist()
        return [self._trace(episodes, place, router, texts or {}) for place in places]

    def _trace(self, episodes: Episodes, place: int, router: str, texts: Texts) -> EpisodeTrace:
        replay, query, latency = self.replay, int(episodes.query[place]), self.replay.latency_s
        turns = [self._turn_trace(episodes, place, turn, texts) for turn in self._turns[int(episodes.row[place])]]
        return EpisodeTrace(
            episode=int(episodes.key[place]),
            query_id=replay.query_ids[query],
            question=replay.questions[query],
            domain=str(replay.domains[query]),
            router=router,
            engine="simulated",
            label=f"simulated episode over {' and '.join(replay.store.get('provenance') or ['unknown'])} answers",
            seed=self.seed,
            penalty=float(episodes.penalty[place]),
            cost_unit_usd=self.cost_unit,
            budget_usd=_finite(episodes.budget[place]),
            deadline_s=_finite(episodes.deadline[place]),
            profile=self._settings,
            models=list(replay.model_ids),
            prompt_styles=list(replay.prompt_styles),
            direct=None if self.direct_arm is None else replay.arm_names[self.direct_arm],
            vote_weights=self._named_weights,
            latency_known=bool(np.isfinite(latency[query][replay.sample_mask[query]]).all()),
            pool=self._pool(episodes, place),
            turns=turns,
            end=self._end(episodes, place, [call for turn in turns for call in turn.calls]),
            cost_usd=float(episodes.cost[place]),
            time_s=float(episodes.time[place]),
            store={name: replay.store[name] for name in ("path", "content_hash") if name in replay.store},
        )

    def _turn_trace(self, episodes: Episodes, place: int, turn: _Turn, texts: Texts) -> TurnTrace:
        final, selected = action_words(turn.final)
        return TurnTrace(
            asked=[self.replay.arm_names[arm] for arm in turn.asked.tolist()],
            final=final,
            selected=selected,
            calls=[self._call_trace(episodes, place, slot, texts) for slot in turn.slots],
            cost_usd=turn.cost,
            time_s=turn.time,
        )

    def _call_trace(self, episodes: Episodes, place: int, slot: int, texts: Texts) -> CallTrace:
        replay, query, word = self.replay, int(episodes.query[place]), episodes.slots[slot, place]
        names = (ARM, SAMPLE, OUTCOME, ATTEMPTS, CACHED, RECORDED)
        arm, sample, outcome, tried, cached, recorded = (int(field_of(word, name)) for name in names)
        model = replay.model_ids[int(replay.model_of_arm[arm])]
        style = replay.prompt_styles[arm % len(replay.prompt_styles)]
        code = int(replay.answer[query, arm, sample])
        unread = None, f"#{code}" if code >= 0 else None
        text, answer = texts.get((replay.query_ids[query], model, style, sample), unread)
        damaged = outcome in (Outcome.TRUNCATED, Outcome.REFUSED)
        return CallTrace(
            slot=slot,
            model=model,
            prompt_style=style,
            sample=sample,
            samples=int(replay.samples[query, arm]),
            cached=bool(cached),
            outcome=_outcome(outcome),
            cost_usd=float(episodes.slot_cost[slot, place]),
            seconds=float(episodes.slot_time[slot, place]),
            attempts=self._attempts[int(episodes.row[place]), slot] if tried else [],
            text=text if recorded else None,
            answer=answer if recorded else None,
            score=float(replay.score[query, arm, sample]) if recorded else 0.0 if damaged else None,
        )

    def _pool(self, episodes: Episodes, place: int) -> list[Offer]:
        """In the order in which it was shown."""
        one, replay = slice(place, place + 1), self.replay
        price = self.price(episodes.world[one], episodes.period[one])[0]
        there = self.on_offer(episodes.world[one])[0]
        usd = 1000.0 * replay.mean_cost.mean(axis=0).reshape(len(replay.model_ids), -1).mean(axis=1)
        return [
            Offer(replay.model_ids[model], True, float(price[model]), float(price[model] * usd[model]))
            if there[model]
            else Offer(replay.model_ids[model], False, None, None)
            for model in self.order(episodes.world[one])[0].tolist()
        ]

    def _end(self, episodes: Episodes, place: int, calls: list[CallTrace]) -> End:
        slot = int(episodes.final[place])
        chosen = calls[slot] if slot >= 0 else None
        return End(
            how=action_words(int(episodes.ending[place]))[0],
            slot=slot if chosen else None,
            model=chosen.model if chosen else None,
            answer=chosen.answer if chosen else None,
            score=float(episodes.score[place]),
            reward=float(episodes.reward[place]),
        )


def _outcome(number: int) -> str:
    return Outcome(number).name.lower()


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
