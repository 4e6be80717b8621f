"""The cost–quality picture: hulls of the routers, dots of the single models, labels where they fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np

from xrouter_sim.evaluation.labels import SIDES, Anchor, place
from xrouter_sim.evaluation.style import HEIGHT, Drawing, Palette, finished, inline, role, stroke, weight
from xrouter_sim.evaluation.summary import RouterSummary, RunSummary
from xrouter_sim.evaluation.words import money

WIDE, NARROW = 700.0, 285.0  # px of the plot itself for which labels are placed: a desk and a telephone
STEPS = 24  # points that draw one hull segment: straight in USD is curved on a log axis
Row = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """One router's hull, as drawn."""

    name: str
    role: str
    cost: list[float]  # USD per 1,000 queries
    score: list[float]


@dataclass(frozen=True)
class Frame:
    """What part of the plane is shown: log cost and score."""

    cost: tuple[float, float]
    score: tuple[float, float]

    def px(self, cost: float, score: float, width: float) -> tuple[float, float]:
        (c0, c1), (s0, s1) = np.log(self.cost), self.score
        return float((np.log(cost) - c0) / (c1 - c0) * width), float((s1 - score) / (s1 - s0) * HEIGHT)


def frontier(summary: RunSummary, palette: Palette, *, narrow: bool = True) -> Drawing:
    """Cost–quality picture of one run. `narrow` adds the labels that a telephone's style sheet switches to."""
    routers = [row for row in summary.routers if not row.router.startswith("always:")]
    frame = _frame([*summary.routers])
    lines = [_line(row, role(row, summary), frame) for row in routers]
    lines = sorted((line for line in lines if line.cost), key=lambda line: -palette.order(line.role))
    models = sorted(summary.routers, key=lambda row: -(row.headline.accuracy.value or 0.0))
    dots = [_dot(row) for row in models if row.router.startswith("always:") and row.hull and row.hull[0][0] > 0]
    named = _named(summary)
    layers = [_lines(lines, palette), *_settings(summary, palette, frame), _dots(dots, palette)]
    layers += _labels(lines, dots, named, frame, palette, WIDE, "wide")
    layers += _labels(lines, dots, named, frame, palette, NARROW, "narrow") if narrow else []
    return _framed(layers, frame, palette, _describe(summary))


def frontiers(summaries: Sequence[RunSummary], palette: Palette) -> Drawing:
    """The hulls of several runs' reference routers in one picture, labelled by run."""
    rows = [summary[summary.reference] for summary in summaries]
    frame = _frame(rows)
    roles = ["reference", *(["rival"] * (len(rows) - 1))]
    lines = [
        Line(f"{row.router} of {summary.name}", part, *_drawn(row, frame))
        for summary, row, part in zip(summaries, rows, roles, strict=True)
    ]
    lines = [line for line in lines if line.cost]
    named = [line.name for line in lines]
    layers = [_lines(lines, palette)]
    layers += _labels(lines, [], named, frame, palette, WIDE, "wide")
    layers += _labels(lines, [], named, frame, palette, NARROW, "narrow")
    return _framed(layers, frame, palette, f"Cost–quality hulls of {len(rows)} runs' routers.")


def _frame(rows: Sequence[RouterSummary]) -> Frame:
    """Wide enough for every point that costs something."""
    paid = [(c * 1000, s) for row in rows for c, s in row.hull if c > 0]
    costs, scores = zip(*paid, strict=True) if paid else ((1.0,), (0.5,))
    low, high = min(scores), max(scores)
    room = max(high - low, 0.05)
    return Frame((min(costs) / 1.35, max(costs) * 1.6), (max(0.0, low - 0.07 * room), min(1.02, high + 0.1 * room)))


def _drawn(row: RouterSummary, frame: Frame) -> tuple[list[float], list[float]]:
    """The hull as a dense line in USD per 1,000 queries, from the frame's left edge on."""
    if not row.hull:
        return [], []
    cost, score = (np.array(axis) for axis in zip(*row.hull, strict=True))
    cost = cost * 1000
    start, end = max(cost[0], frame.cost[0]), cost[-1]
    if end < start:
        return [], []
    knots = np.unique(np.concatenate([np.geomspace(start, end, STEPS * len(cost)), cost[cost >= start]]))
    return knots.tolist(), np.interp(knots, cost, score).tolist()


def _line(row: RouterSummary, part: str, frame: Frame) -> Line:
    return Line(row.router, part, *_drawn(row, frame))


