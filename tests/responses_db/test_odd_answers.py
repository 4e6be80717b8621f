"""Reading what endpoints send: tokens, reasoning and money where they say so, estimates where not, and odd fields."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from responses_db import ResponseStore
from responses_db.cells import Cell
from responses_db.completion import Usage, text_of, usage_of
from responses_db.providers import Endpoint, Model
from responses_db.providers.client import Reply, parse
from responses_db.providers.openai import OpenAIProvider
from responses_db.query import Query
from responses_db.recorder import Recorder

QUERY = Query("q", "d", "sums", [{"role": "user", "content": "one?"}], "one?", "1", "exact", "train")
MODEL = Model("m", "m", None)
PROVIDER = OpenAIProvider("p", Endpoint("https://host/v1"), [MODEL], {}, 1)


def answer(usage: object = None, **message: object) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": "twelve chars"} | message}], "usage": usage}


@pytest.mark.parametrize(
    ("usage", "found"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 5}, Usage(9, 5, None, None, "usage")),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "total_tokens": 14,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(9, 5, 4, 3, "usage"),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 5, "prompt_cache_hit_tokens": 8}, Usage(9, 5, 8, None, "usage")),
        # Gemini leaves its reasoning out of completion_tokens, and bills it
        ({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 30}, Usage(9, 21, None, 16, "usage")),
        (None, Usage(10, 3, None, None, "estimate")),
        ({}, Usage(10, 3, None, None, "estimate")),
        ({"prompt_tokens": 9}, Usage(9, 3, None, None, "estimate")),
        ({"prompt_tokens": -1, "completion_tokens": True}, Usage(10, 3, None, None, "estimate")),
        (
            {"prompt_tokens": 2, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 7}},
            Usage(2, 5, 2, None, "usage"),
        ),
    ],
)
def test_tokens_are_the_endpoints_own_or_estimated_and_marked(usage: object, found: Usage) -> None:
    assert usage_of(answer(usage), prompt_characters=40) == found


def test_reasoning_that_came_along_counts_in_an_estimate() -> None:
    assert usage_of(answer(reasoning_content="x" * 100), 40).output == 28


def test_a_text_in_parts_is_one_text() -> None:
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Ans"}, {"type": "text", "text": "wer"}]
    assert text_of(answer(content=parts)) == "Answer"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"error": {"message": "no credit"}}, "no credit"),
        ({"choices": [{"message": {"content": "half"}, "finish_reason": "error"}]}, "error half-way"),
        ({"choices": [{"message": {"content": 3}}]}, "content is no text"),
        ([], "no chat completion"),
    ],
)
def test_an_error_in_a_good_status_is_no_answer(body: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(json.dumps(body).encode())


TEXTS = st.text(st.characters(exclude_categories=()), max_size=8)  # halves of surrogate pairs as well
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
COUNTS = ["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "cost"]
MESSAGES = st.fixed_dictionaries({}, optional={"content": VALUES, "refusal": VALUES, "reasoning_content": VALUES})
LOGPROBS = st.fixed_dictionaries(
    {"content": st.lists(VALUES | st.fixed_dictionaries({"logprob": VALUES}), max_size=3)},
)
CHOICES = st.fixed_dictionaries(
    {"message": MESSAGES}, optional={"finish_reason": VALUES, "logprobs": VALUES | LOGPROBS}
)
COMPLETIONS = st.fixed_dictionaries(
    {"choices": st.lists(CHOICES, min_size=1, max_size=1)},
    optional={"model": VALUES, "usage": VALUES | st.dictionaries(st.sampled_from(COUNTS), VALUES)},
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResponseStore]:
    with ResponseStore(Path(tmp_path_factory.mktemp("odd"), "store.duckdb"), write=True) as store:
        yield store


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(completion=COMPLETIONS)
def test_whatever_an_endpoint_sends_is_malformed_or_can_be_stored(
    completion: dict[str, Any], store: ResponseStore
) -> None:
    """One odd answer must not cost the batch that it is committed with."""
    try:
        reply = Reply(b"", parse(json.dumps(completion).encode()), 0.1)
    except ValueError:
        return
    store.con.execute("DELETE FROM scores; DELETE FROM responses")
    recorder = Recorder(store, "run")
    recorder.take([(Cell(QUERY, PROVIDER, MODEL, "plain", "", 0, 100), reply)])
    recorder.commit()
    (row,) = store.frame("SELECT * FROM responses").iter_rows(named=True)
    assert row["input_tokens"] >= 0
    assert row["tokens_from"] in ("usage", "estimate")
