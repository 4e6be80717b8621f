"""Routers: one file a family. A new one is a file and a line here."""

from collections.abc import Callable

from xrouter_sim.routers.base import Router
from xrouter_sim.routers.cascade import Cascade
from xrouter_sim.routers.fixed import Cheapest, Random
from xrouter_sim.routers.knn import NearestNeighbour
from xrouter_sim.routers.oracle import Oracle
from xrouter_sim.routers.table import Table

ROUTERS: dict[str, Callable[[], Router]] = {
    "random": Random,
    "cheapest": Cheapest,
    "table": Table,
    "knn": NearestNeighbour,
    "cascade": Cascade,
    "oracle": Oracle,
}
"""Routers by name that are fitted at once, without the simulator; `rl` and `always:ARM` stand beside them."""

BASELINES = ("random", "cheapest", "table", "knn", "cascade", "oracle")
"""Names of those that stand in every comparison, beside `always:ARM` for each arm."""
