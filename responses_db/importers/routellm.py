r"""Import RouteLLM's evaluation answers: a strong and a weak model on MMLU and GSM8K.

From: the repository `lm-sys/RouteLLM`, `routellm/evals/mmlu/responses/mmlu_*.csv` (57 subjects) and
`routellm/evals/gsm8k/gsm8k_responses.csv`. Paper: RouteLLM, arXiv 2406.18665. Licence: Apache-2.0.

\b
Two shapes, one row a prompt:
  prompt              query
  MODEL               score: True or False; a column is a model's when it holds True and False, or 0 to 1
  MODEL_response      response (in the GSM8K form only)
  other columns are not used
domain and query_id come from the file's name: `mmlu_astronomy.csv` is mmlu/astronomy, `gsm8k_responses.csv` is gsm8k;
query_id is domain/DIGEST, with a digest of the prompt.

Split: by hash, the source has none. Unknown, so null: costs, tokens, latencies, references, and the answers to MMLU.
The authors leave out prompts that stand in their routers' training data (`contaminated_prompts.jsonl`); here they stay.

\b
Examples:
  xrouter-sim import routellm routellm/evals/mmlu/responses/ --db data/routellm.duckdb
  xrouter-sim import routellm gsm8k_responses.csv --split test --db data/routellm.duckdb
"""

import hashlib
import re

import polars as pl

from responses_db.importers.base import Form, WrongFormError, as_text, stack
from responses_db.importers.registry import Choices
from responses_db.importers.sources import Source
from responses_db.importers.tables import need_columns, read_table

RESPONSE = "_response"
INDEX = re.compile(r"(unnamed: ?\d+|index|id)?", re.IGNORECASE)
"""Columns of numbers that pandas leaves behind; no model has such a name."""


def accepts(name: str) -> bool:
    return name.lower().endswith((".csv", ".parquet"))


def read(source: Source, choices: Choices) -> pl.DataFrame:
    frame = read_table(source)
    if "prompt" not in frame.columns or any("|" in name for name in frame.columns):
        raise WrongFormError(f"{source.name}: no column prompt, or columns MODEL|…: not RouteLLM's form")
    models = [name for name in frame.columns if _is_model(name, frame)]
    if not models:
        raise WrongFormError(f"{source.name}: no column of a model's scores (True or False): not RouteLLM's form")
    need_columns(frame, ["prompt", *models], source, "RouteLLM's form")
    domain = _domain(source.stem)
    frame = frame.with_row_index("_row", offset=1)
    prompt = as_text(frame["prompt"])
    digests = [None if text is None else f"{domain}/{_digest(text)}" for text in prompt.to_list()]
    queries = frame.select(
        "_row",
        pl.lit(domain).alias("domain"),
        pl.Series("query_id", digests, dtype=pl.String),
        prompt.alias("query"),
    )
    return stack([_of_model(queries, frame, model) for model in models])


def _is_model(name: str, frame: pl.DataFrame) -> bool:
    if name == "prompt" or INDEX.fullmatch(name) or name.endswith(RESPONSE):
        return False
    if name + RESPONSE in frame.columns:
        return True
    text = as_text(frame[name]).str.to_lowercase().drop_nulls()
    grade = text.replace({"true": "1", "false": "0"}).cast(pl.Float64, strict=False)
    return 2 * int(grade.is_between(0, 1).sum()) > len(text)


def _of_model(queries: pl.DataFrame, frame: pl.DataFrame, model: str) -> pl.DataFrame:
    rows = queries.with_columns(frame[model].alias("score"), model=pl.lit(model))
    return rows.with_columns(frame[model + RESPONSE].alias("response")) if model + RESPONSE in frame.columns else rows


def _domain(stem: str) -> str:
    stem = re.sub(r"^routellm[-_]|_responses$", "", stem)
    return "mmlu/" + stem.removeprefix("mmlu_") if stem.startswith("mmlu_") else stem


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:12]


FORM = Form(dataset="routellm", accepts=accepts, read=read)
