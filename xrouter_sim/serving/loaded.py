"""A trained run as a router that is ready to serve: fitted on its store, with the weights that training chose."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from responses_db import LabError
from xrouter_sim.costs import Costs
from xrouter_sim.replay import Replay, cost_unit
from xrouter_sim.routers.base import Router
from xrouter_sim.routers.rl import is_trained
from xrouter_sim.serving.kin import Kin
from xrouter_sim.simulation import fitted


@dataclass(frozen=True)
class Loaded:
    """A router, the replay it was fitted on, and what is known of both."""

    router: Router
    replay: Replay
    kin: Kin
    cost_unit: float
    seed: int


def load_run(run: Path, db: Path | None) -> Loaded:
    """What `train` left in a folder; `db` where the store has moved. LabError for anything that does not fit.

    Routers other than rl are fitted here anew, on the training queries, with the run's seed: the same fit.
    """
    manifest = _manifest(run)
    try:
        store, name, seed = manifest["store"], str(manifest["router"]), int(manifest["seed"])
        trained_on, told, costs = Path(store["path"]), store["content_hash"], store.get("costs", {})
    except (KeyError, TypeError, ValueError) as error:
        raise LabError(f"{run}/manifest.json is not as `train` writes it ({error!r}): train anew") from error
    if costs.get("kind") == "none":
        raise LabError(f"{run} was trained without costs, so its λ means nothing: train on a store with prices")
    path = db or trained_on
    if not path.is_file():
        raise LabError(f"{run} was trained on {path}, which is not here: say where it is with --db")
    replay = Replay.load(path, Costs(nominal=dict(costs.get("nominal_usd_a_call", {}))))
    if replay.store["content_hash"] != told:
        raise LabError(f"{run} was trained on another store than {path}: give that one as --db, or train on this one")
    train = replay.indices("train")
    unit = cost_unit(replay, train)
    router = fitted(name, replay, train, unit, seed, run if is_trained(name) else None)
    if router.kind == "oracle":
        raise LabError(f"{name} knows the scores, which nobody does outside the lab: serve another run")
    return Loaded(router, replay, Kin(replay, router), unit, seed)


def _manifest(run: Path) -> dict[str, Any]:
    path = run / "manifest.json"
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise LabError(f"{run} holds no manifest.json: give the folder of a finished `xrouter-sim train`") from None
    except (OSError, ValueError, RecursionError) as error:
        raise LabError(f"{path} cannot be read ({error}): train anew") from error
    if not isinstance(manifest, dict):
        raise LabError(f"{path} is not as `train` writes it: train anew")
    return manifest
