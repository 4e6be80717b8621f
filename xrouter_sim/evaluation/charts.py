"""The report's other charts: reward against λ, behaviours, the training curve, robustness."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import altair as alt
import polars as pl

from xrouter_sim.evaluation.labels import SIDES, Anchor, place
from xrouter_sim.evaluation.metrics import BEHAVIOURS
from xrouter_sim.evaluation.robustness import CALM, Kept
from xrouter_sim.evaluation.statistics import Figure
from xrouter_sim.evaluation.style import CSS, Drawing, Palette, finished, inline, role, stroke, weight
from xrouter_sim.evaluation.summary import RouterSummary, RunSummary
from xrouter_sim.evaluation.words import interval, money

STEPS = tuple(step / 6 for step in range(7))  # where along a line segment labels keep clear of it
BEND = 0.5  # λ below which the λ axis is nearly linear, above which nearly logarithmic
TRAINING = {
    "reward": "reward, training episodes",
    "validation_reward": "reward, validation episodes",
    "accuracy": "accuracy",
    "cost_usd": "cost of 1,000 queries (USD)",
    "calls_per_episode": "calls per episode",
    "entropy": "entropy of the policy (nats)",
}
"""Columns of training.parquet that have a chart, with its title."""

SHAPES = ("circle", "triangle-up", "square", "diamond", "cross", "triangle-down")
Row = dict[str, Any]


@dataclass(frozen=True)
class Titled:
    """A small chart with the heading that the page sets above it."""

    title: str
    chart: Drawing


def reward_by_lambda(summary: RunSummary, palette: Palette = CSS) -> Drawing:
    """Reward against λ, every router a line; bands are 95% intervals of the reference and its best one-call rival."""
    best = summary.best_one_call.get(f"reward λ={summary.at:g}")
    banded = [summary.reference, *([best.router] if best else [])]
    rows = [row for router in summary.routers for row in _reward_rows(router, role(router, summary))]
    x = alt.X("setting:Q", title="λ, the cost penalty (bent scale)", scale=alt.Scale(type="symlog", constant=BEND))
    lams = [point.setting for point in summary[summary.reference].points]
    x = x.axis(values=_spread(lams), labelExpr="'' + datum.value", grid=False, labelOverlap="greedy", labelSeparation=5)
    y = alt.Y("reward:Q", title="mean reward", scale=alt.Scale(zero=True, nice=False, domain=[0, 1]))
    tips = [alt.Tooltip(f"{name}:N") for name in ("router", "setting", "interval")]
    base = alt.Chart(inline(rows)).encode(x=x, y=y)
    lines = base.mark_line().encode(
        detail="router:N", color=palette.colour("role"), strokeDash=palette.dash("role"), **stroke()
    )
    dots = base.mark_point(size=60, opacity=0, filled=True).encode(tooltip=tips)
    bands = [
        alt.Chart(inline([row for row in rows if row["router"] == name]))
        .mark_area(opacity=0.16, aria=False)
        .encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=palette.colour("role"))
        for name in reversed(banded)
    ]
    named = [*banded, *([summary.oracle] if summary.oracle else [])]
    texts = _line_labels([row for row in rows if row["router"] in named], named, lams, palette)
    description = f"Mean reward against λ. {_told(summary)}"
    return finished(alt.layer(*bands, lines, dots, *texts), palette, description, 340)


def behaviours(summary: RunSummary, palette: Palette = CSS) -> Drawing:
    """How episodes went, a stacked bar a router, at the summary's setting."""
    routers = [row for row in summary.ranked() if not row.router.startswith("always:")]
    rows = [row for router in routers for row in _behaviour_rows(router.router, router.behaviour)]
    parts = ", ".join(f"{name} {_percent(value)}" for name, value in summary[summary.reference].behaviour.items())
    return _stacked(
        rows, [row.router for row in routers], None, palette, f"Behaviour mix. {summary.reference}: {parts}."
    )


def training_curves(training: pl.DataFrame, palette: Palette = CSS) -> list[Titled]:
    """One small chart for each column of TRAINING that the run has."""
    found = []
    across = "episodes" if "episodes" in training.columns else "update"
    for column, title in TRAINING.items():
        if column not in training.columns:
            continue
        values = training.select(pl.col(across).alias("x"), pl.col(column).cast(pl.Float64).alias("y")).drop_nulls()
        values = values.filter(pl.col("y").is_finite())
        if values.is_empty():
            continue
        if column == "cost_usd":
            values = values.with_columns(pl.col("y") * 1000)
        found.append(Titled(title, _curve(values, across, title, palette)))
    return found


