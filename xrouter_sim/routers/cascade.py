"""The threshold cascade (FrugalGPT, Chen et al., arXiv 2305.05176): ask a cheap arm, keep its answer if it looks good.

A scorer reads how likely an answer is right; a chain of at most three arms and a threshold after each are chosen for
every λ by their mean reward on the training queries, at list prices.
"""

from itertools import combinations, product
from typing import ClassVar

import numpy as np
from sklearn.linear_model import LogisticRegression

from xrouter_sim.engine.episodes import Observation
from xrouter_sim.engine.randomness import Purpose, draw
from xrouter_sim.engine.semantics import NO_CALL, Action, Final
from xrouter_sim.features import text_features
from xrouter_sim.replay import Floats, Ints, Replay
from xrouter_sim.reward import SETTINGS, reward
from xrouter_sim.routers.base import Kind, Router, callable_arms
from xrouter_sim.routers.prior import fit_prior

CHAIN = 3
CANDIDATES = 6
QUANTILES = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
PENALTIES = np.array(SETTINGS)
"""λ for which a chain is chosen; others take the nearest one's."""


class Cascade(Router):
    """One chain of arms with thresholds for each λ."""

    name = "cascade"
    kind: ClassVar[Kind] = "sequential"
    reads = ("query text", "domain", "penalty", "answers", "errors")
    chains: Ints  # [len(PENALTIES), CHAIN] arms, NO_CALL behind the last
    thresholds: Floats  # [len(PENALTIES), CHAIN]

    def fit(self, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> None:
        self.model_of_arm = replay.model_of_arm
        self.prior = fit_prior(replay, queries, text_features(replay, queries), cost_unit).score
        key = np.arange(len(queries))
        sample = draw(seed, Purpose.SAMPLE, key[:, None], np.arange(replay.arms)) % replay.samples[queries].astype("u8")
        drawn = (queries[:, None], np.arange(replay.arms), sample.astype(np.int64))
        score, cost = replay.score[drawn], replay.cost_usd[drawn]
        answer, evidence = replay.answer[drawn], replay.evidence[drawn]
        self.mean_cost = cost.mean(axis=0)
        self._fit_scorer(queries, answer, evidence, score, seed)
        self._choose_chains(queries, answer, evidence, score, cost, cost_unit)

    def _fit_scorer(self, queries: Ints, answer: Ints, evidence: Floats, score: Floats, seed: int) -> None:
        arms = score.shape[1]
        rows, arm = np.divmod(np.arange(len(queries) * arms), arms)
        earlier = (arm + 1 + draw(seed, Purpose.POLICY, rows, arm).astype(np.int64) % max(arms - 1, 1)) % arms
        alone = draw(seed, Purpose.FOLD, rows, arm) % np.uint64(2) == 0
        before = np.where(alone, -1, answer[rows, earlier])[:, None]
        self.evidence_mean, self.evidence_scale = evidence.mean(axis=0), evidence.std(axis=0) + 1e-3
        inputs = self._inputs(queries[rows], arm, answer[rows, arm], evidence[rows, arm], before)
        right = score[rows, arm] >= 0.5
        # Where all training answers are right, or all are wrong, there is nothing to tell apart.
        self.always_right = float(right.mean()) if right.all() or not right.any() else None
        if self.always_right is None:
            self.scorer = LogisticRegression(C=1.0, max_iter=500).fit(inputs, right)

    def _inputs(self, query: Ints, arm: Ints, answer: Ints, evidence: Floats, before: Ints) -> Floats:
        """[n, F] features of an answer, given the answers before it ([n, k], -1 none)."""
        prior = self.prior[query, arm]
        known = (before >= 0) & (answer >= 0)[:, None]
        equal = known & (before == answer[:, None])
        standard = np.clip((evidence - self.evidence_mean[arm]) / self.evidence_scale[arm], -3.0, 3.0)
        agreement = np.stack([equal.sum(axis=1), (known & ~equal).sum(axis=1), answer < 0], axis=1)
        return np.hstack([np.log(prior / (1.0 - prior))[:, None], standard, agreement])

    def _looks_right(self, query: Ints, arm: Ints, answer: Ints, evidence: Floats, before: Ints) -> Floats:
        if self.always_right is not None:
            return np.full(len(query), self.always_right)
        chance: Floats = self.scorer.predict_proba(self._inputs(query, arm, answer, evidence, before))[:, 1]
        return chance

    def _choose_chains(
        self, queries: Ints, answer: Ints, evidence: Floats, score: Floats, cost: Floats, cost_unit: float
    ) -> None:
        self.chains = np.full((len(PENALTIES), CHAIN), NO_CALL)
        self.thresholds = np.zeros((len(PENALTIES), CHAIN))
        best = np.full(len(PENALTIES), -np.inf)
        candidates = _frontier(score.mean(axis=0), cost.mean(axis=0))
        for length in range(1, CHAIN + 1):
            for chain in combinations(candidates, length):
                looks = []
                for place, arm in enumerate(chain[:-1]):
                    arms, before = np.full(len(queries), arm), answer[:, list(chain[:place])]
                    looks.append(self._looks_right(queries, arms, answer[:, arm], evidence[:, arm], before))
                for cut in product(*(np.quantile(look, QUANTILES) for look in looks)):
                    got, paid = _play_chain(chain, cut, looks, score, cost)
                    earned = reward(got, paid, PENALTIES[:, None], cost_unit).mean(axis=1)
                    better = np.flatnonzero(earned > best + 1e-12)
                    best[better] = earned[better]
                    self.chains[better] = [*chain, *[NO_CALL] * (CHAIN - length)]
                    self.thresholds[better] = [*cut, *[0.0] * (CHAIN - len(cut))]

    def act(self, observation: Observation) -> Action:
        setting = np.abs(observation.penalty[:, None] - PENALTIES).argmin(axis=1)
        chain, rows = self.chains[setting], np.arange(len(observation))
        called = observation.arm != NO_CALL
        last = np.maximum(called.sum(axis=1) - 1, 0)
        ok, arm = observation.ok[rows, last], np.maximum(observation.arm[rows, last], 0)
        before = np.where(np.arange(called.shape[1]) < last[:, None], observation.answer, -1)
        looks = self._looks_right(
            observation.query, arm, observation.answer[rows, last], observation.evidence[rows, last], before
        )
        place = (chain == arm[:, None]).argmax(axis=1)
        accepts = ok & (looks >= self.thresholds[setting, place])
        # The next arm of the chain; behind its end, while nothing usable has come, the cheapest arm that is left.
        callable_ = callable_arms(observation, self.model_of_arm)
        open_ = (chain != NO_CALL) & callable_[rows[:, None], np.maximum(chain, 0)]
        fallback = np.where(callable_, self.mean_cost, np.inf).argmin(axis=1)
        following = np.where(open_.any(axis=1), chain[rows, open_.argmax(axis=1)], fallback)
        usable = observation.ok.any(axis=1)
        stops = accepts | (~open_.any(axis=1) & usable) | (observation.last_turn & usable)
        newest = observation.ok.shape[1] - 1 - observation.ok[:, ::-1].argmax(axis=1)
        ends = open_.sum(axis=1) <= 1
        final = np.where(stops, newest, np.where(ends, int(Final.ADOPT), int(Final.CONTINUE)))
        return Action(np.where(stops, NO_CALL, following)[:, None], final)


def _frontier(score: Floats, cost: Floats) -> list[int]:
    """Up to CANDIDATES arms that no cheaper arm beats, cheapest first; thinned evenly where there are more."""
    order = np.argsort(cost)
    best = np.maximum.accumulate(np.r_[-np.inf, score[order][:-1]])
    frontier = order[score[order] > best]
    kept = np.unique(np.linspace(0, len(frontier) - 1, min(CANDIDATES, len(frontier))).round().astype(int))
    return [int(arm) for arm in frontier[kept]]


def _play_chain(
    chain: tuple[int, ...], cut: tuple[float, ...], looks: list[Floats], score: Floats, cost: Floats
) -> tuple[Floats, Floats]:
    """Score and cost in USD of a chain on every training query ([n] each)."""
    got, paid = score[:, chain[-1]], cost[:, list(chain)].sum(axis=1)
    for place in range(len(chain) - 2, -1, -1):
        stops = looks[place] >= cut[place]
        got = np.where(stops, score[:, chain[place]], got)
        paid = np.where(stops, cost[:, list(chain[: place + 1])].sum(axis=1), paid)
    return got, paid
