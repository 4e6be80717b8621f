"""Cascade routing (Dekoninck, Baader and Vechev, "A Unified Approach to Routing and Cascading for LLMs", ICML 2025,
arXiv 2410.10347): at every step run the next model of the best supermodel, until the best is the one that has run.

A supermodel M is a set of arms of which the best answer is taken. With estimates q̂ of the arms' qualities and ĉ of
their costs, given what has been seen, it is worth the trade-off of their §4

    τ(M) = E[max over m in M of q̂_m] − λ_j · Σ over m in M of ĉ_m

where M ranges over the supersets of what has been called. The paper searches a λ_j for each step j under a budget. Here
the reward's λ states the trade-off, and λ_j is a multiple of it, one for the first call and one for later ones, found
on the training queries by what the policy earns. Estimates before and after a call are those of `PostHoc`.

The noise model: q̂ is Gaussian, with the covariance of what estimates still lack (their difference from those that all
answers would give, on training queries, for each set of arms called); the maximum is averaged over seeded samples. So a
call is worth something for what it may tell. Without it the maximum is that of the means.
"""

from dataclasses import dataclass
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

LEAST_PENALTY = 0.005
"""λ = 0 is taken for this: where cost did not matter at all, the best supermodel would be all arms."""

SAMPLES = 100
"""Of the noise: as many as in the authors' package."""

AHEAD = 2
"""Further calls that a supermodel may have: their depth limit, by which 11 arms have 66 supersets and not 2,047."""

TUNED_ON = 1200
"""Training queries on which multiples are chosen, at most."""


@dataclass(frozen=True)
class Knobs:
    """What is chosen on training queries."""

    first: float = 1.0
    later: float = 1.0
    """Multiples of λ for the first call and for later ones."""
    noise: float = 0.0
    """Factor on the noise: 1 is the paper's, 0 none."""


PLAIN = tuple(Knobs(first, later) for first, later in product((1.0, 0.7, 1.4), (1.0, 0.5, 2.0, 4.0)))
NOISY = tuple(Knobs(1.0, later, noise) for noise, later in product((1.0, 0.3, 0.2, 0.1), (1.0, 2.0, 4.0)))


