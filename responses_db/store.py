"""The store: one DuckDB file that holds queries, models, responses, scores and prices."""

import hashlib
import json
import platform
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata, resources
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import polars as pl

from responses_db.errors import LabError
from responses_db.hash_cache import HashCache

MIGRATIONS = [resources.files("responses_db").joinpath(name).read_text() for name in ("schema.sql", "schema_2.sql")]
"""SQL scripts, append-only: migration i takes a store from version i to i + 1."""

KEYS = {
    "queries": ["query_id"],
    "models": ["model_id"],
    "price_cards": ["model_id", "valid_from"],
    "responses": ["query_id", "model_id", "prompt_style", "sample_index"],
    "scores": ["response_id", "grader", "grader_version"],
}
"""Tables a writer may append to, with the columns that make a row unique."""

HASHED_COLUMNS = {
    "queries": "query_id, dataset, split, domain, messages, question, reference, grader, metadata",
    "models": "model_id, provider, metadata",
    "price_cards": "model_id, valid_from, input_usd_per_mtok, cached_input_usd_per_mtok, output_usd_per_mtok",
    "responses": "response_id, model_answered, text, finish_reason, max_tokens, input_tokens, cached_input_tokens, "
    "output_tokens, reasoning_tokens, mean_logprob, reported_cost_usd, provenance, status",
    "scores": "response_id, grader, grader_version, score, answer",
}
"""What the content hash covers: what was asked, answered, graded and paid; not when, nor how long it took to arrive."""


