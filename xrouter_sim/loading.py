"""Reads a store into dense arrays over queries × arms × samples: the loading half of `replay`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from responses_db import LabError, ResponseStore

Ints = npt.NDArray[np.int64]

STATUSES = ("ok", "truncated", "refused", "failed")
EVIDENCE = ("log_length", "mean_logprob", "hedges", "has_answer")
"""What a response shows without its grade, 0 where the store has nothing: the last axis of `Replay.evidence`."""

HEDGES = r"(?i)\b(maybe|perhaps|probably|possibly|not (entirely )?(sure|certain)|i think|i guess|might be|roughly)\b"

CELLS_SQL = f"""
SELECT query_id, model_id, prompt_style, sample_index, coalesce(score, 0) AS score, score IS NULL AS ungraded,
    answer, cost_usd, coalesce(input_tokens + output_tokens, -1) AS tokens, latency_s, status, mean_logprob,
    ln(1 + length(coalesce(text, ''))) AS log_length,
    len(regexp_extract_all(coalesce(text, ''), '{HEDGES}')) AS hedges
FROM graded ORDER BY query_id, model_id, prompt_style, sample_index
"""


def load_arrays(path: str | Path) -> dict[str, Any]:
    """The fields of a `Replay`, by name. Queries that lack an answer of some arm are left out and counted.

    Raises LabError when nothing is left, a response has no grade, or a price is unknown.
    """
    with ResponseStore(path) as store:
        cells = store.frame(CELLS_SQL)
        queries = store.frame("SELECT query_id, question, domain, split FROM queries ORDER BY query_id")
        provenance = store.frame("SELECT provenance, count(*) AS n FROM responses GROUP BY 1 ORDER BY 1")
        providers = dict(store.frame("SELECT model_id, provider FROM models ORDER BY 1").rows())
        facts = {"path": str(path), "content_hash": store.content_hash(), "provenance": dict(provenance.rows())}
        facts["providers"] = providers
    _check_cells(cells, path)
    complete, left_out = _complete_queries(cells, queries)
    if complete.is_empty():
        raise LabError(f"{path}: no query has an answer of every model and prompt style; see `xrouter-sim store info`")
    cells = cells.join(complete.select("query_id"), on="query_id")
    return _dense(cells, complete) | {"store": facts | {"left_out": left_out}}


def _check_cells(cells: pl.DataFrame, path: str | Path) -> None:
    if cells.is_empty():
        raise LabError(f"{path} holds no responses: fill it with `xrouter-sim harvest` or `xrouter-sim import`")
    ungraded = cells.filter(pl.col("ungraded") & (pl.col("status") != "failed"))
    if not ungraded.is_empty():
        raise LabError(
            f"{path}: {ungraded.height} responses have no grade, first {ungraded['query_id'][0]}: grade them"
        )
    unpriced = cells.filter(pl.col("cost_usd").is_null() & (pl.col("status") != "failed"))
    if not unpriced.is_empty():
        models = unpriced["model_id"].unique().sort()
        cure = f"add price cards with `xrouter-sim import prices FILE.toml --db {path}`"
        if (unpriced["tokens"] < 0).any():
            cure = "their tokens are unknown too, so import them again with a cost_usd or with token counts"
        raise LabError(
            f"{path}: cost unknown for {', '.join(models.head(4))}{' …' if len(models) > 4 else ''} "
            f"({unpriced.height} responses): {cure}"
        )


def _complete_queries(cells: pl.DataFrame, queries: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    arms = cells["model_id"].n_unique() * cells["prompt_style"].n_unique()
    counts = cells.group_by("query_id").agg(pl.struct("model_id", "prompt_style").n_unique().alias("n"))
    complete = queries.join(counts.filter(pl.col("n") == arms).select("query_id"), on="query_id").sort("query_id")
    return complete, queries.height - complete.height


def _codes(values: pl.Series, order: Sequence[str]) -> Ints:
    return values.cast(pl.Enum(order)).to_physical().cast(pl.Int64).to_numpy()


def _dense(cells: pl.DataFrame, queries: pl.DataFrame) -> dict[str, Any]:
    models = cells["model_id"].unique().sort().to_list()
    styles = cells["prompt_style"].unique().sort().to_list()
    query = _codes(cells["query_id"], queries["query_id"].to_list())
    arm = _codes(cells["model_id"], models) * len(styles) + _codes(cells["prompt_style"], styles)
    sample = cells.select(pl.int_range(pl.len()).over("query_id", "model_id", "prompt_style")).to_series().to_numpy()
    cells = cells.with_columns(answer_code=pl.col("answer").rank("dense").over("query_id").cast(pl.Int64) - 1)
    shape = (queries.height, len(models) * len(styles), int(sample.max()) + 1)

    def scatter(values: pl.Series, empty: float, dtype: type = np.float64) -> npt.NDArray[Any]:
        dense: npt.NDArray[Any] = np.full(shape, empty, dtype)
        dense[query, arm, sample] = values.to_numpy()
        return dense

    samples = np.zeros(shape[:2], np.int64)
    np.add.at(samples, (query, arm), 1)
    evidence = [
        cells["log_length"],
        cells["mean_logprob"].fill_null(0.0),
        cells["hedges"].cast(pl.Float64),
        cells["answer"].is_not_null().cast(pl.Float64),
    ]
    return {
        "query_ids": queries["query_id"].to_list(),
        "questions": queries["question"].to_list(),
        "domains": queries["domain"].to_numpy().astype(np.str_),
        "splits": queries["split"].to_numpy().astype(np.str_),
        "model_ids": models,
        "prompt_styles": styles,
        "samples": samples,
        "score": scatter(cells["score"], 0.0),
        "cost_usd": scatter(cells["cost_usd"].fill_null(0.0), 0.0),
        "tokens": scatter(cells["tokens"], -1, np.int64),
        "latency_s": scatter(cells["latency_s"].fill_null(np.nan), np.nan),
        "answer": scatter(cells["answer_code"].fill_null(-1), -1, np.int64),
        "status": scatter(pl.Series(_codes(cells["status"], STATUSES)), 0, np.int64),
        "evidence": np.stack([scatter(values, 0.0) for values in evidence], axis=-1),
    }
