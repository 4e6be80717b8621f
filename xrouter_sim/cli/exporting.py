"""`xrouter-sim store export`: a store as files."""

import json
from pathlib import Path

import click

from xrouter_sim.cli.options import DB, JSON
from xrouter_sim.cli.store import store_group


@store_group.command("export")
@click.argument("out", type=click.Path(path_type=Path), metavar="FOLDER|FILE")
@click.option(
    "--form",
    type=click.Choice(["parquet", "tidy", "hf"]),
    required=True,
    help="What to write (see above).",
)
@click.option("--replace", is_flag=True, help="Take the place of what is there already.")
@DB
@JSON
def export(out: Path, form: str, replace: bool, db: Path, as_json: bool) -> None:
    """Write a store to files, whole or not at all.

    \b
    parquet   a folder with every table as one Parquet file and a manifest with the content hash: a backup, which
              `xrouter-sim import backup` reads back into a new store, equal to the last bit of its hash
    tidy      one file, one row a response (Parquet, or CSV where its name ends in .csv or .csv.gz), which
              `xrouter-sim import tidy` reads back with equal scores, tokens and costs
    hf        a folder in the layout of a Hugging Face dataset: data/SPLIT-*.parquet in the tidy form and a card;
              `datasets.load_dataset(FOLDER)` reads it

    The tidy form has no place for price cards, runs, graders, query metadata and answers read out of responses: costs
    are those of the cards in force today, the grade is the latest. A query of several messages is written as JSON.

    \b
    Examples:
      xrouter-sim store export backup --form parquet
      xrouter-sim store export answers.parquet --form tidy --db data/routerbench.duckdb
      xrouter-sim store export my-dataset --form hf --replace
    """
    from responses_db import ResponseStore
    from responses_db.export import export

    with ResponseStore(db) as store:
        done = export(store, out, form, replace=replace)
    if as_json:
        click.echo(json.dumps({"out": str(done.out), "form": form, "rows": done.rows, "notes": done.notes}))
        return
    rows = ", ".join(f"{count:,} {name}" for name, count in done.rows.items())
    click.echo(f"wrote {out}: {rows}")
    for note in done.notes:
        click.echo(note)
