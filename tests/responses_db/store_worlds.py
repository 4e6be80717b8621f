"""Small stores for the tests of invariants: rows by hand, and hypothesis strategies that draw them."""

import tempfile
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import strategies as st

from responses_db import ResponseStore

QUERIES = tuple(f"d/{i}" for i in range(4))
MODELS = ("a", "b")

Rows = dict[str, list[dict[str, Any]]]


def query(query_id: str, **more: Any) -> dict[str, Any]:
    facts = {"dataset": "d", "split": "train", "domain": "x", "messages": "[]", "question": query_id, "grader": "exact"}
    return {"query_id": query_id} | facts | more


def model(model_id: str) -> dict[str, Any]:
    return {"model_id": model_id, "provider": "p"}


def response(query_id: str, model_id: str, sample: int = 0, **more: Any) -> dict[str, Any]:
    cell = {"query_id": query_id, "model_id": model_id, "prompt_style": "plain", "sample_index": sample}
    rest = {"run_id": "r", "text": f"{query_id} {model_id} {sample}", "provenance": "imported", "status": "ok"}
    return cell | rest | more


def score(given: dict[str, Any], value: float = 1.0, version: int = 1, **more: Any) -> dict[str, Any]:
    """A grade of a response, which it names by its cell."""
    cell = {name: given[name] for name in ("query_id", "model_id", "prompt_style", "sample_index")}
    return cell | {"grader": "exact", "grader_version": version, "score": value, "answer": None} | more


def card(model_id: str, price: float | None = 1.0) -> dict[str, Any]:
    prices = {"input_usd_per_mtok": price, "output_usd_per_mtok": price}
    return {"model_id": model_id, "valid_from": date(2020, 1, 1), **prices, "source": "test"}


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, infer_schema_length=None)


def fill(path: Path, rows: Rows) -> Path:
    """A store with one finished run `r` and these rows, each table in the order given."""
    path.write_bytes(empty_store())
    with ResponseStore(path, write=True) as store:
        day = "'2026-01-01 00:00:00+00'"
        store.con.execute(f"INSERT INTO runs VALUES ('r', 'import', '{{}}', '{{}}', '{{}}', {day}, {day})")
        for table, content in rows.items():
            store.append(table, frame(content))
    return path


@cache
def empty_store() -> bytes:
    """A store's file, made once: copies of it save a property test most of its time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "empty.duckdb")
        ResponseStore(path, write=True).close()
        return path.read_bytes()


def content_hash(path: Path) -> str:
    with ResponseStore(path) as store:
        return store.compute_hash()


CELLS = [(query_id, model_id, sample) for query_id in QUERIES for model_id in MODELS for sample in range(2)]

cells = st.lists(st.sampled_from(CELLS), unique=True, max_size=len(CELLS))
"""Some cells of a world in which every cell has one true answer."""


def world(chosen: list[tuple[str, str, int]]) -> Rows:
    """The rows of these cells: their queries, models, answers, and a grade of those with an even sample index."""
    answers = [response(*cell) for cell in chosen]
    return {
        "queries": [query(name) for name in dict.fromkeys(cell[0] for cell in chosen)],
        "models": [model(name) for name in dict.fromkeys(cell[1] for cell in chosen)],
        "responses": answers,
        "scores": [score(answer) for answer in answers if answer["sample_index"] == 0],
    }
