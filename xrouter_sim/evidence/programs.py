"""The program in a response: its code, the function that was asked for, and the examples of calls that the text gives.

Nothing runs here: texts are parsed as Python, and only literals are evaluated.
"""

import ast
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from responses_db.graders.code import FENCED, CodeGrader
from xrouter_sim.evidence.examples import Example, read_examples, syntax_tree

VERSION = 1
"""Grows with every change that may alter an outcome: of how code is found, run, or its values written down."""

LONGEST_CODE = 20_000
BRACKETED = re.compile(r"^\[(?:PYTHON|TESTS)\]\n(.*?)^\[/", re.M | re.S)
"""How Code Llama sets off code."""

DEFINED = re.compile(r"^(?:async )?def (\w+)", re.M)
ASSERTED = re.compile(r"^\W*assert (\w+)\(", re.M)
ASSERTION = re.compile(r"^\W*(assert .+)$", re.M)
KEPT_AT_TOP = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


class Asked(NamedTuple):
    """What a question says of the program: its name, the code that it begins with, and examples of what it returns."""

    entry: str | None
    beginning: str | None
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Program:
    """`entry` is the function that answers the question; it takes `arity` arguments at least."""

    code: str
    entry: str
    arity: int

    @cached_property
    def key(self) -> str:
        """Hexadecimal; the same for the same code, whoever returned it."""
        return hashlib.sha256(f"{VERSION}\0{self.entry}\0{self.code}".encode("utf-8", "surrogatepass")).hexdigest()

    @cached_property
    def definitions(self) -> str:
        """The code without what it does beside defining: an example of use that fails makes no function wrong."""
        tree = syntax_tree(self.code)
        try:
            return ast.unparse(ast.Module([node for node in tree.body if _defines(node)], [])) if tree else ""
        except RecursionError:
            return ""


class Returned(NamedTuple):
    """What a response returned. `program` is None where nothing parses that defines a function."""

    has_code: bool
    parses: bool
    program: Program | None
    examples: tuple[Example, ...]


def read_question(question: str) -> Asked:
    """What a question says of the program that it asks for; most say nothing but words."""
    defined = DEFINED.search(question)
    named = defined or ASSERTED.search(question)
    if named is None:
        return Asked(None, None, ())
    beginning = question[defined.start() :] if defined and "```" not in question else None
    pieces = [question, *_pieces(question), *ASSERTION.findall(question)]
    return Asked(named[1], beginning, tuple(read_examples(pieces, named[1])))


def read_response(text: str, asked: Asked) -> Returned:
    """The code in a response, as the grader of programs finds it (it never looks at tests)."""
    code = CodeGrader().extract(text) if len(text) <= LONGEST_CODE else None
    if code is None:
        return Returned(False, False, None, ())
    tree = syntax_tree(code)
    function = _function(tree, asked.entry) if tree else None
    if function is None and asked.beginning:  # models that complete code give the rest of it
        code = f"{asked.beginning.rstrip()}\n{code}"
        tree = syntax_tree(code) or tree
        function = _function(tree, asked.entry) if tree else None
    if function is None:
        return Returned(True, tree is not None, None, ())
    needed = len(function.args.posonlyargs) + len(function.args.args) - len(function.args.defaults)
    pieces = _pieces(text) or [code]
    return Returned(True, True, Program(code, function.name, needed), tuple(read_examples(pieces, function.name)))


def _pieces(text: str) -> list[str]:
    text = text.replace("\r\n", "\n")
    return [body for _, body in FENCED.findall(text)] + BRACKETED.findall(text)


def _function(tree: ast.Module, asked: str | None) -> ast.FunctionDef | None:
    """The one of the name that was asked for; else the last that no other one uses."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    named = [function for function in functions if function.name == asked]
    if named or not functions:
        return named[-1] if named else None
    unused = [function for function in functions if function.name not in _names_used(functions, function)]
    return (unused or functions)[-1]


def _names_used(functions: Sequence[ast.FunctionDef], but: ast.FunctionDef) -> set[str]:
    others = [function for function in functions if function is not but]
    return {node.id for function in others for node in ast.walk(function) if isinstance(node, ast.Name)}


def _defines(node: ast.stmt) -> bool:
    if isinstance(node, KEPT_AT_TOP):
        return True
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    return value is not None and not any(isinstance(part, ast.Call) for part in ast.walk(value))
