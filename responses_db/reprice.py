"""What stored answers would have cost on another day, or at other prices. Nothing in the store changes.

Costs come from the store's own view `priced`, so they cannot differ from those that anything else shows: its SQL is run
again over other price cards. Three rules:

* an answer with token counts costs its tokens at the other prices, which may be unknown: null, never zero;
* an answer with a billed cost keeps that bill; under other prices it is scaled by what its tokens cost then over what
  they cost now, where both price cards and the tokens are known, and unknown where not;
* a failed call has neither tokens nor bill, and is counted apart.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from responses_db.prices import CARDS, DAY, SCHEMA, check_cards
from responses_db.store import ResponseStore

EVER = date(1970, 1, 1)
"""A day on which a card that counts is in force already: the view looks for cards in force today."""

TOKENS_ONLY = "SELECT * REPLACE (NULL::DOUBLE AS reported_cost_usd) FROM main.responses"

REPRICED = """
SELECT r.model_id, r.provenance, r.input_tokens, r.cached_input_tokens, r.output_tokens,
    r.cost_usd AS cost_now, r.reported_cost_usd AS billed, r.status,
    CASE WHEN r.reported_cost_usd IS NULL THEN tokens_then.cost_usd
         WHEN tokens_now.cost_usd = tokens_then.cost_usd THEN r.reported_cost_usd
         WHEN tokens_now.cost_usd > 0 THEN r.reported_cost_usd * tokens_then.cost_usd / tokens_now.cost_usd
    END AS cost_then,
    CASE WHEN r.status = 'failed' AND r.cost_usd IS NULL THEN 'failed'
         WHEN cost_then IS NOT NULL THEN NULL
         WHEN r.input_tokens IS NULL OR r.output_tokens IS NULL THEN 'no_tokens'
         WHEN tokens_then.cost_usd IS NULL THEN 'no_price'
         ELSE 'billed_without_price_now'
    END AS why_unknown
FROM priced r
JOIN ({tokens_then}) AS tokens_then USING (response_id)
JOIN ({tokens_now}) AS tokens_now USING (response_id)
"""

SUMMARY = """
SELECT {key},
    count(*) AS responses,
    count(*) FILTER (why_unknown = 'failed') AS failed,
    sum(input_tokens)::BIGINT AS input_tokens,
    sum(cached_input_tokens)::BIGINT AS cached_input_tokens,
    sum(output_tokens)::BIGINT AS output_tokens,
    count(billed) AS billed,
    sum(cost_now) AS cost_now_usd,
    count(*) FILTER (cost_now IS NULL AND status <> 'failed') AS unknown_now,
    sum(cost_then) AS cost_then_usd,
    sum(cost_then) FILTER (cost_now IS NOT NULL)
        / nullif(sum(cost_now) FILTER (cost_then IS NOT NULL), 0) AS ratio,
    count(*) FILTER (why_unknown <> 'failed') AS unknown_then,
    count(*) FILTER (why_unknown = 'no_tokens') AS no_tokens,
    count(*) FILTER (why_unknown = 'no_price') AS no_price,
    count(*) FILTER (why_unknown = 'billed_without_price_now') AS billed_without_price_now
FROM repriced GROUP BY ALL ORDER BY 1
"""

UNKNOWN_WHY = ("no_tokens", "no_price", "billed_without_price_now")


@dataclass(frozen=True)
class Repriced:
    """Costs now and then. Each entry of `models`, and `total`, has the columns of SUMMARY; costs in USD.

    A cost is the sum of those that are known (null: none is); `ratio` is over answers whose cost is known at both
    times. `cards` are the prices taken, one card a model; a model without one has unknown prices.
    """

    on: date | None
    models: list[dict[str, Any]]
    total: dict[str, Any]
    cards: list[dict[str, Any]]


def reprice(store: ResponseStore, *, on: date | None = None, prices: pl.DataFrame | None = None) -> Repriced:
    """What the stored answers cost under the cards in force on day `on` (today, without), or under `prices`.

    `prices` has columns CARDS of `responses_db.prices`. Without a day each model's latest of them is taken, whatever
    its date; with one they stand beside the store's cards and replace those of the same day. LabError when they are of
    models that the store has not.
    """
    given = pl.DataFrame(schema=CARDS) if prices is None else prices
    check_cards(given, store, "these prices")
    cards = _cards_then(store, given.select(list(SCHEMA)), on)
    with _registered(store, "cards_then", cards.with_columns(valid_from=pl.lit(EVER))):
        sql = REPRICED.format(
            tokens_then=_token_costs(store, "cards_then"), tokens_now=_token_costs(store, "main.price_cards")
        )
        store.frame(f"CREATE OR REPLACE TEMP TABLE repriced AS {sql}")
    by_model = "model_id, string_agg(DISTINCT provenance, ', ' ORDER BY provenance) AS provenance"
    models = store.frame(SUMMARY.format(key=by_model)).to_dicts()
    total = store.frame(SUMMARY.format(key="'all' AS model_id")).to_dicts()
    store.con.execute("DROP TABLE temp.repriced").fetchall()
    return Repriced(on, models, total[0] if total else {}, cards.to_dicts())


def _cards_then(store: ResponseStore, given: pl.DataFrame, on: date | None) -> pl.DataFrame:
    """The one card of each model that counts, by model."""
    stored = store.frame(f"SELECT {', '.join(SCHEMA)} FROM price_cards")
    if on is None:
        today = store.frame("SELECT current_date").item()
        kept = _latest(stored.filter(pl.col("valid_from") <= today)).join(given, on="model_id", how="anti")
        return pl.concat([_latest(given), kept]).sort("model_id")
    both = pl.concat([given, stored.join(given, on=DAY, how="anti")])
    return _latest(both.filter(pl.col("valid_from") <= on)).sort("model_id")


def _latest(cards: pl.DataFrame) -> pl.DataFrame:
    return cards.sort("valid_from").unique("model_id", keep="last", maintain_order=True)


def _token_costs(store: ResponseStore, cards: str) -> str:
    """SQL for response_id and cost_usd: the view `priced` itself, over other cards and without billed costs."""
    (text,) = store.frame("SELECT sql FROM duckdb_views() WHERE view_name = 'priced'")["sql"].to_list()
    select = text.removeprefix("CREATE VIEW priced AS ").rstrip().rstrip(";")
    return f"""WITH price_cards AS (SELECT * FROM {cards}), responses AS ({TOKENS_ONLY})
    SELECT response_id, cost_usd FROM ({select})"""


@contextmanager
def _registered(store: ResponseStore, name: str, rows: pl.DataFrame) -> Iterator[None]:
    store.con.register(name, rows.to_arrow())
    try:
        yield
    finally:
        store.con.unregister(name)
