"""A run's results in words: where its answers came from, and what the comparison came to."""

from collections.abc import Mapping, Sequence
from typing import Any

from xrouter_sim.costs import cost_words
from xrouter_sim.evaluation.left import LUCK_CORRECTED
from xrouter_sim.evaluation.runs import Run
from xrouter_sim.evaluation.statistics import Figure, verdict
from xrouter_sim.evaluation.summary import RunSummary, compare

PROVENANCES = {
    "simulated": "SIMULATED (made by a model of models, not by language models)",
    "imported": "imported from a published data set",
    "local": "of models run on this machine",
    "live": "harvested live from providers",
}


STANDARD_WORDS = {
    "best single": "best single model",
    "table": "table (per domain)",
    "knn": "kNN",
}
"""The routers of `summary.STANDARD` by their names in words, where these differ."""


def provenance_words(manifest: Mapping[str, Any]) -> str:
    """Where the answers behind a run came from, in one or two sentences."""
    counts = {str(k): int(v) for k, v in (manifest["store"].get("provenance") or {}).items() if v}
    if not counts:
        return "The run does not say where its answers came from."
    if len(counts) == 1:
        (kind, count), *_ = counts.items()
        text = f"All {count:,} answers in this store are {PROVENANCES.get(kind, kind)}."
    else:
        parts = [f"{count:,} are {PROVENANCES.get(kind, kind)}" for kind, count in counts.items()]
        text = f"Of the {sum(counts.values()):,} answers in this store, {'; '.join(parts)}."
    if "simulated" in counts:
        text += " Figures here compare routers in that simulated world; they say nothing about real models."
    return f"{text} {cost_words(manifest['store'].get('costs'))}".rstrip()


def is_simulated(manifest: Mapping[str, Any]) -> bool:
    """Whether any answer behind the run was simulated."""
    return bool((manifest["store"].get("provenance") or {}).get("simulated"))


def verdicts(summary: RunSummary) -> list[str]:
    """The answers first: a few sentences, each with its interval."""
    return [
        line
        for line in (
            *_rivals(summary),
            _frontier(summary),
            _zero_router(summary),
            _itself(summary),
            _seeds(summary),
            _regret(summary),
            _savings(summary),
        )
        if line
    ]


def not_here(part: str) -> str:
    """What a comparison says of a standard router that the run has no decisions of.

    >>> not_here("knn")
    'kNN: not in this run'
    """
    return f"{STANDARD_WORDS.get(part, part)}: not in this run"


def fraction(value: Figure, digits: int = 3) -> str:
    """A figure without its interval.

    >>> fraction(Figure(0.81234, 0.79, 0.84)), fraction(Figure(None))
    ('0.812', '–')
    """
    return "–" if value.value is None else f"{value.value:.{digits}f}"


def between_runs(runs: Sequence[Run], at: float, replicates: int, seed: int) -> list[str]:
    """The first run's trained router against every other run's, one sentence a pair."""
    lines = []
    for other in runs[1:]:
        names = [f"{run.router} of {run.name}" for run in (runs[0], other)]
        difference = compare(runs[0], other, at=at, replicates=replicates, seed=seed)
        if difference is None or at not in difference.reward:
            lines.append(
                f"{names[0]} and {names[1]} were run on different queries, stores or settings: not comparable in pairs."
            )
            continue
        lines.append(verdict(names[0], f"reward at λ={at:g}", names[1], difference.reward[at]) + ".")
    return lines


def interval(value: Figure, digits: int = 3) -> str:
    """A figure and its interval as text.

    >>> interval(Figure(0.81234, 0.79, 0.84))
    '0.812 [0.790, 0.840]'
    """
    if value.value is None:
        return "–"
    ends = ", ".join("–" if end is None else f"{end:.{digits}f}" for end in (value.low, value.high))
    return f"{value.value:.{digits}f} [{ends}]".replace("-", "−")


def money(usd: float | None) -> str:
    """USD with three significant digits, no exponent.

    >>> money(0.081234), money(12.3456), money(1234.5), money(0.0)
    ('$0.0812', '$12.3', '$1,234', '$0')
    """
    if usd is None:
        return "–"
    if usd == 0:
        return "$0"
    digits = max(0, 2 - int(f"{abs(usd):e}".split("e")[1]))
    return f"${usd:,.{digits}f}"


