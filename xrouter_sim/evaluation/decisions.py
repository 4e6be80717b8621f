"""The decisions file: one row a (router, seed, setting, query), from which every figure can be recomputed."""

import polars as pl

CALL = pl.Struct(
    {
        "turn": pl.Int64(),  # calls with one turn number ran in parallel
        "model": pl.String(),
        "prompt_style": pl.String(),
        "sample": pl.Int64(),
        "price": pl.Float64(),  # factor on the model's price card in this episode; 1 is the card
        "outcome": pl.String(),  # ok, or how the last attempt failed
        "attempts": pl.Int64(),
        "tokens": pl.Int64(),  # input and output together; null where the source has none
        "cost": pl.Float64(),  # USD, failed attempts included
    }
)

SCHEMA = pl.Schema(
    {
        "router": pl.String(),
        "seed": pl.Int64(),
        "setting": pl.Float64(),  # λ, the cost penalty the router was told and is paid by
        "query_id": pl.String(),
        "domain": pl.String(),
        "calls": pl.List(CALL),
        "final": pl.String(),  # direct, call, select, vote or none
        "answered_by": pl.String(),  # the model whose response is final; null for none and direct
        "score": pl.Float64(),
        "cost_usd": pl.Float64(),
        "latency_s": pl.Float64(),  # virtual time
        "reward": pl.Float64(),  # score · (1 − min(λ · cost_usd / cost_unit, 1))
    }
)
