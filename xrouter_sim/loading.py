"""Reads a store into dense arrays over queries × arms × samples: the loading half of `replay`.

DuckDB turns names into numbers, so that no string of a response reaches Python; the arrays are made once, at their
final size, and filled batch by batch as the rows stream in.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from responses_db import LabError, ResponseStore
from xrouter_sim.costs import PLACEHOLDER_USD, Costs

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Arrays = dict[str, npt.NDArray[Any]]

STATUSES = ("ok", "truncated", "refused", "failed")
EVIDENCE = ("log_length", "mean_logprob", "hedges", "has_answer")
"""What a response shows without its grade, 0 where the store has nothing: the last axis of `Replay.evidence`."""

MEMORY_MIB = 64
BYTES_A_RESPONSE = 60
"""What DuckDB may use while it joins; with more it would keep blocks that nobody reads again, with less it spills."""

CODES_SQL = """
CREATE TEMP TABLE query_code AS
    SELECT query_id, grader, (row_number() OVER (ORDER BY query_id) - 1)::INTEGER AS query FROM queries;
CREATE TEMP TABLE arm_code AS
    WITH seen AS (SELECT DISTINCT model_id, prompt_style FROM responses SEMI JOIN queries USING (query_id))
    SELECT model_id, prompt_style, (row_number() OVER (ORDER BY model_id, prompt_style) - 1)::INTEGER AS arm
    FROM (SELECT DISTINCT model_id FROM seen) CROSS JOIN (SELECT DISTINCT prompt_style FROM seen);
CREATE TEMP TABLE answer_code AS
    SELECT answer, (row_number() OVER (ORDER BY answer) - 1)::INTEGER AS code
    FROM (SELECT DISTINCT answer FROM scores WHERE answer IS NOT NULL);
"""
"""Names to numbers, in the order of the names."""

CELLS = "JOIN query_code USING (query_id) JOIN arm_code USING (model_id, prompt_style)"

CELLS_SQL = f"SELECT query, arm, sample_index FROM responses {CELLS}"

SAMPLE_SQL = "(row_number() OVER (PARTITION BY query, arm ORDER BY sample_index) - 1)::INTEGER"
"""The place of a sample in its cell, where sample indices have gaps."""

ANSWERED_SQL = f"""
SELECT query, arm, {{sample}} AS sample, coalesce(cost_usd, 0) AS cost_usd,
    coalesce(input_tokens + output_tokens, -1) AS tokens, coalesce(latency_s, 'nan'::DOUBLE) AS latency_s,
    CASE status WHEN 'ok' THEN 0 WHEN 'truncated' THEN 1 WHEN 'refused' THEN 2 WHEN 'failed' THEN 3 END AS status,
    ln(1 + text_length) AS log_length, coalesce(mean_logprob, 0) AS mean_logprob, hedges,
    status <> 'failed' AND cost_usd IS NULL AS unpriced
FROM priced {CELLS}
"""

GRADED_SQL = f"""
WITH cell AS (
    SELECT response_id, query, grader, arm, {{sample}} AS sample, status <> 'failed' AS came FROM responses {CELLS}
)
SELECT query, arm, sample, score, coalesce(code, -1) AS answer, (code IS NOT NULL)::INTEGER AS has_answer, came
FROM latest_scores JOIN cell USING (response_id, grader) LEFT JOIN answer_code USING (answer)
"""
"""Apart from ANSWERED_SQL because the join on response ids needs the most memory: so it carries little else."""

FAILED = STATUSES.index("failed")


@dataclass(frozen=True)
class _Axes:
    """Which queries are whole, and how many samples each of their cells has."""

    row: Ints  # [queries of the store] place among the whole queries; -1 where an arm's answer is missing
    samples: Ints  # [Q, A]
    gaps: bool  # whether some cell's sample indices are other than 0, 1, 2, …


def load_arrays(path: str | Path, costs: Costs | None = None) -> dict[str, Any]:
    """The fields of a `Replay`, by name. Queries that lack an answer of some arm are left out and counted.

    Raises LabError when nothing is left, a response has no grade, or a price is unknown and `costs` does not say what
    to do then.
    """
    costs = costs or Costs()
    with ResponseStore(path) as store, TemporaryDirectory(prefix="xrouter-sim-") as spill:
        _limit_memory(store, spill)
        for statement in CODES_SQL.split(";"):
            store.con.execute(statement)
        arms = store.frame("SELECT model_id, prompt_style FROM arm_code ORDER BY arm")
        axes = _axes(store, arms.height)
        arrays = _arrays(store, axes, _Unpriced(costs, arms["model_id"].to_list()))
        queries = store.frame("SELECT query_id, question, domain, split FROM queries ORDER BY query_id")
        facts = _facts(store, path)
    whole = queries.filter(pl.Series(axes.row >= 0))
    return {
        "query_ids": whole["query_id"].to_list(),
        "questions": whole["question"].to_list(),
        "domains": _texts(whole["domain"]),
        "splits": _texts(whole["split"]),
        "model_ids": arms["model_id"].unique().sort().to_list(),
        "prompt_styles": arms["prompt_style"].unique().sort().to_list(),
        "samples": axes.samples,
        **arrays,
        "store": facts | {"left_out": queries.height - whole.height, "costs": costs.facts()},
    }


def _limit_memory(store: ResponseStore, spill: str) -> None:
    """The folder to spill to is not the store's own, which may be read-only."""
    responses = store.frame("SELECT count(*) FROM responses").item()
    store.con.execute(f"SET memory_limit = '{MEMORY_MIB + responses * BYTES_A_RESPONSE // 2**20}MiB'")
    store.con.execute(f"SET temp_directory = '{spill}'")


