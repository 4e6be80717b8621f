"""What a run came to: every figure of every router, with intervals and paired differences, as plain data."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from responses_db.errors import LabError
from xrouter_sim.evaluation import metrics
from xrouter_sim.evaluation.metrics import Array
from xrouter_sim.evaluation.runs import Panel, Run
from xrouter_sim.evaluation.statistics import REPLICATES, Bootstrap, Figure, figure, figures

LAMBDAS = (0.0, 0.5, 1.0, 2.0)
"""The cost penalties whose rewards are told; those that a run has among its settings."""

USUAL_LAMBDA = 1.0
"""Where a table can show one setting only, it shows the one nearest to this."""

TARGETS = (0.95, 0.99, 1.0)
"""Parts of the best single model's accuracy whose cost is told."""

ONE_CALL_KINDS = ("fixed", "single-shot")
"""Kinds of router that decide from the query alone and make one call."""


@dataclasses.dataclass(frozen=True)
class Headline:
    """The figures by which routers are compared; also the paired difference of two routers' figures."""

    accuracy: Figure  # mean score at the setting `at`
    cost_per_1000_usd: Figure  # at the setting `at`
    reward: dict[float, Figure]  # λ -> mean reward at the setting λ
    aiq: Figure  # range form
    aiq_code_form: Figure


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
    headline: Headline
    difference: Headline | None  # the reference minus this router, paired; None for the reference itself
    regret: dict[float, Figure]  # λ -> the oracle's reward minus this router's; empty without an oracle
    cost_share_to_reach: dict[float, Figure]  # part of the best single model's accuracy -> part of its cost
    calls_per_episode: Figure
    latency_p50_s: Figure
    latency_p95_s: Figure
    behaviour: dict[str, Figure]  # exclusive: adds up to 1
    traits: dict[str, Figure]  # may overlap; `none` is the failure rate
    points: list[Point]
    hull: list[tuple[float, float]]  # (USD a query, score)
    calls_by_domain: dict[str, dict[str, float]]  # domain -> model -> share of calls
    cost_by_domain: dict[str, dict[str, float]]  # domain -> model -> share of cost


@dataclasses.dataclass(frozen=True)
class Best:
    """The best rival by one figure, picked with the test scores in hand: in the rival's favour."""

    router: str
    difference: Figure  # the reference minus it


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """All figures of a run."""

    name: str
    path: str
    reference: str  # the router that the others are compared with
    at: float  # the setting (λ) of the figures that need one
    queries: int
    seeds: int
    cost_range_usd: tuple[float, float] | None  # mean cost a query of the cheapest and the dearest single model
    best_model: str | None  # the single model with the best accuracy
    oracle: str | None
    best_one_call: dict[str, Best]  # "accuracy", "aiq", "reward λ=1", … -> the best fixed or single-shot router
    routers: list[RouterSummary]

    def __getitem__(self, router: str) -> RouterSummary:
        return next(row for row in self.routers if row.router == router)

    def ranked(self) -> list[RouterSummary]:
        """Routers by reward at `at`, best first."""
        return sorted(self.routers, key=lambda row: -(row.headline.reward[self.at].value or 0.0))


@dataclasses.dataclass(frozen=True)
class Rows:
    """One router's statistics in the sample (row 0) and in every replicate: what Figures are made of."""

    accuracy: Array
    cost: Array
    reward: dict[float, Array]
    aiq: Array
    aiq_code_form: Array
    curve_cost: Array  # (1 + replicates, settings)
    curve_score: Array
    curve_reward: Array

    def minus(self, other: "Rows") -> Headline:
        """The paired difference of two routers."""
        both = [lam for lam in self.reward if lam in other.reward]
        return Headline(
            accuracy=figure(self.accuracy - other.accuracy),
            cost_per_1000_usd=figure((self.cost - other.cost) * 1000),
            reward={lam: figure(self.reward[lam] - other.reward[lam]) for lam in both},
            aiq=figure(self.aiq - other.aiq),
            aiq_code_form=figure(self.aiq_code_form - other.aiq_code_form),
        )

    def headline(self) -> Headline:
        return Headline(
            accuracy=figure(self.accuracy),
            cost_per_1000_usd=figure(self.cost * 1000),
            reward={lam: figure(rows) for lam, rows in self.reward.items()},
            aiq=figure(self.aiq),
            aiq_code_form=figure(self.aiq_code_form),
        )


