r"""Import RouterArena's cached results: answers, grades and costs of many models on some 8,400 prompts.

From: the repository `RouteWorks/RouterArena`, `cached_results/MODEL.jsonl`, and its file of prices. Paper:
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

Records without a grade (evaluation_result is null in several of the files) are rejected and listed. With the source's
JSON of prices (--costs, or among the files) a record without a billed cost gets one from its tokens; without a price it
stays unknown.
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
from responses_db.importers.sources import Source, check_paths, find, shown

FIELDS = {"global_index", "question", "generated_answer", "llm_selected", "evaluation_result"}
PRICES = ("input_token_price_per_million", "output_token_price_per_million")
_PRICE_COLUMNS = {"_priced": pl.String, "_in": pl.Float64, "_out": pl.Float64}


def accepts(name: str) -> bool:
    return re.search(r"\.jsonl$|cost.*\.json$", name.lower()) is not None


def read(source: Source, choices: Choices) -> pl.DataFrame:
    if source.is_a(".json") and not isinstance(content := read_json(source), list):
        if not _are_prices(content):
            raise WrongFormError(f"{source.name}: neither records nor prices by model: not RouterArena's form")
        return _price_frame(content, source.name).with_row_index("_row", offset=1)
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
    prices = [_price_frame(read_json(_source(choices.costs)), choices.costs)] if choices.costs else []
    if "_priced" in rows.columns:  # a file of prices among the files
        prices.append(rows.filter(pl.col("_priced").is_not_null()).select(*_PRICE_COLUMNS))
        rows = rows.filter(pl.col("_priced").is_null()).drop(*_PRICE_COLUMNS)
    return _with_costs(rows, pl.concat(prices).unique("_priced", keep="first")) if prices else rows


def _with_costs(rows: pl.DataFrame, prices: pl.DataFrame) -> pl.DataFrame:
    """A model's price is found under its name, or under what follows the last slash of it."""
    short = rows["model"].str.split("/").list.last().alias("_short")
    priced = rows.with_columns(short).join(prices, left_on="model", right_on="_priced", how="left")
    priced = priced.join(prices, left_on="_short", right_on="_priced", how="left", suffix="_short")
    price_in, price_out = (pl.coalesce(name, f"{name}_short") for name in ("_in", "_out"))
    cost = (pl.col("prompt_tokens") * price_in + pl.col("completion_tokens") * price_out) / 1e6
    return priced.with_columns(cost_usd=pl.coalesce("cost_usd", cost)).select(rows.columns)


def _source(path: Path) -> Source:
    check_paths([path])
    (source,) = find([path], lambda name: True, [])
    return source


def _price_frame(prices: Any, name: object) -> pl.DataFrame:
    """`_priced` (a model), `_in`, `_out`: USD per million tokens, from RouterArena's file of prices."""
    if not _are_prices(prices):
        raise LabError(f'{name}: no prices: wanted {{"MODEL": {{"{PRICES[0]}": …, "{PRICES[1]}": …}}, …}}')
    rows = [(model, *(_price(name, model, card, key) for key in PRICES)) for model, card in prices.items()]
    return pl.DataFrame(rows, schema=_PRICE_COLUMNS, orient="row")


def _are_prices(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(card, dict) and PRICES[0] in card for card in value.values())


def _price(name: object, model: str, card: Any, key: str) -> float:
    price = card.get(key) if isinstance(card, dict) else None
    if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < 1e5:
        wanted = "USD per million tokens (a model without: leave it out)"
        raise LabError(f"{name}: {shown(model)}: {key} is {shown(price)}, wanted {wanted}")
    return float(price)


def prepare(choices: Choices) -> None:
    if choices.costs:
        _price_frame(read_json(_source(choices.costs)), choices.costs)


FORM = Form(dataset="routerarena", accepts=accepts, read=read, finish=finish, prepare=prepare)
