"""What keys may spend and have spent: one SQLite file, in which a call is paid for before it is made.

Before a call the most that it can cost is held; afterwards the hold gives way to a charge. Both are committed before
the server goes on, so `kill -9` at any moment loses no record: what was held then is charged in full when the next
server opens the file, since the provider may bill it. (The disk itself is waited for once a second: a power cut may
cost that second's records. To wait at every call would take several milliseconds each.) Spent + held never exceed a
key's budget, nor all keys together the server's, however many requests race: each hold is one conditional update in a
serial transaction.

Money is counted in whole billionths of a USD, rounded up, so sums are exact. One thread writes: what has queued while
the last transaction was under way is committed together, at any rate of calls.
"""

import asyncio
import fcntl
import hashlib
import hmac
import math
import queue
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from responses_db import LabError

T = TypeVar("T")
Job = tuple[Callable[[sqlite3.Connection], Any], "Future[Any]"]

NANO = 1_000_000_000
WINDOW_S = 60.0
MOST_TOGETHER = 512
"""Jobs in one transaction."""

SYNC_S = 1.0

SHORTEST_KEY = 16
NO_KEY = "(no key)"
"""Whose account requests go on where the server asks for no key."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    key_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, digest TEXT NOT NULL UNIQUE,
    budget INTEGER, per_minute INTEGER, spent INTEGER NOT NULL DEFAULT 0, held INTEGER NOT NULL DEFAULT 0,
    revoked INTEGER NOT NULL DEFAULT 0, made_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS holds (
    hold_id INTEGER PRIMARY KEY, key_id INTEGER NOT NULL, request_id TEXT NOT NULL, model TEXT NOT NULL,
    nano INTEGER NOT NULL, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS charges (
    charge_id INTEGER PRIMARY KEY, key_id INTEGER NOT NULL, request_id TEXT NOT NULL, model TEXT NOT NULL,
    outcome TEXT NOT NULL, held INTEGER NOT NULL, nano INTEGER NOT NULL, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS admissions (key_id INTEGER NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS admissions_by_key ON admissions (key_id, at);
"""


@dataclass(frozen=True)
class Key:
    """Who pays. Budgets in USD, None: no limit of its own. The key itself is nowhere, only its SHA-256."""

    key_id: int
    name: str
    digest: str
    budget_usd: float | None
    per_minute: int | None
    spent_usd: float
    held_usd: float
    revoked: bool


