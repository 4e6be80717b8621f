"""Runs a program on inputs, in a sandbox that no other program shares: what it returned, and what it did not.

The program's side is the one that grades programs (`responses_db.graders.sandboxed.solution`); this side sends calls
and reads one line of JSON for each. A program can say what it likes of itself and nothing of another.
"""

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from responses_db.graders import sandbox
from xrouter_sim.evidence.programs import Program
from xrouter_sim.evidence.values import ERROR, error_name, outcome

LIMITS = sandbox.Limits(cpu_s=2, wall_s=10.0, memory=512 << 20, file_size=1 << 20)
"""CPU seconds of a sandbox, wall seconds of one call."""

MOST_LOST = 2
"""Calls without an end, or of an answer too long, after which the rest are not tried: each costs a new sandbox."""

LONGEST_REPLY = 1 << 18
LONGEST_NUMBER = 300
"""Digits; longer ones stay text, which is as good to compare."""

LOADED = ""
"""The input under which outcomes hold how the code itself ended, when it ran as a whole."""

OK = "ok"
LOST = f"{ERROR}lost"

Outcomes = Mapping[str, str]
"""For each input (arguments as written by `write_arguments`) a digest or an error; for LOADED, OK or an error."""


def run(program: Program, inputs: Sequence[str]) -> Outcomes:
    """Call the program's function with each of the inputs, in this order. LabError where there is no sandbox.

    Code that fails as a whole is run once more without its examples of use. At most about 3 × `cpu_s` of CPU time.
    """
    sandbox.require()
    session = _Session(program)
    try:
        loaded = session.load(program.code)
        if loaded != OK:
            session.load(program.definitions)
        return {LOADED: loaded} | {text: session.call(text) for text in inputs}
    finally:
        session.close()


class _Session:
    """A sandbox with the program in it; a new one after a call that did not come back."""

    def __init__(self, program: Program) -> None:
        self.entry = program.entry
        self.code = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.target: int | None = None
        self.lost = 0

    def load(self, code: str) -> str:
        """Run code in a fresh sandbox. OK, or why the function is not there."""
        self.close()
        self.code = code
        self.process = sandbox.start("solution", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.read = b""
        if self._receive() != "ready":
            return LOST
        limits = {"cpu_s": LIMITS.cpu_s, "memory": LIMITS.memory, "file_size": LIMITS.file_size}
        reply = self._ask({"code": code, "packages": sandbox.packages(), "limits": limits})
        if not isinstance(reply, dict):
            self.lost += 1
            return LOST
        if "error" in reply:
            return ERROR + error_name(reply["error"])
        self.target = _number(reply.get("names"), self.entry)
        return OK if self.target is not None else f"{ERROR}absent"

    def call(self, arguments: str) -> str:
        if self.target is None:
            return LOST
        order = {"act": "call", "target": self.target, "arguments": json.loads(arguments), "named": {}}
        reply = self._ask(order)
        if isinstance(reply, dict):
            return outcome(reply)
        self.lost += 1
        if self.lost < MOST_LOST:
            self.load(self.code)
        else:
            self.close()
        return LOST

    def close(self) -> None:
        self.target = None
        process, self.process = self.process, None
        if process is not None:
            sandbox.stop(process)
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                stream.close()

    def _ask(self, message: dict[str, Any]) -> Any:
        return self._receive() if self._send(json.dumps(message).encode() + b"\n") else None

    def _send(self, line: bytes) -> bool:
        """Whether it was taken in time: a program that writes replies of its own may read none of the orders."""
        assert self.process is not None
        assert self.process.stdin is not None
        end, target = time.monotonic() + LIMITS.wall_s, self.process.stdin.fileno()
        os.set_blocking(target, False)
        while line:
            left = end - time.monotonic()
            if left <= 0 or not select.select([], [target], [], left)[1]:
                return False
            try:
                line = line[os.write(target, line) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return False
        return True

    def _receive(self) -> Any:
        """The next reply; None when it does not come in time, is too long, or is no JSON."""
        assert self.process is not None
        assert self.process.stdout is not None
        end, source = time.monotonic() + LIMITS.wall_s, self.process.stdout.fileno()
        while b"\n" not in self.read:
            left = end - time.monotonic()
            if left <= 0 or len(self.read) > LONGEST_REPLY or not select.select([source], [], [], left)[0]:
                return None
            part = os.read(source, 1 << 16)
            if not part:
                return None
            self.read += part
        line, self.read = self.read.split(b"\n", 1)
        try:
            return json.loads(line, parse_int=_integer)
        except (ValueError, RecursionError):
            return None


def _number(names: object, entry: str) -> int | None:
    """What the sandbox calls the function, out of [name, kind, value] of all that the code defines."""
    for row in names if isinstance(names, list) else []:
        if isinstance(row, list) and len(row) == 3 and row[0] == entry and isinstance(row[2], dict):
            kept = row[2].get("kept")
            return kept if isinstance(kept, int) else None
    return None


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= LONGEST_NUMBER else digits
