"""What a bench of routers came to: one joint comparison of all its runs, as plain data."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from responses_db import LabError
from xrouter_sim.bench.unseen import FILE as UNSEEN
from xrouter_sim.evaluation.field import field_of, pool_of
from xrouter_sim.evaluation.groups import by_domain
from xrouter_sim.evaluation.joining import joined
from xrouter_sim.evaluation.metrics import Array
from xrouter_sim.evaluation.robustness import robustness
from xrouter_sim.evaluation.rows import Rows, cost_range, rows_of
from xrouter_sim.evaluation.runs import Run, load_run
from xrouter_sim.evaluation.shocks import price_losses, unseen_gains
from xrouter_sim.evaluation.statistics import Bootstrap, figure
from xrouter_sim.evaluation.summary import as_json
from xrouter_sim.pipeline import TWINS

NO_PEERS = ("oracle", "rl")
"""Kinds that no router is measured against: a bound, and what is to be measured."""


def figures_of(folders: Sequence[Path], groups: Mapping[str, list[str]], replicates: int) -> dict[str, Any]:
    """The joint figures of these runs. Every figure is {"value", "low", "high"}; differences are paired by query.

    Those that need one λ take 1, or 0 where costs are left out. Raises LabError where the runs do not belong together.
    """
    runs = joined([load_run(folder) for folder in folders])
    if len(runs) != 1:
        raise LabError(f"{folders[0].parent} holds runs on different stores or queries: give each bench its own --out")
    (run,) = runs
    at = 1.0 if run.priced else 0.0
    bootstrap = Bootstrap(len(run.queries), replicates)
    low, high = cost_range(run.panels, bootstrap)
    rows = {router: rows_of(panel, bootstrap, at, low, high) for router, panel in run.panels.items()}
    best, pool = _best_peers(run, rows), pool_of(run, rows, bootstrap, at)
    took = _took(folders)
    routers = {}
    for router, mine in rows.items():
        scores = field_of(pool, run.panels[router], mine)
        routers[router] = {
            "kind": run.kind(router),
            "seeds": len(run.panels[router].seeds),
            **as_json(mine.headline()),
            "over_best_peer": {
                what: figure(of(mine) - of(rows[peer])).to_json()
                for what, (of, peer) in best.items()
                if peer != router and not np.isnan(of(mine)).all()
            },
            "apgr": scores.apgr.to_json(),
            "cpt": as_json(scores.cpt),
            **took.get(router, {}),
        }
    return {
        "queries": len(run.queries),
        "at": at,
        "settings": run.manifest["settings"],
        "cost_unit_usd": run.cost_unit if run.priced else None,
        "costs": run.manifest["store"].get("costs"),
        "provenance": run.manifest["store"].get("provenance"),
        "content_hash": run.manifest["store"]["content_hash"],
        "best_peer": {what: peer for what, (_, peer) in best.items()},
        "routers": routers,
        "robustness": _robustness(run, at, replicates),
        "prices": _prices(run, folders, at, replicates),
        "unseen": _unseen(folders, at, replicates),
        "domains": {
            found.router: as_json({"domains": found.domains, "groups": found.groups})
            for found in by_domain(run.panels, groups, at=at, replicates=replicates)
        },
    }


def _best_peers(run: Run, rows: Mapping[str, Rows]) -> dict[str, tuple[Callable[[Rows], Array], str]]:
    """By figure: how to read it, and the router that is best by it on these very queries, in its favour."""
    peers = [router for router in rows if run.kind(router) not in NO_PEERS]
    by: dict[str, Callable[[Rows], Array]] = {"accuracy": lambda row: row.accuracy}
    if run.priced:
        by["aiq"] = lambda row: row.aiq
    for lam in next(iter(rows.values())).reward:
        by[f"reward {lam:g}"] = lambda row, lam=lam: row.reward[lam]  # type: ignore[misc]
    return {what: (of, max(peers, key=lambda router: np.nan_to_num(of(rows[router])[0]))) for what, of in by.items()}


def _took(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Seconds to fit (mean over runs) and microseconds a decision (median) of each router."""
    found: dict[str, list[dict[str, Any]]] = {}
    for folder in folders:
        manifest = json.loads((folder / "manifest.json").read_text())
        found.setdefault(manifest["router"], []).append(manifest)
    return {
        router: {
            "fit_seconds": float(np.mean([each["seconds"]["train"] for each in made])),
            "microseconds_a_decision": {
                how: float(np.median([each["microseconds_a_decision"][how] for each in made]))
                for how in ("alone", "batched")
            },
            "fitted_once": bool(made[0]["fitted_once"]),
        }
        for router, made in found.items()
    }


