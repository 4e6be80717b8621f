"""What a grader is, and how an answer is read out of a text."""

import re
from dataclasses import dataclass
from typing import Protocol

from responses_db.query import Query

FINAL = re.compile(r"(?im)^[ \t>*_#`]*(?:final )?answer[ \t*_`]*:[ \t*_]*")
BOXED = re.compile(r"\$?\\boxed\{(.+)\}\$?", re.S)
MARKS = "*_` \t\n"


class Grader(Protocol):
    """Grades the responses to a query. `version` grows with every change that may alter a score or an answer."""

    name: str
    version: int

    def extract(self, text: str) -> str | None:
        """The answer in normal form, so that equal answers are equal strings; None if there is none.

        It never sees the reference, so routers may look at it.
        """
        ...

    def score(self, answer: str, query: Query) -> float:
        """The grade in [0, 1] of an extracted answer. Raises when it cannot grade: that is never a zero."""
        ...


@dataclass(frozen=True)
class Verdict:
    """A grade with the answer that was graded. No answer is a zero, and `answer` None tells why."""

    score: float
    answer: str | None


def grade(grader: Grader, text: str | None, query: Query) -> Verdict:
    """Extract, then score. ValueError when a grader leaves [0, 1]; what it raises itself passes through."""
    answer = grader.extract(text or "")
    if answer is None:
        return Verdict(0.0, None)
    score = grader.score(answer, query)
    if not 0.0 <= score <= 1.0:
        raise ValueError(f"grader {grader.name} gave {score!r}, outside 0 to 1")
    return Verdict(float(score), answer)


def final_answer(text: str) -> str | None:
    """What stands after the last line that begins with `Answer:`, without bold marks, backquotes or \\boxed{}."""
    parts = FINAL.split(text)
    answer = parts[-1].strip(MARKS) if len(parts) > 1 else ""
    boxed = BOXED.fullmatch(answer)
    return (boxed[1].strip() if boxed else answer) or None
