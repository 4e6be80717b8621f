"""Is an answer right, given everything that has come back so far? The evidence that all sequential routers share.

Two logistic regressions, pooled over arms, on sets of responses drawn from the training queries: one for the response
of an arm that was called (its own evidence, which answers agree with it and which differ), one for an arm that was
not (how far the answers at hand agree with each other, which tells how hard the query is).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from xrouter_sim.engine.episodes import Observation
from xrouter_sim.engine.randomness import Purpose, draw
from xrouter_sim.engine.semantics import NO_CALL
from xrouter_sim.features import text_features
from xrouter_sim.replay import STATUSES, Bools, Floats, Ints, Replay
from xrouter_sim.routers.prior import FOLDS, Prior, fit_prior

SETS_A_QUERY = 6
MOST_SETS = 20_000
LARGEST_SET = 6
"""Sets of responses to learn from: how many a query, how many in all, and how many responses in one."""

LARGE_DOMAIN = 100
MOST_DOMAINS = 8
"""Agreement may weigh differently in a domain with this many training queries, for so many of the largest."""

LOG_GUESSES = np.log(3.0)
"""What agreement carries beside an arm's own odds: two wrong answers seldom agree by chance. A scale, learned over."""


@dataclass(frozen=True)
class Seen:
    """What has come back in B episodes, laid out by arm; what is not `ok` counts as never asked."""

    query: Ints  # [B]
    ok: Bools  # [B, A] a usable response of this arm is at hand
    answer: Ints  # [B, A] -1: none could be read
    evidence: Floats  # [B, A, E]

    def only(self, called: Bools) -> "Seen":
        """As if only these arms had been called ([B, A] or [A])."""
        return Seen(self.query, self.ok & called, self.answer, self.evidence)

    def rows(self, rows: Ints) -> "Seen":
        """Some of the episodes."""
        return Seen(self.query[rows], self.ok[rows], self.answer[rows], self.evidence[rows])


def seen_so_far(observation: Observation, arms: int) -> tuple[Seen, Ints]:
    """What an observation shows, and the slot [B, A] of each arm's usable response (-1 none)."""
    slot = np.full((len(observation), arms), -1)
    row, place = np.nonzero((observation.arm != NO_CALL) & observation.ok)
    slot[row, observation.arm[row, place]] = place
    ok, lane = slot >= 0, np.maximum(slot, 0)
    answer = np.where(ok, np.take_along_axis(observation.answer, lane, axis=1), -1)
    evidence = np.take_along_axis(observation.evidence, lane[..., None], axis=1)
    return Seen(observation.query, ok, answer, np.where(ok[..., None], evidence, 0.0)), slot


@dataclass(frozen=True)
class Drawn:
    """One response of every arm to each of n training queries, and what only training may know of it."""

    seen: Seen  # as if all arms had been called
    score: Floats  # [n, A]; 0 where nothing usable came back
    cost: Floats  # [n, A] USD at list price


def draw_responses(replay: Replay, queries: Ints, seed: int) -> Drawn:
    """Draw one sample for each cell of these queries [n]."""
    arms, key = np.arange(replay.arms), np.arange(len(queries))
    sample = draw(seed, Purpose.SAMPLE, key[:, None], arms) % replay.samples[queries].astype("u8")
    cell = (queries[:, None], arms, sample.astype(np.int64))
    ok = replay.status[cell] == STATUSES.index("ok")
    answer = np.where(ok, replay.answer[cell], -1)
    seen = Seen(queries, ok, answer, replay.evidence[cell])
    return Drawn(seen, replay.score[cell] * ok, replay.cost_usd[cell])


