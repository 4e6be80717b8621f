"""From a store to a run's folder: fit or train a router, put it beside the baselines, write down what they decided."""

import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import polars as pl
import torch

from responses_db import LabError
from responses_db.plugins import from_file, names_file
from responses_db.store import versions
from xrouter_sim.costs import Costs
from xrouter_sim.engine.profile import Profile
from xrouter_sim.evaluation import bench
from xrouter_sim.evaluation.predictions import predictions
from xrouter_sim.files import written_whole
from xrouter_sim.replay import Ints, Replay, cost_unit
from xrouter_sim.routers import ROUTERS
from xrouter_sim.routers.base import Router
from xrouter_sim.routers.blind import PriceBlind
from xrouter_sim.routers.fixed import Always
from xrouter_sim.routers.rl import RL, RLRouter, is_trained
from xrouter_sim.training import checkpoint
from xrouter_sim.training.config import Config, config_as_dict, config_from
from xrouter_sim.training.rl import Trainer

Say = Callable[[str], None]

ROBUSTNESS, TWINS = "robustness.parquet", "price_blind.parquet"
"""Decisions in other worlds: of the routers, and of their twins that see list prices only."""


@dataclass(frozen=True)
class Ground:
    """What routers that are compared have in common."""

    replay: Replay
    train: Ints
    test: Ints
    unit: float
    """Of cost, in USD; a placeholder where costs are left out."""
    settings: tuple[float, ...]
    """λ to evaluate at."""

    @classmethod
    def load(cls, db: Path, costs: Costs) -> Self:
        """Read a store once for all routers. Raises LabError when it cannot be used."""
        replay = Replay.load(db, costs)
        train, test = replay.indices("train"), replay.indices("test")
        return cls(replay, train, test, cost_unit(replay, train), costs.settings)


@dataclass
class Task:
    """What to train, on what, and where to put it."""

    router: str
    db: Path
    out: Path
    config: Config
    batch_size: int = 4096
    """Episodes stepped at once: speed and memory, never a result."""
    resume: bool = False
    overwrite: bool = False
    after_update: Callable[[Trainer], bool] = field(default=lambda trainer: False)
    """Called after each update of the RL router; true stops the training there, to be resumed."""
    say: Say = field(default=lambda line: None)
    costs: Costs = field(default_factory=Costs)
    profiles: tuple[str, ...] = bench.ROBUSTNESS_PROFILES
    """Worlds beside the calm one, for the file on robustness."""
    robustness_settings: tuple[float, ...] = bench.ROBUSTNESS_SETTINGS
    twins: bool = False
    """Whether the routers' price-blind twins are played in those worlds too, into a file of their own."""
    also: Callable[[Router], dict[str, Any]] = field(default=lambda router: {})
    """Called when the decisions are written; what it returns goes into the manifest."""


@dataclass
class Ready:
    """A router that is fitted and trained, and what that took."""

    router: Router
    seconds: float
    curve: list[dict[str, Any]] | None = None
    training: dict[str, Any] = field(default_factory=dict)


def run(task: Task) -> bool:
    """Train, evaluate beside the baselines and write the folder. Returns False when training was stopped early.

    Raises LabError when the store cannot be used, the router's name is unknown, or the folder holds something else.
    """
    task.say(f"reading {task.db}")
    ground, started = Ground.load(task.db, task.costs), datetime.now(UTC)
    router = make(task.router, ground.replay)
    check_folder(task, router)
    others = [other for other in bench.baselines(ground.replay) if other.name != router.name]
    task.say(f"fitting {router.name} and {len(others)} baselines on {len(ground.train)} training queries")
    for other in others:
        other.fit(ground.replay, ground.train, ground.unit, task.config.seed)
    ready = prepare(task, ground, router)
    if ready is None:
        return False
    write(task, ground, ready, others, started)
    return True


def prepare(task: Task, ground: Ground, router: Router) -> Ready | None:
    """Fit a router, and train it where it is one to train; None when training was stopped before its end."""
    torch.set_num_threads(1)  # threads on shared cores cost more than they bring, and change the last bits
    clock = time.perf_counter()
    router.fit(ground.replay, ground.train, ground.unit, task.config.seed)
    if not isinstance(router, RLRouter):
        return Ready(router, time.perf_counter() - clock)
    trainer = Trainer(router, ground.replay, ground.train, ground.unit, task.config)
    if not _train(task, trainer, str(ground.replay.store["content_hash"])):
        return None
    training = {
        "chosen": trainer.chosen,
        "chosen_update": trainer.best_update,
        "validation_reward": trainer.best_reward,
    }
    return Ready(router, time.perf_counter() - clock, trainer.curve, training)


def write(task: Task, ground: Ground, ready: Ready, others: list[Router], started: datetime) -> None:
    """Play the test queries and write the run's folder, the manifest last: without it a folder is no run."""
    clock = time.perf_counter()
    task.say(f"playing {len(ground.test)} test queries at {len(ground.settings)} λ with {1 + len(others)} routers")
    for name in ("manifest.json", "training.parquet", "predictions.parquet"):  # so that old and new files never mix
        (task.out / name).unlink(missing_ok=True)
    routers = [ready.router, *others]
    _write_decisions(task, ground, routers)
    foretold = predictions(routers, ground.replay, ground.test, task.config.seed)
    if foretold.height:
        write_parquet(foretold, task.out / "predictions.parquet")
    if ready.curve is not None:
        write_parquet(pl.DataFrame(ready.curve, infer_schema_length=None), task.out / "training.parquet")
    seconds = {"train": ready.seconds, "evaluate": time.perf_counter() - clock}
    manifest = _manifest(task, ground, routers, started, seconds) | {"training": ready.training}
    manifest |= task.also(ready.router)
    with written_whole(task.out / "manifest.json") as fresh:
        fresh.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def make(name: str, replay: Replay) -> Router:
    """An unfitted router by name. Raises LabError on an unknown one."""
    if is_trained(name):
        return RLRouter.named(name)
    if name in ROUTERS:
        return ROUTERS[name]()
    if name.startswith("always:") and name.removeprefix("always:") in replay.arm_names:
        arm = name.removeprefix("always:")
        return Always(replay.arm_names.index(arm), arm)
    if names_file(name):
        return _own(name)
    known = ", ".join([RL, *ROUTERS, f"always:{replay.arm_names[0]} …"])
    raise LabError(f"no router {name!r}: choose one of {known}; or name one of your own, as mine.py:Mine")


