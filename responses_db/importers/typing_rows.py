"""From loose rows to typed ones: a value that is not of its column's type makes its row faulty, and says why."""

import polars as pl

from responses_db.importers.base import as_text
from responses_db.importers.sources import Source
from responses_db.importers.tidy import DTYPES, KINDS, WHOLE_LIMIT, WHOLE_LIMITS

MARKS = {"_file": pl.String, "_row": pl.Int64, "_fault": pl.String}
TRUTHS = {"true": "1", "false": "0"}
NOTHING = ["", "nan", "none", "null", "<na>"]
"""What stands in a column of numbers where a source knows nothing (pandas writes most of them)."""
TINY = 1e-9
"""A mean of right and wrong answers may miss 0 or 1 by a rounding."""


def typed_rows(loose: pl.DataFrame, source: Source, *, nan_is_null: bool = True) -> pl.DataFrame:
    """All columns of the tidy form and MARKS, each of its type; the form's own marks (`_…`) stay as they are."""
    if "_row" not in loose.columns:
        loose = loose.with_row_index("_row", offset=1)
    own = [name for name in loose.columns if name.startswith("_") and name not in MARKS]
    columns = [loose[name] for name in own]
    fault = loose["_fault"].cast(pl.String) if "_fault" in loose.columns else _nulls("_fault", "text", loose.height)
    for name, kind in KINDS.items():
        if name not in loose.columns:
            columns.append(_nulls(name, kind, loose.height))
            continue
        value, wrong = _typed(loose[name], kind, nan_is_null)
        columns.append(value)
        if wrong is not None and wrong.any():
            fault = _blame(fault, loose[name], kind, wrong)
    marks = [pl.lit(source.name).alias("_file"), loose["_row"].cast(pl.Int64), fault.alias("_fault")]
    return pl.DataFrame(columns).with_columns(marks)


def _nulls(name: str, kind: str, height: int) -> pl.Series:
    return pl.Series(name, [None], dtype=DTYPES[kind]).new_from_index(0, height)


def _blame(fault: pl.Series, column: pl.Series, kind: str, wrong: pl.Series) -> pl.Series:
    frame = pl.DataFrame([fault.alias("fault"), as_text(column).alias("found"), wrong.alias("wrong")])
    reason = pl.format(
        f"{column.name}: found {{}}, wanted a {kind}", pl.col("found").str.slice(0, 60).str.replace_all(r"\s+", " ")
    )
    return frame.select(pl.coalesce("fault", pl.when("wrong").then(reason))).to_series()


def _typed(column: pl.Series, kind: str, nan_is_null: bool) -> tuple[pl.Series, pl.Series | None]:
    """The column in its type, and which of its values are no such thing (null there)."""
    if kind == "text":
        return as_text(column), None
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        known, value = column.is_not_null(), column.cast(pl.Float64, strict=False)
    else:
        text = as_text(column).str.strip_chars().str.to_lowercase()
        known = text.is_not_null() & ~text.is_in(NOTHING)
        value = text.replace(TRUTHS).cast(pl.Float64, strict=False)
    if nan_is_null:
        known = known & ~value.is_nan().fill_null(False)
        value = value.fill_nan(None)
    wrong = known & value.is_null()
    if kind == "number":
        return (_near_unit(value) if column.name == "score" else value), wrong
    whole = ((value == value.floor()) & (value.abs() <= WHOLE_LIMITS.get(column.name, WHOLE_LIMIT))).fill_null(False)
    return value.set(~whole, None).cast(pl.Int64), wrong | (known & ~whole)


def _near_unit(score: pl.Series) -> pl.Series:
    score = score.set(score.is_between(-TINY, 0), 0.0)
    return score.set(score.is_between(1, 1 + TINY), 1.0)
