"""Graders: what counts as the answer, and what it scores."""

import inspect

import pytest

from responses_db.graders import GRADERS, Grader, Verdict, final_answer, grade, sandbox
from responses_db.query import Query


def query(reference: str, grader: str, **metadata: object) -> Query:
    messages = [{"role": "user", "content": "?"}]
    return Query("d/q", "d", "arithmetic", messages, "?", reference, grader, "train", metadata)


SUM = {"generator": "chain_sum", "entry": {"question": "4 + 5", "answer": "9", "metadata": {}}}

DOUBLE = {"tests": "assert double(2) == 4", "entry_point": "double"}

RIGHT_AND_WRONG = {
    "exact": (query("Paris", "exact"), "paris.", "London"),
    "choice": (query("C", "choice"), "(C) because", "D"),
    "numeric": (query("1000", "numeric"), "1,000", "1001"),
    "math": (query("\\frac{1}{2}", "math"), "$0.5$", "$0.6$"),
    "reasoning_gym": (query("9", "reasoning_gym", **SUM), "9", "8"),
    "code": (query("", "code", **DOUBLE), *(f"\n```python\ndef double(x):\n    return x {op} 2\n```" for op in "*/")),
    "judge": (query("", "judge"), None, None),
}


@pytest.mark.parametrize("grader", GRADERS.values(), ids=GRADERS)
def test_every_grader_tells_right_from_wrong_and_from_no_answer(grader: Grader) -> None:
    asked, right, wrong = RIGHT_AND_WRONG[grader.name]
    assert grade(grader, "", asked) == Verdict(0.0, None)
    assert grade(grader, None, asked) == Verdict(0.0, None)
    if right is None:
        with pytest.raises(ValueError, match="store regrade"):
            grade(grader, "Answer: 1", asked)
        return
    if grader.name == "code" and (trouble := sandbox.why_not()):
        pytest.skip(trouble)
    assert grade(grader, f"Let me see.\nAnswer: {right}", asked).score == 1.0
    assert grade(grader, f"Let me see.\nAnswer: {wrong}", asked).score < 0.5


@pytest.mark.parametrize("grader", GRADERS.values(), ids=GRADERS)
def test_a_grader_has_a_version_and_reads_an_answer_without_the_query(grader: Grader) -> None:
    """`extract` is given the text alone, so it cannot look at the reference; equal texts give equal answers."""
    assert grader.version >= 1
    text = "So:\nAnswer: B) 7\n```python\ndef f(): pass\n```"
    assert list(inspect.signature(grader.extract).parameters) == ["text"]
    assert grader.extract(text) == grader.extract(text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: 42", "42"),
        ("First\nAnswer: 1\nNo:\nFinal answer: 2", "2"),
        ("**Answer:** $\\boxed{42}$", "42"),
        ("Answer: **yes**", "yes"),
        ("Answer:\n1 2\n3 4", "1 2\n3 4"),
        ("so it is \\boxed{\\frac{1}{2}}, I think", "\\frac{1}{2}"),
        ("\\boxed{1} no, \\boxed{2}", "2"),
        ("\\boxed{{84}}.", "84"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{1}\nAnswer: 2", "2"),
        ("4 + 5 = 9\n#### 9\n", "9"),
        ("#### Step 2\nwe add", None),
        ("\\boxed{never closed", None),
        ("The answer is unknown", None),
        ("Answer:", None),
    ],
)
def test_the_final_answer_stands_after_the_last_answer_line(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("1,000", "1000"),
        ("1e3", "1000"),
        ("0.5", "1/2"),
        ("50%", "0.5"),
        ("-7 apples", "−7"),
        ("$12", "12"),
        ("3 + 4 = 7 apples", "7"),
        ("x = 5", "5"),
        ("\\frac{1}{2}", "0.5"),
        ("2.5 × 10^{3}", "2500"),
        ("50\\%", "0.5"),
    ],
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


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Answer: C", "C"),
        ("**Answer: (B)** Paris", "B"),
        ("Answer: \\boxed{\\text{D}}", "D"),
        ("\\boxed{D}\n\nExplanation: video is best", "D"),
        ("C", "C"),
        ("B) because", "B"),
        ("D (", "D"),
        ("C\n\nThis is why", "C"),
        ("I weigh A against B. The answer is (B).", "B"),
        ("The correct option: D", "D"),
        ("A good question, which I cannot answer.", None),
        ("I do not know", None),
        ("Answer: Apples", None),
    ],
)
def test_the_letter_of_a_choice(text: str, letter: str | None) -> None:
    assert GRADERS["choice"].extract(text) == letter


def test_a_choice_without_a_letter_for_reference_cannot_be_graded() -> None:
    with pytest.raises(ValueError, match="no letter"):
        grade(GRADERS["choice"], "Answer: B", query("Paris", "choice"))


def test_an_answer_that_the_scorer_stumbles_over_is_wrong_and_a_broken_entry_is_no_grade() -> None:
    import reasoning_gym

    entry = reasoning_gym.create_dataset("prime_factorization", size=1, seed=0)[0]
    messages = [{"role": "user", "content": entry["question"]}]

    def asked(entry: dict[str, object]) -> Query:
        metadata = {"generator": "prime_factorization", "entry": entry}
        return Query("q", "d", "d", messages, "q", None, "reasoning_gym", "test", metadata)

    grader = GRADERS["reasoning_gym"]
    assert grade(grader, "Answer: 3 × 3 = 9", asked(entry)).score == 0.0
    assert grade(grader, f"Answer: {entry['answer']}", asked(entry)).score == 1.0
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the scorer raises: the answer stays ungraded
        grade(grader, "Answer: 3 × 3 = 9", asked({}))
