"""What the notebooks share: where their data lies, how a figure is kept, and the check of the numbers."""

import json
import math
import os
from pathlib import Path
from typing import Any

import altair as alt

from xrouter_sim.evaluation.statistics import Figure

HERE = Path(__file__).resolve().parent
DB = Path(os.environ.get("XROUTER_SIM_DB", HERE.parent / "data" / "responses.duckdb")).resolve()
RUN = Path(os.environ.get("XROUTER_SIM_RUN", HERE.parent / "runs" / "demo")).resolve()
FIGURES = Path(os.environ.get("XROUTER_SIM_FIGURES", HERE.parent / "runs" / "notebooks")).resolve()
EXPECTED = HERE / "expected.json"
RECORD = "XROUTER_SIM_RECORD"
"""Set it to write the numbers of this run into expected.json instead of comparing with them."""

alt.renderers.enable("svg")  # shown as pictures: a notebook that is read fetches nothing

INK, ACCENT, SECOND, QUIET = "#1a1a1a", "#d55e00", "#0072b2", "#9a9a9a"  # Okabe and Ito's, safe for colour-blind eyes


def kept(chart: alt.TopLevelMixin, name: str) -> alt.TopLevelMixin:
    """Write the figure as `runs/notebooks/NAME.svg` and give it back, to be shown."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    framed = chart.configure_view(stroke=None).configure_axis(labelColor=INK, titleColor=INK, gridColor="#e6e6e6")
    framed.save(FIGURES / f"{name}.svg")
    return framed


def said(figure: Figure, digits: int = 3) -> str:
    """Value and 95% interval."""
    return f"{figure.value:.{digits}f} [{figure.low:.{digits}f}, {figure.high:.{digits}f}]"


def check(notebook: str, store: str, figures: dict[str, float], tolerance: float = 0.01) -> str:
    """Compare figures with those written down for this store (its content hash): a changed number fails.

    `tolerance` is absolute and relative: training in floats is not the same to the last bit on every machine. Of another
    store nothing is known, and that is said.
    """
    known: dict[str, Any] = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    if os.environ.get(RECORD):
        known.setdefault(store[:12], {})[notebook] = {name: round(float(value), 6) for name, value in figures.items()}
        EXPECTED.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
        return f"{len(figures)} figures of {notebook} written down"
    expected = known.get(store[:12], {}).get(notebook)
    if expected is None:
        return f"nothing is written down for store {store[:12]}: nothing to compare with"
    if missing := set(expected) ^ set(figures):
        raise AssertionError(f"{notebook}: figures {', '.join(sorted(missing))} are on one side only")
    for name, value in figures.items():
        if not math.isclose(value, expected[name], rel_tol=tolerance, abs_tol=tolerance):
            raise AssertionError(f"{notebook}: {name} is {value:.4f}, and was {expected[name]:.4f}")
    return f"{len(figures)} figures of {notebook} are as written down"
