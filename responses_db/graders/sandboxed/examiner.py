"""Runs the tests. The solution is in another sandbox; here stand in its place objects that pass every act on to it.

Reads one line from stdin (the job: code, tests, token, limits) and writes one to stdout: the token and the verdict.
Arguments: the two file descriptors that lead to the solution. So tests, expected values, token and verdict are out of
the solution's reach, and what it sends are plain values, which say nothing but what they are.
"""

import builtins
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, BinaryIO

from responses_db.graders.sandboxed import wire
from responses_db.graders.sandboxed.limits import limit

PASSED, FAILED, BROKEN = "passed", "failed", "broken"

MOST_ITEMS = 1_000_000

PASSED_ON = "len next getitem setitem delitem str repr bool hash int float index neg pos abs invert enter exit"
BETWEEN_REMOTES = "eq lt le gt ge add sub mul truediv floordiv mod pow matmul and or xor"


class Solution:
    """The way to the solution's process."""

    def __init__(self, orders: BinaryIO, replies: BinaryIO) -> None:
        self._orders, self._replies = orders, replies
        self.errors: dict[str, type[BaseException]] = {}

    def ask(self, message: Any) -> Any:
        wire.send(self._orders, message)
        return wire.receive(self._replies)

    def act(self, target: int, act: str, *arguments: Any, **named: Any) -> Any:
        """Have something done there. Raises what it raised there."""
        order = {
            "act": act,
            "target": target,
            "arguments": [wire.encode(item, _number) for item in arguments],
            "named": {name: wire.encode(item, _number) for name, item in named.items()},
        }
        reply = self.ask(order)
        if "error" in reply:
            raise self.error(reply["error"])(reply["text"])
        for place, now in reply.get("changed", {}).items():
            _overwrite(arguments[int(place)], wire.decode(now, self.remote))
        return wire.decode(reply["value"], self.remote)

    def remote(self, reference: Any) -> Any:
        return Remote(self, reference["kept"])

    def error(self, names: list[str]) -> type[BaseException]:
        """The nearest class of these names that is known here."""
        known = [self.errors.get(name) or vars(builtins).get(name) for name in names]
        return next((kind for kind in known if isinstance(kind, type) and issubclass(kind, Exception)), RuntimeError)

    def names(self, code: str, job: dict[str, Any]) -> dict[str, Any]:
        """Run the solution's code; what it defines, under its names. Names of builtins keep their meaning here."""
        reply = self.ask({"code": code, "packages": job["packages"], "limits": job["limits"]})
        if "error" in reply:
            raise self.error(reply["error"])(reply["text"])
        found: dict[str, Any] = {}
        for name, kind, value in reply["names"]:
            if kind == "error":
                found[name] = self.errors[name] = type(name, (self.error(value),), {})
            elif kind == "value":
                found[name] = wire.decode(value, self.remote)
            elif value.partition(".")[0] in (*sys.stdlib_module_names, "numpy"):
                found[name] = importlib.import_module(value)
        hidden = set(dir(builtins)) - {job["entry_point"]}
        return {name: value for name, value in found.items() if name not in hidden}


class Remote:
    """An object that stays with the solution, which does for it what the tests ask.

    It is compared and reckoned with only beside its like: `answer == expected` or `answer - expected` would hand the
    solution what is expected. Beside a plain value such an object is unequal, and the rest is a TypeError.
    """

    def __init__(self, solution: Solution, number: int) -> None:
        self.__dict__.update(_solution=solution, _number=number)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._solution.act(self._number, "call", *arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return self._solution.act(self._number, "read", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._solution.act(self._number, "__setattr__", name, value)

    def __contains__(self, value: object) -> bool:
        return any(item == value for item in self)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, Remote) and bool(self._solution.act(self._number, "__instancecheck__", instance))

    def __iter__(self) -> Iterator[Any]:
        walk = self._solution.act(self._number, "__iter__")
        assert isinstance(walk, Iterator)
        return walk


def _passed_on(name: str) -> Callable[..., Any]:
    return lambda self, *arguments: self._solution.act(self._number, name, *arguments)


def _between_remotes(name: str) -> Callable[..., Any]:
    def act(self: Remote, other: object) -> Any:
        return self._solution.act(self._number, name, other) if isinstance(other, Remote) else NotImplemented

    return act


for word in PASSED_ON.split():
    setattr(Remote, f"__{word}__", _passed_on(f"__{word}__"))
for word in BETWEEN_REMOTES.split():
    setattr(Remote, f"__{word}__", _between_remotes(f"__{word}__"))


def _number(value: object) -> Any:
    """What stands for an object of the tests that is no plain value."""
    if isinstance(value, Remote):
        return {"kept": value._number}
    if isinstance(value, Iterator):
        items = list(islice(value, MOST_ITEMS + 1))
        if len(items) <= MOST_ITEMS:
            return ["iterator", *[wire.encode(item, _number) for item in items]]
    raise wire.UnsupportedError(f"the tests hand a {type(value).__name__} to the solution, which cannot be passed on")


def _overwrite(argument: Any, now: Any) -> None:
    """What the solution did to a list, dict or set that it was given."""
    if isinstance(argument, list):
        argument[:] = now
    elif isinstance(argument, dict | set):
        argument.clear()
        argument.update(now)


def verdict(job: dict[str, Any], solution: Solution) -> tuple[str, str]:
    """PASSED, FAILED or BROKEN, and why. BROKEN hangs on the tests alone: no solution can bring it about."""
    try:
        tests = compile(job["tests"], "tests.py", "exec")
    except (SyntaxError, ValueError) as error:
        return BROKEN, f"the tests are no Python: {error}"
    if "asyncio" in job["tests"]:
        return BROKEN, "tests of asynchronous code are not supported"
    try:
        exec(tests, _defined(job, solution) | {"__name__": "tests"})
    except wire.UnsupportedError as error:
        return BROKEN, str(error)
    except BaseException as error:  # whatever a wrong answer leads to, SystemExit included
        return FAILED, f"{type(error).__name__}: {error}"[:300]
    return PASSED, ""


def _defined(job: dict[str, Any], solution: Solution) -> dict[str, Any]:
    """What the code defines; if that is not what was asked for, what it defines as the rest of the prompt's code."""
    try:
        names = solution.names(job["code"], job)
    except Exception:
        if not job["prompt_code"]:
            raise
        names = {}
    if job["prompt_code"] and job["entry_point"] not in names:
        names = solution.names(job["prompt_code"] + job["code"], job)
    return names


def main() -> None:
    job = json.loads(sys.stdin.buffer.readline())
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
    sys.set_int_max_str_digits(0)
    sys.path += job["packages"]
    to_solution, from_solution = map(int, sys.argv[1:])
    limit(**job["limits"] | {"cpu_s": job["limits"]["cpu_s"] * 2})
    orders, replies = os.fdopen(to_solution, "wb"), os.fdopen(from_solution, "rb")
    try:
        wire.receive(replies)
    except wire.LostError:
        outcome, why = BROKEN, "the solution's sandbox did not start"
    else:
        outcome, why = verdict(job, Solution(orders, replies))
    wire.send(out, {"token": job["token"], "outcome": outcome, "why": why})
    os._exit(0)


if __name__ == "__main__":
    main()
