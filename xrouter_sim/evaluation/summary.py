"""What a run came to: every figure of every router, with intervals and paired differences, as plain data."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from responses_db.errors import LabError
from xrouter_sim.evaluation import metrics
from xrouter_sim.evaluation.field import Field, Pool, field_of, pool_of
from xrouter_sim.evaluation.left import BoundFigures, Left, left_to_win
from xrouter_sim.evaluation.metrics import Array
from xrouter_sim.evaluation.predictions import Calibration, calibrations
from xrouter_sim.evaluation.rows import SINGLE, Headline, Rows, best_single, cost_range, rows_of
from xrouter_sim.evaluation.runs import Panel, Run
from xrouter_sim.evaluation.seeds import BySeed, SeedSpread, by_seed, leads, spread
from xrouter_sim.evaluation.statistics import REPLICATES, Bootstrap, Figure, figure, figures

USUAL_LAMBDA = 1.0
"""Where a table can show one setting only, it shows the one nearest to this."""

TARGETS = (0.95, 0.99, 1.0)
"""Parts of the best single model's accuracy whose cost is told."""

ONE_CALL_KINDS = ("fixed", "single-shot")
"""Kinds of router that decide from the query alone and make one call."""

STANDARD = ("best single", "cheapest", "random", "table", "knn", "oracle")
"""What every comparison must show; what a run lacks of it is named in `RunSummary.missing`, and in the tables."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A router's means at one setting of its dial."""

    setting: float
    accuracy: Figure
    cost_per_1000_usd: Figure
    reward: Figure
    behaviour: dict[str, float]  # exclusive shares of episodes


@dataclasses.dataclass(frozen=True)
class RouterSummary:
    """One router's figures. Those that need one setting use the run summary's `at`."""

    router: str
    kind: str
    reads: list[str]
    seeds: int
    headline: Headline
    difference: Headline | None  # the reference minus this router, paired; None for the reference itself
    spread: SeedSpread | None  # over seeds, apart from the intervals; None where there is one seed
    leads: dict[str, list[float]]  # figure -> what each seed of the reference has over this router; {} for one seed
    regret: dict[float, Figure]  # λ -> the oracle's reward minus this router's; empty without an oracle
    regret_to: dict[str, Figure]  # bound -> its reward minus this router's, at `at`
    field: Field  # the scores of the field's benchmarks
    calibration: Calibration | None  # where the run says what the router foretold
    cost_share_to_reach: dict[float, Figure]  # part of the best single model's accuracy -> part of its cost
    calls_per_episode: Figure
    latency_p50_s: Figure
    latency_p95_s: Figure
    behaviour: dict[str, Figure]  # exclusive: adds up to 1
    traits: dict[str, Figure]  # may overlap; `none` is the failure rate
    points: list[Point]
    hull: list[tuple[float, float]]  # (USD a query, score); empty where costs are left out
    calls_by_domain: dict[str, dict[str, float]]  # domain -> model -> share of calls
    cost_by_domain: dict[str, dict[str, float]]  # domain -> model -> share of cost


@dataclasses.dataclass(frozen=True)
class Best:
    """The best rival by one figure, picked with the test scores in hand: in the rival's favour."""

    router: str
    difference: Figure  # the reference minus it
    leads: list[float]  # the same by seed; empty for one seed


@dataclasses.dataclass(frozen=True)
class ZeroFigures:
    """RouterBench's zero router: single models mixed at random, without a look at the query."""

    aiq: Figure
    aiq_code_form: Figure
    difference: Figure  # the reference's AIQ (range form) minus it, paired
    hull: list[tuple[float, float]]  # (USD a query, score)


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """All figures of a run."""

    name: str
    path: str
    reference: str  # the router that the others are compared with
    at: float  # the setting (λ) of the figures that need one
    queries: int
    seeds: int  # of the reference
    cost_range_usd: tuple[float, float] | None  # mean cost a query of the cheapest and the dearest single model
    best_model: str | None  # the single model with the best accuracy
    oracle: str | None
    missing: list[str]  # of STANDARD, what the run has no decisions of
    zero_router: ZeroFigures | None  # None without single models or costs
    bounds: list[BoundFigures]  # what routers that know more than any router can would earn at `at`, the highest first
    bounds_note: str
    best_one_call: dict[str, Best]  # "accuracy", "aiq", "reward λ=1", … -> the best fixed or single-shot router
    routers: list[RouterSummary]

    def __getitem__(self, router: str) -> RouterSummary:
        return next(row for row in self.routers if row.router == router)

    def ranked(self) -> list[RouterSummary]:
        """Routers by reward at `at`, best first."""
        return sorted(self.routers, key=lambda row: -(row.headline.reward[self.at].value or 0.0))


