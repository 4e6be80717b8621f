"""Puts answers into the disk cache while others arrive: transaction after transaction, each with all that came since.

So an answer is on disk within milliseconds, at any rate of arrival, and whoever waits for `keep` knows when it is.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from responses_db.cache import ResponseCache

T = TypeVar("T")

Entry = tuple[str, bytes, float]


class Keeper:
    """The one thread that uses the cache. `open` it before use, and close it after."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "cache")
        self._waiting: list[Entry] = []
        self._batch: asyncio.Future[None] | None = None
        self._busy = False

    async def open(self, folder: Path) -> ResponseCache:
        """The cache in this folder. LabError when it cannot be used."""
        self._cache = await self.call(ResponseCache, folder)
        return self._cache

    async def keep(self, entry: Entry) -> None:
        """Return when (key, body, latency in seconds) is in the cache. LabError when it cannot be written."""
        loop = asyncio.get_running_loop()
        self._waiting.append(entry)
        if self._batch is None:
            self._batch = loop.create_future()
        batch = self._batch
        if not self._busy:
            self._write(loop)
        await asyncio.shield(batch)

    async def call(self, work: Callable[..., T], *args: object) -> T:
        """Run something else with the cache in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def close(self) -> None:
        """Wait for what is being written, then close the cache."""
        if self._batch is not None or self._busy:
            await self.call(lambda: None)
        await self.call(self._cache.close)
        self._thread.shutdown()

    def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        entries, self._waiting = self._waiting, []
        batch, self._batch = self._batch, None
        assert batch is not None
        self._busy = True

        def written(done: asyncio.Future[None]) -> None:
            self._busy = False
            error = done.exception()
            if error is None:
                batch.set_result(None)
            else:
                batch.set_exception(error)
                batch.exception()  # those who wait raise it; a batch nobody waits for any more is not worth a warning
            if self._waiting:
                self._write(loop)

        loop.run_in_executor(self._thread, self._cache.put, entries).add_done_callback(written)
