"""From outcomes to rows: read a reply, grade it, and commit responses with their scores, batch by batch."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from responses_db.cells import Cell
from responses_db.completion import billed_usd, clean, mean_logprob, status_of, text_of, usage_of
from responses_db.providers.client import Failure, Reply
from responses_db.regrade import SCORE_TYPES, Grading
from responses_db.store import KEYS, ResponseStore

COMMIT_ROWS = 2_000
COMMIT_SECONDS = 3.0

RESPONSE_TYPES = {
    "run_id": pl.String,
    "query_id": pl.String,
    "model_id": pl.String,
    "prompt_style": pl.String,
    "sample_index": pl.Int32,
    "model_answered": pl.String,
    "text": pl.String,
    "finish_reason": pl.String,
    "max_tokens": pl.Int32,
    "input_tokens": pl.Int64,
    "cached_input_tokens": pl.Int64,
    "output_tokens": pl.Int64,
    "reasoning_tokens": pl.Int64,
    "tokens_from": pl.String,
    "latency_s": pl.Float64,
    "mean_logprob": pl.Float64,
    "reported_cost_usd": pl.Float64,
    "provenance": pl.String,
    "status": pl.String,
    "error": pl.String,
}


@dataclass
class Tally:
    """What a recorder has seen. `estimated` counts answers whose tokens the endpoint did not say.

    `cost_usd` leaves out the `unpriced` answers: an unknown price is not zero.
    """

    answered: int = 0
    failed: int = 0
    truncated: int = 0
    refused: int = 0
    estimated: int = 0
    stored: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    first_failure: str = ""


@dataclass
class Recorder:
    """Takes outcomes, commits every COMMIT_ROWS rows or COMMIT_SECONDS. One thread at a time."""

    store: ResponseStore
    run_id: str
    tally: Tally = field(default_factory=Tally)
    grading: Grading = field(default_factory=Grading)
    _responses: list[dict[str, Any]] = field(default_factory=list)
    _scores: list[dict[str, Any]] = field(default_factory=list)
    _committed_at: float = field(default_factory=time.monotonic)

    def take(self, outcomes: Iterable[tuple[Cell, Reply | Failure]]) -> None:
        """Read and grade outcomes; commit when it is time. LabError when the store cannot be written."""
        for cell, outcome in outcomes:
            row = response_row(cell, outcome, self.run_id)
            self._responses.append(row)
            if isinstance(outcome, Failure):
                self.tally.failed += 1
                self.tally.first_failure = self.tally.first_failure or f"{cell.model.model_id}: {outcome.error}"
            else:
                score = self.grading.score_row(cell.response_id, row["text"], cell.query)
                self._scores += [score] if score else []
                self._count(cell, row)
        late = time.monotonic() - self._committed_at > COMMIT_SECONDS
        if len(self._responses) >= COMMIT_ROWS or late:
            self.commit()

    def commit(self) -> None:
        """Write what was taken: one transaction of responses and scores. A failed cell's old row gives way."""
        if self._responses:
            responses = pl.DataFrame(self._responses, RESPONSE_TYPES)
            with self.store.transaction():
                self._drop_failed(responses)
                self.store.append("responses", responses)
                self.store.append("scores", pl.DataFrame(self._scores, SCORE_TYPES))
            self.tally.stored += len(self._responses)
            self._responses, self._scores = [], []
        self._committed_at = time.monotonic()

    def _drop_failed(self, responses: pl.DataFrame) -> None:
        """A cell that failed before has its row replaced."""
        key = ", ".join(KEYS["responses"])
        self.store.con.register("arrived", responses.select(KEYS["responses"]).to_arrow())
        sql = f"DELETE FROM responses WHERE status = 'failed' AND ({key}) IN (SELECT {key} FROM arrived)"
        self.store.con.execute(sql).fetchall()
        self.store.con.unregister("arrived")

    def _count(self, cell: Cell, row: Mapping[str, Any]) -> None:
        tally, cost = self.tally, row_cost(cell, row)
        tally.answered += 1
        tally.truncated += row["status"] == "truncated"
        tally.refused += row["status"] == "refused"
        tally.estimated += row["tokens_from"] == "estimate"
        if cost is None:
            tally.unpriced += 1
        else:
            tally.cost_usd += cost


def response_row(cell: Cell, outcome: Reply | Failure, run_id: str) -> dict[str, Any]:
    """The `responses` row of an outcome, without its id."""
    row: dict[str, Any] = {
        "run_id": run_id,
        "query_id": cell.query.query_id,
        "model_id": cell.model.model_id,
        "prompt_style": cell.style,
        "sample_index": cell.sample,
        "max_tokens": cell.max_tokens,
        "provenance": cell.provider.provenance,
    }
    if isinstance(outcome, Failure):
        return row | {"status": "failed", "error": clean(outcome.error)}
    body, usage = outcome.body, usage_of(outcome.body, cell.prompt_characters)
    return row | {
        "model_answered": clean(body.get("model")),
        "text": text_of(body),
        "finish_reason": clean(body["choices"][0].get("finish_reason")),
        "input_tokens": usage.input,
        "cached_input_tokens": usage.cached,
        "output_tokens": usage.output,
        "reasoning_tokens": usage.reasoning,
        "tokens_from": usage.source,
        "latency_s": _latency(cell, outcome),
        "mean_logprob": mean_logprob(body),
        "reported_cost_usd": None if cell.model.price else billed_usd(body),
        "status": status_of(body),
    }


def row_cost(cell: Cell, row: Mapping[str, Any]) -> float | None:
    """USD that the row's call cost: at list price, or what the endpoint says; None when neither is known."""
    price = cell.model.price
    if price is None:
        reported: float | None = row["reported_cost_usd"]
        return reported
    return price.cost(row["input_tokens"], row["output_tokens"], row["cached_input_tokens"])


def _latency(cell: Cell, reply: Reply) -> float:
    """As measured; for a simulated model the virtual latency that it reports, as its server never waits."""
    if cell.provider.provenance == "simulated":
        return float(reply.body["simulated"]["latency_s"])
    return reply.latency_s
