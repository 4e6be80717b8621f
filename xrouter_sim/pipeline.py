"""From a store to a run's folder: fit or train a router, put it beside the baselines, write down what they decided."""

import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import torch

from responses_db import LabError
from responses_db.store import versions
from xrouter_sim.engine.profile import Profile
from xrouter_sim.evaluation import bench
from xrouter_sim.files import written_whole
from xrouter_sim.replay import Ints, Replay, cost_unit
from xrouter_sim.reward import SETTINGS
from xrouter_sim.routers import ROUTERS
from xrouter_sim.routers.base import Router
from xrouter_sim.routers.fixed import Always
from xrouter_sim.routers.rl import RLRouter
from xrouter_sim.training import checkpoint
from xrouter_sim.training.rl import Config, Trainer, config_as_dict, config_from

Say = Callable[[str], None]


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


def run(task: Task) -> bool:
    """Train, evaluate and write the folder. Returns False when training was stopped before its end.

    Raises LabError when the store cannot be used, the router's name is unknown, or the folder holds something else.
    """
    torch.set_num_threads(1)  # threads on shared cores cost more than they bring, and change the last bits
    started = datetime.now(UTC)
    task.say(f"reading {task.db}")
    replay = Replay.load(task.db)
    train, test = replay.indices("train"), replay.indices("test")
    unit = cost_unit(replay, train)
    router = make(task.router, replay)
    _check_folder(task, router)
    clock = time.perf_counter()
    others = [other for other in bench.baselines(replay) if other.name != router.name]
    task.say(f"fitting {router.name} and {len(others)} baselines on {len(train)} training queries")
    for each in (router, *others):
        each.fit(replay, train, unit, task.config.seed)
    curve, training = None, {}
    if isinstance(router, RLRouter):
        trainer = Trainer(router, replay, train, unit, task.config)
        if not _train(task, trainer, str(replay.store["content_hash"])):
            return False
        curve = trainer.curve
        training = {"chosen_update": trainer.best_update, "validation_reward": trainer.best_reward}
    seconds = {"train": time.perf_counter() - clock}
    clock = time.perf_counter()
    task.say(f"playing {len(test)} test queries at {len(SETTINGS)} λ with {1 + len(others)} routers")
    # The manifest goes first and comes last: without it a folder is no run, so old and new files never mix.
    for name in ("manifest.json", "training.parquet"):
        (task.out / name).unlink(missing_ok=True)
    _write_decisions(task, [router, *others], replay, test, unit)
    if curve is not None:
        _write_parquet(pl.DataFrame(curve, infer_schema_length=None), task.out / "training.parquet")
    seconds["evaluate"] = time.perf_counter() - clock
    manifest = _manifest(task, replay, [router, *others], unit, started, seconds) | {"training": training}
    with written_whole(task.out / "manifest.json") as fresh:
        fresh.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    return True


def make(name: str, replay: Replay) -> Router:
    """An unfitted router by name. Raises LabError on an unknown one."""
    if name == RLRouter.name:
        return RLRouter()
    if name in ROUTERS:
        return ROUTERS[name]()
    if name.startswith("always:") and name.removeprefix("always:") in replay.arm_names:
        arm = name.removeprefix("always:")
        return Always(replay.arm_names.index(arm), arm)
    known = ", ".join([RLRouter.name, *ROUTERS, f"always:{replay.arm_names[0]} …"])
    raise LabError(f"no router {name!r}: choose one of {known}")


def _check_folder(task: Task, router: Router) -> None:
    """Refuse to lose an unfinished training, or to resume what is another one."""
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
        if stop or trainer.update % task.config.validate_every == 0 or trainer.update == task.config.updates:
            checkpoint.save(trainer, task.out, store_hash)
        return stop

    finished = trainer.run(task.batch_size, after_update)
    trainer.router.network.load_state_dict(trainer.best)
    return finished


def _write_decisions(task: Task, routers: list[Router], replay: Replay, test: Ints, unit: float) -> None:
    seed = task.config.seed
    calm = bench.decide(routers, replay, test, Profile(), SETTINGS, seed, unit, task.batch_size)
    _write_parquet(calm, task.out / "decisions.parquet")
    frames = []
    for name in bench.ROBUSTNESS_PROFILES:
        profile = Profile.load(name)
        frame = bench.decide(routers, replay, test, profile, bench.ROBUSTNESS_SETTINGS, seed, unit, task.batch_size)
        frames.append(frame.with_columns(profile=pl.lit(name)))
    _write_parquet(pl.concat(frames), task.out / "robustness.parquet")


def _manifest(
    task: Task, replay: Replay, routers: list[Router], unit: float, started: datetime, seconds: dict[str, float]
) -> dict[str, Any]:
    splits = {split: len(replay.indices(split)) for split in sorted(set(replay.splits.tolist()))}
    return {
        "name": task.out.resolve().name,
        "router": task.router,
        "command": shlex.join(["xrouter-sim", *sys.argv[1:]]),
        "config": config_as_dict(task.config) if task.router == RLRouter.name else {"seed": task.config.seed},
        "seed": task.config.seed,
        "store": replay.store | {"queries": splits, "models": replay.model_ids, "prompt_styles": replay.prompt_styles},
        "cost_unit_usd": unit,
        "settings": list(SETTINGS),
        "features": {"query": "TF-IDF and truncated SVD of the question, lexical counts (no language model)"},
        "profile": Profile().as_dict(),
        "robustness_profiles": {name: Profile.load(name).as_dict() for name in bench.ROBUSTNESS_PROFILES},
        "versions": versions(),
        "started_at": started.isoformat(timespec="seconds"),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "reads": {router.name: list(router.reads) for router in routers},
        "kinds": {router.name: router.kind for router in routers},
    }


def _write_parquet(frame: pl.DataFrame, path: Path) -> None:
    with written_whole(path) as fresh:
        frame.write_parquet(fresh, compression="zstd")
