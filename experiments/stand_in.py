"""Claim: a served router loses little by routing a text that no store holds as the known question nearest to it.

Test queries are routed twice on the same episodes: by what the router predicts for them, and by what it predicts for
the training query nearest by cosine of embeddings, as `xrouter_sim/serving/kin.py` does with new text. Printed: reward
at several λ of both, and the paired difference with its 95% interval.

    python experiments/stand_in.py data/responses.duckdb knn table rl --run runs/demo
"""

import argparse
import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.rollout import play
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.features import FeatureSpec
from xrouter_sim.replay import Ints, Replay, cost_unit
from xrouter_sim.routers.base import Router, SingleShot
from xrouter_sim.routers.predictive import nearest, question_features
from xrouter_sim.routers.rl import RLRouter
from xrouter_sim.simulation import fitted

PENALTIES = (0.0, 0.2, 1.0, 5.0)


def standing_in(router: Router, test: Ints, near: Ints) -> Router:
    """The router with the tables of the `near` queries in place of those of `test`."""
    other = copy.copy(router)
    if isinstance(other, SingleShot):
        for name in ("predicted_score", "predicted_cost"):
            table = getattr(router, name).copy()
            table[test] = table[near]
            setattr(other, name, table)
    elif isinstance(other, RLRouter):
        encoder = copy.copy(other.encoder)
        score, cost = encoder.prior.score.copy(), encoder.prior.cost.copy()
        score[test], cost[test] = score[near], cost[near]
        encoder.prior = replace(encoder.prior, score=score, cost=cost)
        for name in ("prior_score", "prior_cost", "table"):
            table = getattr(encoder, name).clone()
            table[torch.from_numpy(test)] = table[torch.from_numpy(near)]
            setattr(encoder, name, table)
        other.encoder = encoder
    else:
        raise SystemExit(f"{router.name}: only single-shot routers and rl are measured here")
    return other


def main() -> None:
    """Measure the routers that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("db", type=Path)
    parser.add_argument("routers", nargs="+")
    parser.add_argument("--run", type=Path, help="folder of a trained rl router")
    arguments = parser.parse_args()
    replay = Replay.load(arguments.db)
    train, test = replay.indices("train"), replay.indices("test")
    unit, features = cost_unit(replay, train), question_features(replay, FeatureSpec())
    near = train[nearest(features[train], features[test], 1)[:, 0]]
    print(f"{len(test)} test queries; the nearest one is of their domain for", end=" ")
    print(f"{(replay.domains[near] == replay.domains[test]).mean():.1%}")
    simulator = Simulator(replay, Profile(), 0, unit)
    for name in arguments.routers:
        router = fitted(name, replay, train, unit, 0, arguments.run if name == "rl" else None)
        both = router, standing_in(router, test, near)
        for penalty in PENALTIES:
            key, at = np.arange(len(test)), np.full(len(test), penalty)
            own, stand_in = (play(each.act, simulator, test, key, at).reward for each in both)
            difference = stand_in - own
            half = 1.96 * difference.std() / np.sqrt(len(test))
            print(
                f"{name:<6} λ={penalty:<4g} reward {own.mean():.3f}, by stand-ins {stand_in.mean():.3f}: "
                f"{difference.mean():+.3f} ± {half:.3f}"
            )


if __name__ == "__main__":
    main()
