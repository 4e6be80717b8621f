"""What a router is without its eyes for prices: the same policy, shown the list price of every model."""

from dataclasses import fields

import numpy as np

from xrouter_sim.engine.episodes import Observation
from xrouter_sim.engine.semantics import Action
from xrouter_sim.replay import Ints, Replay
from xrouter_sim.routers.base import Router

SUFFIX = ":list-prices"
"""Behind the name of a router: its price-blind twin."""


class PriceBlind(Router):
    """A fitted router that acts as if every price were the price card's.

    What it has spent so far it still sees: bills come in whoever reads prices.
    """

    def __init__(self, router: Router) -> None:
        self.router, self.name = router, router.name + SUFFIX
        self.kind, self.reads = router.kind, tuple(part for part in router.reads if part != "prices")  # type: ignore[misc]

    def fit(self, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> None:
        """Fits the router it wraps."""
        self.router.fit(replay, queries, cost_unit, seed)

    def act(self, observation: Observation) -> Action:
        seen = Observation(**{field.name: getattr(observation, field.name) for field in fields(observation)})
        seen.price = np.ones_like(observation.price)
        return self.router.act(seen)
