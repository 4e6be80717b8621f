"""Two runs' routers, query by query: paired differences with intervals, and the queries that moved."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl

from responses_db.errors import LabError
from xrouter_sim.evaluation.metrics import Array
from xrouter_sim.evaluation.rows import Headline, cost_range, rows_of
from xrouter_sim.evaluation.runs import Panel, Run, panels
from xrouter_sim.evaluation.statistics import REPLICATES, Bootstrap, Figure, figure
from xrouter_sim.evaluation.summary import USUAL_LAMBDA

SAME = 1e-9  # scores and costs closer than this are the same


@dataclass(frozen=True)
class Side:
    """One of the two routers."""

    run: str
    path: str
    router: str
    seeds: int
    headline: Headline


@dataclass(frozen=True)
class Moved:
    """One query that the two did otherwise on: means over seeds, and what each did with its first seed."""

    query_id: str
    domain: str
    score_a: float
    score_b: float
    cost_usd_a: float | None
    cost_usd_b: float | None
    reward_a: float
    reward_b: float
    did_a: str
    did_b: str


@dataclass(frozen=True)
class Part:
    """A − B on the queries of one domain, at `at`."""

    domain: str
    queries: int
    accuracy: Figure
    reward: Figure


@dataclass(frozen=True)
class Comparison:
    """A − B on the queries that both runs routed."""

    a: Side
    b: Side
    at: float  # the setting (λ) of accuracy, cost, domains and moved queries
    queries: int
    difference: Headline
    domains: list[Part]
    better_a: int  # queries on which A's score is higher
    better_b: int
    cheaper_a: int  # of those with equal scores, A's cost is lower
    cheaper_b: int
    same: int  # equal score and cost
    won_by_a: list[Moved]  # by the gap in reward, the widest first
    won_by_b: list[Moved]
    notes: list[str]


def compare_runs(
    a: Run,
    b: Run,
    *,
    routers: tuple[str | None, str | None] = (None, None),
    at: float | None = None,
    show: int = 5,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Comparison:
    """Compare one router of each run (default: the trained one), at most `show` moved queries a side.

    Raises LabError where the runs are not on the same answers, unit of cost or setting, or share no query.
    """
    queries = _common(a, b)
    names = tuple(name or run.router for name, run in zip(routers, (a, b), strict=True))
    mine, other = (_panel(run, name, queries) for run, name in zip((a, b), names, strict=True))
    at = _setting(mine, other, at, (a, b))
    bootstrap = Bootstrap(len(queries), replicates, seed)
    low, high = _range((a, b), queries, bootstrap)
    rows = [rows_of(panel, bootstrap, at, low, high) for panel in (mine, other)]
    table = _table((a, b), (mine, other), at)
    gaps = table["score_a"] - table["score_b"]
    # Where costs are left out both are null, and no query is cheaper.
    dearer = (table["cost_usd_a"] - table["cost_usd_b"]).fill_null(0.0)
    tied = gaps.abs() <= SAME
    found = _moved((a, b), (mine, other), at, table, show)
    return Comparison(
        a=Side(a.name, str(a.path), mine.router, len(mine.seeds), rows[0].headline()),
        b=Side(b.name, str(b.path), other.router, len(other.seeds), rows[1].headline()),
        at=at,
        queries=len(queries),
        difference=rows[0].minus(rows[1]),
        domains=_parts(table, bootstrap),
        better_a=int((gaps > SAME).sum()),
        better_b=int((gaps < -SAME).sum()),
        cheaper_a=int((tied & (dearer < -SAME)).sum()),
        cheaper_b=int((tied & (dearer > SAME)).sum()),
        same=int((tied & (dearer.abs() <= SAME)).sum()),
        won_by_a=found[0],
        won_by_b=found[1],
        notes=_notes(a, b, len(queries)),
    )


def did(calls: Sequence[dict[str, Any]], final: str, answered_by: str | None) -> str:
    """An episode in a few words: turns follow →, calls of one turn stand beside each other, failures say so.

    >>> call = {"turn": 0, "model": "small", "prompt_style": "cot", "outcome": "ok"}
    >>> did([call, call | {"turn": 1, "model": "large", "outcome": "timeout"}], "select", "small")
    'small/cot → large/cot (timeout) → select small'
    """
    turns = [list(together) for _, together in groupby(calls, key=lambda call: call["turn"])]
    steps = [" + ".join(_call(call) for call in together) for together in turns]
    ends = {"call": [], "none": ["no answer"], "direct": ["answers itself"]}
    return " → ".join([*steps, *ends.get(final, [f"{final} {answered_by or ''}".strip()])])


def _call(call: dict[str, Any]) -> str:
    failed = "" if call["outcome"] == "ok" else f" ({call['outcome']})"
    return f"{call['model']}/{call['prompt_style']}{failed}"


def _common(a: Run, b: Run) -> list[str]:
    stores = [run.manifest["store"].get("content_hash") for run in (a, b)]
    if stores[0] != stores[1]:
        short = " and ".join(str(hash_)[:12] for hash_ in stores)
        raise LabError(
            f"{a.path} and {b.path} replay different answers (stores {short}): train both on one store to compare them"
        )
    if a.manifest["cost_unit_usd"] != b.manifest["cost_unit_usd"]:
        raise LabError(
            f"{a.path} and {b.path} count costs in different units ({a.cost_unit:g} and {b.cost_unit:g} USD), so their "
            "rewards are not the same reward: train both with the same options on one store"
        )
    common = sorted(set(a.queries) & set(b.queries))
    if not common:
        raise LabError(f"{a.path} and {b.path} share no test query: train both on one store and split")
    return common


def _panel(run: Run, router: str, queries: list[str]) -> Panel:
    rows = run.decisions.filter(pl.col("router") == router, pl.col("query_id").is_in(queries))
    if rows.is_empty():
        known = ", ".join(run.decisions["router"].unique(maintain_order=True))
        raise LabError(f"{run.path} has no router {router}: choose among {known}")
    return panels(rows, str(run.path / "decisions.parquet"))[router]


def _setting(mine: Panel, other: Panel, at: float | None, runs: tuple[Run, Run]) -> float:
    both = [float(lam) for lam in mine.settings if other.at(float(lam)) is not None]
    if not both:
        raise LabError(f"{runs[0].path} and {runs[1].path} share no setting λ: train both with the same settings")
    if at is None:
        return min(both, key=lambda lam: abs(lam - USUAL_LAMBDA))
    if not np.isclose(both, at).any():
        raise LabError(f"λ = {at:g} is not a setting of both: choose --at among {', '.join(f'{x:g}' for x in both)}")
    return at


def _range(runs: tuple[Run, Run], queries: list[str], bootstrap: Bootstrap) -> tuple[Array, Array]:
    """The cost range of AIQ, from the single models of the first run that has them."""
    for run in runs:
        single = run.decisions.filter(pl.col("router").str.starts_with("always:"), pl.col("query_id").is_in(queries))
        if not single.is_empty():
            return cost_range(panels(single, str(run.path / "decisions.parquet")), bootstrap)
    return cost_range({}, bootstrap)


def _table(runs: tuple[Run, Run], both: tuple[Panel, Panel], at: float) -> pl.DataFrame:
    """One row a query: each side's means over seeds at `at`, in the order of the panels' queries."""
    columns: dict[str, Any] = {"query_id": both[0].queries, "domain": both[0].domains}
    for side, run, panel in zip("ab", runs, both, strict=True):
        here = panel.nearest(at)
        columns[f"score_{side}"] = panel.score[:, here].mean(axis=0)
        spent = panel.cost[:, here].mean(axis=0)
        columns[f"cost_usd_{side}"] = pl.Series(spent if run.priced else [None] * len(spent), dtype=pl.Float64)
        columns[f"reward_{side}"] = panel.reward[:, here].mean(axis=0)
    return pl.DataFrame(columns)


def _parts(table: pl.DataFrame, bootstrap: Bootstrap) -> list[Part]:
    """A small domain may be missing from a replicate: then the replicate tells nothing of it."""
    accuracy, reward = ((table[f"{name}_a"] - table[f"{name}_b"]).to_numpy() for name in ("score", "reward"))
    found = []
    for domain in sorted(table["domain"].unique()):
        member = (table["domain"] == domain).to_numpy().astype(float)
        size, score, gain = bootstrap.means(np.stack([member, member * accuracy, member * reward])).T
        share = functools.partial(np.divide, where=size > 0)
        there = [share(rows, size, out=np.full_like(rows, np.nan)) for rows in (score, gain)]
        found.append(Part(str(domain), int(member.sum()), figure(there[0]), figure(there[1])))
    return found


def _moved(
    runs: tuple[Run, Run], both: tuple[Panel, Panel], at: float, table: pl.DataFrame, show: int
) -> tuple[list[Moved], list[Moved]]:
    """The queries that each side earns more on, widest gap first, then by name, so that the same are always shown."""
    gap = pl.col("reward_a") - pl.col("reward_b")
    sides = [
        table.filter(sign * gap > SAME).sort(-gap.abs().round(6), "query_id").head(show).to_dicts() for sign in (1, -1)
    ]
    shown = [row["query_id"] for side in sides for row in side]
    told = [_told(run, panel, at, shown) for run, panel in zip(runs, both, strict=True)]
    mine, other = (
        [Moved(**row, did_a=told[0][row["query_id"]], did_b=told[1][row["query_id"]]) for row in side] for side in sides
    )
    return mine, other


def _told(run: Run, panel: Panel, at: float, queries: list[str]) -> dict[str, str]:
    setting = float(panel.settings[panel.nearest(at)])
    rows = run.decisions.filter(
        pl.col("router") == panel.router,
        pl.col("seed") == panel.seeds[0],
        pl.col("setting") == setting,
        pl.col("query_id").is_in(queries),
    )
    return {row["query_id"]: did(row["calls"], row["final"], row["answered_by"]) for row in rows.to_dicts()}


def _notes(a: Run, b: Run, common: int) -> list[str]:
    """What makes the two less alike than a pair should be."""
    found = []
    left = [f"{len(run.queries) - common:,} of {run.name}" for run in (a, b) if len(run.queries) > common]
    if left:
        found.append(f"left out, as only one run has them: queries {' and '.join(left)}")
    worlds = [str((run.manifest.get("profile") or {}).get("name", "calm")) for run in (a, b)]
    if worlds[0] != worlds[1]:
        found.append(f"the runs were played in different worlds: A in {worlds[0]}, B in {worlds[1]}")
    return found
