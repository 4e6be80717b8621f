"""JSON and JSON Lines files as records, with one clear line for whatever may be wrong with them."""

import json
from collections.abc import Iterator
from typing import Any

from responses_db.errors import LabError
from responses_db.importers.base import faulty
from responses_db.importers.sources import Source, first_line, text_lines

TROUBLE = (ValueError, RecursionError, MemoryError)
"""What the parser raises: no JSON, numbers of thousands of digits, nesting without end."""


def read_json(source: Source) -> Any:
    """The one value of a JSON file. Raises LabError where there is none."""
    text = text_lines(source.load(), source.name).read()
    if not text.strip():
        raise LabError(f"{source.name}: the file is empty")
    try:
        return json.loads(text)
    except TROUBLE as error:
        raise LabError(f"{source.name}: no JSON, or cut short ({first_line(error)})") from error


def read_records(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records of a JSON Lines file, or of a JSON file that is a list of them, each with its number from 1.

    What is no record comes as one that has only a `_fault`.
    """
    lines = text_lines(source.load(), source.name)
    start = lines.read(1)
    lines.seek(0)
    if start == "[":
        yield from numbered(json_list(read_json(source), source))
        return
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _record(line, number)


def json_list(value: Any, source: Source) -> list[Any]:
    if not isinstance(value, list):
        raise LabError(f"{source.name}: wanted a list of records, found {type(value).__name__}")
    return value


def numbered(values: list[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, value in enumerate(values, start=1):
        yield number, value if isinstance(value, dict) else faulty(number, "no record: wanted an object")


def _record(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except TROUBLE as error:
        return faulty(number, f"no JSON, or cut short ({first_line(error)})")
    return value if isinstance(value, dict) else faulty(number, "no record: wanted an object")


def dig(record: dict[str, Any], *names: str) -> Any:
    """A nested value, null where any step is missing or no object."""
    value: Any = record
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
