"""Cascade routing (Dekoninck, Baader and Vechev, "A Unified Approach to Routing and Cascading for LLMs", ICML 2025,
arXiv 2410.10347): at every step run the next model of the best supermodel, until the best is the one that has run.

A supermodel M is a set of arms of which the best answer is taken. With estimates q̂ of the arms' qualities and ĉ of
their costs, given what has been seen, it is worth the trade-off of their §4

    τ(M) = E[max over m in M of q̂_m] − λ_j · Σ over m in M of ĉ_m

where M ranges over the supersets of what has been called. The estimates before and after a call are `PostHoc`'s.

**λ.** The paper's trade-off adds, the reward here multiplies: score · (1 − λ · cost / unit). So its λ is not theirs.
The paper searches a λ_j for each step j on training queries, for the best quality under a budget. Here λ_j is a
multiple of λ / unit, one for the first call and one for later ones, searched on training queries for the best reward at
each λ. The bill falls as λ grows; the number of calls need not: it is highest between the λ at which only dear arms are
called and those at which only cheap ones are, where a cheap arm goes first and a dear one often follows.

**The noise model.** q̂ is Gaussian, with the covariance of what estimates still lack (their difference from those that
all answers would give, on training queries, for each set of arms called); the maximum is averaged over seeded samples.
So a call is worth something for what it may tell, and more than it is: noise in the best of several lifts the maximum
whether or not a call can tell them apart. Without noise the maximum is that of the means, and of several arms to add
the best one is worth as much as all.

What differs beside: a supermodel has no more arms than there are turns to call them, one a turn and the cheapest first;
and at most `ahead` more than have run. 1 is the default since on RouterBench's training queries it earns more than 2.
"""

from itertools import combinations, product
from typing import ClassVar

import numpy as np

from xrouter_sim.engine.episodes import Observation
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.randomness import Purpose, draw, normal
from xrouter_sim.engine.rollout import play
from xrouter_sim.engine.semantics import NO_CALL, Action, Final
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.replay import Bools, Floats, Ints, Replay
from xrouter_sim.reward import SETTINGS
from xrouter_sim.routers.base import Kind, Router, callable_arms
from xrouter_sim.routers.posthoc import Drawn, PostHoc, Seen, draw_responses, seen_so_far

PENALTIES = np.array(SETTINGS)
"""λ for which multiples are chosen; others take the nearest one's."""

MULTIPLES = tuple(product((1.0, 0.7), (1.0, 0.5, 2.0, 4.0, 8.0)))
"""Of λ, for the first call and for later ones: what is tried. Ties go to the first, λ as it is."""

LEAST_PENALTY = 0.005
"""λ = 0 is taken for this: where cost did not matter at all, the best supermodel would be all arms."""

SAMPLES = 100
"""Of the noise: as many as in the authors' package."""

TUNED_ON = 800
"""Training queries on which multiples are chosen, at most."""


