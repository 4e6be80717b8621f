"""An endpoint's limits a minute, kept by leaky buckets on the monotonic clock.

A bucket of capacity C that leaks r a second lets at most C + 60 r through in a minute. Here C is a second's worth of
requests (ten seconds' worth of tokens), and r what then keeps any minute within the limit.
"""

from aiolimiter import AsyncLimiter

TOKEN_BURST_S = 10.0


class RequestLimit:
    """At most so many requests in any 60 s, spread over them."""

    def __init__(self, per_minute: int) -> None:
        burst = max(1, per_minute // 60)
        self._bucket = AsyncLimiter(burst, time_period=burst * 60.0 / (per_minute - burst + 1))

    def ready(self) -> bool:
        """Whether one may go at once."""
        return self._bucket.has_capacity()

    async def take(self) -> None:
        """Wait until one may go."""
        await self._bucket.acquire()


class TokenLimit:
    """At most so many tokens in any 60 s. What a call takes is foreseen before it and corrected after it."""

    def __init__(self, per_minute: int) -> None:
        self._capacity = max(1.0, per_minute * TOKEN_BURST_S / 60)
        rate = max((per_minute - self._capacity) / 60, per_minute / 120)
        self._bucket = AsyncLimiter(self._capacity, time_period=self._capacity / rate)
        self._over = 0.0

    def ready(self, tokens: float) -> bool:
        """Whether a call of so many tokens may go at once."""
        return self._bucket.has_capacity(min(max(tokens + self._over, 0.0), self._capacity))

    async def take(self, tokens: float) -> None:
        """Wait until a call of so many tokens may go. More than the bucket holds is taken in parts."""
        due, self._over = tokens + self._over, 0.0
        while due > 0:
            part = min(due, self._capacity)
            await self._bucket.acquire(part)
            due -= part
        self._over += due

    def correct(self, foreseen: float, used: float) -> None:
        """The call used more or less than was foreseen: the next ones wait for it, or profit."""
        self._over += used - foreseen
