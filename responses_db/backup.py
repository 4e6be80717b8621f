"""A backup (`export` in the form `parquet`) back into a store: all of it, checked against its content hash."""

import json
from pathlib import Path
from typing import Any

import duckdb

from responses_db.errors import LabError
from responses_db.export import BACKUP_FORMAT
from responses_db.store import MIGRATIONS, ResponseStore

NOT_COPIED = {"migrations"}  # the new store has its own


def restore(folder: Path, db: Path) -> dict[str, int]:
    """Fill a new or empty store from a backup, in one transaction. Returns the rows by table.

    Raises LabError for a folder that is no backup or is damaged, and for a store that holds something: `store merge`
    is for that.
    """
    manifest = read_manifest(folder)
    was_there = db.exists()
    try:
        with ResponseStore(db, write=True) as store:
            return _fill(store, folder, manifest)
    except BaseException:
        if not was_there:
            db.unlink(missing_ok=True)
        raise


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a backup. Raises LabError where there is none, or it is of a newer program."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise LabError(f"{folder}: no backup (no manifest.json): `xrouter-sim store export --form parquet` writes one")
    try:
        manifest = json.loads(path.read_text("utf-8"))
        facts = {name: manifest[name] for name in ("format", "schema", "content_hash", "rows")}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LabError(f"{path}: damaged, or no manifest of a backup ({error})") from error
    if facts["format"] != BACKUP_FORMAT or not isinstance(facts["rows"], dict) or not isinstance(facts["schema"], int):
        raise LabError(f"{path}: no manifest of a backup")
    if facts["schema"] > len(MIGRATIONS):
        raise LabError(f"{folder} has schema version {facts['schema']}, newer than this program: upgrade xrouter-sim")
    return facts


def _fill(store: ResponseStore, folder: Path, manifest: dict[str, Any]) -> dict[str, int]:
    tables = {name for (name,) in store.frame("SELECT table_name FROM duckdb_tables() WHERE NOT internal").rows()}
    wanted = [table for table in manifest["rows"] if table not in NOT_COPIED]
    if unknown := sorted(set(wanted) - tables):
        raise LabError(f"{folder}: it has a table {unknown[0]}, which no store has")
    for table in sorted(tables - NOT_COPIED):
        if store.frame(f"SELECT count(*) FROM {table}").item():
            raise LabError(
                f"{store.path} holds {table} already: restore into a new --db, then `xrouter-sim store merge`"
            )
    with store.transaction():
        rows = {table: _load(store, folder / f"{table}.parquet", table) for table in wanted}
        if (
            rows != {table: manifest["rows"][table] for table in wanted}
            or store.content_hash() != manifest["content_hash"]
        ):
            raise LabError(f"{folder}: the backup is damaged: its rows are not those that its manifest names")
    return rows


def _load(store: ResponseStore, path: Path, table: str) -> int:
    if not path.is_file():
        raise LabError(f"{path}: missing, the backup is not whole")
    file = "'" + str(path).replace("'", "''") + "'"
    try:
        store.con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM read_parquet({file})")
        return int(store.frame(f"SELECT count(*) FROM {table}").item())
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise LabError(f"{path}: damaged, or not of this table ({reason})") from error
