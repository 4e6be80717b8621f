"""From a store to dense arrays, and what a replay refuses."""

import numpy as np
import polars as pl
import pytest

from responses_db import LabError, ResponseStore
from xrouter_sim.replay import EVIDENCE, Replay, cost_unit


@pytest.fixture
def store(tmp_path):
    """Two queries, two models, one of them in two samples; every cost known."""
    path = tmp_path / "s.duckdb"
    with ResponseStore(path, write=True) as store:
        query = {"dataset": "d", "split": "train", "domain": "x", "messages": "[]", "grader": "imported"}
        store.append("queries", pl.DataFrame([query | {"query_id": f"d/{i}", "question": f"q{i}"} for i in range(2)]))
        store.append("models", pl.DataFrame([{"model_id": m, "provider": "p"} for m in ("a", "b")]))
        add(store, "d/0", "a", 0, "Maybe 7", "7", 1.0)
        add(store, "d/0", "a", 1, "8", "8", 0.0)
        add(store, "d/0", "b", 0, "7", "7", 1.0)
        add(store, "d/1", "a", 0, "3", "3", 0.0)
        add(store, "d/1", "b", 0, "none", None, 0.0)
    return path


def add(store, query, model, sample, text, answer, score, cost=0.25, **more):
    cell = {"query_id": query, "model_id": model, "prompt_style": "plain", "sample_index": sample}
    rest = {"run_id": "r", "text": text, "reported_cost_usd": cost, "provenance": "imported", "status": "ok"}
    store.append("responses", pl.DataFrame([cell | rest | more]))
    (response,) = store.frame(
        "SELECT response_id FROM responses WHERE query_id = ? AND model_id = ? AND sample_index = ?",
        [query, model, sample],
    )["response_id"]
    row = {"response_id": response, "grader": "imported", "grader_version": 1, "score": score, "answer": answer}
    store.append("scores", pl.DataFrame([row]))


def test_cells_land_where_they_belong(store):
    replay = Replay.load(store)
    assert replay.model_ids == ["a", "b"]
    assert replay.samples.tolist() == [[2, 1], [1, 1]]
    assert replay.score[0].tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert replay.answer[0, 0, 0] == replay.answer[0, 1, 0] != replay.answer[0, 0, 1]
    assert replay.answer[1, 1, 0] == -1
    assert replay.mean_score.tolist() == [[0.5, 1.0], [0.0, 0.0]]
    assert replay.evidence[0, 0, 0, EVIDENCE.index("hedges")] == 1
    assert np.isnan(replay.latency_s).all()
    assert replay.store["provenance"] == {"imported": 5}


def test_a_query_without_every_answer_is_left_out_and_counted(store):
    with ResponseStore(store, write=True) as opened:
        extra = {"query_id": "d/2", "dataset": "d", "split": "train", "domain": "x", "question": "q2"}
        opened.append("queries", pl.DataFrame([extra | {"messages": "[]", "grader": "imported"}]))
        add(opened, "d/2", "a", 0, "1", "1", 1.0)
    replay = Replay.load(store)
    assert replay.query_ids == ["d/0", "d/1"]
    assert replay.store["left_out"] == 1


def test_an_unknown_cost_is_an_error_that_names_the_model(store):
    with ResponseStore(store, write=True) as opened:
        add(opened, "d/1", "b", 1, "5", "5", 0.0, cost=None)
    with pytest.raises(LabError, match=r"cost unknown for b \(1 responses\): their tokens are unknown too"):
        Replay.load(store)


def test_an_empty_split_is_an_error_that_names_the_others(store):
    with pytest.raises(LabError, match=r"no queries in split 'test' \(it has train\)"):
        Replay.load(store).indices("test")


def test_the_cost_unit_is_the_dearest_arms_95th_percentile(store):
    replay = Replay.load(store)
    assert cost_unit(replay, np.arange(2)) == pytest.approx(0.25)
