"""A cell is what a harvest fills: one (query, model, prompt style, sample index), and the request that fills it."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from responses_db.harvest_config import HarvestConfig
from responses_db.providers import Model, Provider
from responses_db.query import Query, digest
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

    @property
    def prompt_characters(self) -> int:
        """Characters of the system prompt and of all messages."""
        return len(self.system) + sum(len(str(message.get("content"))) for message in self.query.messages)

    def request(self) -> bytes:
        """The request's canonical JSON. Samples differ by their seeds where there are any; without, each is a draw."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        body: dict[str, Any] = {
            "model": self.model.name,
            "messages": [*system, *self.query.messages],
            self.model.max_tokens_field: self.max_tokens,
            **self.provider.parameters,
            **self.model.parameters,
        }
        if self.provider.provenance == "simulated":
            body["seed"] = self.sample
        elif self.model.seed is not None:
            body["seed"] = sample_seed(self.model.seed, self.sample)
        return CANONICAL.encode(body).encode()


def sample_seed(seed: int, sample: int) -> int:
    """A seed of 31 bits for one sample: hashed, as `seed + sample` would make sample 1 of seed 1 sample 0 of seed 2."""
    return int(digest("sample", seed, sample)[:8], 16) & 0x7FFF_FFFF


def all_cells(config: HarvestConfig, limit: int | None) -> Iterator[Cell]:
    """Every cell of the first `limit` queries (of all, without), query by query."""
    for query in config.queries[:limit]:
        for provider in config.providers:
            for model in provider.models:
                most = model.max_tokens or config.max_tokens
                for style, system in config.prompt_styles.items():
                    for sample in range(config.samples):
                        yield Cell(query, provider, model, style, system, sample, most)


def missing_cells(config: HarvestConfig, limit: int | None, store: ResponseStore) -> list[Cell]:
    """The cells that the store has no answer for: never asked, or failed."""
    sql = "SELECT query_id, model_id, prompt_style, sample_index FROM responses WHERE status <> 'failed'"
    answered = set(store.frame(sql).iter_rows())
    return [cell for cell in all_cells(config, limit) if cell.key not in answered]