class CascadeRouting(Router):
    """Calls and looks while a larger set of arms is worth more than the one called; then takes the likeliest answer."""

    name = "cascade_routing"
    kind: ClassVar[Kind] = "sequential"
    reads = ("query text", "domain", "pool", "prices", "penalty", "answers", "errors")
    tried: ClassVar[tuple[Knobs, ...]] = PLAIN
    ahead: ClassVar[int] = 1
    """Without noise the best of several arms is worth as much as one of them: no more than one is ever added."""
    added: Bools  # [G, A] the sets of arms that may be added
    knobs: Floats  # [len(PENALTIES), 3] first, later, noise

    def fit(self, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> None:
        self.cost_unit, self.model_of_arm = cost_unit, replay.model_of_arm
        self.posthoc = PostHoc.fit(replay, queries, cost_unit, seed)
        ahead = min(self.ahead, replay.arms)
        sets = [each for size in range(1, ahead + 1) for each in combinations(range(replay.arms), size)]
        self.added = np.array([np.isin(np.arange(replay.arms), each) for each in sets])
        self._fit_noise(draw_responses(replay, queries, seed), seed)
        self._choose_knobs(replay, queries, seed)

    def _fit_noise(self, drawn: Drawn, seed: int) -> None:
        """Nothing to learn without noise."""

    def _choose_knobs(self, replay: Replay, queries: Ints, seed: int) -> None:
        """Those that earn most in the calm world at each λ and its neighbours: three figures are less noisy than one."""
        chance = draw(seed, Purpose.SPLIT, np.arange(len(queries)))
        some = queries[np.sort(chance.argsort()[:TUNED_ON])]
        world = Simulator(replay, Profile(), seed, self.cost_unit)
        query, key = np.tile(some, len(PENALTIES)), np.tile(np.arange(len(some)), len(PENALTIES))
        earned = np.empty((len(self.tried), len(PENALTIES)))
        for number, knobs in enumerate(self.tried):
            self.knobs = np.tile([knobs.first, knobs.later, knobs.noise], (len(PENALTIES), 1))
            episodes = play(self.act, world, query, key, np.repeat(PENALTIES, len(some)))
            earned[number] = episodes.reward.reshape(len(PENALTIES), -1).mean(axis=1)
        around = np.pad(earned, ((0, 0), (1, 1)), mode="edge")
        best = (around[:, :-2] + around[:, 1:-1] + around[:, 2:]).argmax(axis=0)
        self.knobs = np.array([[k.first, k.later, k.noise] for k in self.tried])[best]

    def act(self, observation: Observation) -> Action:
        rows = np.arange(len(observation))
        seen, slot = seen_so_far(observation, len(self.model_of_arm))
        quality = self.posthoc(seen)
        cost = self.posthoc.prior.cost[observation.query] * observation.price[:, self.model_of_arm]
        may_call = callable_arms(observation, self.model_of_arm)
        setting = np.abs(observation.penalty[:, None] - PENALTIES).argmin(axis=1)
        usable = seen.ok.any(axis=1)
        first, later, noise = self.knobs[setting].T
        rate = np.where(usable, later, first) * np.maximum(observation.penalty, LEAST_PENALTY) / self.cost_unit
        stay, grow = self.quality_of_sets(seen, quality, noise)
        # What has been paid counts the same for all supersets, so it is left out.
        value = grow - rate[:, None] * (cost @ self.added.T)
        value[(~may_call @ self.added.T) > 0] = -np.inf
        best = value.argmax(axis=1)
        stuck = ~may_call.any(axis=1)
        stops = usable & ((stay >= value[rows, best]) | observation.last_turn | stuck)
        # The cheapest of the arms to add is run first, as in the paper.
        following = np.where(self.added[best], cost, np.inf).argmin(axis=1)
        answer = slot[rows, np.where(seen.ok, quality, -1.0).argmax(axis=1)]
        final = np.where(stops, answer, np.where(observation.last_turn, int(Final.ADOPT), int(Final.CONTINUE)))
        return Action(np.where(stops | stuck, NO_CALL, following)[:, None], final)

    def quality_of_sets(self, seen: Seen, quality: Floats, noise: Floats) -> tuple[Floats, Floats]:
        """Of the arms called [B] (−1 while there are none), and with each set added [B, G]. `noise` [B] its factor."""
        stay = np.where(seen.ok, quality, -1.0).max(axis=1)
        best_added = np.where(self.added, quality[:, None, :], -1.0).max(axis=2)
        return stay, np.maximum(stay[:, None], best_added)


class NoisyCascadeRouting(CascadeRouting):
    """With the noise model, its strength among what is chosen on training queries: the paper's own is one choice."""

    name = "cascade_routing_noise"
    tried = NOISY
    ahead = AHEAD

    def _fit_noise(self, drawn: Drawn, seed: int) -> None:
        arms = drawn.score.shape[1]
        self.drawn, self.informed = drawn, self.posthoc(drawn.seen)
        self.samples = normal(seed, Purpose.POLICY, np.arange(SAMPLES), np.arange(arms)[:, None])
        self.deviations: dict[bytes, Floats] = {}

    def quality_of_sets(self, seen: Seen, quality: Floats, noise: Floats) -> tuple[Floats, Floats]:
        called, place = np.unique(seen.ok, axis=0, return_inverse=True)
        deviations = np.stack([self._deviations(each) for each in called])[place.reshape(-1)]
        possible = (quality[:, :, None] + noise[:, None, None] * deviations).astype(np.float32)  # [B, A, SAMPLES]
        base = np.full(possible[:, 0].shape, -1e6, np.float32)
        for arm in np.flatnonzero(called.any(axis=0)):
            base = np.where(seen.ok[:, arm, None], np.maximum(base, possible[:, arm]), base)
        grown = np.empty((len(self.added), len(quality)))
        maximum: dict[tuple[int, ...], Floats] = {(): base}
        for number, added in enumerate(self.added):  # smaller sets come first
            *head, last = np.flatnonzero(added).tolist()
            highest = np.maximum(maximum[tuple(head)], possible[:, last])
            grown[number] = highest.mean(axis=1)
            if len(head) + 1 < self.ahead:
                maximum[(*head, last)] = highest
        return base.mean(axis=1).astype(np.float64), grown.T

    def _deviations(self, called: Bools) -> Floats:
        """[A, SAMPLES] what the estimates may be off by when these arms [A] have been called."""
        if called.tobytes() not in self.deviations:
            lack = self.posthoc(self.drawn.seen.only(called)) - self.informed
            covariance = np.atleast_2d(np.cov(lack.T)) + 1e-9 * np.eye(len(called))
            self.deviations[called.tobytes()] = np.linalg.cholesky(covariance) @ self.samples
        return self.deviations[called.tobytes()]
