"""A query, as every task gives it, and how queries fall into train and test."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TRAIN_SHARE = 0.7
"""Share of queries in split `train`; the others are `test`."""

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Query:
    """One task for a model. `messages` come without the prompt style's system message; `metadata` is JSON-able."""

    query_id: str
    dataset: str
    domain: str
    messages: list[Message]
    question: str
    reference: str | None
    grader: str
    split: str
    metadata: dict[str, Any] = field(default_factory=dict)


def digest(*parts: object) -> str:
    """Hex SHA-256 of the parts: the source of every id and seed here (unlike `hash()`, equal in every process)."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()


def split_of(query_id: str) -> str:
    """`train` or `test` by the id's hash: 70 / 30, whatever else is in the store. Equal ids, equal split."""
    return "train" if int(digest("split", query_id)[:8], 16) / 2**32 < TRAIN_SHARE else "test"


def query_of(row: Mapping[str, Any]) -> Query:
    """A query from its row in a store, whatever config or import it came from."""
    messages, metadata = json.loads(row["messages"]), json.loads(row["metadata"] or "{}")
    own = {name: row[name] for name in ("query_id", "dataset", "domain", "question", "reference", "grader", "split")}
    return Query(**own, messages=messages, metadata=metadata)
