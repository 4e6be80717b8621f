"""Grades for stored responses that lack one of their grader's current version. No model is asked for its answer again.

Grades are rows of their own, by grader and version. What a version said stays, so it can be told what another changed.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from responses_db.errors import LabError
from responses_db.graders import GRADERS, JUDGE, grade
from responses_db.query import Query, query_of
from responses_db.store import ResponseStore

BATCH = 500
"""Responses graded and committed at a time: what a stop in the middle can lose."""

IMPORTED = "imported"
"""The grader of queries whose scores came with their data."""


SCORE_TYPES = {
    "response_id": pl.String,
    "grader": pl.String,
    "grader_version": pl.Int32,
    "score": pl.Float64,
    "answer": pl.String,
}

PENDING = """
SELECT r.response_id FROM responses r JOIN queries q USING (query_id)
LEFT JOIN scores s ON s.response_id = r.response_id AND s.grader = $grader AND s.grader_version = $version
WHERE r.status <> 'failed' AND s.response_id IS NULL AND {scope}
ORDER BY r.query_id, r.response_id
"""
"""By query, so that a batch needs few of them."""

Progress = Callable[[int, int], None]
"""Called with the responses done since the last call, and how many there are in all."""


@dataclass
class Grading:
    """How many responses were graded, how many could not be, and why the first could not.

    `awaiting` counts those whose grader is a judge: only `store regrade --judge` asks one.
    """

    graded: int = 0
    ungraded: int = 0
    awaiting: int = 0
    first_error: str = ""

    def score_row(self, response_id: str, text: str | None, query: Query) -> dict[str, Any] | None:
        """A row of `scores`, or None when the grader cannot tell: that is counted, and never a zero."""
        if query.grader == JUDGE:
            self.awaiting += 1
            return None
        row = try_to_grade(query.grader, response_id, text, query)
        return row if self.counts(row) else None

    def counts(self, row: dict[str, Any]) -> bool:
        """Count a row of `try_to_grade`. Whether it is a grade."""
        if "error" in row:
            self.ungraded += 1
            self.first_error = self.first_error or row["error"]
            return False
        self.graded += 1
        return True


def try_to_grade(name: str, response_id: str, text: str | None, query: Query) -> dict[str, Any]:
    """A row of `scores` by the grader of this name; {"error": why} when it cannot tell. Any thread may call it."""
    grader = GRADERS[name]
    try:
        verdict = grade(grader, text, query)
    except Exception as error:  # whatever a scorer raises
        why = str(error) if isinstance(error, LabError) else repr(error)
        return {"error": f"{query.query_id}: {grader.name}: {why}"}
    return score_row(response_id, grader.name, grader.version, verdict.score, verdict.answer)


def score_row(response_id: str, grader: str, version: int, score: float, answer: str | None) -> dict[str, Any]:
    return {
        "response_id": response_id,
        "grader": grader,
        "grader_version": version,
        "score": score,
        "answer": answer,
    }


def regrade(store: ResponseStore, queries: Mapping[str, Query]) -> Grading:
    """Grade what has no grade of the current version, for these queries (by id). What a harvest does first."""
    grading = Grading()
    for name in sorted({query.grader for query in queries.values()} - {JUDGE, IMPORTED}):
        scope = Scope(name)
        for batch in batches(store, pending(store, scope, GRADERS[name].version)):
            own = [
                (response_id, text, queries[query.query_id])
                for response_id, text, query in batch
                if query.query_id in queries
            ]
            rows = [row for row in _graded(name, own, jobs=None) if grading.counts(row)]
            with store.transaction():
                store.append("scores", pl.DataFrame(rows, SCORE_TYPES))
    return grading


@dataclass(frozen=True)
class Scope:
    """Whose responses a grader grades: those of its own queries, or of all queries of a dataset or domain."""

    grader: str
    dataset: str | None = None
    domain: str | None = None
    beside: bool = False
    """Also where the query names another grader: then its grades stand beside, and do not count."""

    def sql(self) -> tuple[str, dict[str, Any]]:
        parts = {"q.dataset = $dataset": self.dataset, "q.domain = $domain": self.domain}
        parts |= {} if self.beside else {"q.grader = $grader": self.grader}
        given = {part: value for part, value in parts.items() if value is not None}
        return " AND ".join(given) or "true", {part.split("$")[1]: value for part, value in given.items()}


def pending(store: ResponseStore, scope: Scope, version: int) -> list[str]:
    """Ids of the responses without a grade of this version."""
    where, parameters = scope.sql()
    parameters |= {"grader": scope.grader, "version": version}
    return store.frame(PENDING.format(scope=where), parameters)["response_id"].to_list()


def batches(store: ResponseStore, ids: Sequence[str]) -> Iterator[list[tuple[str, str | None, Query]]]:
    """(response id, text, query), BATCH at a time, in the order of the ids."""
    for start in range(0, len(ids), BATCH):
        sql = """
        SELECT r.response_id, r.text, q.* FROM responses r JOIN queries q USING (query_id)
        WHERE r.response_id IN (SELECT unnest(?)) ORDER BY r.query_id, r.response_id
        """
        queries = dict[str, Query]()
        batch = []
        for row in store.frame(sql, [list(ids[start : start + BATCH])]).iter_rows(named=True):
            query = queries.setdefault(row["query_id"], queries.get(row["query_id"]) or query_of(row))
            batch.append((row["response_id"], row["text"], query))
        yield batch


@dataclass
class Regraded:
    """What one grader did. `changed` compares with what its previous version said: `up` and `down` count scores that
    crossed 0.5, `shifted` others that moved, `same` and `new` (it had said nothing). `examples` are some that crossed.

    `agrees` and `differs` compare with the queries' own grader, where this one stands beside it.
    """

    grader: str
    version: int
    pending: int
    grading: Grading = field(default_factory=Grading)
    changed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(["same", "up", "down", "shifted", "new"], 0))
    examples: list[dict[str, Any]] = field(default_factory=list)
    agrees: int = 0
    differs: int = 0

    def facts(self) -> dict[str, Any]:
        """Flat, for the table `runs` and for JSON."""
        return {key: value for key, value in vars(self).items() if key != "grading"} | vars(self.grading)


def regrade_with(
    store: ResponseStore, scope: Scope, jobs: int | None, progress: Progress, limit: int | None
) -> Regraded:
    """Grade by one registered grader whatever lacks its current version, batch by batch, each committed."""
    version = GRADERS[scope.grader].version
    ids = pending(store, scope, version)[:limit]
    done = Regraded(scope.grader, version, len(ids))
    for batch in batches(store, ids):
        rows = [row for row in _graded(scope.grader, batch, jobs) if done.grading.counts(row)]
        keep(store, done, rows)
        progress(len(batch), len(ids))
    return done


def keep(store: ResponseStore, done: Regraded, rows: list[dict[str, Any]]) -> None:
    """Commit grades in one transaction, and note what they change."""
    frame = pl.DataFrame(rows, SCORE_TYPES)
    _compare(store, done, frame)
    with store.transaction():
        store.append("scores", frame)


def set_grader(store: ResponseStore, scope: Scope) -> int:
    """Let this grader be the one that counts for a dataset or domain. Returns how many queries changed theirs."""
    where, parameters = scope.sql()
    sql = f"SELECT count(*) FROM queries q WHERE {where} AND q.grader <> $name"
    changed = int(store.frame(sql, parameters | {"name": scope.grader}).item())
    with store.transaction():
        store.con.execute(f"UPDATE queries q SET grader = $name WHERE {where}", parameters | {"name": scope.grader})
    return changed


def _graded(name: str, batch: Sequence[tuple[str, str | None, Query]], jobs: int | None) -> list[dict[str, Any]]:
    if not GRADERS[name].waits:
        return [try_to_grade(name, *item) for item in batch]
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        return list(pool.map(lambda item: try_to_grade(name, *item), batch))


BEFORE = """
SELECT s.response_id, arg_max(s.score, s.grader_version) AS before FROM scores s
WHERE s.response_id IN (SELECT unnest($ids)) AND s.grader = $grader AND s.grader_version < $version GROUP BY ALL
"""
OWN = """
SELECT g.response_id, g.score AS own FROM graded g JOIN queries q USING (query_id)
WHERE g.response_id IN (SELECT unnest($ids)) AND q.grader <> $grader AND g.score IS NOT NULL
"""


def _compare(store: ResponseStore, done: Regraded, rows: pl.DataFrame) -> None:
    """Count what the new grades change."""
    known: dict[str, Any] = {"ids": rows["response_id"].to_list(), "grader": done.grader}
    before: dict[str, float] = dict(store.frame(BEFORE, known | {"version": done.version}).iter_rows())
    own: dict[str, float] = dict(store.frame(OWN, known).iter_rows())
    for response_id, score in rows.select("response_id", "score").iter_rows():
        kind = _change(before.get(response_id), score)
        done.changed[kind] += 1
        if kind in ("up", "down") and len(done.examples) < 5:
            done.examples.append({"response_id": response_id, "before": before[response_id], "now": score})
        if response_id in own:
            same = (own[response_id] >= 0.5) == (score >= 0.5)
            done.agrees += same
            done.differs += not same


def _change(before: float | None, now: float) -> str:
    if before is None:
        return "new"
    if (before >= 0.5) != (now >= 0.5):
        return "up" if now > before else "down"
    return "same" if abs(before - now) < 1e-9 else "shifted"