def _robustness(run: Run, at: float, replicates: int) -> dict[str, dict[str, Any]]:
    """Profile to router to figures; `over_best_peer` is the paired difference in reward."""
    kept = robustness(run, at=at, replicates=replicates)
    found: dict[str, dict[str, Any]] = {}
    for row in kept:
        told = {key: value for key, value in as_json(row).items() if key not in ("router", "profile")}
        found.setdefault(row.profile, {})[row.router] = told
    for profile, routers in found.items():
        assert run.robustness is not None
        worlds = run.robustness.filter(pl.col("profile") == profile)
        setting = next(iter(routers.values()))["setting"]
        earned = _rewards(worlds.filter(pl.col("setting") == setting), replicates)
        peers = [router for router in routers if run.kind(router) not in NO_PEERS]
        best = max(peers, key=lambda router: earned[router][0])
        for router, told in routers.items():
            told["over_best_peer"] = None if router == best else figure(earned[router] - earned[best]).to_json()
            told["best_peer"] = best
    return found


def _rewards(decisions: pl.DataFrame, replicates: int) -> dict[str, Array]:
    """(1 + replicates,) mean reward of each router."""
    by_query = decisions.group_by("router", "query_id").agg(pl.col("reward").mean()).sort("router", "query_id")
    tables = by_query.partition_by("router", as_dict=True)
    bootstrap = Bootstrap(next(iter(tables.values())).height, replicates)
    return {str(router): bootstrap.means(table["reward"].to_numpy()) for (router,), table in tables.items()}


def _prices(run: Run, folders: Sequence[Path], at: float, replicates: int) -> dict[str, dict[str, Any]]:
    """Profile to router to what prices took from it and from its price-blind twin."""
    twins = [pl.read_parquet(folder / TWINS) for folder in folders if (folder / TWINS).exists()]
    if run.robustness is None or not twins:
        return {}
    known = [frame.select(run.robustness.columns) for frame in twins]
    found: dict[str, dict[str, Any]] = {}
    for row in price_losses(pl.concat([run.robustness, *known]), str(run.path), at=at, replicates=replicates):
        told = {key: value for key, value in as_json(row).items() if key not in ("router", "profile")}
        found.setdefault(row.profile, {})[row.router] = told
    return found


def _unseen(folders: Sequence[Path], at: float, replicates: int) -> dict[str, Any] | None:
    """What each router gained from the model that was held out, by number of calibration queries."""
    files = [folder / UNSEEN for folder in folders if (folder / UNSEEN).exists()]
    if not files:
        return None
    facts = json.loads((files[0].parent / "manifest.json").read_text())["unseen"]
    decisions = pl.concat([pl.read_parquet(file) for file in files])
    found: dict[str, dict[str, Any]] = {}
    for row in unseen_gains(decisions, str(files[0].parent), at=at, replicates=replicates):
        told = {key: value for key, value in asdict(row).items() if key in ("reward", "gain", "share")}
        found.setdefault(row.router, {})[row.calibration] = told
    return {"model": facts["model"], "calibration": facts["calibration"], "routers": found}