def robustness_chart(kept: Sequence[Kept], summary: RunSummary, palette: Palette = CSS) -> Drawing | None:
    """Reward kept under every profile but calm, a mark with its interval a router; None without such profiles.

    Of the routers that always call one model only the most accurate model's is shown.
    """
    tried = [item for item in kept if item.profile != CALM and item.kept.value is not None]
    tried = [item for item in tried if item.router.removeprefix("always:") in (item.router, summary.best_model)]
    if not tried:
        return None
    names = [row.router for row in summary.ranked() if any(item.router == row.router for item in tried)]
    names += sorted({item.router for item in tried} - set(names))
    profiles = list(dict.fromkeys(item.profile for item in tried))
    rows = [_kept_row(item) for item in tried]
    colours = [palette.accent, palette.single, palette.sequential, palette.rival, palette.ink2, palette.ink]
    quiet = alt.Axis(ticks=False, domain=False, labelPadding=6, labelLimit=140)
    y = alt.Y("router:N", title=None, sort=names, axis=quiet)
    offset = alt.YOffset("profile:N", sort=profiles)
    top, legend = alt.Legend(orient="top", title=None, columns=3), [*profiles]
    colour = alt.Color(
        "profile:N", sort=legend, legend=top, scale=alt.Scale(domain=legend, range=_cycled(colours, legend))
    )
    shape = alt.Shape("profile:N", legend=top, scale=alt.Scale(domain=legend, range=_cycled(SHAPES, legend)))
    x = alt.X(
        "kept:Q",
        title="reward kept, as a part of calm",
        scale=alt.Scale(zero=False),
        axis=alt.Axis(format="~%", tickCount=4, labelOverlap="greedy"),
    )
    base = alt.Chart(inline(rows)).encode(y=y, yOffset=offset, color=colour)
    tips = [alt.Tooltip(f"{name}:N") for name in ("router", "profile", "interval", "reward")]
    bars = base.mark_rule(strokeWidth=1.6).encode(x=alt.X("low:Q", title=None), x2="high:Q")
    dots = base.mark_point(filled=True, size=52, opacity=1).encode(x=x, shape=shape, tooltip=tips)
    rule = (
        alt.Chart(inline([{"kept": 1.0}]))
        .mark_rule(color=palette.ink2, strokeDash=[3, 3], aria=False)
        .encode(x="kept:Q")
    )
    told = [f"{item.profile} {interval(item.kept)}" for item in tried if item.router == summary.reference]
    description = f"Reward kept as a part of calm. {summary.reference}: {', '.join(told)}."
    return finished(alt.layer(rule, bars, dots), palette, description, (10 + 11 * len(profiles)) * len(names))


def behaviour_by_lambda(summary: RunSummary, palette: Palette = CSS) -> Drawing:
    """How the reference router's episodes went at each setting: one stacked bar a λ."""
    points = summary[summary.reference].points
    mixes = [{name: Figure(share) for name, share in point.behaviour.items()} for point in points]
    names = [f"{point.setting:g}" for point in points]
    rows = [row for name, mix in zip(names, mixes, strict=True) for row in _behaviour_rows(name, mix)]
    return _stacked(rows, names, "λ", palette, f"Behaviour mix of {summary.reference} at each λ.")


def _reward_rows(router: RouterSummary, part: str) -> list[Row]:
    return [
        {
            "router": router.router,
            "role": part,
            "setting": point.setting,
            "reward": point.reward.value,
            "low": point.reward.low,
            "high": point.reward.high,
            "interval": interval(point.reward),
        }
        | weight(part)
        | ({"opacity": 0.35, "width": 1.0} if part == "fixed" else {})
        for point in router.points
    ]


