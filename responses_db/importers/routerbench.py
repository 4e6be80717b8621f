r"""Import RouterBench: graded and billed answers of 11 models to some 36,000 prompts of 8 benchmarks.

From: the dataset `withmartian/routerbench` on Hugging Face (`routerbench_0shot.pkl`, `routerbench_5shot.pkl`), or the
CSVs of it that RouterDC's repository carries (`datasets/routerbench_zs/*.csv`). Paper: RouterBench, arXiv 2403.12031.
The code is MIT; the dataset's card names no licence.

\b
Wide form, one row a prompt:
  sample_id                 query_id
  prompt                    query; a printed list is opened, several turns are joined by an empty line
  eval_name                 domain
  MODEL                     score of MODEL
  MODEL|model_response      response; a printed one-element list is opened
  MODEL|total_cost          cost_usd, USD billed for that call
  oracle_model_to_route_to and other columns are not used

The question, which routers embed, is the prompt without what all prompts of its domain begin with (few-shot examples).
Split: from the file's name (`mbpp_test.csv`), else by hash. `routerbench_5shot` becomes a dataset of its own name,
since its prompts differ under equal ids. Unknown, so null: token counts, latencies, references. Answers to multiple
choice stop after 1 to 3 tokens in this source, and some are format failures.

A pickle can run any code when it is opened in the ordinary way. It is refused without --trust-pickle; with it, only
arrays, numbers and text are read out of it, by a reader that knows no other classes and calls nothing.

\b
Examples:
  xrouter-sim import routerbench routerbench_zs/ --db data/routerbench.duckdb
  xrouter-sim import routerbench routerbench_0shot.pkl --trust-pickle --db data/routerbench.duckdb
"""

import ast

import polars as pl

from responses_db.errors import LabError
from responses_db.importers.base import Form, WrongFormError, stack
from responses_db.importers.registry import Choices
from responses_db.importers.sources import Source
from responses_db.importers.splits import split_in
from responses_db.importers.tables import need_columns, read_table

RESPONSE, COST = "|model_response", "|total_cost"
PICKLES = (".pkl", ".pickle")


def accepts(name: str) -> bool:
    return name.lower().endswith((".csv", ".parquet", *PICKLES))


def read(source: Source, choices: Choices) -> pl.DataFrame:
    frame = _read_pickle(source, choices) if source.is_a(*PICKLES) else read_table(source)
    models = _models(frame.columns)
    if not models:
        raise WrongFormError(f"{source.name}: no column MODEL{COST} or MODEL{RESPONSE}: not RouterBench's wide form")
    need_columns(frame, ["sample_id", "prompt", "eval_name", *models], source, "RouterBench's wide form")
    frame = frame.with_row_index("_row", offset=1)
    queries = frame.select(
        "_row",
        pl.lit("routerbench-5shot" if "5shot" in source.path.name else "routerbench").alias("dataset"),
        pl.lit(split_in(source), pl.String).alias("split"),
        pl.col("eval_name").alias("domain"),
        pl.col("sample_id").alias("query_id"),
        opened(frame["prompt"]).alias("query"),
    )
    return stack([queries.with_columns(_answers(frame, model)) for model in models])


def _models(columns: list[str]) -> list[str]:
    marked = [name.removesuffix(RESPONSE).removesuffix(COST) for name in columns if name.endswith((RESPONSE, COST))]
    return list(dict.fromkeys(marked))


def _answers(frame: pl.DataFrame, model: str) -> list[pl.Series | pl.Expr]:
    empty = pl.Series([None], dtype=pl.String).new_from_index(0, frame.height)
    response = opened(frame[model + RESPONSE]) if model + RESPONSE in frame.columns else empty
    cost = frame[model + COST] if model + COST in frame.columns else empty
    return [
        pl.lit(model).alias("model"),
        frame[model].alias("score"),
        response.alias("response"),
        cost.alias("cost_usd"),
    ]


def opened(column: pl.Series) -> pl.Series:
    """Text out of lists of text, whether they are lists or printed as Python prints them; other text stays as it is."""
    if column.dtype == pl.String:
        values = [_open_printed(text) for text in column.to_list()]
    else:
        values = [_joined(value) for value in column.to_list()]
    return pl.Series(column.name, values, dtype=pl.String, strict=False)


def _open_printed(text: str | None) -> str | None:
    if text is None or not (text.startswith(("['", '["')) and text.rstrip().endswith("]")):
        return text
    try:
        joined = _joined(ast.literal_eval(text)) or ""
        joined.encode()
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return joined


def _joined(value: object) -> str | None:
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return "\n\n".join(value)
    return None if value is None else str(value)


def _read_pickle(source: Source, choices: Choices) -> pl.DataFrame:
    if not choices.trust_pickle:
        raise LabError(
            f"{source.name}: a pickle may run code when it is opened, so it is refused: give RouterBench's CSV or "
            "Parquet form, or say --trust-pickle if you know where the file comes from"
        )
    from responses_db.importers.pickled_frame import read_pickled_frame

    return read_pickled_frame(source)


def finish(rows: pl.DataFrame, choices: Choices) -> pl.DataFrame:
    """Add `question`: the query without the beginning that all queries of its dataset and domain share."""
    sound = rows.filter(pl.col("_fault").is_null() & (pl.col("query") != ""))
    shared = sound.group_by("dataset", "domain").agg(low=pl.col("query").min(), high=pl.col("query").max())
    shared = shared.with_columns(
        _cut=pl.struct("low", "high").map_elements(lambda ends: _shared_paragraphs(**ends), return_dtype=pl.Int64)
    )
    rows = rows.join(shared.drop("low", "high"), on=["dataset", "domain"], how="left", nulls_equal=True)
    return rows.with_columns(question=pl.col("query").str.slice(pl.col("_cut").fill_null(0)))


def _shared_paragraphs(low: str | None, high: str | None) -> int:
    """How many characters of whole paragraphs the lowest and the highest text, so all between them, begin with."""
    if low is None or high is None or low == high:
        return 0
    same = next(
        (place for place, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high))
    )
    end = low.rfind("\n\n", 0, same)
    return end + 2 if end >= 0 else 0


FORM = Form(dataset="routerbench", accepts=accepts, read=read, finish=finish)
