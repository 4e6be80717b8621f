"""How plain values travel between the tests and the solution: one JSON value a line, containers with a tag.

Only values of builtin types (and of a few of the standard library and numpy) arrive as values; a subclass arrives as
what it is built on, so a solution cannot send an object that claims to equal everything. Any other object stays where
it is: the other side gets a number for it.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, BinaryIO

LONGEST_LINE = 32 << 20

Export = Callable[[object], Any]
Import = Callable[[Any], object]

VIEWS: tuple[type[Any], ...] = (type({}.keys()), type({}.items()))
TEXTS: dict[str, Callable[[str], object]] = {"complex": complex, "Decimal": Decimal, "Fraction": Fraction}
TEXTS |= {"bytes": bytes.fromhex, "date": date.fromisoformat, "datetime": datetime.fromisoformat}


class UnsupportedError(Exception):
    """A value that cannot travel: this test cannot be run here, which is no fault of the solution."""


class LostError(Exception):
    """The other side is gone, or does not speak this language."""


def send(stream: BinaryIO, message: Any) -> None:
    try:
        stream.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        stream.flush()
    except OSError as error:
        raise LostError(str(error)) from None


def receive(stream: BinaryIO) -> Any:
    line = stream.readline(LONGEST_LINE + 1)
    if not line.endswith(b"\n"):
        raise LostError("more than 32 MiB in one value" if line else "the process ended")
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise LostError("no JSON") from None


def encode(value: Any, export: Export) -> Any:
    """The value as JSON. `export` gives what stands for an object that stays."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if isinstance(value, tuple):
        return ["tuple", *[encode(item, export) for item in tuple.__iter__(value)]]
    if isinstance(value, list):
        return ["list", *[encode(item, export) for item in list.__iter__(value)]]
    if isinstance(value, dict):
        return ["dict", *[[encode(key, export), encode(item, export)] for key, item in dict.items(value)]]
    if isinstance(value, set | frozenset):
        members = set.__iter__(value) if isinstance(value, set) else frozenset.__iter__(value)
        return ["set" if isinstance(value, set) else "frozenset", *[encode(item, export) for item in members]]
    if kind.__module__ == "numpy" and hasattr(value, "tolist"):
        plain = encode(value.tolist(), export)
        return ["numpy", plain, str(value.dtype)] if getattr(value, "ndim", 0) else plain
    return _rare(value, export)


def _rare(value: Any, export: Export) -> Any:
    if isinstance(value, int):  # a subclass: what it is built on
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, deque | range):
        return ["deque" if isinstance(value, deque) else "range", *[encode(item, export) for item in value]]
    if isinstance(value, VIEWS):
        return ["set", *[encode(item, export) for item in value]]
    if isinstance(value, bytes | bytearray):
        return ["bytes", bytes(value).hex()]
    if type(value) in (complex, Decimal, Fraction):
        return [type(value).__name__, str(value)]
    if type(value) in (date, datetime):
        return [type(value).__name__, value.isoformat()]
    return export(value)


def decode(value: Any, import_: Import) -> Any:
    """The value again. `import_` gives what stands for an object that stayed; ValueError for what is none."""
    if not isinstance(value, list):
        if isinstance(value, dict):
            return import_(value)
        return value
    tag, *items = value
    if tag in TEXTS:
        return TEXTS[tag](items[0])
    if tag == "dict":
        return {decode(key, import_): decode(item, import_) for key, item in items}
    if tag == "numpy":
        return _array(decode(items[0], import_), items[1])
    inner: Iterator[Any] = (decode(item, import_) for item in items)
    makers: dict[str, Callable[[Iterator[Any]], Any]] = {
        "tuple": tuple,
        "list": list,
        "set": set,
        "frozenset": frozenset,
        "deque": deque,
        "range": _range,
        "iterator": lambda values: iter(list(values)),
    }
    if tag not in makers:
        raise ValueError(f"no such kind of value: {tag!r}")
    return makers[tag](inner)


def _range(values: Iterator[int]) -> range:
    numbers = list(values)
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    return range(numbers[0], numbers[-1] + (1 if step > 0 else -1), step) if numbers else range(0)


def _array(values: Any, dtype: str) -> Any:
    import numpy

    return numpy.array(values, dtype=None if dtype == "object" else dtype)
