"""The ledger's writer, where a server is not needed to see what it does."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from xrouter_sim.serving.ledger import NO_KEY, Ledger


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
