"""Every policy on a few arms with a few outcomes: exact dynamic programming over what each arm has answered.

A state says of each arm whether it was called and what came back. So spending and the best score at hand follow from
the state, and each state is solved once, from all-called to none-called. Costs are in units of the whole reward.
"""

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Self

import numpy as np

from xrouter_sim.bounds.base import NO_ARM, TIE, Cells
from xrouter_sim.replay import Bools, Floats, Ints

CHUNK = 1_000_000
"""States held at once."""


@dataclass(frozen=True)
class Queries:
    """Arms of n queries with their outcomes [n, A, K]: chance, score and spending.

    An arm whose draws are all one outcome, or all of the top score, is *closing*: one calls it last or never. Of the
    other arms, outcomes of the top score end the episode; only the rest makes states.
    """

    chance: Floats
    score: Floats
    spending: Floats
    top: Floats  # [n] the best score any arm can give

    @classmethod
    def of(cls, cells: Cells, rate: float) -> Self:
        """`rate`: λ / unit, rewards a USD. Arms that alone earn nothing are left out; equal outcomes become one."""
        spending = cells.cost_usd * rate
        useful = ((cells.score > 0) & (spending < 1)).any(axis=2, keepdims=True)
        chance, score, spending = _merged(cells.chance * useful, cells.score * useful, spending * useful)
        return cls(chance, score, spending, np.where(chance > 0, score, 0.0).max(axis=(1, 2)))

    def take(self, rows: Ints | Bools) -> Self:
        """Some of the queries."""
        names = ("chance", "score", "spending", "top")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    @property
    def ends(self) -> Bools:
        """[n, A, K] outcomes after which nothing better can come."""
        ends: Bools = (self.chance > 0) & (self.score >= self.top[:, None, None] - TIE)
        return ends

    @property
    def open_outcomes(self) -> Ints:
        """[n, A] outcomes after which one may want to go on; 0 for closing arms and those left out."""
        count = ((self.chance > 0) & ~self.ends).sum(axis=2)
        return np.where((self.chance > 0).sum(axis=2) > 1, count, 0)

    @property
    def states(self) -> Floats:
        """[n] how many states a query has in `solve` (as a float: it may be huge)."""
        opens = self.open_outcomes
        count: Floats = (1.0 + opens.max(axis=1)) ** (opens > 0).sum(axis=1)
        return count