def _facts(store: ResponseStore, path: str | Path) -> dict[str, Any]:
    provenance = store.frame("SELECT provenance, count(*) AS n FROM responses GROUP BY 1 ORDER BY 1")
    providers = store.frame("SELECT model_id, provider FROM models ORDER BY 1")
    return {
        "path": str(path),
        "content_hash": store.content_hash(),
        "provenance": dict(provenance.rows()),
        "providers": dict(providers.rows()),
    }


def _axes(store: ResponseStore, arms: int) -> _Axes:
    if not arms:
        raise LabError(f"{store.path} holds no responses: fill it with `xrouter-sim harvest` or `xrouter-sim import`")
    queries = store.frame("SELECT count(*) FROM query_code").item()
    count, indices = np.zeros(queries * arms, np.int64), np.zeros(queries * arms)
    for batch in store.batches(CELLS_SQL):
        cell = batch["query"].cast(pl.Int64).to_numpy() * arms + batch["arm"].to_numpy()
        np.add.at(count, cell, 1)
        np.add.at(indices, cell, batch["sample_index"].to_numpy())
    gaps = bool((indices > count * (count - 1) / 2).any())  # n different indices add up to least when none is left out
    samples = count.reshape(queries, arms)
    whole = (samples > 0).all(axis=1)
    row = np.where(whole, np.cumsum(whole) - 1, -1)
    return _Axes(row, samples[whole], gaps)


class _Unpriced:
    """Responses whose cost is unknown, as they come by: filled in where `costs` says how, remembered where not."""

    def __init__(self, costs: Costs, models: list[str]) -> None:
        """`models` [A] of each arm."""
        self.costs, self.models = costs, models
        self.stated = np.array([costs.nominal.get(model, np.nan) for model in models])
        self.met = np.zeros(len(models), np.bool_)

    def filled(self, batch: pl.DataFrame) -> pl.DataFrame:
        if self.costs.accuracy_only:
            return batch.with_columns(cost_usd=pl.lit(PLACEHOLDER_USD))
        unknown = batch["unpriced"].to_numpy()
        if not unknown.any():
            return batch
        arm = batch["arm"].to_numpy()
        self.met[arm[unknown]] = True
        return batch.with_columns(cost_usd=pl.Series(np.where(unknown, self.stated[arm], batch["cost_usd"].to_numpy())))

    def check(self, store: ResponseStore) -> None:
        """Raises LabError when a cost stays unknown, or one is stated that nobody asked for."""
        if (self.met & np.isnan(self.stated)).any():
            raise LabError(_why_unpriced(store, list(self.costs.nominal)))
        needed = {model for model, met in zip(self.models, self.met, strict=True) if met}
        for model in self.costs.nominal:
            if model not in self.models:
                known = ", ".join(sorted(set(self.models)))
                raise LabError(f"--nominal-cost {model}: no such model in {store.path} (it has {known})")
            if model not in needed:
                raise LabError(f"--nominal-cost {model}: {store.path} knows what it cost; leave the option out")


