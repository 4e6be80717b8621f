"""The report: one page that needs nothing but itself, and the cost–quality picture on its own."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import vl_convert
from markupsafe import Markup, escape

from responses_db.errors import LabError
from xrouter_sim import __version__
from xrouter_sim.evaluation import charts
from xrouter_sim.evaluation.frontier import frontier, frontiers
from xrouter_sim.evaluation.metrics import BEHAVIOURS
from xrouter_sim.evaluation.robustness import CALM, Kept, robustness
from xrouter_sim.evaluation.runs import Run, load_run
from xrouter_sim.evaluation.statistics import REPLICATES, Figure, differs, signed
from xrouter_sim.evaluation.style import CSS, LIGHT, Drawing
from xrouter_sim.evaluation.summary import RouterSummary, RunSummary, summarise
from xrouter_sim.evaluation.words import between_runs, is_simulated, money, provenance_words, verdicts
from xrouter_sim.files import written_whole

PICTURE_WIDTH = 760  # px
SUFFIXES = (".svg", ".png")


@dataclass(frozen=True)
class Figured:
    """A chart on the page: its id, what it shows in words, its specification as JSON fit for a script element."""

    id: str
    description: str
    json: Markup


@dataclass(frozen=True)
class Cell:
    """A table's cell: the value, its interval in small print, and whether it stands out."""

    value: str
    interval: str = ""
    mark: str = ""  # a CSS class


@dataclass(frozen=True)
class Line:
    """A table's row."""

    name: str
    kind: str
    mark: str
    cells: list[Cell]


@dataclass(frozen=True)
class Heat:
    """Model shares by domain: one table, a line a model, a column a domain."""

    title: str
    domains: list[str]
    rows: list[tuple[str, list[float]]]


