"""An arm that was asked few of the training queries: what is assumed of the others.

So that every router part that wants a full table of scores can be fitted with a new model's 0, 32 or 128 calibration
queries: elsewhere the arm is taken to score as the other arms do on that query, plus what sets it apart from them, by
domain, as far as the calibration queries tell. Its cost is known from its price card, and varies as theirs does.
"""

from dataclasses import dataclass, replace

import numpy as np

from xrouter_sim.replay import Bools, Floats, Ints, Replay

SHRINKAGE = 4.0
"""Queries' worth of what is known on a wider scale: the domain's offset towards the overall one, and that towards 0."""


@dataclass(frozen=True)
class Unmet:
    """`known` [A]: arms whose answers to the training `queries` [n] may all be read; of the others only those to the
    queries in `calibration` ([c], a part of them)."""

    known: Bools
    queries: Ints
    calibration: Ints

    def filled(self, replay: Replay) -> Replay:
        """The replay with what is assumed in place of each score and cost that may not be read."""
        known, blank = self.known, np.setdiff1d(self.queries, self.calibration)
        score, cost = replay.mean_score.copy(), replay.mean_cost.copy()
        others, usual = score[:, known].mean(axis=1), cost[:, known].mean(axis=1)
        dearer = usual[blank] / max(usual[self.queries].mean(), 1e-12)
        for arm in np.flatnonzero(~known):
            offset = _offsets(replay, score[:, arm] - others, self.calibration)
            score[blank, arm] = np.clip(others[blank] + offset[blank], 0.0, 1.0)
            cost[blank, arm] = replay.mean_cost[self.queries, arm].mean() * dearer
        once = np.ones_like(replay.samples)
        return replace(replay, score=score[..., None], cost_usd=cost[..., None], samples=once, memo={})

    def blanked(self, replay: Replay) -> Replay:
        """The same replay without those responses: what counts responses, counts none there."""
        samples = replay.samples.copy()
        samples[np.ix_(np.setdiff1d(self.queries, self.calibration), ~self.known)] = 0
        return replace(replay, samples=samples, memo={})


def _offsets(replay: Replay, apart: Floats, calibration: Ints) -> Floats:
    """[Q] what sets an arm apart from the others, given `apart` [Q] on the calibration queries."""
    overall = apart[calibration].sum() / (len(calibration) + SHRINKAGE)
    offset = np.full(len(apart), overall)
    for domain in np.unique(replay.domains[calibration]):
        there = calibration[replay.domains[calibration] == domain]
        shrunk = (apart[there].sum() + SHRINKAGE * overall) / (len(there) + SHRINKAGE)
        offset[replay.domains == domain] = shrunk
    return offset
