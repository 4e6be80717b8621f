"""Routers: one file a family. A new one is a file and a line here; a package of your own announces its class as an
entry point of `xrouter_sim.routers`."""

from collections.abc import Callable

from responses_db.plugins import plugins
from xrouter_sim.routers.automix import AutoMix, ThresholdAutoMix
from xrouter_sim.routers.bandit import LinUCB, Thompson
from xrouter_sim.routers.base import Router
from xrouter_sim.routers.cascade import Cascade
from xrouter_sim.routers.cascade_routing import CascadeRouting, NoisyCascadeRouting
from xrouter_sim.routers.clusters import AvengersPro, Clusters
from xrouter_sim.routers.factorisation import Factorisation
from xrouter_sim.routers.fixed import Cheapest, Random
from xrouter_sim.routers.irt import ItemResponse
from xrouter_sim.routers.knn import NearestNeighbour
from xrouter_sim.routers.linear import Linear, SupportVector
from xrouter_sim.routers.logistic import Logistic
from xrouter_sim.routers.mlp import NeuralNetwork
from xrouter_sim.routers.oracle import Oracle
from xrouter_sim.routers.table import Table

ROUTERS: dict[str, Callable[[], Router]] = {
    "random": Random,
    "cheapest": Cheapest,
    "table": Table,
    "knn": NearestNeighbour,
    "linear": Linear,
    "svm": SupportVector,
    "mlp": NeuralNetwork,
    "logistic": Logistic,
    "factorisation": Factorisation,
    "clusters": Clusters,
    "avengers-pro": AvengersPro,
    "irt": ItemResponse,
    "cascade": Cascade,
    "cascade-routing": CascadeRouting,
    "cascade-routing-noise": NoisyCascadeRouting,
    "automix": AutoMix,
    "automix-threshold": ThresholdAutoMix,
    "linucb": LinUCB,
    "thompson": Thompson,
    "oracle": Oracle,
}
ROUTERS |= plugins("routers", (*ROUTERS, "rl", "llm"))
"""Routers by name that are fitted at once, without the simulator; `rl` and `always:ARM` stand beside them."""

BASELINES = ("random", "cheapest", "table", "knn", "cascade", "oracle")
"""Names of those that stand in every comparison, beside `always:ARM` for each arm."""

FITTED_ONCE = frozenset({"cheapest", "table", "knn", "linear", "logistic", "oracle"})
"""Names of those whose `fit` does not depend on the seed: one fit serves all seeds, as for `always:ARM`."""
