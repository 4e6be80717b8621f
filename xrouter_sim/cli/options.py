"""Options that several commands share."""

from pathlib import Path

import click

DB = click.option(
    "--db",
    type=click.Path(path_type=Path),
    default=Path("data/responses.duckdb"),
    show_default=True,
    help="The store, one DuckDB file.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of words.")
