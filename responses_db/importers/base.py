"""What an importer is made of: what a user may choose, what a form says of itself, and loose rows.

A form's `read` turns one file into *loose rows*: columns named as in the tidy form, of whatever type the source has,
any of them absent. Columns that begin with an underscore say where a row is from and what is wrong with it:

* `_row`: the record's number in its file, from 1
* `_fault`: why the row cannot be used, null when nothing is wrong

All that is the same for every form (types, splits, repeated rows, checks, landing) follows in `gather` and `landing`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from responses_db.errors import LabError
from responses_db.importers.registry import Choices
from responses_db.importers.sources import Source

__all__ = ["Choices", "Form", "WrongFormError", "as_text", "faulty", "loose_rows", "plain", "stack"]


class WrongFormError(LabError):
    """A readable file of another form. In a folder it is passed over and named; alone it ends the import."""


def _unchanged(rows: pl.DataFrame, choices: Choices) -> pl.DataFrame:
    return rows


@dataclass(frozen=True)
class Form:
    """A published form: which files of a folder belong to it, and how one of them becomes loose rows.

    `finish` sees the typed rows of all files, before splits are given. A `strict` form is refused whole at the first
    faulty row: it is the user's own file, and can be mended.
    """

    dataset: str
    accepts: Callable[[str], bool]
    read: Callable[[Source, Choices], pl.DataFrame]
    finish: Callable[[pl.DataFrame, Choices], pl.DataFrame] = _unchanged
    strict: bool = False
    prepare: Callable[[Choices], Any] = lambda choices: None  # fails early where a choice cannot be honoured


def loose_rows(records: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Loose rows from dictionaries of anything: all values as text (see `plain`), one column a key."""
    if not records:
        return pl.DataFrame({"_row": []}, schema={"_row": pl.Int64})
    names = list(dict.fromkeys(name for record in records for name in record))
    columns: dict[str, list[str | None]] = {name: [] for name in names}
    for record in records:
        for name in names:
            columns[name].append(_plain_or_none(record, name))
    fault = [record.get("_fault") for record in records]
    frame = pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String))
    return frame.with_columns(_fault=pl.Series(fault, dtype=pl.String), _row=pl.col("_row").cast(pl.Int64))


def _plain_or_none(record: dict[str, Any], name: str) -> str | None:
    try:
        return plain(record.get(name))
    except UnicodeEncodeError:
        record["_fault"] = record.get("_fault") or f"{name}: the text is no valid Unicode (half a surrogate pair)"
        return None


def plain(value: Any) -> str | None:
    """A value as text: what JSON has as text stays itself, all else is written as JSON. None stays None.

    Raises UnicodeEncodeError for text that cannot be stored as UTF-8.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, default=str)
    if not value.isascii():
        value.encode()
    return str(value)


def faulty(row: int, reason: str) -> dict[str, Any]:
    """A record that could not be read at all."""
    return {"_row": row, "_fault": reason}


def as_text(column: pl.Series) -> pl.Series:
    """A column as text, whatever it holds."""
    if column.dtype == pl.String:
        return column
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object):
        return pl.Series(column.name, [plain(value) for value in column.to_list()], dtype=pl.String)
    return column.cast(pl.String)


def stack(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Loose rows of several models, one below the other; where their types differ, as text. What one lacks is null."""
    kinds: dict[str, set[pl.DataType]] = {}
    for frame in frames:
        for name, dtype in frame.schema.items():
            kinds.setdefault(name, set()).add(dtype)
    mixed = {name for name, dtypes in kinds.items() if len(dtypes - {pl.Null()}) > 1}
    alike = [frame.with_columns(as_text(frame[name]) for name in mixed & set(frame.columns)) for frame in frames]
    return pl.concat(alike, how="diagonal_relaxed")
