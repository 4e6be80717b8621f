"""Any OpenAI-compatible endpoint from a config table: base URL, key by the name of its environment variable, models.

experiments/harvest/live.example.toml shows a table for each of the common ones.
"""

import json
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from yarl import URL

from responses_db.providers.base import Endpoint, Model, Provenance
from responses_db.providers.client import read_key
from responses_db.providers.price import read_price
from responses_db.query import Query
from responses_db.toml_table import Table

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")

NAME_OF_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
SECRET = re.compile(r"(?i)authorization|cookie|secret|token|passw|(^|[-_.])key\b|api-?key")

OWN_PARAMETERS = {
    "model": "its place is [[providers.models]]",
    "messages": "they are the queries and prompt styles",
    "max_tokens": "it is a key of its own, at the top of the file or of a model",
    "max_completion_tokens": "write max_tokens as a key of its own, and max_tokens_field = 'max_completion_tokens'",
    "seed": "it is a key of its own, of the provider: every sample gets a seed derived from it",
    "n": "`samples` asks for several answers, one call each",
    "stream": "answers are taken whole",
}
"""Request fields that are not set in `parameters`, with where they are."""

MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")


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
        """The base URL, with what is sent beside the body and may alter an answer: query and headers, but no key."""
        beside = [dict(sorted(part.items())) for part in (self._endpoint.query, self._endpoint.headers)]
        return self._endpoint.base_url + (json.dumps(beside) if any(beside) else "")

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        yield self._endpoint


def read(table: Table, seed: int) -> OpenAIProvider:
    """A [[providers]] table of kind `openai`. LabError for a key in the config, a bad URL, a missing price field."""
    _refuse_keys(table)
    name = table.text("name")
    endpoint = _endpoint(table)
    parameters = _parameters(table)
    common = {
        "max_tokens_field": table.text("max_tokens_field", "max_tokens", among=MAX_TOKENS_FIELDS),
        "seed": table.integer("seed", None),
    }
    concurrency = table.integer("concurrency", 8, least=1)
    models = [_model(row, common) for row in table.tables("models")]
    table.finish()
    return OpenAIProvider(name, endpoint, models, parameters, concurrency)


def _endpoint(table: Table) -> Endpoint:
    return Endpoint(
        base_url=_base_url(table),
        api_key_env=_name_of_key(table),
        timeout_s=float(table.number("timeout_s", 120.0, least=0.001)),
        retries=table.integer("retries", 5),
        connect_timeout_s=float(table.number("connect_timeout_s", 15.0, least=0.001)),
        key_header=table.text("key_header", "Authorization"),
        query=_texts(table, "query"),
        headers=_texts(table, "headers"),
        requests_per_minute=table.integer("requests_per_minute", None, least=1),
        tokens_per_minute=table.integer("tokens_per_minute", None, least=1),
        give_up_after=table.integer("give_up_after", 20, least=1),
    )


def _base_url(table: Table) -> str:
    url = table.text("base_url").rstrip("/")
    try:
        parts, _ = urlsplit(url), URL(url).port
    except ValueError as error:
        raise table.fail(f"base_url is no URL ({error}): write one like https://host/v1") from None
    if parts.username or parts.password or parts.query:
        raise table.fail("base_url must hold no user, password or query: the key goes by `api_key_env`")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise table.fail(f"base_url {url!r} is no URL: write one like https://host/v1")
    return str(url)


def _refuse_keys(table: Table) -> None:
    """No message here shows what stands in the config: it may be a key."""
    cure = "no keys in configs: put it in an environment variable, and that variable's name in `api_key_env`"
    if any(key in table.values for key in ("api_key", "key", "token")):
        raise table.fail(cure)
    for part in ("headers", "query"):
        names = table.values.get(part)
        for name in names if isinstance(names, dict) else ():
            if SECRET.search(name):
                raise table.fail(f"`{part}` holds {name!r}: {cure} (and `key_header`, where it is not Authorization)")
    variable = table.values.get("api_key_env")
    key = os.environ.get(variable, "").strip() if isinstance(variable, str) else ""
    if len(key) >= 8 and key in json.dumps(table.values, default=str):
        raise table.fail(f"the key of the environment variable {variable} stands in this table: take it out")


def _name_of_key(table: Table) -> str | None:
    value = table.values.get("api_key_env")
    if value is not None and not (isinstance(value, str) and NAME_OF_VARIABLE.fullmatch(value)):
        raise table.fail("`api_key_env` must be the name of an environment variable, such as OPENAI_API_KEY, not a key")
    name: str | None = table.text("api_key_env", None)
    return name


def _texts(table: Table, key: str) -> dict[str, str]:
    values: dict[str, Any] = table.mapping(key, {})
    for name, value in values.items():
        if not isinstance(value, str) or not (name + value).isprintable():
            raise table.fail(f"`{key}`: {name!r} must be a text in quotes, on one line")
    return values


def _parameters(table: Table) -> dict[str, Any]:
    parameters: dict[str, Any] = table.mapping("parameters", {})
    for name, place in OWN_PARAMETERS.items():
        if name in parameters:
            raise table.fail(f"`parameters` must not hold {name}: {place}")
    return parameters


def _model(table: Table, common: Mapping[str, Any]) -> Model:
    name = table.text("name")
    model = Model(
        model_id=table.text("id", name),
        name=name,
        price=read_price(table.table("price")) if "price" in table.values else None,
        parameters=_parameters(table),
        max_tokens=table.integer("max_tokens", None, least=1, most=2**31 - 1),
        **common,
    )
    table.mapping("price", None)
    table.finish()
    return model
