"""Grades for stored responses that lack one: a grader crashed, or grew a new version. Nothing is asked for this."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from responses_db.graders import GRADERS, grade
from responses_db.query import Query
from responses_db.store import ResponseStore

SCORE_TYPES = {
    "response_id": pl.String,
    "grader": pl.String,
    "grader_version": pl.Int32,
    "score": pl.Float64,
    "answer": pl.String,
}

UNGRADED = """
SELECT r.response_id, r.query_id, r.text FROM responses r JOIN queries q USING (query_id)
LEFT JOIN scores s ON s.response_id = r.response_id AND s.grader = q.grader AND s.grader_version = ?
WHERE q.grader = ? AND r.status <> 'failed' AND s.response_id IS NULL
"""


@dataclass
class Grading:
    """How many responses were graded, how many could not be, and why the first could not."""

    graded: int = 0
    ungraded: int = 0
    first_error: str = ""

    def score_row(self, response_id: str, text: str | None, query: Query) -> dict[str, Any] | None:
        """A row of `scores`, or None when the grader cannot tell: that is counted, and never a zero."""
        grader = GRADERS[query.grader]
        try:
            verdict = grade(grader, text, query)
        except Exception as error:  # whatever a scorer raises
            self.ungraded += 1
            self.first_error = self.first_error or f"{query.query_id}: {grader.name}: {error!r}"
            return None
        self.graded += 1
        return {
            "response_id": response_id,
            "grader": grader.name,
            "grader_version": grader.version,
            "score": verdict.score,
            "answer": verdict.answer,
        }


def regrade(store: ResponseStore, queries: Mapping[str, Query]) -> Grading:
    """Grade what has no grade of the current version, for these queries (by id), in one transaction."""
    grading, rows = Grading(), list[dict[str, Any]]()
    for name in sorted({query.grader for query in queries.values()}):
        for response_id, query_id, text in store.frame(UNGRADED, [GRADERS[name].version, name]).iter_rows():
            if query_id in queries and (row := grading.score_row(response_id, text, queries[query_id])):
                rows.append(row)
    if rows:
        with store.transaction():
            store.append("scores", pl.DataFrame(rows, SCORE_TYPES))
    return grading
