"""What the query alone tells about every arm: cross-fitted ridge regression."""

from dataclasses import dataclass

import numpy as np

from xrouter_sim.engine.randomness import Purpose, draw
from xrouter_sim.replay import Bools, Floats, Ints, Replay

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


FOLDS = 5


@dataclass(frozen=True)
class Prior:
    """Predictions for every query of the replay.

    Those for training queries are cross-fitted: each comes from a fit on the other folds, so that a policy trained on
    them trusts them as much as they deserve on queries it has not seen. (Leave-one-out would not do: the mean of the
    others gives a query's own grade away.)
    """

    score: Floats  # [Q, A] expected score, in [0.01, 0.99]
    cost: Floats  # [Q, A] expected cost in USD at list price


def fit_prior(replay: Replay, queries: Ints, features: Floats) -> Prior:
    """Fit on `queries` ([n] training indices) with `features` [Q, F] and the domain's name where it is known."""
    inputs = np.hstack([features, _domain_features(replay, queries)])
    scale = replay.mean_cost[queries].mean(axis=0)
    targets = np.hstack([replay.mean_score[queries], replay.mean_cost[queries] / scale])
    predicted = ridge(inputs, targets, queries)
    fold = draw(0, Purpose.FOLD, np.arange(len(queries))) % FOLDS
    for held_out in range(FOLDS):
        others = fold != held_out
        predicted[queries[~others]] = ridge(inputs, targets[others], queries[others])[queries[~others]]
    score, cost = np.split(predicted, 2, axis=1)
    return Prior(np.clip(score, 0.01, 0.99), np.maximum(cost, 0.05) * scale)


def _domain_features(replay: Replay, queries: Ints) -> Floats:
    """[Q, D] one column a domain of the training queries; all zero where the domain is new.

    Scaled up so that the ridge shrinks a domain's mean less than the directions of the text features.
    """
    known = np.unique(replay.domains[queries])
    member: Bools = replay.domains[:, None] == known
    return 3.0 * member.astype(np.float64)


def ridge(inputs: Floats, targets: Floats, queries: Ints) -> Floats:
    """[Q, T] ridge predictions from inputs [Q, F], fitted on targets [n, T] of `queries` [n].

    The penalty is the one of least leave-one-out error, Σ ((y − ŷ) / (1 − h))², for all targets together.
    """
    centre, target_mean = inputs[queries].mean(axis=0), targets.mean(axis=0)
    known, residual = inputs[queries] - centre, targets - target_mean
    left, singular, right = np.linalg.svd(known, full_matrices=False)
    projected = left.T @ residual

    def leave_one_out_error(penalty: float) -> float:
        shrink = singular**2 / (singular**2 + penalty)
        leverage = (left**2) @ shrink + 1.0 / len(queries)
        fitted = left @ (shrink[:, None] * projected)
        return float(np.mean(((residual - fitted) / (1.0 - leverage)[:, None]) ** 2))

    penalty = min(PENALTIES, key=leave_one_out_error)
    weights = right.T @ ((singular / (singular**2 + penalty))[:, None] * projected)
    predicted: Floats = target_mean + (inputs - centre) @ weights
    return predicted