def _dot(row: RouterSummary) -> Row:
    figures = row.points[0]
    return {
        "name": row.router.removeprefix("always:"),
        "cost": row.hull[0][0] * 1000,
        "score": row.hull[0][1],
        "accuracy": _range(figures.accuracy.value, figures.accuracy.low, figures.accuracy.high),
        "spent": f"{money(row.hull[0][0] * 1000)} per 1,000 queries",
    }


def _short(name: str, among: Sequence[str]) -> str:
    """A model's name without its maker, where that still tells it from the others."""
    last = name.rsplit("/", 1)[-1]
    return last if [other.rsplit("/", 1)[-1] for other in among].count(last) == 1 else name


def _range(value: float | None, low: float | None, high: float | None) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]" if None not in (value, low, high) else f"{value}"


def _named(summary: RunSummary) -> list[str]:
    """The lines that get a label, most important first: the reference, the oracle and the best of each kind."""
    by_aiq = sorted(summary.routers, key=lambda row: -(row.headline.aiq.value or 0.0))
    best = {
        kind: next((row.router for row in by_aiq if row.kind == kind and row.router != summary.reference), None)
        for kind in ("sequential", "single-shot", "rl")
    }
    fixed = [row.router for row in by_aiq if row.kind == "fixed" and not row.router.startswith("always:")]
    return [name for name in (summary.reference, summary.oracle, *best.values(), *fixed) if name]


def _lines(lines: Sequence[Line], palette: Palette) -> Drawing:
    rows = [
        {"router": line.name, "role": line.role, "cost": cost, "score": score, "spent": money(cost)} | weight(line.role)
        for line in lines
        for cost, score in zip(line.cost, line.score, strict=True)
    ]
    # A hull of one point is no line: every line also gets a dot at its end.
    ends = [
        row for row, after in zip(rows, [*rows[1:], None], strict=True) if not after or after["router"] != row["router"]
    ]
    tips = [
        alt.Tooltip("router:N"),
        alt.Tooltip("spent:N", title="per 1,000 queries"),
        alt.Tooltip("score:Q", format=".3f"),
    ]
    base = {"color": palette.colour("role"), "tooltip": tips}
    drawn = (
        alt.Chart(inline(rows))
        .mark_line(interpolate="linear")
        .encode(
            x=_x(),
            y=_y(),
            detail="router:N",
            strokeDash=palette.dash("role"),
            **stroke(),
            **base,
        )
    )
    dots = alt.Chart(inline(ends)).mark_point(filled=True, size=26, opacity=1).encode(x=_x(), y=_y(), **base)
    return alt.layer(drawn, dots)


def _settings(summary: RunSummary, palette: Palette, frame: Frame) -> list[Drawing]:
    """The reference router's own points, one a setting, so that the dial can be read off."""
    rows = [
        {
            "setting": f"λ={point.setting:g}",
            "cost": point.cost_per_1000_usd.value,
            "score": point.accuracy.value,
            "spent": money(point.cost_per_1000_usd.value),
            "accuracy": _range(point.accuracy.value, point.accuracy.low, point.accuracy.high),
            "router": summary.reference,
        }
        for point in summary[summary.reference].points
        if (point.cost_per_1000_usd.value or 0.0) >= frame.cost[0] and (point.accuracy.value or 0.0) >= frame.score[0]
    ]
    tips = [alt.Tooltip(f"{name}:N") for name in ("router", "setting", "accuracy")]
    tips.append(alt.Tooltip("spent:N", title="per 1,000 queries"))
    mark = alt.Chart(inline(rows)).mark_point(
        size=34, filled=True, color=palette.paper, stroke=palette.accent, opacity=1
    )
    return [mark.encode(x=_x(), y=_y(), tooltip=tips)] if rows else []


def _dots(dots: Sequence[Row], palette: Palette) -> Drawing:
    mark = alt.Chart(inline(dots)).mark_point(shape="diamond", size=70, filled=True, color=palette.ink2, opacity=1)
    tips = [
        alt.Tooltip("name:N", title="single model"),
        alt.Tooltip("accuracy:N"),
        alt.Tooltip("spent:N", title="cost"),
    ]
    return mark.encode(x=_x(), y=_y(), tooltip=tips)


