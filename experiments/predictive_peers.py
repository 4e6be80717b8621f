"""Do the predictive routers here reproduce the figures that the field's recipes have on RouterBench's data?

    xrouter-sim import tidy routerbench.parquet --db data/routerbench.duckdb
    python experiments/predictive_peers.py --db data/routerbench.duckdb

Fits each on the training queries with several seeds, plays the test queries at every λ and prints, for each router, its
AIQ (range form: over the mean test costs from the cheapest to the dearest single model) beside the known figure, and
its mean reward at four λ. `linear` is the AIQ under RouterBench's own rule, which maximises w · score − cost over
willingness to pay w. What it should show: the recipes as published are within .005 of their figures, and with what they
smooth by chosen on training queries all families end within .005 of the table of domains.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import polars as pl
import torch

from xrouter_sim.engine.profile import Profile
from xrouter_sim.evaluation.bench import decide
from xrouter_sim.evaluation.metrics import aiq
from xrouter_sim.features import FeatureSpec
from xrouter_sim.replay import Floats, Replay, cost_unit
from xrouter_sim.reward import SETTINGS
from xrouter_sim.routers import ROUTERS
from xrouter_sim.routers.base import Router, SingleShot
from xrouter_sim.routers.clusters import AvengersPro, Clusters
from xrouter_sim.routers.factorisation import Factorisation
from xrouter_sim.routers.knn import NearestNeighbour
from xrouter_sim.routers.linear import SupportVector
from xrouter_sim.routers.logistic import Logistic
from xrouter_sim.routers.mlp import NeuralNetwork
from xrouter_sim.routers.oracle import Oracle
from xrouter_sim.routers.predictive import Predictive, expected_cost
from xrouter_sim.routers.table import Table

RECIPES: dict[str, tuple[float, Callable[[], Router]]] = {
    "kNN(10)": (0.794, lambda: NearestNeighbour(10)),
    "kNN(100)": (0.855, lambda: NearestNeighbour(100)),
    "MLP(100), 200 passes, one an arm": (0.740, lambda: NeuralNetwork(1e-4, passes=200, rate=1e-3, shared=False)),
    "linear SVR, absolute loss, C = 1": (0.733, lambda: SupportVector(1.0, "absolute")),
    "Avengers-Pro, 16 clusters": (0.851, lambda: AvengersPro(16)),
    "Avengers-Pro, 60 clusters": (0.851, lambda: AvengersPro(60)),
    "matrix factorisation": (0.850, Factorisation),
    "logistic regression": (0.857, Logistic),
    "10 clusters": (0.857, lambda: Clusters(10)),
    "table of domains": (0.856, Table),
    "oracle": (0.971, Oracle),
}
"""Known figures (AIQ) and the setting that should have them."""

DEFAULTS = ("knn", "linear", "svm", "mlp", "logistic", "factorisation", "clusters", "avengers-pro", "irt")
REWARDS = (0.0, 0.5, 1.0, 2.0)
WILLINGNESS = np.geomspace(1e-4, 1e2, 100)


class Bench:
    """Test queries at every λ, and what the curves are measured over."""

    def __init__(self, db: Path) -> None:
        self.replay = Replay.load(db)
        self.train, self.test = self.replay.indices("train"), self.replay.indices("test")
        self.unit = cost_unit(self.replay, self.train)
        self.score, self.cost = self.replay.mean_score[self.test], self.replay.mean_cost[self.test]
        single = self.cost.mean(axis=0)
        self.low, self.high = single.min(), single.max()
        expected_cost(self.replay, self.train, FeatureSpec())  # so that nobody's time to fit has the embedding in it

    def aiq(self, cost: Floats, score: Floats) -> float:
        return float(aiq(cost, score, self.low, self.high))

    def measure(self, router: Router, seed: int) -> dict[str, float]:
        started = time.perf_counter()
        router.fit(self.replay, self.train, self.unit, seed)
        seconds = time.perf_counter() - started
        frame = decide([router], self.replay, self.test, Profile(), SETTINGS, seed, self.unit, 65_536)
        curve = frame.group_by("setting").agg(pl.col("cost_usd", "score", "reward").mean())
        found = {"aiq": self.aiq(curve["cost_usd"].to_numpy(), curve["score"].to_numpy())}
        if isinstance(router, SingleShot):
            found["linear"] = self._linear(router)
        reward = dict(curve.select("setting", "reward").iter_rows())
        found |= {f"R({penalty:g})": reward[penalty] for penalty in REWARDS}
        if isinstance(router, Predictive):
            found["setting"] = router.chosen
        return found | {"fit seconds": seconds}

    def _linear(self, router: SingleShot) -> float:
        worth = WILLINGNESS[:, None, None] * router.predicted_score[self.test] - router.predicted_cost[self.test]
        choice = worth.argmax(axis=2)[:, :, None]
        cost, score = (
            np.take_along_axis(each[None], choice, axis=2).mean(axis=(1, 2)) for each in (self.cost, self.score)
        )
        return self.aiq(cost, score)


@click.command()
@click.option("--db", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True, help="The store.")
@click.option("--seeds", default=5, show_default=True, help="How many.")
@click.option("--only", multiple=True, help="Part of a row's name; may be given again.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def main(db: Path, seeds: int, only: tuple[str, ...], as_json: bool) -> None:
    """Known figures of predictive routers, and what they are here (means over seeds)."""
    torch.set_num_threads(1)
    bench = Bench(db)
    rows = {name: make for name, (_, make) in RECIPES.items()} | {name: ROUTERS[name] for name in DEFAULTS}
    zero = bench.aiq(bench.cost.mean(axis=0), bench.score.mean(axis=0))
    show({"router": "zero router", "known": 0.823, "aiq": zero}, as_json)
    for name, make in rows.items():
        if not only or any(part in name for part in only):
            runs = pl.DataFrame([bench.measure(make(), seed) for seed in range(seeds)])
            known = {"known": RECIPES[name][0]} if name in RECIPES else {}
            spread = {"sd of aiq": runs["aiq"].std() or 0.0}
            show({"router": name} | known | {each.name: each.mean() for each in runs} | spread, as_json)


def show(row: dict[str, object], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(row))
        return
    name, *figures = row.items()
    click.echo(f"{name[1]:34}" + "  ".join(f"{key} {value:.4g}" for key, value in figures))


if __name__ == "__main__":
    main()
