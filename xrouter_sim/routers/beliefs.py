"""What AutoMix believes: which arms of a chain are right, given the verifications so far. See `automix`."""

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple, Self

import numpy as np

from xrouter_sim.engine.semantics import NO_CALL
from xrouter_sim.replay import Floats, Ints
from xrouter_sim.reward import reward

BINS = 5
"""Outcomes of a verification, equally frequent on training queries."""

SHRINKAGE = 5.0
"""Queries' worth of the coarser table that is mixed into each finer one."""

UNKNOWN = -1
"""Outcome of a verification that was not made; the last place of a table's axis is its."""


class Chain(NamedTuple):
    """At most three arms in the order in which they are asked, and the arm that verifies."""

    arms: tuple[int, ...]
    verifier: int = NO_CALL
    threshold: int = 0
    """The least outcome for which an answer is kept, where the meta-verifier is a threshold."""

    def before(self, stage: int) -> tuple[int, ...]:
        """The arms that have been asked when that of this stage is verified."""
        return (*self.arms[: stage + 1], *([self.verifier] if self.verifier != NO_CALL else []))


class Bill(NamedTuple):
    """What B episodes have cost, and would cost."""

    spent: Floats  # [B] USD
    cost: Floats  # [B, m] USD that each arm of the chain is expected to cost
    penalty: Floats  # [B] λ
    unit: float  # USD

    def reward(self, score: Floats, *further: int) -> Floats:
        """[B] or [B, N] expected of these scores, after calls of the arms at these places of the chain."""
        paid = self.spent + self.cost[:, list(further)].sum(axis=1)
        return reward(score.T, paid, self.penalty, self.unit).T


@dataclass(frozen=True)
class Beliefs:
    """Of one chain of m arms with S = 2^m states. The last place of an axis of outcomes is UNKNOWN's."""

    states: Floats  # [S, m] 1 where the arm is right
    edges: Floats  # [m − 1, BINS − 1] between outcomes, for each stage but the last
    prior: Floats  # [groups, S]
    first: Floats  # [BINS + 1, S] P(o_1 | s)
    second: Floats  # [BINS + 1, S, BINS + 1] P(o_2 | o_1, s)

    @classmethod
    def fit(cls, chance: Floats, score: Floats, group: Ints, groups: int) -> Self:
        """Count. `chance` [n, m − 1] of each verification, NaN where none was made; `score` [n, m]; `group` [n]."""
        states = np.array(list(product((0.0, 1.0), repeat=score.shape[1])))
        # A score between 0 and 1 counts as right and as wrong in that proportion.
        weight = np.where(states > 0, score[:, None, :], 1.0 - score[:, None, :]).prod(axis=2)
        overall = (weight.sum(axis=0) + 1.0 / len(states)) / (len(weight) + 1.0)
        prior = _shrunk((np.arange(groups)[:, None] == group).astype(np.float64) @ weight, overall)
        edges = np.array([_edges(column) for column in chance.T])
        outcomes = [_outcome(column, between) for column, between in zip(chance.T, edges, strict=True)]
        first, second = np.ones((BINS + 1, len(states))), np.ones((BINS + 1, len(states), BINS + 1))
        if len(outcomes) > 0:
            first[:BINS] = _frequencies(outcomes[0], weight).T
        if len(outcomes) > 1:
            second[:, :, :BINS] = alone = _frequencies(outcomes[1], weight)
            for earlier in range(BINS):
                second[earlier, :, :BINS] = _frequencies(outcomes[1], weight * (outcomes[0] == earlier)[:, None], alone)
        return cls(states, edges, prior, first, second)

    def outcome(self, stage: int, chance: Floats) -> Ints:
        """[B] of a verification, from 0 (worst) on; UNKNOWN where the chance is NaN."""
        return _outcome(chance, self.edges[stage])

    def after(self, group: Ints, outcomes: list[Ints]) -> Floats:
        """[B, S] the belief, given the outcomes [B] of the first verifications."""
        belief = self.prior[group]
        if outcomes:
            belief = belief * self.first[outcomes[0]]
        if len(outcomes) > 1:
            belief = belief * self.second[outcomes[0], :, outcomes[1]]
        total: Floats = belief / belief.sum(axis=1, keepdims=True)
        return total

    def values(self, group: Ints, outcomes: list[Ints], bill: Bill) -> Floats:
        """[B, m] expected reward of keeping the answer that was verified last, and of asking each later arm; −∞ for
        earlier ones."""
        stage, last = len(outcomes) - 1, len(self.states[0]) - 1
        belief = self.after(group, outcomes)
        right, values = belief @ self.states, np.full((len(group), last + 1), -np.inf)
        values[:, stage] = bill.reward(right[:, stage])
        values[:, last] = bill.reward(right[:, last], last)
        if stage + 1 < last:  # what is asked in between is verified, and the last arm may follow
            joint = belief[:, :, None] * self.second[outcomes[0], :, :BINS]
            kept = bill.reward(np.einsum("bso,s->bo", joint, self.states[:, stage + 1]), stage + 1)
            followed = bill.reward(np.einsum("bso,s->bo", joint, self.states[:, last]), stage + 1, last)
            values[:, stage + 1] = np.maximum(kept, followed).sum(axis=1)
        return values


def _edges(chance: Floats) -> Floats:
    share = np.arange(1, BINS) / BINS
    known = chance[~np.isnan(chance)]
    return np.quantile(known, share) if len(known) else share


def _outcome(chance: Floats, edges: Floats) -> Ints:
    return np.where(np.isnan(chance), UNKNOWN, np.searchsorted(edges, chance, side="right"))


def _frequencies(outcome: Ints, weight: Floats, coarser: Floats | None = None) -> Floats:
    """[S, BINS] of the outcomes [n] in each state, which a query is in by its weight [n, S]."""
    counts = weight.T @ (outcome[:, None] == np.arange(BINS)).astype(np.float64)
    return _shrunk(counts, _shrunk(counts.sum(axis=0), np.full(BINS, 1.0 / BINS)) if coarser is None else coarser)


def _shrunk(counts: Floats, coarser: Floats) -> Floats:
    """Shares along the last axis."""
    shares: Floats = (counts + SHRINKAGE * coarser) / (counts.sum(axis=-1, keepdims=True) + SHRINKAGE)
    return shares
