"""Examples of calls in a text, with what they are said to return: asserts, doctests, and comments beside a print.

`>>> f(2)` with `4` below it, `assert f(2) == 4`, `print(f(2))  # Output: 4`, and `x = [1, 2]` before `f(x)`.
"""

import ast
import copy
import doctest
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from xrouter_sim.evidence.values import digest_of, write_arguments

MOST = 6
"""Examples taken of a text."""

LONGEST_COMMENT = 1000
STATED = re.compile(
    r"#\s*(?:(?:(?:expected )?output|returns?|prints?|should (?:return|print))\b:?)?\s*(.+?)\.?\s*$", re.I
)
CLOSING = re.compile(r"^\s*(?:\"{3}|'{3})", re.M)
"""A docstring's end, which doctest takes for a part of what is expected where it is given a whole file."""

UNREADABLE = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, AttributeError, KeyError)
COMPOUND = (ast.If, ast.With, ast.Try, ast.For)


class Example(NamedTuple):
    """A call's arguments, as `write_arguments` writes them, and the digest of what the text says it returns."""

    arguments: str
    expected: str | None


def syntax_tree(code: str) -> ast.Module | None:
    """None where the code is no Python."""
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def read_examples(pieces: Iterable[str], entry: str) -> list[Example]:
    """The first MOST different calls of `entry` whose arguments are literals, or names that stand for literals."""
    found: dict[str, str | None] = {}
    for piece in pieces:
        for arguments, expected in _Reader(entry).read(piece):
            found[arguments] = found.get(arguments) or expected
    return [Example(*item) for item in found.items()][:MOST]


class _Reader:
    """Reads one piece of code from top to bottom, and remembers which names stand for literals or for a call."""

    def __init__(self, entry: str) -> None:
        self.entry = entry
        self.literals: dict[str, ast.expr] = {}
        self.results: dict[str, ast.Call] = {}

    def read(self, piece: str) -> Iterator[tuple[str, str | None]]:
        piece = textwrap.dedent(piece)
        try:
            sessions = doctest.DocTestParser().get_examples(piece)
        except ValueError:
            sessions = []
        for session in sessions:
            tree = syntax_tree(session.source)
            for statement in tree.body if tree else []:
                yield from self._statement(statement, CLOSING.split(session.want)[0].strip())
        tree = syntax_tree(piece)
        lines = piece.splitlines()
        for statement in _flat(tree.body) if tree else []:
            yield from self._statement(statement, _comment(statement, lines))

    def _statement(self, statement: ast.stmt, said: str | None) -> Iterator[tuple[str, str | None]]:
        """The calls in a statement; the one whose value it shows is `said` to return that."""
        shown = self._shown(statement)
        stated = self._stated(statement, said)
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            self._assign(statement.targets[0].id, statement.value)
        calls = {id(node): node for node in ast.walk(statement) if isinstance(node, ast.Call) and self._is_call(node)}
        if shown is not None:
            calls[id(shown)] = shown
        for call in calls.values():
            arguments = self._arguments(call)
            if arguments is not None:
                yield arguments, stated if call is shown else None

    def _is_call(self, node: ast.Call) -> bool:
        return isinstance(node.func, ast.Name) and node.func.id == self.entry

    def _shown(self, statement: ast.stmt) -> ast.Call | None:
        """The call whose value a statement prints, assigns or compares with another."""
        value: ast.expr | None = None
        if isinstance(statement, ast.Expr | ast.Assign):
            value = statement.value
        elif isinstance(statement, ast.Assert) and isinstance(statement.test, ast.Compare):
            value = statement.test.left
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print":
            value = value.args[0] if len(value.args) == 1 else None
        if isinstance(value, ast.Name):
            return self.results.get(value.id)
        return value if isinstance(value, ast.Call) and self._is_call(value) else None

    def _stated(self, statement: ast.stmt, said: str | None) -> str | None:
        try:
            if not isinstance(statement, ast.Assert):
                return digest_of(ast.literal_eval(said)) if said else None
            test = statement.test
            if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq | ast.Is):
                return digest_of(self._literal(test.comparators[0]))
        except UNREADABLE:
            pass
        return None

    def _assign(self, name: str, value: ast.expr) -> None:
        self.literals.pop(name, None)
        self.results.pop(name, None)
        if isinstance(value, ast.Call) and self._is_call(value):
            self.results[name] = value
            return
        try:
            self._literal(value)
            self.literals[name] = value
        except UNREADABLE:
            pass

    def _arguments(self, call: ast.Call) -> str | None:
        if call.keywords:
            return None
        try:
            return write_arguments([self._literal(argument) for argument in call.args])
        except UNREADABLE:
            return None

    def _literal(self, node: ast.expr) -> object:
        return ast.literal_eval(_Substitute(self.literals).visit(copy.deepcopy(node)))


class _Substitute(ast.NodeTransformer):
    def __init__(self, literals: dict[str, ast.expr]) -> None:
        self.literals = literals

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.literals.get(node.id, node)


def _flat(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run at top level, those under `if __name__ == …` included; bodies of functions are left out."""
    for statement in statements:
        if isinstance(statement, COMPOUND):
            yield from _flat(statement.body)
        elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement


def _comment(statement: ast.stmt, lines: list[str]) -> str | None:
    """What the comment behind a statement, or on the line below it, says."""
    end = statement.end_lineno or 0
    behind = lines[end - 1].encode()[statement.end_col_offset or 0 :] if end <= len(lines) else b""
    below = lines[end].strip() if end < len(lines) else ""
    found = STATED.search(behind[:LONGEST_COMMENT].decode("utf-8", "ignore"))
    found = found or (STATED.match(below[:LONGEST_COMMENT]) if below.startswith("#") else None)
    return found[1] if found else None
