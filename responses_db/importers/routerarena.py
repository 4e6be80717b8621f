r"""Import RouterArena's cached results: answers, grades and costs of many models on some 8,400 prompts.

From: the repository `RouteWorks/RouterArena`, `cached_results/MODEL.jsonl`, and its file of prices for --costs. Paper:
RouterArena, arXiv 2510.00202. Licence: see the repository; unknown here.

\b
One record a line:
  global_index                         query_id; domain is it without its number (`AIME_106` is AIME)
  question                             query
  llm_selected                         model (the file's name where it is missing)
  generated_answer                     response
  evaluation_result.score              score
  evaluation_result.ground_truth       reference
  evaluation_result.inference_cost     cost_usd
  token_usage.input_tokens, output_tokens (cached and reasoning tokens where they are given)
  run_number                           sample_index is one less
  success, error                       a call that failed is kept as failed, without a response

Records without a grade (evaluation_result is null in several of the files) are rejected and listed. With --costs, a
record without a billed cost gets one from its tokens and the prices of its model; without a price it stays unknown.
Split: by hash, the source is a test set for routers. Unknown, so null: latencies.

\b
Example:
  xrouter-sim import routerarena cached_results/ --costs model_cost.json --db data/arena.duckdb
"""

import re
from pathlib import Path
from typing import Any

import polars as pl

from responses_db.errors import LabError
from responses_db.importers.base import Form, WrongFormError, loose_rows
from responses_db.importers.json_records import dig, read_json, read_records
from responses_db.importers.registry import Choices
from responses_db.importers.sources import Source, check_paths, find

FIELDS = {"global_index", "question", "generated_answer", "llm_selected", "evaluation_result"}
PRICES = ("input_token_price_per_million", "output_token_price_per_million")


def accepts(name: str) -> bool:
    return name.lower().endswith(".jsonl")


def read(source: Source, choices: Choices) -> pl.DataFrame:
    records = list(read_records(source))
    if records and not any(FIELDS & record.keys() for _, record in records):
        if all("_fault" in record for _, record in records):
            return loose_rows([record for _, record in records])
        raise WrongFormError(f"{source.name}: no record has an evaluation_result: not RouterArena's form")
    return loose_rows([_row(number, record, source) for number, record in records])


def _row(number: int, record: dict[str, Any], source: Source) -> dict[str, Any]:
    if "_fault" in record:
        return record
    index, failed = record.get("global_index"), record.get("success") is False
    usage = ("token_usage",)
    return {
        "_row": number,
        "query_id": index,
        "domain": re.sub(r"_\d+$", "", index) if isinstance(index, str) else None,
        "query": record.get("question"),
        "model": record.get("llm_selected") or source.stem,
        "response": None if failed else record.get("generated_answer"),
        "score": dig(record, "evaluation_result", "score"),
        "reference": dig(record, "evaluation_result", "ground_truth"),
        "prompt_tokens": dig(record, *usage, "input_tokens"),
        "completion_tokens": dig(record, *usage, "output_tokens"),
        "cached_prompt_tokens": dig(record, *usage, "cached_tokens"),
        "reasoning_tokens": dig(record, *usage, "reasoning_tokens"),
        "cost_usd": dig(record, "evaluation_result", "inference_cost"),
        "sample_index": _sample(record.get("run_number")),
        "status": "failed" if failed else "ok",
        "error": record.get("error"),
    }


def _sample(run: Any) -> Any:
    return run - 1 if isinstance(run, int) and run > 0 else None


def finish(rows: pl.DataFrame, choices: Choices) -> pl.DataFrame:
    """Costs from tokens and prices, where the source names none."""
    if choices.costs is None:
        return rows
    prices = read_costs(choices.costs)
    priced = rows.join(prices, left_on=pl.col("model"), right_on="_model", how="left")
    short = priced["model"].str.split("/").list.last().alias("_short")
    priced = priced.with_columns(short).join(prices, left_on="_short", right_on="_model", how="left", suffix="_short")
    price_in, price_out = (pl.coalesce(name, f"{name}_short") for name in ("_in", "_out"))
    cost = (pl.col("prompt_tokens") * price_in + pl.col("completion_tokens") * price_out) / 1e6
    return priced.with_columns(cost_usd=pl.coalesce("cost_usd", cost)).select(rows.columns)


def read_costs(path: Path) -> pl.DataFrame:
    """`_model`, `_in`, `_out`: USD per million tokens, from RouterArena's file of prices."""
    check_paths([path])
    (source,) = find([path], lambda name: True, [])
    prices = read_json(source)
    if not isinstance(prices, dict) or not prices:
        raise LabError(f'{path}: no prices: wanted {{"MODEL": {{"{PRICES[0]}": …, "{PRICES[1]}": …}}, …}}')
    rows = [(model, *(_price(path, model, card, name) for name in PRICES)) for model, card in prices.items()]
    return pl.DataFrame(rows, schema={"_model": pl.String, "_in": pl.Float64, "_out": pl.Float64}, orient="row")


def _price(path: Path, model: str, card: Any, name: str) -> float:
    price = card.get(name) if isinstance(card, dict) else None
    if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < 1e5:
        wanted = "USD per million tokens (a model without: leave it out)"
        raise LabError(f"{path}: {model}: {name} is {str(price)[:60]}, wanted {wanted}")
    return float(price)


def prepare(choices: Choices) -> None:
    if choices.costs:
        read_costs(choices.costs)


FORM = Form(dataset="routerarena", accepts=accepts, read=read, finish=finish, prepare=prepare)
