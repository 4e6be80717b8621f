"""`store reprice` and `import catalogue`: what answers would cost at other prices, and published prices to take."""

import json
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xrouter_sim.cli.importing import import_group
from xrouter_sim.cli.options import DB, JSON
from xrouter_sim.cli.store import store_group

if TYPE_CHECKING:
    from responses_db.reprice import Repriced

WORDS = {
    "no_tokens": "without token counts",
    "no_price": "of models without a price there",
    "billed_without_price_now": "billed by their source, and without a price of today's to scale the bill from",
}
"""Why a cost is unknown."""


@store_group.command("reprice", short_help="What the stored answers would have cost on another day, at other prices.")
@DB
@click.option("--on", "day", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="At the prices of that day.")
@click.option("--prices", type=click.Path(path_type=Path), metavar="FILE", help="At the prices of a TOML file.")
@JSON
def reprice_store(db: Path, day: datetime | None, prices: Path | None, as_json: bool) -> None:
    """Say what the stored answers would have cost on another day or at other prices. The store stays as it is.

    FILE holds [[price]] cards as for `xrouter-sim import prices`; models without a card in it keep their price. With
    --on as well, the file's cards join the store's, and of each model that of the day is taken; without, its latest.

    Costs follow the token counts. An answer whose source billed it keeps that bill, scaled by what its tokens cost
    there over what they cost now, where both prices are known. A cost that is unknown is counted, never zero.

    \b
    Examples:
      xrouter-sim store reprice --on 2025-06-01
      xrouter-sim store reprice --prices next-year.toml --db data/routerbench.duckdb --json
    """
    from responses_db import ResponseStore
    from responses_db.prices import read_prices
    from responses_db.reprice import reprice

    if day is None and prices is None:
        raise click.UsageError("give --on DATE, --prices FILE or both: at which prices?")
    cards = None if prices is None else read_prices(prices)
    with ResponseStore(db) as store:
        done = reprice(store, on=day.date() if day else None, prices=cards)
    if as_json:
        click.echo(json.dumps(vars(done), default=str, ensure_ascii=False))
    else:
        click.echo("\n".join(_lines(done, prices, db)))


def _lines(done: "Repriced", prices: Path | None, db: Path) -> list[str]:
    from xrouter_sim.cli.store_text import table_of

    if not done.models:
        return [f"{db} has no answers yet"]
    head = ["model", "answers", "input tokens", "output tokens", "USD now", "USD then", "then / now", "unknown then"]
    rows = [
        [
            row["model_id"],
            f"{row['responses']:,}",
            _count(row["input_tokens"]),
            _count(row["output_tokens"]),
            _usd(row["cost_now_usd"]) + ("*" if row["billed"] else ""),
            _usd(row["cost_then_usd"]),
            "?" if row["ratio"] is None else f"{row['ratio']:.4g}",
            f"{row['unknown_then']:,}",
        ]
        for row in [*done.models, done.total]
    ]
    then = " ".join([f"on {done.on}" if done.on else "", f"at the prices of {prices}" if prices else ""]).strip()
    lines = [*table_of([head, *rows]), f"then: {then}. USD: the sum of the costs that are known, ? where none is"]
    return [*lines, *_notes(done), f"nothing was changed{_how_to_keep(prices, db)}"]


def _notes(done: "Repriced") -> list[str]:
    """What the table's figures leave open, one line each."""
    notes = []
    if done.total["billed"]:
        notes.append(f"* {done.total['billed']:,} answers at the cost that their source billed")
    for why, words in WORDS.items():
        models = [row["model_id"] for row in done.models if row[why]]
        if models:
            shown = ", ".join(models[:5]) + (f" and {len(models) - 5} more models" if len(models) > 5 else "")
            notes.append(f"unknown then: {done.total[why]:,} answers {words} ({shown})")
    if done.total["unknown_now"]:
        notes.append(f"unknown now: {done.total['unknown_now']:,} answers; then / now leaves them out")
    if done.total["failed"]:
        notes.append(f"{done.total['failed']:,} failed calls have no tokens and no bill, and count nothing")
    return notes


