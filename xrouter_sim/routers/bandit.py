"""Contextual bandits: LinUCB (Li et al., "A Contextual-Bandit Approach to Personalized News Article Recommendation",
WWW 2010, arXiv 1003.0146, Algorithm 1, disjoint arms) and Thompson sampling with linear payoffs (Agrawal and Goyal,
ICML 2013, arXiv 1209.3352).

They learn online: training queries come once, in a seeded order, in a world whose prices change from query to query and
with a λ drawn for each; they see the score and the bill of the arm they called and of no other. Per arm, ridge
regressions of the score on the context x,

    A_a = ridge · I + Σ x xᵀ,   b_a = Σ score · x,   θ_a = A_a⁻¹ b_a,   uncertainty s_a = √(xᵀ A_a⁻¹ x),

choose by what a score is worth at today's prices: the reward with θ_aᵀx + α · s_a (LinUCB), or with xᵀθ̃ for θ̃ drawn
from N(θ_a, α² A_a⁻¹) (Thompson), for its score. What a call costs is learned the same way, at list price. Then they are
frozen: on test queries they take the arm of the best mean.
"""

import numpy as np

from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.randomness import Purpose, draw, normal
from xrouter_sim.engine.semantics import Action, Final
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.features import text_features
from xrouter_sim.replay import Floats, Ints, Replay
from xrouter_sim.reward import SETTINGS, reward
from xrouter_sim.routers.base import SingleShot

DIRECTIONS = 4
"""Of the text features that are part of the context: with a few hundred calls an arm, more would be noise."""

TEXT_SCALE = 0.3
"""Of a text direction's spread, where a domain counts 1: the text adds little to the domain, so it is shrunk more."""

RIDGE = 1.0

LEAST_COST = 0.05
"""Share of an arm's mean cost that it is taken to cost at least: a line through costs may run below nothing."""

BREAKS_TIES = 1e-3
"""Weight of the score alone: where all arms look too dear for any reward, the one with the best guess is tried."""


class LinUCB(SingleShot):
    """Optimism: calls the arm that might earn most. `alpha` is the confidence bound's width in standard errors."""

    name = "linucb"
    reads = ("query text", "domain", "pool", "prices", "penalty")

    def __init__(self, alpha: float = 0.5, profile: str = "prices") -> None:
        """`profile` is the world that it learns in."""
        self.alpha, self.profile = alpha, profile

    def fit(self, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> None:
        self.cost_unit, self.model_of_arm, self.seed = cost_unit, replay.model_of_arm, seed
        context = self._context(replay, queries)
        width = context.shape[1]
        self.inverse = np.tile(np.eye(width) / RIDGE, (replay.arms, 1, 1))  # A_a⁻¹
        self.scores, self.costs = np.zeros((replay.arms, width)), np.zeros((replay.arms, width))  # b_a of both
        self.seen_reward = self._learn(replay, queries, context)
        theta_score, theta_cost = self._theta(self.scores), self._theta(self.costs)
        self.predicted_score = np.clip(context @ theta_score.T, 0.0, 1.0)
        least = LEAST_COST * (context[queries] @ theta_cost.T).mean(axis=0)
        self.predicted_cost = np.maximum(context @ theta_cost.T, np.maximum(least, 0.0))

    def guess(self, step: int, context: Floats) -> Floats:
        """[A] the scores that the arm to call is chosen by, for one context [F]."""
        uncertainty = np.sqrt(np.einsum("f,afg,g->a", context, self.inverse, context))
        bound: Floats = self._theta(self.scores) @ context + self.alpha * uncertainty
        return bound

    def _theta(self, moments: Floats) -> Floats:
        """[A, F]"""
        solved: Floats = np.einsum("afg,ag->af", self.inverse, moments)
        return solved

    def _learn(self, replay: Replay, queries: Ints, context: Floats) -> float:
        """One pass over the queries; returns the mean reward on the way."""
        world = Simulator(replay, Profile.load(self.profile), self.seed, self.cost_unit)
        order = queries[draw(self.seed, Purpose.ORDER, np.arange(len(queries))).argsort()]
        at = draw(self.seed, Purpose.PENALTY, np.arange(len(queries))) % np.uint64(len(SETTINGS))
        penalty = np.array(SETTINGS)[at.astype(np.int64)]
        total = 0.0
        for step, query in enumerate(order):
            episode = world.reset(order[step : step + 1], np.array([step]), penalty[step : step + 1])
            seen = world.observe(episode)
            price = seen.price[0, self.model_of_arm]
            expected = np.maximum(self._theta(self.costs) @ context[query], 0.0) * price
            guess = self.guess(step, context[query])
            value = reward(np.maximum(guess, 0.0), expected, penalty[step], self.cost_unit)
            value = value + BREAKS_TIES * guess - 1e-9 * expected / self.cost_unit
            value[~seen.on_offer[0, self.model_of_arm]] = -np.inf
            arm = int(value.argmax())
            world.step(episode, Action(np.array([[arm]]), np.array([int(Final.ADOPT)])))
            self._update(arm, context[query], float(episode.score[0]), float(episode.cost[0]) / price[arm])
            total += float(episode.reward[0])
        return total / len(order)

    def _update(self, arm: int, context: Floats, score: float, list_cost: float) -> None:
        """Sherman–Morrison: A⁻¹ after A has grown by x xᵀ."""
        along = self.inverse[arm] @ context
        self.inverse[arm] -= np.outer(along, along) / (1.0 + context @ along)
        self.scores[arm] += score * context
        self.costs[arm] += list_cost * context

    def _context(self, replay: Replay, queries: Ints) -> Floats:
        names = np.unique(replay.domains[queries])
        domain = (replay.domains[:, None] == names).astype(np.float64)
        text = text_features(replay, queries)
        known = text[queries]
        centre = known.mean(axis=0)
        _, singular, directions = np.linalg.svd(known - centre, full_matrices=False)
        kept = directions[:DIRECTIONS].T / (singular[:DIRECTIONS] / np.sqrt(len(queries)) + 1e-9)
        return np.hstack([domain, np.ones((len(domain), 1)), TEXT_SCALE * (text - centre) @ kept])


class Thompson(LinUCB):
    """Chance: calls the arm that earns most under a draw from what it believes. `alpha` scales the belief's spread."""

    name = "thompson"

    def guess(self, step: int, context: Floats) -> Floats:
        uncertainty = np.sqrt(np.einsum("f,afg,g->a", context, self.inverse, context))
        # xᵀθ̃ with θ̃ ~ N(θ, α² A⁻¹) is normal with this mean and spread: no need to draw the whole of θ̃.
        noise = normal(self.seed, Purpose.POLICY, step, np.arange(len(uncertainty)))
        drawn: Floats = self._theta(self.scores) @ context + self.alpha * uncertainty * noise
        return drawn
