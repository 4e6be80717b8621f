"""Reading a run's folder: checked on the way in, and laid out densely so that every figure is array work."""

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from responses_db.errors import LabError
from xrouter_sim.evaluation.decisions import SCHEMA
from xrouter_sim.evaluation.metrics import Array
from xrouter_sim.evaluation.predictions import PREDICTIONS
from xrouter_sim.reward import reward

MAY_BE_NULL = {"answered_by", "latency_s"}
REWARD_TOLERANCE = 1e-4  # engines may compute in single precision


@dataclass(frozen=True)
class Panel:
    """One router's decisions, dense: every array is (seeds, settings, queries)."""

    router: str
    seeds: list[int]  # ascending, the labels of the first axis
    settings: Array  # (settings,) λ, ascending
    queries: list[str]  # query ids, in the order of the last axis
    domains: list[str]  # (queries,)
    score: Array
    cost: Array  # USD; all nan in a run that leaves costs out
    reward: Array
    latency: Array  # virtual seconds
    calls: Array  # number of calls
    turns: Array  # number of turns with a call
    unavailable: Array  # number of calls of models that were not on offer
    final: NDArray[np.str_]
    answered_by: NDArray[np.str_]  # the model whose response is final; empty for none and direct

    @property
    def priced(self) -> bool:
        """Whether costs are known: all or none are, or the run would not have been read."""
        return not np.isnan(self.cost).any()

    def at(self, lam: float) -> int | None:
        """Index of the setting λ, None if the run has none such."""
        found = np.flatnonzero(np.isclose(self.settings, lam, rtol=1e-9, atol=1e-12))
        return int(found[0]) if found.size else None

    def nearest(self, lam: float) -> int:
        """Index of the setting nearest to λ."""
        return int(np.abs(self.settings - lam).argmin())


@dataclass(frozen=True)
class Run:
    """One run's folder, read and checked."""

    path: Path
    name: str
    manifest: dict[str, Any]
    decisions: pl.DataFrame
    robustness: pl.DataFrame | None
    training: pl.DataFrame | None
    predictions: pl.DataFrame | None = None

    @property
    def router(self) -> str:
        """Name of the trained router."""
        return str(self.manifest["router"])

    @property
    def priced(self) -> bool:
        """Whether costs are known; where not they are nan here, null in the files, and λ is 0."""
        return self.manifest["cost_unit_usd"] is not None

    @property
    def cost_unit(self) -> float:
        """USD that a λ of 1 prices at the whole reward; nan where costs are unknown."""
        return float(self.manifest["cost_unit_usd"]) if self.priced else float("nan")

    @cached_property
    def queries(self) -> list[str]:
        """The ids of the queries that were routed, in order."""
        return self.decisions["query_id"].unique().sort().to_list()

    @cached_property
    def panels(self) -> dict[str, Panel]:
        """Every router's dense decisions, all on the same queries."""
        return panels(self.decisions, str(self.path / "decisions.parquet"))

    def kind(self, router: str) -> str:
        """fixed, single-shot, sequential, rl or oracle: the manifest's word, else what the name tells."""
        return str(self.manifest.get("kinds", {}).get(router) or _kind_by_name(router))

    def reads(self, router: str) -> list[str]:
        """What the router may read, as it declared."""
        return [str(item) for item in self.manifest.get("reads", {}).get(router, [])]


def load_run(path: str | Path) -> Run:
    """Read runs/NAME. Raises LabError, one line, when it is missing, incomplete or contradicts itself."""
    folder = Path(path)
    if not folder.is_dir():
        raise LabError(f"no run at {folder}: make one with `xrouter-sim train rl --db STORE --out {folder}`")
    manifest = _manifest(folder / "manifest.json")
    may_be_null = MAY_BE_NULL | ({"cost_usd"} if manifest["cost_unit_usd"] is None else set())
    decisions = _decisions(folder / "decisions.parquet", SCHEMA, may_be_null)
    _check_rewards(decisions, manifest["cost_unit_usd"], folder / "decisions.parquet")
    robustness, training = folder / "robustness.parquet", folder / "training.parquet"
    predictions = folder / "predictions.parquet"
    return Run(
        path=folder,
        name=str(manifest.get("name") or folder.resolve().name),
        manifest=manifest,
        decisions=decisions,
        robustness=_decisions(robustness, {**SCHEMA, "profile": pl.String()}, may_be_null)
        if robustness.exists()
        else None,
        training=_training(training) if training.exists() else None,
        predictions=_decisions(predictions, PREDICTIONS, set()) if predictions.exists() else None,
    )


def panels(decisions: pl.DataFrame, where: str) -> dict[str, Panel]:
    """Dense decisions of each router, in order of first appearance.

    Raises LabError (naming `where`) unless every router has each of its seeds × settings on the same queries, once.
    """
    turn, outcome = (pl.col("calls").list.eval(pl.element().struct.field(name)) for name in ("turn", "outcome"))
    counted = decisions.with_columns(
        n_calls=pl.col("calls").list.len(),
        n_turns=turn.list.n_unique(),
        n_unavailable=outcome.list.count_matches("unavailable"),
        answered_by=pl.col("answered_by").fill_null(""),
    )
    found: dict[str, Panel] = {}
    for (router,), rows in counted.drop("calls").partition_by("router", maintain_order=True, as_dict=True).items():
        found[str(router)] = _panel(str(router), rows.sort("seed", "setting", "query_id"), where)
    first = next(iter(found.values()))
    for panel in found.values():
        if panel.queries != first.queries:
            raise LabError(
                f"{where}: routers {first.router} and {panel.router} were run on different queries; run again"
            )
    return found


