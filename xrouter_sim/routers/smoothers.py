"""Simple guesses from known queries at all others: means, ridge regressions, clusters. Each is a linear smoother.

None is good alone; `stacking` finds out how much each is worth.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import LogisticRegression

from xrouter_sim.replay import Floats, Ints

RIDGE_PENALTIES = np.array([np.inf, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0])

SHRINKAGE = 2.0
"""Queries' worth of the overall mean that is mixed into a domain's mean."""

CLUSTER_SHRINKAGE = 10.0
"""The same for clusters, which are smaller and come without a name."""

FEW = 20
"""Queries below which no regression is fitted inside a domain."""


@dataclass(frozen=True)
class Texts:
    """What may be known of a query before any model is asked."""

    domains: npt.NDArray[np.str_]  # [Q]
    words: Floats  # [Q, F] `features.text_features`
    meaning: Floats  # [Q, 384] embeddings


Smoother = Callable[[Texts, Ints, Floats], Floats]
"""From texts of Q queries, indices [n] of those that are known, and their targets [n, T] to predictions [Q, T]."""


def overall_mean(texts: Texts, known: Ints, targets: Floats) -> Floats:
    """[Q, T] the same for all."""
    return np.tile(targets.mean(axis=0), (len(texts.domains), 1))


def domain_means(texts: Texts, known: Ints, targets: Floats) -> Floats:
    """[Q, T] mean over the known queries of the same domain, shrunk a little to the overall mean, which also stands in
    where the domain is new."""
    names, overall = texts.domains[known], targets.mean(axis=0)
    means = np.tile(overall, (len(texts.domains), 1))
    for domain in np.unique(names):
        members = names == domain
        total = targets[members].sum(axis=0) + SHRINKAGE * overall
        means[texts.domains == domain] = total / (members.sum() + SHRINKAGE)
    return means


def word_ridge(texts: Texts, known: Ints, targets: Floats) -> Floats:
    """[Q, T] ridge regression on TF-IDF directions and lexical counts."""
    return ridge(texts.words, targets, known)


def meaning_ridge(texts: Texts, known: Ints, targets: Floats) -> Floats:
    """[Q, T] ridge regression on the embedding."""
    return ridge(texts.meaning, targets, known)


def ridge_within_domains(texts: Texts, known: Ints, targets: Floats) -> Floats:
    """[Q, T] a ridge regression of its own in each domain, on words and meaning; 0 where the domain is small or new."""
    inputs, names = np.hstack([texts.words, texts.meaning]), texts.domains[known]
    predicted = np.zeros((len(inputs), targets.shape[1]))
    for domain in np.unique(names):
        members, rows = np.flatnonzero(names == domain), np.flatnonzero(texts.domains == domain)
        if len(members) >= FEW:
            places = np.searchsorted(rows, known[members])
            predicted[rows] = ridge(inputs[rows], targets[members], places)
    return predicted


def clusters(count: int) -> Smoother:
    """[Q, T] mean over the known queries of the nearest of `count` k-means clusters, shrunk to the overall mean."""

    def smooth(texts: Texts, known: Ints, targets: Floats) -> Floats:
        meaning = texts.meaning.astype(np.float32)
        found = MiniBatchKMeans(min(count, len(known)), n_init=3, random_state=0).fit(meaning[known])
        overall = targets.mean(axis=0)
        total = np.zeros((found.n_clusters, targets.shape[1]))
        np.add.at(total, found.labels_, targets - overall)
        size = np.bincount(found.labels_, minlength=found.n_clusters)[:, None]
        predicted: Floats = overall + (total / (size + CLUSTER_SHRINKAGE))[found.predict(meaning)]
        return predicted

    return smooth


def similar_domains(texts: Texts, known: Ints, targets: Floats) -> Floats:
    """[Q, T] the means of all domains, each weighted by how likely the text is one of it: for domains never seen."""
    names = texts.domains[known]
    if len(set(names.tolist())) < 2:
        return overall_mean(texts, known, targets)
    likely = LogisticRegression(C=1.0, max_iter=300).fit(texts.meaning[known], names)
    means = np.stack([targets[names == name].mean(axis=0) for name in likely.classes_])
    predicted: Floats = likely.predict_proba(texts.meaning) @ means
    return predicted


def ridge(inputs: Floats, targets: Floats, known: Ints) -> Floats:
    """[Q, T] ridge predictions from inputs [Q, F], fitted on targets [n, T] of the queries `known` [n].

    The penalty is the one whose leave-one-out error is least, for all targets together; a stack shrinks what is left.
    """
    centre, mean = inputs[known].mean(axis=0), targets.mean(axis=0)
    spread, directions = np.linalg.eigh((inputs[known] - centre).T @ (inputs[known] - centre))
    spread, rotated = np.maximum(spread, 1e-9), (inputs[known] - centre) @ directions
    residual = targets - mean
    shrink = 1.0 / (spread[:, None] + RIDGE_PENALTIES)  # [F, penalties]
    leverage = rotated**2 @ shrink + 1.0 / len(known)
    projected = rotated.T @ residual
    errors = [
        (((residual - rotated @ (shrink[:, [place]] * projected)) / (1.0 - leverage[:, [place]])) ** 2).mean()
        for place in range(len(RIDGE_PENALTIES))
    ]
    weights = directions @ (shrink[:, [int(np.argmin(errors))]] * projected)
    predicted: Floats = mean + (inputs - centre) @ weights
    return predicted


def simplest_within_one_standard_error(loss: Floats) -> int:
    """Of candidates in order of complexity, the first whose mean loss is within one standard error of the least.

    `loss` [candidates, n] is paired: the error is that of the difference (the rule of Breiman et al., 1984).
    """
    excess = loss - loss[loss.mean(axis=1).argmin()]
    margin = excess.std(axis=1) / np.sqrt(loss.shape[1])
    return int(np.flatnonzero(excess.mean(axis=1) <= margin)[0])
