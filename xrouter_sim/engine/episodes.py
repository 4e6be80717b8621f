"""The state of many episodes, and what a router sees of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from xrouter_sim.engine.arrays import Array
from xrouter_sim.engine.semantics import NO_CALL, Outcome

if TYPE_CHECKING:
    from xrouter_sim.engine.simulator import Simulator

EMPTY = -1
"""An empty slot's word."""

ARM, SAMPLE, OUTCOME, ATTEMPTS, TURN, CACHED, RECORDED = 0, 16, 32, 40, 48, 56, 57
"""Where a slot's word holds what: arm and sample 16 bits, outcome, attempts and turn 8 bits, two flags one bit each."""


def field_of(word: Array, place: int) -> Array:
    """One of the fields above; meaningless for an empty slot."""
    width = {ARM: 0xFFFF, SAMPLE: 0xFFFF, CACHED: 1, RECORDED: 1}.get(place, 0xFF)
    return (word >> place) & width


def filled_field(word: Array, place: int) -> Array:
    """As `field_of`, and NO_CALL for an empty slot."""
    filled = word != EMPTY
    return field_of(word, place) * filled + NO_CALL * ~filled


NOT_PER_EPISODE = ("lanes", "limited", "over", "whole", "start", "column", "turned")


@dataclass
class Episodes:
    """B episodes. The last axis of every array is theirs.

    Slots are kept in rings of L lanes, each one stretch of memory. The batch's calls come in columns, and column c goes
    to lane c mod L. So the slots of episodes that call in every column, as most do, are filled by writing a lane.
    """

    place: Array  # [B] from 0
    row: Array  # [B] place among the episodes played together
    query: Array  # [B] index into the replay
    key: Array  # [B] the episode's number: with the seed it fixes the whole world of the episode
    penalty: Array  # [B] λ
    budget: Array  # [B] USD
    deadline: Array  # [B] seconds
    luck: Array  # [B] state of the episode's stream at which its calls begin
    world: Array  # [B] where the episode's row of the deck begins
    period: Array  # [B] where its period's row begins
    turn: Array  # [B]
    n_slots: Array  # [B] slots from here on hold nothing that counts
    began: Array  # [B] the column of calls that slot 0 is for; slot s of an episode lies in lane began + s mod L
    ring_word: Array  # [L, B] see `field_of`
    ring_cost: Array  # [L, B] USD
    ring_time: Array  # [L, B] seconds
    called: Array  # [B] bit arm % 64 is set once an arm has been called
    newest_ok: Array  # [B] whether the newest response is OK; counts once there is one
    newest_score: Array  # [B] its score, 0 where the response was damaged on the way
    cost: Array  # [B] USD so far
    time: Array  # [B] virtual seconds so far
    done: Array  # [B]
    ending: Array  # [B] the action's `final` that ended it; this and what follows count once it is done
    final: Array  # [B] slot whose response is the answer, or Final.NONE
    score: Array  # [B]
    reward: Array  # [B]
    lanes: Array  # [L] the slots' numbers
    limited: bool = False
    """Whether any of them has a budget or a deadline."""
    over: Array | None = None
    """[B] whether bill or clock had reached it as the turn began: calls in parallel do not know each other's bills."""
    whole: Episodes | None = None
    """What this is a part of, from episode `start` on."""
    start: int = 0
    column: int = 0
    """Columns of calls so far."""
    turned: bool = False
    """Whether any of them began later than at column 0."""

    def __len__(self) -> int:
        return int(self.query.shape[0])

    def part(self, rows: slice) -> Episodes:
        """The same memory, fewer episodes."""
        arrays = {name: values[..., rows] for name, values in self.arrays().items()}
        scalars = {name: getattr(self, name) for name in ("lanes", "limited", "column", "turned")}
        return Episodes(**arrays, **scalars, whole=self, start=rows.start)

    def arrays(self) -> dict[str, Array]:
        """Everything that has an element an episode, by name."""
        return {name: values for name, values in vars(self).items() if name not in NOT_PER_EPISODE}

    def put_in_lane(self, word: Array, cost: Array, time: Array) -> None:
        """Fill the next slot of every episode ([B] each), where for all of them that is the column of the moment."""
        lane = self.column % len(self.ring_word)
        self.ring_word[lane], self.ring_cost[lane], self.ring_time[lane] = word, cost, time

    def put_in_slot(self, slot: Array, rows: Array | slice, word: Array, cost: Array, time: Array) -> None:
        """Fill one slot of each of the rows ([n] each)."""
        place, whole = self.place_in_ring(slot, rows), self.whole or self
        for values, ring in ((word, whole.ring_word), (cost, whole.ring_cost), (time, whole.ring_time)):
            ring.reshape(-1)[place] = values

    def place_in_ring(self, slot: Array, rows: Array | slice) -> Array:
        """Where a slot ([n], or [L, 1]) of some rows lies in a ring of the whole, laid flat."""
        whole = self.whole or self
        lane = (self.began[rows] + slot) % len(whole.ring_word) if self.turned else slot
        return lane * len(whole) + self.place[rows]

    def in_slot(self, name: str, slot: Array, rows: Array | slice) -> Array:
        """What a ring holds in a slot ([n], or [L, 1]) of some rows."""
        return getattr(self.whole or self, name).reshape(-1)[self.place_in_ring(slot, rows)]

    def in_slots(self, name: str, rows: Array | slice = slice(None)) -> Array:
        """[L, n] what a ring holds of some rows, slot by slot."""
        return self.in_slot(name, self.lanes[:, None], rows) if self.turned else getattr(self, name)[:, rows]

    def slot_words(self, rows: Array | slice = slice(None)) -> Array:
        """[L, n] the slots of some rows, EMPTY from `n_slots` on."""
        filled = self.lanes[:, None] < self.n_slots[rows]
        return self.in_slots("ring_word", rows) * filled + EMPTY * ~filled

    @property
    def slots(self) -> Array:
        """[L, B] words, see `field_of`."""
        return self.in_slots("ring_word")

    @property
    def slot_cost(self) -> Array:
        """[L, B] USD"""
        return self.in_slots("ring_cost")

    @property
    def slot_time(self) -> Array:
        """[L, B] seconds"""
        return self.in_slots("ring_time")

    def words(self, rows: Array | slice = slice(None)) -> Array:
        """[n, L] the same, an episode's slots side by side."""
        return self.slot_words(rows).T

    def slot(self, place: int) -> Array:
        """[B, L] one field of every slot's word, NO_CALL where the slot is empty."""
        return filled_field(self.words(), place)

    @property
    def arm(self) -> Array:
        """[B, L] NO_CALL where the slot is empty."""
        return self.slot(ARM)

    @property
    def outcome(self) -> Array:
        """[B, L] an Outcome, NO_CALL where the slot is empty."""
        return self.slot(OUTCOME)


