"""The clairvoyant oracle: knows every grade before it calls. A bound, not a router anyone could run."""

from typing import ClassVar

import numpy as np

from xrouter_sim.bounds.base import NO_ARM, best
from xrouter_sim.engine.episodes import Observation
from xrouter_sim.engine.semantics import Action, Final
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.replay import Ints, Replay
from xrouter_sim.reward import reward
from xrouter_sim.routers.base import Kind, Router, callable_arms


class Oracle(Router):
    """Calls the arm whose coming response earns most at the λ it is told, the cheapest one where that is a tie.

    With λ = 0 it is RouterBench's oracle: the cheapest correct response, else the cheapest. It does not foresee
    failures: after one it takes the next best arm.
    """

    name = "oracle"
    kind: ClassVar[Kind] = "oracle"
    reads = ("scores", "prices", "penalty")

    def fit(self, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> None:
        self.replay = replay

    def watch(self, simulator: Simulator) -> None:
        """Look into the world in which it is about to act."""
        self.simulator = simulator

    def act(self, observation: Observation) -> Action:
        arms, query = np.arange(self.replay.arms), observation.query[:, None]
        sample = self.simulator.first_sample(query, observation.key[:, None], arms)
        cost = self.replay.cost_usd[query, arms, sample] * observation.price[:, self.replay.model_of_arm]
        unit = self.simulator.cost_unit
        value = reward(self.replay.score[query, arms, sample], cost, observation.penalty[:, None], unit)
        possible = callable_arms(observation, self.replay.model_of_arm)
        wins = best(np.where(possible, value, -1.0), cost)
        cheapest = np.where(possible, cost, np.inf).argmin(axis=1)
        return Action.call(np.where(wins == NO_ARM, cheapest, wins), Final.ADOPT)