class ResponseStore:
    """A store opened for reading (the default, any number at a time) or for writing (one process at a time).

    Use it as a context manager. `con` is the DuckDB connection, for queries in SQL.
    Raises LabError when the file is missing, no store, of another version, or held by a writer.
    """

    def __init__(self, path: str | Path, *, write: bool = False) -> None:
        self.path = Path(path)
        self.write = write
        if not write and not self.path.exists():
            raise LabError(f"no store at {self.path}: fill one with `xrouter-sim harvest` or `xrouter-sim import`")
        self.con = self._connect(write)
        try:
            self._migrate(write)
        except BaseException:
            self.con.close()  # or this process would keep the file locked
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.con.close()

    def _connect(self, write: bool) -> duckdb.DuckDBPyConnection:
        is_new = not self.path.exists()
        try:
            if write:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            con = duckdb.connect(str(self.path), read_only=not write)
            with suppress(duckdb.InvalidInputException):  # in Jupyter without ipywidgets there is none to turn off
                con.execute("SET enable_progress_bar = false")  # it goes to stdout, where figures and JSON go
            return con
        except (duckdb.Error, OSError) as error:
            if is_new and self.path.is_file() and "lock on file" not in str(error):
                self.path.unlink()  # a full disk stops DuckDB halfway through the header; the rest is no database
            raise LabError(_why_not_opened(self.path, error)) from error

    def _migrate(self, write: bool) -> None:
        tables = set(self.frame("SELECT table_name FROM duckdb_tables() WHERE NOT internal")["table_name"])
        version = 0
        if "migrations" in tables:
            (version,) = self._one("SELECT coalesce(max(version), 0) FROM migrations")
        elif tables:
            raise LabError(f"{self.path} is a DuckDB file but no store (no table `migrations`): give another --db")
        if version > len(MIGRATIONS):
            raise LabError(f"{self.path} has schema version {version}, newer than this program: upgrade xrouter-sim")
        if version < len(MIGRATIONS) and not write:
            if not version:
                raise LabError(f"{self.path} is empty: any harvest or import brings it up to date")
            cure = f"`xrouter-sim store upgrade --db {self.path}`, or any harvest or import, brings it up to date"
            raise LabError(f"{self.path} has the older schema {version}: {cure}")
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            with self.transaction():
                self.con.execute(
                    "CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY, applied TIMESTAMPTZ)"
                )
                self.con.execute(script)
                self.con.execute("INSERT INTO migrations VALUES (?, now())", [number])

    def _one(self, sql: str, parameters: list[Any] | None = None) -> tuple[Any, ...]:
        row: tuple[Any, ...]
        with self.errors_explained():
            (row,) = self.con.execute(sql, parameters).fetchall()
        return row

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. What DuckDB cannot write (full disk, broken constraint) becomes a LabError."""
        with self.errors_explained():
            self.con.execute("BEGIN")
            try:
                yield
                self.con.execute("COMMIT")
            except BaseException:
                with suppress(duckdb.Error):  # a failed COMMIT has rolled back already
                    self.con.execute("ROLLBACK")
                raise

    @contextmanager
    def errors_explained(self) -> Iterator[None]:
        """For statements on `con`: DuckDB's errors become LabErrors of one line, and Ctrl-C a KeyboardInterrupt."""
        try:
            yield
        except RuntimeError as error:
            if "interrupted" in str(error):
                raise KeyboardInterrupt from error  # how DuckDB reports Ctrl-C
            raise
        except duckdb.Error as error:
            raise LabError(_why_failed(self.path, error)) from error

    def append(self, table: str, rows: pl.DataFrame) -> int:
        """Append rows to one of KEYS' tables; absent columns are null. Returns the number of rows.

        `responses` get their `response_id` and what is counted in their text here; `scores` may name their response by
        the key columns of its cell instead. Raises LabError on a duplicate key or a broken constraint.
        """
        if rows.is_empty():
            return 0
        values = {name: name for name in rows.columns}
        if table == "responses":
            values |= {"response_id": RESPONSE_ID_SQL} | _counted("text" if "text" in values else "NULL")
        elif table == "scores" and "response_id" not in values:
            values = {name: name for name in values if name not in KEYS["responses"]}
            values["response_id"] = RESPONSE_ID_SQL
        insert = f"INSERT INTO {table} ({', '.join(values)}) SELECT {', '.join(values.values())} FROM new_rows"
        with self.errors_explained():
            self.con.register("new_rows", rows.to_arrow())
            try:
                with self._any_order(rows.height):
                    self.con.execute(insert)
            finally:
                with suppress(duckdb.Error):  # in a failed transaction this fails too, and would hide the cause
                    self.con.unregister("new_rows")
        return rows.height

    @contextmanager
    def _any_order(self, rows: int) -> Iterator[None]:
        """Rows may land in any order: a large batch is then written once where DuckDB would write it twice."""
        if rows < LARGE_BATCH:
            yield
            return
        self.con.execute("SET preserve_insertion_order = false")
        try:
            yield
        finally:
            with suppress(duckdb.Error):
                self.con.execute("RESET preserve_insertion_order")

    def new_only(self, table: str, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows whose key is not in the table yet."""
        keys = KEYS[table]
        return rows.join(self.frame(f"SELECT {', '.join(keys)} FROM {table}"), on=keys, how="anti")

    def frame(self, sql: str, parameters: list[Any] | dict[str, Any] | None = None) -> pl.DataFrame:
        """The result of a query as a polars frame. Raises LabError when the file cannot be read."""
        with self.errors_explained():
            frame = pl.from_arrow(self.con.sql(sql, params=parameters).to_arrow_table())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def batches(self, sql: str, rows: int = 1 << 16) -> Iterator[pl.DataFrame]:
        """The result of a query in frames of at most about `rows` rows: the whole of it is never in memory."""
        with self.errors_explained():
            for batch in self.con.sql(sql).to_arrow_reader(rows):
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)
                yield frame

    def begin_run(self, kind: str, config: Mapping[str, Any]) -> str:
        """Note that a harvest or an import has begun. Returns its run_id."""
        run_id = f"{kind}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        row = [run_id, kind, json.dumps(config, default=str), json.dumps(versions()), datetime.now(UTC)]
        with self.errors_explained():
            self.con.execute("INSERT INTO runs VALUES (?, ?, ?, ?, NULL, ?, NULL)", row)
        return run_id

    def end_run(self, run_id: str, counts: Mapping[str, Any]) -> None:
        """Note what a run did."""
        sql = "UPDATE runs SET counts = ?, ended_at = ? WHERE run_id = ?"
        with self.errors_explained():
            self.con.execute(sql, [json.dumps(counts), datetime.now(UTC), run_id])

    def content_hash(self) -> str:
        """SHA-256 (hex) of the rows, whatever their order: equal answers and grades give equal hashes.

        It reads every text, so a reader takes it from the `HashCache` when the file is as it was then.
        """
        cache = None if self.write else HashCache(self.path)
        if cache and (known := cache.get()):
            return known
        found = self.compute_hash()
        if cache:
            cache.put(found)
        return found

    def compute_hash(self) -> str:
        """The content hash from the rows themselves, with no look at the cache."""
        digest = hashlib.sha256()
        for table, columns in HASHED_COLUMNS.items():
            row = f"md5_number(to_json(struct_pack({columns}))::VARCHAR)"
            count, digest_of_rows = self._one(f"SELECT count(*), bit_xor({row}) FROM {table}")
            digest.update(f"{table} {count} {digest_of_rows}\n".encode())
        return digest.hexdigest()


RESPONSE_ID_SQL = "md5(concat_ws(chr(31), query_id, model_id, prompt_style, sample_index))"

LARGE_BATCH = 100_000
"""Rows; about DuckDB's row group, below which its order costs nothing."""


def _counted(text: str) -> dict[str, str]:
    return {"text_length": f"length(coalesce({text}, ''))", "hedges": f"hedges_in({text})"}


def versions() -> dict[str, str]:
    """Versions that may change a result: ours, Python's and those of the core packages."""
    names = ("xrouter-sim", "duckdb", "polars", "numpy", "scipy", "torch", "scikit-learn")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}


def _why_not_opened(path: Path, error: Exception) -> str:
    text = _first_line(error)
    if "lock on file" in text:
        holder = re.search(r"PID \d+", text)
        by = f"another process ({holder.group()})" if holder else "another process"
        return f"{path} is in use by {by}: wait for it to end, or give another --db"
    if "different configuration" in text:
        return f"{path} is open in this process already, for reading or for writing: close it first"
    if re.search("not a valid DuckDB|(older|newer) version|Could not read", text):
        return f"{path} is no DuckDB file of this version: give another --db, or move the file away ({text})"
    return f"cannot open {path}: check that its folder exists, may be written to and has free space ({text})"


def _why_failed(path: Path, error: duckdb.Error) -> str:
    text = _first_line(error)
    if isinstance(error, duckdb.ConstraintException):
        return f"{path}: nothing was written, a row breaks a rule of the store: {text}"
    trouble = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.FatalException)
    if isinstance(error, trouble) or re.search("Could not (write|fsync)|No space|too large", text):
        return f"{path}: disk trouble; what was committed is kept: free some space and run again ({text})"
    return f"{path}: nothing was written: {text}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].split(" However, you")[0].split(" See also")[0]