def _frontier(summary: RunSummary) -> str:
    """AIQ against the best router that makes one call: the whole curve, not one setting of it."""
    best = summary.best_one_call.get("aiq")
    if best is None:
        return ""
    return f"Over the whole cost range: {verdict(summary.reference, 'AIQ', best.router, best.difference, best.leads)}."


def _itself(summary: RunSummary) -> str:
    own = summary[summary.reference].headline
    spent = own.cost_per_1000_usd
    reward = own.reward.get(summary.at)
    earned = f"earns a reward of {interval(reward)}" if reward else "was run"
    if spent.value is None:
        return f"At λ={summary.at:g} {summary.reference} {earned}; what it costs is not known."
    return (
        f"At λ={summary.at:g} {summary.reference} {earned}: accuracy {interval(own.accuracy)}, "
        f"{money(spent.value)} [{money(spent.low)}, {money(spent.high)}] per 1,000 queries."
    )


def _rivals(summary: RunSummary) -> list[str]:
    """Against the best one-call router, then against the best router of any other kind but oracles."""
    what = f"reward λ={summary.at:g}"
    lines = []
    best = summary.best_one_call.get(what)
    if best:
        what = f"reward at λ={summary.at:g}"
        sentence = verdict(summary.reference, what, best.router, best.difference, best.leads)
        lines.append(
            f"{sentence}. {best.router} is the best router that makes one call (fixed or single-shot), picked with "
            "these test scores in hand, so in its favour."
        )
    rest = [
        row
        for row in summary.routers
        if row.kind not in ("oracle", "fixed", "single-shot") and row.difference and summary.at in row.difference.reward
    ]
    for row in sorted(rest, key=lambda row: -(row.headline.reward[summary.at].value or 0.0))[:1]:
        assert row.difference is not None
        other = "other " if row.kind == summary[summary.reference].kind else ""
        change, leads = row.difference.reward[summary.at], row.leads.get("reward", [])
        sentence = verdict(summary.reference, f"reward at λ={summary.at:g}", row.router, change, leads)
        lines.append(f"{sentence}, the best of the {other}{row.kind} routers.")
    return lines


def _zero_router(summary: RunSummary) -> str:
    """AIQ against single models mixed at random: what no look at the query brings."""
    zero = summary.zero_router
    if zero is None or summary[summary.reference].kind == "fixed":
        return ""
    return f"{verdict(summary.reference, 'AIQ', 'the zero router (single models mixed at random)', zero.difference)}."


def _seeds(summary: RunSummary) -> str:
    own = summary[summary.reference]
    apart = own.spread.reward.get(summary.at) if own.spread else None
    if apart is None:
        return ""
    return (
        f"{own.seeds} seeds of {summary.reference} earn from {apart.low:.3f} to {apart.high:.3f} (sd {apart.sd:.3f}) "
        f"at λ={summary.at:g}. Figures are their mean; intervals are of the queries and leave this spread out."
    )


def _regret(summary: RunSummary) -> str:
    own = summary[summary.reference]
    regret, corrected = own.regret.get(summary.at), own.regret_to.get(LUCK_CORRECTED)
    if regret is None or summary.oracle is None or summary.oracle == summary.reference:
        return ""
    told = f"Its regret to {summary.oracle}, which sees the scores, is {interval(regret)} at λ={summary.at:g}"
    if corrected is None:
        return f"{told}: what is left to win, though part of that is luck no router can foresee."
    return (
        f"{told}, to the {LUCK_CORRECTED} {interval(corrected)}: guessing among many models is luck, and the second "
        "leaves it out."
    )


def _savings(summary: RunSummary) -> str:
    reached = summary[summary.reference].cost_share_to_reach
    if summary.best_model is None or not reached:
        return ""
    told: list[str] = []
    for part, share in reached.items():
        words = ("of the accuracy ", " of the cost") if not told else ("", "")
        at = "never" if share.value is None else f"at {share.value:.0%}{words[1]}"
        told.append(f"{part:.0%} {words[0]}{at}")
    return (
        f"Measured against {summary.best_model}, the most accurate single model, {summary.reference} reaches "
        f"{', '.join(told)}."
    )