def _labels(
    lines: Sequence[Line],
    dots: Sequence[Row],
    named: Sequence[str],
    frame: Frame,
    palette: Palette,
    width: float,
    tag: str,
) -> list[Drawing]:
    """Text layers, one a side, named label_TAG_SIDE so that a style sheet can pick the set for its width."""
    wanted = _wanted(lines, dots, named)
    points = [[(row["cost"], row["score"]) for row in rows] for rows in wanted]
    anchors = [
        Anchor(rows[0]["text"], [frame.px(*point, width) for point in line])
        for rows, line in zip(wanted, points, strict=True)
    ]
    obstacles = [(dot["cost"], dot["score"]) for dot in dots]
    strong = [line for line in lines if line.role in ("reference", "rival", "sequential")]
    obstacles += [point for line in strong for point in zip(line.cost, line.score, strict=True)]
    obstacles += [(line.cost[-1], line.score[-1]) for line in lines]
    placed = place(anchors, [frame.px(*point, width) for point in obstacles], (width, HEIGHT))
    by_side: dict[str, list[Row]] = {}
    for item in placed:
        by_side.setdefault(item.side, []).append(wanted[item.anchor][item.place])
    return [_texts(found, side, palette, f"label_{tag}_{side.replace(' ', '_')}") for side, found in by_side.items()]


def _wanted(lines: Sequence[Line], dots: Sequence[Row], named: Sequence[str]) -> list[list[Row]]:
    """The labels to place, most important first, each with the places where it may hang.

    The two most important lines, the most accurate model, the other named lines, the other models.
    """
    of = {line.name: line for line in lines}
    routers = [_along(of[name]) for name in named if name in of]
    names = [dot["name"] for dot in dots]
    models = [
        [{"text": _short(dot["name"], names), "role": "model", "cost": dot["cost"], "score": dot["score"]}]
        for dot in dots
    ]
    return [*routers[:2], *models[:1], *routers[2:], *models[1:]]


def _along(line: Line) -> list[Row]:
    """A line's label at its end, and further down for want of room."""
    picks = [-1, 3 * len(line.cost) // 4, len(line.cost) // 2, len(line.cost) // 4, 0]
    return [{"text": line.name, "role": line.role, "cost": line.cost[i], "score": line.score[i]} for i in picks]


def _texts(rows: list[Row], side: str, palette: Palette, name: str) -> Drawing:
    hang: Any = SIDES[side]
    mark = alt.Chart(inline(rows), name=name).mark_text(
        align=hang.align, baseline="middle", dx=hang.dx, dy=hang.dy, fontSize=12, aria=False, clip=True
    )
    return mark.encode(x=_x(), y=_y(), text="text:N", color=palette.colour("role"))


def _x() -> alt.X:
    return alt.X("cost:Q")


def _y() -> alt.Y:
    return alt.Y("score:Q")


def _framed(layers: list[Drawing], frame: Frame, palette: Palette, description: str) -> Drawing:
    ticks = [factor * 10.0**power for power in range(-7, 6) for factor in (1, 2, 5)]
    ticks = [tick for tick in ticks if frame.cost[0] <= tick <= frame.cost[1]]
    x = alt.X(
        "cost:Q",
        title="mean cost of 1,000 queries (USD, log scale)",
        scale=alt.Scale(type="log", domain=list(frame.cost), nice=False),
        axis=alt.Axis(
            values=ticks,
            labelExpr="'$' + format(datum.value, ',.4~r')",
            grid=False,
            labelOverlap="greedy",
            labelSeparation=5,
        ),
    )
    y = alt.Y(
        "score:Q",
        title="mean score (accuracy)",
        scale=alt.Scale(domain=list(frame.score), nice=False, zero=False),
        axis=alt.Axis(tickCount=6, format=".2~f"),
    )
    invisible = alt.Chart(inline([{"cost": frame.cost[0], "score": frame.score[0]}])).mark_point(opacity=0, aria=False)
    return finished(alt.layer(invisible.encode(x=x, y=y), *layers), palette, description)


def _describe(summary: RunSummary) -> str:
    own = summary[summary.reference]
    if not own.hull:
        return "No cost–quality picture: the run leaves costs out."
    end = own.hull[-1]
    text = (
        f"Cost–quality picture: mean score against mean cost. The hull of {summary.reference} ends at a score of "
        f"{end[1]:.3f} for {money(end[0] * 1000)} per 1,000 queries."
    )
    if summary.oracle and summary[summary.oracle].hull:
        top = summary[summary.oracle].hull[-1]
        text += f" {summary.oracle} ends at {top[1]:.3f} for {money(top[0] * 1000)}."
    return text
