"""All routers on one bench: fitted or trained on one store, played on the same queries and worlds, a folder a run.

A run is a router with a seed: `DIR/NAME-seedN`, in the form that `xrouter-sim train` writes. Its manifest comes last:
a folder with a manifest is a finished run, and a bench that was stopped goes on with those that have none.
"""

import json
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from responses_db import LabError
from xrouter_sim.bench.unseen import Meeting, Unseen
from xrouter_sim.costs import Costs
from xrouter_sim.engine.profile import Prices, Profile
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.evaluation import bench
from xrouter_sim.features import FeatureSpec, query_features, text_features
from xrouter_sim.pipeline import Ground, Ready, Task, check_folder, make, prepare, write
from xrouter_sim.replay import Replay
from xrouter_sim.routers import BASELINES, FITTED_ONCE, ROUTERS
from xrouter_sim.routers.base import Router
from xrouter_sim.routers.fixed import Cheapest
from xrouter_sim.routers.oracle import Oracle
from xrouter_sim.routers.rl import RL, is_trained
from xrouter_sim.training.config import Config, config_as_dict
from xrouter_sim.training.rl import Trainer

SETTINGS = (0.5, 1.0, 2.0)
"""λ in worlds other than the calm one."""

LONE_DECISIONS, DECISIONS_AT_ONCE, REPEATS = 200, 4096, 5


@dataclass(frozen=True)
class Plan:
    """What to compare, on what, and how."""

    db: Path
    out: Path
    routers: tuple[str, ...] = ()
    """Names; the baselines and every single arm stand beside them. None: all there are."""
    seeds: int = 5
    updates: int | None = None
    """Of routers that are trained in the simulator."""
    batch_size: int = 4096
    resume: bool = False
    overwrite: bool = False
    costs: Costs = field(default_factory=Costs)
    profiles: tuple[str, ...] = ("calm", "prices", "realistic", "stormy")
    unseen: Unseen | None = None

    def config(self, seed: int) -> Config:
        return Config(seed=seed) if self.updates is None else Config(seed=seed, updates=self.updates)


@dataclass(frozen=True)
class Job:
    """One run."""

    router: str
    seed: int
    folder: Path


@dataclass
class Outcome:
    """What became of the runs."""

    finished: list[Path] = field(default_factory=list)
    """Folders of finished runs, those from before included."""
    skipped: int = 0
    """Of them, those from before."""
    failed: dict[str, str] = field(default_factory=dict)
    """Folder to what went wrong."""
    stopped: bool = False
    left_out: dict[str, str] = field(default_factory=dict)
    """Routers and worlds that mean nothing on this store, and why."""


@dataclass(frozen=True)
class Told:
    """Whom to tell about progress."""

    begins: Callable[[Job, int, int], None] = field(default=lambda job, number, count: None)
    """A run, its number from 1, and how many there are."""
    says: Callable[[str], None] = field(default=lambda line: None)
    updated: Callable[[Trainer], bool] = field(default=lambda trainer: False)
    """After each update of a training; true stops the bench there."""


def run_all(plan: Plan, told: Told) -> Outcome:
    """Carry out every run that is not finished. A run that fails is named in the outcome, and the others go on.

    Raises LabError when the store cannot be used, a name is unknown, or `plan.out` holds runs that were made otherwise.
    """
    told.says(f"reading {plan.db}")
    ground = Ground.load(plan.db, plan.costs)
    outcome = Outcome()
    plan = replace(plan, profiles=_worlds(plan, ground.replay, outcome))
    jobs = _jobs(plan, ground.replay, outcome)
    finished = {job.folder for job in jobs if _is_finished(job, plan, ground)}
    outcome.skipped, outcome.finished = len(finished), [job.folder for job in jobs if job.folder in finished]
    left = [job for job in jobs if job.folder not in finished]
    if left:
        told.says(f"{len(left)} runs on {len(ground.train):,} training and {len(ground.test):,} test queries")
        told.says("reading the questions")
        text_features(ground.replay, ground.train)  # what several routers share is no router's time
        query_features(ground.replay, FeatureSpec())
    once: dict[str, Ready] = {}
    meeting = Meeting(plan.unseen, ground) if plan.unseen else None
    for number, job in enumerate(left, start=1):
        told.begins(job, number, len(left))
        try:
            done = _carry_out(job, plan, ground, meeting, once, told)
        except Exception as error:  # one router's fault is not the others'
            outcome.failed[job.folder.name] = _why(error)
            continue
        if not done:
            outcome.stopped = True
            return outcome
        outcome.finished.append(job.folder)
    return outcome


def names_of(plan: Plan, replay: Replay) -> list[str]:
    """Routers of a plan in the order of the bench: single arms, baselines, the others, those that are trained.

    Raises LabError on an unknown name.
    """
    asked = plan.routers or (*ROUTERS, RL)
    for name in asked:
        make(name, replay)
    singles = [f"always:{arm}" for arm in replay.arm_names]
    return list(dict.fromkeys([*singles, *BASELINES, *sorted(asked, key=is_trained)]))


