"""The report's tables as plain cells: routers compared, what is left to win, the field's scores, reward kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xrouter_sim.evaluation.field import CPT_PARTS
from xrouter_sim.evaluation.left import LUCK_CORRECTED
from xrouter_sim.evaluation.robustness import CALM, Kept
from xrouter_sim.evaluation.statistics import Figure, differs, signed
from xrouter_sim.evaluation.summary import RouterSummary, RunSummary
from xrouter_sim.evaluation.words import STANDARD_WORDS, money

NOTHING = Figure(None)


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


@dataclass(frozen=True)
class Column:
    """A column of the table of the field's metrics, and what it says in a sentence."""

    head: str
    of: Callable[[RouterSummary], Cell]
    says: str


def comparison_heads(summary: RunSummary) -> list[str]:
    lams = summary[summary.reference].headline.reward
    seeds = [f"spread over seeds, reward at λ={summary.at:g}"] if _several(summary) else []
    heads = ["accuracy", "USD per 1,000 queries", *(f"reward at λ={lam:g}" for lam in lams), "AIQ", *seeds]
    return [*heads, f"{summary.reference} minus it, reward at λ={summary.at:g}"]


def comparison(summary: RunSummary) -> list[Line]:
    """Every router, the zero router, and a line for each standard router that the run lacks."""
    lams = list(summary[summary.reference].headline.reward)
    lines = [_compared(row, lams, summary) for row in summary.ranked()]
    blank = [Cell("–")] * (2 + len(lams))
    seeds = [Cell("")] if _several(summary) else []
    if summary.zero_router:
        cells = [*blank, _cell(summary.zero_router.aiq), *seeds, Cell("")]
        lines.append(Line("zero router", "single models mixed at random", "", cells))
    for part in summary.missing:
        cells = [*blank, Cell("–"), *seeds, Cell("")]
        lines.append(Line(STANDARD_WORDS.get(part, part), "not in this run", "missing", cells))
    return lines


def more(row: RouterSummary, summary: RunSummary) -> Line:
    reach = [row.cost_share_to_reach.get(part, NOTHING) for part in (0.95, 0.99, 1.0)]
    traits = [row.traits[name] for name in ("escalate", "parallel", "select", "vote", "none")]
    cells = [
        _cell(row.regret.get(summary.at, NOTHING)),
        _cell(row.regret_to.get(LUCK_CORRECTED, NOTHING)),
        *(_percent_cell(figure) if figure.value is not None else Cell("never") for figure in reach),
        _cell(row.calls_per_episode, 2),
        _cell(row.latency_p50_s, 2),
        _cell(row.latency_p95_s, 2),
        *(_percent_cell(figure) for figure in traits),
    ]
    return _row(row, summary, cells)


def bounds(summary: RunSummary) -> list[Line]:
    """What routers that know more would earn, and how far the reference is from it."""
    regret = summary[summary.reference].regret_to
    return [
        Line(bound.name, bound.knows, "", [_cell(bound.reward), _cell(regret.get(bound.name, NOTHING))])
        for bound in summary.bounds
    ]


def field_heads(summary: RunSummary) -> list[str]:
    return [column.head for column in _columns(summary)]


def field(summary: RunSummary) -> list[Line]:
    columns = _columns(summary)
    return [_row(row, summary, [column.of(row) for column in columns]) for row in summary.ranked()]


def field_notes(summary: RunSummary) -> list[tuple[str, str]]:
    """(column, what it says)."""
    return [(column.head, column.says) for column in _columns(summary)]


def kept_heads(kept: Sequence[Kept]) -> list[str]:
    profiles = _profiles(kept)
    return [*profiles, *(f"same model as in calm, {profile}" for profile in profiles), "selection entropy when calm"]


def kept(found: Sequence[Kept], summary: RunSummary) -> list[Line]:
    """Reward and choices kept, a line a router and a column a profile; a constant router keeps its choice for nothing,
    so the entropy of choices stands beside."""
    profiles = _profiles(found)
    of = {(item.router, item.profile): item for item in found}
    lines = []
    for row in summary.ranked():
        there = [of[row.router, profile] for profile in profiles if (row.router, profile) in of]
        if len(there) == len(profiles) and there:
            calm = of.get((row.router, CALM))
            entropy = calm.selection_entropy if calm else row.field.selection_entropy
            cells = [_percent_cell(item.kept) for item in there] + [_percent_cell(item.same_choice) for item in there]
            lines.append(_row(row, summary, [*cells, _cell(entropy, 2)]))
    return lines


def heats(summary: RunSummary) -> list[Heat]:
    own = summary[summary.reference]
    shares = {"Share of calls": own.calls_by_domain, "Share of cost": own.cost_by_domain}
    found = []
    for title, table in shares.items():
        models = list(next(iter(table.values()), {}))
        rows = [(model, [line[model] for line in table.values()]) for model in models]
        found.append(Heat(title, list(table), sorted(rows, key=lambda row: -sum(row[1]))))
    return [heat for heat in found if heat.rows]