@dataclasses.dataclass(frozen=True)
class _Measured:
    """What all routers' summaries are made from."""

    run: Run
    reference: str
    at: float
    bootstrap: Bootstrap
    rows: dict[str, Rows]
    seeds: dict[str, BySeed]
    pool: Pool
    left: Left
    calibration: dict[str, Calibration]
    oracle: str | None


def summarise(
    run: Run, *, reference: str | None = None, at: float | None = None, replicates: int = REPLICATES, seed: int = 0
) -> RunSummary:
    """All figures of a run, or of several put together by `joining.joined`.

    `reference` is the router that the others are compared with (default: the trained one), `at` the setting of figures
    that need one (default: the one nearest to λ = 1). Raises LabError when the run has no such router or setting.
    """
    panels = run.panels
    name = reference or run.router
    if name not in panels:
        raise LabError(f"{run.path} has no router {name}: choose --reference among {', '.join(panels)}")
    at = _setting(panels[name], at, run)
    bootstrap = Bootstrap(len(panels[name].queries), replicates, seed)
    low, high = cost_range(panels, bootstrap)
    rows = {router: rows_of(panel, bootstrap, at, low, high) for router, panel in panels.items()}
    known = calibrations(run.predictions, replicates, seed) if run.predictions is not None else {}
    measured = _Measured(
        run=run,
        reference=name,
        at=at,
        bootstrap=bootstrap,
        rows=rows,
        seeds={router: by_seed(panel, at, float(low[0]), float(high[0])) for router, panel in panels.items()},
        pool=pool_of(run, rows, bootstrap, at),
        left=left_to_win(run, at, bootstrap),
        calibration=known,
        oracle=_oracle(run),
    )
    best = best_single(rows)
    return RunSummary(
        name=run.name,
        path=str(run.path),
        reference=name,
        at=at,
        queries=len(panels[name].queries),
        seeds=len(panels[name].seeds),
        cost_range_usd=None if np.isnan(low[0]) else (float(low[0]), float(high[0])),
        best_model=best.removeprefix(SINGLE) if best else None,
        oracle=measured.oracle,
        missing=[part for part in STANDARD if part not in {*panels, *(["best single"] if best else [])}],
        zero_router=_zero_router(measured, low, high),
        bounds=measured.left.figures(),
        bounds_note=measured.left.note,
        best_one_call=_best_one_call(measured),
        routers=[_router(measured, router) for router in panels],
    )


