"""Equal text, whatever its case, spaces and closing full stop."""

from responses_db.graders.base import final_answer
from responses_db.query import Query


class ExactGrader:
    """1 if the final answer equals the reference when both are folded, else 0."""

    name = "exact"
    version = 2
    waits = False

    def extract(self, text: str) -> str | None:
        answer = final_answer(text)
        return fold(answer) or None if answer else None

    def score(self, answer: str, query: Query) -> float:
        return float(answer == fold(query.reference or ""))


def fold(text: str) -> str:
    """Lower case, single spaces, no quotes around it and no full stop at its end."""
    return " ".join(text.casefold().split()).strip("\"' ").removesuffix(".")
