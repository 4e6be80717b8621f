"""Runs the code of a model in a process of its own, and does what the tests ask: call this, read that.

It never sees the tests, what they expect, or the token that proves they passed.
"""

import builtins
import operator
import os
import sys
import types
from typing import Any, BinaryIO

from responses_db.graders.sandboxed import wire
from responses_db.graders.sandboxed.limits import limit


class Host:
    """The objects that stay here, by number, and the acts that the tests may ask for."""

    def __init__(self) -> None:
        self.kept: dict[int, Any] = {}
        self.module = types.ModuleType("solution")

    def run(self, code: str) -> list[Any]:
        """Run the code at top level. Returns its names: [name, kind, value] each."""
        sys.modules["solution"] = self.module
        exec(compile(code, "solution.py", "exec"), self.module.__dict__)
        names = [name for name in vars(self.module) if not name.startswith("__")]
        return [[name, *self.described(getattr(self.module, name))] for name in names]

    def described(self, value: Any) -> tuple[str, Any]:
        if isinstance(value, types.ModuleType):
            return "module", value.__name__
        if isinstance(value, type) and issubclass(value, BaseException):
            return "error", bases(value)
        try:
            return "value", wire.encode(value, self.keep)
        except Exception:
            return "value", self.keep(value)

    def keep(self, value: object) -> Any:
        self.kept[id(value)] = value
        return {"kept": id(value), "type": type(value).__name__}

    def find(self, reference: Any) -> Any:
        return self.kept[reference["kept"]]

    def act(self, order: dict[str, Any]) -> dict[str, Any]:
        target = self.kept[order["target"]]
        arguments = [wire.decode(item, self.find) for item in order["arguments"]]
        named = {name: wire.decode(item, self.find) for name, item in order["named"].items()}
        result = _does(order["act"], target)(*arguments, **named)
        reply: dict[str, Any] = {"value": wire.encode(result, self.keep)}
        changed = {}
        for place, (argument, before) in enumerate(zip(arguments, order["arguments"], strict=True)):
            if isinstance(argument, list | dict | set) and (now := wire.encode(argument, self.keep)) != before:
                changed[place] = now
        return reply | ({"changed": changed} if changed else {})


def _does(act: str, target: Any) -> Any:
    """What carries out an act on an object, as the language would: `len(x)` for __len__, `a + b` for __add__."""
    if act == "call":
        return target
    if act == "read":
        return lambda name: getattr(target, name)
    does = vars(operator).get(act) or vars(builtins).get(act.strip("_")) or getattr(type(target), act)
    return lambda *arguments: does(target, *arguments)


def bases(kind: type) -> list[str]:
    """The names of a class and of what it is built on, builtin or not, nearest first."""
    return [base.__name__ for base in kind.__mro__]


def main() -> None:
    orders, replies = _private_streams()
    host = Host()
    sys.set_int_max_str_digits(0)
    wire.send(replies, "ready")
    order = wire.receive(orders)
    sys.path += order["packages"]
    limit(**order["limits"])
    while True:
        try:
            reply = host.act(order) if "act" in order else {"names": host.run(order["code"])}
        except MemoryError:
            reply = OUT_OF_MEMORY  # made before: while the error is at hand, so is what filled the memory
        except (SystemExit, KeyboardInterrupt):
            reply = {"error": ["RuntimeError"], "text": "the solution asked to exit"}
        except BaseException as error:
            reply = {"error": bases(type(error)), "text": _text(error)}
        wire.send(replies, reply)
        order = wire.receive(orders)


OUT_OF_MEMORY = {"error": bases(MemoryError), "text": "the solution used up its memory"}


def _text(error: BaseException) -> str:
    try:
        return str(error)[:300]
    except BaseException:
        return ""


def _private_streams() -> tuple[BinaryIO, BinaryIO]:
    """The two pipes to the tests, moved away from stdin and stdout, which lead nowhere from now on."""
    streams = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    return streams


if __name__ == "__main__":
    main()