def as_json(value: Any) -> Any:
    """Summaries as what JSON has: figures as {"value", "low", "high"}, λ keys as text, no nan."""
    if isinstance(value, Figure):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {f"{key:g}" if isinstance(key, float) else str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value


def compare(mine: Run, other: Run, *, at: float, replicates: int = REPLICATES, seed: int = 0) -> Headline | None:
    """The trained router of one run minus that of another, paired.

    None when they were run on different queries, or other answers to them, or count costs in another unit.
    """
    left, right = mine.panels[mine.router], other.panels[other.router]
    stores = [(run.manifest["store"].get("content_hash"), run.manifest["cost_unit_usd"]) for run in (mine, other)]
    if left.queries != right.queries or stores[0] != stores[1]:
        return None
    bootstrap = Bootstrap(len(left.queries), replicates, seed)
    low, high = cost_range(mine.panels, bootstrap)
    return rows_of(left, bootstrap, at, low, high).minus(rows_of(right, bootstrap, at, low, high))


def _setting(panel: Panel, at: float | None, run: Run) -> float:
    if at is None:
        return float(panel.settings[panel.nearest(USUAL_LAMBDA)])
    if panel.at(at) is None:
        known = ", ".join(f"{value:g}" for value in panel.settings)
        raise LabError(f"{run.path} has no setting λ = {at:g}: choose --at among {known}")
    return at


def _router(measured: _Measured, router: str) -> RouterSummary:
    run, at, bootstrap = measured.run, measured.at, measured.bootstrap
    panel, mine, reference = run.panels[router], measured.rows[router], measured.reference
    here = panel.nearest(at)
    calls, turns, final, latency = (array[:, here] for array in (panel.calls, panel.turns, panel.final, panel.latency))
    went, seen = metrics.behaviour(calls, turns, final), metrics.traits(calls, turns, final)
    p50, p95 = figures(bootstrap.quantiles(latency, [0.5, 0.95]))
    mix = [went == index for index in range(len(metrics.BEHAVIOURS))]
    shares = figures(bootstrap.means(np.stack([calls, *mix, *seen.values()]).astype(float).mean(axis=1)))

    return RouterSummary(
        router=router,
        kind=run.kind(router),
        reads=run.reads(router),
        seeds=len(panel.seeds),
        headline=mine.headline(),
        difference=None if router == reference else measured.rows[reference].minus(mine),
        spread=spread(measured.seeds[router]),
        leads=leads(measured.seeds[reference], measured.seeds[router], at) if router != reference else {},
        regret=measured.rows[measured.oracle].minus(mine).reward if measured.oracle else {},
        regret_to=measured.left.regrets(mine.reward.get(at)),
        field=field_of(measured.pool, panel, mine),
        calibration=measured.calibration.get(router),
        cost_share_to_reach=_cost_shares(mine, measured.pool.best),
        calls_per_episode=shares[0],
        latency_p50_s=p50,
        latency_p95_s=p95,
        behaviour=dict(zip(metrics.BEHAVIOURS, shares[1 : 1 + len(mix)], strict=True)),
        traits=dict(zip(seen, shares[1 + len(mix) :], strict=True)),
        points=_curve_points(panel, mine),
        hull=_hull(mine.curve_cost[0], mine.curve_score[0]),
        **_model_shares(run.decisions, router, float(panel.settings[here])),
    )


def _hull(cost: Array, score: Array) -> list[tuple[float, float]]:
    if np.isnan(cost).any():
        return []
    return list(zip(*(axis.tolist() for axis in metrics.ndch(cost, score)), strict=True))


def _curve_points(panel: Panel, rows: Rows) -> list[Point]:
    went = metrics.behaviour(panel.calls, panel.turns, panel.final)
    found = []
    for place, lam in enumerate(panel.settings):
        mix = {name: float((went[:, place] == index).mean()) for index, name in enumerate(metrics.BEHAVIOURS)}
        score, cost, reward = (curve[:, place] for curve in (rows.curve_score, rows.curve_cost, rows.curve_reward))
        found.append(Point(float(lam), figure(score), figure(cost * 1000), figure(reward), mix))
    return found


def _cost_shares(mine: Rows, best: Rows | None) -> dict[float, Figure]:
    """At what part of the best single model's cost the hull reaches parts of that model's accuracy."""
    if best is None or not (mine.priced and best.priced):
        return {}
    neutral = functools.partial(metrics.quality_neutral_cost, mine.curve_cost, mine.curve_score, best.cost)
    return {part: figure(neutral(part * best.accuracy)) for part in TARGETS}


def _model_shares(decisions: pl.DataFrame, router: str, setting: float) -> dict[str, dict[str, dict[str, float]]]:
    rows = decisions.filter(pl.col("router") == router, pl.col("setting") == setting).sort("query_id", "seed")
    calls = rows.select("domain", "calls").filter(pl.col("calls").list.len() > 0).explode("calls")
    calls = calls.select("domain", pl.col("calls").struct.field("model", "cost"))
    shares = functools.partial(metrics.shares, calls["domain"].to_numpy(), calls["model"].to_numpy())
    return {
        "calls_by_domain": shares(np.ones(calls.height)),
        "cost_by_domain": shares(calls["cost"].fill_null(0.0).to_numpy()),
    }


def _zero_router(measured: _Measured, low: Array, high: Array) -> ZeroFigures | None:
    singles = [rows for router, rows in measured.rows.items() if router.startswith(SINGLE)]
    if not singles or not all(rows.priced for rows in singles):
        return None
    cost = np.concatenate([rows.curve_cost for rows in singles], axis=1)
    score = np.concatenate([rows.curve_score for rows in singles], axis=1)
    aiq = metrics.aiq(cost, score, low, high)
    return ZeroFigures(
        figure(aiq),
        figure(metrics.aiq_code_form(cost, score, high)),
        figure(measured.rows[measured.reference].aiq - aiq),
        _hull(cost[0], score[0]),
    )


def _oracle(run: Run) -> str | None:
    oracles = [router for router in run.panels if run.kind(router) == "oracle"]
    return "oracle" if "oracle" in oracles else next(iter(oracles), None)


def _best_one_call(measured: _Measured) -> dict[str, Best]:
    run, rows, reference = measured.run, measured.rows, measured.reference
    rivals = [router for router in rows if run.kind(router) in ONE_CALL_KINDS and router != reference]
    if not rivals:
        return {}
    by: dict[str, Callable[[Rows], Array]] = {"accuracy": lambda r: r.accuracy}
    if rows[reference].priced:
        by["aiq"] = lambda r: r.aiq
    for lam in rows[reference].reward:
        by[f"reward λ={lam:g}"] = functools.partial(lambda lam, r: r.reward[lam], lam)
    at = f"reward λ={measured.at:g}"
    found = {}
    for what, of in by.items():
        there = [router for router in rivals if not what.startswith("reward") or _has(rows[router], what)]
        if not there:
            continue
        best = max(there, key=lambda router: np.nan_to_num(of(rows[router])[0]))
        apart = leads(measured.seeds[reference], measured.seeds[best], measured.at)
        seen = apart.get("reward" if what == at else what, [])
        found[what] = Best(best, figure(of(rows[reference]) - of(rows[best])), seen)
    return found


def _has(rows: Rows, what: str) -> bool:
    return any(what == f"reward λ={lam:g}" for lam in rows.reward)
