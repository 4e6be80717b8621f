"""The simulated pool as a provider: it starts the server when there is something to ask, and always stops it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, replace
from typing import Any

from responses_db.providers.base import Endpoint, Model, Provenance
from responses_db.providers.child import child_server
from responses_db.providers.simulated.calibration import chosen_models
from responses_db.providers.simulated.items import make_item, message_key
from responses_db.providers.simulated.world import World, facts
from responses_db.query import Query, digest
from responses_db.toml_table import Table

SECONDS_TO_START = 30.0


class SimulatedProvider:
    """Models of the simulated world, asked over HTTP on loopback like any others."""

    name = "simulated"
    provenance: Provenance = "simulated"

    def __init__(self, model_ids: list[str], seed: int, concurrency: int, where: str) -> None:
        self.world = World(seed)
        self.models: Sequence[Model] = [
            replace(model, metadata=model.metadata | facts(self.world)) for model in chosen_models(model_ids, where)
        ]
        self.parameters: dict[str, Any] = {"logprobs": True}
        self.concurrency = concurrency

    def prepare(self, queries: Sequence[Query]) -> None:
        """Make the items: what the server must know. LabError for a query that cannot be simulated."""
        self._items = {query.query_id: make_item(query) for query in queries}
        self._keys = {message_key(query.messages): query.query_id for query in queries}
        self._identities = {
            query_id: f"simulated://{self.world.fingerprint}/{digest(astuple(item))[:16]}"
            for query_id, item in self._items.items()
        }

    def identity(self, query: Query) -> str:
        """The world and the item: another difficulty or wrong answer is another world for this query."""
        return self._identities[query.query_id]

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        """A running server that knows the prepared queries. LabError when it does not start."""
        table = {key: astuple(self._items[query_id]) for key, query_id in self._keys.items()}
        start = {"seed": self.world.seed, "models": [model.name for model in self.models], "items": table}
        module = "responses_db.providers.simulated.server"
        async with child_server(module, start, "the simulated providers' server", SECONDS_TO_START) as port:
            yield Endpoint(f"http://127.0.0.1:{port}/v1", timeout_s=30.0, retries=2)


def read(table: Table, seed: int) -> SimulatedProvider:
    """A [[providers]] table of kind `simulated`."""
    model_ids = table.texts("models")
    provider = SimulatedProvider(model_ids, seed, table.integer("concurrency", 64, least=1), table.where)
    table.finish()
    return provider
