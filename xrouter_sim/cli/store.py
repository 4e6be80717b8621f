"""`xrouter-sim store …`: look into a store."""

import json
from pathlib import Path

import click

from xrouter_sim.cli.options import DB, JSON


@click.group("store")
def store_group() -> None:
    """Look into a store, check it, join it with another, export it."""


@store_group.command("info")
@DB
@JSON
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
        from xrouter_sim.cli.store_text import info_lines

        click.echo("\n".join(info_lines(facts)))
