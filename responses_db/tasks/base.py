"""What a task is, and how the queries of several are mixed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

from responses_db.errors import LabError
from responses_db.query import Query
from responses_db.toml_table import Table


@dataclass(frozen=True)
class Task:
    """A kind of task source. `read` takes a [[tasks]] table, the config's seed and folder; LabError if it cannot."""

    name: str
    summary: str
    read: Callable[[Table, int, Path], list[Query]]


def interleave(groups: Iterable[list[Query]]) -> list[Query]:
    """The groups' queries in turn, so that the first N are of every group. LabError when one id stands twice."""
    queries = [query for query in chain.from_iterable(zip_longest(*groups)) if query is not None]
    seen = set[str]()
    for query in queries:
        if query.query_id in seen:
            raise LabError(f"two queries have the id {query.query_id}: is one task listed twice? Give it another seed")
        seen.add(query.query_id)
    return queries
