r"""Import RouterDC's scores: seven open models on MMLU, GSM8K, C-MMLU, ARC, HumanEval and harder sets.

From: the repository `shuhao02/RouterDC`, `datasets/split2_model7/*.json` and `datasets/split2_model7_cluster/*.json`
(its `datasets/routerbench_zs/*.csv` are RouterBench's: `xrouter-sim import routerbench`). Paper: RouterDC, arXiv
2409.19886. The repository names no licence.

\b
A list of records, one a prompt:
  question                    query
  scores: {MODEL: number}     one row a model; GSM8K and code are means of ten samples
  cluster_id                  not used
domain, split and query_id come from the file's name and the record's place: `humaneval_test.json` gives
humaneval/test/00000 and so on. Split: a file that names none (mbpp, ceval, javascript, MATH_prealgebra) is test only:
the paper's sets out of distribution.

Unknown, so null: the answers, costs, tokens, latencies, references. Some prompts stand in both splits.

\b
Example:
  xrouter-sim import routerdc datasets/split2_model7 datasets/split2_model7_cluster --db data/routerdc.duckdb
"""

import re
from typing import Any

import polars as pl

from responses_db.importers.base import Form, WrongFormError, faulty, loose_rows
from responses_db.importers.json_records import numbered, read_json
from responses_db.importers.registry import Choices
from responses_db.importers.sources import Source
from responses_db.importers.splits import split_in


def accepts(name: str) -> bool:
    return name.lower().endswith(".json")


def read(source: Source, choices: Choices) -> pl.DataFrame:
    content = read_json(source)
    if not isinstance(content, list):
        raise WrongFormError(f"{source.name}: no list of records: not RouterDC's form")
    records = list(numbered(content))
    if records and not any(isinstance(record.get("scores"), dict) for _, record in records):
        raise WrongFormError(f"{source.name}: no record has scores by model: not RouterDC's form")
    split = split_in(source) or "test"
    domain = re.sub(r"^routerdc[-_]|[-_](train|test|val|validation|dev)$", "", source.stem.lower())
    rows = [row for number, record in records for row in _rows(number, record, domain, split)]
    return loose_rows(rows)


def _rows(number: int, record: dict[str, Any], domain: str, split: str) -> list[dict[str, Any]]:
    if "_fault" in record:
        return [record]
    scores = record.get("scores")
    if not isinstance(scores, dict) or not scores:
        return [faulty(number, "no scores by model")]
    query = {
        "_row": number,
        "split": split,
        "domain": domain,
        "query_id": f"{domain}/{split}/{number - 1:05}",
        "query": record.get("question"),
    }
    return [query | {"model": model, "score": score} for model, score in scores.items()]


FORM = Form(dataset="routerdc", accepts=accepts, read=read)
