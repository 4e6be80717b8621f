"""From checked tidy rows into the store: one transaction, nothing twice, nothing overwritten."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from responses_db.errors import LabError
from responses_db.importers.answers import with_answers
from responses_db.importers.sources import named, shown
from responses_db.store import ResponseStore

GRADER, GRADER_VERSION = "imported", 1
KEY = ["query_id", "model_id", "prompt_style", "sample_index"]
COMPARED = ["text", "input_tokens", "output_tokens", "reported_cost_usd", "provenance", "status", "score"]
"""What must be equal for a row to be the one that the store has already."""

FURTHER = ["model_answered", "finish_reason", "error", "reasoning_tokens", "latency_s", "mean_logprob"]
"""Columns that the tidy form and the store call by the same name."""


@dataclass(frozen=True)
class Landed:
    """What an import added, and what it came with (in rows). `run_id` is null when nothing was new."""

    run_id: str | None
    new_queries: int
    new_models: int
    new_responses: int
    queries: int
    models: int
    responses: int
    costs_known: int


def land(rows: pl.DataFrame, store: ResponseStore, config: Mapping[str, Any]) -> Landed:
    """Write tidy rows that passed `check`. Rows that the store has already are skipped.

    Raises LabError when a row differs from the stored one under the same key; nothing is written then.
    """
    cells = with_answers(rows).select(
        pl.format("{}/{}", "dataset", "query_id").alias("query_id"),
        pl.col("model").alias("model_id"),
        "prompt_style",
        pl.col("sample_index").cast(pl.Int32),
        pl.col("response").alias("text"),
        pl.col("prompt_tokens").alias("input_tokens"),
        pl.col("completion_tokens").alias("output_tokens"),
        pl.col("cost_usd").alias("reported_cost_usd"),
        pl.col("cached_prompt_tokens").alias("cached_input_tokens"),
        pl.col("max_tokens").cast(pl.Int32),
        "provenance",
        "status",
        "score",
        "answer",
        *FURTHER,
    )
    queries = _queries(rows)
    models = cells.select("model_id", provider=pl.lit("imported")).unique(maintain_order=True)
    new_queries, new_cells = _new_queries(queries, store), _new_cells(cells, store)
    new_models = store.new_only("models", models)
    run_id = None
    if not (new_queries.is_empty() and new_cells.is_empty()):
        counts = {"queries": new_queries.height, "models": new_models.height, "responses": new_cells.height}
        with store.transaction():
            run_id = store.begin_run("import", config)
            store.append("queries", new_queries)
            store.append("models", new_models)
            _append_cells(new_cells, run_id, store)
            store.end_run(run_id, counts)
    return Landed(
        run_id=run_id,
        new_queries=new_queries.height,
        new_models=new_models.height,
        new_responses=new_cells.height,
        queries=queries.height,
        models=models.height,
        responses=cells.height,
        costs_known=cells["reported_cost_usd"].count(),
    )


def _queries(rows: pl.DataFrame) -> pl.DataFrame:
    message = pl.struct(role=pl.lit("user"), content="query").struct.json_encode()
    return rows.unique(["dataset", "query_id"], keep="first", maintain_order=True).select(
        pl.format("{}/{}", "dataset", "query_id").alias("query_id"),
        "dataset",
        "split",
        "domain",
        pl.format("[{}]", message).alias("messages"),
        "question",
        "reference",
        pl.lit(GRADER).alias("grader"),
    )


def _new_queries(queries: pl.DataFrame, store: ResponseStore) -> pl.DataFrame:
    facts = [name for name in queries.columns if name != "query_id"]
    stored = _stored(queries, ["query_id"], f"SELECT query_id, {', '.join(facts)} FROM queries", store)
    _refuse_conflicts(queries, stored, ["query_id"], facts, store)
    return queries.join(stored, on="query_id", how="anti", maintain_order="left")


def _new_cells(cells: pl.DataFrame, store: ResponseStore) -> pl.DataFrame:
    graded = (
        f"SELECT {', '.join(KEY + COMPARED)} FROM responses LEFT JOIN scores s ON "
        f"s.response_id = responses.response_id AND s.grader = '{GRADER}' AND s.grader_version = {GRADER_VERSION}"
    )
    stored = _stored(cells, KEY, graded, store)
    _refuse_conflicts(cells, stored, KEY, COMPARED, store)
    return cells.join(stored, on=KEY, how="anti", maintain_order="left")


def _stored(new: pl.DataFrame, key: list[str], select: str, store: ResponseStore) -> pl.DataFrame:
    """The stored rows under the keys of the new ones: a large store is not read for a small import."""
    store.con.register("new_keys", new.select(key).to_arrow())
    try:
        return store.frame(f"SELECT * FROM ({select}) SEMI JOIN new_keys USING ({', '.join(key)})")
    finally:
        store.con.unregister("new_keys")


def _refuse_conflicts(
    new: pl.DataFrame, stored: pl.DataFrame, key: list[str], facts: list[str], store: ResponseStore
) -> None:
    both = new.join(stored, on=key, suffix="_stored")
    for fact in facts:
        changed = both.filter(pl.col(fact).ne_missing(pl.col(f"{fact}_stored")))
        if changed.is_empty():
            continue
        first = changed.row(0, named=True)
        name = " × ".join(named(first[part]) for part in key)
        raise LabError(
            f"{store.path}: nothing was imported: {changed.height} rows are there already with another {fact}, "
            f"first {name}: {shown(first[fact + '_stored'])} stored, {shown(first[fact])} new; "
            "import into another --db"
        )


def _append_cells(cells: pl.DataFrame, run_id: str, store: ResponseStore) -> None:
    known = pl.col("input_tokens").is_not_null() | pl.col("output_tokens").is_not_null()
    responses = cells.drop("score", "answer").with_columns(
        run_id=pl.lit(run_id), tokens_from=pl.when(known).then(pl.lit("source"))
    )
    store.append("responses", responses)
    ids = store.frame("SELECT response_id, " + ", ".join(KEY) + " FROM responses WHERE run_id = ?", [run_id])
    scores = (
        cells.filter(pl.col("score").is_not_null())
        .join(ids, on=KEY)
        .select(
            "response_id",
            "score",
            "answer",
            grader=pl.lit(GRADER),
            grader_version=pl.lit(GRADER_VERSION),
        )
    )
    store.append("scores", scores)