def decision_speed(router: Router, ground: Ground) -> dict[str, float]:
    """Microseconds a decision, at batch 1 (the median of many) and in a large batch (the best of a few).

    It is the first decision of an episode, with the query's features, and what `fit` foretold of it, at hand.
    """
    simulator = Simulator(ground.replay, Profile(), 0, ground.unit)
    if isinstance(router, Oracle):
        router.watch(simulator)

    def seconds(size: int, repeats: int) -> list[float]:
        query, taken = np.resize(ground.test, size), []
        episodes = simulator.reset(query, np.arange(size), np.full(size, ground.settings[len(ground.settings) // 2]))
        for _ in range(repeats):
            observation = simulator.observe(episodes, np.arange(size))
            clock = perf_counter()
            router.act(observation)
            taken.append(perf_counter() - clock)
        return taken

    alone = float(np.median(seconds(1, LONE_DECISIONS)))
    together = min(seconds(DECISIONS_AT_ONCE, REPEATS)) / DECISIONS_AT_ONCE
    return {"alone": round(1e6 * alone, 2), "batched": round(1e6 * together, 3)}


# --- runs -------------------------------------------------------------------------------------------------------------


def _jobs(plan: Plan, replay: Replay, outcome: Outcome) -> list[Job]:
    """Router by router, so that what is fitted once serves all seeds."""
    names = names_of(plan, replay)
    if not replay.priced and Cheapest.name in names:
        names.remove(Cheapest.name)
        outcome.left_out[Cheapest.name] = "costs are left out, so nothing is cheapest"
    stems: dict[str, str] = {}
    for name in names:
        stem = re.sub(r"[^\w.+-]+", "_", name)
        stems[name] = stem if stem not in stems.values() else f"{stem}-{len(stems)}"
    return [Job(name, seed, plan.out / f"{stems[name]}-seed{seed}") for name in names for seed in range(plan.seeds)]


def _worlds(plan: Plan, replay: Replay, outcome: Outcome) -> tuple[str, ...]:
    """The profiles that say something on this store: without costs, one that only moves prices is the calm one."""
    kept = []
    for name in plan.profiles:
        profile = Profile.load(name)
        if not replay.priced and profile.prices != Prices() and _without_prices(profile) == _without_prices(Profile()):
            outcome.left_out[f"profile {name}"] = "costs are left out, so it is the calm world"
        else:
            kept.append(name)
    return tuple(kept)


def _without_prices(profile: Profile) -> dict[str, Any]:
    return {name: value for name, value in profile.as_dict().items() if name not in ("name", "prices")}


def _facts(job: Job, plan: Plan, ground: Ground) -> dict[str, Any]:
    """What a run hangs on, beside the code: a finished one is kept if all of it is the same."""
    trained = is_trained(job.router)
    facts = {
        "router": job.router,
        "store": ground.replay.store["content_hash"],
        "costs": plan.costs.facts(),
        "config": config_as_dict(plan.config(job.seed)) if trained else {"seed": job.seed},
        "settings": ground.settings,
        "profiles": {name: bench.world_of(ground.replay, name).as_dict() for name in plan.profiles},
        "unseen": plan.unseen.facts() if plan.unseen else None,
    }
    same: dict[str, Any] = json.loads(json.dumps(facts))
    return same


def _is_finished(job: Job, plan: Plan, ground: Ground) -> bool:
    """Whether the folder holds this very run. Raises LabError rather than overwrite, or take up, what is another's."""
    path = job.folder / "manifest.json"
    if plan.overwrite or not path.is_file():
        return False
    if not plan.resume:
        raise LabError(f"{plan.out} holds finished runs: go on with --resume, or start anew with --overwrite")
    try:
        made = json.loads(path.read_text()).get("bench", {})
    except (ValueError, AttributeError) as error:
        raise LabError(f"{path} is no manifest ({error}): remove the folder, or start anew with --overwrite") from error
    due = _facts(job, plan, ground)
    if differs := [name for name, value in due.items() if made.get(name) != value]:
        raise LabError(
            f"{job.folder} was made with other {', '.join(differs)}: give the same, or start anew with --overwrite"
        )
    return True


def _carry_out(
    job: Job, plan: Plan, ground: Ground, meeting: Meeting | None, once: dict[str, Ready], told: Told
) -> bool:
    """One run, written whole. Returns False when its training was stopped before the end."""
    started = datetime.now(UTC)
    task = Task(job.router, plan.db, job.folder, plan.config(job.seed), plan.batch_size, plan.resume, plan.overwrite)
    task.costs, task.after_update = plan.costs, told.updated
    task.profiles, task.robustness_settings, task.twins = plan.profiles, SETTINGS, ground.replay.priced
    router = make(job.router, ground.replay)
    check_folder(task, router)
    is_fitted_once = job.router in FITTED_ONCE or job.router.startswith("always:")
    ready = once.get(job.router) or prepare(task, ground, router)
    if ready is None:
        return False
    if is_fitted_once:
        once[job.router] = ready

    def also(router: Router) -> dict[str, Any]:
        found = {
            "bench": _facts(job, plan, ground),
            "fitted_once": is_fitted_once,
            "microseconds_a_decision": decision_speed(router, ground),
        }
        if meeting is not None:
            met = meeting.write(task, router, is_fitted_once, SETTINGS)
            found["unseen"] = meeting.unseen.facts() | {"calibrated": met}
        return found

    task.also = also
    write(task, ground, ready, [], started)
    return True


def _why(error: Exception) -> str:
    """One line, with the place where it happened unless the user can mend it."""
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if isinstance(error, LabError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{said} ({Path(last.filename).name}, line {last.lineno})"
