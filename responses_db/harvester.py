"""Ask for every answer that the store lacks, and keep each one that arrives.

An answer goes from the endpoint to the disk cache within CACHE_SECONDS, and into the store with its grade within a few
seconds. So `kill -9` loses at most what arrived in the last quarter of a second; what was cached but not committed is
read back from the cache by the next harvest, without asking. Ctrl-C and SIGTERM let calls under way finish, then
commit; a second one drops the calls under way.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from responses_db.cache import ResponseCache, cache_key
from responses_db.cells import Cell, missing_cells
from responses_db.harvest_config import HarvestConfig
from responses_db.harvest_start import begin
from responses_db.providers import Provider
from responses_db.providers.client import ChatClient, Failure, Reply, parse
from responses_db.recorder import Recorder, Tally
from responses_db.regrade import Grading, regrade
from responses_db.store import ResponseStore

CACHE_SECONDS = 0.25
"""How often answers that arrived go to the disk cache, in one transaction each."""

LOOKUP_CELLS = 1_000
"""How many cells are looked up in the cache at a time."""

T = TypeVar("T")

Outcome = tuple[Cell, str, Reply | Failure]
"""A cell, its cache key and what came of it."""

Progress = Callable[[int, int, Tally], None]
"""Called with the cells filled since the last call, the cells that were missing at the start, and the tally so far."""


@dataclass
class Harvested:
    """What a harvest did. `asked` counts calls that ended, `cached` answers read from the cache.

    `grading` is of what arrived, `regraded` of responses that were in the store without a grade.
    """

    asked: int = 0
    cached: int = 0
    missing: int = 0
    stopped: bool = False
    tally: Tally = field(default_factory=Tally)
    regraded: Grading = field(default_factory=Grading)
    grading: Grading = field(default_factory=Grading)
    seconds: float = 0.0
    content_hash: str = ""

    def counts(self) -> dict[str, object]:
        """Flat, for the table `runs`."""
        counts = {"missing": self.missing, "asked": self.asked, "cached": self.cached, "stopped": self.stopped}
        return counts | vars(self.tally) | {"ungraded": self.grading.ungraded}


def harvest(config: HarvestConfig, db: Path, cache: Path, limit: int | None, progress: Progress) -> Harvested:
    """Fill what is missing in the store at `db`. Raises LabError when the store, the cache or a key is unusable."""
    began = time.monotonic()
    done = Harvested()
    with ResponseStore(db, write=True) as store:
        done.regraded = regrade(store, {query.query_id: query for query in config.queries})
        cells = missing_cells(config, limit, store)
        done.missing = len(cells)
        if cells:
            queries = list({cell.query.query_id: cell.query for cell in cells}.values())
            for provider in config.providers:
                provider.prepare(queries)
            run_id = begin(config, queries, store)
            recorder = Recorder(store, run_id, done.tally, done.grading)
            with suppress(asyncio.CancelledError):  # Ctrl-C twice
                asyncio.run(_Harvest(recorder, cache, progress, done).run(cells))
            store.end_run(run_id, done.counts())
        done.content_hash = store.content_hash()
    done.seconds = time.monotonic() - began
    return done


class _Harvest:
    """One run. The event loop asks; one writer thread reads and writes cache and store."""

    def __init__(self, recorder: Recorder, cache_folder: Path, progress: Progress, done: Harvested) -> None:
        self._recorder, self._cache_folder, self._progress, self._done = recorder, cache_folder, progress, done
        self._writer = ThreadPoolExecutor(1, "writer")
        self._arrived: list[Outcome] = []
        self._stop = asyncio.Event()

    async def run(self, cells: Sequence[Cell]) -> None:
        """Read from the cache what is there, ask for the rest, commit all that came."""
        cache = await self._write(ResponseCache, self._cache_folder)
        try:
            with self._signals():
                to_ask = await self._read_cached(cells, cache)
                await self._ask_all(to_ask, cache)
        finally:
            await self._keep_arrived(cache)
            await self._write(self._recorder.commit)
            await self._write(cache.close)
            self._writer.shutdown()
            self._done.stopped = self._stop.is_set()

    async def _write(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work, *args)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM: no new calls; the second time, drop those under way."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def stop() -> None:
            if self._stop.is_set():
                task.cancel()
            self._stop.set()

        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, stop)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def _read_cached(self, cells: Sequence[Cell], cache: ResponseCache) -> list[Cell]:
        """Take from the cache what it has. Returns the cells that must be asked for."""
        if not await self._write(len, cache):
            return list(cells)
        to_ask = list[Cell]()
        for start in range(0, len(cells), LOOKUP_CELLS):
            if self._stop.is_set():
                return []
            to_ask += await self._write(self._look_up, cells[start : start + LOOKUP_CELLS], cache)
        return to_ask

    def _look_up(self, cells: Sequence[Cell], cache: ResponseCache) -> list[Cell]:
        found, missing = list[tuple[Cell, Reply]](), list[Cell]()
        for cell in cells:
            stored = cache.get(cache_key(cell.provider.identity(cell.query), cell.request(), cell.sample))
            if stored is None:
                missing.append(cell)
            else:
                found.append((cell, Reply(stored[0], parse(stored[0]), stored[1])))
        self._recorder.take(found)
        self._done.cached += len(found)
        self._progress(len(found), self._done.missing, self._recorder.tally)
        return missing

    async def _ask_all(self, cells: Sequence[Cell], cache: ResponseCache) -> None:
        """Ask every provider for its cells, side by side; meanwhile keep what arrives."""
        by_provider: dict[int, list[Cell]] = {}
        for cell in cells:
            by_provider.setdefault(id(cell.provider), []).append(cell)
        asking = asyncio.gather(*(self._ask(own[0].provider, own) for own in by_provider.values()))
        try:
            while not asking.done():
                await asyncio.wait([asking], timeout=CACHE_SECONDS)
                await self._keep_arrived(cache)
            await asking
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.wait([asking])

    async def _ask(self, provider: Provider, cells: Sequence[Cell]) -> None:
        async with provider.endpoint() as endpoint:
            client = ChatClient(endpoint, provider.concurrency)
            try:
                turns = iter(cells)
                async with asyncio.TaskGroup() as workers:
                    for _ in range(min(provider.concurrency, len(cells))):
                        workers.create_task(self._work(turns, client))
            finally:
                await client.close()

    async def _work(self, turns: Iterator[Cell], client: ChatClient) -> None:
        """Ask for one cell after another until none is left or the harvest stops."""
        for cell in turns:
            body = cell.request()
            outcome = await client.complete(body)
            self._arrived.append((cell, cache_key(cell.provider.identity(cell.query), body, cell.sample), outcome))
            if self._stop.is_set():
                return

    async def _keep_arrived(self, cache: ResponseCache) -> None:
        outcomes, self._arrived = self._arrived, []
        if outcomes:
            await self._write(self._keep, outcomes, cache)

    def _keep(self, outcomes: Sequence[Outcome], cache: ResponseCache) -> None:
        """In the writer thread: into the cache and on to the recorder."""
        cache.put((key, reply.raw, reply.latency_s) for _, key, reply in outcomes if isinstance(reply, Reply))
        self._recorder.take([(cell, reply) for cell, _, reply in outcomes])
        self._done.asked += len(outcomes)
        self._progress(len(outcomes), self._done.missing, self._recorder.tally)