def solve(query: Queries) -> tuple[Floats, Floats, Floats, Ints]:
    """Value, expected score, expected spending and first arm [n each] of the best policy of each query."""
    n = len(query.top)
    value, score, spent, first = np.zeros(n), np.zeros(n), np.zeros(n), np.full(n, NO_ARM)
    opens = query.open_outcomes
    shapes = np.stack([(opens > 0).sum(axis=1), opens.max(axis=1)], axis=1)
    for arms, outcomes in np.unique(shapes, axis=0).tolist():
        alike = np.flatnonzero((shapes == (arms, outcomes)).all(axis=1))
        step = max(1, CHUNK // (outcomes + 1) ** arms)
        for rows in np.split(alike, range(step, len(alike), step)):
            value[rows], score[rows], spent[rows], first[rows] = _Tree(query.take(rows), arms, outcomes).solve()
    return value, score, spent, first


class _Tree:
    """Queries with the same number of arms to explore and of outcomes that leave a choice."""

    def __init__(self, query: Queries, arms: int, outcomes: int) -> None:
        self.query, self.arms, self.outcomes = query, arms, outcomes
        opens = query.open_outcomes
        self.arm = np.argsort(-opens, axis=1, kind="stable")[:, :arms]  # [n, arms]
        self.closing = (opens == 0) & (query.chance > 0).any(axis=2)
        self._outcomes()

    def _outcomes(self) -> None:
        """[n, arms, outcomes] what leaves a choice, and [n, arms, K] what ends the episode."""
        query = self.query
        chance, score, spending = (
            np.take_along_axis(x, self.arm[:, :, None], axis=1) for x in (query.chance, query.score, query.spending)
        )
        ends = np.take_along_axis(query.ends, self.arm[:, :, None], axis=1)
        going = (chance > 0) & ~ends
        first = np.argsort(~going, axis=2, kind="stable")[:, :, : self.outcomes]
        self.chance, self.score, self.spending = (
            np.take_along_axis(np.where(going, x, 0.0), first, axis=2) for x in (chance, score, spending)
        )
        self.end_chance, self.end_spending = chance * ends, spending

    def solve(self) -> tuple[Floats, Floats, Floats, Ints]:
        self._stop()
        self.first = np.full(len(self.query.top), NO_ARM)
        self._close()
        for size in range(1, self.arms + 1):
            for untried in combinations(range(self.arms), size):
                for axis in untried:
                    self._call(axis, untried)
        return self._root(self.value), self._root(self.got), self._root(self.paid), self.first

    def _stop(self) -> None:
        """What each state [n, 1 + outcomes, …] is worth if one takes the best response at hand."""
        n = len(self.query.top)
        self.spent, at_hand = (np.zeros((n, *(1,) * self.arms)) for _ in range(2))
        for axis in range(self.arms):
            self.spent = self.spent + self._along(axis, self.spending)
            at_hand = np.maximum(at_hand, self._along(axis, self.score))
        self.value = at_hand * np.maximum(1 - self.spent, 0.0)
        self.got, self.paid = at_hand.copy(), self.spent.copy()

    def _along(self, axis: int, values: Floats) -> Floats:
        """Values [n, outcomes] of one arm along its axis of the states, 0 where it was not called."""
        shape = [len(values), *(1,) * self.arms]
        shape[axis + 1] = self.outcomes + 1
        return np.pad(values[:, axis], ((0, 0), (1, 0))).reshape(shape)

    def _column(self, values: Floats) -> Floats:
        """[n] as something to compute with states."""
        return values.reshape(-1, *(1,) * self.arms)

    def _close(self) -> None:
        """In any state one may call a closing arm and be done."""
        query, slots = self.query, int(self.closing.sum(axis=1).max(initial=0))
        order = np.argsort(~self.closing, axis=1, kind="stable")[:, :slots]
        everywhere = (slice(None),) * (self.arms + 1)
        for arm in order.T:
            rows = np.arange(len(arm))
            chance = np.where(self.closing[rows, arm][:, None], query.chance[rows, arm], 0.0)
            ends = (chance, query.score[rows, arm], query.spending[rows, arm])
            value, got, paid = self._ended(everywhere, *ends)
            self._offer(everywhere, arm, value, got, paid, chance.sum(axis=1) > 0)

    def _ended(
        self, states: tuple[slice, ...], chance: Floats, score: Floats, spending: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """Sums over outcomes [n, K] after which the episode is over: value, score, spending."""
        spent = self.spent[states]
        value, got, paid = (np.zeros_like(spent) for _ in range(3))
        for k in np.flatnonzero((chance > 0).any(axis=0)):
            part, after = self._column(chance[:, k]), spent + self._column(spending[:, k])
            won = part * self._column(score[:, k])
            value += won * np.maximum(1 - after, 0.0)
            got += won
            paid += part * after
        return value, got, paid

    def _call(self, axis: int, untried: tuple[int, ...]) -> None:
        """Call one of the untried arms in all states in which exactly these are untried."""
        called = slice(1, None)
        states = (slice(None), *(slice(0, 1) if i in untried else called for i in range(self.arms)))
        after = (*states[: axis + 1], called, *states[axis + 2 :])
        top = np.broadcast_to(self.query.top[:, None], self.end_chance[:, axis].shape)
        value, got, paid = self._ended(states, self.end_chance[:, axis], top, self.end_spending[:, axis])
        chance = self._along(axis, self.chance)[(*(slice(None),) * (axis + 1), called)]
        for total, later in ((value, self.value), (got, self.got), (paid, self.paid)):
            total += (chance * later[after]).sum(axis=axis + 1, keepdims=True)
        self._offer(states, self.arm[:, axis], value, got, paid)

    def _offer(
        self,
        states: tuple[slice, ...],
        arm: Ints,
        value: Floats,
        got: Floats,
        paid: Floats,
        rows: Bools | None = None,
    ) -> None:
        """Take an action where it earns more than what is known, or as much at less cost."""
        better = value > self.value[states] + TIE
        better |= (value >= self.value[states] - TIE) & (paid < self.paid[states] - TIE)
        if rows is not None:
            better &= self._column(rows.astype(np.float64)) > 0
        for known, new in ((self.value, value), (self.got, got), (self.paid, paid)):
            known[states] = np.where(better, new, known[states])
        if all(part == slice(0, 1) for part in states[1:]) or better.shape == self.value.shape:
            self.first = np.where(self._root(better), arm, self.first)

    @staticmethod
    def _root(states: Any) -> Any:
        """[n] what stands where nothing has been called."""
        return states.reshape(len(states), -1)[:, 0]


def _merged(chance: Floats, score: Floats, spending: Floats) -> tuple[Floats, Floats, Floats]:
    """Equal outcomes of an arm as one, impossible ones last."""
    order = np.lexsort((spending, score, chance == 0), axis=2)
    chance, score, spending = (np.take_along_axis(x, order, axis=2) for x in (chance, score, spending))
    new = np.zeros(chance.shape, np.int64)
    new[:, :, 1:] = (np.diff(score, axis=2) != 0) | (np.diff(spending, axis=2) != 0) | (np.diff(chance > 0, axis=2))
    place = new.cumsum(axis=2)
    total = np.zeros_like(chance)
    n, arms, _ = chance.shape
    np.add.at(total, (np.arange(n)[:, None, None], np.arange(arms)[:, None], place), chance)
    kept = [np.zeros_like(score), np.zeros_like(score)]
    for values, known in zip((score, spending), kept, strict=True):
        np.put_along_axis(known, place, values, axis=2)
    return total, kept[0], kept[1]
