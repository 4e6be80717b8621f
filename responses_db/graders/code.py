"""Programs: 1 if the tests of the query pass in the sandbox, else 0.

The query's metadata holds `tests` (Python that raises where the solution is wrong) and may hold `entry_point` (the name
that is asked for) and `prompt_code` (the code that the prompt begins with). The solution runs in one sandbox, the tests
in another, and only plain values pass between them. So what a solution can do to the tests is nothing but answer: it
cannot read them, patch what they use, exit for them or write their verdict. What remains is a test that is too weak,
and a class of the solution's own, whose objects say of each other what they like (see Remote in
sandboxed/examiner.py, which also tells what tests cannot do: hand functions over, await).
"""

import ast
import re
import textwrap

from responses_db.graders import sandbox, trial
from responses_db.query import Query

FENCED = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*(?:```|~~~)|\Z)", re.M | re.S)
PYTHON = ("", "python", "py", "python3")
DEFINES = re.compile(r"^(?:async )?(?:def|class) ", re.M)
BEGINS = re.compile(r"^(?:def |class |import |from |@|async def )", re.M)


class CodeGrader:
    """1 if all tests pass, else 0. About 20 answers a second and core; an endless one takes its CPU limit."""

    name = "code"
    version = 1
    waits = True
    limits = sandbox.Limits()

    def extract(self, text: str) -> str | None:
        """The last fenced block that defines something, or the text from its first definition on."""
        blocks = [body for language, body in FENCED.findall(text.replace("\r\n", "\n")) if language.lower() in PYTHON]
        code = _best(blocks) if blocks else _bare(text.replace("\r\n", "\n"))
        return code.strip("\n").rstrip() or None

    def score(self, answer: str, query: Query) -> float:
        """LabError where there is no sandbox; ValueError and RuntimeError where the tests cannot be run."""
        tests = query.metadata.get("tests")
        if not isinstance(tests, str) or not tests.strip():
            raise ValueError("the query's metadata has no `tests`")
        asked = trial.Tests(tests, query.metadata.get("entry_point"), query.metadata.get("prompt_code"))
        return float(trial.run(answer, asked, self.limits).passed)


def _best(blocks: list[str]) -> str:
    """Answers often go on with an example of use, which defines nothing; if no block defines anything, the last."""
    blocks = [
        textwrap.dedent(block) if block.startswith((" ", "\t")) and DEFINES.search(textwrap.dedent(block)) else block
        for block in blocks
    ]
    defining = [block for block in blocks if DEFINES.search(block)]
    return (defining or blocks)[-1]


def _bare(text: str) -> str:
    """Code without a fence: from the first line that begins a definition or an import, as far as it is Python.

    A text without either is taken whole when it is Python as the body of a function: models that complete code give
    the rest of it.
    """
    begin = BEGINS.search(text)
    if begin is None:
        body = text.strip("\n")
        return body if body.startswith((" ", "\t")) and _is_python(f"def f():\n{body}") else ""
    lines = text[begin.start() :].splitlines()
    while lines and not _is_python("\n".join(lines)):
        lines.pop()
    return "\n".join(lines)


def _is_python(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
