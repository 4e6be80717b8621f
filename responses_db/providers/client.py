"""One request to an OpenAI-compatible endpoint: timeout, retries, and an outcome that is an answer or a failure."""

import asyncio
import json
import os
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any, Protocol

import aiohttp
from yarl import URL

from responses_db.errors import LabError
from responses_db.providers.base import Endpoint
from responses_db.providers.pieces import Assembly

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
LONGEST_TOLD_WAIT_S = 600.0
"""An endpoint that wants a longer wait than this is not waited for: its call fails, and a later harvest asks again."""

ERROR_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Reply:
    """A well-formed chat completion: its bytes as they came, parsed, and the seconds that the last attempt took."""

    raw: bytes
    body: dict[str, Any]
    latency_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer, after all attempts. Never stored as one."""

    error: str


class Halted(LabError):  # noqa: N818  # to a harvest it is no error
    """The call was given up before it was answered, because nothing more is to be asked. It can be asked later."""


class MissingKeyError(LabError):
    """The environment variable that should hold a key does not."""


class Ticket(Protocol):
    """What an attempt must have before it is sent (see responses_db/admission.py)."""

    def ready(self) -> bool:
        """Whether `enter` would return at once."""
        ...

    async def enter(self) -> None:
        """Wait until the limits and the budget let an attempt go."""
        ...

    def leave(self, *, billed: bool) -> None:
        """The attempt gave no answer; `billed` when the endpoint may charge it all the same."""
        ...


@dataclass(frozen=True, slots=True)
class _Fault:
    """An attempt that gave nothing: why, whether another may, how long the server said to wait, whether it may cost."""

    error: str
    again: bool
    wait_s: float | None = None
    billed: bool = False


class ChatClient:
    """Keeps connections to one endpoint. The key is read from the environment here, and is in no message.

    Set `halt` to let calls under way end and to give up those that wait for another attempt. The client sets it itself,
    with the reason in `gave_up`, when `endpoint.give_up_after` calls in a row failed.
    """

    def __init__(self, endpoint: Endpoint, concurrency: int) -> None:
        self.endpoint = endpoint
        self.halt = asyncio.Event()
        self.gave_up = ""
        self._failed_in_a_row = 0
        self._url = URL(f"{endpoint.base_url}/chat/completions").with_query(endpoint.query or None)
        self._key = read_key(endpoint)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency),
            timeout=aiohttp.ClientTimeout(total=endpoint.timeout_s, sock_connect=endpoint.connect_timeout_s),
            headers=_headers(endpoint, self._key),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._session.close()

    async def complete(self, body: bytes, ticket: Ticket | None = None) -> Reply | Failure:
        """Ask, and ask again after faults that may pass, waiting longer each time (jittered) or as told.

        Each attempt enters by the ticket, and leaves by it unless it brings an answer. Halted when given up.
        """
        for attempt in count():
            if ticket is not None:
                await (ticket.enter() if ticket.ready() else self._unless_halted(ticket.enter()))
            outcome = await self._attempt(body)
            if isinstance(outcome, Reply):
                self._failed_in_a_row = 0
                return outcome
            if ticket is not None:
                ticket.leave(billed=outcome.billed)
            wait = _wait(outcome, attempt)
            if not outcome.again or attempt == self.endpoint.retries or wait > LONGEST_TOLD_WAIT_S:
                return self._failed(outcome)
            await self._unless_halted(asyncio.sleep(wait))
        raise AssertionError("unreachable")

    async def stream(self, body: bytes, heard: Callable[[str], None]) -> Reply | Failure:
        """One attempt at a request with `stream`: `heard` gets each piece of text as it comes. The Reply is the whole
        answer, as it would have come in one piece; its latency is that of the last piece."""
        began, whole = time.perf_counter(), Assembly()
        try:
            async with self._session.post(self._url, data=body, allow_redirects=False) as response:
                if response.status != 200:
                    raw = await response.read()
                    return self._failed(_Fault(f"HTTP {response.status}: {_message(raw)}", again=False))
                async for line in response.content:
                    if piece := whole.add(self._without_key(line)):
                        heard(piece)
        except TimeoutError:
            return self._failed(_Fault(f"timeout after {self.endpoint.timeout_s:g} s", again=False))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return self._failed(_Fault(f"{type(error).__name__}: {error}", again=False))
        outcome = _reply(whole.completion(), time.perf_counter() - began)
        if isinstance(outcome, Reply):
            self._failed_in_a_row = 0
            return outcome
        return self._failed(outcome)

    async def _attempt(self, body: bytes) -> Reply | _Fault:
        began = time.perf_counter()
        try:
            async with self._session.post(self._url, data=body, allow_redirects=False) as response:
                raw = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return _Fault(f"{type(error).__name__}: {error}", again=True)
        except TimeoutError:
            return _Fault(f"timeout after {self.endpoint.timeout_s:g} s", again=True, billed=True)
        except (aiohttp.ClientError, OSError) as error:
            return _Fault(f"{type(error).__name__}: {error}", again=True, billed=True)
        if response.status == 200:
            return _reply(self._without_key(raw), time.perf_counter() - began)
        again = response.status in (408, 409, 425, 429) or response.status >= 500
        return _Fault(f"HTTP {response.status}: {_message(raw)}", again, told_wait(response.headers))

    def _failed(self, fault: _Fault) -> Failure:
        error = " ".join(self._safe(fault.error).split())[:ERROR_CHARACTERS]
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= self.endpoint.give_up_after and not self.halt.is_set():
            self.gave_up = f"the last {self._failed_in_a_row} calls failed, the last one with {error}"
            self.halt.set()
        return Failure(error)

    async def _unless_halted(self, wait: Coroutine[Any, Any, None]) -> None:
        """Wait, but no longer than until `halt`."""
        waiting, halted = asyncio.ensure_future(wait), asyncio.ensure_future(self.halt.wait())
        try:
            await asyncio.wait([waiting, halted], return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise Halted(f"{self.endpoint.base_url} was given up: {self.gave_up or 'nothing more is to be asked'}")
            waiting.result()
        finally:
            halted.cancel()
            waiting.cancel()

    def _safe(self, error: str) -> str:
        """The error without the key, should the endpoint have echoed it."""
        return error.replace(self._key, "***") if self._key else error

    def _without_key(self, raw: bytes) -> bytes:
        return raw.replace(self._key.encode(), b"***") if self._key else raw


def read_key(endpoint: Endpoint) -> str | None:
    """The endpoint's key, if it needs one. MissingKeyError when its environment variable is not set, or no key."""
    variable = endpoint.api_key_env
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise MissingKeyError(f"the environment variable {variable} is not set: it must hold the endpoint's API key")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise MissingKeyError(f"the environment variable {variable} holds no key: blanks or odd signs are in it")
    return key


