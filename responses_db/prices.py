"""Price cards from a TOML file: what a model's tokens cost, since when, and who says so.

[[price]]
model = "gpt-4-1106-preview"
valid_from = 2023-11-06
input_usd_per_mtok = 10.0
cached_input_usd_per_mtok = 5.0     # optional: cached input costs as much as other input without it
output_usd_per_mtok = 30.0
source = "the provider's price page, read 2023-11-10"

[[price]]
model = "gpt-4o-mini"
catalogue = "openai/gpt-4o-mini"    # every dated price that genai-prices has; a card of the same day overrides one
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import polars as pl

from responses_db.catalogue import find_entry
from responses_db.errors import LabError
from responses_db.store import ResponseStore
from responses_db.toml_table import Table, read_toml

HIGHEST_USD_PER_MTOK = 10_000.0
"""No model has cost more than a few hundred USD per million tokens; above this somebody lost a factor of a million."""

SCHEMA = {
    "model_id": pl.String,
    "valid_from": pl.Date,
    "input_usd_per_mtok": pl.Float64,
    "cached_input_usd_per_mtok": pl.Float64,
    "output_usd_per_mtok": pl.Float64,
    "source": pl.String,
}
CARDS = SCHEMA | {"tier_start": pl.Int64}
"""A card, and the input tokens above which a call costs more than the card says (null: never)."""

DAY = ["model_id", "valid_from"]


def read_prices(path: Path) -> pl.DataFrame:
    """The price cards of a file, columns CARDS; prices in USD per million tokens.

    Raises LabError for a missing or broken file, and for the first card with a missing, unknown or absurd entry.
    """
    if not path.is_file():
        raise LabError(f"{path}: no such file; give a TOML file of [[price]] tables")
    content = read_toml(path)
    tables = content.tables("price")
    content.finish()
    own = _frame(_card(table) for table in tables if "catalogue" not in table.values)
    looked_up = _frame(card for table in tables if "catalogue" in table.values for card in _looked_up(table))
    for cards in (own, looked_up):
        twice = cards.filter(cards.select(DAY).is_duplicated())
        if not twice.is_empty():
            raise LabError(f"{path}: two cards for {twice['model_id'][0]} from {twice['valid_from'][0]}: remove one")
    return pl.concat([own, looked_up.join(own, on=DAY, how="anti")])


def catalogue_cards(entries: Mapping[str, str]) -> pl.DataFrame:
    """The dated cards, columns CARDS, of catalogue entries (PROVIDER/NAME) by the models they are for."""
    return _frame(card for model, name in entries.items() for card in _entry_cards(model, name))


def import_prices(path: Path, store: ResponseStore, *, replace: bool = False) -> int:
    """Add a file's price cards to the store, all or none. Returns how many were new or, with `replace`, changed.

    Raises LabError when a model is not in the store, or a card differs from the stored one of the same date.
    """
    return land_cards(read_prices(path), store, str(path), replace=replace)


def land_cards(cards: pl.DataFrame, store: ResponseStore, where: str, *, replace: bool = False) -> int:
    """Add cards (columns CARDS) that came from `where`. Returns and raises as `import_prices`."""
    check_cards(cards, store, where)
    cards = cards.select(list(SCHEMA))
    stored = store.frame(f"SELECT {', '.join(cards.columns)} FROM price_cards")
    new = cards.join(stored, on=cards.columns, how="anti", nulls_equal=True)
    changed = new.join(stored, on=DAY, how="semi")
    if not changed.is_empty() and not replace:
        raise LabError(
            f"{store.path} has another price for {changed['model_id'][0]} from {changed['valid_from'][0]}: "
            "a new price gets a new valid_from; to correct the old one use --replace"
        )
    if new.is_empty():
        return 0
    with store.transaction():
        run_id = store.begin_run("import", {"form": "prices", "path": where, "replace": replace})
        for model_id, valid_from in changed.select(DAY).iter_rows():
            store.con.execute("DELETE FROM price_cards WHERE model_id = ? AND valid_from = ?", [model_id, valid_from])
        store.append("price_cards", new)
        store.end_run(run_id, {"price_cards": new.height})
    return new.height


def check_cards(cards: pl.DataFrame, store: ResponseStore, where: str) -> None:
    """LabError for a card of a model that the store has not, or that is wrong for some of its longest prompts."""
    _check_models(cards, store, where)
    for model_id, start in cards.drop_nulls("tier_start").select("model_id", "tier_start").unique().iter_rows():
        sql = "SELECT count(*) FROM responses WHERE model_id = ? AND input_tokens > ?"
        longer = store.frame(sql, [model_id, start]).item()
        if longer:
            raise LabError(
                f"{where}: {longer:,} answers of {model_id} have more than {start:,} input tokens, for which the price "
                "catalogue has a higher price that a card cannot carry: write a card of your own for it"
            )


def _frame(cards: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(list(cards), schema=CARDS)


def _card(table: Table) -> dict[str, Any]:
    card = {
        "model_id": table.text("model"),
        "valid_from": table.day("valid_from"),
        "input_usd_per_mtok": _price(table, "input_usd_per_mtok"),
        "cached_input_usd_per_mtok": _price(table, "cached_input_usd_per_mtok", None),
        "output_usd_per_mtok": _price(table, "output_usd_per_mtok"),
        "source": table.text("source"),
    }
    table.finish()
    return card


def _looked_up(table: Table) -> list[dict[str, Any]]:
    """The cards of a table with `catalogue`, which takes no figures: an override is a card of its own."""
    model_id, name = table.text("model"), table.text("catalogue")
    for key in table.values:
        if key in SCHEMA:
            raise table.fail(f"`{key}` beside `catalogue`: override a price with a [[price]] of the same model and day")
    table.finish()
    try:
        return _entry_cards(model_id, name)
    except LabError as error:
        raise table.fail(str(error)) from None


def _entry_cards(model_id: str, name: str) -> list[dict[str, Any]]:
    return [{"model_id": model_id} | vars(card) for card in find_entry(name).cards]


def _price(table: Table, key: str, default: Any = ...) -> float | None:
    value: float | None = table.number(key, default)
    if value is not None and value > HIGHEST_USD_PER_MTOK:
        raise table.fail(
            f"`{key}` of {table.text('model')} is {value:,} USD per million tokens: off by a million? "
            f"(at most {HIGHEST_USD_PER_MTOK:,.0f})"
        )
    return value


def _check_models(cards: pl.DataFrame, store: ResponseStore, where: str) -> None:
    known = store.frame("SELECT model_id FROM models ORDER BY model_id")["model_id"].to_list()
    unknown = [model for model in cards["model_id"].unique(maintain_order=True) if model not in known]
    if not unknown:
        return
    near = get_close_matches(unknown[0], known, n=3, cutoff=0.3) or known[:3]
    others = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
    hint = f"the nearest are {', '.join(near)}" if near else "it has no models yet: import or harvest first"
    raise LabError(f"{where}: model {unknown[0]}{others} is not in {store.path}; {hint}")
