"""A model that a router has never met: what it earns with it after 0, 32, 128 … calibration queries.

The router is fitted on a world without the model. Then the model comes on offer, and the router may read the model's
answers to n training queries. How much it gains over doing without is told as a part of what it gains when it is fitted
with all of the model's answers (evaluation/shocks.py).

A router that predicts scores query by query and arm by arm (`SingleShot`) is calibrated here: the new arm's
predictions are those of a fit on the n queries alone, the other arms' stay. At n = 0 the new arm is taken for as good
as the pool is on average, and for as dear as it was on the training queries: that much a price card tells. Any other
router is calibrated by itself: it has a method `extended`, see `Extends`.
"""

import copy
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import polars as pl

from responses_db import LabError
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.randomness import Purpose, uniform
from xrouter_sim.evaluation import bench
from xrouter_sim.evaluation.shocks import FULL, WITHOUT
from xrouter_sim.pipeline import Ground, Task, make, prepare, write_parquet
from xrouter_sim.replay import Bools, Ints, Replay
from xrouter_sim.routers.base import Router, SingleShot

FILE = "unseen.parquet"


@dataclass(frozen=True)
class Unseen:
    """Which model is held out, and with how many calibration queries it is then met."""

    model: str
    calibration: tuple[int, ...] = (0, 32, 128)

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = asdict(self)
        return facts | {"calibration": list(self.calibration)}


@runtime_checkable
class Extends(Protocol):
    """A router that meets new arms by itself. The RL router's place: its network is the same for any pool."""

    def extended(self, replay: Replay, queries: Ints, calibration: Ints, cost_unit: float, seed: int) -> Router:
        """A router for `replay`, which has arms beside those that this one was fitted or trained on.

        Of the known arms it may read the training `queries` ([n] indices), of the new ones those in `calibration`
        alone, which may be none. `self` stays as it is.
        """


class Meeting:
    """The held-out model of a bench and the world without it, for all routers."""

    def __init__(self, unseen: Unseen, ground: Ground) -> None:
        """Raises LabError where the store has no such model, or no other."""
        models = ground.replay.model_ids
        if unseen.model not in models or len(models) < 2:
            raise LabError(
                f"--held-out {unseen.model}: the store needs that model and another (has {', '.join(models)})"
            )
        self.unseen, self.ground = unseen, ground
        self.known = ground.replay.model_of_arm != models.index(unseen.model)
        self.without = replace(ground, replay=restricted(ground.replay, self.known))
        self.fitted: dict[str, Router] = {}

    def write(self, task: Task, router: Router, once: bool, settings: tuple[float, ...]) -> bool:
        """Fit without the model, calibrate, play the test queries and write FILE to the run's folder.

        `router` is the one that was fitted with everything, `once` whether its fit serves all seeds. Returns False, and
        writes nothing, where the router has no way to meet a new model.
        """
        (task.out / FILE).unlink(missing_ok=True)
        if not _has_a_way(router):
            return False
        before = self.fitted.get(task.router) or self._fitted(task)
        if once:
            self.fitted[task.router] = before
        told = tuple(at for at in settings if at in self.ground.settings) or self.ground.settings
        frames = [_played(task, self.without, before, told, WITHOUT), _played(task, self.ground, router, told, FULL)]
        for count in self.unseen.calibration:
            chosen = calibration_queries(self.ground.train, count, task.config.seed)
            after = extended(before, task.router, self.known, self.ground, chosen, task.config.seed)
            frames.append(_played(task, self.ground, after, told, str(count)))
        write_parquet(pl.concat(frames), task.out / FILE)
        return True

    def _fitted(self, task: Task) -> Router:
        apart = replace(task, out=task.out / "without")
        ready = prepare(apart, self.without, make(task.router, self.without.replay))
        if ready is None:
            raise KeyboardInterrupt  # its training was asked to stop; the run is not finished
        return ready.router


def restricted(replay: Replay, arms: Bools) -> Replay:
    """The same replay with some of its arms ([A]): all those of a model, or none."""
    models = [model for index, model in enumerate(replay.model_ids) if arms[replay.model_of_arm == index].all()]
    return replace(
        replay,
        model_ids=models,
        memo={},
        samples=replay.samples[:, arms],
        score=replay.score[:, arms],
        cost_usd=replay.cost_usd[:, arms],
        tokens=replay.tokens[:, arms],
        latency_s=replay.latency_s[:, arms],
        answer=replay.answer[:, arms],
        status=replay.status[:, arms],
        evidence=replay.evidence[:, arms],
    )


def calibration_queries(train: Ints, count: int, seed: int) -> Ints:
    """[count] of the training queries, drawn by seed; a smaller draw is a part of a larger one."""
    order = np.argsort(uniform(seed, Purpose.SPLIT, train), kind="stable")
    return np.sort(train[order[:count]])


def extended(known: Router, name: str, arms: Bools, ground: Ground, calibration: Ints, seed: int) -> Router:
    """A router fitted on some arms ([A], true where known) for all of them, given calibration queries ([n])."""
    if isinstance(known, Extends):
        return known.extended(ground.replay, ground.train, calibration, ground.unit, seed)
    if not isinstance(known, SingleShot):
        raise LabError(f"{name} has no way to meet a new model: give it a method `extended`")
    router, shape = copy.copy(known), (len(ground.replay.query_ids), ground.replay.arms)
    score, cost = np.zeros(shape), np.zeros(shape)
    score[:, arms], cost[:, arms] = known.predicted_score, known.predicted_cost
    if len(calibration):
        fresh = make(name, ground.replay)
        fresh.fit(ground.replay, calibration, ground.unit, seed)
        assert isinstance(fresh, SingleShot)
        score[:, ~arms], cost[:, ~arms] = fresh.predicted_score[:, ~arms], fresh.predicted_cost[:, ~arms]
    else:
        score[:, ~arms] = known.predicted_score.mean(axis=1, keepdims=True)
        cost[:, ~arms] = ground.replay.mean_cost[ground.train].mean(axis=0)[~arms]
    router.predicted_score, router.predicted_cost = score, cost
    router.model_of_arm = ground.replay.model_of_arm
    return router


def _has_a_way(router: Router) -> bool:
    return isinstance(router, Extends) or (isinstance(router, SingleShot) and type(router).act is SingleShot.act)


def _played(task: Task, ground: Ground, router: Router, settings: tuple[float, ...], calibration: str) -> pl.DataFrame:
    seed, unit = task.config.seed, ground.unit
    frame = bench.decide([router], ground.replay, ground.test, Profile(), settings, seed, unit, task.batch_size)
    return frame.with_columns(calibration=pl.lit(calibration))
