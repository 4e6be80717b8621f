"""A store as files: a backup of every table, the tidy form, or the layout of a Hugging Face dataset.

DuckDB writes all of them itself, so a store of millions of rows does not pass through Python. It is written beside its
place and then moved there: whole or not at all.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from responses_db.errors import LabError
from responses_db.store import ResponseStore

BACKUP_FORMAT = "xrouter-sim backup"
SHARD_BYTES = 400_000_000
"""Hugging Face advises Parquet files of 300 to 500 MB."""

PARQUET = "FORMAT parquet, COMPRESSION zstd"

ONE_MESSAGE = "(json_array_length(q.messages) = 1 AND q.messages ->> '$[0].role' = 'user')"

TIDY_SQL = f"""
SELECT q.dataset, q.split, q.domain,
    CASE WHEN starts_with(g.query_id, q.dataset || '/') THEN substr(g.query_id, length(q.dataset) + 2)
        ELSE g.query_id END AS query_id,
    CASE WHEN {ONE_MESSAGE} THEN q.messages ->> '$[0].content' ELSE q.messages::VARCHAR END AS query,
    q.question, g.model_id AS model, g.text AS response, g.score, g.input_tokens AS prompt_tokens,
    g.output_tokens AS completion_tokens, g.cost_usd, q.reference, g.prompt_style, g.sample_index, g.provenance,
    g.status, g.error, g.finish_reason, g.model_answered, g.max_tokens, g.cached_input_tokens AS cached_prompt_tokens,
    g.reasoning_tokens, g.latency_s, g.mean_logprob
FROM graded g JOIN queries q USING (query_id)
"""
"""One row a response, in the tidy form: the latest grade, and the cost under the price card in force today."""

ORDER = "ORDER BY dataset, query_id, model, prompt_style, sample_index"  # equal stores give equal files

TIDY_LOSES = "the tidy form has no place for price cards (costs are those of today's), runs, graders and query metadata"


@dataclass
class Exported:
    """What was written: rows by table or split, and what the form could not carry, each in one line."""

    out: Path
    rows: dict[str, int]
    notes: list[str] = field(default_factory=list)


def export(store: ResponseStore, out: Path, form: str, *, replace: bool = False) -> Exported:
    """Write the store to `out` in one of FORMS. Raises LabError when `out` is there already or cannot be written."""
    if (out.exists() and not _is_empty_folder(out)) and not replace:
        raise LabError(f"{out} is there already: give another place, or say --replace")
    with _whole(out) as fresh:
        return FORMS[form](store, out, fresh)


def write_backup(store: ResponseStore, out: Path, fresh: Path) -> Exported:
    """Every table as one Parquet file, and a manifest with the content hash; `backup.restore` reads it back."""
    fresh.mkdir()
    tables = [table for (table,) in store.frame("SELECT table_name FROM duckdb_tables() WHERE NOT internal").rows()]
    rows = {
        table: _copy(store, f"SELECT * FROM {table}", fresh / f"{table}.parquet", PARQUET) for table in sorted(tables)
    }
    version = store.frame("SELECT max(version) FROM migrations").item()
    manifest = {"format": BACKUP_FORMAT, "schema": version, "content_hash": store.content_hash(), "rows": rows}
    (fresh / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    return Exported(out, {table: count for table, count in rows.items() if table != "migrations"})


def write_tidy(store: ResponseStore, out: Path, fresh: Path) -> Exported:
    """One file in the tidy form: CSV where the name ends in .csv (or .csv.gz), else Parquet."""
    csv = {".csv": "FORMAT csv, HEADER", ".gz": "FORMAT csv, HEADER, COMPRESSION gzip"}
    count = _copy(store, f"{TIDY_SQL} {ORDER}", fresh, csv.get(out.suffix.lower(), PARQUET))
    return Exported(out, {"responses": count}, [TIDY_LOSES, *_warnings(store)])


def write_hf(store: ResponseStore, out: Path, fresh: Path) -> Exported:
    """`data/SPLIT-00000-of-00001.parquet` in the tidy form and a card: `datasets.load_dataset(out)` reads it."""
    data = fresh / "data"
    data.mkdir(parents=True)
    splits = [split for (split,) in store.frame("SELECT DISTINCT split FROM graded ORDER BY split").rows()]
    rows = {split: _write_split(store, split, data) for split in splits}
    if not rows:
        raise LabError(f"{store.path} has no responses: a dataset needs some")
    from responses_db.dataset_card import dataset_card

    (fresh / "README.md").write_text(dataset_card(store, rows), "utf-8")
    return Exported(out, rows, [TIDY_LOSES, *_warnings(store)])


def _write_split(store: ResponseStore, split: str, data: Path) -> int:
    parts = data / "parts"
    options = f"{PARQUET}, FILE_SIZE_BYTES {SHARD_BYTES}"
    count = _copy(store, f"{TIDY_SQL} WHERE q.split = {_quoted(split)} {ORDER}", parts, options)
    shards = sorted(parts.iterdir(), key=lambda file: int("".join(filter(str.isdigit, file.stem)) or 0))
    for number, shard in enumerate(shards):
        shard.replace(data / f"{split}-{number:05}-of-{len(shards):05}.parquet")
    parts.rmdir()
    return count


FORMS: dict[str, Callable[[ResponseStore, Path, Path], Exported]] = {
    "parquet": write_backup,
    "tidy": write_tidy,
    "hf": write_hf,
}


def _warnings(store: ResponseStore) -> list[str]:
    """What a reader of the tidy form should know of these very rows."""
    ungraded = store.frame("SELECT count(*) FROM graded WHERE score IS NULL AND status <> 'failed'").item()
    several = store.frame(f"SELECT count(*) FROM queries q WHERE NOT coalesce({ONE_MESSAGE}, false)").item()
    notes = []
    if ungraded:
        notes.append(f"{ungraded:,} responses have no grade yet: their score is null, and an import rejects them")
    if several:
        notes.append(f"{several:,} queries are more than one user message: their `query` is the messages as JSON")
    return notes


def _copy(store: ResponseStore, select: str, path: Path, options: str) -> int:
    """Write the result of a query to a file (or a folder of them). Returns the number of rows."""
    (count,) = store.con.execute(f"COPY ({select}) TO {_quoted(str(path))} ({options})").fetchone() or (0,)
    return int(count)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """Gives a place beside `out` to write to, which then takes `out`'s place; nothing is left of it after a fault."""
    fresh, old = out.with_name(f"{out.name}.new"), out.with_name(f"{out.name}.old")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove(fresh)
        yield fresh
        if out.is_dir():  # a folder cannot be replaced in one step: the old one goes aside first
            _remove(old)
            out.rename(old)
        fresh.replace(out)
        _remove(old)
    except (OSError, duckdb.Error) as error:
        reason = " ".join(str(error).split())[:300]
        raise LabError(f"cannot write {out} ({reason}): free some space, or give another place") from error
    except RuntimeError as error:
        if "interrupted" in str(error):
            raise KeyboardInterrupt from error  # how DuckDB reports Ctrl-C
        raise
    finally:
        with suppress(OSError):
            _remove(fresh)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
