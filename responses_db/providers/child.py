"""A server in a process of its own that cannot outlive whoever started it.

The child reads one line of JSON from standard input, prints one line of JSON with its port, and serves until standard
input closes: when the parent ends, be it by `kill -9`, the pipe closes with it.
"""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from responses_db.errors import LabError

SECONDS_TO_STOP = 5.0


@asynccontextmanager
async def child_server(module: str, start: Mapping[str, Any], what: str, seconds: float) -> AsyncIterator[int]:
    """The port of `python -m MODULE` on loopback, started with `start` and stopped at the end.

    LabError, naming `what` it is, when it says {"error": …} or does not tell its port within `seconds`.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
    )
    try:
        yield await _port(process, start, what, seconds)
    finally:
        await _stop(process)


async def _port(process: Process, start: Mapping[str, Any], what: str, seconds: float) -> int:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(start).encode() + b"\n")
        with suppress(ConnectionError):  # it ended before it read this; what it said counts
            await process.stdin.drain()
        line = await asyncio.wait_for(process.stdout.readline(), seconds)
        told = json.loads(line) if line else {"error": "it ended without a word"}
        if "error" not in told:
            return int(told["port"])
        why = told["error"]
    except TimeoutError:
        why = f"nothing heard in {seconds:g} s"
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = repr(error)
    raise LabError(f"{what} did not start: {why}")


async def _stop(process: Process) -> None:
    """Close its standard input, which ends it; kill it if it lingers."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), SECONDS_TO_STOP)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
