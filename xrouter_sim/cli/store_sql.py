"""`xrouter-sim store sql`: any question to a store, in SQL, that only reads."""

import csv
import json
import shutil
import sys
from collections.abc import Iterator
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xrouter_sim.cli.options import DB
from xrouter_sim.cli.store import store_group

if TYPE_CHECKING:
    import polars as pl

SHOWN = 40


@store_group.command("sql")
@click.argument("sql")
@DB
@click.option("--limit", type=click.IntRange(min=0), help=f"Rows to print; 0 for all  [default: {SHOWN} in a table]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a row.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--out", type=click.Path(path_type=Path), help="Write all rows to FILE.parquet or FILE.csv instead.")
def store_sql(sql: str, db: Path, limit: int | None, as_json: bool, as_csv: bool, out: Path | None) -> None:
    """Ask a store in SQL (DuckDB's). A query only reads: the store is opened read-only, and the query itself can open
    no other file, load no extension and change no setting. --out is written by this program, not by the query.

    \b
    Tables: queries, models, price_cards, responses, scores, runs. Views:
      graded         one row a response with the latest score of its query's grader, and cost_usd (null: unknown)
      priced         one row a response with cost_usd
      latest_scores  one row a (response, grader)
    `DESCRIBE graded` shows the columns, `SHOW TABLES` all tables.

    \b
    Examples:
      xrouter-sim store sql "SELECT model_id, avg(score), sum(cost_usd) FROM graded GROUP BY ALL ORDER BY 2 DESC"
      xrouter-sim store sql "FROM graded WHERE status = 'truncated'" --json
      xrouter-sim store sql "SELECT query_id, text FROM responses" --out texts.parquet
    """
    from responses_db.sql import locked_store, select, write

    if as_json and as_csv:
        raise click.UsageError("--json or --csv, not both")
    with locked_store(db) as store:
        if out is not None:
            click.echo(f"wrote {write(store, sql, out):,} rows to {out}")
            return
        frames = select(store, sql)
        if as_json:
            _print_json(_limited(frames, limit or 0))
        elif as_csv:
            _print_csv(_limited(frames, limit or 0))
        else:
            _print_table(frames, SHOWN if limit is None else limit)


def _limited(frames: "Iterator[pl.DataFrame]", limit: int) -> "Iterator[pl.DataFrame]":
    """At most `limit` rows, or all where it is 0."""
    left = limit
    for frame in frames:
        yield frame.head(left) if limit else frame
        left -= frame.height
        if limit and left <= 0:
            return


def _print_json(frames: "Iterator[pl.DataFrame]") -> None:
    for row in chain.from_iterable(frame.iter_rows(named=True) for frame in frames):
        click.echo(json.dumps(row, default=_plain, ensure_ascii=False))


def _print_csv(frames: "Iterator[pl.DataFrame]") -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(next(frames).columns)
    for row in chain.from_iterable(frame.iter_rows() for frame in frames):
        writer.writerow(json.dumps(value, default=_plain) if isinstance(value, list | dict) else value for value in row)


def _print_table(frames: "Iterator[pl.DataFrame]", limit: int) -> None:
    columns = next(frames).columns
    rows: list[tuple[Any, ...]] = []
    more = False
    for frame in frames:
        rows += frame.iter_rows()
        if limit and len(rows) > limit:
            more = True
            break
    shown = rows[:limit] if limit else rows
    for line in table_lines(columns, shown, shutil.get_terminal_size((100, 24)).columns):
        click.echo(line)
    if more:
        click.echo(f"the first {limit} rows; more with --limit N (0 for all), or with --out FILE.parquet")
    elif not rows:
        click.echo("no rows")


def table_lines(columns: list[str], rows: list[tuple[Any, ...]], width: int) -> list[str]:
    """An aligned table, numbers to the right, at most `width` wide: the widest columns are cut, with … at the cut."""
    numbers = [
        any(row[i] is not None for row in rows)
        and all(isinstance(row[i], int | float | Decimal | None) for row in rows)
        for i in range(len(columns))
    ]
    table = [columns, *([_cell(value) for value in row] for row in rows)]
    widths = _fitting([max(len(line[i]) for line in table) for i in range(len(columns))], width)
    return [
        "  ".join(
            (_cut(cell, size).rjust(size) if right else _cut(cell, size).ljust(size))
            for cell, size, right in zip(line, widths, numbers, strict=True)
        ).rstrip()
        for line in table
    ]


def _fitting(widths: list[int], total: int, least: int = 6) -> list[int]:
    """Cut the widest by turns until all fit; none below `least`, so that very many columns overflow."""
    widths = list(widths)
    spare = sum(widths) + 2 * (len(widths) - 1) - total
    while spare > 0 and widths and max(widths) > least:
        widest = max(widths)
        following = max((size for size in widths if size < widest), default=0)
        cut = widths.index(widest)
        step = min(spare, max(1, widest - max(following, least)))
        widths[cut] -= step
        spare -= step
    return widths


def _cell(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, Decimal):
        value = _plain(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    text = json.dumps(value, default=_plain, ensure_ascii=False) if isinstance(value, list | dict) else str(value)
    return text.replace("\r", "").replace("\n", "⏎").replace("\t", " ")


def _plain(value: object) -> object:
    """For JSON: DuckDB's sums of whole numbers are decimals, and are numbers here too."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"
