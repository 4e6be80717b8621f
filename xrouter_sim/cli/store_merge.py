"""`xrouter-sim store merge`: two stores into one."""

import json
from pathlib import Path

import click

from xrouter_sim.cli.options import JSON
from xrouter_sim.cli.store import store_group


@store_group.command("merge")
@click.argument("other", type=click.Path(path_type=Path))
@click.option(
    "--into",
    "db",
    type=click.Path(path_type=Path),
    default=Path("data/responses.duckdb"),
    show_default=True,
    help="The store that grows; made when it is not there.",
)
@click.option("--keep", type=click.Choice(["ours", "theirs"]), help="Whose rows stand where both have a key.")
@click.option("--conflicts", type=click.Path(path_type=Path), help="CSV for conflicts  [default: INTO.conflicts.csv]")
@JSON
def store_merge(other: Path, db: Path, keep: str | None, conflicts: Path | None, as_json: bool) -> None:
    """Take the rows of OTHER into a store, in one transaction. OTHER is only read.

    Equal rows are skipped, runs and provenance come along. A conflict is a key under which the two stores hold
    different content: what was asked, answered, graded or paid; when it came and how long it took does not count.
    Conflicts are listed in a CSV file, and nothing is merged until --keep says whose rows stand. Then the responses to
    a contradicted query, and the scores of a contradicted response, come from the same side. An answer takes the place
    of a failed call without asking. Without conflicts, either order of merging gives the same content hash.

    \b
    Examples:
      xrouter-sim store merge colleague.duckdb --into data/responses.duckdb
      xrouter-sim store merge old.duckdb --into new.duckdb --keep ours --json
    """
    from responses_db import LabError, ResponseStore
    from responses_db.merge import merge

    ResponseStore(other).close()  # before a new store is made for it
    with ResponseStore(db, write=True) as store:
        merged = merge(store, other, "ours" if keep == "ours" else "theirs" if keep else None)
        content_hash = store.content_hash()
    listed = conflicts or db.with_name(db.name + ".conflicts.csv")
    rows = merged.conflicts.select("table", "key").unique()
    tally = ", ".join(f"{count:,} {table}" for table, count in sorted(rows.group_by("table").len().rows()))
    if not rows.is_empty():
        merged.conflicts.write_csv(listed)
    if not rows.is_empty() and keep is None:
        raise LabError(
            f"nothing was merged: {other} contradicts {db} in {rows.height:,} rows ({tally}), listed in {listed}; "
            "say whose stand with --keep ours or --keep theirs"
        )
    if as_json:
        facts = {
            name: getattr(merged, name) for name in ("run_id", "added", "replaced", "removed", "equal", "left_out")
        }
        click.echo(json.dumps(facts | {"conflicts": rows.height, "keep": keep, "content_hash": content_hash}))
        return
    for title in ("added", "replaced", "removed"):
        if counted := ", ".join(f"{count:,} {table}" for table, count in getattr(merged, title).items() if count):
            click.echo(f"{title}: {counted}")
    if merged.left_out:
        click.echo(f"left out: {merged.left_out:,} responses of {other} to queries that mean something else there")
    if tally:
        click.echo(f"conflicts, {keep} kept: {tally}, listed in {listed}")
    done = "merged" if merged.run_id else "nothing new"
    click.echo(f"{done}: {db} has content hash {content_hash[:12]}")
