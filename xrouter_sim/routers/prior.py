"""What the query alone tells about every arm: cross-fitted ridge regression."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from xrouter_sim.engine.randomness import Purpose, draw
from xrouter_sim.replay import Floats, Ints, Replay
from xrouter_sim.reward import reward

RIDGE_PENALTIES = (np.inf, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)

SHRINKAGE = 2.0
"""Queries' worth of the overall mean that is mixed into a domain's mean."""

FOLDS = 5

PENALTIES_ON_COST = np.array([0.0, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0, 20.0])
"""λ over which candidate priors, and weights in training, are compared."""

Fit = Callable[[npt.NDArray[np.str_], Floats, Floats, Ints], Floats]
"""From domains [Q], features [Q, F], targets [n, T] and training indices [n] to predictions [Q, T]."""


@dataclass(frozen=True)
class Prior:
    """Predictions for every query of the replay.

    Those for training queries are cross-fitted: each comes from a fit on the other folds, so that a policy trained on
    them trusts them as much as they deserve on queries it has not seen. (Leave-one-out would not do: the mean of the
    others gives a query's own grade away.)
    """

    score: Floats  # [Q, A] expected score, in [0.01, 0.99]
    cost: Floats  # [Q, A] expected cost in USD at list price


def fit_prior(replay: Replay, queries: Ints, features: Floats, cost_unit: float) -> Prior:
    """Fit on `queries` ([n] training indices) with `features` [Q, F] and the domain's name where it is known.

    How hard a query is for all arms and what sets an arm apart are fitted separately, each with its own penalty: texts
    often tell much about the first, and routing by a badly fitted second is worse than by none. Whether the features
    are used at all, for scores and for costs, is decided by what single-shot routing on the predictions earns on the
    training queries, over λ and at each one: a better fit of costs alone can pick for a dear arm just those queries on
    which it is no better.
    """
    score, cost = replay.mean_score[queries], replay.mean_cost[queries]
    difficulty, scale = score.mean(axis=1, keepdims=True), cost.mean(axis=0)

    def cross_fit(targets: Floats, fit: Fit) -> Floats:
        return _cross_fit(replay.domains, features, targets, queries, fit)

    scores = (
        cross_fit(score, domain_means),
        cross_fit(difficulty, _means_and_ridge) + cross_fit(score - difficulty, _means_and_ridge),
    )
    costs = [cross_fit(cost / scale, fit) for fit in (domain_means, _means_and_ridge)]
    candidates = [Prior(np.clip(s, 0.01, 0.99), np.maximum(c, 0.05) * scale) for s, c in product(scores, costs)]
    chosen, *others = candidates
    for prior in others:
        gain = _earned(prior, queries, score, cost, cost_unit) - _earned(chosen, queries, score, cost, cost_unit)
        if is_better(gain):
            chosen = prior
    return chosen


def simplest_within_one_standard_error(loss: Floats) -> int:
    """Of candidates in order of complexity, the first whose mean loss is within one standard error of the least.

    `loss` [candidates, n] is paired: the error is that of the difference (the rule of Breiman et al., 1984).
    """
    excess = loss - loss[loss.mean(axis=1).argmin()]
    margin = excess.std(axis=1) / np.sqrt(loss.shape[1])
    return int(np.flatnonzero(excess.mean(axis=1) <= margin)[0])


def is_better(gain: Floats) -> bool:
    """Whether a paired gain in reward [λ, n] is above its standard error on average, and below minus that at no λ.

    Asked before anything replaces something simpler; never of test queries.
    """
    root = np.sqrt(gain.shape[1])
    overall = gain.mean(axis=0)
    harmless = gain.mean(axis=1) + gain.std(axis=1) / root >= 0
    return bool(overall.mean() > overall.std() / root and harmless.all())


def _earned(prior: Prior, queries: Ints, score: Floats, cost: Floats, cost_unit: float) -> Floats:
    """[λ, n] reward of calling, for each training query, the arm that looks best."""
    penalty = PENALTIES_ON_COST[:, None, None]
    choice = reward(prior.score[queries], prior.cost[queries], penalty, cost_unit).argmax(axis=2)
    earned: Floats = np.take_along_axis(reward(score, cost, penalty, cost_unit), choice[:, :, None], axis=2)[:, :, 0]
    return earned


def _cross_fit(domains: npt.NDArray[np.str_], features: Floats, targets: Floats, queries: Ints, fit: Fit) -> Floats:
    predicted = fit(domains, features, targets, queries)
    fold = draw(0, Purpose.FOLD, np.arange(len(queries))) % FOLDS
    for held_out in range(FOLDS):
        others = fold != held_out
        if others.any():
            fitted = fit(domains, features, targets[others], queries[others])
            predicted[queries[~others]] = fitted[queries[~others]]
    return predicted


def _means_and_ridge(domains: npt.NDArray[np.str_], features: Floats, targets: Floats, queries: Ints) -> Floats:
    """[Q, T] the domain's mean, plus what the features say about the deviation from it."""
    means = domain_means(domains, features, targets, queries)
    predicted: Floats = means + ridge(features, targets - means[queries], queries)
    return predicted


def domain_means(domains: npt.NDArray[np.str_], features: Floats, targets: Floats, queries: Ints) -> Floats:
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

    The penalty is the largest whose leave-one-out error is within one standard error of the least, for all targets
    together: features that do not clearly help are shrunk away.
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

    errors = np.stack([leave_one_out(penalty) for penalty in RIDGE_PENALTIES])
    penalty = RIDGE_PENALTIES[simplest_within_one_standard_error(errors)]
    weights = right.T @ ((singular / (singular**2 + penalty))[:, None] * projected)
    predicted: Floats = target_mean + (inputs - centre) @ weights
    return predicted