def _headers(endpoint: Endpoint, key: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json", **endpoint.headers}
    if key:
        headers[endpoint.key_header] = f"Bearer {key}" if endpoint.key_header.lower() == "authorization" else key
    return headers


def _reply(raw: bytes, latency_s: float) -> Reply | _Fault:
    try:
        return Reply(raw, parse(raw), latency_s)
    except ValueError as error:
        return _Fault(f"malformed response: {error}", again=True, billed=True)


def parse(raw: bytes) -> dict[str, Any]:
    """A chat completion's JSON; ValueError when it is none."""
    try:
        body = json.loads(raw)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if isinstance(body, dict) and body.get("error") and not body.get("choices"):
        raise ValueError(_message(raw))
    try:
        choice = body["choices"][0]
        message = choice["message"]
        if not isinstance(message.get("content"), str | list | None):
            raise TypeError("content is no text")
        if not isinstance(body.get("usage"), dict | None):
            raise TypeError("usage is no object")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"no chat completion ({error!r})") from None
    if choice.get("finish_reason") == "error":  # how OpenRouter reports that its provider failed half-way
        raise ValueError("the endpoint reports an error half-way through the answer")
    assert isinstance(body, dict)
    return body


def _message(raw: bytes) -> str:
    """An error body's message, or its beginning."""
    try:
        error = json.loads(raw)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError, RecursionError):
        return raw[:ERROR_CHARACTERS].decode("utf-8", "replace")


def _wait(fault: _Fault, attempt: int) -> float:
    """Seconds until the next attempt: as the server said, else doubling with jitter."""
    if fault.wait_s is not None:
        return fault.wait_s * random.uniform(1.0, 1.1)
    return min(FIRST_WAIT_S * 2.0**attempt, LONGEST_WAIT_S) * random.uniform(0.5, 1.0)


def told_wait(headers: Any) -> float | None:
    """Retry-After in seconds, from a number or a date; None when there is none that can be read.

    A date is compared with the server's own (Date), so that a clock that is off on either side does no harm.
    """
    told = headers.get("Retry-After")
    if not told:
        return None
    try:
        seconds = float(told)
    except ValueError:
        try:
            until, now = parsedate_to_datetime(told), headers.get("Date")
            seconds = until.timestamp() - (parsedate_to_datetime(now).timestamp() if now else time.time())
        except ValueError:
            return None
    return max(seconds, 0.0) if seconds == seconds else None  # NaN waits for nothing
