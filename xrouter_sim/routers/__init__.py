"""Routers: one file a family. A new one is a file and a line here."""

from collections.abc import Callable

from xrouter_sim.routers.base import Router
from xrouter_sim.routers.cascade import Cascade
from xrouter_sim.routers.fixed import Cheapest, Random
from xrouter_sim.routers.knn import NearestNeighbour
from xrouter_sim.routers.oracle import Oracle
from xrouter_sim.routers.table import Table

BASELINES: dict[str, Callable[[], Router]] = {
    "random": Random,
    "cheapest": Cheapest,
    "table": Table,
    "knn": NearestNeighbour,
    "cascade": Cascade,
    "oracle": Oracle,
}
"""Routers by name that need no training in the simulator; `always:ARM` stands beside them for each arm."""
