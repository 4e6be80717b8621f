"""What a router may read: specs by name, and texts of a store laid out as its replay is."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from responses_db import LabError, ResponseStore
from tests.xrouter_sim.tiny import tiny_replay
from xrouter_sim.embeddings import DIMENSIONS, HashingEmbedder
from xrouter_sim.features import (
    FeatureSpec,
    cache_of,
    lexical_features,
    query_embeddings,
    query_features,
    response_embeddings,
    response_texts,
)
from xrouter_sim.replay import Replay


@pytest.fixture
def store(tmp_path):
    """Two queries, models a and b in two prompt styles; a/plain has samples 0 and 7 for the first query."""
    path = tmp_path / "s.duckdb"
    with ResponseStore(path, write=True) as opened:
        query = {"dataset": "d", "split": "train", "domain": "x", "messages": "[]", "grader": "imported"}
        rows = [query | {"query_id": f"d/{number}", "question": f"question {number}"} for number in range(2)]
        opened.append("queries", pl.DataFrame(rows))
        opened.append("models", pl.DataFrame([{"model_id": model, "provider": "p"} for model in ("b", "a")]))
        texts = {
            ("d/1", "b", "plain", 0): "yes",
            ("d/0", "a", "plain", 7): "second",
            ("d/0", "a", "plain", 0): "first",
            ("d/0", "a", "cot", 0): "yes",
            ("d/0", "b", "plain", 0): " \n",
            ("d/0", "b", "cot", 0): None,
            ("d/1", "a", "plain", 0): "no",
            ("d/1", "a", "cot", 0): "yes",
            ("d/1", "b", "cot", 0): "no",
        }
        opened.append("responses", pl.DataFrame([_response(*cell, text) for cell, text in texts.items()]))
        opened.append(
            "scores",
            opened.frame("SELECT response_id, 'imported' AS grader, 1 AS grader_version, 1.0 AS score FROM responses"),
        )
    return path


def _response(query, model, style, sample, text):
    cell = {"query_id": query, "model_id": model, "prompt_style": style, "sample_index": sample}
    return cell | {"run_id": "r", "text": text, "reported_cost_usd": 0.1, "provenance": "imported", "status": "ok"}


def test_responses_stand_where_the_replay_has_them(store):
    replay = Replay.load(store)
    assert replay.arm_names == ["a/cot", "a/plain", "b/cot", "b/plain"]
    texts, index = response_texts(replay)
    assert texts == ["first", "no", "second", "yes"]
    assert index.dtype == np.int32
    assert index.tolist() == [
        [[3, -1], [0, 2], [-1, -1], [-1, -1]],  # samples 0 and 7 are its first and second; blank and null are none
        [[3, -1], [1, -1], [1, -1], [3, -1]],
    ]


def test_response_embeddings_are_one_row_a_different_text(store, tmp_path):
    replay = Replay.load(store)
    found = response_embeddings(replay, HashingEmbedder())
    assert np.array_equal(found.vectors, HashingEmbedder().encode(["first", "no", "second", "yes"]))
    assert np.array_equal(found.vectors[found.index[0, 1, 1]], HashingEmbedder().encode(["second"])[0])
    assert cache_of(replay) == tmp_path / "cache" / "embeddings"
    assert any((tmp_path / "cache" / "embeddings").rglob("*.npy"))


def test_queries_that_a_replay_leaves_out_shift_nothing(store):
    with ResponseStore(store, write=True) as opened:
        extra = {"query_id": "d/00", "dataset": "d", "split": "train", "domain": "x", "question": "incomplete"}
        opened.append("queries", pl.DataFrame([extra | {"messages": "[]", "grader": "imported"}]))
        opened.append("responses", pl.DataFrame([_response("d/00", "a", "plain", 0, "stray")]))
        grade = "SELECT response_id, 'imported' AS grader, 1 AS grader_version, 1.0 AS score FROM responses"
        opened.append("scores", opened.frame(f"{grade} WHERE query_id = 'd/00'"))
    replay = Replay.load(store)
    assert replay.query_ids == ["d/0", "d/1"]
    texts, index = response_texts(replay)
    assert "stray" not in texts
    assert index[0, 1].tolist() == [0, 2]


def test_a_store_that_has_changed_since_is_refused(store):
    replay = Replay.load(store)
    with ResponseStore(store, write=True) as opened:
        opened.append("responses", pl.DataFrame([_response("d/1", "a", "plain", 1, "later")]))
    with pytest.raises(LabError, match="has changed since it was loaded"):
        response_texts(replay)


def test_question_embeddings_are_in_the_replays_order_and_kept_nowhere_without_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    replay = tiny_replay(queries=6)
    assert np.array_equal(query_embeddings(replay, HashingEmbedder()), HashingEmbedder().encode(replay.questions))
    assert list(tmp_path.iterdir()) == []


def test_query_features_are_the_named_parts_side_by_side():
    replay = tiny_replay(queries=6)
    spec = FeatureSpec(embedder="hashing", query=("lexical", "embedding"))
    features = query_features(replay, spec)
    assert features.dtype == np.float32
    assert features.shape == (6, spec.dims.query) == (6, 6 + DIMENSIONS)
    assert features[:, :6] == pytest.approx(lexical_features(replay.questions), abs=1e-7)
    assert np.array_equal(features[:, 6:], query_embeddings(replay, HashingEmbedder()))
    assert query_features(replay, FeatureSpec(query=())).shape == (6, 0)


def test_names_and_dims_tell_the_same_columns_in_the_order_of_the_spec():
    spec = FeatureSpec(query=("lexical",), pool=("position", "price"), response=("length", "agreement", "embedding"))
    names = spec.names()
    assert names["pool"] == ["position.position", "price.log_cost"]
    assert names["response"][:4] == [
        "length.log_length",
        "agreement.has_answer",
        "agreement.agreement",
        "embedding.embedding_0",
    ]
    assert spec.dims == (6, 2, 3 + DIMENSIONS)
    assert len(set(names["response"])) == spec.dims.response


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"embedder": "bert"}, "unknown embedder 'bert': one of auto, minilm, hashing"),
        ({"query": ("score",)}, "unknown query part 'score': one of embedding, lexical"),
        ({"response": ("length", "score")}, "unknown response part 'score'"),
        ({"pool": ("price", "price")}, "a pool part stands twice in price, price"),
    ],
)
def test_a_spec_that_cannot_be_is_an_error(wrong, says):
    with pytest.raises(LabError, match=says):
        FeatureSpec(**wrong)


def test_a_manifest_says_which_embedder_was_used_and_null_where_none_was():
    read = FeatureSpec(embedder="hashing").describe()
    assert read["embedder"] == HashingEmbedder().describe()
    assert read["pool"] == ("price", "position")
    unread = FeatureSpec(query=("lexical",), response=("length",))
    assert unread.describe()["embedder"] is None
    assert dataclasses.replace(unread, query=("embedding",)).reads_embeddings
