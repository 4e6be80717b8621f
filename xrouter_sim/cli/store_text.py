"""What `xrouter-sim store info` prints: the facts of `responses_db.info.describe` as tables as wide as the terminal."""

import shutil
from collections.abc import Callable
from typing import Any

from xrouter_sim.evaluation.words import provenance_words


def info_lines(facts: dict[str, Any]) -> list[str]:
    """Counts, provenance, coverage, models, price cards and runs, as aligned text."""
    counts, coverage = facts["counts"], facts["coverage"]
    lines = [
        f"{facts['path']}  (schema {facts['schema_version']}, content hash {facts['content_hash']})",
        f"{counts['queries']:,} queries ({_tally(facts['splits'])}) · {counts['models']} models · "
        f"{counts['responses']:,} responses ({_tally(facts['statuses']) or 'none yet'})",
    ]
    if counts["responses"]:
        lines += [
            provenance_words({"store": facts}),
            f"coverage: {coverage['cells_filled']:,} of {coverage['cells_possible']:,} cells (query × model × prompt "
            f"style) filled, {coverage['share']:.1%}; answers a cell: {coverage['samples_per_cell']:.3g}",
        ]
    if facts["ungraded"]:
        lines.append(f"{facts['ungraded']:,} responses have no grade; they count as wrong here")
    if facts["models_without_responses"]:
        lines.append(f"no response yet of: {', '.join(facts['models_without_responses'])}")
    return [*lines, *_model_lines(facts), *_price_lines(facts), *_run_lines(facts)]


def _model_lines(facts: dict[str, Any]) -> list[str]:
    """The overall table, then one a figure with the domains as columns, in blocks as wide as the terminal."""
    if not facts["models"]:
        return []
    styles = {arm["prompt_style"] for arm in facts["models"]}
    names = [arm["model_id"] + (f" / {arm['prompt_style']}" if len(styles) > 1 else "") for arm in facts["models"]]
    head = ["model", "responses", "coverage", "accuracy", "USD/1k", "cost known", "answer read"]
    overall = [
        [
            name,
            f"{arm['responses']:,}",
            f"{arm['coverage']:.1%}",
            _share(arm["accuracy"]),
            _per_thousand(arm["mean_cost_usd"]),
            f"{arm['cost_known']:.1%}",
            f"{arm['answer_read']:.1%}",
        ]
        for name, arm in zip(names, facts["models"], strict=True)
    ]
    accuracy = _by_domain("accuracy", names, facts, lambda figures: _share(figures["accuracy"]))
    cost = []
    if any(arm["cost_known"] for arm in facts["models"]):
        cost = _by_domain("USD/1k", names, facts, lambda figures: _per_thousand(figures["mean_cost_usd"]))
    note = (
        "USD/1k: mean cost of a thousand answers, ? where unknown. answer read: share whose answer could be read out."
    )
    return ["", *table_of([head, *overall]), note, *accuracy, *cost]


def _by_domain(title: str, names: list[str], facts: dict[str, Any], show: Callable[[dict[str, Any]], str]) -> list[str]:
    """The figure of every model in every domain; the longer of the two lists goes downwards."""
    columns = [
        [domain, *(show(arm["domains"][domain]) if domain in arm["domains"] else "–" for arm in facts["models"])]
        for domain in facts["domains"]
    ]
    table = [[title, *names], *columns]
    if len(columns) > len(names):
        table = [
            [title, *facts["domains"]],
            *([name, *row] for name, row in zip(names, _turned(columns)[1:], strict=True)),
        ]
    return blocks(table)


def blocks(columns: list[list[str]]) -> list[str]:
    """A table as wide as the terminal; columns that do not fit go below, each block beginning with the first column."""
    first, *rest = columns
    lines: list[str] = []
    while rest:
        block = [first]
        while rest and (len(block) == 1 or _width([*block, rest[0]]) <= _terminal_width()):
            block.append(rest.pop(0))
        lines += ["", *table_of(_turned(block))]
    return lines


def _turned(table: list[list[str]]) -> list[list[str]]:
    return [list(row) for row in zip(*table, strict=True)]


def _price_lines(facts: dict[str, Any]) -> list[str]:
    if not facts["price_cards"]:
        return ["", "price cards: none"]
    head = ["price card", "from", "input", "cached", "output", "source"]
    rows = [
        [
            card["model_id"],
            str(card["valid_from"]),
            _usd(card["input_usd_per_mtok"]),
            _usd(card["cached_input_usd_per_mtok"], unknown="as input"),
            _usd(card["output_usd_per_mtok"]),
            card["source"],
        ]
        for card in facts["price_cards"]
    ]
    return ["", *table_of([head, *rows], left=(0, 5)), "USD per million tokens"]


def _run_lines(facts: dict[str, Any], shown: int = 5) -> list[str]:
    rows = [
        [
            run["run_id"],
            f"{run['started_at']:%Y-%m-%d %H:%M}",
            "finished" if run["ended_at"] else "cut short, or still going",
            _tally({name: count for name, count in (run["counts"] or {}).items() if count}),
        ]
        for run in facts["runs"][-shown:]
    ]
    earlier = len(facts["runs"]) - len(rows)
    more = [f"and {earlier} earlier"] if earlier else []
    return ["", *table_of([["run", "started", "", "added"], *rows], left=(0, 1, 2, 3)), *more]


def _share(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def _per_thousand(usd: float | None) -> str:
    return "?" if usd is None else f"{1000 * usd:.3f}"


def _usd(price: float | None, unknown: str = "?") -> str:
    return unknown if price is None else f"{price:g}"


def _tally(counts: dict[str, Any]) -> str:
    return ", ".join(_counted(name, count) for name, count in counts.items())


def _counted(name: str, count: Any) -> str:
    if isinstance(count, int):
        return f"{count:,} {name}"
    return f"{name} {count:.2f}" if isinstance(count, float) else f"{name} {count}"


def _width(columns: list[list[str]]) -> int:
    return sum(max(map(len, column)) + 2 for column in columns)


def _terminal_width() -> int:
    return shutil.get_terminal_size((100, 24)).columns


def table_of(rows: list[list[str]], left: tuple[int, ...] = (0,)) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
