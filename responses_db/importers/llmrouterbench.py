r"""Import LLMRouterBench's records: graded answers of 33 models on 21 benchmarks and more, flagships with costs.

From: the dataset `NPULH/LLMRouterBench` on Hugging Face (`bench-release.tar.gz`, read as it is), or the folder
`results/bench` that the repository `ynulihao/LLMRouterBench` (earlier OpenRouterBench) fills. Paper: LLMRouterBench,
arXiv 2601.07206. Licence: MIT by the repository's badge; the dataset's card names none.

\b
One JSON file a (benchmark, split, model), with a list of records:
  model_name                      model
  dataset_name, split             domain is dataset_name; query_id is dataset_name/split/index
  records[].index
  records[].prompt                query; question is origin_query, the prompt without its instructions
  records[].raw_output            response (prediction, the answer read out of it, is not used)
  records[].score                 score
  records[].ground_truth          reference
  records[].prompt_tokens, completion_tokens, cost

A cost of exactly 0 is unknown, so null: the light models were run at no price. Tokens of 0 and 0 are unknown too. A
record that the collector marks as failed ("Processing failed: …") is kept as failed, without a response. Records
without a score (ArenaHard's) and demo runs are rejected and listed; of several runs of one model on one benchmark the
last counts. Split: by hash: the source's own splits name parts of benchmarks, not training data for routers. Unknown,
so null: latencies.

\b
Examples:
  xrouter-sim import llmrouterbench bench-release.tar.gz --db data/llmrouterbench.duckdb
  xrouter-sim import llmrouterbench results/bench --test-share 0.3 --seed 42 --db data/llmrouterbench.duckdb
"""

import re
from typing import Any

import polars as pl

from responses_db.importers.base import Form, WrongFormError, loose_rows
from responses_db.importers.json_records import numbered, read_json
from responses_db.importers.registry import Choices
from responses_db.importers.sources import Source

FAILED = ("Processing failed: ", "Unexpected error: ")
"""How the collector writes a failure where the answer belongs."""


def accepts(name: str) -> bool:
    return name.lower().endswith(".json")


def read(source: Source, choices: Choices) -> pl.DataFrame:
    run = read_json(source)
    if not isinstance(run, dict) or not isinstance(run.get("records"), list):
        raise WrongFormError(f"{source.name}: no list `records`: not a result of LLMRouterBench")
    names = _names(run, source)
    rows = [_row(number, record, run, names) for number, record in numbered(run["records"])]
    stamp = re.search(r"(\d{8}_\d{6})$", source.stem)
    mark = {"_run": "|".join(names), "_when": f"{stamp.group(1) if stamp else ''} {source.name}"}
    return loose_rows([row | mark for row in rows])


def _names(run: dict[str, Any], source: Source) -> tuple[str, str, str]:
    """(benchmark, split, model), from the file or else from its folders: BENCHMARK/SPLIT/MODEL/FILE."""
    folders = ("", "", "", *source.path.parts[:-1])[-3:]
    found = (run.get("dataset_name"), run.get("split"), run.get("model_name"))
    benchmark, split, model = (
        name if isinstance(name, str) and name else folder for name, folder in zip(found, folders, strict=True)
    )
    return benchmark, split, model


def _row(number: int, record: dict[str, Any], run: dict[str, Any], names: tuple[str, str, str]) -> dict[str, Any]:
    if "_fault" in record:
        return record
    benchmark, split, model = names
    output, tokens = _output(record.get("raw_output")), (record.get("prompt_tokens"), record.get("completion_tokens"))
    failed = isinstance(output, str) and output.startswith(FAILED) and record.get("score") is None
    used = tokens != (0, 0)
    row = {
        "_row": number,
        "domain": benchmark,
        "query_id": f"{benchmark}/{split}/{record.get('index', number)}",
        "query": record.get("prompt") or record.get("origin_query"),
        "question": record.get("origin_query") or None,
        "model": model,
        "response": None if failed else output,
        "score": record.get("score"),
        "reference": record.get("ground_truth"),
        "prompt_tokens": tokens[0] if used else None,
        "completion_tokens": tokens[1] if used else None,
        "cost_usd": record.get("cost") or None,
        "status": "failed" if failed else "ok",
        "error": output if failed else None,
    }
    return row | {"_fault": "a demo run: the first few records only"} if run.get("demo") is True else row


def _output(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def finish(rows: pl.DataFrame, choices: Choices) -> pl.DataFrame:
    """Of several runs of a model on a benchmark the last counts; the others' rows say by what they were superseded."""
    if "_run" not in rows.columns:
        return rows
    latest = pl.col("_when").filter(pl.col("_fault").is_null()).max().over("_run")
    newer = pl.col("_fault").is_null() & (pl.col("_when") < latest)
    reason = pl.when(newer).then(pl.lit("superseded by a later run of the same model and benchmark"))
    return rows.with_columns(_fault=pl.coalesce("_fault", reason))


FORM = Form(dataset="llmrouterbench", accepts=accepts, read=read, finish=finish)
