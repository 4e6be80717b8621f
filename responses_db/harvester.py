"""Ask for every answer that the store lacks, and keep each one that arrives.

An answer goes from the endpoint to the disk cache within milliseconds, and whoever asked for it asks for nothing else
before it is there; within seconds it is in the store with its grade. So `kill -9` at any moment loses at most the calls
in flight, and what was cached but not committed is read back from the cache by the next harvest, without asking.
Ctrl-C and SIGTERM let calls under way finish, then commit; a second one drops the calls under way.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from responses_db.admission import Admission, CallTicket
from responses_db.budget import Budget, BudgetReached
from responses_db.cache import ResponseCache, cache_key
from responses_db.cells import Cell, missing_cells
from responses_db.completion import usage_of
from responses_db.errors import LabError
from responses_db.harvest_config import HarvestConfig
from responses_db.harvest_start import begin
from responses_db.keeper import Keeper
from responses_db.providers import Provider
from responses_db.providers.client import ChatClient, Failure, Halted, Reply, parse
from responses_db.recorder import Recorder, Tally, response_row, row_cost
from responses_db.regrade import Grading, regrade
from responses_db.spending import open_budget
from responses_db.store import ResponseStore

RECORD_SECONDS = 0.25
"""How often answers that arrived are handed on to be graded and stored."""

LOOKUP_CELLS = 1_000
"""How many cells are looked up in the cache at a time."""

BACKLOG = 10_000
"""Answers that wait to be graded before no more are asked for."""

SWITCH_SECONDS = 0.0005
"""How long a thread that grades may keep the event loop waiting: Python's own 5 ms at every send cost a tenth."""

T = TypeVar("T")

Outcome = tuple[Cell, Reply | Failure]

Progress = Callable[[int, int, Tally], None]
"""Called with the cells filled since the last call, the cells that were missing at the start, and the tally so far."""


@dataclass
class Harvested:
    """What a harvest did. `asked` counts calls that ended, `cached` answers read from the cache.

    `damaged` counts cached answers that were not what had been written, and were asked for again. `left` counts cells
    that are still without an answer: after Ctrl-C (`stopped`), because the budget was reached (it says how), because an
    endpoint was given up (each says why), or because their calls failed.
    `spent_usd` and `lost_usd` are the budget's figures over all runs; None without a budget.
    `grading` is of what arrived, `regraded` of responses that were in the store without a grade.
    """

    asked: int = 0
    cached: int = 0
    missing: int = 0
    damaged: int = 0
    stopped: bool = False
    budget_reached: str = ""
    given_up: list[str] = field(default_factory=list)
    spent_usd: float | None = None
    lost_usd: float | None = None
    tally: Tally = field(default_factory=Tally)
    regraded: Grading = field(default_factory=Grading)
    grading: Grading = field(default_factory=Grading)
    seconds: float = 0.0
    content_hash: str = ""

    @property
    def left(self) -> int:
        return self.missing - self.tally.answered

    def counts(self) -> dict[str, object]:
        """Flat, for the table `runs`."""
        own = {name: value for name, value in vars(self).items() if isinstance(value, int | str | list | None)}
        ours = {"left": self.left, "spent_usd": self.spent_usd, "lost_usd": self.lost_usd}
        return own | ours | vars(self.tally) | {"ungraded": self.grading.ungraded}


def harvest(config: HarvestConfig, db: Path, cache: Path, limit: int | None, progress: Progress) -> Harvested:
    """Fill what is missing in the store at `db`. Raises LabError when the store, the cache, a key or a price is not
    usable; what arrived before is kept.
    """
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
            budget = open_budget(config, cells, store, cache)
            run_id = begin(config, queries, store)
            recorder = Recorder(store, run_id, done.tally, done.grading)
            with suppress(asyncio.CancelledError), _quick_switching():  # cancelled: Ctrl-C twice
                asyncio.run(_Harvest(recorder, budget, progress, done).run(cells, cache))
            store.end_run(run_id, done.counts())
        done.content_hash = store.content_hash()
    done.seconds = time.monotonic() - began
    return done