class PostHoc:
    """The chance that an arm's answer is right: [B, A], for arms that were called and for those that might be.

    Cross-fitted: on a training query it answers with a fit on the other folds, so that thresholds and plans that are
    chosen on training queries do not rest on grades learned by heart.
    """

    prior: Prior
    centre: Floats  # [A, E] of the evidence on training queries
    scale: Floats  # [A, E]
    group: Ints  # [Q] the large domain that a query is of, the last number for all others
    groups: int
    fold: Ints  # [Q] whose fit is used for a query; FOLDS: the fit on all
    of_called: Floats  # [FOLDS + 1, F]
    of_others: Floats  # [FOLDS + 1, F']

    @classmethod
    def fit(cls, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> Self:
        """Learn from `queries` ([n] training indices). Sequential routers with one seed share the fit."""
        self = cls()
        self.prior = fit_prior(replay, queries, text_features(replay, queries), cost_unit)
        drawn = draw_responses(replay, queries, seed)
        usable = np.where(drawn.seen.ok[..., None], drawn.seen.evidence, np.nan)
        self.centre = np.nan_to_num(np.nanmean(usable, axis=0))
        self.scale = np.nan_to_num(np.nanstd(usable, axis=0)) + 1e-3
        names, sizes = np.unique(replay.domains[queries], return_counts=True)
        largest = np.argsort(-sizes, kind="stable")[:MOST_DOMAINS]
        large = names[largest[sizes[largest] >= LARGE_DOMAIN]]
        self.groups = len(large) + 1
        self.group = np.full(len(replay.domains), len(large))
        for number, name in enumerate(large):
            self.group[replay.domains == name] = number
        self.fold = np.full(len(replay.query_ids), FOLDS)
        self.fold[queries] = (draw(0, Purpose.FOLD, np.arange(len(queries))) % FOLDS).astype(np.int64)
        key = ("posthoc", queries.tobytes(), cost_unit, seed)
        if key not in replay.memo:
            called, others = self._learn(drawn, seed)
            replay.memo[key], replay.memo[(*key, "others")] = called, others
        self.of_called, self.of_others = replay.memo[key], replay.memo[(*key, "others")]
        return self

    def __call__(self, seen: Seen) -> Floats:
        """[B, A] chance of being right; the prior while nothing has been seen."""
        fold = self.fold[seen.query]
        called = np.einsum("baf,bf->ba", self._features_of_called(seen), self.of_called[fold])
        others = np.einsum("baf,bf->ba", self._features_of_others(seen), self.of_others[fold])
        chance: Floats = expit(np.where(seen.ok, called, others))
        return np.where(seen.ok.any(axis=1, keepdims=True), chance, self.prior.score[seen.query])

    def _learn(self, drawn: Drawn, seed: int) -> tuple[Floats, Floats]:
        """Weights of both regressions, for each fold held out and for none."""
        n, arms = drawn.score.shape
        sets = max(1, min(SETS_A_QUERY, MOST_SETS // n))
        row, number = np.divmod(np.arange(n * sets), sets)
        order = draw(seed, Purpose.POLICY, row[:, None], number[:, None], np.arange(arms)).argsort(axis=1)
        size = 1 + draw(seed, Purpose.FOLD, row, number).astype(np.int64) % min(LARGEST_SET, arms)
        called = order.argsort(axis=1) < size[:, None]
        whole = drawn.seen
        seen = Seen(whole.query[row], whole.ok[row] & called, whole.answer[row], whole.evidence[row])
        fold = np.broadcast_to(self.fold[seen.query][:, None], called.shape)
        weights = []
        # An arm that gives nothing usable has score 0: that is part of what calling it is worth.
        for features, rows in (
            (self._features_of_called(seen), seen.ok),
            (self._features_of_others(seen), ~called & seen.ok.any(axis=1, keepdims=True)),
        ):
            inputs, score, held = features[rows], drawn.score[row][rows], fold[rows]
            fits = [_logistic(inputs[held != k], score[held != k]) for k in range(FOLDS + 1)]
            weights.append(np.stack(fits))
        return weights[0], weights[1]

    def _features_of_called(self, seen: Seen) -> Floats:
        """[B, A, F] of each arm's response, meaningless where there is none."""
        odds, own, has, same, differ, weight = self._read(seen)
        backing = (same * weight[:, None, :]).sum(axis=2)
        rival = np.where(differ, (backing + weight)[:, None, :], 0.0).max(axis=2)
        against = (differ * weight[:, None, :]).sum(axis=2)
        agreement = np.stack([backing, against, same.sum(axis=2), differ.sum(axis=2), rival], axis=-1)
        plain = np.concatenate([np.stack([odds, ~has], axis=-1), own, agreement, same, differ], axis=-1)
        return np.concatenate([plain, self._by_domain(seen, agreement)], axis=-1)

    def _features_of_others(self, seen: Seen) -> Floats:
        """[B, A, F'] of each arm, were it called now."""
        odds, own, has, same, _, weight = self._read(seen)
        backing = np.where(has, (same * weight[:, None, :]).sum(axis=2) + weight, 0.0)
        supporters = np.where(has, same.sum(axis=2) + 1, 0)
        lead, most = backing.max(axis=1), supporters.max(axis=1)
        silent = (seen.ok & ~has).sum(axis=1)
        state = np.stack([lead, weight.sum(axis=1) - lead, most, has.sum(axis=1) - most, silent], axis=-1)
        shared = np.concatenate([state, np.where(seen.ok[..., None], own, 0.0).sum(axis=1)], axis=-1)
        spread = np.broadcast_to(shared[:, None, :], (*odds.shape, shared.shape[1]))
        return np.concatenate([odds[..., None], spread, self._by_domain(seen, spread[..., : state.shape[1]])], axis=-1)

    def _read(self, seen: Seen) -> tuple[Floats, Floats, Bools, Bools, Bools, Floats]:
        """Prior log-odds [B, A], own evidence [B, A, E], whether there is an answer [B, A], which pairs of answers are
        the same and which differ [B, A, A], and what each answer weighs [B, A]."""
        prior = self.prior.score[seen.query]
        odds = np.log(prior / (1.0 - prior))
        own = np.clip((seen.evidence - self.centre) / self.scale, -3.0, 3.0)
        has = seen.ok & (seen.answer >= 0)
        both = has[:, :, None] & has[:, None, :]
        equal = seen.answer[:, :, None] == seen.answer[:, None, :]
        return odds, own, has, both & equal & ~np.eye(has.shape[1], dtype=np.bool_), both & ~equal, _weight(odds, has)

    def _by_domain(self, seen: Seen, features: Floats) -> Floats:
        """[B, A, D · (1 + F) + 1] a constant and the features once for each large domain, 0 in the others; then 1."""
        constant = np.ones((*features.shape[:2], 1))
        each = np.concatenate([constant, features], axis=-1)
        domain = self.group[seen.query][:, None] == np.arange(self.groups - 1)
        crossed = (domain[:, None, :, None] * each[:, :, None, :]).reshape(*features.shape[:2], -1)
        return np.concatenate([crossed, constant], axis=-1)


def shortlist(drawn: Drawn, group: Ints, most: int) -> list[int]:
    """Up to `most` arms for a chain, cheapest first: those that in some group ([n] numbers) of training queries score
    more than any cheaper arm, those first that do so for most queries."""
    queries = np.zeros(drawn.score.shape[1])
    for number in np.unique(group):
        members = group == number
        score, cost = drawn.score[members].mean(axis=0), drawn.cost[members].mean(axis=0)
        order = np.argsort(cost, kind="stable")
        best = np.maximum.accumulate(np.r_[-np.inf, score[order][:-1]])
        queries[order[score[order] > best]] += members.sum()
    kept = [int(arm) for arm in np.argsort(-queries, kind="stable")[:most] if queries[arm]]
    return sorted(kept, key=lambda arm: float(drawn.cost[:, arm].mean()))


def _weight(odds: Floats, has: Bools) -> Floats:
    weighed: Floats = np.where(has, odds + LOG_GUESSES, 0.0)
    return weighed


def _logistic(inputs: Floats, score: Floats) -> Floats:
    """[F] weights of a regression of scores in [0, 1] on inputs [n, F], whose last column is the constant 1.

    A score between 0 and 1 counts as right and as wrong in that proportion.
    """
    weights = np.zeros(inputs.shape[1])
    if not len(inputs) or score.min() >= 1.0 or score.max() <= 0.0:  # nothing to tell apart
        mean = float(np.clip(score.mean() if len(score) else 0.5, 0.01, 0.99))
        weights[-1] = np.log(mean / (1.0 - mean))
        return weights
    centre, scale = inputs.mean(axis=0), inputs.std(axis=0) + 1e-6
    scale[-1] = 1.0
    standard = (inputs - centre) / scale
    right, wrong = score > 0.0, score < 1.0
    learner = LogisticRegression(C=1.0, max_iter=300).fit(
        np.vstack([standard[right], standard[wrong]]),
        np.repeat([1, 0], [right.sum(), wrong.sum()]),
        sample_weight=np.concatenate([score[right], 1.0 - score[wrong]]),
    )
    weights[:] = learner.coef_[0] / scale
    weights[-1] = learner.intercept_[0] - float(weights[:-1] @ centre[:-1])
    return weights
