"""One's own queries: a JSON Lines file, one query a line.

Each line is an object with `question` (text) and `reference` (text); `id`, `domain`, `split`, `messages` (chat messages
without a system message, where the prompt is more than the question) and `metadata` may stand beside them.
"""

import json
from pathlib import Path
from typing import Any

from responses_db.errors import LabError
from responses_db.graders import GRADERS
from responses_db.query import Query, digest, split_of
from responses_db.toml_table import Table

SPLITS = ("train", "validation", "test")


def read(table: Table, seed: int, folder: Path) -> list[Query]:
    """The file's queries in its order. A relative `path` counts from the config's folder."""
    path = folder / table.text("path")
    dataset = table.text("dataset", path.stem)
    domain = table.text("domain", dataset)
    grader = table.text("grader", among=GRADERS)
    table.finish()
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise table.fail(f"no file {path}: give `path` as seen from {folder}") from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    return [_query(Table(_object(path, n, line), f"{path}, line {n}"), dataset, domain, grader) for n, line in numbered]


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise LabError(f"{path}, line {number}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise LabError(f"{path}, line {number}: not an object: write {{…}} with question and reference")
    return value


def _query(row: Table, dataset: str, domain: str, grader: str) -> Query:
    question = row.text("question")
    query_id = f"{dataset}/{row.text('id', digest(question)[:16])}"
    query = Query(
        query_id=query_id,
        dataset=dataset,
        domain=row.text("domain", domain),
        messages=[dict(message.values) for message in row.tables("messages", [{"role": "user", "content": question}])],
        question=question,
        reference=row.text("reference"),
        grader=grader,
        split=row.text("split", split_of(query_id), among=SPLITS),
        metadata=row.mapping("metadata", {}),
    )
    row.finish()
    return query
