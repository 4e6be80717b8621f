"""What the query alone tells about every arm: cross-fitted ridge regression."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xrouter_sim.engine.randomness import Purpose, draw
from xrouter_sim.replay import Floats, Ints, Replay

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, np.inf)
SHRINKAGE = 2.0
"""Queries' worth of the overall mean that is mixed into a domain's mean."""


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
    """Fit on `queries` ([n] training indices) with `features` [Q, F] and the domain's name where it is known.

    How hard a query is for all arms and what sets an arm apart are fitted separately, each with its own penalty: texts
    often tell much about the first, and routing by a badly fitted second is worse than by none.
    """
    score, cost = replay.mean_score[queries], replay.mean_cost[queries]
    difficulty, scale = score.mean(axis=1, keepdims=True), cost.mean(axis=0)
    common = _cross_fit(replay.domains, features, difficulty, queries)
    special = _cross_fit(replay.domains, features, score - difficulty, queries)
    relative_cost = _cross_fit(replay.domains, features, cost / scale, queries)
    return Prior(np.clip(common + special, 0.01, 0.99), np.maximum(relative_cost, 0.05) * scale)


def _cross_fit(domains: npt.NDArray[np.str_], features: Floats, targets: Floats, queries: Ints) -> Floats:
    predicted = _predict(domains, features, targets, queries)
    fold = draw(0, Purpose.FOLD, np.arange(len(queries))) % FOLDS
    for held_out in range(FOLDS):
        others = fold != held_out
        if others.any():
            fitted = _predict(domains, features, targets[others], queries[others])
            predicted[queries[~others]] = fitted[queries[~others]]
    return predicted


def _predict(domains: npt.NDArray[np.str_], features: Floats, targets: Floats, queries: Ints) -> Floats:
    """[Q, T] the domain's mean, plus what the features say about the deviation from it."""
    means = domain_means(domains, targets, queries)
    predicted: Floats = means + ridge(features, targets - means[queries], queries)
    return predicted


def domain_means(domains: npt.NDArray[np.str_], targets: Floats, queries: Ints) -> Floats:
    """[Q, T] mean of targets [n, T] over the training queries of the same domain, shrunk a little to the overall mean,
    which also stands in where the domain is new."""
    overall = targets.mean(axis=0)
    means = np.tile(overall, (len(domains), 1))
    for domain in np.unique(domains[queries]):
        members = domains[queries] == domain
        total = targets[members].sum(axis=0) + SHRINKAGE * overall
        means[domains == domain] = total / (members.sum() + SHRINKAGE)
    return means


def ridge(inputs: Floats, targets: Floats, queries: Ints) -> Floats:
    """[Q, T] ridge predictions from inputs [Q, F], fitted on targets [n, T] of `queries` [n].

    The penalty is the largest whose leave-one-out error is within one standard error of the least (the rule of Breiman
    et al., 1984), for all targets together: features that do not clearly help are shrunk away.
    """
    centre, target_mean = inputs[queries].mean(axis=0), targets.mean(axis=0)
    known, residual = inputs[queries] - centre, targets - target_mean
    left, singular, right = np.linalg.svd(known, full_matrices=False)
    projected = left.T @ residual

    def leave_one_out(penalty: float) -> Floats:
        """[n] squared error of each query."""
        shrink = singular**2 / (singular**2 + penalty)
        leverage = (left**2) @ shrink + 1.0 / len(queries)
        errors: Floats = (residual - left @ (shrink[:, None] * projected)) / (1.0 - leverage)[:, None]
        squared: Floats = (errors**2).mean(axis=1)
        return squared

    errors = np.stack([leave_one_out(penalty) for penalty in PENALTIES])
    best = int(errors.mean(axis=1).argmin())
    excess = errors - errors[best]
    margin = excess.std(axis=1) / np.sqrt(len(queries))
    penalty = PENALTIES[int(np.flatnonzero(excess.mean(axis=1) <= margin)[-1])]
    weights = right.T @ ((singular / (singular**2 + penalty))[:, None] * projected)
    predicted: Floats = target_mean + (inputs - centre) @ weights
    return predicted
