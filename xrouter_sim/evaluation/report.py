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
from xrouter_sim.evaluation import report_tables as tables
from xrouter_sim.evaluation.frontier import frontier, frontiers
from xrouter_sim.evaluation.joining import joined
from xrouter_sim.evaluation.metrics import BEHAVIOURS
from xrouter_sim.evaluation.robustness import Kept, robustness
from xrouter_sim.evaluation.runs import Run, load_run
from xrouter_sim.evaluation.statistics import REPLICATES
from xrouter_sim.evaluation.style import CSS, LIGHT, Drawing
from xrouter_sim.evaluation.summary import RunSummary, summarise
from xrouter_sim.evaluation.words import between_runs, is_simulated, provenance_words, verdicts
from xrouter_sim.files import written_whole

PICTURE_WIDTH = 760  # px
SUFFIXES = (".svg", ".png")


@dataclass(frozen=True)
class Figured:
    """A chart on the page: its id, what it shows in words, its specification as JSON fit for a script element."""

    id: str
    description: str
    json: Markup


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
    runs = joined([load_run(path) for path in paths])
    summaries = [summarise(run, reference=reference, at=at, replicates=replicates, seed=seed) for run in runs]
    priced = [summary for run, summary in zip(runs, summaries, strict=True) if run.priced]
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
        several=len(runs) > 1,
        together=_figured("together", frontiers(priced, CSS)) if len(priced) > 1 else None,
        between=between_runs(runs, summaries[0].at, replicates, seed),
        replicates=replicates,
        version=__version__,
        bundle=Markup(_bundle().replace("</script", "<\\/script")),
    )
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(out) as fresh:
        fresh.write_text(page, encoding="utf-8")


def save_picture(
    paths: str | Path | Sequence[str | Path], out: str | Path, *, reference: str | None = None, at: float | None = None
) -> None:
    """Save the cost–quality picture of a run, or of runs that agree, in light colours, as SVG or PNG by `out`'s suffix.

    Of runs that do not agree (see `joining`) the first group is drawn. Raises LabError for another suffix and for a run
    that cannot be read.
    """
    out = Path(out)
    if out.suffix.lower() not in SUFFIXES:
        raise LabError(f"cannot save a picture as {out.name}: give a name that ends in {' or '.join(SUFFIXES)}")
    paths = [paths] if isinstance(paths, str | Path) else paths
    run = joined([load_run(path) for path in paths])[0]
    if not run.priced:
        raise LabError(f"{run.path} leaves costs out: there is no cost–quality picture of it")
    summary = summarise(run, reference=reference, at=at, replicates=100)
    chart = frontier(summary, LIGHT, narrow=False).properties(width=PICTURE_WIDTH, background=LIGHT.paper)
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(out) as fresh:
        if out.suffix.lower() == ".svg":
            fresh.write_text(vl_convert.vegalite_to_svg(chart.to_json(), vl_version=_vega_lite()), encoding="utf-8")
        else:
            fresh.write_bytes(vl_convert.vegalite_to_png(chart.to_json(), vl_version=_vega_lite(), scale=2))


def _section(number: int, run: Run, summary: RunSummary, kept: Sequence[Kept]) -> dict[str, Any]:
    """All that the template needs of one run."""
    kept_chart = charts.robustness_chart(kept, summary)
    training = charts.training_curves(run.training) if run.training is not None else []
    answer, *more = verdicts(summary)
    dial = len(summary[summary.reference].points) > 1
    return {
        "id": f"run{number}",
        "run": run,
        "summary": summary,
        "provenance": provenance_words(run.manifest),
        "simulated": is_simulated(run.manifest),
        "answer": answer,
        "verdicts": more,
        "frontier": _figured(f"frontier{number}", frontier(summary, CSS)) if run.priced else None,
        "rewards": _figured(f"rewards{number}", charts.reward_by_lambda(summary)) if dial else None,
        "behaviours": _figured(f"behaviours{number}", charts.behaviours(summary)),
        "dial": _figured(f"dial{number}", charts.behaviour_by_lambda(summary)) if dial else None,
        "training": [(item.title, _figured(f"training{number}-{i}", item.chart)) for i, item in enumerate(training)],
        "robustness": _figured(f"robustness{number}", kept_chart) if kept_chart is not None else None,
        "kept_heads": tables.kept_heads(kept),
        "kept": tables.kept(kept, summary),
        "behaviour_names": BEHAVIOURS,
        "unit": f"{run.cost_unit:g} USD" if run.priced else "",
        "comparison_heads": tables.comparison_heads(summary),
        "comparison": tables.comparison(summary),
        "more": [tables.more(row, summary) for row in summary.ranked()],
        "bounds": tables.bounds(summary),
        "field_heads": tables.field_heads(summary),
        "field": tables.field(summary),
        "field_notes": tables.field_notes(summary),
        "several_seeds": any(row.seeds > 1 for row in summary.routers),
        "heats": tables.heats(summary),
        "manifest": json.dumps(run.manifest, indent=2, ensure_ascii=False),
    }


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
