"""What a grader is, and how an answer is read out of a text."""

import re
from dataclasses import dataclass
from typing import Protocol

from responses_db.query import Query

FINAL = re.compile(r"(?im)^[ \t>*_#`]*(?:final )?answer[ \t*_`]*:[ \t*_]*")
MARKED = re.compile(r"(?m)^[ \t]*####[ \t]*([^#\s][^\n]*)\s*\Z")
MARKS = "*_` \t\n"


class Grader(Protocol):
    """Grades the responses to a query. `version` grows with every change that may alter a score or an answer.

    A grader that `waits` for other processes grades several answers at a time, in threads.
    """

    name: str
    version: int
    waits: bool

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
    """What a text marks as its answer, without bold marks, backquotes or \\boxed{}; None if it marks nothing.

    That is what stands after the last line that begins with `Answer:`; without such a line, what is in the last
    \\boxed{…}; without that, what stands after `####` on the last line, as in GSM8K.
    """
    parts = FINAL.split(text)
    answer = parts[-1].strip(MARKS) if len(parts) > 1 else boxed(text) or _marked(text)
    whole = answer.strip("$ ")
    if whole.rfind("\\boxed{") == 0 and whole.endswith("}"):
        answer = boxed(whole) or ""
    return answer or None


def boxed(text: str) -> str | None:
    """What is in the last \\boxed{…} or \\fbox{…} of a text, braces balanced; None if there is none."""
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    begin = text.index("{", start)
    depth = 0
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return _ungrouped(text[begin + 1 : place].strip())
    return None


def _ungrouped(latex: str) -> str:
    """Without braces that only group: \\boxed{{84}} is 84. A set has its braces escaped."""
    inner = latex[1:-1]
    return inner.strip() if latex == f"{{{inner}}}" and not set("{}") & set(inner) else latex


def _marked(text: str) -> str:
    found = MARKED.search(text)
    return found[1].strip(MARKS) if found else ""
