"""The letter of an option: A to J."""

import re

from responses_db.graders.base import final_answer
from responses_db.query import Query

HEAD = re.compile(r"\W*(?:\\text\w*\{)?\W*([A-J])(?![\w'’])")
"""A letter at the head of a final answer: "C", "(C) because", "**C.** Paris", "\\text{C}"."""

ALONE = re.compile(r"[(*\s]*([A-J])(?:[).:,*]|\s*(?:[(\n]|$))")
"""A letter at the head of a text without a final answer; "A good question" has none."""

DECLARED = re.compile(r"(?i:\b(?:answer|option|choice)(?: is|:)?)[\s:*]*(?:\$?\\boxed\{)?\(?([A-J])(?![\w'’])")


class ChoiceGrader:
    """1 if the letter that the text gives as its answer is the reference's, else 0.

    That is the letter at the head of the final answer; without one, the letter that the text begins with; without
    that, the last that it declares ("the answer is (C)").
    """

    name = "choice"
    version = 2
    waits = False

    def extract(self, text: str) -> str | None:
        final = final_answer(text)
        found = (HEAD.match(final) if final else ALONE.match(text)) or _last(text)
        return found[1] if found else None

    def score(self, answer: str, query: Query) -> float:
        """ValueError when the reference is no letter."""
        wanted = self.extract(query.reference or "")
        if wanted is None:
            raise ValueError(f"the reference {query.reference!r} is no letter from A to J")
        return float(answer == wanted)


def _last(text: str) -> re.Match[str] | None:
    return next(iter(reversed(list(DECLARED.finditer(text)))), None)