class Ledger:
    """The file. Commands that look or add keys open it with `serving=False`, beside a server that runs."""

    def __init__(self, path: Path, *, serving: bool = False, cap_usd: float | None = None) -> None:
        """`cap_usd`: what all keys together may spend. LabError when the file is no ledger or another server has it."""
        self.path, self._cap = path, None if cap_usd is None else math.floor(cap_usd * NANO)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(path) if serving else None
        try:
            self._con = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
            self._con.execute("PRAGMA journal_mode = WAL")
            self._con.execute("PRAGMA synchronous = NORMAL")
            self._con.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise LabError(f"{path} is no ledger ({error}): give another --ledger") from error
        path.chmod(0o600)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._writer.start()
        self.lost_usd = self.do(_charge_what_was_held) / NANO if serving else 0.0

    def close(self) -> None:
        """After all that was asked for is on disk."""
        self._jobs.put(None)
        self._writer.join()
        self._con.close()
        if self._lock:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- keys ---------------------------------------------------------------------------------------------------------

    def add_key(self, name: str, budget_usd: float | None, per_minute: int | None) -> str:
        """A new key, told this once. LabError when the name is taken."""
        key = f"xrs-{secrets.token_urlsafe(32)}"
        row = (name, digest(key), _nano_budget(budget_usd), per_minute, time.time())
        sql = "INSERT INTO keys (name, digest, budget, per_minute, made_at) VALUES (?, ?, ?, ?, ?)"
        try:
            self.do(lambda con: con.execute(sql, row))
        except sqlite3.IntegrityError as error:
            raise LabError(f"there is a key {name!r} in {self.path} already: give this one another name") from error
        return key

    def given_key(self, name: str, key: str | None) -> Key:
        """The account of a key that was made elsewhere (None: of whoever comes without one), added where it is new."""
        row = (name, digest(key) if key else "", time.time())
        sql = """INSERT INTO keys (name, digest, made_at) VALUES (?, ?, ?)
                 ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, revoked = 0"""
        self.do(lambda con: con.execute(sql, row))
        return next(each for each in self.all_keys() if each.name == name)

    def revoke(self, name: str) -> None:
        """The key opens nothing any more; what it spent stays. LabError when there is none."""
        if not self.do(lambda con: con.execute("UPDATE keys SET revoked = 1 WHERE name = ?", (name,)).rowcount):
            raise LabError(f"no key {name!r} in {self.path}: `xrouter-sim keys list` shows those there are")

    def all_keys(self) -> list[Key]:
        """All of them, as they stand on disk."""
        sql = "SELECT key_id, name, digest, budget, per_minute, spent, held, revoked FROM keys ORDER BY key_id"
        rows = self.do(lambda con: con.execute(sql).fetchall())
        return [
            Key(number, name, dig, None if cap is None else cap / NANO, rate, spent / NANO, held / NANO, bool(revoked))
            for number, name, dig, cap, rate, spent, held, revoked in rows
        ]

    def charges(self) -> list[tuple[str, str, str, str, int]]:
        """Key's name, request, model, outcome and billionths of a USD of every charge, in order."""
        sql = "SELECT name, request_id, model, outcome, nano FROM charges JOIN keys USING (key_id) ORDER BY charge_id"
        return self.do(lambda con: con.execute(sql).fetchall())

    # --- requests and calls -------------------------------------------------------------------------------------------

    async def admit(self, key_id: int) -> float:
        """0 when the key may make a request now; else the seconds after which it may."""
        return await self._do(lambda con: _admit(con, key_id, time.time()))

    async def hold(self, key_id: int, request_id: str, model: str, usd: float) -> int | None:
        """Keep so much back for a call; None when that would exceed the key's budget, or the server's."""
        nano = nano_of(usd)
        job = self._put(lambda con: _hold(con, self._cap, key_id, request_id, model, nano))
        try:
            return await asyncio.shield(asyncio.wrap_future(job))
        except asyncio.CancelledError:  # nothing was sent, so nothing is kept back
            job.add_done_callback(self._release)
            raise

    async def settle(self, hold: int, usd: float, outcome: str) -> None:
        """The call is over and cost so much."""
        await self._do(lambda con: _settle(con, hold, nano_of(usd), outcome))

    def _release(self, job: "Future[int | None]") -> None:
        """Take back a hold that nobody waited for."""
        if job.exception() is None and (hold := job.result()) is not None:
            self._put(lambda con: _settle(con, hold, 0, "not sent"))

    def settle_in_full(self, hold: int) -> None:
        """The call was given up half-way: it may be billed. Returns at once."""
        self._put(lambda con: _settle(con, hold, None, "given up"))

    # --- the writer ---------------------------------------------------------------------------------------------------

    def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Have something done by the writer, and wait."""
        return self._put(work).result()

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.wrap_future(self._put(work))

    def _put(self, work: Callable[[sqlite3.Connection], T]) -> "Future[T]":
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()  # a job that is queued is done, whoever still waits for it
        self._jobs.put((work, done))
        return done

    def _write(self) -> None:
        synced, unsynced = time.monotonic(), False
        while True:
            try:
                first = self._jobs.get(timeout=SYNC_S if unsynced else None)
            except queue.Empty:
                synced, unsynced = time.monotonic(), not self._synced()
                continue
            if first is None:
                self._synced()
                return
            jobs: list[Job] = [first]
            stop = False
            while len(jobs) < MOST_TOGETHER and not self._jobs.empty():
                more = self._jobs.get()
                if more is None:
                    stop = True
                    break
                jobs.append(more)
            self._together(jobs)
            unsynced = True
            if stop or time.monotonic() - synced >= SYNC_S:
                synced, unsynced = time.monotonic(), not self._synced()
            if stop:
                return

    def _synced(self) -> bool:
        """Wait for the disk. What a full disk refuses now is tried again; the records are in the log meanwhile."""
        try:
            self._con.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error:
            return False
        return True

    def _together(self, jobs: list[Job]) -> None:
        """One transaction; a job that fails takes back its own part alone."""
        outcomes: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            self._con.execute("BEGIN IMMEDIATE")
            for work, done in jobs:
                self._con.execute("SAVEPOINT job")
                try:
                    outcomes.append((done, work(self._con), None))
                except Exception as error:
                    self._con.execute("ROLLBACK TO job")
                    outcomes.append((done, None, error))
                self._con.execute("RELEASE job")
            self._con.execute("COMMIT")
        except sqlite3.Error as error:  # a full disk: nothing of it happened
            if self._con.in_transaction:
                self._con.execute("ROLLBACK")
            outcomes = [(done, None, error) for _, done in jobs]
        for done, result, failed in outcomes:
            if failed:
                done.set_exception(failed)
            else:
                done.set_result(result)


def digest(key: str) -> str:
    """How a key is kept. Keys are long and random, so no salt and no slow hash is needed."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def find_key(keys: list[Key], given: str) -> Key | None:
    """Whose key this is. It takes the same time for any wrong one: hashes are compared, all of them, in full."""
    told, found = digest(given), None
    for key in keys:
        if hmac.compare_digest(key.digest, told) and not key.revoked:
            found = key
    return found


