"""The cache of raw responses: what it keeps, what it refuses, what it does with damage. (Keys: test_live_requests.)"""

import asyncio
import pickle
import sqlite3
from pathlib import Path

import pytest
from diskcache.core import MODE_PICKLE

from responses_db.cache import ResponseCache
from responses_db.errors import LabError
from responses_db.keeper import Keeper


def test_it_gives_back_the_body_and_latency_that_were_put(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path)
    cache.put([("a", b'{"text": "one\\ntwo"}', 0.25), ("b", b"[]", 1e-9)])
    assert cache.get("a") == (b'{"text": "one\\ntwo"}', 0.25)
    assert cache.get("b") == (b"[]", 1e-9)
    assert cache.get("c") is None
    assert len(cache) == 2
    cache.close()
    assert ResponseCache(tmp_path).get("a") == (b'{"text": "one\\ntwo"}', 0.25)


def test_long_bodies_are_kept_as_well(tmp_path: Path) -> None:
    body = b'"' + b"x" * 100_000 + b'"'
    cache = ResponseCache(tmp_path)
    cache.put([("long", body, 1.0)])
    assert cache.get("long") == (body, 1.0)


class _Exploit:
    """What an attacker would plant: unpickling it calls a function."""

    fired = False

    @classmethod
    def fire(cls) -> None:
        cls.fired = True

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return _Exploit.fire, ()


def test_a_planted_pickle_is_refused_unread(tmp_path: Path) -> None:
    """CVE-2025-69872: diskcache's own disks would unpickle this row, and run it."""
    cache = ResponseCache(tmp_path)
    cache.put([("key", b"{}", 1.0)])
    with sqlite3.connect(tmp_path / "cache.db") as database:
        planted = pickle.dumps(_Exploit())
        database.execute("UPDATE Cache SET mode = ?, value = ? WHERE key = 'key'", [MODE_PICKLE, planted])
    with pytest.raises(LabError, match="a pickle, which is refused"):
        cache.get("key")
    assert not _Exploit.fired


def test_it_writes_no_pickles_either(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path)
    with pytest.raises(TypeError):
        cache._cache.set("key", {"an": "object"})
    with pytest.raises(TypeError):
        cache._cache.set(("a", "tuple"), b"{}")


def test_a_damaged_entry_is_no_answer_and_is_counted(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path)
    cache._cache.set("key", b"no hash here")
    assert cache.get("key") is None
    assert cache.damaged == 1


def edit(folder: Path, sql: str, *values: object) -> None:
    with sqlite3.connect(folder / "cache.db") as database:
        database.execute(sql, values)


def test_an_entry_that_was_tampered_with_is_no_answer(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path)
    cache.put([("a", b'{"text": "right"}', 0.5), ("b", b'{"text": "wrong"}', 0.5)])
    (stored,) = sqlite3.connect(tmp_path / "cache.db").execute("SELECT value FROM Cache WHERE key = 'a'").fetchone()
    edit(tmp_path, "UPDATE Cache SET value = ? WHERE key = 'a'", stored.replace(b"right", b"wrong"))
    assert cache.get("a") is None
    edit(tmp_path, "UPDATE Cache SET value = ? WHERE key = 'a'", stored.replace(b"0.5", b"0.1"))
    assert cache.get("a") is None
    edit(tmp_path, "UPDATE Cache SET value = ? WHERE key = 'b'", stored)  # a good entry, but of another request
    assert cache.get("b") is None
    assert cache.damaged == 3
    cache.put([("a", b"{}", 1.0)])
    assert cache.get("a") == (b"{}", 1.0)


def test_a_cache_of_version_0_1_is_taken_over(tmp_path: Path) -> None:
    """Its entries had no hashes: latency, a line's end, the body."""
    cache = ResponseCache(tmp_path)
    cache._cache.delete("layout")
    cache._cache.set("old", b'0.25\n{"text": "kept"}')
    cache._cache.set("broken", b"no latency")
    cache.close()
    cache = ResponseCache(tmp_path)
    assert cache.get("old") == (b'{"text": "kept"}', 0.25)
    assert cache.get("broken") is None
    cache.close()
    assert ResponseCache(tmp_path).get("old") == (b'{"text": "kept"}', 0.25)


def test_a_cache_of_a_newer_version_is_refused_in_one_line(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path)
    cache._cache.set("layout", b"3")
    cache.close()
    with pytest.raises(LabError, match="the cache has layout 3, and this program reads 2: upgrade xrouter-sim"):
        ResponseCache(tmp_path)


def test_what_is_no_cache_at_all_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "cache.db").write_text("notes\n" * 1000)
    with pytest.raises(LabError, match="cannot use the cache"):
        ResponseCache(tmp_path)
    with pytest.raises(LabError, match="cannot use the cache"):
        ResponseCache(tmp_path / "cache.db")


def test_answers_that_arrive_together_are_written_together_and_are_there_when_keep_returns(tmp_path: Path) -> None:
    batches: list[int] = []

    async def keep_all() -> None:
        keeper = Keeper()
        cache = await keeper.open(tmp_path)
        put = cache.put
        cache.put = lambda entries: (batches.append(len(entries)), put(entries))[1]  # type: ignore[method-assign]

        async def keep(number: int) -> None:
            await keeper.keep((f"k{number}", b"%d" % number, 0.0))
            assert ResponseCache(tmp_path).get(f"k{number}") == (b"%d" % number, 0.0)

        await asyncio.gather(*(keep(number) for number in range(50)))
        await keeper.close()

    asyncio.run(keep_all())
    assert sum(batches) == 50
    assert len(batches) < 10


def test_whoever_waits_for_a_write_that_fails_is_told(tmp_path: Path) -> None:
    async def keep() -> list[object]:
        keeper = Keeper()
        cache = await keeper.open(tmp_path)
        edit(tmp_path, "DROP TABLE Cache")
        kept = await asyncio.gather(*(keeper.keep((f"k{n}", b"{}", 0.0)) for n in range(3)), return_exceptions=True)
        assert cache.folder == tmp_path
        await keeper.close()
        return kept

    assert ["cannot use the cache (no such table: Cache)" in str(error) for error in asyncio.run(keep())] == [True] * 3
