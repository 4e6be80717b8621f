"""Runs on the same queries of the same store, put together: all their routers in one table, compared in pairs.

A bench writes one folder a router and seed. Folders belong together when they agree on the store's content, the
queries, the unit of cost and the world; then seeds of one router become its seeds, and what two folders both have (the
plain routers that stand in every run) is counted once.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from xrouter_sim.evaluation.metrics import Array
from xrouter_sim.evaluation.runs import Run

SAME = 1e-9
"""Decisions whose scores, costs and rewards lie closer than this are the same decisions."""

Key = tuple[object, ...]


def joined(runs: Sequence[Run]) -> list[Run]:
    """One run for each group of runs that can be compared query by query, in order of first appearance.

    A run that agrees with no other stays as it is. Where two runs of a group have the same router and seed but decided
    otherwise, or were trained with other settings, both keep their decisions, under the name `ROUTER (RUN)`.
    """
    groups: dict[Key, list[Run]] = {}
    for run in runs:
        groups.setdefault(_key(run), []).append(run)
    return [group[0] if len(group) == 1 else _join(group) for group in groups.values()]


def _key(run: Run) -> Key:
    store, profile = run.manifest["store"], run.manifest.get("profile") or {}
    costs = json.dumps(store.get("costs"), sort_keys=True)
    content = store.get("content_hash") or str(run.path)
    return content, costs, run.manifest["cost_unit_usd"], profile.get("name", "calm"), tuple(run.queries)


def _join(runs: Sequence[Run]) -> Run:
    names = _names(runs)
    unique = list(dict.fromkeys(run.name for run in runs))
    path = Path(os.path.commonpath([run.path.resolve() for run in runs]))
    routers = list(dict.fromkeys(names[number, run.router] for number, run in enumerate(runs)))
    kinds = {names[n, router]: run.kind(router) for n, run in enumerate(runs) for router in run.panels}
    reads = {names[n, router]: run.reads(router) for n, run in enumerate(runs) for router in run.panels}
    router = next((name for name in routers if kinds.get(name) == "rl"), routers[0])
    first = next(run for number, run in enumerate(runs) if names[number, run.router] == router)
    made = [{"name": run.name, "path": str(run.path), "router": run.router} | _made(run.manifest) for run in runs]
    manifest = first.manifest | {"router": router, "kinds": kinds, "reads": reads, "joined": made}
    manifest["command"] = "; ".join(dict.fromkeys(str(run.manifest.get("command", "")) for run in runs))
    manifest["name"] = " + ".join(unique) if len(unique) <= 3 else f"{len(unique)} runs in {path.name}"
    return Run(
        path=path,
        name=manifest["name"],
        manifest=manifest,
        decisions=_stack([run.decisions for run in runs], runs, names, ("router", "seed")),
        robustness=_optional([run.robustness for run in runs], runs, names, ("profile", "router", "seed")),
        training=first.training,
        predictions=_optional([run.predictions for run in runs], runs, names, ("router", "seed")),
    )


def _made(manifest: dict[str, Any]) -> dict[str, Any]:
    return {key: manifest[key] for key in ("seed", "command", "started_at") if key in manifest}


def _names(runs: Sequence[Run]) -> dict[tuple[int, str], str]:
    """(place of the run, router) -> the router's name in the joint table."""
    labels = [run.name for run in runs]
    labels = [run.name if labels.count(run.name) == 1 else str(run.path) for run in runs]
    homes: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        for router in run.panels:
            homes.setdefault(router, []).append(number)
    names: dict[tuple[int, str], str] = {}
    for router, places in homes.items():
        apart = _differ(router, [runs[n] for n in places])
        names |= {(n, router): f"{router} ({labels[n]})" if apart else router for n in places}
    return names


def _differ(router: str, runs: Sequence[Run]) -> bool:
    """Whether what these runs call by one name cannot be one router: other settings, or other decisions of one seed."""
    settings = runs[0].panels[router].settings
    trained = [_config(run) for run in runs if run.router == router]
    if any(config != trained[0] for config in trained):
        return True
    first: dict[int, list[Array]] = {}
    for run in runs:
        panel = run.panels[router]
        if not np.array_equal(panel.settings, settings):
            return True
        for number, seed in enumerate(panel.seeds):
            decided = [values[number] for values in (panel.score, panel.cost, panel.reward)]
            known = first.setdefault(seed, decided)
            pairs = zip(known, decided, strict=True)
            if not all(np.allclose(x, y, rtol=0, atol=SAME, equal_nan=True) for x, y in pairs):
                return True
    return False


def _config(run: Run) -> dict[str, Any]:
    return {key: value for key, value in (run.manifest.get("config") or {}).items() if key != "seed"}


def _optional(
    frames: Sequence[pl.DataFrame | None],
    runs: Sequence[Run],
    names: dict[tuple[int, str], str],
    keys: tuple[str, ...],
) -> pl.DataFrame | None:
    return _stack(frames, runs, names, keys) if any(frame is not None for frame in frames) else None


def _stack(
    frames: Sequence[pl.DataFrame | None],
    runs: Sequence[Run],
    names: dict[tuple[int, str], str],
    keys: tuple[str, ...],
) -> pl.DataFrame:
    """The frames under their routers' names in the joint table; what an earlier run has already is left out."""
    found, seen = [], set()
    for number, frame in enumerate(frames):
        if frame is None:
            continue
        for key, rows in frame.partition_by(*keys, maintain_order=True, as_dict=True).items():
            router = str(key[keys.index("router")])
            name = names.get((number, router), router)
            mark = (name, *(part for part, column in zip(key, keys, strict=True) if column != "router"))
            if mark not in seen:
                seen.add(mark)
                found.append(rows.with_columns(router=pl.lit(name)))
    return pl.concat(found)
