"""What a harvest would ask and what it would cost, model by model, before a cent is spent. Nothing is written."""

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from responses_db.admission import most_usd
from responses_db.cache import ResponseCache, cache_key
from responses_db.cells import Cell, CellKey, all_cells
from responses_db.completion import estimate
from responses_db.harvest_config import HarvestConfig
from responses_db.providers.client import MissingKeyError
from responses_db.store import ResponseStore

Lengths = Mapping[tuple[str, str], float]
"""Mean output tokens by (model, prompt style)."""


@dataclass
class ModelPlan:
    """One model's share. Tokens and USD are of the cells in `to_ask`.

    `input_tokens` are estimated at four characters a token. `likely_usd` takes for each answer the mean length of those
    that the store has of this model and prompt style: None where it has none, or where there is no price. `at_most_usd`
    is what a budget would reserve for all of them: a token a byte, and `max_tokens` for each answer.
    """

    model_id: str
    provider: str
    provenance: str
    cells: int = 0
    stored: int = 0
    cached: int = 0
    to_ask: int = 0
    input_tokens: int = 0
    likely_output_tokens: float | None = 0.0
    likely_usd: float | None = 0.0
    at_most_usd: float | None = 0.0

    def ask(self, cell: Cell, lengths: Lengths) -> None:
        """Count a cell that must be asked for."""
        price, body = cell.model.price, cell.request()
        tokens, length = estimate(cell.prompt_characters), lengths.get((self.model_id, cell.style))
        self.to_ask += 1
        self.input_tokens += tokens
        self.likely_output_tokens = _plus(self.likely_output_tokens, length)
        likely = price.cost(tokens, round(length), None) if price and length is not None else None
        self.likely_usd = _plus(self.likely_usd, likely)
        priced = price is not None and price.most(1, 1) is not None
        self.at_most_usd = _plus(self.at_most_usd, most_usd(cell, body) if priced else None)


def plan(config: HarvestConfig, db: Path, cache: Path, limit: int | None) -> list[ModelPlan]:
    """What `harvest` would do now, by model in the config's order. LabError when store or cache cannot be read."""
    answered, lengths = _stored(db) if db.exists() else (set[CellKey](), {})
    plans = {
        model.model_id: ModelPlan(model.model_id, provider.name, provider.provenance)
        for provider in config.providers
        for model in provider.models
    }
    missing = list[Cell]()
    for cell in all_cells(config, limit):
        own = plans[cell.model.model_id]
        own.cells += 1
        if cell.key in answered:
            own.stored += 1
        else:
            missing.append(cell)
    cached = _cached(config, missing, cache)
    for cell in missing:
        if cell.key in cached:
            plans[cell.model.model_id].cached += 1
        else:
            plans[cell.model.model_id].ask(cell, lengths)
    return list(plans.values())


def _stored(db: Path) -> tuple[set[CellKey], Lengths]:
    """The cells that the store has answers for, and how long those are."""
    cells = "SELECT query_id, model_id, prompt_style, sample_index FROM responses WHERE status <> 'failed'"
    means = """SELECT model_id, prompt_style, avg(output_tokens) FROM responses
        WHERE output_tokens IS NOT NULL GROUP BY ALL"""
    with ResponseStore(db) as store:
        lengths = {(model, style): mean for model, style, mean in store.frame(means).iter_rows()}
        return set(store.frame(cells).iter_rows()), lengths


def _cached(config: HarvestConfig, cells: Sequence[Cell], folder: Path) -> set[CellKey]:
    """The cells whose answers the cache has; a folder without a cache stays as it is."""
    if not cells or not (folder / "cache.db").exists():
        return set()
    queries = list({cell.query.query_id: cell.query for cell in cells}.values())
    for provider in config.providers:
        with suppress(MissingKeyError):  # needed to ask, not to plan
            provider.prepare(queries)
    with closing(ResponseCache(folder)) as cache:
        return {c.key for c in cells if cache.get(cache_key(c.provider.identity(c.query), c.request(), c.sample))}


def _plus(total: float | None, more: float | None) -> float | None:
    """A sum that is unknown as soon as one part is."""
    return None if total is None or more is None else total + more
