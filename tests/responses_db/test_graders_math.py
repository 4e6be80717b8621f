"""Mathematics: equal in value is equal, in any thread, and what cannot be compared is no zero."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from responses_db.graders import Verdict, grade
from responses_db.graders import mathematics as module
from responses_db.graders.mathematics import MathGrader
from responses_db.query import Query

GRADER = MathGrader()


def score(text: str, reference: str) -> float:
    return grade(GRADER, text, Query("d/q", "d", "math", [], "?", reference, "math", "test")).score


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("Answer: 1/2", "\\frac{1}{2}"),
        ("\\boxed{0.5}", "1/2"),
        ("so the answer is $\\frac{3}{4}$.", "0.75"),
        ("Answer: x^2 + 2x + 1", "(x+1)^2"),
        ("Answer: $18 a day", "18"),
        ("Answer: Janet makes $18 every day", "18"),
        ("4 + 5\n#### 1,000", "1000"),
        ("Answer: 25%", "25"),
        ("Answer: {1, 2}", "\\{2,1\\}"),
        ("Answer: (3, π/2)", "(3,\\frac{\\pi}{2})"),
        ("Answer: sqrt(2)/2", "\\frac{\\sqrt{2}}{2}"),
        ("Answer: x = 5", "5"),
        ("Answer: 0.333333", "1/3"),
        ("\\boxed{24}", "024"),
        ("Answer: 10080", "10,\\!080"),
        ("\\boxed{[0,\\infty)}", "[0,\\infty)"),
        ("Answer: Evelyn", "\\text{Evelyn}"),
    ],
)
def test_what_is_equal_is_right_however_it_is_written(text: str, reference: str) -> None:
    assert score(text, reference) == 1.0


@pytest.mark.parametrize(
    ("text", "reference"),
    [("Answer: 1/3", "1/2"), ("Answer: -7", "7"), ("Answer: (2, 3)", "(3, 2)"), ("Answer: Tom", "\\text{Evelyn}")],
)
def test_what_is_not_equal_is_wrong(text: str, reference: str) -> None:
    assert score(text, reference) == 0.0


@pytest.mark.parametrize(
    ("text", "answer"),
    [("Answer: 0.50", "0.5"), ("Answer: 2/4", "1/2"), ("\\boxed{1,000}", "1000"), ("I do not know", None), ("", None)],
)
def test_numbers_have_a_normal_form_and_no_answer_is_none(text: str, answer: str | None) -> None:
    assert GRADER.extract(text) == answer


def test_it_works_in_threads_side_by_side() -> None:
    """math-verify's own timeout is a signal, which raises in every thread but the main one."""
    with ThreadPoolExecutor(3) as pool:
        scores = list(pool.map(lambda i: score(f"Answer: {i}/2", "\\frac{4}{2}"), range(8)))
    assert scores == [0, 0, 0, 0, 1, 0, 0, 0]


def test_a_comparison_without_end_is_stopped_and_is_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALL_S", 2.0)
    assert score("Answer: 3", "3") == 1.0
    with pytest.raises(TimeoutError, match="within 2 s"):
        score("\\boxed{9^{9^{9^9}}}", "3")
    assert score("Answer: 3", "4") == 0.0  # the next question finds a new worker


def test_a_worker_that_dies_is_no_zero_and_is_replaced() -> None:
    class Dying(module._Worker):
        def ask(self, question: dict[str, str], seconds: float) -> object:
            self._process.kill()
            self._process.wait()
            return super().ask(question, seconds)

    dying = Dying()
    while not module._idle.empty():
        module._idle.get().close()
    module._idle.put(dying)
    with pytest.raises(RuntimeError, match="process"):
        score("Answer: 3", "4")
    assert score("Answer: 3", "3") == 1.0


def test_a_reference_that_is_missing_or_unreadable_is_no_zero() -> None:
    with pytest.raises(ValueError, match="no reference"):
        score("Answer: 3", "")
    assert grade(GRADER, "nothing", Query("d/q", "d", "m", [], "?", "", "math", "test")) == Verdict(0.0, None)
