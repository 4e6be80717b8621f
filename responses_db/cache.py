"""The disk cache of raw responses: what was once paid for is never asked again, whatever becomes of the store.

diskcache writes pickles by default, and its stock Disk and JSONDisk *read* any row that is marked as one, so whoever
can write to the folder can run code (CVE-2025-69872). Here values are JSON bytes, and a pickle is refused unread.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import MODE_PICKLE

from responses_db.errors import LabError

SCHEMA_VERSION = 1
"""Part of every key: raise it when the layout of cached values changes."""

NO_LIMIT = 1 << 50
"""Bytes. Nothing is ever evicted: every row was paid for."""


class JsonDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """Text keys, JSON values kept as bytes; neither writes nor reads pickles."""

    def put(self, key: object) -> Any:
        if not isinstance(key, str):
            raise TypeError(f"cache keys are texts, not {type(key).__name__}")
        return super().put(key)

    def get(self, key: object, raw: bool) -> Any:
        if not raw:
            raise LabError(f"{self._directory}: the cache holds a pickled key, which is refused: delete the folder")
        return super().get(key, raw)

    def store(self, value: object, read: bool, key: object = diskcache.UNKNOWN) -> Any:
        if not isinstance(value, bytes):
            raise TypeError(f"cached values are JSON bytes, not {type(value).__name__}")
        return super().store(value, read, key=key)

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> Any:
        if mode == MODE_PICKLE:
            raise LabError(
                f"{self._directory}: the cache holds a pickle, which is refused unread (this program writes JSON "
                "only): delete the folder, or give another --cache"
            )
        return super().fetch(mode, filename, value, read)


class ResponseCache:
    """Raw response bodies by key, each after a line with the latency that was measured. Close it after use.

    Raises LabError when the folder cannot be used or holds what this program did not write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with self._readable():
            self._cache = diskcache.Cache(
                str(folder), disk=JsonDisk, eviction_policy="none", cull_limit=0, size_limit=NO_LIMIT, statistics=0
            )

    def close(self) -> None:
        self._cache.close()

    def __len__(self) -> int:
        return len(self._cache)

    def get(self, key: str) -> tuple[bytes, float] | None:
        """(JSON body, latency in seconds) or None."""
        with self._readable():
            stored = self._cache.get(key)
        if stored is None:
            return None
        latency, _, body = stored.partition(b"\n")
        try:
            return body, float(latency)
        except ValueError:
            raise LabError(
                f"{self.folder}: entry {key[:12]}… is damaged: delete the folder, or another --cache"
            ) from None

    def put(self, entries: Iterable[tuple[str, bytes, float]]) -> None:
        """Add (key, JSON body, latency in seconds), all in one durable transaction."""
        with self._readable(), self._cache.transact():
            for key, body, latency_s in entries:
                self._cache.set(key, f"{latency_s!r}\n".encode() + body)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        import sqlite3

        try:
            yield
        except (sqlite3.Error, diskcache.Timeout) as error:
            raise LabError(
                f"{self.folder}: cannot use the cache ({error}): check the disk, or another --cache"
            ) from error


def cache_key(identity: str, body: bytes, sample_index: int) -> str:
    """SHA-256 (hex) of everything that alters an answer.

    `identity` says who answers (the base URL; for a simulated pool a name for its world, as its port is random), `body`
    is the request's canonical JSON: model, messages and parameters. Not in it: keys, timeouts, retries, concurrency.
    """
    head = f"{SCHEMA_VERSION}\n{identity}\n{sample_index}\n"
    return hashlib.sha256(head.encode() + body).hexdigest()
