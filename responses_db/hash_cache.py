"""Remembers a store's content hash beside it, for as long as the file stays as it is.

The hash reads every text (1.7 s for a million), and every load of a replay needs it. What is remembered holds for one
state of the file: its inode, its size, the times of its last change (ctime too: nobody can set it back) and its first
12 KiB, which are DuckDB's headers. They hold an identifier drawn when the file was made and a counter that grows with
every checkpoint, so whoever changes the rows, with this program or another, changes the state. While a write-ahead log
lies beside the file, its rows are not all in it, and nothing is remembered or taken from memory.
"""

import hashlib
import json
import os
import re
from pathlib import Path

HEADERS = 3 * 4096
"""Bytes: DuckDB's main header and its two alternating database headers."""


class HashCache:
    """The content hash of the store at `path`, in the file `PATH.hash`. Deleting that file costs a reading of texts.

    Make it while the store is open: a reader's lock keeps the file as it is.
    """

    def __init__(self, path: Path) -> None:
        self.file = path.with_name(path.name + ".hash")
        self._state = _state(path)

    def get(self) -> str | None:
        """The remembered hash (hex); None without one for this very state of the file."""
        try:
            noted = json.loads(self.file.read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(noted, dict) or self._state is None or noted.get("state") != self._state:
            return None
        found = noted.get("content_hash")
        return found if isinstance(found, str) and re.fullmatch("[0-9a-f]{64}", found) else None

    def put(self, content_hash: str) -> None:
        """Remember; where the folder cannot be written to, do nothing."""
        if self._state is None:
            return
        scratch = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        try:
            scratch.write_text(json.dumps({"state": self._state, "content_hash": content_hash}))
            scratch.replace(self.file)
        except OSError:
            scratch.unlink(missing_ok=True)


def _state(path: Path) -> str | None:
    if path.with_name(path.name + ".wal").exists():
        return None
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        headers = file.read(HEADERS)
    times = f"{facts.st_mtime_ns} {facts.st_ctime_ns}"
    return f"{facts.st_ino} {facts.st_size} {times} {hashlib.sha256(headers).hexdigest()}"
