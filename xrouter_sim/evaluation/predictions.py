"""The predictions file of a run, optional: what a router foretold of each model on each test query, and what came.

One row a (router, seed, query, model): from it, whether predicted chances come true (`metrics.calibration`). It stands
beside the decisions because a decision does not show what was thought of the models that were not called.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from xrouter_sim.evaluation import metrics
from xrouter_sim.evaluation.statistics import Bootstrap, Figure, figure
from xrouter_sim.replay import Ints, Replay
from xrouter_sim.routers.base import Router

PREDICTIONS = pl.Schema(
    {
        "router": pl.String(),
        "seed": pl.Int64(),
        "query_id": pl.String(),
        "model": pl.String(),  # the arm: MODEL, or MODEL/STYLE where there are several prompt styles
        "predicted": pl.Float64(),  # expected score before any call, in [0, 1]
        "score": pl.Float64(),  # mean score of the stored samples
    }
)


@dataclass(frozen=True)
class Calibration:
    """Whether one router's predicted scores come true, over all test queries and models."""

    brier: Figure  # mean squared error of the prediction
    expected_calibration_error: float
    reliability: list[metrics.Bin]


def predictions(routers: Sequence[Router], replay: Replay, queries: Ints, seed: int) -> pl.DataFrame:
    """The predictions of those fitted routers that have `predicted_score` [Q, A], clipped to [0, 1]; the form of
    PREDICTIONS, without rows when none has."""
    frames = [pl.DataFrame(schema=PREDICTIONS)]
    ids, arms = np.array(replay.query_ids)[queries], np.array(replay.arm_names)
    for router in routers:
        known = getattr(router, "predicted_score", None)
        if known is None:
            continue
        columns = {
            "query_id": np.repeat(ids, len(arms)),
            "model": np.tile(arms, len(ids)),
            "predicted": np.clip(known[queries], 0.0, 1.0).ravel(),
            "score": replay.mean_score[queries].ravel(),
        }
        frame = pl.DataFrame(columns).with_columns(router=pl.lit(router.name), seed=pl.lit(seed, pl.Int64))
        frames.append(frame.select(pl.col(name).cast(kind) for name, kind in PREDICTIONS.items()))
    return pl.concat(frames)


def calibrations(found: pl.DataFrame, replicates: int, seed: int) -> dict[str, Calibration]:
    """Each router's calibration; the interval of the Brier score resamples whole queries, with all models and seeds."""
    return {
        str(router): _calibration(rows, replicates, seed)
        for (router,), rows in found.partition_by("router", as_dict=True, maintain_order=True).items()
    }


def _calibration(rows: pl.DataFrame, replicates: int, seed: int) -> Calibration:
    predicted, score = rows["predicted"].to_numpy(), rows["score"].to_numpy()
    error = rows.select("query_id").with_columns(error=pl.Series(metrics.brier(predicted, score)))
    by_query = error.group_by("query_id").agg(pl.col("error").mean()).sort("query_id")
    return Calibration(
        figure(Bootstrap(by_query.height, replicates, seed).means(by_query["error"].to_numpy())),
        metrics.expected_calibration_error(predicted, score),
        metrics.reliability(predicted, score),
    )
