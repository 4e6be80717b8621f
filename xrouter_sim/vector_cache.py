"""Vectors kept on disk by the hash of their text: whatever store a text stands in, it is embedded once.

A folder holds parts that are written once, whole, and never changed, so any number of processes may read and add. Each
is a .npy of (text, vector) rows whose name is the SHA-256 of its bytes: a part that does not match is thrown away.
"""

import hashlib
import io
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from responses_db import LabError
from xrouter_sim.files import written_whole

Vectors = npt.NDArray[np.float32]

DIGEST_BYTES = 32


def find(folder: Path, digests: Sequence[bytes], vectors: Vectors) -> list[int]:
    """Fill the rows of `vectors` [n, D] whose text is in the cache. Returns the other rows' numbers, in order.

    `digests` are the n different texts' SHA-256. A damaged part counts as absent, and is deleted.
    """
    wanted = {digest: row for row, digest in enumerate(digests)}
    for path in sorted(folder.glob("*.npy")):  # in order, so that of two vectors for a text it is always the same one
        part = _read(path, vectors.shape[1])
        if part is None:
            with suppress(OSError):
                path.unlink()
            continue
        texts = [text.tobytes() for text in part["text"]]
        here = [number for number, text in enumerate(texts) if text in wanted]
        vectors[[wanted.pop(texts[number]) for number in here]] = part["vector"][here]
    return sorted(wanted.values())


def keep(folder: Path, digests: Sequence[bytes], vectors: Vectors) -> None:
    """Add vectors [n, D] by their texts' SHA-256. A folder that cannot be written costs a warning, not the vectors."""
    part = np.empty(len(digests), _layout(vectors.shape[1]))
    part["text"] = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)
    part["vector"] = vectors
    buffer = io.BytesIO()
    np.save(buffer, part, allow_pickle=False)
    content = buffer.getvalue()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with written_whole(folder / f"{hashlib.sha256(content).hexdigest()}.npy") as path:
            path.write_bytes(content)
    except (LabError, OSError) as error:
        reason = error.__cause__ or error
        warnings.warn(f"embeddings are not kept, and are computed again next time: {reason}", stacklevel=2)


def _layout(dimensions: int) -> np.dtype[np.void]:
    return np.dtype([("text", np.uint8, (DIGEST_BYTES,)), ("vector", "<f4", (dimensions,))])


def _read(path: Path, dimensions: int) -> npt.NDArray[np.void] | None:
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != path.stem:
                return None
        part: npt.NDArray[np.void] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return part if part.dtype == _layout(dimensions) and part.ndim == 1 else None
