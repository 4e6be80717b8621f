"""What a language-model policy reads of a replay (questions, responses, price cards), and how what it writes is graded.

A replay holds no texts. They are read once from its store and shared by all environments that play on it.
"""

import json
from typing import Protocol

from responses_db import LabError, ResponseStore
from responses_db.graders import GRADERS, JUDGE, grade
from responses_db.query import Message, Query
from xrouter_sim.features import response_texts
from xrouter_sim.replay import Replay

QUERIES_SQL = """
SELECT query_id, dataset, domain, messages, question, reference, grader, split, metadata FROM queries ORDER BY query_id
"""

CARDS_SQL = """
SELECT model_id, input_usd_per_mtok, output_usd_per_mtok FROM price_cards WHERE valid_from <= current_date
QUALIFY row_number() OVER (PARTITION BY model_id ORDER BY valid_from DESC) = 1
"""

Card = tuple[float, float]
"""USD per million input and output tokens at list price."""


class Texts(Protocol):
    """Queries, arms, models and samples go by their place in the replay."""

    def messages(self, query: int) -> list[Message]:
        """What is asked, as chat messages."""

    def response(self, query: int, arm: int, sample: int) -> str | None:
        """What an arm answered; None where no text is known."""

    def card(self, model: int) -> Card | None:
        """None where no price card is known."""

    def can_grade(self, query: int) -> bool:
        """Whether an answer in the policy's own words can be graded."""

    def grade(self, query: int, text: str) -> float:
        """The score in [0, 1] of an answer in the policy's own words. Raises whatever the grader raises."""


class StoreTexts:
    """The texts of a replay's store, held in memory: about as much as the store's different texts are long."""

    def __init__(self, replay: Replay) -> None:
        """Raises LabError when the store is not there, or has changed since the replay was loaded."""
        self._texts, self._index = response_texts(replay)
        with ResponseStore(replay.store["path"]) as store:
            queries = store.frame(QUERIES_SQL)
            cards = {model: (paid_in, paid_out) for model, paid_in, paid_out in store.frame(CARDS_SQL).iter_rows()}
        places = {query_id: place for place, query_id in enumerate(queries["query_id"])}
        self._queries, self._row = queries, [places[query_id] for query_id in replay.query_ids]
        self._cards = [_whole(cards.get(model)) for model in replay.model_ids]

    def query(self, query: int) -> Query:
        """The query as its task gave it, reference included: for grading."""
        row = self._queries.row(self._row[query], named=True)
        row |= {name: json.loads(row[name]) for name in ("messages", "metadata") if row[name] is not None}
        return Query(**row | {"metadata": row["metadata"] or {}})

    def messages(self, query: int) -> list[Message]:
        return self.query(query).messages

    def response(self, query: int, arm: int, sample: int) -> str | None:
        place = self._index[query, arm, sample]
        return None if place < 0 else self._texts[place]

    def card(self, model: int) -> Card | None:
        return self._cards[model]

    def can_grade(self, query: int) -> bool:
        grader = self._queries["grader"][self._row[query]]
        return grader in GRADERS and grader != JUDGE

    def grade(self, query: int, text: str) -> float:
        asked = self.query(query)
        if asked.grader not in GRADERS:
            raise LabError(f"{asked.query_id}: no grader {asked.grader!r} for new answers: they came with the data")
        return grade(GRADERS[asked.grader], text, asked).score


def _whole(card: tuple[float | None, float | None] | None) -> Card | None:
    """A card that knows both prices."""
    if card is None or card[0] is None or card[1] is None:
        return None
    return card[0], card[1]