def write_report(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    reference: str | None = None,
    at: float | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> None:
    """Write the page on one or several runs to `out`, self-contained: no network, no other file.

    `reference` and `at` as in `summarise`. Raises LabError for a run that cannot be read.
    """
    runs = [load_run(path) for path in paths]
    summaries = [summarise(run, reference=reference, at=at, replicates=replicates, seed=seed) for run in runs]
    sections = [
        _section(number, run, summary, robustness(run, at=summary.at, replicates=replicates, seed=seed))
        for number, (run, summary) in enumerate(zip(runs, summaries, strict=True), start=1)
    ]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("xrouter_sim.evaluation", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    page = environment.get_template("report.html").render(
        title=" and ".join(run.name for run in runs),
        sections=sections,
        together=_figured("together", frontiers(summaries, CSS)) if len(runs) > 1 else None,
        between=between_runs(runs, summaries[0].at, replicates, seed),
        replicates=replicates,
        version=__version__,
        bundle=Markup(_bundle().replace("</script", "<\\/script")),
    )
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(out) as fresh:
        fresh.write_text(page, encoding="utf-8")


def save_picture(path: str | Path, out: str | Path, *, reference: str | None = None, at: float | None = None) -> None:
    """Save one run's cost–quality picture, in light colours, as SVG or PNG by the suffix of `out`.

    Raises LabError for another suffix and for a run that cannot be read.
    """
    out = Path(out)
    if out.suffix.lower() not in SUFFIXES:
        raise LabError(f"cannot save a picture as {out.name}: give a name that ends in {' or '.join(SUFFIXES)}")
    summary = summarise(load_run(path), reference=reference, at=at, replicates=100)
    chart = frontier(summary, LIGHT, narrow=False).properties(width=PICTURE_WIDTH, background=LIGHT.paper)
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(out) as fresh:
        if out.suffix.lower() == ".svg":
            fresh.write_text(vl_convert.vegalite_to_svg(chart.to_json(), vl_version=_vega_lite()), encoding="utf-8")
        else:
            fresh.write_bytes(vl_convert.vegalite_to_png(chart.to_json(), vl_version=_vega_lite(), scale=2))


def _section(number: int, run: Run, summary: RunSummary, kept: Sequence[Kept]) -> dict[str, Any]:
    """All that the template needs of one run."""
    lams = list(summary[summary.reference].headline.reward)
    kept_chart = charts.robustness_chart(kept, summary)
    training = charts.training_curves(run.training) if run.training is not None else []
    answer, *more = verdicts(summary)
    return {
        "id": f"run{number}",
        "run": run,
        "summary": summary,
        "provenance": provenance_words(run.manifest),
        "simulated": is_simulated(run.manifest),
        "answer": answer,
        "verdicts": more,
        "frontier": _figured(f"frontier{number}", frontier(summary, CSS)),
        "rewards": _figured(f"rewards{number}", charts.reward_by_lambda(summary)),
        "behaviours": _figured(f"behaviours{number}", charts.behaviours(summary)),
        "dial": _figured(f"dial{number}", charts.behaviour_by_lambda(summary)),
        "training": [(item.title, _figured(f"training{number}-{i}", item.chart)) for i, item in enumerate(training)],
        "robustness": _figured(f"robustness{number}", kept_chart) if kept_chart is not None else None,
        "kept_profiles": [profile for profile in dict.fromkeys(item.profile for item in kept) if profile != CALM],
        "kept": _kept_lines(kept, summary),
        "lams": lams,
        "behaviour_names": BEHAVIOURS,
        "comparison": [_comparison(row, lams, summary) for row in summary.ranked()],
        "more": [_more(row, summary) for row in summary.ranked()],
        "heats": _heats(summary),
        "manifest": json.dumps(run.manifest, indent=2, ensure_ascii=False),
    }


def _comparison(row: RouterSummary, lams: Sequence[float], summary: RunSummary) -> Line:
    figures = row.headline
    change = row.difference.reward.get(summary.at) if row.difference else None
    return _row(
        row,
        summary,
        [
            _cell(figures.accuracy),
            _money_cell(figures.cost_per_1000_usd),
            *(_cell(figures.reward.get(lam, Figure(None))) for lam in lams),
            _cell(figures.aiq),
            _difference_cell(change),
        ],
    )


def _more(row: RouterSummary, summary: RunSummary) -> Line:
    reach = [row.cost_share_to_reach.get(part, Figure(None)) for part in (0.95, 0.99, 1.0)]
    traits = [row.traits[name] for name in ("escalate", "parallel", "select", "vote", "none")]
    cells = [
        _cell(row.regret.get(summary.at, Figure(None))),
        *(_percent_cell(figure) if figure.value is not None else Cell("never") for figure in reach),
        _cell(row.calls_per_episode, 2),
        _cell(row.latency_p50_s, 2),
        _cell(row.latency_p95_s, 2),
        *(_percent_cell(figure) for figure in traits),
    ]
    return _row(row, summary, cells)


def _kept_lines(kept: Sequence[Kept], summary: RunSummary) -> list[Line]:
    """Reward kept, a line a router and a column a profile."""
    profiles = [profile for profile in dict.fromkeys(item.profile for item in kept) if profile != CALM]
    of = {(item.router, item.profile): item for item in kept}
    lines = []
    for row in summary.ranked():
        cells = [of[row.router, profile].kept for profile in profiles if (row.router, profile) in of]
        if len(cells) == len(profiles) and cells:
            lines.append(_row(row, summary, [_percent_cell(figure) for figure in cells]))
    return lines


def _row(row: RouterSummary, summary: RunSummary, cells: list[Cell]) -> Line:
    mark = "reference" if row.router == summary.reference else "oracle" if row.kind == "oracle" else ""
    return Line(row.router, row.kind, mark, cells)


def _cell(figure: Figure, digits: int = 3) -> Cell:
    if figure.value is None:
        return Cell("–")
    ends = [f"{end:.{digits}f}" if end is not None else "–" for end in (figure.low, figure.high)]
    return Cell(f"{figure.value:.{digits}f}", "–".join(ends) if figure.low is not None else "")


def _money_cell(figure: Figure) -> Cell:
    return Cell(money(figure.value), f"{money(figure.low)}–{money(figure.high)}")


def _percent_cell(figure: Figure) -> Cell:
    if figure.value is None:
        return Cell("–")
    ends = [f"{end * 100:.0f}" if end is not None else "never" for end in (figure.low, figure.high)]
    return Cell(f"{figure.value:.0%}", "–".join(ends) + ("" if ends[1] == "never" else "%"))


def _difference_cell(figure: Figure | None) -> Cell:
    if figure is None or figure.value is None:
        return Cell("")
    mark = "" if not differs(figure) else "ahead" if figure.value > 0 else "behind"
    return Cell(signed(figure.value), f"{signed(figure.low)} to {signed(figure.high)}", mark)


def _heats(summary: RunSummary) -> list[Heat]:
    own = summary[summary.reference]
    tables = {"Share of calls": own.calls_by_domain, "Share of cost": own.cost_by_domain}
    found = []
    for title, table in tables.items():
        models = list(next(iter(table.values()), {}))
        rows = [(model, [line[model] for line in table.values()]) for model in models]
        found.append(Heat(title, list(table), sorted(rows, key=lambda row: -sum(row[1]))))
    return [heat for heat in found if heat.rows]


def _figured(name: str, chart: Drawing) -> Figured:
    text = chart.to_json(indent=None, validate=False)  # the tests validate; a page need not wait for it
    # Inside a script element only "<" can end it, or open a comment; in JSON it may be written as an escape.
    return Figured(name, json.loads(text)["description"], Markup(text.replace("<", "\\u003c")))


def _breakable(name: str) -> Markup:
    """A name that may break after its slashes and colons."""
    return Markup(str(escape(name)).replace("/", "/<wbr>").replace(":", ":<wbr>"))


def _vega_lite() -> str:
    """The Vega-Lite version that Altair's specifications are written for, as vl-convert names it."""
    major, minor, *_ = alt.SCHEMA_VERSION.removeprefix("v").split(".")
    return f"{major}.{minor}"


@functools.cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    text: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=_vega_lite())
    return text
