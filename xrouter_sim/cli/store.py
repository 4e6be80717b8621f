"""`xrouter-sim import …` and `xrouter-sim store …`: data into the store, and a look at what is there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

DB = click.option(
    "--db",
    type=click.Path(path_type=Path),
    default=Path("data/responses.duckdb"),
    show_default=True,
    help="The store, one DuckDB file.",
)
FILE = click.argument("path", type=click.Path(path_type=Path), metavar="FILE")


@click.group("import")
def import_group() -> None:
    """Bring data into a store: public routing datasets, price cards.

    A file is checked as a whole first and lands in one transaction: all of it or nothing. Rows that the store has
    already are skipped, so importing twice is harmless; rows that contradict stored ones are refused.
    """


@import_group.command("tidy")
@FILE
@DB
def import_tidy(path: Path, db: Path) -> None:
    """Import answers that somebody has graded already: Parquet or CSV, one row a response.

    \b
    Columns (null where a source knows nothing):
      dataset, split, domain       text; split is train, validation or test
      query_id, query              text; query_id is unique within dataset
      model, response              text
      score                        a number from 0 to 1
      prompt_tokens, completion_tokens
      cost_usd                     what the call was billed, in USD
      reference                    the gold answer
    Optional:
      question                     the query without its few-shot prefix
      prompt_style, sample_index   for several answers of a model to one query
      provenance                   imported (default), live, local or simulated

    \b
    Example:
      xrouter-sim import tidy routerbench.parquet --db data/routerbench.duckdb
    """
    from responses_db.importers import tidy

    _import("tidy", path, db)
    if unused := tidy.unused_columns(path):
        click.echo(f"columns not used: {', '.join(unused)}")


def _import(form: str, path: Path, db: Path) -> None:
    from responses_db import ResponseStore
    from responses_db.importers import IMPORTERS, check, land

    rows = IMPORTERS[form].read(path)
    check(rows, str(path))
    with ResponseStore(db, write=True) as store:
        landed = land(rows, store, {"form": form, "path": path})
    if landed.run_id is None:
        click.echo(f"nothing new: {db} has all {landed.responses:,} responses of {path} already")
        return
    known_before = landed.responses - landed.new_responses
    skipped = f" ({known_before:,} were there already)" if known_before else ""
    click.echo(
        f"imported {landed.new_responses:,} responses of {landed.models} models to {landed.queries:,} queries "
        f"from {path} into {db}{skipped}"
    )
    if unknown := landed.responses - landed.costs_known:
        click.echo(
            f"the cost of {unknown:,} responses is unknown (null, not zero), and training needs it; "
            f"where there are token counts, `xrouter-sim import prices FILE.toml --db {db}` gives it"
        )


@import_group.command("prices")
@FILE
@DB
@click.option("--replace", is_flag=True, help="Correct stored cards of the same model and date.")
def import_prices(path: Path, db: Path, replace: bool) -> None:
    """Import dated price cards from a TOML file.

    A card is in force from its day on, until the model's next card. A cost that a source billed itself (`cost_usd`
    of an import) stays as it is; other costs follow the card in force.

    \b
    A card, in USD per million tokens:
      [[price]]
      model = "gpt-4-1106-preview"
      valid_from = 2023-11-06
      input_usd_per_mtok = 10.0
      cached_input_usd_per_mtok = 5.0    # optional
      output_usd_per_mtok = 30.0
      source = "the provider's price page, read 2023-11-10"

    \b
    Example:
      xrouter-sim import prices prices.toml --db data/responses.duckdb
    """
    from responses_db import ResponseStore
    from responses_db.prices import import_prices, read_prices

    cards = read_prices(path)
    ResponseStore(db).close()  # there must be a store: a price file does not start one
    with ResponseStore(db, write=True) as store:
        new = import_prices(path, store, replace=replace)
    click.echo(f"imported {new} of {cards.height} price cards from {path} into {db}" if new else f"nothing new: {db}")


@click.group("store")
def store_group() -> None:
    """Look into a store."""


@store_group.command("info")
@DB
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def info(db: Path, as_json: bool) -> None:
    """Show what a store holds: coverage, accuracy and cost by model and domain, provenance, prices, runs.

    A mean cost is that of one answer. Failed answers count as wrong. The content hash names the rows, whatever their
    order: a run's manifest has it, so a figure can be traced to the data it came from.

    \b
    Examples:
      xrouter-sim store info
      xrouter-sim store info --db data/routerbench.duckdb --json
    """
    from responses_db import ResponseStore
    from responses_db.info import describe

    with ResponseStore(db) as store:
        facts = describe(store)
    if as_json:
        click.echo(json.dumps(facts, default=str, ensure_ascii=False))
    else:
        click.echo("\n".join(_lines(facts)))


def _lines(facts: dict[str, Any]) -> list[str]:
    from xrouter_sim.evaluation.words import provenance_words

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
    return ["", *_table([head, *overall]), note, *accuracy, *cost]


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
    return _blocks(table)


def _blocks(columns: list[list[str]]) -> list[str]:
    """A table as wide as the terminal; columns that do not fit go below, each block beginning with the first column."""
    first, *rest = columns
    lines: list[str] = []
    while rest:
        block = [first]
        while rest and (len(block) == 1 or _width([*block, rest[0]]) <= _terminal_width()):
            block.append(rest.pop(0))
        lines += ["", *_table(_turned(block))]
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
            *(
                "?" if card[key] is None else f"{card[key]:g}"
                for key in ("input_usd_per_mtok", "cached_input_usd_per_mtok", "output_usd_per_mtok")
            ),
            card["source"],
        ]
        for card in facts["price_cards"]
    ]
    return ["", *_table([head, *rows], left=(0, 5)), "USD per million tokens"]


def _run_lines(facts: dict[str, Any], shown: int = 5) -> list[str]:
    rows = [
        [
            run["run_id"],
            f"{run['started_at']:%Y-%m-%d %H:%M}",
            "finished" if run["ended_at"] else "cut short, or still going",
            _tally(run["counts"] or {}),
        ]
        for run in facts["runs"][-shown:]
    ]
    earlier = len(facts["runs"]) - len(rows)
    more = [f"and {earlier} earlier"] if earlier else []
    return ["", *_table([["run", "started", "", "added"], *rows], left=(0, 1, 2, 3)), *more]


def _share(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def _per_thousand(usd: float | None) -> str:
    return "?" if usd is None else f"{1000 * usd:.3f}"


def _tally(counts: dict[str, Any]) -> str:
    return ", ".join(
        f"{count:,} {name}" if isinstance(count, int) else f"{name} {count}" for name, count in counts.items()
    )


def _width(columns: list[list[str]]) -> int:
    return sum(max(map(len, column)) + 2 for column in columns)


def _terminal_width() -> int:
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


def _table(rows: list[list[str]], left: tuple[int, ...] = (0,)) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
