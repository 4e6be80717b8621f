"""A model on this machine: a GGUF file, served by llama.cpp while it is asked.

One file makes a small pool: each model of the table is the same weights with parameters, examples or a vote of its own.
A model with `votes` asks for so many samples, takes the commonest final answer, and is billed for all of them.
A local model has no price. What the config gives is a notional one, and its card says so.

Seeds go with every request, but equal requests need not get equal answers: between two fresh harvests about a fifth of
the texts differed (measured; other calls in the same batch are the likely cause). The cache keeps what was answered.
Latencies are wall clock with `concurrency` calls at a time on whatever else the machine was doing.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from responses_db.errors import LabError
from responses_db.providers.base import Endpoint, Model, Price, Provenance
from responses_db.providers.child import child_server
from responses_db.providers.local.gguf import describe
from responses_db.providers.price import read_price
from responses_db.query import Query
from responses_db.toml_table import Table

SERVER = "responses_db.providers.local.server"
SECONDS_TO_START = 120.0
SECONDS_A_CALL = 600.0
"""A slow machine is no failure."""

LOGPROBS = {"logprobs": True, "top_logprobs": 1}
OWN_KEYS = {"model", "messages", "max_tokens", "seed", "n", "stream", "votes", "examples"}
NOTIONAL = "notional, as a local model has no price: "


@dataclass(frozen=True)
class ModelFile:
    """A GGUF file, what `gguf.describe` says of it, and how it is served: `context` in tokens a call, CPU `threads`."""

    path: Path
    facts: Mapping[str, Any]
    context: int
    threads: int


class LocalProvider:
    """Variants of one model file."""

    provenance: Provenance = "local"

    def __init__(self, name: str, file: ModelFile, models: Sequence[Model], concurrency: int) -> None:
        self.name, self.models, self.concurrency = name, models, concurrency
        self.parameters: dict[str, Any] = dict(LOGPROBS)
        self._file = file

    def prepare(self, queries: Sequence[Query]) -> None:
        """Check that the engine is installed."""
        _engine()

    def identity(self, query: Query) -> str:
        """The weights and the engine, wherever the file lies; examples, votes and seeds are in the request."""
        return f"local://{self._file.facts['sha256']}/{_engine()}/context-{self._file.context}"

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        """A running server. LabError when it does not start."""
        file = self._file
        start = {"path": str(file.path), "threads": file.threads, "context": file.context, "slots": self.concurrency}
        async with child_server(SERVER, start, f"the server of {file.path}", SECONDS_TO_START) as port:
            yield Endpoint(f"http://127.0.0.1:{port}/v1", timeout_s=SECONDS_A_CALL, retries=2)


def read(table: Table, seed: int) -> LocalProvider:
    """A [[providers]] table of kind `local`. LabError for a missing or different file, and for a mistake in a model."""
    name, path = table.text("name"), Path(table.text("path"))
    sha256 = table.text("sha256", None)
    concurrency = table.integer("concurrency", 4, least=1)
    threads, context = table.integer("threads", 1, least=1), table.integer("context", 2048, least=64)
    price = read_price(table.table("price")) if "price" in table.values else None
    table.mapping("price", None)
    common, examples = _parameters(table), _examples(table)
    rows = table.tables("models")
    table.finish()
    variants = [_model(row, common, examples, price, seed) for row in rows]
    facts = describe(path)
    if sha256 is not None and sha256 != facts["sha256"]:
        raise table.fail(f"{path} is another file (sha256 {facts['sha256'][:12]}…): fetch it again, or mend `sha256`")
    models = [replace(model, metadata=model.metadata | facts) for model in variants]
    return LocalProvider(name, ModelFile(path, facts, context, threads), models, concurrency)


def _parameters(table: Table) -> dict[str, Any]:
    """What llama.cpp's server takes beside the messages: temperature, top_p, grammar, …"""
    parameters: dict[str, Any] = table.mapping("parameters", {})
    for key in OWN_KEYS & parameters.keys():
        raise table.fail(f"`parameters` must not hold {key}: it has a place of its own")
    return parameters


def _examples(table: Table) -> dict[str, list[list[str]]]:
    """Lists of [question, answer] by name."""
    named: dict[str, Any] = table.mapping("examples", {})
    for name, pairs in named.items():
        if not isinstance(pairs, list) or not all(_is_pair(pair) for pair in pairs):
            raise table.fail(f"examples {name!r} must be a list of [question, answer], all texts in quotes")
    return named


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)


def _model(
    row: Table,
    common: Mapping[str, Any],
    examples: Mapping[str, list[list[str]]],
    price: Price | None,
    seed: int,
) -> Model:
    model_id = row.text("id")
    parameters = {"temperature": 0.0, **common, **_parameters(row)}
    votes = row.integer("votes", 1, least=1)
    if votes > 1 and not parameters["temperature"]:
        raise row.fail("`votes` at temperature 0 are all alike: give `parameters` a temperature above 0")
    chosen = row.text("examples", None, among=examples) if "examples" in row.values else None
    max_tokens = row.integer("max_tokens", None, least=1)
    row.finish()
    own = {"examples": examples[chosen]} if chosen else {}
    own |= {"votes": votes} if votes > 1 else {}
    return Model(
        model_id=model_id,
        name=model_id,
        price=replace(price, source=NOTIONAL + price.source) if price else None,
        metadata={"parameters": parameters, "examples": chosen, "votes": votes},
        parameters=parameters | own,
        max_tokens=max_tokens,
        seed=seed,
    )


def _engine() -> str:
    """The engine and its version. LabError when it is not installed."""
    try:
        return f"xllamacpp-{metadata.version('xllamacpp')}"
    except metadata.PackageNotFoundError:
        raise LabError("a local model needs the package xllamacpp: pip install 'xrouter-sim[local]'") from None
