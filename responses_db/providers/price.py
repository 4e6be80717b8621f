"""A price in a config: figures in USD per million tokens, or the name of a catalogue entry that has them."""

from datetime import date

from responses_db.catalogue import find_entry
from responses_db.errors import LabError
from responses_db.providers.base import Price
from responses_db.toml_table import Table


def read_price(table: Table) -> Price:
    """`input`, `output` and perhaps `cached_input`, with `valid_from` and `source`; or `catalogue` = PROVIDER/NAME.

    A catalogue entry gives the card that is in force today. LabError for what is missing or not to be had.
    """
    if "catalogue" in table.values:
        price = _looked_up(table)
    else:
        price = Price(
            input_usd_per_mtok=float(table.number("input")),
            output_usd_per_mtok=float(table.number("output")),
            cached_input_usd_per_mtok=table.number("cached_input", None),
            valid_from=table.day("valid_from"),
            source=table.text("source"),
        )
    table.finish()
    return price


def _looked_up(table: Table) -> Price:
    try:
        entry = find_entry(table.text("catalogue"))
    except LabError as error:
        raise table.fail(str(error)) from None
    card = entry.on(date.today())
    if card is None:
        raise table.fail(f"{entry.name} has no price in force today: write `input` and `output`")
    return Price(
        input_usd_per_mtok=card.input_usd_per_mtok,
        output_usd_per_mtok=card.output_usd_per_mtok,
        cached_input_usd_per_mtok=card.cached_input_usd_per_mtok,
        valid_from=card.valid_from,
        source=card.source,
    )
