"""What the query alone tells about every arm: domain means, or a stack of simple smoothers where that earns more."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from xrouter_sim.features import FeatureSpec
from xrouter_sim.replay import Bools, Floats, Ints, Replay
from xrouter_sim.reward import reward
from xrouter_sim.routers.predictive import question_features
from xrouter_sim.routers.smoothers import (
    Smoother,
    Texts,
    clusters,
    domain_means,
    meaning_ridge,
    overall_mean,
    ridge_within_domains,
    similar_domains,
    word_ridge,
)
from xrouter_sim.routers.stacking import FOLDS as FOLDS
from xrouter_sim.routers.stacking import Targets, cross_fit, stack, stack_for_new_domains

WITHIN = (ridge_within_domains, word_ridge, meaning_ridge, clusters(16), clusters(64))
"""Smoothers of what the domain's mean leaves over."""

ACROSS = (similar_domains, clusters(32), clusters(64), clusters(128))
"""Smoothers of what the overall mean leaves over, for domains without training queries."""

DIRECTIONS = 64
"""Principal directions of the embedding that are kept: all that so few grades can use, at a tenth of the time."""

PENALTIES_ON_COST = np.array([0.0, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0, 20.0])
"""λ over which candidate priors, and weights in training, are compared."""


@dataclass(frozen=True)
class Prior:
    """Predictions for every query of the replay.

    Those for training queries are cross-fitted: each comes from a fit on the other folds, so that a policy trained on
    them trusts them as much as they deserve on queries it has not seen. (Leave-one-out would not do: the mean of the
    others gives a query's own grade away.)
    """

    score: Floats  # [Q, A] expected score, in [0.01, 0.99]
    cost: Floats  # [Q, A] expected cost in USD at list price


@dataclass(frozen=True)
class Grades:
    """What training queries scored and cost, in parts that are fitted apart, each with missing cells filled in from
    the rows asked for alone."""

    score: Floats  # [n, A]
    cost: Floats  # [n, A] in multiples of `scale`
    scale: Floats  # [A] USD: what a call of each arm costs on average
    present: Bools  # [n, A]
    domains: npt.NDArray[np.str_]  # [n]

    def scores(self, rows: Ints) -> Floats:
        return completed(self.score[rows], self.present[rows], self.domains[rows])

    def costs(self, rows: Ints) -> Floats:
        return completed(self.cost[rows], self.present[rows], self.domains[rows])

    def difficulty(self, rows: Ints) -> Floats:
        """[n, 1] mean over the arms."""
        mean: Floats = self.scores(rows).mean(axis=1, keepdims=True)
        return mean

    def deviation(self, rows: Ints) -> Floats:
        """[n, A] what sets an arm apart from the mean over the arms."""
        return self.scores(rows) - self.difficulty(rows)


def fit_prior(replay: Replay, queries: Ints, features: Floats, cost_unit: float) -> Prior:
    """Fit on `queries` ([n] training indices) with `features` [Q, F], embeddings, and the domain's name.

    How hard a query is for all arms and what sets an arm apart are fitted separately: texts often tell much about the
    first, and routing by a badly fitted second is worse than by none. Whether texts are used at all, for scores and for
    costs, is decided by what single-shot routing on the predictions earns on the training queries, over λ and at each
    one: a better fit of costs alone can pick for a dear arm just those queries on which it is no better.
    Arms need not have answered every query, see `completed`.
    """
    meaning = question_features(replay, FeatureSpec())
    directions = PCA(min(DIRECTIONS, len(queries), meaning.shape[1]), random_state=0).fit(meaning[queries])
    texts, grades = Texts(replay.domains, features, directions.transform(meaning)), _grades(replay, queries)
    everything = np.arange(len(queries))
    score, cost = grades.scores(everything), grades.costs(everything) * grades.scale
    penalties = PENALTIES_ON_COST if replay.priced else np.zeros(1)

    def earned(scores: Floats, costs: Floats) -> Floats:
        """[λ, n] reward of calling, for each training query, the arm that looks best of predictions [n, A]."""
        penalty = penalties[:, None, None]
        choice = reward(*_in_range(scores, costs, grades.scale), penalty, cost_unit).argmax(axis=2)
        worth = reward(score, cost, penalty, cost_unit)
        taken: Floats = np.take_along_axis(worth, choice[:, :, None], axis=2)[:, :, 0]
        return taken

    def plain(targets: Targets) -> Floats:
        return cross_fit(texts, queries, targets, domain_means)

    def stacked(targets: Targets) -> Floats:
        return stack(texts, queries, targets, domain_means, WITHIN)

    means, difficulty = plain(grades.scores), stacked(grades.difficulty)
    scores = (means, difficulty + plain(grades.deviation), difficulty + stacked(grades.deviation))
    costs = (plain(grades.costs), cross_fit(texts, queries, grades.costs, _means_and_ridge))
    (chosen_score, chosen_cost), *others = product(scores, costs)
    best = earned(chosen_score[queries], chosen_cost[queries])
    for other_score, other_cost in others:
        found = earned(other_score[queries], other_cost[queries])
        closer = ((chosen_score[queries] - score) ** 2 - (other_score[queries] - score) ** 2).mean(axis=1)
        if is_better(found - best) or is_truer(closer, found - best):
            chosen_score, chosen_cost, best = other_score, other_cost, found
    new = ~np.isin(replay.domains, grades.domains)
    if new.any():
        chosen_score = chosen_score.copy()
        chosen_score[new] = _for_new_domains(texts, queries, grades, earned)[new]
    return Prior(*_in_range(chosen_score, chosen_cost, grades.scale))


