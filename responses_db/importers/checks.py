"""What tidy rows must fulfil before any of them is written: a table of faults, each with its cure.

The user's own file is refused whole at its first fault (`check`). From others' published files the rows without a fault
are taken and the rest listed with the reason (`sift`).
"""

from typing import NamedTuple

import polars as pl

from responses_db.errors import LabError
from responses_db.importers.sources import named, shown

CELL = ["dataset", "query_id", "model", "prompt_style", "sample_index"]
QUERY_FACTS = ["query", "question", "split", "domain", "reference"]
NEVER_EMPTY = ["dataset", "split", "domain", "query_id", "query", "question", "model", "prompt_style"]
SPLITS = ("train", "validation", "test")
PROVENANCES = ("live", "local", "imported", "simulated")
STATUSES = ("ok", "truncated", "refused", "failed")
COUNTS = (
    "prompt_tokens",
    "completion_tokens",
    "sample_index",
    "max_tokens",
    "cached_prompt_tokens",
    "reasoning_tokens",
)


class Fault(NamedTuple):
    column: str
    where: pl.Expr
    cure: str


def _faults() -> list[Fault]:
    score, cost, latency, logprob = (pl.col(name) for name in ("score", "cost_usd", "latency_s", "mean_logprob"))
    unscored = (score.is_null() & (pl.col("status") != "failed")) | score.is_nan()
    return [
        *(
            Fault(name, pl.col(name).is_null() | (pl.col(name) == ""), "without a value: fill it in")
            for name in NEVER_EMPTY
        ),
        Fault("score", unscored, "without a score: grade or leave out these rows"),
        Fault("score", ~score.is_between(0, 1), "outside 0 to 1: rescale the scores"),
        Fault("cost_usd", ~cost.is_finite() | (cost < 0), "no cost: USD ≥ 0, or null if unknown"),
        *(Fault(name, pl.col(name) < 0, "below zero: a count starts at 0 (null if unknown)") for name in COUNTS),
        Fault("latency_s", ~latency.is_finite() | (latency < 0), "no latency: seconds ≥ 0, or null if unknown"),
        Fault(
            "mean_logprob", ~logprob.is_finite() | (logprob > 0), "no log-probability: at most 0, or null if unknown"
        ),
        Fault("split", ~pl.col("split").is_in(SPLITS), f"unknown: it is one of {', '.join(SPLITS)}"),
        Fault("provenance", ~pl.col("provenance").is_in(PROVENANCES), f"unknown: {', '.join(PROVENANCES)}"),
        Fault("status", ~pl.col("status").is_in(STATUSES), f"unknown: {', '.join(STATUSES)}"),
    ]


def check(rows: pl.DataFrame, source: str) -> None:
    """Raise LabError for the first fault found in tidy rows that came from `source` (a file name)."""
    if rows.is_empty():
        raise LabError(f"{source}: the file has no rows")
    for fault in _faults():
        _refuse(rows, fault, source)
    _check_keys(rows, source)
    _check_queries(rows, source)


def sift(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows that may be written, the others with the reason in `_fault`), both in their order.

    Of several rows of one cell the first stays; so do the rows that agree with their query's first row.
    """
    found = pl.coalesce(
        pl.col("_fault"),
        *(
            pl.when(fault.where.fill_null(False)).then(pl.lit(f"{fault.column}: {fault.cure.split(':')[0]}"))
            for fault in _faults()
        ),
    )
    rows = rows.with_columns(_fault=found)
    good, bad = _parted(rows)
    good, torn = _parted(good.with_columns(_fault=_torn()))
    good, repeated = _parted(good.with_columns(_fault=_repeated(good.columns)))
    return good, pl.concat([bad, torn, repeated])


def _parted(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    return rows.filter(pl.col("_fault").is_null()), rows.filter(pl.col("_fault").is_not_null())


def _torn() -> pl.Expr:
    reasons = []
    for name in QUERY_FACTS:
        first = pl.col(name).first().over("dataset", "query_id")
        reasons.append(
            pl.when(pl.col(name).ne_missing(first)).then(pl.lit(f"{name}: not that of its query's first row"))
        )
    return pl.coalesce(reasons)


def _repeated(columns: list[str]) -> pl.Expr:
    """Null for the first row of each cell; for the others, whether they say the same."""
    again = pl.int_range(pl.len()).over(CELL) > 0
    said = [name for name in columns if not name.startswith("_") and name not in CELL]
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).first().over(CELL)) for name in said)
    return (
        pl.when(again & same)
        .then(pl.lit("the same row again"))
        .when(again)
        .then(pl.lit("a row of the same query, model, prompt style and sample came first, and says otherwise"))
    )


def _refuse(rows: pl.DataFrame, fault: Fault, source: str) -> None:
    wrong = rows.select(fault.where.fill_null(False)).to_series()
    if count := int(wrong.sum()):
        row = int(wrong.arg_true()[0])
        plural = "s" if count > 1 else ""
        raise LabError(
            f"{source}: column {fault.column}: {count} row{plural} {fault.cure} "
            f"(first: row {row + 1}, {shown(rows[fault.column][row])})"
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
    text = f"{named(key['dataset'])}/{named(key['query_id'])} × {named(key['model'])}"
    plain = key["prompt_style"] == "plain" and key["sample_index"] == 0
    return text if plain else f"{text} ({named(key['prompt_style'])}, sample {key['sample_index']})"


def _check_queries(rows: pl.DataFrame, source: str) -> None:
    kinds = rows.group_by("dataset", "query_id", maintain_order=True).agg(pl.col(QUERY_FACTS).n_unique())
    for name in QUERY_FACTS:
        torn = kinds.filter(pl.col(name) > 1)
        if not torn.is_empty():
            first = f"{named(torn['dataset'][0])}/{named(torn['query_id'][0])}"
            raise LabError(
                f"{source}: {torn.height} queries have more than one {name}, first {first}: give each its own query_id"
            )
