"""reasoning-gym's own scorers, applied to the final answer.

Their verdict counts as published, partial credit included: some give 0.01 to 0.05 for a wrong answer, and many give
part of a point to a long answer that contains the right one. A text without an answer scores 0 here, though.
"""

from functools import cache
from typing import Any

from responses_db.graders.base import final_answer
from responses_db.query import Query


class ReasoningGymGrader:
    """Asks the generator that made the query (`metadata.generator`) to score against its own entry."""

    name = "reasoning_gym"
    version = 2
    waits = False

    def extract(self, text: str) -> str | None:
        return final_answer(text)

    def score(self, answer: str, query: Query) -> float:
        scorer, entry = _scorer(query.metadata["generator"]), query.metadata["entry"]
        try:
            return float(scorer.score_answer(answer, entry))
        except Exception:
            # Some scorers stumble over what they cannot read (prime_factorization: "3 × 3 = 9"). That is a wrong answer
            # if the scorer can do its work otherwise; if it stumbles over the reference too, nobody can tell.
            scorer.score_answer(entry["answer"], entry)
            return 0.0


@cache
def _scorer(generator: str) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(generator, size=1, seed=0)
