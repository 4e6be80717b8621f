"""What an endpoint is sent, from which lines of the config, and which of them make another cache key."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from responses_db import LabError
from responses_db.cache import cache_key
from responses_db.cells import Cell, all_cells, sample_seed
from responses_db.harvest_config import HarvestConfig, read_config
from responses_db.providers import Endpoint, Model
from responses_db.providers.openai import OpenAIProvider
from responses_db.query import Query
from tests.responses_db.worlds import KEY, PRICE, FlakyEndpoint, endpoint_config, fill

EXAMPLE = Path(__file__).resolve().parents[2] / "experiments" / "harvest" / "live.example.toml"


def test_the_example_has_a_table_for_each_common_endpoint() -> None:
    config = read_config(EXAMPLE)
    names = [provider.name for provider in config.providers]
    assert names == ["openai", "azure", "together", "openrouter", "gemini", "anthropic", "vllm", "ollama", "llama.cpp"]
    assert {provider.provenance for provider in config.providers[:6]} == {"live"}
    assert {provider.provenance for provider in config.providers[6:]} == {"local"}
    assert all(model.price for provider in config.providers for model in provider.models)
    (body,) = {cell.request() for cell in all_cells(config, 1) if cell.key[1:] == ("gpt-5-mini-low", "cot", 1)}
    assert json.loads(body) == {
        "model": "gpt-5-mini",
        "messages": [
            {"role": "system", "content": "Think step by step. End with a line 'Answer: …'."},
            *config.queries[0].messages,
        ],
        "max_completion_tokens": 8192,
        "temperature": 1.0,
        "logprobs": False,
        "reasoning_effort": "low",
        "seed": sample_seed(1, 1),
    }


def test_azure_wants_its_version_in_the_query_and_the_key_in_a_header_of_its_own(
    tmp_path: Path, endpoint: FlakyEndpoint
) -> None:
    lines = 'query = { api-version = "2024-10-21" }\nkey_header = "api-key"\nheaders = { X-Title = "lab" }'
    done, _ = fill(tmp_path, endpoint, "ok", provider=lines)
    assert done.tally.answered == 1
    assert endpoint.queries == [{"api-version": "2024-10-21"}]
    (headers,) = endpoint.headers
    assert (headers["api-key"], headers["X-Title"]) == (KEY, "lab")
    assert "Authorization" not in headers


def test_samples_are_separate_draws_that_stay_apart_in_the_cache(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    done, rows = fill(tmp_path, endpoint, "ok", head="samples = 3")
    assert (done.asked, rows["sample_index"].to_list()) == (3, [0, 1, 2])
    assert [body.get("seed") for body in endpoint.bodies] == [None] * 3
    (tmp_path / "store.duckdb").unlink()
    again, _ = fill(tmp_path, endpoint, "ok", head="samples = 3")
    assert (again.asked, again.cached) == (0, 3)


def test_a_seed_gives_each_sample_its_own(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    fill(tmp_path, endpoint, "ok", head="samples = 2", provider="seed = 5")
    assert sorted(body["seed"] for body in endpoint.bodies) == sorted([sample_seed(5, 0), sample_seed(5, 1)])
    assert sample_seed(5, 1) != sample_seed(6, 0)


# The cache key. Every field is in one of the two lists, and every one is tried.

ALTERS: dict[str, Callable[[Cell], Cell]] = {
    "base URL": lambda cell: with_endpoint(cell, base_url="https://other/v1"),
    "query": lambda cell: with_endpoint(cell, query={"api-version": "2"}),
    "headers": lambda cell: with_endpoint(cell, headers={"X-Beta": "on"}),
    "provider's parameters": lambda cell: replace(cell, provider=provider(parameters={"temperature": 0.5})),
    "model's parameters": lambda cell: with_model(cell, parameters={"reasoning_effort": "low"}),
    "model": lambda cell: with_model(cell, name="other"),
    "seed": lambda cell: with_model(cell, seed=1),
    "spelling of max_tokens": lambda cell: with_model(cell, max_tokens_field="max_completion_tokens"),
    "max_tokens": lambda cell: replace(cell, max_tokens=7),
    "system prompt": lambda cell: replace(cell, system="Be brief."),
    "messages": lambda cell: replace(cell, query=replace(cell.query, messages=[{"role": "user", "content": "two?"}])),
    "sample": lambda cell: replace(cell, sample=1),
}

DOES_NOT: dict[str, Callable[[Cell], Cell]] = {
    "key's variable": lambda cell: with_endpoint(cell, api_key_env="OTHER_KEY"),
    "key's header": lambda cell: with_endpoint(cell, key_header="api-key"),
    "timeout": lambda cell: with_endpoint(cell, timeout_s=1.0),
    "connect timeout": lambda cell: with_endpoint(cell, connect_timeout_s=1.0),
    "retries": lambda cell: with_endpoint(cell, retries=0),
    "requests a minute": lambda cell: with_endpoint(cell, requests_per_minute=1),
    "tokens a minute": lambda cell: with_endpoint(cell, tokens_per_minute=1),
    "patience": lambda cell: with_endpoint(cell, give_up_after=1),
    "provider's name": lambda cell: replace(cell, provider=provider(name="other")),
    "concurrency": lambda cell: replace(cell, provider=provider(concurrency=99)),
    "model's id": lambda cell: with_model(cell, model_id="other"),
    "price": lambda cell: with_model(cell, price=None),
    "metadata": lambda cell: with_model(cell, metadata={"a": 1}),
    "style's name": lambda cell: replace(cell, style="other"),
    "reference": lambda cell: replace(cell, query=replace(cell.query, reference="2", grader="choice", domain="x")),
}


def provider(
    name: str = "p", parameters: dict[str, Any] | None = None, concurrency: int = 1, endpoint: Endpoint | None = None
) -> OpenAIProvider:
    return OpenAIProvider(name, endpoint or Endpoint("https://host/v1"), [], parameters or {}, concurrency)


def with_endpoint(cell: Cell, **changes: Any) -> Cell:
    return replace(cell, provider=provider(endpoint=replace(Endpoint("https://host/v1"), **changes)))


def with_model(cell: Cell, **changes: Any) -> Cell:
    return replace(cell, model=replace(cell.model, **changes))


def key(cell: Cell) -> str:
    return cache_key(cell.provider.identity(cell.query), cell.request(), cell.sample)


CELL = Cell(
    query=Query("q", "d", "sums", [{"role": "user", "content": "one?"}], "one?", "1", "exact", "train"),
    provider=provider(),
    model=Model("id", "name", None),
    style="plain",
    system="",
    sample=0,
    max_tokens=100,
)


@pytest.mark.parametrize("change", ALTERS.values(), ids=ALTERS)
def test_what_alters_an_answer_alters_the_key(change: Callable[[Cell], Cell]) -> None:
    assert key(change(CELL)) != key(CELL)


@pytest.mark.parametrize("change", DOES_NOT.values(), ids=DOES_NOT)
def test_what_alters_no_answer_leaves_the_key(change: Callable[[Cell], Cell]) -> None:
    assert key(change(CELL)) == key(CELL)


def test_no_field_of_an_endpoint_or_a_model_is_in_neither_list() -> None:
    """A new field fails here until somebody has decided. (A model's own max_tokens becomes the cell's.)"""
    changed = [change(CELL) for change in (*ALTERS.values(), *DOES_NOT.values())]
    endpoints = [cell.provider._endpoint for cell in changed if isinstance(cell.provider, OpenAIProvider)]
    tried = {f.name for e in endpoints for f in fields(e) if getattr(e, f.name) != getattr(DEFAULT, f.name)}
    assert tried == {f.name for f in fields(Endpoint)}
    models = [cell.model for cell in changed]
    tried = {f.name for m in models for f in fields(m) if getattr(m, f.name) != getattr(CELL.model, f.name)}
    assert tried | {"price", "max_tokens"} == {f.name for f in fields(Model)}


DEFAULT = Endpoint("https://host/v1")


def test_a_new_schema_version_finds_nothing_of_the_old(monkeypatch: pytest.MonkeyPatch) -> None:
    old = key(CELL)
    monkeypatch.setattr("responses_db.cache.SCHEMA_VERSION", 99)
    assert key(CELL) != old


# Keys of the other kind: secrets.


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('api_key = "sk-hidden-0123456789"', "no keys in configs"),
        ('headers = { Authorization = "Bearer sk-hidden-0123456789" }', "`headers` holds 'Authorization': no keys in"),
        ('headers = { x-api-key = "sk-hidden-0123456789" }', "no keys in configs"),
        ('query = { key = "sk-hidden-0123456789" }', "no keys in configs"),
        (
            'key_header = "sk-very-secret-0123456789"',
            "the key of the environment variable FLAKY_API_KEY stands in",
        ),
    ],
)
def test_a_key_in_a_config_is_refused_and_not_shown(
    tmp_path: Path, endpoint: FlakyEndpoint, line: str, message: str
) -> None:
    path = endpoint_config(tmp_path, endpoint.url, ["ok"], provider=line)
    with pytest.raises(LabError, match=message) as refused:
        read_config(path)
    assert "0123456789" not in str(refused.value)


def test_a_key_where_its_variables_name_belongs_is_not_shown(tmp_path: Path) -> None:
    path = endpoint_config(tmp_path, "https://host/v1", ["ok"])
    path.write_text(path.read_text().replace("FLAKY_API_KEY", "sk-hidden-0123456789"))
    with pytest.raises(LabError, match="must be the name of an environment variable") as refused:
        read_config(path)
    assert "hidden" not in str(refused.value)


def test_a_key_with_a_line_break_is_no_key(
    tmp_path: Path, endpoint: FlakyEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAKY_API_KEY", "sk-hidden\nsk-other")
    with pytest.raises(LabError, match="FLAKY_API_KEY holds no key") as refused:
        fill(tmp_path, endpoint, "ok")
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("name", ["model", "messages", "max_tokens", "seed", "n", "stream"])
def test_what_has_its_own_place_is_no_parameter(tmp_path: Path, name: str) -> None:
    for lines in ({"provider": f"parameters = {{ {name} = 1 }}"}, {"model": f"{PRICE}\nparameters = {{ {name} = 1 }}"}):
        path = endpoint_config(tmp_path, "https://host/v1", ["ok"], **lines)
        with pytest.raises(LabError, match=f"`parameters` must not hold {name}: "):
            read_config(path)


def test_a_model_may_have_a_limit_of_its_own(tmp_path: Path) -> None:
    config: HarvestConfig = read_config(
        endpoint_config(tmp_path, "https://host/v1", ["ok"], model=f"{PRICE}\nmax_tokens = 9", head="max_tokens = 50")
    )
    assert [cell.max_tokens for cell in all_cells(config, None)] == [9]
