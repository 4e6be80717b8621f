"""Two stores into one: equal rows once, new rows added, and rows that contradict each other named, not mixed.

Rows are equal when what the content hash covers is equal: who harvested an answer, when, and how long it took may
differ, and this store's own stay. What hangs on a contradicted row goes with it: where two stores mean different
queries by one id, the responses of one side are taken and those of the other are not; where two answers stand against
each other, so do their grades. Two rows are no contradiction where one says more: an answer replaces a failure in its
cell, and a finished run its unfinished self, whichever store has it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from responses_db.store import HASHED_COLUMNS, KEYS, ResponseStore

Keep = Literal["ours", "theirs"]

MERGE_KEYS = KEYS | {"responses": ["response_id"], "runs": ["run_id"]}
FACTS = {
    table: [name for name in columns.split(", ") if name not in MERGE_KEYS[table]]
    for table, columns in HASHED_COLUMNS.items()
} | {"runs": ["kind", "config", "versions", "counts", "started_at", "ended_at"]}
"""What must be equal under one key, by table."""

HANGING = ("scores", "responses")
"""Tables whose rows hang on a query's or a response's row."""

TABLES = ("queries", "models", "price_cards", "runs", "responses", "scores")


@dataclass(frozen=True)
class Merged:
    """What a merge did, in rows by table. `run_id` is null when nothing changed."""

    run_id: str | None
    added: dict[str, int]
    replaced: dict[str, int]  # ours went, theirs came under the same key
    removed: dict[str, int]  # ours went with a row of ours that was replaced
    equal: dict[str, int]
    conflicts: pl.DataFrame  # table, key, column, ours, theirs
    left_out: int  # responses of theirs that hang on a row of theirs that was not taken


def merge(store: ResponseStore, other: Path, keep: Keep | None = None) -> Merged:
    """Take what `other` has into `store` (opened for writing), in one transaction.

    Without `keep`, any contradiction stops the merge: the result then has `conflicts` and nothing was written. With
    it, the rows of that side stand. Merging a store with itself, or twice, changes nothing.
    Raises LabError when `other` is no store of this version.
    """
    if store.path.samefile(other):
        return Merged(None, {}, {}, {}, {table: _count(store, table) for table in TABLES}, NO_CONFLICTS, 0)
    with ResponseStore(other) as theirs:  # names what is wrong with the file, before it is attached
        config = {"other": str(other), "content_hash": theirs.content_hash(), "keep": keep}
    with _attached(store, other):
        _find_conflicts(store)
        conflicts = pl.concat([_listed(store, table) for table in TABLES])
        if not conflicts.is_empty() and keep is None:
            return Merged(None, {}, {}, {}, {}, conflicts, 0)
        with store.transaction():
            return _write(store, keep or "ours", config, conflicts)


NO_CONFLICTS = pl.DataFrame(schema=dict.fromkeys(["table", "key", "column", "ours", "theirs"], pl.String))


@contextmanager
def _attached(store: ResponseStore, other: Path) -> Iterator[None]:
    """The other store as `theirs`, read-only. Temporary tables with what was found go with it."""
    path = str(other).replace("'", "''")
    with store.errors_explained():
        store.con.execute(f"ATTACH '{path}' AS theirs (READ_ONLY)")
    try:
        yield
    finally:
        for table in (*(f"conflict_{table}" for table in TABLES), "taken", "dropped"):
            store.con.execute(f"DROP TABLE IF EXISTS temp.{table}")
        store.con.execute("DETACH theirs")


def _on(table: str, left: str = "o", right: str = "t") -> str:
    return " AND ".join(f"{left}.{name} = {right}.{name}" for name in MERGE_KEYS[table])


def _differ(table: str) -> str:
    return " OR ".join(f"o.{name} IS DISTINCT FROM t.{name}" for name in FACTS[table])


SAYS_MORE = {
    "responses": "NOT (o.status = 'failed') <> (t.status = 'failed')",
    "runs": "NOT (o.ended_at IS NULL) <> (t.ended_at IS NULL)",
}
"""Where only one of two rows is failed or unfinished, they are no contradiction."""


def _find_conflicts(store: ResponseStore) -> None:
    """Into temporary tables `conflict_TABLE`: the keys under which the stores contradict each other.

    Below a contradicted query, responses are not compared, nor scores below responses that differ.
    """
    same_query = "o.query_id NOT IN (SELECT query_id FROM conflict_queries)"
    same_answer = f"SELECT o.response_id FROM {_both('responses')} WHERE NOT ({_differ('responses')}) AND {same_query}"
    below = {"responses": same_query, "scores": f"o.response_id IN ({same_answer})"}
    with store.errors_explained():
        for table in TABLES:
            keys = ", ".join(f"o.{name}" for name in MERGE_KEYS[table])
            store.con.execute(
                f"""CREATE TEMP TABLE conflict_{table} AS SELECT {keys} FROM {table} o JOIN theirs.{table} t
                ON {_on(table)} WHERE ({_differ(table)})
                AND {SAYS_MORE.get(table, "true")} AND {below.get(table, "true")}"""
            )


def _listed(store: ResponseStore, table: str) -> pl.DataFrame:
    """One row a contradicted column."""
    key = f"concat_ws(' × ', {', '.join(f'c.{name}' for name in MERGE_KEYS[table])})"
    columns = [
        f"""SELECT '{table}' AS "table", {key} AS key, '{name}' AS "column", o.{name}::VARCHAR AS ours,
        t.{name}::VARCHAR AS theirs FROM conflict_{table} c JOIN {table} o ON {_on(table, "c", "o")}
        JOIN theirs.{table} t ON {_on(table, "c", "t")} WHERE o.{name} IS DISTINCT FROM t.{name}"""
        for name in FACTS[table]
    ]
    return store.frame(f"SELECT * FROM ({' UNION ALL '.join(columns)}) ORDER BY ALL").cast(pl.String)


def _write(store: ResponseStore, keep: Keep, config: Mapping[str, object], conflicts: pl.DataFrame) -> Merged:
    equal = {
        table: _one(store, f"SELECT count(*) FROM {_both(table)} WHERE NOT ({_differ(table)})") for table in TABLES
    }
    left_out = _choose_responses(store, keep)
    replaced = {table: _make_room(store, table, keep) for table in TABLES}
    removed = {table: _changed(store, f"DELETE FROM {table} WHERE response_id IN (FROM dropped)") for table in HANGING}
    again = _one(store, "SELECT count(*) FROM dropped SEMI JOIN taken USING (response_id)")
    replaced["responses"], removed["responses"] = again, removed["responses"] - again
    inserted = {table: _changed(store, f"INSERT INTO {table} BY NAME {_new_rows(table)}") for table in TABLES}
    added = {table: inserted[table] - replaced[table] for table in TABLES}
    run_id = None
    if any((*inserted.values(), *removed.values())):
        run_id = store.begin_run("merge", config)
        store.end_run(run_id, {table: count for table, count in added.items() if count})
    return Merged(run_id, added, replaced, removed, equal, conflicts, left_out)


def _both(table: str) -> str:
    return f"{table} o JOIN theirs.{table} t ON {_on(table)}"


def _new_rows(table: str) -> str:
    """What is to be taken of theirs, once there is room: scores only for answers that are theirs, or equal."""
    if table == "responses":
        return "FROM theirs.responses SEMI JOIN taken USING (response_id)"
    new = f"SELECT t.* FROM theirs.{table} t ANTI JOIN {table} o ON {_on(table)}"
    if table != "scores":
        return new
    same_query = "t.query_id NOT IN (SELECT query_id FROM conflict_queries)"
    same = f"SELECT t.response_id FROM {_both('responses')} WHERE NOT ({_differ('responses')}) AND {same_query}"
    return f"{new} WHERE t.response_id IN (FROM taken) OR t.response_id IN ({same})"


def _choose_responses(store: ResponseStore, keep: Keep) -> int:
    """Into `taken` the ids of their responses to add, into `dropped` ours to remove. Returns how many stay out.

    Theirs are taken where ours has none or a failure; below a contradicted query, and where two answers differ, all of
    one side are.
    """
    theirs_stand = str(keep == "theirs").lower()
    store.con.execute(
        f"""CREATE TEMP TABLE taken AS
        SELECT t.response_id FROM theirs.responses t LEFT JOIN responses o USING (response_id)
        WHERE CASE
            WHEN t.query_id IN (SELECT query_id FROM conflict_queries) THEN {theirs_stand}
            WHEN o.response_id IS NULL THEN true
            WHEN t.response_id IN (FROM conflict_responses) THEN {theirs_stand}
            ELSE o.status = 'failed' AND t.status <> 'failed' END"""
    )
    store.con.execute(
        f"""CREATE TEMP TABLE dropped AS SELECT response_id FROM responses WHERE response_id IN (FROM taken)
        OR ({theirs_stand} AND query_id IN (SELECT query_id FROM conflict_queries))"""
    )
    return _one(
        store,
        """SELECT count(*) FROM theirs.responses WHERE query_id IN (SELECT query_id FROM conflict_queries)
        AND response_id NOT IN (FROM taken)""",
    )


def _make_room(store: ResponseStore, table: str, keep: Keep) -> int:
    """Remove our rows that theirs are to replace under the same key. Returns their number."""
    count = 0
    if keep == "theirs" and table != "responses":
        on = _on(table, "c", "o")
        count += _changed(store, f"DELETE FROM {table} o WHERE EXISTS (FROM conflict_{table} c WHERE {on})")
    if table == "runs":
        finished = "FROM theirs.runs t WHERE t.run_id = o.run_id AND t.ended_at IS NOT NULL"
        count += _changed(store, f"DELETE FROM runs o WHERE o.ended_at IS NULL AND EXISTS ({finished})")
    return count


def _count(store: ResponseStore, table: str) -> int:
    return _one(store, f"SELECT count(*) FROM {table}")


def _changed(store: ResponseStore, sql: str) -> int:
    """Rows that an INSERT or a DELETE changed."""
    (row,) = store.con.execute(sql).fetchall()
    return int(row[0])


def _one(store: ResponseStore, sql: str) -> int:
    return int(store.frame(sql).item())