def _own(name: str) -> Router:
    """The router of a user's file, FILE.py:CLASS. What it is called must not be another's name."""
    try:
        router = from_file(name)()
    except TypeError as error:
        raise LabError(f"{name} makes no router when it is called without arguments: {error}") from error
    if not isinstance(router, Router):
        raise LabError(f"{name} is no router: derive it from xrouter_sim.routers.base.Router, or SingleShot")
    if router.name in ROUTERS or is_trained(router.name):
        raise LabError(f"{name} calls itself {router.name!r}, as a router of the lab does: give it another `name`")
    return router


def check_folder(task: Task, router: Router) -> None:
    """Make the folder. Raises LabError rather than lose an unfinished training."""
    if (
        (task.out / checkpoint.FILE).exists()
        and isinstance(router, RLRouter)
        and not task.resume
        and not task.overwrite
    ):
        facts = checkpoint.read_facts(task.out)
        if facts["update"] < facts["config"]["updates"]:
            raise LabError(
                f"{task.out} holds a training stopped at update {facts['update']} of {facts['config']['updates']}: "
                "go on with --resume, or start anew with --overwrite"
            )
    if task.out.exists() and not task.out.is_dir():
        raise LabError(f"{task.out} is a file: give another --out")
    task.out.mkdir(parents=True, exist_ok=True)


def _train(task: Task, trainer: Trainer, store_hash: str) -> bool:
    if task.resume and (task.out / checkpoint.FILE).exists():
        facts = checkpoint.read_facts(task.out)
        if facts["store_hash"] != store_hash or config_from(facts["config"]) != task.config:
            what = "another store" if facts["store_hash"] != store_hash else "other settings"
            raise LabError(f"{task.out} was trained on {what}: resume with the same, or start anew with --overwrite")
        checkpoint.restore(trainer, task.out)
        task.say(f"going on from update {trainer.update} of {task.config.updates}")
    else:
        (task.out / checkpoint.FILE).unlink(missing_ok=True)

    def after_update(trainer: Trainer) -> bool:
        stop = task.after_update(trainer)
        checkpoint.save(trainer, task.out, store_hash)
        return stop

    finished = trainer.run(task.batch_size, after_update)
    trainer.router.network.load_state_dict(trainer.best)
    return finished


def _write_decisions(task: Task, ground: Ground, routers: list[Router]) -> None:
    def played(routers: list[Router], world: Profile, settings: tuple[float, ...]) -> pl.DataFrame:
        seed, unit = task.config.seed, ground.unit
        return bench.decide(routers, ground.replay, ground.test, world, settings, seed, unit, task.batch_size)

    write_parquet(played(routers, Profile(), ground.settings), task.out / "decisions.parquet")
    settings = tuple(at for at in task.robustness_settings if at in ground.settings) or ground.settings
    twins: list[Router] = [PriceBlind(each) for each in routers if "prices" in each.reads and each.kind != "oracle"]
    for file, players in ((ROBUSTNESS, routers), (TWINS, twins if task.twins else [])):
        (task.out / file).unlink(missing_ok=True)
        frames = [
            played(players, bench.world_of(ground.replay, name), settings).with_columns(profile=pl.lit(name))
            for name in task.profiles
            if players
        ]
        if frames:
            write_parquet(pl.concat(frames), task.out / file)


def _manifest(
    task: Task, ground: Ground, routers: list[Router], started: datetime, seconds: dict[str, float]
) -> dict[str, Any]:
    replay, worlds = ground.replay, {name: bench.world_of(ground.replay, name) for name in task.profiles}
    splits = {split: len(replay.indices(split)) for split in sorted(set(replay.splits.tolist()))}
    return {
        "name": task.out.resolve().name,
        "router": routers[0].name,
        "command": shlex.join(["xrouter-sim", *sys.argv[1:]]),
        "config": config_as_dict(task.config) if is_trained(task.router) else {"seed": task.config.seed},
        "seed": task.config.seed,
        "store": replay.store | {"queries": splits, "models": replay.model_ids, "prompt_styles": replay.prompt_styles},
        "cost_unit_usd": ground.unit if replay.priced else None,
        "settings": list(ground.settings),
        "features": {"query": "TF-IDF and truncated SVD of the question, lexical counts (no language model)"},
        "profile": Profile().as_dict(),
        "robustness_profiles": {name: world.as_dict() for name, world in worlds.items()},
        "versions": versions(),
        "started_at": started.isoformat(timespec="seconds"),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "reads": {router.name: list(router.reads) for router in routers},
        "kinds": {router.name: router.kind for router in routers},
    }


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    """Write a table; a kill at any moment leaves the old file or the new one."""
    with written_whole(path) as fresh:
        frame.write_parquet(fresh, compression="zstd")
