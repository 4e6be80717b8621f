"""The ledger keeps budgets exactly, whoever races, and forgets nothing."""

import asyncio
import random
import sqlite3
from pathlib import Path

import pytest

from responses_db import LabError
from xrouter_sim.serving.ledger import NO_KEY, Ledger, find_key, nano_of

CALL_USD = 0.0003


def test_fifty_budgets_hold_exactly_while_two_hundred_requests_race_for_each(tmp_path: Path) -> None:
    async def race(ledger: Ledger) -> None:
        async def one(key_id: int, number: int) -> None:
            hold = await ledger.hold(key_id, f"r{number}", "small", CALL_USD)
            if hold is not None:
                await ledger.settle(hold, CALL_USD, "ok")

        jobs = [(key.key_id, number) for key in ledger.all_keys() for number in range(200)]
        random.Random(0).shuffle(jobs)
        await asyncio.gather(*(one(*job) for job in jobs))

    with Ledger(tmp_path / "l", serving=True) as ledger:
        for number in range(50):
            ledger.add_key(f"key {number}", number * CALL_USD, None)
        asyncio.run(race(ledger))
        assert [round(key.spent_usd / CALL_USD) for key in ledger.all_keys()] == list(range(50))
        assert len(ledger.charges()) == sum(range(50))
        assert all(key.held_usd == 0 for key in ledger.all_keys())


def test_the_servers_cap_is_over_all_keys(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l", serving=True, cap_usd=2 * CALL_USD) as ledger:
        ids = [ledger.given_key(name, f"key-of-{name}-0123456789").key_id for name in ("one", "two", "three")]
        held = [asyncio.run(ledger.hold(key_id, "r", "small", CALL_USD)) for key_id in ids]
    assert [hold is not None for hold in held] == [True, True, False]


def test_what_was_held_when_a_server_ended_is_charged_in_full(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l", serving=True) as ledger:
        key_id = ledger.given_key("one", "key-of-one-0123456789").key_id
        asyncio.run(ledger.hold(key_id, "r", "small", CALL_USD))
    with Ledger(tmp_path / "l", serving=True) as ledger:
        assert ledger.lost_usd == pytest.approx(CALL_USD)
        assert [(outcome, nano) for _, _, _, outcome, nano in ledger.charges()] == [("killed", nano_of(CALL_USD))]


def test_one_server_a_ledger_and_revoked_keys_open_nothing(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l", serving=True) as ledger:
        with pytest.raises(LabError, match="another server"):
            Ledger(tmp_path / "l", serving=True)
        key = ledger.add_key("one", None, None)
        assert find_key(ledger.all_keys(), key) is not None
        assert find_key(ledger.all_keys(), key[:-1]) is None
        ledger.revoke("one")
        assert find_key(ledger.all_keys(), key) is None
        with pytest.raises(LabError, match="already"):
            ledger.add_key("one", None, None)


def test_a_hold_that_nobody_waits_for_is_taken_back(tmp_path: Path):
    with Ledger(tmp_path / "ledger.sqlite", serving=True, cap_usd=1.0) as ledger:
        key = ledger.given_key(NO_KEY, None)

        async def gives_up() -> None:
            asking = asyncio.create_task(ledger.hold(key.key_id, "r1", "m", 0.75))
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

        asyncio.run(gives_up())
        while ledger.all_keys()[0].held_usd:
            pass  # the writer takes it back at once
        assert ledger.all_keys()[0].spent_usd == 0
        assert [(outcome, nano) for *_, outcome, nano in ledger.charges()] == [("not sent", 0)]
        assert asyncio.run(ledger.hold(key.key_id, "r2", "m", 0.75)) is not None


def test_an_idle_ledger_waits_for_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("xrouter_sim.serving.ledger.SYNC_S", 0.05)
    asked = []
    monkeypatch.setattr(Ledger, "_synced", lambda self: bool(asked.append(1)) or True)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.add_key("alice", None, None)
        ledger._writer.join(0.5)
        assert asked
        assert ledger._writer.is_alive()


def test_a_disk_that_cannot_be_waited_for_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("xrouter_sim.serving.ledger.SYNC_S", 0.0)

    class Refusing:
        def __init__(self, con: sqlite3.Connection) -> None:
            self.con = con

        def execute(self, sql: str, *arguments: object) -> sqlite3.Cursor:
            if "checkpoint" in sql:
                raise sqlite3.OperationalError("disk I/O error")
            return self.con.execute(sql, *arguments)

        def __getattr__(self, name: str) -> object:
            return getattr(self.con, name)

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger._con = Refusing(ledger._con)
        ledger.add_key("alice", None, None)
        assert [key.name for key in ledger.all_keys()] == ["alice"]
