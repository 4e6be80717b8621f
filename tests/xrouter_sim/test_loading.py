"""The quick loader gives exactly what a slow and plain one gives, whatever the store holds."""

import math
import re
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from responses_db import LabError, ResponseStore
from tests.responses_db.store_worlds import MODELS, QUERIES, card, fill, model, query, response, score
from xrouter_sim.loading import STATUSES, load_arrays

HEDGES = re.compile(
    r"(?i)\b(maybe|perhaps|probably|possibly|not (entirely )?(sure|certain)|i think|i guess|might be|roughly)\b"
)


def plainly(path: Path) -> dict[str, Any]:
    """The arrays of a store, cell by cell, from the rows of `graded` alone."""
    with ResponseStore(path) as store:
        rows = store.frame("SELECT * FROM graded ORDER BY query_id, model_id, prompt_style, sample_index").to_dicts()
    models, styles = sorted({row["model_id"] for row in rows}), sorted({row["prompt_style"] for row in rows})
    arms = [(name, style) for name in models for style in styles]
    cells: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        cells[row["query_id"], row["model_id"], row["prompt_style"]].append(row)
    whole = [name for name in sorted({key[0] for key in cells}) if all((name, *arm) in cells for arm in arms)]
    shape = len(whole), len(arms), max(len(cells[name, *arm]) for name in whole for arm in arms)
    arrays: dict[str, Any] = {name: np.zeros(shape) for name in ("score", "cost_usd")}
    arrays |= {"latency_s": np.full(shape, np.nan), "evidence": np.zeros((*shape, 4))}
    arrays |= {"tokens": np.full(shape, -1), "answer": np.full(shape, -1), "status": np.zeros(shape, np.int64)}
    arrays["samples"] = np.array([[len(cells[name, *arm]) for arm in arms] for name in whole])
    for q, name in enumerate(whole):
        answers = sorted({row["answer"] for arm in arms for row in cells[name, *arm]} - {None})
        for a, arm in enumerate(arms):
            for k, row in enumerate(cells[name, *arm]):
                text = row["text"] or ""
                known = None not in (row["input_tokens"], row["output_tokens"])
                arrays["score"][q, a, k] = row["score"] or 0
                arrays["cost_usd"][q, a, k] = row["cost_usd"] or 0
                arrays["tokens"][q, a, k] = row["input_tokens"] + row["output_tokens"] if known else -1
                arrays["latency_s"][q, a, k] = math.nan if row["latency_s"] is None else row["latency_s"]
                arrays["answer"][q, a, k] = -1 if row["answer"] is None else answers.index(row["answer"])
                arrays["status"][q, a, k] = STATUSES.index(row["status"])
                hedges = len(HEDGES.findall(text))
                logprob = row["mean_logprob"] or 0
                arrays["evidence"][q, a, k] = math.log(1 + len(text)), logprob, hedges, row["answer"] is not None
    return arrays | {"query_ids": whole, "model_ids": models, "prompt_styles": styles}


texts = st.sampled_from([None, "", "7", "Maybe 7, maybe 8", "I think, not entirely sure: roughly seven", "sürely 四"])
answers = st.sampled_from([None, "7", "8", "10", "seven", "Ä"])


@st.composite
def stores(draw: st.DrawFn) -> dict[str, list[dict[str, Any]]]:
    """A world with holes: cells without an answer, sample indices with gaps, failures, grades in two versions."""
    rows: dict[str, list[dict[str, Any]]] = {
        "queries": [query(name, grader=draw(st.sampled_from(["exact", "numeric"]))) for name in QUERIES],
        "models": [model(name) for name in MODELS],
        "price_cards": [card(name) for name in MODELS],
        "responses": [],
        "scores": [],
    }
    graders = {row["query_id"]: row["grader"] for row in rows["queries"]}
    styles = draw(st.sampled_from([("plain",), ("cot", "plain")]))
    for name in QUERIES:
        for arm in [(model_id, style) for model_id in MODELS for style in styles]:
            least = 1 if name == QUERIES[0] else 0  # one query is whole, or there would be nothing to load
            for sample in draw(st.lists(st.integers(0, 4), min_size=least, max_size=3, unique=True)):
                status = draw(st.sampled_from(STATUSES))
                tokens = st.integers(0, 9)
                given = response(
                    name, arm[0], sample, prompt_style=arm[1], text=draw(texts), status=status,
                    input_tokens=draw(tokens), output_tokens=draw(tokens), latency_s=draw(st.sampled_from([None, 0.5])),
                    mean_logprob=draw(st.sampled_from([None, -0.5])),
                )  # fmt: skip
                rows["responses"].append(given)
                if status != "failed":
                    graded = [score(given, 0.5, 1, grader=graders[name], answer=draw(answers))]
                    graded += draw(st.sampled_from([[], [score(given, 1.0, 2, grader=graders[name], answer="2")]]))
                    rows["scores"] += draw(st.permutations([*graded, score(given, 0.25, 3, grader="foreign")]))
    return rows


@given(rows=stores())
@settings(max_examples=15, deadline=None)
def test_it_gives_what_a_plain_loader_gives(rows: dict[str, list[dict[str, Any]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = fill(Path(folder, "s.duckdb"), rows)
        quick, slow = load_arrays(path), plainly(path)
    for name, expected in slow.items():
        if isinstance(expected, list):
            assert quick[name] == expected
        else:
            np.testing.assert_allclose(quick[name], expected, rtol=1e-15, err_msg=name)
            assert quick[name].dtype == expected.dtype
    assert quick["store"]["left_out"] == len(QUERIES) - len(slow["query_ids"])


def one_cell(path: Path, **more: Any) -> Path:
    answer = response("d/0", "a", input_tokens=1, output_tokens=1, **more)
    return fill(path, {"queries": [query("d/0")], "models": [model("a")], "responses": [answer]})


def test_a_store_without_responses_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="holds no responses: fill it"):
        load_arrays(fill(tmp_path / "s.duckdb", {"queries": [query("d/0")]}))


def test_an_answer_without_a_grade_is_named_even_where_the_price_is_unknown_too(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="1 responses have no grade, first d/0: grade them"):
        load_arrays(one_cell(tmp_path / "s.duckdb"))


def test_an_unknown_price_asks_for_a_card(tmp_path: Path) -> None:
    path = one_cell(tmp_path / "s.duckdb")
    with ResponseStore(path, write=True) as store:
        store.con.execute("INSERT INTO scores SELECT response_id, 'exact', 1, 1, NULL FROM responses")
    with pytest.raises(LabError, match=r"cost unknown for a \(1 responses\): add price cards"):
        load_arrays(path)


def test_a_failed_call_needs_neither_grade_nor_price(tmp_path: Path) -> None:
    arrays = load_arrays(one_cell(tmp_path / "s.duckdb", status="failed"))
    assert arrays["score"].tolist() == arrays["cost_usd"].tolist() == [[[0.0]]]
    assert arrays["status"].tolist() == [[[STATUSES.index("failed")]]]


def test_no_whole_query_is_an_error(tmp_path: Path) -> None:
    rows = [response("d/0", "a", status="failed"), response("d/1", "b", status="failed")]
    path = fill(tmp_path / "s.duckdb", {"queries": [query("d/0"), query("d/1")], "responses": rows})
    with pytest.raises(LabError, match="no query has an answer of every model and prompt style"):
        load_arrays(path)
