"""Graders: what counts as the answer, and what it scores."""

import pytest

from responses_db.graders import GRADERS, Grader, Verdict, final_answer, grade
from responses_db.query import Query


def query(reference: str, grader: str, **metadata: object) -> Query:
    messages = [{"role": "user", "content": "?"}]
    return Query("d/q", "d", "arithmetic", messages, "?", reference, grader, "train", metadata)


SUM = {"generator": "chain_sum", "entry": {"question": "4 + 5", "answer": "9", "metadata": {}}}

RIGHT_AND_WRONG = {
    "exact": (query("Paris", "exact"), "paris.", "London"),
    "choice": (query("C", "choice"), "(C) because", "D"),
    "numeric": (query("1000", "numeric"), "1,000", "1001"),
    "reasoning_gym": (query("9", "reasoning_gym", **SUM), "9", "8"),
}


@pytest.mark.parametrize("grader", GRADERS.values(), ids=GRADERS)
def test_every_grader_tells_right_from_wrong_and_from_no_answer(grader: Grader) -> None:
    asked, right, wrong = RIGHT_AND_WRONG[grader.name]
    assert grade(grader, f"Let me see.\nAnswer: {right}", asked).score == 1.0
    assert grade(grader, f"Let me see.\nAnswer: {wrong}", asked).score < 0.5
    assert grade(grader, "", asked) == Verdict(0.0, None)
    assert grade(grader, None, asked) == Verdict(0.0, None)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: 42", "42"),
        ("First\nAnswer: 1\nNo:\nFinal answer: 2", "2"),
        ("**Answer:** $\\boxed{42}$", "42"),
        ("Answer: **yes**", "yes"),
        ("Answer:\n1 2\n3 4", "1 2\n3 4"),
        ("The answer is unknown", None),
        ("Answer:", None),
    ],
)
def test_the_final_answer_stands_after_the_last_answer_line(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "same"),
    [("1,000", "1000"), ("1e3", "1000"), ("0.5", "1/2"), ("50%", "0.5"), ("-7 apples", "−7"), ("$12", "12")],
)
def test_equal_numbers_are_equal_answers(text: str, same: str) -> None:
    extract = GRADERS["numeric"].extract
    assert extract(f"Answer: {text}") == extract(f"Answer: {same}") is not None


def test_a_scorer_that_cannot_score_raises_instead_of_giving_zero() -> None:
    with pytest.raises(ValueError, match="is no number"):
        grade(GRADERS["numeric"], "Answer: 3", query("three", "numeric"))


def test_partial_credit_counts_as_reasoning_gym_publishes_it() -> None:
    """Its default scorer gives a part of a point to a longer answer that contains the right one."""
    assert grade(GRADERS["reasoning_gym"], "Answer: 9 or 8", query("9", "reasoning_gym", **SUM)).score == pytest.approx(
        1 / 6
    )
