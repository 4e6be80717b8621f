"""How charts look: roles of routers, their colours, and the frame that all charts share.

A chart on the page takes its colours from the page's CSS variables, so that light and dark need one drawing; a
picture on its own takes them from LIGHT. Colours are Okabe and Ito's, safe for colour-blind eyes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from xrouter_sim.evaluation.summary import RouterSummary, RunSummary

Drawing = Any  # an Altair chart: its classes differ by how a chart was put together, and say nothing here
HEIGHT = 400  # px of a large plot
FONT = "ui-sans-serif, system-ui, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
ROLES = ("reference", "oracle", "rival", "sequential", "single-shot", "fixed", "model")
"""What a router is in a picture, most prominent first. `rival` is another RL router, `model` a single model's dot."""


@dataclass(frozen=True)
class Palette:
    """Colours by name; each any CSS colour."""

    paper: str
    ink: str
    ink2: str
    grid: str
    accent: str  # the reference router
    rival: str
    sequential: str
    single: str
    fixed: str
    behaviours: tuple[str, ...]  # in the order of metrics.BEHAVIOURS

    def order(self, part: str) -> int:
        return ROLES.index(part)

    def colour(self, field: str) -> alt.Color:
        colours = [self.accent, self.ink, self.rival, self.sequential, self.single, self.fixed, self.ink2]
        return alt.Color(f"{field}:N", scale=alt.Scale(domain=list(ROLES), range=colours), legend=None)

    def dash(self, field: str) -> alt.StrokeDash:
        dashes = [[1, 0], [6, 4], [1, 0], [1, 0], [1, 0], [2, 2], [1, 0]]
        return alt.StrokeDash(f"{field}:N", scale=alt.Scale(domain=list(ROLES), range=dashes), legend=None)


WIDTHS = dict(zip(ROLES, (3.2, 1.6, 2.0, 1.8, 1.2, 1.2, 1.0), strict=True))
"""Stroke width in px by role."""
OPACITIES = dict(zip(ROLES, (1.0, 1.0, 0.9, 0.9, 0.5, 0.9, 1.0), strict=True))
"""Stroke opacity by role; many single-shot routers lie on top of one another."""


CSS = Palette(
    **{name: f"var(--{name})" for name in ("paper", "ink", "ink2", "grid", "accent", "rival")},
    **{name: f"var(--{name})" for name in ("sequential", "single", "fixed")},
    behaviours=tuple(f"var(--behaviour{i})" for i in range(5)),
)

LIGHT = Palette(
    paper="#ffffff",
    ink="#1d2126",
    ink2="#5a626c",
    grid="#e6e4df",
    accent="#d55e00",
    rival="#cc79a7",
    sequential="#00795c",
    single="#0072b2",
    fixed="#6b747e",
    behaviours=("#a9c7e0", "#0072b2", "#009e73", "#e69f00", "#8b8b8b"),
)


def role(row: RouterSummary, summary: RunSummary) -> str:
    """What a router is in the pictures of its run."""
    if row.router == summary.reference:
        return "reference"
    return {"oracle": "oracle", "rl": "rival", "sequential": "sequential", "fixed": "fixed"}.get(
        row.kind, "single-shot"
    )


def stroke() -> dict[str, Any]:
    """Encodings of a line whose rows have `role`, `width` and `opacity`.

    Width and opacity come as values: Vega-Lite interpolates such ranges instead of looking them up.
    """
    return {
        "strokeWidth": alt.StrokeWidth("width:Q", scale=None),
        "strokeOpacity": alt.StrokeOpacity("opacity:Q", scale=None),
    }


def weight(part: str) -> dict[str, float]:
    """Columns `width` and `opacity` of a line with that role."""
    return {"width": WIDTHS[part], "opacity": OPACITIES[part]}


def inline(rows: Sequence[dict[str, Any]]) -> Any:
    """Rows as data inside the specification.

    As one JSON text, which Vega parses: Altair copies and checks a list of rows again and again.
    """
    text = json.dumps(list(rows), ensure_ascii=False, separators=(",", ":"))
    return alt.InlineData(values=text, format={"type": "json"})


def finished(chart: Drawing, palette: Palette, description: str, height: int | None = HEIGHT) -> Drawing:
    """The shared frame: as wide as its box, quiet axes, a description for those who cannot see it."""
    size: dict[str, Any] = {"width": "container", "description": description, "background": "transparent"}
    if height is not None:
        size["height"] = height
    return (
        chart.properties(**size, padding={"left": 2, "right": 6, "top": 6, "bottom": 2})
        .configure(font=FONT, autosize=alt.AutoSizeParams(type="fit-x", contains="padding"))
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=palette.ink2,
            titleColor=palette.ink2,
            domainColor=palette.grid,
            tickColor=palette.grid,
            gridColor=palette.grid,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            titlePadding=8,
            labelLimit=190,
        )
        .configure_legend(
            labelColor=palette.ink2,
            titleColor=palette.ink2,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            symbolStrokeColor="transparent",
        )
    )
