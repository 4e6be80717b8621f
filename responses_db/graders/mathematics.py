"""Mathematics through math-verify: ½ is \\frac{1}{2} is 0.5, (x+1)² is x²+2x+1, and sets have no order.

Its parser and comparison can take forever or all memory for one line of LaTeX, and its own timeout is an alarm signal,
which works in no thread but the main one. So both run in a worker process that is killed when it is late: grading works
in any thread, and an answer that cannot be handled is ungraded, never a zero.
"""

import atexit
import json
import os
import queue
import re
import select
import subprocess
import sys
import time
from typing import Any

from responses_db.graders.base import boxed, final_answer
from responses_db.query import Query

TAIL = 2_000
"""Characters at the end of a text without a marked answer in which one is looked for."""

CALL_S = 30.0
"""Seconds a call to the worker may take, its start included. The worker itself gives up after far fewer."""


class MathGrader:
    """1 if the answer is mathematically equal to the reference, else 0.

    The answer is the last \\boxed{…} or what stands after `Answer:`, or else what math-verify finds at the text's end.
    """

    name = "math"
    version = 1
    waits = True

    def extract(self, text: str) -> str | None:
        """Raises TimeoutError or RuntimeError when the text cannot be read."""
        marked = final_answer(text)
        passage = _as_mathematics(marked) if marked else text[-TAIL:]
        if not passage.strip():
            return None
        found = _ask({"read": passage})
        return found or (_plain(marked) if marked else None)

    def score(self, answer: str, query: Query) -> float:
        """Raises TimeoutError or RuntimeError when it cannot compare, ValueError when there is no reference."""
        if not query.reference:
            raise ValueError("the query has no reference")
        if answer == _plain(query.reference):
            return 1.0
        inner = boxed(query.reference) or query.reference.strip().strip("$")
        return float(_ask({"same": _as_mathematics(answer), "as": f"\\boxed{{{inner}}}"}))


SPELLED = [
    (re.compile(r"(?<![A-Za-z\\])sqrt\(([^()]*)\)"), r"\\sqrt{\1}"),
    (re.compile(r"√\(([^()]*)\)|√(\w+)"), r"\\sqrt{\1\2}"),
    (re.compile(r"(?<![A-Za-z\\])pi(?![A-Za-z])|π"), r"\\pi "),
]
"""What people write for LaTeX, and the LaTeX."""


def _as_mathematics(answer: str) -> str:
    """As math-verify wants it: LaTeX in a box, prose with numbers as it is."""
    for spelled, latex in SPELLED:
        answer = spelled.sub(latex, answer)
    if "$" in answer or "\\(" in answer or "\\[" in answer:
        return f"Answer: {answer}"
    prose = re.search(r"[A-Za-z]{2,} [A-Za-z]|^[A-Za-z]{4,}", answer) and "\\" not in answer
    return f"Answer: {answer}" if prose else f"\\boxed{{{answer}}}"


def _plain(text: str) -> str:
    """An answer that is no formula, folded."""
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text)
    return " ".join(text.casefold().split()).strip("$ .") or text


class _Worker:
    """One worker process. Not for two threads at a time."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        command = [sys.executable, "-m", "responses_db.graders.mathematics_worker"]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def ask(self, question: dict[str, str], seconds: float) -> Any:
        """The worker's answer. TimeoutError when it is late, RuntimeError when it dies or cannot tell."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise RuntimeError("math-verify's process is gone") from None
        line, deadline = b"", time.monotonic() + seconds
        while not line.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], max(deadline - time.monotonic(), 0.0))[0]:
                raise TimeoutError(f"math-verify gave no answer within {seconds:g} s")
            read = os.read(self._process.stdout.fileno(), 1 << 16)
            if not read:
                raise RuntimeError("math-verify's process ended, as when it takes too much memory")
            line += read
        reply = json.loads(line)
        if "error" in reply:
            raise RuntimeError(f"math-verify: {reply['error']}")
        return reply["value"]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


_idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()


def _ask(question: dict[str, str]) -> Any:
    worker = _take()
    try:
        value = worker.ask(question, CALL_S)
    except BaseException as error:
        if isinstance(error, RuntimeError) and str(error).startswith("math-verify: "):
            _idle.put(worker)  # it said so itself, and goes on
        else:
            worker.close()
        raise
    _idle.put(worker)
    return value


def _take() -> _Worker:
    """An idle worker of this process (a fork's parent may still read from the others), or a new one."""
    try:
        worker = _idle.get_nowait()
    except queue.Empty:
        return _Worker()
    return worker if worker.owner == os.getpid() else _take()


@atexit.register
def _close_all() -> None:
    while not _idle.empty():
        worker = _idle.get_nowait()
        if worker.owner == os.getpid():
            worker.close()
