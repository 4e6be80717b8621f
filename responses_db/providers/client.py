"""One request to an OpenAI-compatible endpoint: timeout, retries, and an outcome that is an answer or a failure."""

import asyncio
import json
import os
import random
import time
from dataclasses import dataclass
from itertools import count
from typing import Any

import aiohttp
from yarl import URL

from responses_db.errors import LabError
from responses_db.providers.base import Endpoint

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
ERROR_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Reply:
    """A well-formed chat completion: its bytes as they came, parsed, and the wall-clock seconds of the last attempt."""

    raw: bytes
    body: dict[str, Any]
    latency_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer, after all attempts. Never stored as one."""

    error: str


@dataclass(frozen=True, slots=True)
class _Fault:
    """An attempt that gave nothing: why, whether another may, and how long the server said to wait."""

    error: str
    again: bool
    wait_s: float | None = None


class ChatClient:
    """Keeps connections to one endpoint. The key is read from the environment here, and is in no message."""

    def __init__(self, endpoint: Endpoint, concurrency: int) -> None:
        self.endpoint = endpoint
        self._url = URL(f"{endpoint.base_url}/chat/completions")
        self._key = read_key(endpoint)
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency),
            timeout=aiohttp.ClientTimeout(total=endpoint.timeout_s),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._session.close()

    async def complete(self, body: bytes) -> Reply | Failure:
        """Ask, and ask again after faults that may pass, waiting longer each time (jittered) or as told."""
        for attempt in count():
            outcome = await self._attempt(body)
            if isinstance(outcome, Reply):
                return outcome
            if not outcome.again or attempt == self.endpoint.retries:
                return Failure(self._safe(outcome.error))
            wait = min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
            await asyncio.sleep(wait if outcome.wait_s is None else min(outcome.wait_s, LONGEST_WAIT_S))
        raise AssertionError("unreachable")

    async def _attempt(self, body: bytes) -> Reply | _Fault:
        began = time.perf_counter()
        try:
            async with self._session.post(self._url, data=body, allow_redirects=False) as response:
                raw = await response.read()
                status, retry_after = response.status, response.headers.get("Retry-After")
        except TimeoutError:
            return _Fault(f"timeout after {self.endpoint.timeout_s:g} s", again=True)
        except aiohttp.ClientError as error:
            return _Fault(f"{type(error).__name__}: {error}", again=True)
        if status == 200:
            return _reply(raw, time.perf_counter() - began)
        again = status in (408, 409, 425, 429) or status >= 500
        return _Fault(f"HTTP {status}: {_message(raw)}", again, _seconds(retry_after))

    def _safe(self, error: str) -> str:
        """The error without the key, should the endpoint have echoed it."""
        error = error.replace(self._key, "***") if self._key else error
        return " ".join(error.split())[:ERROR_CHARACTERS]


def read_key(endpoint: Endpoint) -> str | None:
    """The endpoint's key, if it needs one. LabError when its environment variable is not set."""
    variable = endpoint.api_key_env
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise LabError(f"the environment variable {variable} is not set: it must hold the endpoint's API key")
    return key


def _reply(raw: bytes, latency_s: float) -> Reply | _Fault:
    try:
        return Reply(raw, parse(raw), latency_s)
    except ValueError as error:
        return _Fault(f"malformed response: {error}", again=True)


def parse(raw: bytes) -> dict[str, Any]:
    """A chat completion's JSON; ValueError when it is none."""
    body = json.loads(raw)
    try:
        message = body["choices"][0]["message"]
        if not isinstance(message.get("content"), str | None):
            raise TypeError("content is no text")
        if not isinstance(body.get("usage"), dict | None):
            raise TypeError("usage is no object")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"no chat completion ({error!r})") from None
    assert isinstance(body, dict)
    return body


def _message(raw: bytes) -> str:
    """An error body's message, or its beginning."""
    try:
        return str(json.loads(raw)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return raw[:ERROR_CHARACTERS].decode("utf-8", "replace")


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; None when it is absent or a date (then the usual wait applies)."""
    try:
        return max(float(retry_after), 0.0) if retry_after else None
    except ValueError:
        return None
