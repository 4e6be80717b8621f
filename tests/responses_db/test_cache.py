"""The cache of raw responses: what it keeps, what its keys cover, and what it refuses."""

import pickle
import sqlite3
from pathlib import Path

import pytest
from diskcache.core import MODE_PICKLE

from responses_db.cache import ResponseCache, cache_key
from responses_db.errors import LabError


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


@pytest.mark.parametrize(
    "changed",
    [
        ("https://other/v1", b'{"model":"m"}', 0),
        ("https://host/v1", b'{"model":"n"}', 0),
        ("https://host/v1", b'{"model":"m"}', 1),
    ],
    ids=["who answers", "request", "sample"],
)
def test_every_thing_that_alters_an_answer_alters_the_key(changed: tuple[str, bytes, int]) -> None:
    assert cache_key(*changed) != cache_key("https://host/v1", b'{"model":"m"}', 0)


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
