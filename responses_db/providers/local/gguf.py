"""What a GGUF file says of itself in its head: name, architecture, quantisation.

The format is public (ggml's docs/gguf.md): a count of key–value pairs after the magic and the counts, each a typed
value. Only the pairs up to the wanted ones are read, never the tensors.
"""

import hashlib
import struct
from pathlib import Path
from typing import Any, BinaryIO

from responses_db.errors import LabError

MAGIC = b"GGUF"
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TEXT, LIST = 8, 9
LONGEST_TEXT = 1 << 24

FILE_TYPES = {
    **{0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S"},
    **{12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 32: "BF16"},
}
"""llama.cpp's numbers of how the weights are stored (`enum llama_ftype`), those in common use."""


def describe(path: Path) -> dict[str, Any]:
    """`sha256` of the file, `quantisation`, and `architecture` and `model_name` where it tells. LabError if no GGUF."""
    try:
        with path.open("rb") as file:
            head = _head(file)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise LabError(
            f"{path}: no such model file (the path counts from the current folder); `make harvest-local` fetches one"
        ) from None
    except (ValueError, struct.error, UnicodeDecodeError) as error:
        raise LabError(f"{path} is no GGUF file ({error}): fetch it again, or name another") from None
    file_type = head.get("general.file_type")
    return {
        "sha256": sha256,
        "quantisation": FILE_TYPES.get(file_type, f"file type {file_type}") if file_type is not None else "unknown",
        "architecture": head.get("general.architecture"),
        "model_name": head.get("general.name"),
    }


def _head(file: BinaryIO) -> dict[str, Any]:
    """The pairs whose key begins with `general.`."""
    if file.read(4) != MAGIC:
        raise ValueError("it does not begin with GGUF")
    _version, _tensors, pairs = _numbers(file, "<IQQ")
    found = {}
    for _ in range(pairs):
        key, value = _text(file), _value(file, *_numbers(file, "<I"))
        if key.startswith("general."):
            found[key] = value
        elif "general.file_type" in found:  # the tokeniser's long lists come last
            break
    return found


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == TEXT:
        return _text(file)
    if kind == LIST:
        item, count = _numbers(file, "<IQ")
        return [_value(file, item) for _ in range(count)]
    if kind not in SCALARS:
        raise ValueError(f"a value of the unknown type {kind}")
    return _numbers(file, SCALARS[kind])[0]


def _text(file: BinaryIO) -> str:
    (length,) = _numbers(file, "<Q")
    if length > LONGEST_TEXT:
        raise ValueError(f"a text of {length} bytes")
    text = file.read(length)
    if len(text) < length:
        raise ValueError("it ends early")
    return text.decode()


def _numbers(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))
