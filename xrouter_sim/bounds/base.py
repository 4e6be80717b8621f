"""What all bounds share: the cells of some queries as the engine would draw them, and what a bound is."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from xrouter_sim.replay import STATUSES, Bools, Floats, Ints, Replay
from xrouter_sim.reward import reward

NO_ARM = -1
TIE = 1e-12
"""Values nearer than this are equal: what rounding alone can make of two sums of the same numbers."""


@dataclass(frozen=True)
class Cells:
    """What each of A arms can answer to each of n queries: K equally likely draws, and what they cost.

    A call draws one of the cell's samples, each with the same chance, independently of every other arm's draw. Like
    the engine, bounds take every response at its recorded score and bill, whatever its status; a failed one scores 0.
    """

    score: Floats  # [n, A, K] in [0, 1]; 0 where there is no sample
    cost_usd: Floats  # [n, A, K]; 0 where there is no sample
    mask: Bools  # [n, A, K] true where a sample is at hand, at least one an arm
    domains: npt.NDArray[np.str_]  # [n]

    @classmethod
    def of(cls, replay: Replay, queries: Ints, price: Floats | None = None) -> Self:
        """The cells of these queries ([n] indices). `price`: factors on the price card, [M] or [n, M]; all 1 if none.

        Raises ValueError when there are no queries.
        """
        if not len(queries):
            raise ValueError("bounds need at least one query")
        mask, cost = replay.sample_mask[queries], replay.cost_usd[queries]
        if price is not None:
            cost = cost * np.broadcast_to(price, (len(queries), len(replay.model_ids)))[:, replay.model_of_arm, None]
        failed = replay.status[queries] == STATUSES.index("failed")
        score = np.where(mask & ~failed, replay.score[queries], 0.0)
        return cls(score, np.where(mask, cost, 0.0), mask, replay.domains[queries])

    def __len__(self) -> int:
        return len(self.score)

    @cached_property
    def chance(self) -> Floats:
        """[n, A, K] the chance that a call draws this sample; an arm's add up to 1."""
        even: Floats = self.mask / self.mask.sum(axis=2, keepdims=True)
        return even

    def mean(self, values: Floats) -> Floats:
        """[n, A] what a call brings in expectation, of values [n, A, K]."""
        expected: Floats = (self.chance * values).sum(axis=2)
        return expected

    def reward(self, penalty: float, unit: float) -> Floats:
        """[n, A, K] the success-gated reward of calling once and drawing this sample."""
        return reward(self.score, self.cost_usd, penalty, unit)

    def take(self, rows: Ints | Bools) -> Self:
        """The cells of some of the queries."""
        return replace(
            self, score=self.score[rows], cost_usd=self.cost_usd[rows], mask=self.mask[rows], domains=self.domains[rows]
        )


@dataclass(frozen=True)
class Bound:
    """What a policy with some knowledge gets on each of n queries, in expectation over the draws.

    `reward` is an upper bound on every policy that knows no more and calls each arm at most once. `floor` is what a
    policy is known to reach; the two are equal wherever the optimum was found exactly. `score` and `cost_usd` are of
    the policy that reaches the floor; its cost counts what is spent on queries that end in failure.
    """

    name: str
    knows: str  # one line: what such a policy knows
    score: Floats  # [n] in [0, 1]
    cost_usd: Floats  # [n]
    reward: Floats  # [n] in [0, 1]
    arm: Ints | None = None  # [n] the arm of the first call, NO_ARM for none; None where it depends on the draw
    sample: Ints | None = None  # [n] the sample, where the policy knows it
    floor_reward: Floats | None = None  # [n] where it is not `reward` itself

    @property
    def floor(self) -> Floats:
        """[n] the reward that a policy is known to reach."""
        return self.reward if self.floor_reward is None else self.floor_reward

    @property
    def exact(self) -> Bools:
        """[n] whether `reward` is the optimum itself, not only above it."""
        known: Bools = self.reward - self.floor <= 1e-9
        return known


def best(value: Floats, cost: Floats) -> Ints:
    """[n] the column of the highest value [n, C], the cheapest where that is a tie; NO_ARM where no value is above 0.

    >>> best(np.array([[1.0, 1.0, 0.5], [0.0, 0.0, 0.0]]), np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 1.0]])).tolist()
    [1, -1]
    """
    top = value.max(axis=1)
    found = np.where(value >= top[:, None] - TIE, cost, np.inf).argmin(axis=1)
    return np.where(top > 0, found, NO_ARM)


def pick(values: Floats, column: Ints) -> Floats:
    """[n] the value in each row's column, 0 where it is NO_ARM."""
    found: Floats = np.take_along_axis(values, np.maximum(column, 0)[:, None], axis=1)[:, 0]
    return np.where(column == NO_ARM, 0.0, found)
