"""An import from start to end: gather, list what is rejected, land the rest in one transaction."""

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from responses_db.errors import LabError
from responses_db.importers.gather import Gathered, gather
from responses_db.importers.landing import Landed, land
from responses_db.importers.registry import IMPORTERS, Choices
from responses_db.importers.sources import first_line
from responses_db.store import ResponseStore

SURPRISE = "unexpectedly not readable as"
REJECT_COLUMNS = ["file", "row", "dataset", "query_id", "model", "reason"]


@dataclass(frozen=True)
class Imported:
    """What came of an import. `rejects_file` is null when nothing was rejected."""

    landed: Landed
    gathered: Gathered
    rejects_file: Path | None


def import_files(
    form: str,
    paths: Sequence[Path],
    db: Path,
    choices: Choices | None = None,
    *,
    rejects: Path | None = None,
    max_rejects: float | None = None,
) -> Imported:
    """Import files of a published form into the store at `db`: all their good rows in one transaction, or nothing.

    Rows that cannot be used are listed with their reason in `rejects` (beside the store, without it). `max_rejects` is
    the share of rows up to which that is accepted: 0 for the user's own tidy files, else anything short of all.
    Raises LabError when a file cannot be read, too many rows are rejected, or a row contradicts the store.
    """
    choices = choices or Choices()
    importer = IMPORTERS[form]
    most = (0.0 if importer.form.strict else 1.0) if max_rejects is None else max_rejects
    with _surprises_explained(paths, form):
        gathered = gather(importer.form, paths, choices, strict=importer.form.strict and most == 0)
    listed = _list_rejects(gathered, rejects, db, form)
    _check_share(gathered, most, paths, listed)
    config = {"form": form, "path": [str(path) for path in paths], "rejected": gathered.rejects.height}
    with ResponseStore(db, write=True) as store:
        landed = land(gathered.rows, store, config | asdict(choices))
    return Imported(landed, gathered, listed)


@contextmanager
def _surprises_explained(paths: Sequence[Path], form: str) -> Iterator[None]:
    """A file may hold what no importer thought of: the user gets a line, the fuzz takes it for a fault of ours."""
    try:
        yield
    except (
        pl.exceptions.PolarsError,
        pa.ArrowException,
        ValueError,
        OverflowError,
        RecursionError,
        MemoryError,
    ) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise LabError(f"{paths[0]}: {SURPRISE} {form} ({reason}): fetch it again, or report it") from error


def _check_share(gathered: Gathered, most: float, paths: Sequence[Path], listed: Path | None) -> None:
    name = f"{paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    if not gathered.read:
        raise LabError(f"{name}: the file has no rows")
    rejected = gathered.rejects.height
    if not rejected:
        return
    (reason, _), *_ = gathered.reasons()
    if gathered.rows.is_empty():
        raise LabError(f"{name}: none of {rejected:,} rows can be used, mostly: {reason}; all are listed in {listed}")
    if rejected > most * gathered.read:
        raise LabError(
            f"{name}: {rejected:,} of {gathered.read:,} rows are rejected, mostly: {reason}; they are listed in "
            f"{listed}; nothing was imported: mend the file, or allow more with a higher --max-rejects"
        )


def _list_rejects(gathered: Gathered, path: Path | None, db: Path, form: str) -> Path | None:
    """Write the list of rejected rows, whole or not at all. An empty list is written only where it is asked for."""
    if gathered.rejects.is_empty() and path is None:
        return None
    path = path or db.with_name(f"{db.stem}.{form}.rejects.csv")
    fresh = path.with_name(f"{path.name}.new")
    columns = ["_file", "_row", "dataset", "query_id", "model", "_fault"]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(REJECT_COLUMNS)
            if not gathered.rejects.is_empty():
                writer.writerows(gathered.rejects.select(columns).iter_rows())
        os.replace(fresh, path)
    except OSError as error:
        raise LabError(f"cannot write {path} ({error.strerror or error}): give another --rejects FILE") from error
    return path if not gathered.rejects.is_empty() else None
