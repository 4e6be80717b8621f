"""An arm that was asked few of the training queries so far: 0, 32 or 128 calibration queries, say.

What is fitted on a full table of scores takes what `prior.completed` assumes of the other queries. What such an arm
costs is known from its price card, and varies as the costs of the others do.
"""

from dataclasses import dataclass, replace

import numpy as np

from xrouter_sim.replay import Bools, Ints, Replay
from xrouter_sim.routers.prior import completed


@dataclass(frozen=True)
class Unmet:
    """`known` [A]: arms whose answers to the training `queries` [n] may all be read; of the others only those to the
    queries in `calibration` ([c], a part of them)."""

    known: Bools
    queries: Ints
    calibration: Ints

    def filled(self, replay: Replay) -> Replay:
        """The replay with what is assumed in place of each score and cost that may not be read."""
        known, queries = self.known, self.queries
        present = known | np.isin(queries, self.calibration)[:, None]
        score, cost = replay.mean_score.copy(), replay.mean_cost.copy()
        score[queries] = np.clip(completed(score[queries], present, replay.domains[queries]), 0.0, 1.0)
        usual = cost[queries][:, known].mean(axis=1, keepdims=True)
        by_card = cost[queries].mean(axis=0) * usual / max(usual.mean(), 1e-12)
        cost[queries] = np.where(present, cost[queries], by_card)
        once = np.ones_like(replay.samples)
        return replace(replay, score=score[..., None], cost_usd=cost[..., None], samples=once, memo={})

    def blanked(self, replay: Replay) -> Replay:
        """The same replay without those responses: what counts responses, counts none there."""
        samples = replay.samples.copy()
        samples[np.ix_(np.setdiff1d(self.queries, self.calibration), ~self.known)] = 0
        return replace(replay, samples=samples, memo={})
