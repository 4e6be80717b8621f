"""The place of an LLM judge among the graders: it reads the whole answer, and only `store regrade` can ask it.

A query with this grader is harvested like any other and stays ungraded until a judge is named:
`xrouter-sim store regrade --grader judge --judge FILE.toml` (see responses_db/judging.py).
"""

from responses_db.query import Query


class JudgeGrader:
    """Its version is the one in the judge's file: model, prompt and rubric make the judge, not this class."""

    name = "judge"
    version = 1
    waits = True

    def extract(self, text: str) -> str | None:
        return text.strip() or None

    def score(self, answer: str, query: Query) -> float:
        raise ValueError("a judge is asked by `xrouter-sim store regrade --grader judge --judge FILE.toml`")