def _line_labels(rows: list[Row], named: Sequence[str], lams: Sequence[float], palette: Palette) -> list[Drawing]:
    """Labels of the named lines, hung along the line from its middle outwards, where a telephone has room too."""
    width, height, end = 285.0, 340.0, max(max(lams), BEND)

    def px(row: Row) -> tuple[float, float]:
        return math.log1p(row["setting"] / BEND) / math.log1p(end / BEND) * width, (1 - row["reward"]) * height

    of = {name: [row for row in rows if row["router"] == name] for name in named}
    anchors = [Anchor(name, [px(row) for row in of[name]][1:] or [px(row) for row in of[name]]) for name in named]
    found = []
    corners = [(px(here), px(there)) for line in of.values() for here, there in pairwise(line)]
    path = [(x0 + part * (x1 - x0), y0 + part * (y1 - y0)) for (x0, y0), (x1, y1) in corners for part in STEPS]
    for item in place(anchors, path, (width, height)):
        name = named[item.anchor]
        row = (of[name][1:] or of[name])[item.place]
        hang: Any = SIDES[item.side]
        mark = alt.Chart(inline([row]), name=f"label_line_{item.anchor}")
        mark = mark.mark_text(
            align=hang.align, baseline="middle", dx=hang.dx, dy=hang.dy, fontSize=12, aria=False, clip=True
        )
        found.append(mark.encode(x="setting:Q", y="reward:Q", text="router:N", color=palette.colour("role")))
    return found


def _spread(lams: Sequence[float]) -> list[float]:
    """Of the settings, those whose tick labels do not run into one another."""
    shown: list[float] = []
    for lam in sorted(lams):
        if not shown or math.log1p(lam / BEND) - math.log1p(shown[-1] / BEND) > 0.4:
            shown.append(lam)
    return shown


def _behaviour_rows(name: str, mix: dict[str, Figure]) -> list[Row]:
    return [
        {"name": name, "behaviour": what, "order": order, "share": mix[what].value, "interval": _percent(mix[what])}
        for order, what in enumerate(BEHAVIOURS)
    ]


def _stacked(rows: list[Row], names: list[str], title: str | None, palette: Palette, description: str) -> Drawing:
    scale = alt.Scale(domain=list(BEHAVIOURS), range=list(palette.behaviours))
    y = alt.Y("name:N", sort=names, title=title, axis=alt.Axis(ticks=False, domain=False, labelPadding=6, titleAngle=0))
    x = alt.X("share:Q", title="share of episodes", stack="zero", scale=alt.Scale(domain=[0, 1], nice=False))
    bars = (
        alt.Chart(inline(rows))
        .mark_bar(size=15, stroke=palette.paper, strokeWidth=1)
        .encode(
            y=y,
            x=x.axis(format="~%", tickCount=5),
            color=alt.Color("behaviour:N", scale=scale, legend=None),
            order="order:Q",
            tooltip=[
                alt.Tooltip("name:N", title=title or "router"),
                "behaviour:N",
                alt.Tooltip("interval:N", title="share"),
            ],
        )
    )
    return finished(bars, palette, description, 23 * len(names))


def _curve(values: pl.DataFrame, across: str, title: str, palette: Palette) -> Drawing:
    y = alt.Y("y:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4))
    x = alt.X("x:Q", title=across, axis=alt.Axis(tickCount=4, format="~s", grid=False))
    tips = [alt.Tooltip("x:Q", title=across, format=","), alt.Tooltip("y:Q", title=title, format=".4~f")]
    base = alt.Chart(inline(values.to_dicts())).encode(x=x, y=y)
    dots = base.mark_point(size=40, opacity=0, filled=True, aria=False).encode(tooltip=tips)
    first, last = float(values["y"][0]), float(values["y"][-1])
    line = base.mark_line(color=palette.accent, strokeWidth=1.8, point=False)
    return finished(alt.layer(line, dots), palette, f"{title}: from {first:.3g} to {last:.3g} over training.", 150)


def _kept_row(item: Kept) -> Row:
    return {
        "router": item.router,
        "profile": item.profile,
        "kept": item.kept.value,
        "low": item.kept.low if item.kept.low is not None else item.kept.value,
        "high": item.kept.high if item.kept.high is not None else item.kept.value,
        "interval": interval(item.kept),
        "reward": f"{interval(item.reward)}, {money(item.cost_per_1000_usd.value)} per 1,000 queries",
    }


def _cycled(items: Sequence[str], names: Sequence[str]) -> list[str]:
    return [items[i % len(items)] for i in range(len(names))]


def _percent(value: Figure) -> str:
    if value.value is None:
        return "–"
    ends = "" if value.low is None or value.high is None else f" [{value.low:.0%}, {value.high:.0%}]"
    return f"{value.value:.0%}{ends}"


def _told(summary: RunSummary) -> str:
    points = summary[summary.reference].points
    return f"{summary.reference}: " + ", ".join(f"{p.reward.value or 0:.3f} at λ={p.setting:g}" for p in points) + "."
