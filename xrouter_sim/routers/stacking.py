"""Several smoothers as one: what each adds to a base counts as much as it is worth on queries that it has not seen.

Stacked regression (Breiman, 1996; Wolpert, 1992): non-negative weights, fitted on predictions for held-out queries.
"""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from scipy.optimize import nnls

from xrouter_sim.engine.randomness import Purpose, draw
from xrouter_sim.replay import Floats, Ints
from xrouter_sim.routers.smoothers import Smoother, Texts

FOLDS = 5

CAUTION = 0.1
"""Penalty on squared weights, as a share of the smoothers' mean energy."""

Targets = Callable[[Ints], Floats]
"""From rows [n] of the training queries to their targets [n, T], made from the grades of these rows alone."""


def folds_of(queries: int) -> Ints:
    """[queries] 0 … FOLDS − 1."""
    fold: Ints = (draw(0, Purpose.FOLD, np.arange(queries)) % np.uint64(FOLDS)).astype(np.int64)
    return fold


def cross_fit(texts: Texts, queries: Ints, targets: Targets, smoother: Smoother) -> Floats:
    """[Q, T] predictions of one smoother; those for `queries` [n] come from fits on the other folds."""
    fold, rows = folds_of(len(queries)), np.arange(len(queries))
    predicted = smoother(texts, queries, targets(rows))
    for held_out in np.unique(fold):
        kept = np.flatnonzero(fold != held_out)
        if len(kept):
            asked = queries[fold == held_out]
            predicted[asked] = smoother(texts, queries[kept], targets(kept))[asked]
    return predicted


def stack(texts: Texts, queries: Ints, targets: Targets, base: Smoother, smoothers: Sequence[Smoother]) -> Floats:
    """[Q, T] base plus weighted smoothers of what the base leaves over.

    Those for `queries` [n] are cross-fitted to the last step: the weights for a fold are fitted without its grades, on
    predictions made without its grades, so that no query's own grade reaches its prediction.
    """
    fold, rows = folds_of(len(queries)), np.arange(len(queries))
    numbers = np.unique(fold)
    if len(numbers) < 3:
        return cross_fit(texts, queries, targets, base)

    def without(*held_out: int) -> Floats:
        kept = np.flatnonzero(~np.isin(fold, held_out))
        return _fitted(texts, queries[kept], targets(kept), base, smoothers)

    alone = {number: without(number)[:, queries] for number in numbers}
    pairs = {frozenset(pair): without(*pair)[:, queries] for pair in combinations(numbers, 2)}
    unseen = np.zeros_like(alone[numbers[0]])
    mixed = np.zeros_like(unseen[0])
    for number in numbers:
        here, kept = fold == number, np.flatnonzero(fold != number)
        unseen[:, here] = alone[number][:, here]
        inner = np.zeros_like(unseen)
        for other in numbers[numbers != number]:
            inner[:, fold == other] = pairs[frozenset((number, other))][:, fold == other]
        weights = stack_weights(inner[:, kept], targets(kept), np.ones(len(kept)))
        mixed[here] = _mixed(alone[number][:, here], weights)
    everything = targets(rows)
    weights = stack_weights(unseen, everything, np.ones(len(rows)))
    predicted = _mixed(_fitted(texts, queries, everything, base, smoothers), weights)
    predicted[queries] = mixed
    return predicted


def stack_for_new_domains(
    texts: Texts, queries: Ints, targets: Targets, base: Smoother, smoothers: Sequence[Smoother], most: int = 12
) -> tuple[Floats, Floats]:
    """[Q, T] predictions for queries of domains that no training query is of, and [n, T] a test of them.

    Weights are fitted on predictions for domains left out, at most `most` at a time, and every domain counts the same:
    where text must carry from one domain to another, domains are the sample. The test is of training queries, each
    predicted without its domain.
    """
    names = texts.domains[queries]
    _, number = np.unique(names, return_inverse=True)
    group = number % most
    unseen: Floats | None = None
    for held_out in np.unique(group):
        kept, asked = np.flatnonzero(group != held_out), group == held_out
        if not len(kept):
            break
        fitted = _fitted(texts, queries[kept], targets(kept), base, smoothers)[:, queries]
        unseen = fitted if unseen is None else unseen
        unseen[:, asked] = fitted[:, asked]
    everything = targets(np.arange(len(queries)))
    if unseen is None:  # a single domain
        predicted = base(texts, queries, everything)
        return predicted, predicted[queries]
    weights = stack_weights(unseen, everything, 1.0 / np.bincount(number)[number])
    return _mixed(_fitted(texts, queries, everything, base, smoothers), weights), _mixed(unseen, weights)


def stack_weights(predicted: Floats, targets: Floats, importance: Floats) -> Floats:
    """[J] ≥ 0: how much each smoother's part counts. `predicted` [1 + J, n, T] is the base and what each smoother adds
    to it, for queries that the fits had not seen; `targets` [n, T]; `importance` [n] of queries.
    """
    if len(predicted) == 1:
        return np.zeros(0)
    root = np.sqrt(importance)[:, None]
    added = (predicted[1:] * root).reshape(len(predicted) - 1, -1)
    left = ((targets - predicted[0]) * root).ravel()
    products = added @ added.T
    energy = np.trace(products) / len(added)
    if energy <= 0:
        return np.zeros(len(added))
    factor = np.linalg.cholesky(products + (CAUTION * energy + 1e-12) * np.eye(len(added)))
    weights: Floats = nnls(factor.T, np.linalg.solve(factor, added @ left))[0]
    return weights


def _fitted(texts: Texts, known: Ints, targets: Floats, base: Smoother, smoothers: Sequence[Smoother]) -> Floats:
    """[1 + J, Q, T] the base, and what each smoother says about what it leaves over."""
    plain = base(texts, known, targets)
    left = targets - plain[known]
    return np.stack([plain, *(smoother(texts, known, left) for smoother in smoothers)])


def _mixed(fitted: Floats, weights: Floats) -> Floats:
    mixed: Floats = fitted[0] + np.tensordot(weights, fitted[1:], axes=1)
    return mixed
