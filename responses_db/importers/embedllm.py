r"""Import EmbedLLM's correctness data: right or wrong of 112 open models on some 36,000 prompts.

From: the dataset `RZ412/EmbedLLM` on Hugging Face (`train.csv`, `val.csv`, `test.csv`; the order files beside them are
not needed). Paper: EmbedLLM, arXiv 2410.02223. Licence: Apache-2.0 by the dataset's card.

\b
One row a model and prompt:
  prompt_id, category       query_id is category/prompt_id; domain is category
  prompt                    query
  model_name                model
  label                     score, 0 or 1
  model_id, category_id     not used

A prompt that stands several times under one category for one model was evaluated in several variants of a task: these
are samples 0, 1, … in the file's order. Split: from the file's name, else by hash. Unknown, so null: the answers,
costs, tokens, latencies, references.

\b
Example:
  xrouter-sim import embedllm train.csv val.csv test.csv --db data/embedllm.duckdb
"""

import re

import polars as pl

from responses_db.importers.base import Form, WrongFormError, as_text
from responses_db.importers.registry import Choices
from responses_db.importers.sources import Source
from responses_db.importers.splits import split_in
from responses_db.importers.tables import read_table

COLUMNS = ["prompt_id", "category", "prompt", "model_name", "label"]


def accepts(name: str) -> bool:
    return re.search(r"(train|test|val)[^/]*\.(csv|parquet)$", name.lower()) is not None


def read(source: Source, choices: Choices) -> pl.DataFrame:
    frame = read_table(source)
    if missing := [name for name in COLUMNS if name not in frame.columns]:
        raise WrongFormError(f"{source.name}: no column {', '.join(missing)}: not EmbedLLM's form")
    rows = frame.with_row_index("_row", offset=1).select(
        "_row",
        pl.lit(split_in(source), pl.String).alias("split"),
        as_text(frame["category"]).alias("domain"),
        _whole_number_text(frame["prompt_id"]).alias("query_id"),
        as_text(frame["prompt"]).alias("query"),
        as_text(frame["model_name"]).alias("model"),
        pl.col("label").alias("score"),
    )
    rows = rows.with_columns(query_id=pl.format("{}/{}", "domain", "query_id"))
    again = pl.int_range(pl.len()).over("query_id", "query", "model")
    return rows.with_columns(sample_index=again)


def _whole_number_text(column: pl.Series) -> pl.Series:
    """Ids as text; pandas writes whole numbers with gaps as 7.0."""
    return as_text(column).str.replace(r"^(-?\d+)\.0$", "$1")


FORM = Form(dataset="embedllm", accepts=accepts, read=read)
