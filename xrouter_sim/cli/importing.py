"""`xrouter-sim import …`: public routing datasets and price cards into a store."""

from pathlib import Path

import click

from xrouter_sim.cli.options import DB

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