class _Harvest:
    """One run. The event loop asks, one thread keeps the cache, one grades and writes the store."""

    def __init__(self, recorder: Recorder, budget: Budget | None, progress: Progress, done: Harvested) -> None:
        self._recorder, self._budget, self._progress, self._done = recorder, budget, progress, done
        self._keeper = Keeper()
        self._writer = ThreadPoolExecutor(1, "writer")
        self._clients: list[ChatClient] = []
        self._arrived: list[Outcome] = []
        self._halted = False
        self._refused_usd = 0.0
        self._trouble: LabError | None = None

    async def run(self, cells: Sequence[Cell], cache_folder: Path) -> None:
        """Read from the cache what is there, ask for the rest, commit all that came."""
        cache = await self._keeper.open(cache_folder)
        try:
            with self._signals():
                to_ask = await self._read_cached(cells, cache)
                await self._ask_all(to_ask)
        finally:
            await self._end(cache)
        if self._trouble:
            raise self._trouble

    async def _end(self, cache: ResponseCache) -> None:
        """Keep and count all that came, whatever happened."""
        try:
            await self._record_arrived()
            await self._write(self._recorder.commit)
        finally:
            self._done.damaged = cache.damaged
            await self._keeper.close()
            self._writer.shutdown()
            if self._budget:
                self._close_budget(self._budget)

    async def _write(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work, *args)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM: no new calls; the second time, drop those under way."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def stop() -> None:
            if self._done.stopped:
                task.cancel()
            self._done.stopped = True
            self._halt()

        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, stop)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    def _halt(self) -> None:
        """Ask for nothing more."""
        self._halted = True
        for client in self._clients:
            client.halt.set()

    async def _read_cached(self, cells: Sequence[Cell], cache: ResponseCache) -> list[Cell]:
        """Take from the cache what it has. Returns the cells that must be asked for."""
        if not await self._keeper.call(len, cache):
            return list(cells)
        to_ask = list[Cell]()
        for start in range(0, len(cells), LOOKUP_CELLS):
            if self._halted:
                return []
            some = cells[start : start + LOOKUP_CELLS]
            found = await self._keeper.call(_look_up, some, cache)
            to_ask += [cell for cell, reply in zip(some, found, strict=True) if reply is None]
            answered = [(cell, reply) for cell, reply in zip(some, found, strict=True) if reply is not None]
            self._count_spent(answered)
            self._done.cached += len(answered)
            await self._write(self._record, answered)
        return to_ask

    def _count_spent(self, answered: Sequence[tuple[Cell, Reply]]) -> None:
        if self._budget:
            costs = (row_cost(cell, response_row(cell, reply, "")) for cell, reply in answered)
            self._budget.spend(sum(cost for cost in costs if cost is not None))

    async def _ask_all(self, cells: Sequence[Cell]) -> None:
        """Ask every provider for its cells, side by side; meanwhile hand on what arrives."""
        by_provider: dict[int, list[Cell]] = {}
        for cell in cells:
            by_provider.setdefault(id(cell.provider), []).append(cell)
        asking = {asyncio.create_task(self._ask(own[0].provider, own)) for own in by_provider.values()}
        try:
            while asking:
                ended, asking = await asyncio.wait(asking, timeout=RECORD_SECONDS)
                for task in ended:
                    task.result()
                await self._record_arrived()
        except LabError:  # the store cannot be written, an endpoint not opened: calls under way may still be answered
            self._halt()
            if asking:
                await asyncio.wait(asking)
            raise
        finally:
            for task in asking:
                task.cancel()
            if asking:
                await asyncio.wait(asking)

    async def _ask(self, provider: Provider, cells: Sequence[Cell]) -> None:
        async with provider.endpoint() as endpoint:
            client, admission = ChatClient(endpoint, provider.concurrency), Admission(endpoint, self._budget)
            self._clients.append(client)
            if self._halted:
                client.halt.set()
            try:
                turns = iter(cells)
                async with asyncio.TaskGroup() as workers:
                    for _ in range(min(provider.concurrency, len(cells))):
                        workers.create_task(self._work(turns, client, admission))
            finally:
                await client.close()
        if client.gave_up:
            self._done.given_up.append(f"{provider.name} was given up: {client.gave_up}")

    async def _work(self, turns: Iterator[Cell], client: ChatClient, admission: Admission) -> None:
        """Ask for one cell after another until none is left or the harvest halts."""
        while not client.halt.is_set():
            if len(self._arrived) > BACKLOG:
                await asyncio.sleep(RECORD_SECONDS)
                continue
            if (cell := next(turns, None)) is None:
                return
            body = cell.request()
            ticket = admission.ticket(cell, body)
            try:
                outcome = await client.complete(body, ticket)
            except Halted:
                return
            except BudgetReached:
                self._refused_usd = max(self._refused_usd, ticket.most_usd if ticket else 0.0)
                return self._halt()
            await self._keep(cell, body, outcome, ticket)

    async def _keep(self, cell: Cell, body: bytes, outcome: Reply | Failure, ticket: CallTicket | None) -> None:
        """Return when the answer is in the cache; then it is paid for, and may be graded and stored."""
        if isinstance(outcome, Reply):
            key = cache_key(cell.provider.identity(cell.query), body, cell.sample)
            try:
                await self._keeper.keep((key, outcome.raw, outcome.latency_s))
            except LabError as error:  # it may still fit into the store
                self._trouble = self._trouble or error
                self._halt()
            if ticket:
                ticket.settle(usage_of(outcome.body, cell.prompt_characters))
        self._arrived.append((cell, outcome))

    async def _record_arrived(self) -> None:
        outcomes, self._arrived = self._arrived, []
        if outcomes:
            self._done.asked += len(outcomes)
            await self._write(self._record, outcomes)

    def _record(self, outcomes: Sequence[Outcome]) -> None:
        """In the writer thread: grade and store."""
        self._recorder.take(outcomes)
        self._progress(len(outcomes), self._done.missing, self._recorder.tally)

    def _close_budget(self, budget: Budget) -> None:
        """Note what was spent, and whether that is why calls were left."""
        budget.close()
        spent, lost = budget.spent_usd, budget.lost_usd + budget.lost_before_usd
        self._done.spent_usd, self._done.lost_usd = spent, lost
        if self._refused_usd:
            also = f", ${lost:.4f} may have been billed for calls that were cut off" if lost else ""
            self._done.budget_reached = (
                f"the budget of ${budget.cap_usd:g} is reached: ${spent:.4f} is spent{also}, and a call may cost up to "
                f"${self._refused_usd:.4f} (a smaller max_tokens lowers that)"
            )


@contextmanager
def _quick_switching() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def _look_up(cells: Sequence[Cell], cache: ResponseCache) -> list[Reply | None]:
    """What the cache has for these cells; None for what must be asked for."""
    found = list[Reply | None]()
    for cell in cells:
        stored = cache.get(cache_key(cell.provider.identity(cell.query), cell.request(), cell.sample))
        try:
            found.append(Reply(stored[0], parse(stored[0]), stored[1]) if stored else None)
        except ValueError:  # no chat completion, though its hash is right
            cache.damaged += 1
            found.append(None)
    return found
