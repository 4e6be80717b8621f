"""CSV and Parquet files as frames, with one clear line for whatever may be wrong with them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from responses_db.errors import LabError
from responses_db.importers.sources import Source, first_line, named

TROUBLE = (pa.ArrowException, OSError, ValueError, TypeError, NotImplementedError, OverflowError, MemoryError)


def read_table(source: Source) -> pl.DataFrame:
    """The whole file: CSV where its name ends in .csv (all columns as text), else Parquet."""
    return read_csv(source) if source.is_a(".csv") else read_parquet(source)


def read_csv(source: Source) -> pl.DataFrame:
    """All columns as text, so that a query_id of 007 stays what it is; an empty field is null."""
    content: Any = source.local or source.load()
    if content == b"":
        raise LabError(f"{source.name}: the file is empty")
    try:
        with panics_explained(source, "not readable as CSV"):
            frame = pl.read_csv(content, infer_schema=False)
    except pl.exceptions.NoDataError:
        raise LabError(f"{source.name}: the file is empty") from None
    except (pl.exceptions.PolarsError, *TROUBLE) as error:
        raise LabError(f"{source.name}: not readable as CSV ({first_line(error)})") from error
    return frame.rename({name: name.removeprefix("\ufeff") for name in frame.columns[:1]})


def read_parquet(source: Source, wanted: Callable[[str], bool] | None = None) -> pl.DataFrame:
    """The columns that are wanted, by their names (all, without it).

    By pyarrow and not polars: on a damaged file polars panics, and prints what no user can read.
    """
    content: Any = source.local or pa.py_buffer(source.load())
    _check_magic(source, content)
    try:
        with panics_explained(source, "damaged or cut-short Parquet, fetch it again"):
            return _from_parquet(source, content, wanted)
    except (pl.exceptions.PolarsError, *TROUBLE) as error:
        raise LabError(f"{source.name}: damaged or cut-short Parquet, fetch it again ({first_line(error)})") from error


def all_columns(source: Source, frame: pl.DataFrame) -> list[str]:
    """The names of all columns in the file that `frame` was read from, also of those that were not read."""
    if source.is_a(".csv"):
        return frame.columns
    return list(pq.read_schema(source.local or pa.BufferReader(source.load())).names)


def _from_parquet(source: Source, content: Any, wanted: Callable[[str], bool] | None) -> pl.DataFrame:
    file = content if source.local else pa.BufferReader(content)
    names = [name for name in pq.read_schema(file).names if wanted is None or wanted(name)]
    file = content if source.local else pa.BufferReader(content)
    table = pq.read_table(file, columns=names, page_checksum_verification=True)
    table.validate(full=True)  # finds text that is no UTF-8, which would crash later and elsewhere
    frame = pl.from_arrow(pa.table({name: table[name] for name in names}))  # without the file's own notes
    assert isinstance(frame, pl.DataFrame)
    return frame


def _check_magic(source: Source, content: Any) -> None:
    if source.local:
        with source.local.open("rb") as stream:
            head = stream.read(4)
    else:
        head = bytes(content[:4])
    if head != b"PAR1":
        raise LabError(f"{source.name} is no Parquet file (and its name does not end in .csv): give Parquet or CSV")


@contextmanager
def panics_explained(source: Source, what: str) -> Iterator[None]:
    """Polars' panics are no `Exception`: they pass every ordinary handler, but say no more than one."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise LabError(f"{source.name}: {what} ({first_line(error)})") from None


def need_columns(frame: pl.DataFrame, names: Sequence[str], source: Source, form: str) -> None:
    """Raise LabError where a column of the form is missing."""
    if missing := [name for name in names if name not in frame.columns]:
        has = named(*frame.columns[:8]) + (", …" if frame.width > 8 else "")
        lacks = named(*missing[:8]) + (", …" if len(missing) > 8 else "")
        raise LabError(f"{source.name}: no column {lacks}: not {form} (it has {has})")
