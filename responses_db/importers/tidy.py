"""The tidy form: one row a response, in Parquet or CSV. Every other importer ends in it."""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from responses_db.errors import LabError

COLUMNS = {
    "dataset": "text",
    "split": "text",
    "domain": "text",
    "query_id": "text",
    "query": "text",
    "model": "text",
    "response": "text",
    "score": "number",
    "prompt_tokens": "whole number",
    "completion_tokens": "whole number",
    "cost_usd": "number",
    "reference": "text",
}
"""Columns that must be there, and what each holds. Where a source knows nothing, the column is null, not missing."""

OPTIONAL = {"question": "text", "prompt_style": "text", "sample_index": "whole number", "provenance": "text"}
"""Columns that may be there; any other column is not used."""

DTYPES = {"text": pl.String, "number": pl.Float64, "whole number": pl.Int64}


def read(path: Path) -> pl.DataFrame:
    """The rows of a tidy file, known columns only, each of its own type; absent optional columns have their default.

    Raises LabError that names the file, the column, the type found and the type wanted.
    """
    if not path.is_file():
        raise LabError(f"{path}: no such file; give a Parquet or CSV file in the tidy form")
    frame = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise LabError(
            f"{path}: no column {', '.join(missing)}; the tidy form needs {', '.join(COLUMNS)} "
            "(where a source knows nothing: a column of nulls)"
        )
    typed = {name: _typed(frame[name], kind, path) for name, kind in (COLUMNS | OPTIONAL).items() if name in frame}
    return with_defaults(pl.DataFrame(typed))


def with_defaults(frame: pl.DataFrame) -> pl.DataFrame:
    """Fill what the optional columns mean when they are absent or null."""
    absent = [pl.lit(None, DTYPES[kind]).alias(name) for name, kind in OPTIONAL.items() if name not in frame.columns]
    return frame.with_columns(absent).with_columns(
        question=pl.coalesce("question", "query"),
        prompt_style=pl.col("prompt_style").fill_null("plain"),
        sample_index=pl.col("sample_index").fill_null(0),
        provenance=pl.col("provenance").fill_null("imported"),
    )


def unused_columns(path: Path) -> list[str]:
    """Columns of a tidy file that the import leaves aside."""
    if path.suffix.lower() == ".csv":
        names = pl.read_csv(path, n_rows=0, infer_schema=False).columns
    else:
        names = pq.read_schema(path).names
    return [name for name in names if name not in COLUMNS | OPTIONAL]


def _read_parquet(path: Path) -> pl.DataFrame:
    # pyarrow and not polars: on a damaged file polars panics, and prints what no user can read.
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            raise LabError(f"{path} is no Parquet file (and its name does not end in .csv): give Parquet or CSV")
    try:
        known = [name for name in pq.read_schema(path).names if name in COLUMNS | OPTIONAL]
        table = pq.read_table(path, columns=known, page_checksum_verification=True)
        table.validate(full=True)  # finds text that is no UTF-8, which would crash later and elsewhere
        frame = pl.from_arrow(pa.table({name: table[name] for name in known}))  # without the file's own notes
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LabError(f"{path}: damaged or cut-short Parquet, fetch it again ({_first_line(error)})") from error
    assert isinstance(frame, pl.DataFrame)
    return frame


def _read_csv(path: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(path, infer_schema=False)  # all text: a query_id of 007 stays what it is
    except pl.exceptions.NoDataError:
        raise LabError(f"{path}: the file is empty") from None
    except pl.exceptions.PolarsError as error:
        raise LabError(f"{path}: not readable as CSV ({_first_line(error)})") from error


def _typed(column: pl.Series, kind: str, path: Path) -> pl.Series:
    dtype, wanted = column.dtype, DTYPES[kind]
    is_csv = path.suffix.lower() == ".csv"
    fits = {
        "text": dtype in (pl.String, pl.Categorical, pl.Enum),
        "number": dtype.is_numeric() or is_csv,
        "whole number": dtype.is_numeric() or is_csv,
    }
    if dtype != pl.Null and not fits[kind]:
        raise LabError(f"{path}: column {column.name} holds {dtype}, wanted {kind} ({wanted}): convert it")
    # Through Float64, because whole numbers with gaps leave pandas as floats, and CSV as text.
    values = column if kind == "text" else column.cast(pl.Float64, strict=False)
    wrong = (values.is_null() & column.is_not_null()) if kind != "text" else pl.Series([False])
    if kind == "whole number":
        wrong = wrong | (values != values.floor()).fill_null(False)
    if wrong.any():
        row = wrong.arg_true()[0]
        raise LabError(f"{path}: column {column.name}, row {row + 1}: found {column[row]!r}, wanted a {kind}")
    return values.cast(wanted)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