@dataclass
class Observation:
    """What a router sees of B episodes with up to L slots for responses. Never a score.

    A snapshot: it stays as it was when the episodes go on. The wider parts ([B, M], [B, L]) are made when asked for.
    """

    simulator: Simulator
    row: Array  # [B] the episode's place among those played together
    key: Array  # [B] the episode's number
    query: Array  # [B] index into the replay
    penalty: Array  # [B] λ
    turn: Array  # [B]
    cost: Array  # [B] USD so far
    time: Array  # [B] virtual seconds so far
    budget: Array  # [B] USD in all; infinite where there is none
    deadline: Array  # [B] seconds in all; infinite where there is none
    world: Array  # [B] as in Episodes, for the parts below
    period: Array  # [B]
    words: Array  # [B, L] the slots, packed
    slot_cost: Array  # [B, L] USD, failed attempts included
    slot_time: Array  # [B, L] seconds

    def __len__(self) -> int:
        return int(self.query.shape[0])

    @property
    def last_turn(self) -> Array:
        """[B] this turn must end the episode."""
        return self.turn >= self.simulator.profile.client.max_turns - 1

    @cached_property
    def price(self) -> Array:
        """[B, M] factor on the price card; 1 where the model is not on offer."""
        return self.simulator.price(self.world, self.period)

    @cached_property
    def on_offer(self) -> Array:
        """[B, M]"""
        return self.simulator.on_offer(self.world)

    @cached_property
    def arm(self) -> Array:
        """[B, L] NO_CALL where the slot is empty."""
        return filled_field(self.words, ARM)

    @cached_property
    def sample(self) -> Array:
        """[B, L] which of the arm's samples came; NO_CALL where the slot is empty."""
        return filled_field(self.words, SAMPLE)

    @cached_property
    def outcome(self) -> Array:
        """[B, L] an Outcome, NO_CALL where the slot is empty."""
        return filled_field(self.words, OUTCOME)

    @cached_property
    def attempts(self) -> Array:
        """[B, L]"""
        return filled_field(self.words, ATTEMPTS)

    @cached_property
    def ok(self) -> Array:
        """[B, L] slots with a usable response."""
        return self.outcome == int(Outcome.OK)

    @cached_property
    def answer(self) -> Array:
        """[B, L] equal numbers are equal answers; -1 none, or nothing usable."""
        return self.simulator.answer(self.query, self.words)

    @property
    def live(self) -> bool:
        """Whether the responses are in no replay, so that all there is to know of them is here."""
        return self.simulator.live

    @cached_property
    def option(self) -> Array:
        """[B, L] which letter an answer is, from A (1); 0 none. Of live episodes alone: for others a replay tells."""
        return self.simulator.options  # type: ignore[attr-defined]

    @cached_property
    def evidence(self) -> Array:
        """[B, L, E] see `replay.EVIDENCE`; 0 where there is no usable response."""
        return self.simulator.evidence(self.query, self.words)
