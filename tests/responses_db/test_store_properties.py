"""What holds of every store, whatever rows it is given, in whatever order and batches."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from responses_db import LabError, ResponseStore
from tests.responses_db.store_worlds import card, cells, fill, frame, model, query, response, score, world

few = settings(max_examples=15, deadline=None)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResponseStore]:
    """One store for all examples, each of which takes back what it wrote; making one takes longest."""
    with ResponseStore(tmp_path_factory.mktemp("store") / "s.duckdb", write=True) as store:
        yield store


@contextmanager
def taken_back(store: ResponseStore) -> Iterator[ResponseStore]:
    store.con.execute("BEGIN")
    try:
        yield store
    finally:
        store.con.execute("ROLLBACK")


@given(chosen=cells, data=st.data())
@few
def test_order_and_batches_do_not_change_the_content_hash(opened: ResponseStore, chosen: Any, data: Any) -> None:
    shuffled = data.draw(st.permutations(chosen))
    cut = data.draw(st.integers(0, len(chosen)))
    with taken_back(opened) as store:
        for table, rows in world(chosen).items():
            assert store.append(table, frame(rows)) == len(rows)
        at_once = store.content_hash()
    with taken_back(opened) as store:
        for part in (shuffled[:cut], shuffled[cut:]):
            for table, rows in reversed(world(part).items()):
                new = rows and table in ("queries", "models")
                store.append(table, store.new_only(table, frame(rows)) if new else frame(rows))
        assert store.content_hash() == at_once


@given(stored=cells, offered=cells)
@few
def test_new_only_is_the_offered_without_the_stored(opened: ResponseStore, stored: Any, offered: Any) -> None:
    with taken_back(opened) as store:
        store.append("responses", frame(world(stored)["responses"]))
        rows = world(offered)["responses"]
        new = store.new_only("responses", frame(rows)).to_dicts() if rows else []
    key = ("query_id", "model_id", "sample_index")
    assert [tuple(row[name] for name in key) for row in new] == [cell for cell in offered if cell not in stored]


@given(kept=cells, tried=cells, fault=st.sampled_from(["duplicate", "rule", "caller"]))
@settings(max_examples=8, deadline=None)
def test_a_transaction_is_all_or_nothing(kept: Any, tried: Any, fault: str) -> None:
    faults = {
        "duplicate": [response("d/0", "z"), response("d/0", "z")],
        "rule": [response("d/0", "z", input_tokens=-1)],
    }
    with tempfile.TemporaryDirectory() as folder, ResponseStore(fill(Path(folder, "s"), {}), write=True) as store:
        for table, rows in world(kept).items():
            store.append(table, frame(rows))
        before = store.content_hash()
        with pytest.raises((LabError, ZeroDivisionError)), store.transaction():  # noqa: PT012
            fresh = [cell for cell in tried if cell not in kept]
            store.append("responses", frame(world(fresh)["responses"]))
            store.append("models", frame([model("z")]))
            store.append("responses", frame(faults.get(fault, [])))
            raise ZeroDivisionError
        assert store.content_hash() == before
        assert store.append("models", frame([model("z")])) == 1


maybe = st.sampled_from([None, 0, 3, 1000])


@given(
    inputs=maybe,
    outputs=maybe,
    cached=maybe,
    reported=st.sampled_from([None, 0.0, 0.5]),
    price=maybe,
    has_card=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_a_cost_is_null_exactly_where_something_it_needs_is_unknown(
    opened: ResponseStore,
    inputs: int | None,
    outputs: int | None,
    cached: int | None,
    reported: float | None,
    price: int | None,
    has_card: bool,
) -> None:
    tokens = {"input_tokens": inputs, "output_tokens": outputs, "cached_input_tokens": cached}
    with taken_back(opened) as store:
        store.append("queries", frame([query("d/0")]))
        store.append("price_cards", frame([card("a", price)]) if has_card else frame([]))
        store.append("responses", frame([response("d/0", "a", **tokens, reported_cost_usd=reported)]))
        cost = store.frame("SELECT cost_usd FROM graded").item()
    known = reported is not None or (has_card and None not in (price, inputs, outputs))
    assert (cost is not None) == known
    if reported is not None:
        assert cost == reported
    elif known:
        assert cost == pytest.approx((inputs + outputs) * price / 1e6)  # type: ignore[operator]


@given(versions=st.lists(st.integers(1, 9), unique=True, min_size=1, max_size=4), foreign=st.integers(1, 20))
@few
def test_the_latest_version_of_the_querys_own_grader_counts(
    opened: ResponseStore, versions: list[int], foreign: int
) -> None:
    answer, other = response("d/0", "a"), response("d/0", "b")
    with taken_back(opened) as store:
        store.append("queries", frame([query("d/0")]))
        store.append("responses", frame([answer, other]))
        store.append("scores", frame([score(answer, version / 10, version) for version in versions]))
        store.append("scores", frame([score(answer, 0.99, foreign, grader="foreign"), score(other, 0.5)]))
        rows = store.frame("SELECT model_id, score, grader_version FROM graded ORDER BY model_id").rows()
    assert rows == [("a", max(versions) / 10, max(versions)), ("b", 0.5, 1)]


words = st.text(alphabet="maybe perhaps IthinkPROBABLY.四ß\n", max_size=60)


@given(text=st.none() | words)
@few
def test_what_a_text_shows_is_counted_when_it_is_stored(opened: ResponseStore, text: str | None) -> None:
    with taken_back(opened) as store:
        store.append("responses", frame([response("d/0", "a", text=text)]))
        length, same = store.frame("SELECT text_length, hedges = hedges_in(text) FROM responses").row(0)
    assert length == len(text or "")
    assert same
