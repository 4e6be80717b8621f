"""Values that go into and come out of programs, as text: plain Python values only, equal where Python says so.

A program's arguments are written as the sandbox reads them (see `responses_db.graders.sandboxed.wire`). Of what it
returns nothing but a digest is kept: a string that code of a model chose never leaves this module.
"""

import builtins
import hashlib
import json
from typing import Any

from responses_db.graders.sandboxed import wire

SIGNIFICANT_DIGITS = 6
"""Two correct programs may add floats in another order."""

LONGEST_ARGUMENTS = 4000
DIGEST_BYTES = 8
ERROR = "!"
"""An outcome that begins so is no value: the name of a builtin exception, or what else kept a value from coming."""

MALFORMED = f"{ERROR}malformed"
"""What is no value at all: too deep, or not written as values are."""


def write_arguments(arguments: list[object]) -> str | None:
    """JSON for a call's arguments, the same for equal sets in any order; None where they cannot be handed over."""
    try:
        text = json.dumps([_sorted_sets(wire.encode(value, _refuse)) for value in arguments])
    except (ValueError, RecursionError):
        return None
    return text if len(text) <= LONGEST_ARGUMENTS else None


def digest(encoded: Any) -> str:
    """16 hexadecimal digits for a value as the sandbox sends it. 2, 2.0 and True are equal, a list and a tuple not."""
    try:
        text = json.dumps(_canonical(encoded))
    except (TypeError, ValueError, IndexError, RecursionError):
        return MALFORMED
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def digest_of(value: object) -> str | None:
    """The digest of a value that a text states; None where no program could return it."""
    try:
        return digest(json.loads(json.dumps(wire.encode(value, _refuse))))
    except (ValueError, RecursionError):
        return None


def outcome(reply: dict[str, Any]) -> str:
    """What a call led to: the digest of its value, or ERROR and why there is none."""
    if "error" in reply:
        return ERROR + error_name(reply["error"])
    value = reply.get("value")
    return f"{ERROR}object" if isinstance(value, dict) else digest(value)


def error_name(names: object) -> str:
    """The nearest builtin class of an exception: `names` come from the sandbox, so they may say anything."""
    known = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    kinds = vars(builtins)
    return next((name for name in known if isinstance(kinds.get(name), type)), "Exception")


def is_error(outcome: str | None) -> bool:
    return outcome is None or outcome.startswith(ERROR)


def _refuse(value: object) -> Any:
    raise ValueError(f"a {type(value).__name__} is no plain value")


def _sorted_sets(encoded: Any) -> Any:
    """Sets in one order, so that their text does not hang on how this process hashes strings."""
    if not isinstance(encoded, list):
        return encoded
    tag, *items = encoded
    written = [_sorted_sets(item) for item in items]
    return [tag, *(sorted(written, key=json.dumps) if tag in ("set", "frozenset") else written)]


def _canonical(encoded: Any) -> Any:
    if isinstance(encoded, bool):
        return int(encoded)
    if isinstance(encoded, float):
        return _canonical_float(encoded)
    if isinstance(encoded, dict):
        return {"object": str(encoded.get("type"))}
    if not isinstance(encoded, list) or not encoded:
        return encoded
    tag, *items = encoded
    if tag == "numpy":
        return _canonical(items[0])
    parts = [_canonical(item) for item in _pairs(items)] if tag == "dict" else [_canonical(item) for item in items]
    kind = "set" if tag == "frozenset" else tag
    return [kind, *(sorted(parts, key=json.dumps) if kind in ("set", "dict") else parts)]


def _pairs(items: list[Any]) -> list[Any]:
    """The entries of a dict as tuples: alone of all lists on the wire they carry no tag."""
    return [["tuple", *item] for item in items]


def _canonical_float(value: float) -> Any:
    if value != value or value in (float("inf"), float("-inf")):
        return {"float": repr(value)}
    rounded = float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