def summarise(
    run: Run, *, reference: str | None = None, at: float | None = None, replicates: int = REPLICATES, seed: int = 0
) -> RunSummary:
    """All figures of a run.

    `reference` is the router that the others are compared with (default: the trained one), `at` the setting of figures
    that need one (default: the one nearest to λ = 1). Raises LabError when the run has no such router or setting.
    """
    panels = run.panels
    name = reference or run.router
    if name not in panels:
        raise LabError(f"{run.path} has no router {name}: choose --reference among {', '.join(panels)}")
    at = _setting(panels[name], at, run)
    bootstrap = Bootstrap(len(panels[name].queries), replicates, seed)
    low, high = _cost_range(panels, bootstrap)
    rows = {router: _rows(panel, bootstrap, at, low, high) for router, panel in panels.items()}
    describe = functools.partial(_router, run, rows, bootstrap, at, name)
    best_model = _best_model(rows)
    return RunSummary(
        name=run.name,
        path=str(run.path),
        reference=name,
        at=at,
        queries=len(panels[name].queries),
        seeds=panels[name].score.shape[0],
        cost_range_usd=None if np.isnan(low[0]) else (float(low[0]), float(high[0])),
        best_model=best_model,
        oracle=_oracle(run),
        best_one_call=_best_one_call(run, rows, name),
        routers=[describe(router) for router in panels],
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
    """The trained router of one run minus that of another, paired; None when they were run on different queries."""
    left, right = mine.panels[mine.router], other.panels[other.router]
    if left.queries != right.queries:
        return None
    bootstrap = Bootstrap(len(left.queries), replicates, seed)
    low, high = _cost_range(mine.panels, bootstrap)
    return _rows(left, bootstrap, at, low, high).minus(_rows(right, bootstrap, at, low, high))


def _setting(panel: Panel, at: float | None, run: Run) -> float:
    if at is None:
        return float(panel.settings[panel.nearest(USUAL_LAMBDA)])
    if panel.at(at) is None:
        known = ", ".join(f"{value:g}" for value in panel.settings)
        raise LabError(f"{run.path} has no setting λ = {at:g}: choose --at among {known}")
    return at


def _cost_range(panels: Mapping[str, Panel], bootstrap: Bootstrap) -> tuple[Array, Array]:
    """Mean cost of the cheapest and of the dearest single model, in the sample and in each replicate.

    Each replicate has the range of its own queries, as another test set would.
    """
    costs = [panel.cost.mean(axis=(0, 1)) for router, panel in panels.items() if router.startswith("always:")]
    if not costs:
        nowhere = np.full(len(bootstrap.weights), np.nan)
        return nowhere, nowhere
    means = bootstrap.means(np.stack(costs))
    return means.min(axis=1), means.max(axis=1)


def _rows(panel: Panel, bootstrap: Bootstrap, at: float, low: Array, high: Array) -> Rows:
    cost, score, reward = (bootstrap.means(values.mean(axis=0)) for values in (panel.cost, panel.score, panel.reward))
    here = panel.nearest(at)
    places = {lam: panel.at(lam) for lam in sorted({*LAMBDAS, at})}
    return Rows(
        accuracy=score[:, here],
        cost=cost[:, here],
        reward={lam: reward[:, place] for lam, place in places.items() if place is not None},
        aiq=metrics.aiq(cost, score, low, high),
        aiq_code_form=metrics.aiq_code_form(cost, score, high),
        curve_cost=cost,
        curve_score=score,
        curve_reward=reward,
    )


def _router(
    run: Run, rows: Mapping[str, Rows], bootstrap: Bootstrap, at: float, reference: str, router: str
) -> RouterSummary:
    panel, mine = run.panels[router], rows[router]
    oracle = _oracle(run)
    here = panel.nearest(at)
    calls, turns, final, latency = (array[:, here] for array in (panel.calls, panel.turns, panel.final, panel.latency))
    went = metrics.behaviour(calls, turns, final)
    p50, p95 = figures(bootstrap.quantiles(latency, [0.5, 0.95]))

    def share(flags: Any) -> Figure:
        return figure(bootstrap.means(np.asarray(flags, dtype=float).mean(axis=0)))

    return RouterSummary(
        router=router,
        kind=run.kind(router),
        reads=run.reads(router),
        headline=mine.headline(),
        difference=None if router == reference else rows[reference].minus(mine),
        regret=rows[oracle].minus(mine).reward if oracle else {},
        cost_share_to_reach=_cost_shares(mine, rows),
        calls_per_episode=share(calls),
        latency_p50_s=p50,
        latency_p95_s=p95,
        behaviour={name: share(went == index) for index, name in enumerate(metrics.BEHAVIOURS)},
        traits={name: share(flags) for name, flags in metrics.traits(calls, turns, final).items()},
        points=_curve_points(panel, mine),
        hull=list(zip(*(axis.tolist() for axis in metrics.ndch(mine.curve_cost[0], mine.curve_score[0])), strict=True)),
        **_model_shares(run.decisions, router, float(panel.settings[here])),
    )


def _curve_points(panel: Panel, rows: Rows) -> list[Point]:
    went = metrics.behaviour(panel.calls, panel.turns, panel.final)
    found = []
    for place, lam in enumerate(panel.settings):
        mix = {name: float((went[:, place] == index).mean()) for index, name in enumerate(metrics.BEHAVIOURS)}
        score, cost, reward = (curve[:, place] for curve in (rows.curve_score, rows.curve_cost, rows.curve_reward))
        found.append(Point(float(lam), figure(score), figure(cost * 1000), figure(reward), mix))
    return found


def _cost_shares(mine: Rows, rows: Mapping[str, Rows]) -> dict[float, Figure]:
    """At what part of the best single model's cost the hull reaches parts of that model's accuracy."""
    best = _best_model(rows)
    if best is None:
        return {}
    other = rows[f"always:{best}"]
    paid = np.where(other.cost > 0, other.cost, np.nan)
    reach = functools.partial(metrics.cost_to_reach, mine.curve_cost, mine.curve_score)
    # A hair below the target, so that the best model reaches its own accuracy whatever the rounding.
    return {part: figure(reach(part * other.accuracy - 1e-12) / paid) for part in TARGETS}


def _model_shares(decisions: pl.DataFrame, router: str, setting: float) -> dict[str, dict[str, dict[str, float]]]:
    rows = decisions.filter(pl.col("router") == router, pl.col("setting") == setting).sort("query_id", "seed")
    calls = rows.select("domain", "calls").filter(pl.col("calls").list.len() > 0).explode("calls")
    calls = calls.select("domain", pl.col("calls").struct.field("model", "cost"))
    shares = functools.partial(metrics.shares, calls["domain"].to_numpy(), calls["model"].to_numpy())
    return {
        "calls_by_domain": shares(np.ones(calls.height)),
        "cost_by_domain": shares(calls["cost"].fill_null(0.0).to_numpy()),
    }


def _best_model(rows: Mapping[str, Rows]) -> str | None:
    """The single model with the best accuracy on the sample; of equals, the cheapest."""
    models = [router for router in rows if router.startswith("always:")]
    best = max(models, key=lambda r: (rows[r].curve_score[0].mean(), -rows[r].curve_cost[0].mean()), default=None)
    return best.removeprefix("always:") if best else None


def _oracle(run: Run) -> str | None:
    oracles = [router for router in run.panels if run.kind(router) == "oracle"]
    return "oracle" if "oracle" in oracles else next(iter(oracles), None)


def _best_one_call(run: Run, rows: Mapping[str, Rows], reference: str) -> dict[str, Best]:
    rivals = [router for router in rows if run.kind(router) in ONE_CALL_KINDS and router != reference]
    if not rivals:
        return {}
    by: dict[str, Callable[[Rows], Array]] = {"accuracy": lambda r: r.accuracy, "aiq": lambda r: r.aiq}
    for lam in rows[reference].reward:
        by[f"reward λ={lam:g}"] = functools.partial(lambda lam, r: r.reward[lam], lam)
    found = {}
    for what, of in by.items():
        best = max(rivals, key=lambda router: np.nan_to_num(of(rows[router])[0]))
        found[what] = Best(best, figure(of(rows[reference]) - of(rows[best])))
    return found
