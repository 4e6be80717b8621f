"""What the query alone tells about every arm: ridge regression with exact leave-one-out predictions."""

from dataclasses import dataclass

import numpy as np

from xrouter_sim.replay import Floats, Ints, Replay

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


@dataclass(frozen=True)
class Prior:
    """Predictions for every query of the replay. Those for training queries leave the query itself out, so that a
    policy trained on them trusts them as much as they deserve on queries it has not seen."""

    score: Floats  # [Q, A] expected score, in [0.01, 0.99]
    cost: Floats  # [Q, A] expected cost in USD at list price


def fit_prior(replay: Replay, queries: Ints, features: Floats) -> Prior:
    """Fit on `queries` ([n] training indices) with `features` [Q, F] and the domain's name where it is known."""
    inputs = np.hstack([features, _domain_features(replay, queries)])
    score = ridge(inputs, replay.mean_score[queries], queries)
    relative = replay.mean_cost[queries].mean(axis=0)
    cost = ridge(inputs, replay.mean_cost[queries] / relative, queries)
    return Prior(np.clip(score, 0.01, 0.99), np.maximum(cost, 0.05) * relative)


def _domain_features(replay: Replay, queries: Ints) -> Floats:
    """[Q, D] one column a domain of the training queries; all zero where the domain is new.

    Scaled up so that the ridge shrinks a domain's mean less than the directions of the text features.
    """
    known = np.unique(replay.domains[queries])
    return 3.0 * (replay.domains[:, None] == known).astype(np.float64)


def ridge(inputs: Floats, targets: Floats, queries: Ints) -> Floats:
    """[Q, T] ridge predictions from inputs [Q, F], fitted on targets [n, T] of `queries` [n].

    Rows of `queries` are leave-one-out: y_i − (y_i − ŷ_i) / (1 − h_ii). The penalty is the one of least leave-one-out
    error, for all targets together.
    """
    centre, target_mean = inputs[queries].mean(axis=0), targets.mean(axis=0)
    known, residual = inputs[queries] - centre, targets - target_mean
    left, singular, right = np.linalg.svd(known, full_matrices=False)
    projected = left.T @ residual

    def leave_one_out(penalty: float) -> Floats:
        shrink = singular**2 / (singular**2 + penalty)
        leverage = (left**2) @ shrink + 1.0 / len(queries)
        fitted = target_mean + left @ (shrink[:, None] * projected)
        predicted: Floats = targets - (targets - fitted) / (1.0 - leverage)[:, None]
        return predicted

    penalty = min(PENALTIES, key=lambda p: float(np.mean((leave_one_out(p) - targets) ** 2)))
    weights = right.T @ ((singular / (singular**2 + penalty))[:, None] * projected)
    predicted: Floats = target_mean + (inputs - centre) @ weights
    predicted[queries] = leave_one_out(penalty)
    return predicted
