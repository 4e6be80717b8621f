"""One's own queries: a JSON Lines or a Parquet file, one query a row.

    question    text, needed
    reference   text, needed unless the grader is `code` or `judge`
    id          text; a hash of the question without it
    domain      text; the task's `domain` without it
    split       train, validation or test; by the id's hash without it, 70 to 30
    grader      one of responses_db.graders; the task's `grader` without it
    messages    chat messages without a system message, where the prompt is more than the question
    metadata    an object; for `code` with `tests`, and perhaps `entry_point` and `prompt_code`

In Parquet, messages and metadata are lists and structs, or texts of JSON, and a null is as good as an absent value.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from responses_db.errors import LabError
from responses_db.graders import GRADERS
from responses_db.query import Query, digest, split_of
from responses_db.toml_table import Table

SPLITS = ("train", "validation", "test")
WITHOUT_REFERENCE = ("code", "judge")
NESTED = ("messages", "metadata")


def read(table: Table, seed: int, folder: Path) -> list[Query]:
    """The file's queries in its order. A relative `path` counts from the config's folder."""
    path = folder / table.text("path")
    dataset = table.text("dataset", path.stem)
    domain = table.text("domain", dataset)
    grader = table.text("grader", among=GRADERS) if "grader" in table.values else None
    table.finish()
    if not path.is_file():
        raise table.fail(f"no file {path}: give `path` as seen from {folder}")
    rows = _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path)
    return [_query(row, dataset, domain, grader) for row in rows]


def _json_rows(path: Path) -> Iterator[Table]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise LabError(f"{path}: no text in UTF-8 ({error.reason}): is it a Parquet file? Name it .parquet") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield Table(_object(path, number, line), f"{path}, line {number}")


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise LabError(f"{path}, line {number}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise LabError(f"{path}, line {number}: not an object: write {{…}} with question and reference")
    return value


def _parquet_rows(path: Path) -> Iterator[Table]:
    import polars as pl

    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LabError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from None
    for number, row in enumerate(frame.iter_rows(named=True), 1):
        where = f"{path}, row {number}"
        yield Table({key: _nested(key, value, where) for key, value in row.items() if value is not None}, where)


def _nested(key: str, value: Any, where: str) -> Any:
    if key not in NESTED:
        return value
    if isinstance(value, str):
        try:
            return json.loads(value)
        except json.JSONDecodeError as error:
            raise LabError(f"{where}: `{key}` is a text that is not JSON: {error}") from None
    return {name: item for name, item in value.items() if item is not None} if isinstance(value, dict) else value


def _query(row: Table, dataset: str, domain: str, grader: str | None) -> Query:
    question = row.text("question")
    query_id = f"{dataset}/{row.text('id', digest(question)[:16])}"
    own = row.text("grader", grader or ..., among=GRADERS)
    metadata = row.mapping("metadata", {})
    if own == "code" and not isinstance(metadata.get("tests"), str):
        raise row.fail('grader `code` needs tests: add metadata = {"tests": "assert …"}')
    query = Query(
        query_id=query_id,
        dataset=dataset,
        domain=row.text("domain", domain),
        messages=[dict(message.values) for message in row.tables("messages", [{"role": "user", "content": question}])],
        question=question,
        reference=row.text("reference", None if own in WITHOUT_REFERENCE else ...),
        grader=own,
        split=row.text("split", split_of(query_id), among=SPLITS),
        metadata=metadata,
    )
    row.finish()
    return query
