"""Limits a minute, in virtual time: no window of 60 s holds more than the endpoint allows, and little is given away."""

import asyncio
from bisect import bisect_left

import pytest

from responses_db.limits import RequestLimit, TokenLimit
from tests.responses_db.virtual_time import run


def most_in_a_minute(times: list[float], amounts: list[float]) -> float:
    """The largest sum of amounts in any 60 s, its end left out."""
    ends = [bisect_left(times, time + 60 - 1e-6) for time in times]
    return max(sum(amounts[start:end]) for start, end in enumerate(ends))


@pytest.mark.parametrize("per_minute", [1, 7, 60, 500, 1_200])
def test_no_minute_has_more_requests_than_allowed(per_minute: int) -> None:
    sent: list[float] = []

    async def ask(limit: RequestLimit) -> None:
        await limit.take()
        sent.append(asyncio.get_running_loop().time())

    async def ask_all() -> None:
        limit = RequestLimit(per_minute)
        await asyncio.gather(*(ask(limit) for _ in range(3 * per_minute)))

    run(ask_all())
    assert most_in_a_minute(sent, [1.0] * len(sent)) <= per_minute
    assert sent[-1] < 3.2 * 60


def test_no_minute_has_more_tokens_than_allowed_and_what_was_foreseen_wrongly_is_made_up_for() -> None:
    sent: list[float] = []
    used: list[float] = []

    async def ask(limit: TokenLimit, tokens: float) -> None:
        await limit.take(100)  # foreseen
        sent.append(asyncio.get_running_loop().time())
        used.append(tokens)
        limit.correct(100, tokens)

    async def ask_all() -> None:
        limit = TokenLimit(6_000)
        for number in range(300):
            await ask(limit, (40.0, 180.0, 110.0)[number % 3])

    run(ask_all())
    assert most_in_a_minute(sent, used) <= 6_000 + 180  # the last call's own length is known only afterwards
    assert sum(used) / 6_000 * 60 == pytest.approx(sent[-1], rel=0.25)


def test_a_call_of_more_tokens_than_the_bucket_holds_still_goes() -> None:
    async def ask() -> float:
        limit = TokenLimit(600)
        await limit.take(1_000)
        return asyncio.get_running_loop().time()

    assert 60 < run(ask()) < 120


def test_ready_says_whether_to_wait() -> None:
    async def ask() -> tuple[bool, bool]:
        limit = RequestLimit(60)
        before = limit.ready()
        await limit.take()
        return before, limit.ready()

    assert run(ask()) == (True, False)
