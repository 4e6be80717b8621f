"""What a store holds: counts, coverage, accuracy and cost by model and domain, provenance, prices, runs."""

import json
from typing import Any

from responses_db.store import ResponseStore

TABLES = ("queries", "models", "responses", "scores", "price_cards", "runs")

FIGURES = """
count(*) AS responses, avg(coalesce(score, 0)) AS accuracy, avg(cost_usd) AS mean_cost_usd,
count(cost_usd) / count(*) AS cost_known, count(answer) / count(*) AS answer_read
"""
"""Failed and ungraded responses count as wrong; a mean cost is over the responses whose cost is known."""


def describe(store: ResponseStore) -> dict[str, Any]:
    """All that `store info` prints, as plain data. Costs in USD a response, shares in [0, 1], null where unknown."""
    counts = {table: store.frame(f"SELECT count(*) FROM {table}").item() for table in TABLES}
    return {
        "path": str(store.path),
        "schema_version": store.frame("SELECT max(version) FROM migrations").item(),
        "content_hash": store.content_hash(),
        "counts": counts,
        "splits": _tally(store, "SELECT split, count(*) FROM queries"),
        "domains": _tally(store, "SELECT domain, count(*) FROM queries"),
        "statuses": _tally(store, "SELECT status, count(*) FROM responses"),
        "provenance": _tally(store, "SELECT provenance, count(*) FROM responses"),
        "ungraded": store.frame("SELECT count(*) FROM graded WHERE score IS NULL AND status <> 'failed'").item(),
        "coverage": _coverage(store),
        "models": _models(store),
        "models_without_responses": store.frame(
            "SELECT model_id FROM models ANTI JOIN responses USING (model_id) ORDER BY model_id"
        )["model_id"].to_list(),
        "price_cards": store.frame("SELECT * FROM price_cards ORDER BY model_id, valid_from").to_dicts(),
        "runs": _runs(store),
    }


def _tally(store: ResponseStore, select: str) -> dict[str, int]:
    return dict(store.frame(f"{select} GROUP BY 1 ORDER BY 1").iter_rows())


def _coverage(store: ResponseStore) -> dict[str, Any]:
    """Cells are (query, model, prompt style); a filled one has a response or more."""
    sql = """
    SELECT count(DISTINCT prompt_style) AS styles, count(DISTINCT (query_id, model_id, prompt_style)) AS filled,
        (SELECT count(*) FROM queries) * (SELECT count(*) FROM models) * styles AS possible, count(*) AS responses
    FROM responses
    """
    row = store.frame(sql).row(0, named=True)
    return {
        "cells_filled": row["filled"],
        "cells_possible": row["possible"],
        "share": row["filled"] / row["possible"] if row["possible"] else None,
        "samples_per_cell": row["responses"] / row["filled"] if row["filled"] else None,
    }


def _runs(store: ResponseStore) -> list[dict[str, Any]]:
    runs = store.frame(
        "SELECT run_id, kind, started_at, ended_at, counts FROM runs ORDER BY started_at, run_id"
    ).to_dicts()
    return [run | {"counts": json.loads(run["counts"]) if run["counts"] else None} for run in runs]


def _models(store: ResponseStore) -> list[dict[str, Any]]:
    """One entry a (model, prompt style), dearest last and unknown costs at the end."""
    overall = store.frame(
        f"""SELECT model_id, prompt_style, provider,
        count(DISTINCT query_id) / (SELECT count(*) FROM queries) AS coverage, {FIGURES}
        FROM graded JOIN models USING (model_id) GROUP BY ALL
        ORDER BY mean_cost_usd NULLS LAST, model_id, prompt_style"""
    )
    by_domain = store.frame(
        f"SELECT model_id, prompt_style, domain, {FIGURES} FROM graded GROUP BY ALL ORDER BY domain"
    )
    domains: dict[tuple[str, str], dict[str, Any]] = {}
    for row in by_domain.to_dicts():
        arm = row.pop("model_id"), row.pop("prompt_style")
        domains.setdefault(arm, {})[row.pop("domain")] = row
    return [row | {"domains": domains[row["model_id"], row["prompt_style"]]} for row in overall.to_dicts()]
