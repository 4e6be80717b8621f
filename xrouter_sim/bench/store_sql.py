"""The plainest SQL that fills a replay's arrays, as a reference for the bench: no checks, and nothing may be missing.

It takes for granted what the loader finds out: that every query has one answer of every model under one prompt style,
one grade by one version of one grader, and that every model has one price card.
"""

from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt

CODES = """
JOIN (SELECT query_id, row_number() OVER (ORDER BY query_id) - 1 AS query FROM queries) USING (query_id)
JOIN (SELECT model_id, row_number() OVER (ORDER BY model_id) - 1 AS arm FROM models) USING (model_id)
JOIN price_cards USING (model_id)
LEFT JOIN scores USING (response_id)
"""

COST = "(input_tokens * input_usd_per_mtok + output_tokens * output_usd_per_mtok) / 1e6 AS cost_usd"

CORE_SQL = f"SELECT query, arm, score, {COST} FROM responses {CODES}"

SAME_SQL = f"""
SELECT query, arm, score, {COST}, input_tokens + output_tokens AS tokens, latency_s,
    CASE status WHEN 'ok' THEN 0 WHEN 'truncated' THEN 1 WHEN 'refused' THEN 2 WHEN 'failed' THEN 3 END AS status,
    coalesce(code, -1) AS answer, ln(1 + text_length) AS log_length, mean_logprob, hedges,
    (answer IS NOT NULL)::INTEGER AS has_answer
FROM responses {CODES}
LEFT JOIN (SELECT answer, row_number() OVER (ORDER BY answer) - 1 AS code FROM (SELECT DISTINCT answer FROM scores))
    USING (answer)
"""

EVIDENCE = ("log_length", "mean_logprob", "hedges", "has_answer")


def by_plain_sql(path: Path, sql: str) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays [Q, A] that the statement has columns for; `evidence` is [Q, A, 4] where it has those."""
    with duckdb.connect(str(path), read_only=True) as con:
        con.execute("SET enable_progress_bar = false")
        columns = con.sql(sql).fetchnumpy()
    query, arm = columns.pop("query"), columns.pop("arm")
    shape = int(query.max()) + 1, int(arm.max()) + 1
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for name, values in columns.items():
        whole = np.issubdtype(values.dtype, np.integer) and name not in EVIDENCE
        arrays[name] = np.empty(shape, np.int64 if whole else np.float64)
        arrays[name][query, arm] = values
    if set(EVIDENCE) <= arrays.keys():
        arrays["evidence"] = np.stack([arrays.pop(name) for name in EVIDENCE], axis=-1)
    return arrays
