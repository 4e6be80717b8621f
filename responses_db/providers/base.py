"""What a provider is: models with prices, and an OpenAI-compatible endpoint that is there while it is asked."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, Protocol

from responses_db.query import Query

Provenance = Literal["live", "local", "simulated"]


@dataclass(frozen=True)
class Price:
    """USD per million tokens. None is unknown, never free; cached input without a price is billed as input."""

    input_usd_per_mtok: float | None
    output_usd_per_mtok: float | None
    cached_input_usd_per_mtok: float | None
    valid_from: date
    source: str

    def cost(self, input_tokens: int | None, output_tokens: int | None, cached_tokens: int | None) -> float | None:
        """USD for one call, as the store's `graded` view has it; None when a price or a count is unknown."""
        input_price, output_price = self.input_usd_per_mtok, self.output_usd_per_mtok
        if input_price is None or output_price is None or input_tokens is None or output_tokens is None:
            return None
        cached = cached_tokens or 0
        cached_price = input_price if self.cached_input_usd_per_mtok is None else self.cached_input_usd_per_mtok
        return ((input_tokens - cached) * input_price + cached * cached_price + output_tokens * output_price) / 1e6

    def most(self, input_tokens: int, output_tokens: int) -> float | None:
        """USD that a call of at most so many tokens can cost, whatever part of its input was cached."""
        none, all_cached = (self.cost(input_tokens, output_tokens, cached) for cached in (0, input_tokens))
        return None if none is None or all_cached is None else max(none, all_cached)


@dataclass(frozen=True)
class Model:
    """A model on offer: its id in the store, the name that the endpoint knows it by, its price card if there is one.

    `parameters` are sent over the provider's own; `max_tokens` is the model's own limit, where it has one, and
    `max_tokens_field` how its endpoint spells that; `seed` is what samples' seeds are derived from (None: none sent).
    """

    model_id: str
    name: str
    price: Price | None
    metadata: dict[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    max_tokens_field: str = "max_tokens"
    seed: int | None = None


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask. `api_key_env` names an environment variable; the key itself is read when asking.

    Only `base_url`, `query` and `headers` may alter an answer, and are in the cache key.
    """

    base_url: str
    api_key_env: str | None = None
    timeout_s: float = 120.0
    """Seconds for a whole attempt."""
    retries: int = 5
    connect_timeout_s: float = 15.0
    key_header: str = "Authorization"
    """The header that the key goes in: as `Bearer KEY` in Authorization, bare in any other."""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    give_up_after: int = 20
    """Calls in a row that failed, retries and all, after which the endpoint is taken for dead."""


class Provider(Protocol):
    """Models behind one endpoint."""

    name: str
    provenance: Provenance
    models: Sequence[Model]
    parameters: dict[str, Any]  # sent with every request, beside model, messages and max_tokens
    concurrency: int

    def prepare(self, queries: Sequence[Query]) -> None:
        """Get ready to be asked these queries, before anything is written. LabError when it never can be."""
        ...

    def identity(self, query: Query) -> str:
        """Who answers this prepared query, for the cache key: stable from run to run."""
        ...

    def endpoint(self) -> AbstractAsyncContextManager[Endpoint]:
        """Open what is needed to answer the prepared queries; whatever was started stops at the end."""
        ...
