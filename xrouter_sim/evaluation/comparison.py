"""Where two models differ on the queries they share: paired counts, scores and costs, with intervals and examples."""

from typing import Any

import numpy as np
import polars as pl

from responses_db.compare import RIGHT
from xrouter_sim.evaluation.statistics import Bootstrap, figure

OUTCOMES = ("both_right", "only_a", "only_b", "neither")


def compare(pairs: pl.DataFrame, a: str, b: str, show: int = 3) -> dict[str, Any]:
    """All that `store compare` prints, from `responses_db.compare.pairs`, as plain data.

    `overall` and each entry of `domains` have the number of `pairs`, the OUTCOMES, `score_a`, `score_b` and
    `cost_usd_a`, `cost_usd_b` (means a response; a cost is null where some are unknown), and `difference`: the score of
    A − that of B with its 95% interval. `only_a` and `only_b` at the top are up to `show` examples, dearest loss first.
    """
    right_a, right_b = pl.col("score_a") >= RIGHT, pl.col("score_b") >= RIGHT
    pairs = pairs.with_columns(
        outcome=pl.when(right_a & right_b)
        .then(pl.lit("both_right"))
        .when(right_a)
        .then(pl.lit("only_a"))
        .when(right_b)
        .then(pl.lit("only_b"))
        .otherwise(pl.lit("neither"))
    )
    return {
        "a": a,
        "b": b,
        "overall": _figures(pairs),
        "domains": [
            {"domain": domain} | _figures(part)
            for (domain,), part in sorted(pairs.partition_by("domain", as_dict=True).items())
        ],
        "failed": {side: int(pairs[f"failed_{side}"].sum()) for side in "ab"},
        "ungraded": {side: int(pairs[f"ungraded_{side}"].sum()) for side in "ab"},
        "unpriced": {side: int(pairs[f"unpriced_{side}"].sum()) for side in "ab"},
    } | {won: _examples(pairs.filter(outcome=won), show) for won in ("only_a", "only_b")}


def _figures(pairs: pl.DataFrame) -> dict[str, Any]:
    counts = dict(pairs.group_by("outcome").len().rows())
    return {
        "pairs": pairs.height,
        **{outcome: counts.get(outcome, 0) for outcome in OUTCOMES},
        "score_a": pairs["score_a"].mean(),
        "score_b": pairs["score_b"].mean(),
        "cost_usd_a": _cost(pairs, "a"),
        "cost_usd_b": _cost(pairs, "b"),
        "difference": _difference(pairs).to_json(),
    }


def _difference(pairs: pl.DataFrame) -> Any:
    """Mean of A − B over pairs; whole queries are resampled, with all their prompt styles."""
    by_query = pairs.group_by("query_id").agg(total=(pl.col("score_a") - pl.col("score_b")).sum(), n=pl.len())
    by_query = by_query.sort("query_id")
    sums = Bootstrap(by_query.height).means(np.stack([by_query["total"].to_numpy(), by_query["n"].to_numpy()]))
    return figure(sums[:, 0] / sums[:, 1])


def _cost(pairs: pl.DataFrame, side: str) -> float | None:
    mean = pairs[f"cost_usd_{side}"].mean()
    return None if pairs[f"unpriced_{side}"].sum() or not isinstance(mean, float) else mean


def _examples(won: pl.DataFrame, show: int) -> list[dict[str, Any]]:
    """The clearest wins first, by the gap in score, then by name, so that the same are shown every time."""
    gap = (pl.col("score_a") - pl.col("score_b")).abs()
    kept = won.sort(-gap, "query_id", "prompt_style").head(show)
    names = ("query_id", "prompt_style", "domain", "question", "reference", "score_a", "score_b")
    return kept.select(*names, "answer_a", "answer_b", "text_a", "text_b").to_dicts()