def _arrays(store: ResponseStore, axes: _Axes, unpriced: _Unpriced) -> Arrays:
    """The arrays [Q, A, K] of a replay. Raises LabError for what cannot be played back, then for having no queries."""
    shape = (*axes.samples.shape, int(axes.samples.max(initial=1)))
    arrays: Arrays = {
        "score": np.zeros(shape),
        "cost_usd": np.zeros(shape),
        "tokens": np.full(shape, -1),
        "latency_s": np.full(shape, np.nan),
        "answer": np.full(shape, -1),
        "status": np.zeros(shape, np.int64),
    }
    evidence = np.zeros((*shape, len(EVIDENCE)))
    targets = arrays | {name: evidence[..., place] for place, name in enumerate(EVIDENCE)}
    sample = SAMPLE_SQL if axes.gaps else "sample_index"
    came = graded = 0
    for batch in store.batches(ANSWERED_SQL.format(sample=sample)):
        came += int((batch["status"] != FAILED).sum())
        _fill(targets, unpriced.filled(batch), axes.row)
    for batch in store.batches(GRADED_SQL.format(sample=sample)):
        graded += int(batch["came"].sum())
        _fill(targets, batch, axes.row)
    if graded < came:
        raise LabError(_why_ungraded(store))
    unpriced.check(store)
    if not shape[0]:
        raise LabError(
            f"{store.path}: no query has an answer of every model and prompt style; see `xrouter-sim store info`"
        )
    _rank_within_query(arrays["answer"].reshape(shape[0], -1))
    return arrays | {"evidence": evidence}


def _fill(targets: Arrays, batch: pl.DataFrame, row: Ints) -> None:
    query = row[batch["query"].to_numpy()]
    place = query, batch["arm"].to_numpy(), batch["sample"].to_numpy()
    if (query < 0).any():
        batch = batch.filter(pl.Series(query >= 0))
        place = place[0][query >= 0], place[1][query >= 0], place[2][query >= 0]
    for name in targets.keys() & set(batch.columns):
        targets[name][place] = batch[name].to_numpy()


def _rank_within_query(answers: Ints, chunk: int = 1 << 18) -> None:
    """In place, [Q, N]: codes become 0, 1, 2, … within each query, in the same order; -1 stays."""
    step = max(1, chunk // answers.shape[1])
    for start in range(0, len(answers), step):
        part = answers[start : start + step]
        order = part.argsort(axis=1)
        ordered = np.take_along_axis(part, order, axis=1)
        rank = np.zeros_like(ordered)
        np.cumsum(ordered[:, 1:] != ordered[:, :-1], axis=1, out=rank[:, 1:])
        np.put_along_axis(part, order, rank - (ordered[:, :1] < 0), axis=1)


def _texts(values: pl.Series) -> npt.NDArray[np.str_]:
    names = values.unique().sort()
    codes = values.cast(pl.Enum(names)).to_physical().to_numpy()
    texts: npt.NDArray[np.str_] = np.array(names.to_list(), np.str_)[codes]
    return texts


def _why_ungraded(store: ResponseStore) -> str:
    sql = "SELECT count(*), min(query_id) FROM graded WHERE score IS NULL AND status <> 'failed'"
    count, first = store.frame(sql).row(0)
    return f"{store.path}: {count} responses have no grade, first {first}: grade them"


def _why_unpriced(store: ResponseStore, stated: list[str]) -> str:
    sql = """
    SELECT model_id, count(*) AS n, bool_or(input_tokens IS NULL OR output_tokens IS NULL) AS unknown
    FROM graded WHERE cost_usd IS NULL AND status <> 'failed' GROUP BY 1 ORDER BY 1
    """
    found = store.frame(sql).filter(~pl.col("model_id").is_in(stated))
    models = ", ".join(found["model_id"].head(4)) + (" …" if found.height > 4 else "")
    cure = f"add price cards with `xrouter-sim import prices FILE.toml --db {store.path}`"
    if found["unknown"].any():
        cure = "their tokens are unknown too, so import them again with a cost_usd or with token counts"
    return (
        f"{store.path}: cost unknown for {models} ({found['n'].sum()} responses): {cure}; or leave costs out with "
        "--accuracy-only, or state one with --nominal-cost MODEL=USD"
    )
