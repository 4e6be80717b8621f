"""The tables that `xrouter-sim evaluate` prints: routers compared, what is left to win, the field's scores."""

from collections.abc import Callable, Sequence

from xrouter_sim.evaluation.statistics import Figure, signed
from xrouter_sim.evaluation.summary import RouterSummary, RunSummary
from xrouter_sim.evaluation.words import fraction, not_here

SINGLES_SHOWN = 3
"""Rows of single models in the terminal's table, beside the most accurate one; the report and --json have all."""

LEGEND = """\
arena: RouterArena's score of accuracy and cost. Opt.Sel, .Cost, .Acc: takes the cheapest right model; its cost / spent;
accuracy / best possible. PerfGain: best accuracy over the best single model's. CostSave: saved at its accuracy, as run.
ParetoD: mean distance to the front of all routers. QNC: part of the best single model's cost at which the hull has its
accuracy. entropy: 0 one model answers all, 1 all alike. invalid: asks for what is not on offer, or ends in none.
–: not defined or never reached."""

TWO_MODELS = "APGR, CPT: the gap between both models recovered, and the share of calls to the strong one it takes."
CALIBRATED = "Brier, ECE: error and miscalibration of what the router foretold of every model (0 is best)."


def comparison(summary: RunSummary, every: bool) -> str:
    """One router a line; of the single models only the best ones unless `every`."""
    lams = list(summary[summary.reference].headline.reward)
    seeds = any(row.seeds > 1 for row in summary.routers)
    head = ["router", "kind", "acc", "USD/1k", *(f"R(λ={lam:g})" for lam in lams), "AIQ"]
    head += [*(["seed sd (n)"] if seeds else []), "Δ"]
    rows = shown(summary, every)
    lines = [_line(row, lams, summary, seeds) for row in rows]
    if summary.zero_router:
        blank = ["–"] * (len(head) - 4 - seeds)
        lines.append(["zero router", "mixture", *blank, plus_minus(summary.zero_router.aiq), *([""] * seeds), ""])
    text = aligned([head, *lines], 2)
    left = len(summary.routers) - len(rows)
    if left:
        text += f"\n… and {left} more single models (--all)"
    return "\n".join([text, *(not_here(part) for part in summary.missing)])


def left_to_win(summary: RunSummary) -> str:
    """The bounds, and how far the reference is from each."""
    head = [f"bound at λ={summary.at:g}", "reward", f"regret of {printable(summary.reference)}", "knows"]
    regret = summary[summary.reference].regret_to
    lines = [
        [bound.name, plus_minus(bound.reward), _bracketed(regret.get(bound.name, Figure(None))), bound.knows]
        for bound in summary.bounds
    ]
    return aligned([head, *lines], 1, last_left=True) if lines else ""


def field(summary: RunSummary, every: bool) -> str:
    """The field's scores, without intervals (--json has them), and what they mean."""
    rows = shown(summary, every)
    columns = _columns(summary)
    lines = [[printable(row.router), *(of(row) for _, of in columns)] for row in rows]
    notes = [LEGEND]
    notes += [TWO_MODELS] if any(row.field.cpt for row in rows) else []
    notes += [CALIBRATED] if any(row.calibration for row in rows) else []
    return "\n".join([aligned([["router", *(name for name, _ in columns)], *lines], 1), "", *notes])


def shown(summary: RunSummary, every: bool) -> list[RouterSummary]:
    """The routers of the table in its order; poor single models are left out unless `every`."""
    rows = summary.ranked()
    if every:
        return rows
    singles = [row.router for row in rows if row.router.startswith("always:")]
    dropped = set(singles[SINGLES_SHOWN:]) - {summary.reference, f"always:{summary.best_model}"}
    return [row for row in rows if row.router not in dropped]


def aligned(lines: Sequence[Sequence[str]], left: int, last_left: bool = False) -> str:
    """Columns of equal width: the first `left` of them flush left (and the last, if asked), the others flush right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    flush = {*range(left), *([len(widths) - 1] if last_left else [])}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in flush else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def plus_minus(figure: Figure, digits: int = 3) -> str:
    """The value and half of its interval."""
    if figure.value is None:
        return "–"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.{digits}f}"
    half = f"{(figure.high - figure.low) / 2:.{digits}f}"
    return f"{figure.value:.{digits}f} ±{half.removeprefix('0')}"


def printable(text: str) -> str:
    """A name without characters that would move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def _line(row: RouterSummary, lams: list[float], summary: RunSummary, seeds: bool) -> list[str]:
    figures = row.headline
    change = row.difference.reward.get(summary.at) if row.difference else None
    apart = row.spread.reward.get(summary.at) if row.spread else None
    spread = [f"{apart.sd:.3f} ({row.seeds})" if apart else f"({row.seeds})"] if seeds else []
    best = row.router == f"always:{summary.best_model}"
    return [
        printable(row.router),
        "best single" if best else row.kind,
        plus_minus(figures.accuracy),
        plus_minus(figures.cost_per_1000_usd, 3),
        *(plus_minus(figures.reward[lam]) if lam in figures.reward else "–" for lam in lams),
        plus_minus(figures.aiq),
        *spread,
        _bracketed(change, sign=True) if change else "",
    ]


def _columns(summary: RunSummary) -> list[tuple[str, Callable[[RouterSummary], str]]]:
    columns: list[tuple[str, Callable[[RouterSummary], str]]] = [
        ("arena", lambda row: fraction(row.field.arena)),
        ("Opt.Sel", lambda row: fraction(row.field.optimal_selection)),
        (".Cost", lambda row: fraction(row.field.optimal_cost)),
        (".Acc", lambda row: fraction(row.field.optimal_accuracy)),
        ("PerfGain", lambda row: signed(row.field.performance_gain.value)),
        ("CostSave", lambda row: signed(row.field.cost_save.value)),
        ("ParetoD", lambda row: fraction(row.field.pareto_distance)),
        ("QNC", lambda row: fraction(row.field.quality_neutral_cost)),
    ]
    if any(row.field.cpt for row in summary.routers):
        columns += [
            ("APGR", lambda row: fraction(row.field.apgr)),
            ("CPT(50%)", lambda row: fraction(row.field.cpt.get(0.5, Figure(None)))),
            ("CPT(80%)", lambda row: fraction(row.field.cpt.get(0.8, Figure(None)))),
        ]
    columns += [
        ("entropy", lambda row: fraction(row.field.selection_entropy)),
        ("invalid", lambda row: fraction(row.field.invalid_actions)),
    ]
    if any(row.calibration for row in summary.routers):
        columns += [
            ("Brier", lambda row: fraction(row.calibration.brier) if row.calibration else "–"),
            ("ECE", lambda row: f"{row.calibration.expected_calibration_error:.3f}" if row.calibration else "–"),
        ]
    return columns


def _bracketed(figure: Figure, sign: bool = False) -> str:
    if figure.value is None:
        return "–"
    ends = [signed(end) if sign else ("–" if end is None else f"{end:.3f}") for end in (figure.low, figure.high)]
    value = signed(figure.value) if sign else f"{figure.value:.3f}"
    return f"{value} [{', '.join(ends)}]".replace("-", "−")