def nano_of(usd: float) -> int:
    """Billionths, rounded up; what floating point adds in its last digits does not make one more."""
    return math.ceil(usd * NANO - 1e-6)


def _nano_budget(usd: float | None) -> int | None:
    return None if usd is None else math.floor(usd * NANO + 1e-6)


def _locked(path: Path) -> IO[str]:
    lock = path.with_name(f"{path.name}.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise LabError(f"{path} is in use by another server: stop it, or give another --ledger") from error
    return lock


def _charge_what_was_held(con: sqlite3.Connection) -> int:
    """A server was killed: what it held may have been billed. Returns how much that was."""
    held = con.execute("SELECT hold_id, nano FROM holds").fetchall()
    for hold, _ in held:
        _settle(con, hold, None, "killed")
    return sum(nano for _, nano in held)


def _admit(con: sqlite3.Connection, key_id: int, now: float) -> float:
    (per_minute,) = con.execute("SELECT per_minute FROM keys WHERE key_id = ?", (key_id,)).fetchone()
    if per_minute is None:
        return 0.0
    con.execute("DELETE FROM admissions WHERE key_id = ? AND at <= ?", (key_id, now - WINDOW_S))
    count, first = con.execute("SELECT count(*), min(at) FROM admissions WHERE key_id = ?", (key_id,)).fetchone()
    if count >= per_minute:
        return max(float(first) + WINDOW_S - now, 0.001)
    con.execute("INSERT INTO admissions VALUES (?, ?)", (key_id, now))
    return 0.0


def _hold(con: sqlite3.Connection, cap: int | None, key_id: int, request_id: str, model: str, nano: int) -> int | None:
    if cap is not None:
        (taken,) = con.execute("SELECT sum(spent + held) FROM keys").fetchone()
        if taken + nano > cap:
            return None
    took = con.execute(
        "UPDATE keys SET held = held + ? WHERE key_id = ? AND NOT revoked "
        "AND (budget IS NULL OR spent + held + ? <= budget)",
        (nano, key_id, nano),
    )
    if not took.rowcount:
        return None
    sql = "INSERT INTO holds (key_id, request_id, model, nano, at) VALUES (?, ?, ?, ?, ?)"
    return con.execute(sql, (key_id, request_id, model, nano, time.time())).lastrowid


def _settle(con: sqlite3.Connection, hold: int, nano: int | None, outcome: str) -> None:
    """None: as much as was held. A provider that bills more than the request allowed is charged as it says."""
    sql = "DELETE FROM holds WHERE hold_id = ? RETURNING key_id, request_id, model, nano"
    (key_id, request_id, model, held) = con.execute(sql, (hold,)).fetchone()
    cost = held if nano is None else nano
    con.execute("UPDATE keys SET held = held - ?, spent = spent + ? WHERE key_id = ?", (held, cost, key_id))
    sql = "INSERT INTO charges (key_id, request_id, model, outcome, held, nano, at) VALUES (?, ?, ?, ?, ?, ?, ?)"
    con.execute(sql, (key_id, request_id, model, outcome, held, cost, time.time()))
