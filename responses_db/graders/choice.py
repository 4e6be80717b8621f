"""The letter of an option: A to J."""

import re

from responses_db.graders.base import final_answer
from responses_db.query import Query

LETTER = re.compile(r"\(?([A-J])\)?(?:[.:,)\s]|$)")


class ChoiceGrader:
    """1 if the letter at the head of the final answer is the reference's, else 0."""

    name = "choice"
    version = 1

    def extract(self, text: str) -> str | None:
        found = LETTER.match(final_answer(text) or text.strip())
        return found[1] if found else None

    def score(self, answer: str, query: Query) -> float:
        return float(answer == self.extract(query.reference or ""))