def _how_to_keep(prices: Path | None, db: Path) -> str:
    return f"; to make these the store's prices: xrouter-sim import prices {prices} --db {db}" if prices else ""


def _count(tokens: int | None) -> str:
    return "?" if tokens is None else f"{tokens:,}"


def _usd(cost: float | None) -> str:
    return "?" if cost is None else f"{cost:,.4f}"


@import_group.command("catalogue", short_help="Import dated price cards from genai-prices.")
@click.argument("pairs", nargs=-1, metavar="MODEL=PROVIDER/NAME…")
@click.option("--find", metavar="WORD", help="Only list the catalogue's entries that contain a word.")
@DB
@click.option("--replace", is_flag=True, help="Correct stored cards of the same model and date.")
def import_catalogue(pairs: tuple[str, ...], find: str | None, db: Path, replace: bool) -> None:
    """Import published prices from the catalogue of the package `genai-prices`: kept by others, read offline.

    MODEL is a model of the store, PROVIDER/NAME the entry that says what it costs. Every dated price that the entry
    has becomes a card; `source` of a card names the package's version, the entry, and what a card cannot carry (higher
    prices of long prompts, batch service, cache writes). To override one, `xrouter-sim import prices --replace` a card
    of the same day. A price file may name an entry as well: catalogue = "openai/gpt-4o-mini".

    \b
    Examples:
      xrouter-sim import catalogue --find gpt-4o
      xrouter-sim import catalogue gpt-4o-mini=openai/gpt-4o-mini --db data/responses.duckdb
    """
    if find is not None:
        _list_entries(find)
        return
    entries = dict(_pair(text) for text in pairs)
    if not entries:
        raise click.UsageError("name one or more MODEL=PROVIDER/NAME, or --find WORD to see what there is")
    from responses_db import ResponseStore
    from responses_db.prices import catalogue_cards, land_cards

    cards = catalogue_cards(entries)
    ResponseStore(db).close()  # there must be a store: prices do not start one
    with ResponseStore(db, write=True) as store:
        new = land_cards(cards, store, "genai-prices", replace=replace)
    click.echo(f"imported {new} of {cards.height} price cards into {db}" if new else f"nothing new: {db}")
    for model, source in cards.select("model_id", "source").unique(maintain_order=True).iter_rows():
        click.echo(f"{model}: {source}")


def _pair(text: str) -> tuple[str, str]:
    model, equals, name = text.rpartition("=")
    if not equals or not model or not name:
        raise click.UsageError(f"{text!r} is no MODEL=PROVIDER/NAME, such as gpt-4o-mini=openai/gpt-4o-mini")
    return model, name


def _list_entries(word: str) -> None:
    from responses_db import LabError
    from responses_db.catalogue import catalogue_version, find_entry, search
    from xrouter_sim.cli.store_text import table_of

    names = search(word)
    if not names:
        raise LabError(f"no entry of {catalogue_version()} contains {word!r}: try a shorter word")
    rows = [["entry", "input", "cached", "output", "since"]]
    for name in names:
        try:
            card = find_entry(name).on(date.today())
        except LabError:
            card = None
        prices = [card.input_usd_per_mtok, card.cached_input_usd_per_mtok, card.output_usd_per_mtok] if card else []
        figures: list[Any] = ["?" if price is None else f"{price:g}" for price in prices] or ["no card fits", "", ""]
        since = "" if card is None else str(card.valid_from) if card.valid_from.year > 1970 else "not told"
        rows.append([name, *figures, since])
    click.echo("\n".join(table_of(rows)))
    click.echo(f"{catalogue_version()}: {len(names):,} entries; USD per million tokens, cached ? is billed as input")
