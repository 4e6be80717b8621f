"""What a store has answers for: model × prompt style against domains (or splits, or datasets), with what went wrong."""

from typing import Any

from responses_db.store import ResponseStore

COLUMNS = ("domain", "split", "dataset")
"""What the queries may be grouped by."""

COUNTS_SQL = """
WITH cell AS (
    SELECT r.query_id, model_id, prompt_style, q.{by} AS part, count(*) AS responses,
        count(*) FILTER (status <> 'failed') AS answers, count(*) FILTER (status = 'failed') AS failed,
        count(*) FILTER (status = 'truncated') AS truncated, count(*) FILTER (status = 'refused') AS refused,
        count(*) FILTER (status <> 'failed' AND score IS NULL) AS ungraded
    FROM graded r JOIN queries q USING (query_id) GROUP BY ALL
)
SELECT model_id, prompt_style, part, count(*) FILTER (answers > 0) AS filled, sum(responses)::BIGINT AS responses,
    sum(failed)::BIGINT AS failed, sum(truncated)::BIGINT AS truncated, sum(refused)::BIGINT AS refused,
    sum(ungraded)::BIGINT AS ungraded
FROM cell GROUP BY ALL
"""

COMPLETE_SQL = """
WITH filled AS (SELECT DISTINCT query_id, model_id, prompt_style FROM responses SEMI JOIN queries USING (query_id))
SELECT count(*) FROM (SELECT query_id FROM filled GROUP BY query_id HAVING count(*) =
    (SELECT count(DISTINCT model_id) * count(DISTINCT prompt_style) FROM filled))
"""

COUNTED = ("filled", "responses", "failed", "truncated", "refused", "ungraded")


def coverage(store: ResponseStore, by: str = "domain") -> dict[str, Any]:
    """All that `store coverage` prints, as plain data.

    A cell is a (query, model, prompt style); it is filled when it has an answer or more that did not fail. Every model
    of the store is crossed with every prompt style in it, so what was never asked shows as empty. Each entry of `arms`
    has its `parts` in the order of `columns`, and `all`; both with the number of queries and of COUNTED.
    `complete_queries` have a response in every cell of the models and styles that have any: a replay takes these.
    """
    columns = store.frame(f"SELECT {by} AS part, count(*) AS queries FROM queries GROUP BY 1 ORDER BY 1").rows()
    found = {(row["model_id"], row["prompt_style"], row["part"]): row for row in _rows(store, by)}
    arms = [_arm(model, style, columns, found) for model, style in _arms(store)]
    possible = sum(arm["all"]["queries"] for arm in arms)
    filled = sum(arm["all"]["filled"] for arm in arms)
    return {
        "path": str(store.path),
        "by": by,
        "columns": [{"name": name, "queries": queries} for name, queries in columns],
        "arms": arms,
        "cells_filled": filled,
        "cells_possible": possible,
        "share": filled / possible if possible else None,
        "complete_queries": store.frame(COMPLETE_SQL).item(),
        "queries": sum(queries for _, queries in columns),
    } | {name: sum(arm["all"][name] for arm in arms) for name in COUNTED[1:]}


def _rows(store: ResponseStore, by: str) -> list[dict[str, Any]]:
    return store.frame(COUNTS_SQL.format(by=by)).to_dicts()


def _arms(store: ResponseStore) -> list[tuple[Any, ...]]:
    sql = """
    WITH style AS (SELECT DISTINCT prompt_style FROM responses),
        model AS (SELECT model_id FROM models UNION SELECT model_id FROM responses)
    SELECT model_id, coalesce(prompt_style, '') FROM model LEFT JOIN style ON true ORDER BY 1, 2
    """
    return store.frame(sql).rows()


def _arm(
    model: str, style: str, columns: list[tuple[Any, ...]], found: dict[tuple[str, str, str], dict[str, Any]]
) -> dict[str, Any]:
    parts = []
    for name, queries in columns:
        row = found.get((model, style, name), {})
        parts.append({"name": name, "queries": queries} | {count: row.get(count, 0) for count in COUNTED})
    total = {count: sum(part[count] for part in parts) for count in ("queries", *COUNTED)}
    return {"model_id": model, "prompt_style": style, "parts": parts, "all": total}
