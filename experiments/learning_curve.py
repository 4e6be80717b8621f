"""How much data does the RL router need, and would more help?

    xrouter-sim import tidy routerbench.parquet --db data/routerbench.duckdb
    python experiments/learning_curve.py --db data/routerbench.duckdb

Trains it on growing parts of the training queries, with the per-domain table beside it on the same part, and plays the
test queries. Prints for each part the AIQ of both (means over seeds), and the paired difference with its 95% interval
over test queries. What it should show: a curve that still rises at its end says that data is the bottleneck; one that
is flat says that evidence is.
"""

import json
from pathlib import Path

import click
import numpy as np
import torch

from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.randomness import Purpose, draw
from xrouter_sim.evaluation.bench import decide
from xrouter_sim.evaluation.metrics import aiq
from xrouter_sim.evaluation.statistics import Bootstrap, figure
from xrouter_sim.replay import Floats, Ints, Replay, cost_unit
from xrouter_sim.reward import SETTINGS
from xrouter_sim.routers.base import Router
from xrouter_sim.routers.rl import RLRouter
from xrouter_sim.routers.table import Table
from xrouter_sim.training.config import Config
from xrouter_sim.training.rl import Trainer

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)


def trained(replay: Replay, queries: Ints, unit: float, seed: int) -> RLRouter:
    router = RLRouter()
    router.fit(replay, queries, unit, seed)
    trainer = Trainer(router, replay, queries, unit, Config(seed=seed))
    trainer.run(4096, lambda _: False)
    router.network.load_state_dict(trainer.best)
    return router


def fitted(replay: Replay, queries: Ints, unit: float, seed: int) -> Table:
    table = Table()
    table.fit(replay, queries, unit, seed)
    return table


def curves(router: Router, replay: Replay, test: Ints, unit: float, seed: int) -> tuple[Floats, Floats]:
    """[λ, n] cost in USD and score on the test queries."""
    frame = decide([router], replay, test, Profile(), SETTINGS, seed, unit, 65_536).sort("setting", "query_id")
    cost, score = (frame[name].to_numpy().reshape(len(SETTINGS), -1) for name in ("cost_usd", "score"))
    return cost, score


@click.command()
@click.option("--db", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True, help="The store.")
@click.option("--seeds", default=3, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def main(db: Path, seeds: int, as_json: bool) -> None:
    """AIQ on the test queries by number of training queries."""
    torch.set_num_threads(1)
    replay = Replay.load(db)
    train, test = replay.indices("train"), replay.indices("test")
    unit, single = cost_unit(replay, train), replay.mean_cost[test].mean(axis=0)
    bootstrap = Bootstrap(len(test), 1000)

    def aiqs(router: Router, seed: int) -> Floats:
        """[1 + replicates]"""
        cost, score = (bootstrap.means(values) for values in curves(router, replay, test, unit, seed))
        ends = single.min(), single.max()
        return np.array([aiq(c, s, *ends) for c, s in zip(cost, score, strict=True)])

    for share in SHARES:
        both: list[tuple[Floats, Floats]] = []
        for seed in range(seeds):
            order = np.argsort(draw(seed, Purpose.SPLIT, train), kind="stable")
            part = np.sort(train[order[: round(share * len(train))]])
            both.append((aiqs(trained(replay, part, unit, seed), seed), aiqs(fitted(replay, part, unit, seed), seed)))
        rl, table = np.mean(both, axis=0)
        ahead = figure(rl - table).to_json()
        row = {"training queries": round(share * len(train)), "rl": rl[0], "table": table[0], "rl - table": ahead}
        if as_json:
            click.echo(json.dumps(row))
        else:
            interval = f"{ahead['value']:+.4f} [{ahead['low']:+.4f}, {ahead['high']:+.4f}]"
            click.echo(f"{row['training queries']:>6,} queries  rl {rl[0]:.4f}  table {table[0]:.4f}  {interval}")


if __name__ == "__main__":
    main()