class CascadeRouting(Router):
    """Calls and looks while a larger set of arms is worth more than the one called; then takes the likeliest answer.

    `multiples` as MULTIPLES; a single pair is taken as it is, without a search. `ahead` is how many arms a supermodel
    may have beside those that have run.
    """

    name = "cascade-routing"
    kind: ClassVar[Kind] = "sequential"
    reads = ("query text", "domain", "pool", "prices", "penalty", "answers", "errors")
    added: Bools  # [G, A] the sets of arms that may be added, smaller ones first
    chosen: Floats  # [len(PENALTIES), 2] multiples for the first call and later ones

    def __init__(self, multiples: tuple[tuple[float, float], ...] = MULTIPLES, ahead: int = 1) -> None:
        self.multiples, self.ahead = multiples, ahead

    def fit(self, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> None:
        self.cost_unit, self.model_of_arm = cost_unit, replay.model_of_arm
        self.posthoc = PostHoc.fit(replay, queries, cost_unit, seed)
        ahead = min(self.ahead, replay.arms)
        sets = [each for size in range(1, ahead + 1) for each in combinations(range(replay.arms), size)]
        self.added = np.array([np.isin(np.arange(replay.arms), each) for each in sets])
        self._fit_noise(draw_responses(replay, queries, seed), seed)
        self._choose_multiples(replay, queries, seed)

    def _fit_noise(self, drawn: Drawn, seed: int) -> None:
        """Nothing to learn without noise."""

    def _choose_multiples(self, replay: Replay, queries: Ints, seed: int) -> None:
        """Those that earn most in the calm world at a λ and its neighbours: three figures are less noisy than one."""
        if len(self.multiples) == 1:
            self.chosen = np.repeat(np.array(self.multiples), len(PENALTIES), axis=0)
            return
        chance = draw(seed, Purpose.SPLIT, np.arange(len(queries)))
        some = queries[np.sort(chance.argsort()[:TUNED_ON])]
        world = Simulator(replay, Profile(), seed, self.cost_unit)
        query, key = np.tile(some, len(PENALTIES)), np.tile(np.arange(len(some)), len(PENALTIES))
        earned = np.empty((len(self.multiples), len(PENALTIES)))
        for number, pair in enumerate(self.multiples):
            self.chosen = np.tile(pair, (len(PENALTIES), 1))
            episodes = play(self.act, world, query, key, np.repeat(PENALTIES, len(some)))
            earned[number] = episodes.reward.reshape(len(PENALTIES), -1).mean(axis=1)
        around = np.pad(earned, ((0, 0), (1, 1)), mode="edge")
        best = (around[:, :-2] + around[:, 1:-1] + around[:, 2:]).argmax(axis=0)
        self.chosen = np.array(self.multiples)[best]

    def act(self, observation: Observation) -> Action:
        rows = np.arange(len(observation))
        seen, slot = seen_so_far(observation, len(self.model_of_arm))
        quality = self.posthoc(seen)
        cost = self.posthoc.prior.cost[observation.query] * observation.price[:, self.model_of_arm]
        may_call = callable_arms(observation, self.model_of_arm)
        usable: Bools = seen.ok.max(axis=1)
        stay, grow = self.quality_of_sets(seen, quality)
        # What has been paid counts the same for all supersets, so it is left out.
        value = grow - self._rate(observation, usable)[:, None] * (cost @ self.added.T)
        value[self._out_of_reach(observation, may_call)] = -np.inf
        best = value.argmax(axis=1)
        stuck = ~may_call.any(axis=1)
        stops = usable & ((stay >= value[rows, best]) | observation.last_turn | stuck)
        # The cheapest of the arms to add is run first, as in the paper.
        following = np.where(self.added[best], cost, np.inf).argmin(axis=1)
        answer = slot[rows, np.where(seen.ok, quality, -1.0).argmax(axis=1)]
        final = np.where(stops, answer, np.where(observation.last_turn, int(Final.ADOPT), int(Final.CONTINUE)))
        return Action(np.where(stops | stuck, NO_CALL, following)[:, None], final)

    def _rate(self, observation: Observation, usable: Bools) -> Floats:
        """[B] λ_j, a USD."""
        setting = np.abs(observation.penalty[:, None] - PENALTIES).argmin(axis=1)
        multiple = self.chosen[setting, usable.astype(np.int64)]
        rate: Floats = multiple * np.maximum(observation.penalty, LEAST_PENALTY) / self.cost_unit
        return rate

    def _out_of_reach(self, observation: Observation, may_call: Bools) -> Bools:
        """[B, G] sets with an arm that cannot be called, or with more arms than there are turns to call and look."""
        turns = observation.simulator.profile.client.max_turns - 1 - observation.turn
        too_large = self.added.sum(axis=1) > np.maximum(turns, 1)[:, None]
        out: Bools = too_large | ((~may_call @ self.added.T) > 0)
        return out

    def quality_of_sets(self, seen: Seen, quality: Floats) -> tuple[Floats, Floats]:
        """Of the arms called [B] (below −1/2 while there are none), and with each set added [B, G]."""
        stay = np.where(seen.ok, quality, -1.0).max(axis=1)
        best_added = np.where(self.added, quality[:, None, :], -1.0).max(axis=2)
        return stay, np.maximum(stay[:, None], best_added)


class NoisyCascadeRouting(CascadeRouting):
    """With the noise model, by which a call may be worth what it tells."""

    name = "cascade-routing-noise"

    def _fit_noise(self, drawn: Drawn, seed: int) -> None:
        arms = drawn.score.shape[1]
        self.drawn, self.informed = drawn, self.posthoc(drawn.seen)
        self.samples = normal(seed, Purpose.POLICY, np.arange(SAMPLES), np.arange(arms)[:, None])
        self.deviations: dict[bytes, Floats] = {}

    def quality_of_sets(self, seen: Seen, quality: Floats) -> tuple[Floats, Floats]:
        called, place = np.unique(seen.ok, axis=0, return_inverse=True)
        deviations = np.stack([self._deviations(each) for each in called])[place.reshape(-1)]
        possible = (quality[:, :, None] + deviations).astype(np.float32)  # [B, A, SAMPLES]
        base = np.where(seen.ok[:, :, None], possible, np.float32(-1e6)).max(axis=1)
        grown = np.empty((len(self.added), len(quality)))
        highest: dict[tuple[int, ...], Floats] = {(): base}
        for number, added in enumerate(self.added):
            *others, last = np.flatnonzero(added).tolist()
            maximum = np.maximum(highest[tuple(others)], possible[:, last])
            grown[number] = maximum.mean(axis=1)
            if len(others) + 1 < self.ahead:
                highest[(*others, last)] = maximum
        return base.mean(axis=1).astype(np.float64), grown.T

    def _deviations(self, called: Bools) -> Floats:
        """[A, SAMPLES] what the estimates may be off by when these arms [A] have been called."""
        if called.tobytes() not in self.deviations:
            lack = self.posthoc(self.drawn.seen.only(called)) - self.informed
            covariance = np.atleast_2d(np.cov(lack.T)) + 1e-9 * np.eye(len(called))
            self.deviations[called.tobytes()] = np.linalg.cholesky(covariance) @ self.samples
        return self.deviations[called.tobytes()]
