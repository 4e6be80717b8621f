r"""Import SPROUT, the data of CARROT: graded answers of 13 models to some 44,000 prompts, with their token counts.

From: the datasets `CARROT-LLM-Routing/SPROUT` and `CARROT-LLM-Routing/SPROUT-o3mini` on Hugging Face
(`data/train-*.parquet`, `data/validation-*.parquet`, `data/test-*.parquet`). Paper: CARROT, arXiv 2502.03261. The
dataset's card names no licence.

\b
One row a prompt:
  key                 query_id (a digest of the prompt where it is missing)
  dataset             domain
  prompt              query
  golden_answer       reference
  MODEL               {response, score, num_input_tokens, num_output_tokens}: one row a model
  other columns (dataset_level, dataset_idx) are not used

Scores are an LLM judge's. Split: from the file's name, else by hash. Unknown, so null: latencies, and costs, which the
source leaves to prices: give price cards with `xrouter-sim import prices`.

\b
Example:
  xrouter-sim import sprout SPROUT/data --db data/sprout.duckdb
"""

import ast
import hashlib
import json
from typing import Any

import polars as pl

from responses_db.importers.base import Form, WrongFormError, as_text, stack
from responses_db.importers.registry import Choices
from responses_db.importers.sources import Source
from responses_db.importers.splits import split_in
from responses_db.importers.tables import need_columns, read_table

FIELDS = {
    "response": "response",
    "score": "score",
    "num_input_tokens": "prompt_tokens",
    "num_output_tokens": "completion_tokens",
}


def accepts(name: str) -> bool:
    return name.lower().endswith((".parquet", ".csv"))


def read(source: Source, choices: Choices) -> pl.DataFrame:
    frame = read_table(source)
    models = {name: cells for name in frame.columns if (cells := _cells(frame[name])) is not None}
    if not models:
        raise WrongFormError(f"{source.name}: no column of a model's answers and scores: not SPROUT's form")
    need_columns(frame, ["prompt", "dataset"], source, "SPROUT's form")
    prompt = as_text(frame["prompt"])
    keys = as_text(frame["key"]) if "key" in frame.columns else pl.Series([None] * frame.height, dtype=pl.String)
    queries = frame.with_row_index("_row", offset=1).select(
        "_row",
        pl.lit(split_in(source), pl.String).alias("split"),
        pl.col("dataset").alias("domain"),
        pl.Series("query_id", [key or _digest(text) for key, text in zip(keys, prompt, strict=True)], dtype=pl.String),
        prompt.alias("query"),
        (frame["golden_answer"] if "golden_answer" in frame.columns else pl.lit(None, pl.String)).alias("reference"),
    )
    return stack([queries.with_columns(*cells, model=pl.lit(name)) for name, cells in models.items()])


def _digest(text: str | None) -> str | None:
    return text and hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:16]


def _cells(column: pl.Series) -> list[pl.Series] | None:
    """The fields of a model's column, null where it is no such column."""
    if column.dtype == pl.String:
        column = _opened(column)
    if not isinstance(column.dtype, pl.Struct) or "score" not in {field.name for field in column.dtype.fields}:
        return None
    has = {field.name for field in column.dtype.fields}
    return [column.struct.field(name).alias(ours) for name, ours in FIELDS.items() if name in has]


def _opened(column: pl.Series) -> pl.Series:
    """Objects out of their printed form, as JSON or as Python prints them (CSV copies of the data have that)."""
    first = next((text for text in column if text), "")
    if not (first.startswith("{") and "score" in first):
        return column
    found = [_object(text) for text in column]
    fields = {name: [cell.get(name) for cell in found] for name in FIELDS}
    frame = pl.DataFrame(
        {name: pl.Series([_text(value) for value in values], dtype=pl.String) for name, values in fields.items()}
    )
    return frame.to_struct(column.name)


def _object(text: str | None) -> dict[str, Any]:
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text or "{}")
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return value if isinstance(value, dict) else {}
    return {}


def _text(value: Any) -> str | None:
    text = None if value is None else str(value)
    return text if text is None or text.isascii() or _is_unicode(text) else None


def _is_unicode(text: str) -> bool:
    return text.encode("utf-8", "ignore").decode() == text


FORM = Form(dataset="sprout", accepts=accepts, read=read)
