"""A cell is what a harvest fills: one (query, model, prompt style, sample index), and the request that fills it."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from responses_db.harvest_config import HarvestConfig
from responses_db.providers import Model, Provider
from responses_db.query import Query
from responses_db.store import ResponseStore

CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))

CellKey = tuple[str, str, str, int]


@dataclass(frozen=True, slots=True)
class Cell:
    """One answer to be had, with all that is needed to ask for it."""

    query: Query
    provider: Provider
    model: Model
    style: str
    system: str
    sample: int
    max_tokens: int

    @property
    def key(self) -> CellKey:
        return self.query.query_id, self.model.model_id, self.style, self.sample

    @property
    def response_id(self) -> str:
        """As the store makes it."""
        return hashlib.md5("\x1f".join(map(str, self.key)).encode()).hexdigest()

    def request(self) -> bytes:
        """The request's canonical JSON. A simulated model is told the sample index as `seed`; others draw anew."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        body = {
            "model": self.model.name,
            "messages": [*system, *self.query.messages],
            "max_tokens": self.max_tokens,
            **self.provider.parameters,
        }
        if self.provider.provenance == "simulated":
            body["seed"] = self.sample
        return CANONICAL.encode(body).encode()


def all_cells(config: HarvestConfig, limit: int | None) -> Iterator[Cell]:
    """Every cell of the first `limit` queries (of all, without), query by query."""
    for query in config.queries[:limit]:
        for provider in config.providers:
            for model in provider.models:
                for style, system in config.prompt_styles.items():
                    for sample in range(config.samples):
                        yield Cell(query, provider, model, style, system, sample, config.max_tokens)


def missing_cells(config: HarvestConfig, limit: int | None, store: ResponseStore) -> list[Cell]:
    """The cells that the store has no answer for: never asked, or failed."""
    sql = "SELECT query_id, model_id, prompt_style, sample_index FROM responses WHERE status <> 'failed'"
    answered = set(store.frame(sql).iter_rows())
    return [cell for cell in all_cells(config, limit) if cell.key not in answered]
