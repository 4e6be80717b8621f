r"""Import answers that somebody has graded already: Parquet or CSV, one row a response.

Every other importer ends in this form, and `xrouter-sim store export --form tidy` writes it.

\b
Columns (null where a source knows nothing):
  dataset, split, domain       text; split is train, validation or test
  query_id, query              text; query_id is unique within dataset
  model, response              text
  score                        a number from 0 to 1
  prompt_tokens, completion_tokens
  cost_usd                     what the call was billed, in USD
  reference                    the gold answer
Optional:
  question                     the query without its few-shot prefix
  prompt_style, sample_index   for several answers of a model to one query
  provenance                   imported (default), live, local or simulated
  status, error                ok (default), truncated, refused or failed; a failed row needs no score
  finish_reason, max_tokens, model_answered, latency_s, mean_logprob
  cached_prompt_tokens, reasoning_tokens

It is your own file, so it is refused whole at its first fault; --max-rejects lets the good rows in.

\b
Examples:
  xrouter-sim import tidy routerbench.parquet --db data/routerbench.duckdb
  xrouter-sim import tidy one.csv two.csv.gz --db data/answers.duckdb
"""

from pathlib import Path

import polars as pl

from responses_db.errors import LabError
from responses_db.importers.base import Form
from responses_db.importers.registry import Choices
from responses_db.importers.sources import Source, check_paths, find, shown
from responses_db.importers.tables import all_columns, read_csv, read_parquet

COLUMNS = {
    "dataset": "text",
    "split": "text",
    "domain": "text",
    "query_id": "text",
    "query": "text",
    "model": "text",
    "response": "text",
    "score": "number",
    "prompt_tokens": "whole number",
    "completion_tokens": "whole number",
    "cost_usd": "number",
    "reference": "text",
}
"""Columns that must be there, and what each holds. Where a source knows nothing, the column is null, not missing."""

OPTIONAL = {
    "question": "text",
    "prompt_style": "text",
    "sample_index": "whole number",
    "provenance": "text",
    "status": "text",
    "error": "text",
    "finish_reason": "text",
    "model_answered": "text",
    "max_tokens": "whole number",
    "cached_prompt_tokens": "whole number",
    "reasoning_tokens": "whole number",
    "latency_s": "number",
    "mean_logprob": "number",
}
"""Columns that may be there; any other column is not used."""

KINDS = COLUMNS | OPTIONAL
DTYPES = {"text": pl.String, "number": pl.Float64, "whole number": pl.Int64}
WHOLE_LIMITS = {"sample_index": 2**31 - 1, "max_tokens": 2**31 - 1}
WHOLE_LIMIT = 2**53
"""Whole numbers up to here survive the way through Float64; no count of tokens comes near."""


def read(path: Path) -> pl.DataFrame:
    """The rows of a tidy file, known columns only, each of its own type; absent optional columns have their default.

    Raises LabError that names the file, the column, the type found and the type wanted.
    """
    check_paths([path])
    (source,) = find([path], lambda name: True, [])
    return with_defaults(read_source(source))


def read_source(source: Source, choices: Choices | None = None) -> pl.DataFrame:
    """The rows of one file as they are, known columns only, each of its own type."""
    frame = read_csv(source) if source.is_a(".csv") else read_parquet(source, KINDS.__contains__)
    if missing := [name for name in COLUMNS if name not in frame.columns]:
        raise LabError(
            f"{source.name}: no column {', '.join(missing)}; the tidy form needs {', '.join(COLUMNS)} "
            "(where a source knows nothing: a column of nulls)"
        )
    typed = {name: _typed(frame[name], kind, source) for name, kind in KINDS.items() if name in frame.columns}
    unused = [name for name in all_columns(source, frame) if name not in KINDS and not name.startswith("_")]
    rows = pl.DataFrame(typed).with_row_index("_row", offset=1).cast({"_row": pl.Int64})
    return rows.with_columns(pl.lit(None).alias(name) for name in unused)  # so that they are named as not used


def with_defaults(frame: pl.DataFrame) -> pl.DataFrame:
    """Fill what the optional columns mean when they are absent or null."""
    absent = [pl.lit(None, DTYPES[kind]).alias(name) for name, kind in OPTIONAL.items() if name not in frame.columns]
    return frame.with_columns(absent).with_columns(
        question=pl.coalesce("question", "query"),
        prompt_style=pl.col("prompt_style").fill_null("plain"),
        sample_index=pl.col("sample_index").fill_null(0),
        provenance=pl.col("provenance").fill_null("imported"),
        status=pl.col("status").fill_null("ok"),
    )


def accepts(name: str) -> bool:
    return name.lower().endswith((".parquet", ".csv"))


def _typed(column: pl.Series, kind: str, source: Source) -> pl.Series:
    dtype, wanted = column.dtype, DTYPES[kind]
    is_csv = source.is_a(".csv")
    fits = {
        "text": dtype in (pl.String, pl.Categorical, pl.Enum),
        "number": dtype.is_numeric() or is_csv,
        "whole number": dtype.is_numeric() or is_csv,
    }
    if dtype != pl.Null and not fits[kind]:
        raise LabError(f"{source.name}: column {column.name} holds {dtype}, wanted {kind} ({wanted}): convert it")
    # Through Float64, because whole numbers with gaps leave pandas as floats, and CSV as text.
    values = column if kind == "text" else column.cast(pl.Float64, strict=False)
    wrong = (values.is_null() & column.is_not_null()) if kind != "text" else pl.Series([False])
    if kind == "whole number":
        limit = WHOLE_LIMITS.get(column.name, WHOLE_LIMIT)
        wrong = wrong | ((values != values.floor()) | ~(values.abs() <= limit)).fill_null(False)
    if wrong.any():
        row = wrong.arg_true()[0]
        raise LabError(
            f"{source.name}: column {column.name}, row {row + 1}: found {shown(column[row])}, wanted a {kind}"
        )
    return values.cast(wanted)


FORM = Form(dataset="", accepts=accepts, read=read_source, strict=True)
