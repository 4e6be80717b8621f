"""Looks for what must not be in a store: broken rules, orphans, wrong ids, stale counts, unreadable rows.

Everything is computed anew from the rows; neither the database's own constraints nor its indexes are taken on trust.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from responses_db.errors import LabError
from responses_db.graders import GRADERS
from responses_db.hash_cache import HashCache
from responses_db.store import KEYS, RESPONSE_ID_SQL, ResponseStore

IMPORTED = "imported"
"""The grader of queries whose scores came with the data."""


@dataclass(frozen=True)
class Finding:
    """Something found: in how many rows, with some of their keys. A note may be meant so; the rest is wrong."""

    check: str
    what: str
    count: int
    examples: list[str]
    note: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "level": "note" if self.note else "wrong",
            "what": self.what,
            "count": self.count,
            "examples": self.examples,
        }


@dataclass(frozen=True)
class Check:
    """A statement that gives the keys of the rows at fault in its first column."""

    name: str
    what: str
    sql: str
    note: bool = False


CHECKS = [
    Check("response-id", "responses whose id is not the md5 of their cell", f"""
        SELECT response_id FROM responses WHERE response_id <> {RESPONSE_ID_SQL}"""),
    Check("cell", "cells (query, model, prompt style, sample) that stand twice", """
        SELECT concat_ws(' × ', query_id, model_id, prompt_style, sample_index) FROM responses
        GROUP BY query_id, model_id, prompt_style, sample_index HAVING count(*) > 1"""),
    Check("orphan-query", "responses to a query that is not there: no figure counts them", """
        SELECT response_id FROM responses ANTI JOIN queries USING (query_id)"""),
    Check("orphan-model", "responses of a model that is not there", """
        SELECT response_id FROM responses ANTI JOIN models USING (model_id)"""),
    Check("orphan-run", "responses of a run that is not there: nobody can say where they came from", """
        SELECT response_id FROM responses ANTI JOIN runs USING (run_id)"""),
    Check("orphan-score", "scores without their response", """
        SELECT response_id FROM scores ANTI JOIN responses USING (response_id)"""),
    Check("text-counts", "responses whose text was changed without counting again (text_length, hedges)", """
        SELECT response_id FROM responses
        WHERE text_length <> length(coalesce(text, '')) OR hedges <> hedges_in(text)"""),
    Check("tokens", "responses with more cached than input tokens, or more reasoning than output tokens", """
        SELECT response_id FROM responses
        WHERE cached_input_tokens > input_tokens OR reasoning_tokens > output_tokens"""),
    Check("failed-score", "failed responses that have a score", """
        SELECT response_id FROM scores SEMI JOIN (FROM responses WHERE status = 'failed') USING (response_id)"""),
    Check("grader", "queries with a grader that this program does not know: they cannot be graded again", f"""
        SELECT query_id FROM queries WHERE grader NOT IN ({', '.join(f"'{name}'" for name in (*GRADERS, IMPORTED))})
        """, note=True),
    Check("ungraded", "responses without a grade: a replay refuses them", """
        SELECT response_id FROM graded WHERE score IS NULL AND status <> 'failed'""", note=True),
    Check("price-gap", "models with responses of unknown cost (no card, no price in it, or no tokens)", """
        SELECT model_id FROM priced WHERE cost_usd IS NULL AND status <> 'failed' GROUP BY 1""", note=True),
    Check("price-model", "price cards of a model that is not there", """
        SELECT model_id FROM price_cards ANTI JOIN models USING (model_id)""", note=True),
    Check("unfinished-run", "runs that were cut short, or are going on", """
        SELECT run_id FROM runs WHERE ended_at IS NULL""", note=True),
    Check("clock", "runs that ended before they began: the clock was moved back", """
        SELECT run_id FROM runs WHERE ended_at < started_at""", note=True),
]  # fmt: skip


def verify(store: ResponseStore) -> list[Finding]:
    """All that is found, the wrong first; empty for a store that is right in every respect."""
    found = [*_unreadable(store)]
    if not found:
        checks = [*CHECKS, *_rules(store), *_keys(), *_json()]
        found = [finding for check in checks if (finding := _run(check, store))] + [*_hash(store)]
    return sorted(found, key=lambda finding: finding.note)


def _run(check: Check, store: ResponseStore, shown: int = 5) -> Finding | None:
    keys = store.frame(f"SELECT key::VARCHAR AS key FROM ({check.sql}) AS faults(key) ORDER BY 1")["key"]
    if keys.is_empty():
        return None
    return Finding(check.name, check.what, len(keys), keys.head(shown).to_list(), check.note)


def _unreadable(store: ResponseStore) -> Iterator[Finding]:
    """Every column of every row is read, so a block that the disk has damaged is met."""
    for (table,) in store.frame("SELECT table_name FROM duckdb_tables() WHERE NOT internal ORDER BY 1").rows():
        try:
            store.frame(f"SELECT bit_xor(hash(t)) FROM {table} AS t")
        except LabError as error:
            yield Finding("unreadable", f"table {table} cannot be read: {error}", 1, [table])


RULES_SQL = """
SELECT table_name, constraint_type, coalesce(expression, '') AS expression, constraint_column_names AS columns
FROM duckdb_constraints() WHERE constraint_type IN ('CHECK', 'NOT NULL') AND table_name <> 'migrations'
"""


def _rules(store: ResponseStore) -> Iterator[Check]:
    """The CHECK and NOT NULL rules of the schema, applied to the rows as they are."""
    for table, kind, expression, columns in store.frame(RULES_SQL).rows():
        rule = f"NOT ({expression})" if kind == "CHECK" else f"{columns[0]} IS NULL"
        what = expression if kind == "CHECK" else f"{columns[0]} is never null"
        yield Check("rule", f"{table} that break: {what}", f"SELECT {_key(table)} FROM {table} WHERE {rule}")


def _keys() -> Iterator[Check]:
    for table in (*KEYS, "runs"):
        key = _key(table)
        sql = f"SELECT {key} AS key FROM {table} GROUP BY key HAVING count(*) > 1"
        yield Check("key", f"keys of {table} that stand twice", sql)


JSON_COLUMNS = {"queries": ["messages", "metadata"], "models": ["metadata"], "runs": ["config", "versions", "counts"]}


def _json() -> Iterator[Check]:
    for table, columns in JSON_COLUMNS.items():
        for column in columns:
            bad = f"SELECT {_key(table)} FROM {table} WHERE NOT json_valid({column}::VARCHAR)"
            yield Check("json", f"{table} whose {column} is no JSON", bad)


def _key(table: str) -> str:
    columns = {"runs": ["run_id"], "responses": ["response_id"]}.get(table) or KEYS[table]
    return f"concat_ws(' × ', {', '.join(columns)})"


def _hash(store: ResponseStore) -> Iterator[Finding]:
    """Whether the remembered content hash, if there is one for this state of the file, is that of the rows."""
    noted = HashCache(store.path).get()
    if noted is not None and noted != store.compute_hash():
        yield Finding("hash", f"the content hash noted beside the store is wrong: delete {store.path}.hash", 1, [noted])
