"""What tidy rows must fulfil before any of them is written. Every fault names its rows and its cure."""

import polars as pl

from responses_db.errors import LabError

CELL = ["dataset", "query_id", "model", "prompt_style", "sample_index"]
QUERY_FACTS = ["query", "question", "split", "domain", "reference"]
NEVER_EMPTY = ["dataset", "split", "domain", "query_id", "query", "model"]
SPLITS = ("train", "validation", "test")
PROVENANCES = ("live", "local", "imported", "simulated")


def check(rows: pl.DataFrame, source: str) -> None:
    """Raise LabError for the first fault found in tidy rows that came from `source` (a file name)."""
    if rows.is_empty():
        raise LabError(f"{source}: the file has no rows")
    for name in NEVER_EMPTY:
        _refuse(rows, pl.col(name).is_null() | (pl.col(name) == ""), source, name, "without a value: fill it in")
    score = pl.col("score")
    _refuse(rows, score.is_null() | score.is_nan(), source, "score", "without a score: grade or leave out these rows")
    _refuse(rows, ~score.is_between(0, 1), source, "score", "outside 0 to 1: rescale the scores")
    cost = pl.col("cost_usd")
    _refuse(rows, ~cost.is_finite() | (cost < 0), source, "cost_usd", "no cost: USD ≥ 0, or null if unknown")
    for name in ("prompt_tokens", "completion_tokens", "sample_index"):
        _refuse(rows, pl.col(name) < 0, source, name, "below zero: a count starts at 0 (null if unknown)")
    _refuse(rows, ~pl.col("split").is_in(SPLITS), source, "split", f"unknown: it is one of {', '.join(SPLITS)}")
    _refuse(rows, ~pl.col("provenance").is_in(PROVENANCES), source, "provenance", f"unknown: {', '.join(PROVENANCES)}")
    _check_keys(rows, source)
    _check_queries(rows, source)


def _refuse(rows: pl.DataFrame, fault: pl.Expr, source: str, column: str, cure: str) -> None:
    wrong = rows.select(fault.fill_null(False)).to_series()
    if count := int(wrong.sum()):
        row = int(wrong.arg_true()[0])
        plural = "s" if count > 1 else ""
        raise LabError(
            f"{source}: column {column}: {count} row{plural} {cure} (first: row {row + 1}, {rows[column][row]!r})"
        )


def _check_keys(rows: pl.DataFrame, source: str) -> None:
    twice = rows.group_by(CELL, maintain_order=True).len().filter(pl.col("len") > 1)
    if twice.is_empty():
        return
    first = "; ".join(_cell(key) for key in twice.head(3).iter_rows(named=True))
    raise LabError(
        f"{source}: {twice.height} duplicate keys, first: {first}. One row per query, model, prompt_style and "
        "sample_index: remove the copies, or number repeated samples in a column sample_index"
    )


def _cell(key: dict[str, object]) -> str:
    text = f"{key['dataset']}/{key['query_id']} × {key['model']}"
    plain = key["prompt_style"] == "plain" and key["sample_index"] == 0
    return text if plain else f"{text} ({key['prompt_style']}, sample {key['sample_index']})"


def _check_queries(rows: pl.DataFrame, source: str) -> None:
    kinds = rows.group_by("dataset", "query_id", maintain_order=True).agg(pl.col(QUERY_FACTS).n_unique())
    for name in QUERY_FACTS:
        torn = kinds.filter(pl.col(name) > 1)
        if not torn.is_empty():
            first = f"{torn['dataset'][0]}/{torn['query_id'][0]}"
            raise LabError(
                f"{source}: {torn.height} queries have more than one {name}, first {first}: give each its own query_id"
            )
