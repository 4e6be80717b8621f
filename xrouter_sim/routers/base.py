"""What every router is: fit on training queries, act on observations, saved without pickle."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import numpy as np

from xrouter_sim.engine.episodes import Observation
from xrouter_sim.engine.semantics import NO_CALL, Action, Final
from xrouter_sim.replay import Bools, Floats, Ints, Replay
from xrouter_sim.reward import reward

Kind = Literal["fixed", "single-shot", "sequential", "rl", "oracle"]


class Router(ABC):
    """A policy over routing actions, batch-first. `reads` says which parts of an observation it uses."""

    name: str
    kind: ClassVar[Kind]
    reads: ClassVar[tuple[str, ...]]

    @abstractmethod
    def fit(self, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> None:
        """Learn from these queries ([n] indices into the replay) alone; be ready to act on any query of the replay."""

    @abstractmethod
    def act(self, observation: Observation) -> Action:
        """One action for each episode."""


class SingleShot(Router):
    """Predicts each arm's score and cost from the query, calls the best arm once and takes what comes.

    The best arm maximises the expected success-gated reward at the λ it is told and today's prices. A call that fails
    falls back to the next best arm.
    """

    kind: ClassVar[Kind] = "single-shot"
    predicted_score: Floats  # [Q, A]
    predicted_cost: Floats  # [Q, A] USD at list price
    cost_unit: float
    model_of_arm: Ints

    def act(self, observation: Observation) -> Action:
        cost = self.predicted_cost[observation.query] * observation.price[:, self.model_of_arm]
        worth = self.worth(self.predicted_score[observation.query], cost, observation.penalty[:, None])
        worth[~callable_arms(observation, self.model_of_arm)] = -np.inf
        return Action.call(worth.argmax(axis=1), Final.ADOPT)

    def worth(self, score: Floats, cost: Floats, penalty: Floats) -> Floats:
        """[B, A] what is maximised, of expected scores and costs in USD at today's prices [B, A] and λ [B, 1]."""
        # Where everything is too dear the product is 0 for all: then less cost breaks the tie.
        return reward(score, cost, penalty, self.cost_unit) - 1e-9 * cost / self.cost_unit


def callable_arms(observation: Observation, model_of_arm: Ints) -> Bools:
    """[B, A] arms on offer that have not been called in this episode."""
    allowed: Bools = observation.on_offer[:, model_of_arm]
    rows, slots = np.nonzero(observation.arm != NO_CALL)
    allowed[rows, observation.arm[rows, slots]] = False
    return allowed
