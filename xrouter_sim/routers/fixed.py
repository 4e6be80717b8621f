"""Routers that learn nothing about a query: one arm always, a random one, the cheapest one."""

from typing import ClassVar

import numpy as np

from xrouter_sim.engine.episodes import Observation
from xrouter_sim.engine.randomness import Purpose, uniform
from xrouter_sim.engine.semantics import Action, Final
from xrouter_sim.replay import Floats, Ints, Replay
from xrouter_sim.routers.base import Kind, Router, callable_arms


class Ranked(Router):
    """Calls the arm of least rank and takes what comes; falls back to the next one when the call fails."""

    kind: ClassVar[Kind] = "fixed"
    mean_cost: Floats  # [A] USD a query on the training queries
    model_of_arm: Ints

    def fit(self, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> None:
        self.mean_cost = replay.mean_cost[queries].mean(axis=0)
        self.model_of_arm = replay.model_of_arm

    def rank(self, observation: Observation) -> Floats:
        """[B, A] cheapest first at today's prices."""
        cost: Floats = self.mean_cost * observation.price[:, self.model_of_arm]
        return cost

    def act(self, observation: Observation) -> Action:
        rank = self.rank(observation)
        rank[~callable_arms(observation, self.model_of_arm)] = np.inf
        return Action.call(rank.argmin(axis=1), Final.ADOPT)


class Cheapest(Ranked):
    """The cheapest arm at today's prices."""

    name = "cheapest"
    reads = ("prices",)


class Always(Ranked):
    """One arm, whatever it costs; the cheapest of the others where it is not on offer or fails."""

    reads = ()

    def __init__(self, arm: int, arm_name: str) -> None:
        self.arm, self.name = arm, f"always:{arm_name}"

    def rank(self, observation: Observation) -> Floats:
        rank = super().rank(observation)
        rank[:, self.arm] = -1.0
        return rank


class Random(Ranked):
    """Any arm on offer, with equal chance."""

    name = "random"
    reads = ()

    def fit(self, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> None:
        super().fit(replay, queries, cost_unit, seed)
        self.seed = seed

    def rank(self, observation: Observation) -> Floats:
        arms = np.arange(len(self.mean_cost))
        return uniform(self.seed, Purpose.POLICY, observation.key[:, None], observation.turn[:, None], arms)
