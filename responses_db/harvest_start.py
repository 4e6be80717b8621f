"""Before the first question: note the run, and land the queries, models and price cards that it needs."""

import json
from collections.abc import Sequence
from typing import Any

import polars as pl

from responses_db.errors import LabError
from responses_db.harvest_config import HarvestConfig
from responses_db.providers import Model, Price, Provider
from responses_db.query import Query
from responses_db.store import KEYS, ResponseStore

PRICES = ["input_usd_per_mtok", "cached_input_usd_per_mtok", "output_usd_per_mtok"]
FACTS = {
    "queries": ["messages", "reference", "grader", "domain", "split", "metadata"],
    "models": ["provider", "metadata"],
    "price_cards": PRICES,
}
"""What must be equal in a row that is there already: answers of two worlds, or at two prices, must not mix."""


def begin(config: HarvestConfig, queries: Sequence[Query], store: ResponseStore) -> str:
    """Returns the run's id. LabError when a query, model or price card is there already with other facts."""
    models = [(provider, model) for provider in config.providers for model in provider.models]
    cards = [_price_row(model, model.price) for _, model in models if model.price is not None]
    with store.transaction():
        run_id = store.begin_run("harvest", config.raw)
        _add("queries", [_query_row(query) for query in queries], store)
        _add("models", [_model_row(*pair) for pair in models], store)
        _add("price_cards", cards, store)
    return run_id


def _add(table: str, rows: list[dict[str, Any]], store: ResponseStore) -> None:
    if not rows:
        return
    frame = pl.DataFrame(rows, infer_schema_length=None)
    if table == "price_cards":
        frame = frame.with_columns(pl.col(PRICES).cast(pl.Float64))
    keys, facts = KEYS[table], FACTS[table]
    stored = store.frame(f"SELECT {', '.join(keys + facts)} FROM {table}")
    both = frame.join(stored, on=keys, suffix="_stored")
    for fact in facts:
        changed = both.filter(pl.col(fact).ne_missing(pl.col(f"{fact}_stored")))
        if not changed.is_empty():
            first = " of ".join(str(changed[key][0]) for key in reversed(keys))
            raise LabError(
                f"{store.path}: {first} is there already with another {fact}, so this config is of another world "
                "(seed, model or price changed?): harvest into another --db, or give a new price a later valid_from"
            )
    store.append(table, store.new_only(table, frame))


def _query_row(query: Query) -> dict[str, Any]:
    return {
        "query_id": query.query_id,
        "dataset": query.dataset,
        "split": query.split,
        "domain": query.domain,
        "messages": json.dumps(query.messages, ensure_ascii=False),
        "question": query.question,
        "reference": query.reference,
        "grader": query.grader,
        "metadata": json.dumps(query.metadata, sort_keys=True, ensure_ascii=False),
    }


def _model_row(provider: Provider, model: Model) -> dict[str, Any]:
    metadata = {"name": model.name, "provenance": provider.provenance} | model.metadata
    return {"model_id": model.model_id, "provider": provider.name, "metadata": json.dumps(metadata, sort_keys=True)}


def _price_row(model: Model, price: Price) -> dict[str, Any]:
    return {"model_id": model.model_id, **vars(price)}