def _panel(router: str, rows: pl.DataFrame, where: str) -> Panel:
    settings = rows["setting"].unique().sort().to_numpy()
    queries = rows["query_id"].unique().sort()
    shape = (rows["seed"].n_unique(), len(settings), len(queries))
    cells = rows.select("seed", "setting", "query_id").n_unique()
    if not rows.height == cells == shape[0] * shape[1] * shape[2]:
        raise LabError(
            f"{where}: router {router} has {rows.height} rows ({cells} different) where {shape[0]} seeds × {shape[1]} "
            f"settings × {shape[2]} queries are due; run again"
        )

    def dense(column: str) -> Any:
        return rows[column].to_numpy().reshape(shape)

    return Panel(
        router=router,
        seeds=rows["seed"].unique().sort().to_list(),
        settings=settings,
        queries=queries.to_list(),
        domains=rows["domain"].head(shape[2]).to_list(),
        score=dense("score"),
        cost=dense("cost_usd").astype(float),
        reward=dense("reward"),
        latency=dense("latency_s"),
        calls=dense("n_calls").astype(float),
        turns=dense("n_turns").astype(float),
        unavailable=dense("n_unavailable").astype(float),
        final=dense("final").astype(str),
        answered_by=dense("answered_by").astype(str),
    )


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise LabError(f"no manifest.json in {path.parent}: not a run's folder, or the run did not finish") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise LabError(f"{path} is not JSON ({error}): run again") from error
    if not isinstance(manifest, dict):
        raise LabError(f"{path} holds no JSON object: run again")
    missing = [key for key in ("router", "cost_unit_usd", "store") if key not in manifest]
    if missing:
        raise LabError(f"{path} lacks {', '.join(missing)}: run again with this version of xrouter-sim")
    unit, costs = manifest["cost_unit_usd"], manifest["store"].get("costs") or {}
    if unit is None and costs.get("kind") == "none":
        return manifest
    if not isinstance(unit, int | float) or not unit > 0:
        raise LabError(f"{path}: cost_unit_usd must be a positive number, not {unit!r}; run again")
    return manifest


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except FileNotFoundError as error:
        raise LabError(f"no {path.name} in {path.parent}: the run did not finish; run again") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise LabError(f"cannot read {path} ({reason}): the file is damaged; run again") from error


def _decisions(path: Path, schema: Mapping[str, Any], may_be_null: Set[str]) -> pl.DataFrame:
    frame = _read(path)
    missing = [name for name in schema if name not in frame.columns]
    if missing:
        raise LabError(f"{path} lacks the columns {', '.join(missing)}: run again with this version of xrouter-sim")
    if frame.is_empty():
        raise LabError(f"{path} holds no decisions: run again")
    try:
        frame = frame.select(pl.col(name).cast(kind) for name, kind in schema.items())
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise LabError(f"{path} has columns of another type ({reason}): run again") from error
    for name in schema:
        column = frame[name]
        bad = column.null_count() + (int(column.is_nan().sum()) if column.dtype.is_float() else 0)
        if bad and name not in may_be_null:
            raise LabError(f"{path}: {bad} rows have no {name}; a decision without it cannot be counted, run again")
    return frame


def _check_rewards(decisions: pl.DataFrame, unit: float | None, path: Path) -> None:
    """A documented reward that is not the one in the data would make every table a lie. No unit: costs are left out."""
    if unit is None:
        words, due = "the score, as without costs", decisions["score"].to_numpy()
        if decisions["cost_usd"].null_count() < decisions.height or (decisions["setting"] != 0).any():
            raise LabError(f"{path} has costs, or λ other than 0, though its manifest leaves costs out: run again")
    else:
        words = f"score · (1 − min(λ · cost / {unit:g}, 1))"
        due = reward(decisions["score"], decisions["cost_usd"], decisions["setting"], unit)
    wrong = np.flatnonzero(np.abs(due - decisions["reward"].to_numpy()) > REWARD_TOLERANCE)
    if wrong.size:
        row = int(wrong[0])
        raise LabError(
            f"{path}: {wrong.size} rewards are not {words}, first in row {row} "
            f"({decisions['reward'][row]:.4f}, due {due[row]:.4f}): run again"
        )


def _training(path: Path) -> pl.DataFrame:
    frame = _read(path)
    if "update" not in frame.columns:
        raise LabError(f"{path} lacks the column update: run again with this version of xrouter-sim")
    return frame.sort("update")


def _kind_by_name(router: str) -> str:
    if "oracle" in router:
        return "oracle"
    if router.startswith("rl"):
        return "rl"
    return "fixed" if router.startswith("always:") or router in ("random", "cheapest", "table") else "single-shot"
