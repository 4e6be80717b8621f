"""Any OpenAI-compatible endpoint from a config table: base URL, key by the name of its environment variable, models."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from responses_db.providers.base import Endpoint, Model, Price, Provenance
from responses_db.providers.client import read_key
from responses_db.query import Query
from responses_db.toml_table import Table

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class OpenAIProvider:
    """A live endpoint (or a local one: provenance `local` when it is on this machine)."""

    def __init__(
        self, name: str, endpoint: Endpoint, models: Sequence[Model], parameters: dict[str, Any], concurrency: int
    ) -> None:
        self.name, self.models, self.parameters, self.concurrency = name, models, parameters, concurrency
        self._endpoint = endpoint
        self.provenance: Provenance = "local" if urlsplit(endpoint.base_url).hostname in LOCAL_HOSTS else "live"

    def prepare(self, queries: Sequence[Query]) -> None:
        """Check that the key is there."""
        read_key(self._endpoint)

    def identity(self, query: Query) -> str:
        return self._endpoint.base_url

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        yield self._endpoint


def read(table: Table, seed: int) -> OpenAIProvider:
    """A [[providers]] table of kind `openai`. LabError for a key in the config, a bad URL, a missing price field."""
    if "api_key" in table.values:
        raise table.fail(
            "no keys in configs: put it in an environment variable, and that variable's name in `api_key_env`"
        )
    name = table.text("name")
    endpoint = Endpoint(
        base_url=_base_url(table),
        api_key_env=table.text("api_key_env", None),
        timeout_s=float(table.number("timeout_s", 120.0, least=0.001)),
        retries=table.integer("retries", 5),
    )
    parameters = table.mapping("parameters", {})
    concurrency = table.integer("concurrency", 8, least=1)
    models = [_model(row) for row in table.tables("models")]
    table.finish()
    return OpenAIProvider(name, endpoint, models, parameters, concurrency)


def _base_url(table: Table) -> str:
    url = table.text("base_url").rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise table.fail(f"base_url {url!r} is no URL: write one like https://host/v1")
    if parts.username or parts.password or parts.query:
        raise table.fail("base_url must hold no user, password or query: the key goes by `api_key_env`")
    return str(url)


def _model(table: Table) -> Model:
    name = table.text("name")
    model = Model(table.text("id", name), name, _price(table) if "price" in table.values else None)
    table.mapping("price", None)
    table.finish()
    return model


def _price(table: Table) -> Price:
    """USD per million tokens, with where the figures are from."""
    row = table.table("price")
    price = Price(
        input_usd_per_mtok=float(row.number("input")),
        output_usd_per_mtok=float(row.number("output")),
        cached_input_usd_per_mtok=row.number("cached_input", None),
        valid_from=row.day("valid_from"),
        source=row.text("source"),
    )
    row.finish()
    return price
