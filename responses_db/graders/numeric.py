"""Equal numbers, however they are written: 1,000 and 1e3, 0.5 and 1/2, 50%."""

import re
from fractions import Fraction

from responses_db.graders.base import final_answer
from responses_db.query import Query

NUMBER = re.compile(r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.?\d+)?(?:e[-+]?\d{1,3})?(?:\s*/\s*\d+)?\s*%?", re.I)
FRACTION = re.compile(r"\\[dt]?frac\{(-?\d+)\}\{(\d+)\}")
POWER = re.compile(r"(\d)\s*(?:×|x|\*|·|\\times|\\cdot)\s*10\s*(?:\^|\*\*)\s*\{?([-−]?\d{1,3})\}?")
TOLERANCE = Fraction(1, 10**6)


class NumericGrader:
    """1 if the number of the final answer is within a millionth (relative) of the reference, else 0.

    That is the first number after the last equals sign, if there is one: "3 + 4 = 7 apples" answers 7.
    """

    name = "numeric"
    version = 2
    waits = False

    def extract(self, text: str) -> str | None:
        answer = final_answer(text) or ""
        value = number(answer.rpartition("=")[2])
        value = number(answer) if value is None else value
        return None if value is None else str(value)

    def score(self, answer: str, query: Query) -> float:
        wanted = number(query.reference or "")
        if wanted is None:
            raise ValueError(f"the reference {query.reference!r} is no number")
        return float(abs(Fraction(answer) - wanted) <= TOLERANCE * abs(wanted))


def number(text: str) -> Fraction | None:
    """The first number in a text, exactly; None where there is none or it divides by zero."""
    text = POWER.sub(r"\1e\2", FRACTION.sub(r"\1/\2", text.replace("\\%", "%")))
    for found in NUMBER.finditer(text):
        plain = found[0].replace(",", "").replace("−", "-").replace(" ", "")
        if not any(sign.isdigit() for sign in plain):
            continue
        above, _, below = plain.removesuffix("%").partition("/")
        try:
            return Fraction(above) / Fraction(below or 1) / (100 if plain.endswith("%") else 1)
        except (ValueError, ZeroDivisionError):
            return None
    return None
