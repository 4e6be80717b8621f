"""`xrouter-sim import …`: public routing datasets, backups and price cards into a store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from responses_db.importers.registry import IMPORTERS, SPLIT_CHOICES, Importer
from xrouter_sim.cli.options import DB

FILE = click.argument("path", type=click.Path(path_type=Path), metavar="FILE")
PATHS = click.argument("paths", type=click.Path(path_type=Path), metavar="FILE|FOLDER…", nargs=-1, required=True)


@click.group("import")
def import_group() -> None:
    """Bring data into a store: public routing datasets, backups, price cards.

    Several files or folders make one import, and gz or zst compression is seen through. An import is checked as a
    whole first and lands in one transaction: all of it or nothing. Rows that cannot be used are counted and listed with
    their reason. Rows that the store has already are skipped, so importing twice is harmless; rows that contradict
    stored ones are refused. docs/importing.md says what each form becomes.
    """


SHARED = [
    PATHS,
    DB,
    click.option(
        "--split",
        type=click.Choice(SPLIT_CHOICES),
        default="source",
        show_default=True,
        help="Splits: the source's own (hashed where it has none), hashed for all, or one for all queries.",
    ),
    click.option(
        "--test-share",
        type=click.FloatRange(0, 1),
        default=0.3,
        show_default=True,
        help="Share of queries that a hash of their text puts into test; the others are train.",
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Another seed, another hash."),
    click.option("--dataset", help="The dataset's name in the store, instead of the form's own."),
    click.option(
        "--rejects",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Where to list rejected rows, as CSV.  [default: STORE.FORM.rejects.csv beside the store]",
    ),
    click.option(
        "--max-rejects",
        type=click.FloatRange(0, 1),
        help="Import nothing when a larger share of rows is rejected.  [default: 0 for tidy, else short of all]",
    ),
]

MORE: dict[str, Callable[[Any], Any]] = {
    "pickle": click.option("--trust-pickle", is_flag=True, help="Read a pickle (see above), which is refused else."),
    "costs": click.option(
        "--costs",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The source's JSON of prices a model: gives a cost to records that name none.",
    ),
}


class ImportCommand(click.Command):
    """One importer's command. Its long help is the docstring of the importer's file, read when it is asked for."""

    def __init__(self, importer: Importer) -> None:
        def run(**options: Any) -> None:
            run_import(importer.name, **options)

        for option in reversed([*SHARED, *(MORE[name] for name in importer.options)]):
            run = option(run)
        params = list(reversed(getattr(run, "__click_params__", [])))
        super().__init__(importer.name, params=params, callback=run, short_help=importer.summary)
        self.importer = importer

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.help = self.importer.help.replace("\\b\n", "\b\n")
        super().format_help_text(ctx, formatter)


for entry in IMPORTERS.values():
    import_group.add_command(ImportCommand(entry))


def run_import(
    form: str, paths: tuple[Path, ...], db: Path, rejects: Path | None, max_rejects: float | None, **chosen: Any
) -> None:
    from responses_db.importers import Choices, import_files

    done = import_files(form, paths, db, Choices(**chosen), rejects=rejects, max_rejects=max_rejects)
    landed, gathered = done.landed, done.gathered
    source = str(paths[0]) if gathered.files == 1 and len(paths) == 1 else f"{gathered.files} files"
    if landed.run_id is None:
        click.echo(f"nothing new: {db} has all {landed.responses:,} responses of {source} already")
    else:
        click.echo(_landed_line(landed, source, db))
        click.echo(_split_line(gathered, chosen["seed"]))
        if unknown := landed.responses - landed.costs_known:
            click.echo(
                f"the cost of {unknown:,} responses is unknown (null, not zero), and training needs it; "
                f"where there are token counts, `xrouter-sim import prices FILE.toml --db {db}` gives it"
            )
    for line in _rest_lines(gathered, done.rejects_file):
        click.echo(line)


def _landed_line(landed: Any, source: str, db: Path) -> str:
    known_before = landed.responses - landed.new_responses
    skipped = f" ({known_before:,} were there already)" if known_before else ""
    return (
        f"imported {landed.new_responses:,} responses of {landed.models} models to {landed.queries:,} queries "
        f"from {source} into {db}{skipped}"
    )


def _split_line(gathered: Any, seed: int) -> str:
    counts = gathered.rows.unique(["dataset", "query_id"])["split"].value_counts().sort("split").iter_rows()
    tally = ", ".join(f"{count:,} {split}" for split, count in counts)
    return f"queries by split: {tally}" + (f" (by a hash of their text, seed {seed})" if gathered.hashed else "")


def _rest_lines(gathered: Any, rejects_file: Path | None) -> list[str]:
    """What was left aside, each in one line."""
    lines = list(gathered.notes)
    if rejected := gathered.rejects.height:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in gathered.reasons()[:3])
        more = "; …" if len(gathered.reasons()) > 3 else ""
        lines.append(f"rejected {rejected:,} of {gathered.read:,} rows ({reasons}{more}): listed in {rejects_file}")
    if gathered.unused:
        lines.append(f"columns not used: {', '.join(gathered.unused)}")
    if passed_over := gathered.passed_over:
        names = ", ".join(Path(name).name for name in passed_over[:5]) + (", …" if len(passed_over) > 5 else "")
        lines.append(f"{len(passed_over)} other files there were not read: {names}")
    return lines


@import_group.command("backup")
@click.argument("folder", type=click.Path(path_type=Path))
@DB
def import_backup(folder: Path, db: Path) -> None:
    """Restore a backup (`xrouter-sim store export --form parquet`) into a new store.

    All tables in one transaction; the content hash must be that of the backup's manifest. To add the rows to a store
    that holds something, restore into a new one and merge.

    \b
    Example:
      xrouter-sim import backup backup/ --db data/restored.duckdb
    """
    from responses_db.backup import restore

    rows = restore(folder, db)
    counts = ", ".join(f"{count:,} {table}" for table, count in rows.items())
    click.echo(f"restored {folder} into {db}: {counts}")


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