def _columns(summary: RunSummary) -> list[Column]:
    columns = [
        Column(
            "arena score",
            lambda row: _cell(row.field.arena),
            "RouterArena: accuracy and the logarithm of cost in one, 0 to 1, accuracy counting most.",
        ),
        Column(
            "Opt. Sel",
            lambda row: _cell(row.field.optimal_selection),
            "RouterArena: how often the answer comes from the cheapest model that is right, where any is.",
        ),
        Column(
            "Opt. Cost",
            lambda row: _cell(row.field.optimal_cost),
            "RouterArena: cost of the cheapest right model as a part of what was spent, mean over those queries.",
        ),
        Column(
            "Opt. Acc",
            lambda row: _cell(row.field.optimal_accuracy),
            "RouterArena: accuracy as a part of always taking a right answer where any model has one.",
        ),
        Column(
            "PerfGain",
            lambda row: _percent_cell(row.field.performance_gain, sign=True),
            "LLMRouterBench: how much more accurate than the best single model, at the most accurate setting.",
        ),
        Column(
            "CostSave",
            lambda row: _percent_cell(row.field.cost_save, sign=True, lacking="never"),
            "LLMRouterBench: cost saved against the best single model by a setting that is as accurate.",
        ),
        Column(
            "ParetoDist",
            lambda row: _cell(row.field.pareto_distance),
            "LLMRouterBench: mean distance of the settings to the front of all routers but oracles; its top is (1, 1).",
        ),
        Column(
            "QNC",
            lambda row: _percent_cell(row.field.quality_neutral_cost, lacking="never"),
            "UniRoute, quality-neutral cost: at which part of the best single model's cost the hull is as accurate.",
        ),
    ]
    if any(row.field.cpt for row in summary.routers):
        columns.append(
            Column(
                "APGR",
                lambda row: _cell(row.field.apgr),
                "RouteLLM: part of the gap between both models recovered, mean over all shares of strong calls.",
            )
        )
        columns += [_threshold(part) for part in CPT_PARTS]
    columns += [
        Column(
            "selection entropy",
            lambda row: _cell(row.field.selection_entropy, 2),
            "How evenly answers come from the models: 0 is one model always, 1 all alike.",
        ),
        Column(
            "invalid actions",
            lambda row: _percent_cell(row.field.invalid_actions),
            "Episodes that ask for a model not on offer, or end without an answer.",
        ),
    ]
    if any(row.calibration for row in summary.routers):
        columns += [
            Column(
                "Brier",
                lambda row: _cell(row.calibration.brier) if row.calibration else Cell("–"),
                "Mean squared error of the scores that the router foretells of every model; 0 is best.",
            ),
            Column(
                "ECE",
                lambda row: Cell(f"{row.calibration.expected_calibration_error:.3f}") if row.calibration else Cell("–"),
                "Expected calibration error: how far what was foretold is from what came, in ten bins.",
            ),
        ]
    return columns


def _threshold(part: float) -> Column:
    return Column(
        f"CPT({part:.0%})",
        lambda row: _percent_cell(row.field.cpt.get(part, NOTHING), lacking="never"),
        f"RouteLLM: the least share of calls to the strong model that recovers {part:.0%} of the gap.",
    )


def _several(summary: RunSummary) -> bool:
    return any(row.seeds > 1 for row in summary.routers)


def _compared(row: RouterSummary, lams: Sequence[float], summary: RunSummary) -> Line:
    figures = row.headline
    change = row.difference.reward.get(summary.at) if row.difference else None
    apart = row.spread.reward.get(summary.at) if row.spread else None
    spread = Cell(f"±{apart.sd:.3f}", f"{row.seeds} seeds") if apart else Cell("–", "1 seed")
    cells = [
        _cell(figures.accuracy),
        _money_cell(figures.cost_per_1000_usd),
        *(_cell(figures.reward.get(lam, NOTHING)) for lam in lams),
        _cell(figures.aiq),
        *([spread] if _several(summary) else []),
        _difference_cell(change),
    ]
    return _row(row, summary, cells)


def _profiles(kept: Sequence[Kept]) -> list[str]:
    return [profile for profile in dict.fromkeys(item.profile for item in kept) if profile != CALM]


def _row(row: RouterSummary, summary: RunSummary, cells: list[Cell]) -> Line:
    mark = "reference" if row.router == summary.reference else "oracle" if row.kind == "oracle" else ""
    kind = "best single model" if row.router == f"always:{summary.best_model}" else row.kind
    return Line(row.router, kind, mark, cells)


def _cell(figure: Figure, digits: int = 3) -> Cell:
    if figure.value is None:
        return Cell("–")
    if figure.low is None:
        return Cell(_number(figure.value, digits))
    ends = [_number(end, digits) if end is not None else "–" for end in (figure.low, figure.high)]
    return Cell(_number(figure.value, digits), (" to " if "−" in ends[0] else "–").join(ends))


def _number(value: float, digits: int) -> str:
    """With a real minus, and no minus zero."""
    return signed(value, digits).removeprefix("+")


def _money_cell(figure: Figure) -> Cell:
    if figure.value is None:
        return Cell("–")
    return Cell(money(figure.value), f"{money(figure.low)}–{money(figure.high)}")


def _percent_cell(figure: Figure, *, sign: bool = False, lacking: str = "–") -> Cell:
    if figure.value is None:
        return Cell(lacking)
    ends = [f"{end * 100:.0f}" if end is not None else "never" for end in (figure.low, figure.high)]
    between = " to " if (figure.low or 0.0) < 0 else "–"
    text = between.join(ends) + ("" if ends[1] == "never" else "%")
    value = f"{figure.value:+.0%}" if sign else f"{figure.value:.0%}"
    return Cell(value.replace("-", "−"), text.replace("-", "−"))


def _difference_cell(figure: Figure | None) -> Cell:
    if figure is None or figure.value is None:
        return Cell("")
    mark = "" if not differs(figure) else "ahead" if figure.value > 0 else "behind"
    return Cell(signed(figure.value), f"{signed(figure.low)} to {signed(figure.high)}", mark)
