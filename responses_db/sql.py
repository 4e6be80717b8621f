"""Read-only SQL over a store for whoever asks: a query can neither write to the store nor reach a file or a network."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import polars as pl

from responses_db.errors import LabError
from responses_db.store import ResponseStore

LOCKS = (
    "SET python_enable_replacements = false",  # a table name is never a variable of this program
    "SET autoload_known_extensions = false",
    "SET autoinstall_known_extensions = false",
    "SET enable_external_access = false",  # no COPY, ATTACH, read_csv, INSTALL, LOAD
    "SET lock_configuration = true",  # and no way back
)

WRITERS = {".parquet": "(FORMAT parquet, COMPRESSION zstd)", ".csv": "(FORMAT csv, HEADER)"}


@contextmanager
def locked_store(path: Path) -> Iterator[ResponseStore]:
    """The store opened read-only and locked: whatever SQL it is given, no other file is read and none is written."""
    with ResponseStore(path) as store:
        for lock in LOCKS:
            store.con.execute(lock)
        yield store


def select(store: ResponseStore, sql: str) -> Iterator[pl.DataFrame]:
    """The rows of one statement, in frames; the first frame comes always, so that the columns are known.

    Raises LabError for wrong SQL, for more than one statement and for one without rows.
    """
    with _explained(store.path):
        reader = _relation(store, sql).to_arrow_reader(2048)
        first = pl.from_arrow(reader.schema.empty_table())
        assert isinstance(first, pl.DataFrame)
        yield first
        for batch in reader:
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)
            yield frame


def write(store: ResponseStore, sql: str, out: Path) -> int:
    """The rows of one statement into a Parquet or CSV file, by its name; returns their number. Replaces an older file.

    The file is written by a second connection that never sees the statement. Raises LabError as `select` does.
    """
    form = WRITERS.get(out.suffix.lower())
    if form is None:
        raise LabError(f"{out}: name a file that ends in {' or '.join(WRITERS)}")
    scratch = out.with_name(f"{out.name}.part")
    try:
        with _explained(store.path):
            reader = _relation(store, sql).to_arrow_reader(65_536)
            with duckdb.connect() as writer:
                writer.execute("SET enable_progress_bar = false")
                writer.register("found", reader)
                target = str(scratch).replace("'", "''")
                (rows,) = writer.execute(f"COPY (FROM found) TO '{target}' {form}").fetchall()[0]
        scratch.replace(out)
    finally:
        scratch.unlink(missing_ok=True)
    return int(rows)


def _relation(store: ResponseStore, sql: str) -> duckdb.DuckDBPyRelation:
    statements = store.con.extract_statements(sql)
    if len(statements) != 1:
        raise LabError(f"give one statement of SQL, not {len(statements)}")
    relation = store.con.sql(sql)
    if relation is None:
        raise LabError("this statement gives no rows: give a SELECT")
    return relation


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "interrupted" in str(error).lower():
            raise KeyboardInterrupt from error
        raise
    except duckdb.Error as error:
        if "interrupted" in str(error).lower():
            raise KeyboardInterrupt from error
        raise LabError(f"{path}: {_one_line(error)}") from error


def _one_line(error: duckdb.Error) -> str:
    """What is wrong, what DuckDB proposes, and for its blunt word on locks, that they are meant."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    hints = [line for line in lines[1:] if line.startswith(("Did you mean", "Candidate"))]
    text = "; ".join([lines[0], *hints[:1]])
    if isinstance(error, duckdb.PermissionException) or "read-only" in text or "configuration has been locked" in text:
        text += " (queries here only read this store; to write the result use --out FILE)"
    elif isinstance(error, duckdb.CatalogException) and not hints:
        text += "; `SHOW TABLES` lists what there is"
    return text
