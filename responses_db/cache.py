"""The disk cache of raw responses: what was once paid for is never asked again, whatever becomes of the store.

diskcache writes pickles by default, and its stock Disk and JSONDisk *read* any row that is marked as one, so whoever
can write to the folder can run code (CVE-2025-69872). Here values are JSON bytes, and a pickle is refused unread.

An entry is a line, `SHA-256 of key and the rest, latency in seconds`, and the response's JSON after it. An entry that
does not match its hash is no answer: it is left out, counted, and the call is asked again. (One damaged entry is worth
one call; refusing the whole cache for it would cost all the others.)
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import MODE_PICKLE

from responses_db.errors import LabError

SCHEMA_VERSION = 1
"""Part of every key. Raise it when equal requests are no longer answered alike: then nothing cached is found."""

LAYOUT = 2
"""How entries are written. 1, of version 0.1, had no hashes; a cache of it is rewritten when it is opened."""

LAYOUT_KEY = "layout"

NO_LIMIT = 1 << 50
"""Bytes. Nothing is ever evicted: every row was paid for."""

ONE_FILE = 1 << 30
"""Bytes from which diskcache would give a value a file of its own: all stay in the database, under its transactions."""


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
    """Raw response bodies by key, each with the latency that was measured. Any thread may use it; close it after use.

    `damaged` counts entries that were met and did not match their hash. Raises LabError when the folder cannot be used,
    holds a pickle, or was written by a newer program.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged = 0
        with self._usable():
            self._cache = diskcache.Cache(
                str(folder),
                disk=JsonDisk,
                disk_min_file_size=ONE_FILE,
                eviction_policy="none",
                cull_limit=0,
                size_limit=NO_LIMIT,
                statistics=0,
            )
            self._check_layout()

    def close(self) -> None:
        self._cache.close()

    def __len__(self) -> int:
        """How many responses there are."""
        return len(self._cache) - 1

    def get(self, key: str) -> tuple[bytes, float] | None:
        """(JSON body, latency in seconds), or None when there is no entry, or only a damaged one."""
        with self._usable():
            stored = self._cache.get(key)
        if stored is None:
            return None
        entry = _read(key, stored)
        self.damaged += entry is None
        return entry

    def put(self, entries: Iterable[tuple[str, bytes, float]]) -> None:
        """Add (key, JSON body, latency in seconds), in one transaction, which no end of this process undoes."""
        with self._usable(), self._cache.transact():
            for key, body, latency_s in entries:
                self._cache.set(key, _written(key, body, latency_s))

    def _check_layout(self) -> None:
        found = self._cache.get(LAYOUT_KEY)
        if found is None:
            with self._cache.transact():  # whoever else opens the cache now waits, and then finds it done
                if self._cache.get(LAYOUT_KEY) is None:
                    self._rewrite_layout_1()
                    self._cache.set(LAYOUT_KEY, b"%d" % LAYOUT)
        elif found != b"%d" % LAYOUT:
            layout = found.decode("ascii", "replace") if isinstance(found, bytes) else "?"
            raise LabError(
                f"{self.folder}: the cache has layout {layout[:20]}, and this program reads {LAYOUT}: "
                "upgrade xrouter-sim, or give another --cache"
            )

    def _rewrite_layout_1(self) -> None:
        """Give every entry its hash. Of layout 1, an entry was its latency, a line's end and the body."""
        for key in list(self._cache):
            latency, _, body = self._cache[key].partition(b"\n")
            try:
                self._cache.set(key, _written(key, body, float(latency)))
            except ValueError:
                self.damaged += 1

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, diskcache.Timeout, OSError) as error:
            raise LabError(
                f"{self.folder}: cannot use the cache ({error}): check the disk and its free space, or another --cache"
            ) from error


def _written(key: str, body: bytes, latency_s: float) -> bytes:
    rest = b"%r\n%b" % (latency_s, body)
    return hashlib.sha256(key.encode() + rest).hexdigest().encode() + b" " + rest


def _read(key: str, stored: object) -> tuple[bytes, float] | None:
    if not isinstance(stored, bytes):
        return None
    digest, _, rest = stored.partition(b" ")
    if hashlib.sha256(key.encode() + rest).hexdigest().encode() != digest:
        return None
    latency, _, body = rest.partition(b"\n")
    try:
        return body, float(latency)
    except ValueError:
        return None


def cache_key(identity: str, body: bytes, sample_index: int) -> str:
    """SHA-256 (hex) of everything that alters an answer.

    `identity` says who answers: the base URL with its query and headers (for a simulated pool a name for its world, as
    its port is random). `body` is the request's canonical JSON: model, messages and parameters. The sample index is in
    it because two samples of one request are two answers. Not in it, as they alter none: key, timeouts, retries,
    concurrency, limits, prices, and the names that a config gives to providers, models and prompt styles.
    """
    head = f"{SCHEMA_VERSION}\n{identity}\n{sample_index}\n"
    return hashlib.sha256(head.encode() + body).hexdigest()
