"""The hard cap: what is spent, lost and in flight never exceeds it, in whatever order things happen."""

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from responses_db.budget import Budget, BudgetReached, SpendingNotes
from responses_db.errors import LabError
from tests.responses_db.virtual_time import run


def budget(folder: Path, cap_usd: float) -> Budget:
    return Budget(cap_usd, SpendingNotes(folder, ["m"]))


def test_a_call_waits_for_room_and_goes_when_a_cheaper_answer_makes_it(tmp_path: Path) -> None:
    order: list[str] = []

    async def call(own: Budget, name: str, seconds: float, usd: float) -> None:
        await own.reserve(1.0)
        order.append(f"{name} asks")
        await asyncio.sleep(seconds)
        own.settle(1.0, usd)
        order.append(f"{name} has cost {usd}")

    async def ask() -> Budget:
        own = budget(tmp_path, 1.5)
        await asyncio.gather(call(own, "first", 1.0, 0.25), call(own, "second", 1.0, 0.5))
        return own

    own = run(ask())
    assert order == ["first asks", "first has cost 0.25", "second asks", "second has cost 0.5"]
    assert (own.spent_usd, own.reserved_usd) == (0.75, 0.0)


def test_it_is_reached_when_nothing_in_flight_can_make_room(tmp_path: Path) -> None:
    async def ask() -> list[object]:
        own = budget(tmp_path, 2.5)
        await own.reserve(1.0)
        waiting = [asyncio.ensure_future(own.reserve(2.0)) for _ in range(3)]
        await asyncio.sleep(0)
        own.settle(1.0, 1.0)
        return await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(outcome) for outcome in run(ask())] == [BudgetReached] * 3


Call = tuple[float, float, str]

CALLS = st.lists(
    st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.sampled_from(["answer", "lost", "free", "cancelled"])),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(cap=st.floats(0.0, 5.0), calls=CALLS)
def test_the_cap_holds_at_every_moment_and_no_call_waits_for_ever(cap: float, calls: list[Call]) -> None:
    """What each call reserves, what part of it is billed, how it ends."""

    async def call(own: Budget, most: float, share: float, end: str) -> None:
        try:
            await own.reserve(most)
        except BudgetReached:
            return
        assert own.left_usd >= -1e-9
        try:
            await asyncio.sleep(share)
        except asyncio.CancelledError:
            own.lose(most)
            raise
        if end == "answer":
            own.settle(most, most * share)
        elif end == "lost":
            own.lose(most)
        else:
            own.release(most)

    async def ask(folder: str) -> None:
        own = budget(Path(folder), cap)
        tasks = [asyncio.ensure_future(call(own, *one)) for one in calls]
        await asyncio.sleep(0.1)
        for task, (_, _, end) in zip(tasks, calls, strict=True):
            if end == "cancelled":
                task.cancel()
        _, waiting = await asyncio.wait(tasks, timeout=1e6)
        assert not waiting
        assert not [task for task in tasks if not task.cancelled() and task.exception()]

    with TemporaryDirectory() as folder:
        run(ask(folder))


def test_what_was_in_flight_when_a_run_was_killed_counts_as_lost_for_the_next(tmp_path: Path) -> None:
    async def killed() -> None:
        own = budget(tmp_path, 10.0)
        await own.reserve(3.0)
        own.lose(3.0)
        await own.reserve(1.0)  # and then: kill -9

    run(killed())
    own = budget(tmp_path, 10.0)
    assert 4.0 <= own.lost_before_usd <= 10.0
    assert Budget(10.0, SpendingNotes(tmp_path, ["another model"])).lost_before_usd == 0.0


def test_a_run_that_ends_well_leaves_only_what_it_lost(tmp_path: Path) -> None:
    async def ask(lost: float) -> None:
        own = budget(tmp_path, 10.0)
        await own.reserve(2.0)
        own.settle(2.0, 0.5)
        if lost:
            await own.reserve(lost)
            own.lose(lost)
        own.close()

    run(ask(0.0))
    assert list((tmp_path / "spending").iterdir()) == []
    run(ask(1.25))
    (note,) = (tmp_path / "spending").iterdir()
    assert json.loads(note.read_text()) == {"models": ["m"], "lost_usd": 1.25, "in_flight_usd": 0.0}
    assert budget(tmp_path, 10.0).lost_before_usd == 1.25


def test_a_note_that_cannot_be_read_is_no_reason_to_spend(tmp_path: Path) -> None:
    (tmp_path / "spending").mkdir()
    (tmp_path / "spending" / "x.json").write_text('{"models": ["m"]}')
    with pytest.raises(LabError, match=r"x\.json: no note of what was spent"):
        budget(tmp_path, 10.0)
