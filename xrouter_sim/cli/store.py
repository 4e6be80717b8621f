"""`xrouter-sim import …` and `xrouter-sim store …`: data into the store, and a look at what is there."""

from pathlib import Path
from typing import Any

import click

DB_OPTION = click.option(
    "--db",
    type=click.Path(path_type=Path),
    default=Path("data/responses.duckdb"),
    show_default=True,
    help="The store, one DuckDB file.",
)


@click.group("import")
def import_group() -> None:
    """Bring data into the store: public routing datasets, price cards."""


@import_group.command("tidy")
@click.argument("path", type=click.Path(path_type=Path))
@DB_OPTION
def import_tidy(path: Path, db: Path) -> None:
    """Import PATH, Parquet or CSV in the tidy form: one row a response."""
    _import("tidy", path, db)


def _import(form: str, path: Path, db: Path) -> None:
    from responses_db import ResponseStore
    from responses_db.importers import IMPORTERS, check, land

    rows = IMPORTERS[form].read(path)
    check(rows, str(path))
    with ResponseStore(db, write=True) as store:
        config: dict[str, Any] = {"form": form, "path": path}
        landed = land(rows, store, config)
    if landed.run_id is None:
        click.echo(f"nothing new: {db} has all {landed.responses:,} responses of {path} already")
        return
    click.echo(
        f"imported {landed.new_responses:,} responses of {landed.models} models to {landed.queries:,} queries "
        f"from {path} into {db}"
    )