def completed(values: Floats, present: Bools, domains: npt.NDArray[np.str_], shrinkage: float = 10.0) -> Floats:
    """[n, A] values with the cells that are not `present` [n, A] filled in.

    A missing cell is the mean of the query's other arms, plus what sets the arm apart from them: its mean over queries
    of the domain, shrunk (by so many queries' worth) towards its mean over all queries, and that towards nothing. An
    arm of which nothing is known so counts as the mean of the pool.

    >>> present = np.array([[True, True, False], [True, True, False]])
    >>> completed(np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]), present, np.array(["a", "a"])).tolist()
    [[1.0, 0.0, 0.5], [1.0, 1.0, 1.0]]
    """
    if present.all():
        return values
    known = np.where(present, values, 0.0)
    count = present.sum(axis=1, keepdims=True)
    usual = known.sum() / max(int(present.sum()), 1)
    others = count - present
    pool = np.where(others > 0, (known.sum(axis=1, keepdims=True) - known) / np.maximum(others, 1), usual)
    apart = np.where(present, values - pool, 0.0)
    overall = apart.sum(axis=0) / (present.sum(axis=0) + shrinkage)
    offset = np.tile(overall, (len(values), 1))
    for domain in np.unique(domains):
        rows = domains == domain
        n = present[rows].sum(axis=0)
        offset[rows] = (apart[rows].sum(axis=0) + shrinkage * overall) / (n + shrinkage)
    return np.where(present, values, pool + offset)


def is_better(gain: Floats) -> bool:
    """Whether a paired gain in reward [λ, n] is above its standard error on average, and below minus that at no λ.

    Asked before anything replaces something simpler; never of test queries.
    """
    return _is_clear(gain.mean(axis=0)) and _is_harmless(gain)


def is_truer(closer: Floats, gain: Floats) -> bool:
    """Whether a paired gain in squared error [n] is above its standard error, and that in reward [λ, n] does no harm.

    Rewards change on the few queries alone that go to another arm, and tell little of predictions that are better on
    all: so better predictions are taken where they cost nothing. (They may: on RouterBench's code questions the error
    falls by three standard errors, and gpt-4 is left for arms that are worse.)
    """
    return _is_clear(closer) and _is_harmless(gain)


def _is_clear(gain: Floats) -> bool:
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))


def _is_harmless(gain: Floats) -> bool:
    return bool((gain.mean(axis=1) + gain.std(axis=1) / np.sqrt(gain.shape[1]) >= 0).all())


def _for_new_domains(texts: Texts, queries: Ints, grades: Grades, earned: Callable[[Floats, Floats], Floats]) -> Floats:
    """[Q, A] scores expected where the domain is new: the stack if it beats the overall mean on domains left out."""

    def predicted(difficulty: Sequence[Smoother], deviation: Sequence[Smoother]) -> tuple[Floats, Floats]:
        hard = stack_for_new_domains(texts, queries, grades.difficulty, overall_mean, difficulty)
        apart = stack_for_new_domains(texts, queries, grades.deviation, overall_mean, deviation)
        return hard[0] + apart[0], hard[1] + apart[1]

    costs = np.tile(grades.cost.mean(axis=0), (len(queries), 1))
    mean, mean_test = predicted((), ())
    mixed, mixed_test = predicted(ACROSS, ACROSS)
    return mixed if is_better(earned(mixed_test, costs) - earned(mean_test, costs)) else mean


def _grades(replay: Replay, queries: Ints) -> Grades:
    present: Bools = np.asarray(replay.sample_mask[queries].any(axis=2))
    count, cost = present.sum(axis=0), np.where(present, replay.mean_cost[queries], 0.0)
    scale = cost.sum(axis=0) / np.maximum(count, 1)
    scale[count == 0] = scale[count > 0].mean()
    return Grades(replay.mean_score[queries], cost / scale, scale, present, replay.domains[queries])


def _means_and_ridge(texts: Texts, known: Ints, targets: Floats) -> Floats:
    """[Q, T] the domain's mean, plus what words say about the deviation from it."""
    means = domain_means(texts, known, targets)
    return means + word_ridge(texts, known, targets - means[known])


def _in_range(score: Floats, cost: Floats, scale: Floats) -> tuple[Floats, Floats]:
    return np.clip(score, 0.01, 0.99), np.maximum(cost, 0.05) * scale
