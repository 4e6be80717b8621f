"""The sandbox: honest programs are graded as they deserve, and no other way leads to a pass, or out."""

import os
import shutil
import time
from pathlib import Path

import pytest

from responses_db.errors import LabError
from responses_db.graders import GRADERS, grade, sandbox, seccomp, trial
from responses_db.query import Query

needs_sandbox = pytest.mark.skipif(sandbox.why_not() is not None, reason=f"no sandbox here: {sandbox.why_not()}")

QUICK = sandbox.Limits(cpu_s=2, wall_s=10.0, memory=512 << 20)
SQUARE = trial.Tests("assert f(2) == 4\nassert f(-3) == 9", entry_point="f")


def passes(code: str, tests: str | trial.Tests = SQUARE, limits: sandbox.Limits = QUICK) -> bool:
    return trial.run(code, trial.Tests(tests) if isinstance(tests, str) else tests, limits).passed


def why(code: str, tests: str | trial.Tests = SQUARE, limits: sandbox.Limits = QUICK) -> str:
    outcome = trial.run(code, trial.Tests(tests) if isinstance(tests, str) else tests, limits)
    assert not outcome.passed
    return outcome.why


HONEST = {
    "a function": ("def f(x): return x * x", "assert f(2) == 4"),
    "a lambda": ("f = lambda x: x * x", "assert f(2) == 4"),
    "containers": (
        "def f(x): return {(1, 'a'): [x, {x}, 1.5, None, b'z']}",
        "assert f(2)[1, 'a'] == [2, {2}, 1.5, None, b'z']",
    ),
    "huge numbers": ("def f(x): return x ** 20000", "assert f(3) == 3 ** 20000"),
    "not a number": ("def f(): return float('nan'), float('-inf')", "a, b = f()\nassert a != a and b < -1e308"),
    "a generator": ("def f(n):\n    yield from range(n)", "assert list(f(3)) == [0, 1, 2] and next(f(1)) == 0"),
    "sorting in place": ("def f(a): a.sort()", "a = [3, 1]\nassert f(a) is None and a == [1, 3]"),
    "an exception": (
        "class Odd(ValueError): pass\ndef f(x): raise Odd('no')",
        "try: f(1)\nexcept Odd as error: assert str(error) == 'no'\nelse: assert False",
    ),
    "a class": (
        "class P:\n    def __init__(s, x): s.x = x\n    def __add__(s, o): return P(s.x + o.x)\n"
        "    def __eq__(s, o): return s.x == o.x\n    def __len__(s): return s.x",
        "p = P(1) + P(2)\nassert p == P(3) and p != P(4) and p.x == len(p) == 3 and isinstance(p, P)\n"
        "p.x = 9\nassert p.x == 9",
    ),
    "numpy": (
        "import numpy as np\ndef f(x): return np.array([x, x * 2.0])",
        "import numpy as np\nassert np.allclose(f(2), [2, 4]) and f(2).dtype == float",
    ),
    "collections": (
        "from collections import Counter\ndef f(x): return Counter(x)",
        "assert f('aab') == {'a': 2, 'b': 1}",
    ),
    "threads": (
        "import threading\ndef f():\n    t = threading.Thread(target=print)\n    t.start()\n    t.join()",
        "f()",
    ),
    "a file of its own": ("def f():\n    open('t', 'w').write('x')\n    return open('t').read()", "assert f() == 'x'"),
    "an example that prints and reads": ("def f(x): return x\nprint(f(1))\n", "assert f(1) == 1"),
}


@needs_sandbox
@pytest.mark.parametrize(("code", "tests"), HONEST.values(), ids=HONEST)
def test_an_honest_solution_passes(code: str, tests: str) -> None:
    outcome = trial.run(code, trial.Tests(tests), QUICK)
    assert outcome.passed, outcome.why


WRONG = {
    "a wrong answer": ("def f(x): return x + x", "AssertionError"),
    "an exception": ("def f(x): return 1 / 0", "ZeroDivisionError"),
    "no such function": ("def g(x): return x * x", "NameError: name 'f'"),
    "no Python": ("def f(x) return x * x", "SyntaxError"),
    "endless recursion": ("def f(x): return f(x)", "RecursionError"),
    "a sum with asyncio": ("async def f(x): return x * x", "AssertionError"),
}


@needs_sandbox
@pytest.mark.parametrize(("code", "reason"), WRONG.values(), ids=WRONG)
def test_a_wrong_solution_fails_and_says_why(code: str, reason: str) -> None:
    assert reason in why(code)


GREEDY = {
    "an infinite loop": ("def f(x):\n    while True: pass", "process ended"),
    "a fork bomb": ("import os\ndef f(x):\n    while True: os.fork()", "Operation not permitted"),
    "a subprocess": ("import subprocess\ndef f(x): return subprocess.run(['true'])", "not permitted"),
    # Zeros, which are not touched: a slow machine would meet the limit on CPU time first.
    "a memory hog": ("def f(x): return [bytes(1 << 20) for _ in range(1 << 20)]", "MemoryError"),
    "endless output": ("def f(x):\n    while True: print('x' * 1000000)", "process ended"),
    "a huge answer": ("def f(x): return 'x' * (40 << 20)", "32 MiB"),
    "a huge file": (
        "def f(x):\n    with open('t', 'wb') as t:\n        while True: t.write(b'x' * 1000000)",
        "OSError",
    ),
    "many files": ("def f(x):\n    for i in range(99): open(str(i), 'wb').write(b'x' * 1000000)", "No space left"),
    "hidden memory": ("import os\ndef f(x): return os.memfd_create('m')", "Operation not permitted"),
}


@needs_sandbox
@pytest.mark.parametrize(("code", "reason"), GREEDY.values(), ids=GREEDY)
def test_a_greedy_solution_meets_its_limit(code: str, reason: str) -> None:
    assert reason in why(code)


@needs_sandbox
def test_a_solution_that_sleeps_meets_the_wall_time() -> None:
    began = time.monotonic()
    assert "no end within 0.5 s" in why("import time\ndef f(x): time.sleep(60)", limits=sandbox.Limits(wall_s=0.5))
    assert time.monotonic() - began < 20


CURIOUS = {
    "the environment": ("import os\ndef f(): return dict(os.environ)", ["HOME", "SECRET_KEY", "'PATH'"]),
    "the root": ("import os\ndef f(): return os.listdir('/')", ["home", "etc", "proc", "sys"]),
    "root's home": (
        "import os\ndef f(): return [os.listdir(d) for d in ('/root', '/home') if os.path.isdir(d)]",
        [".ssh", ".bashrc"],
    ),
    "this file": (f"import os\ndef f(): return os.path.exists({__file__!r})", ["True"]),
    "descriptors": (
        "import os\ndef f():\n    for n in range(3, 64):\n"
        "        try: os.read(n, 0); os.write(n, b'')\n        except OSError: pass",
        ["token"],
    ),
}


@needs_sandbox
@pytest.mark.parametrize(("code", "absent"), CURIOUS.values(), ids=CURIOUS)
def test_a_curious_solution_sees_nothing(code: str, absent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "sk-1")
    tests = f"said = repr(f())\nassert not any(word in said for word in {absent!r}), said"
    assert passes(code, tests)


OUTWARD = {
    "a socket": "import socket\ndef f(x): socket.create_connection(('127.0.0.1', 9)); return x * x",
    "writing to /": "def f(x): open('/x', 'w'); return x * x",
    "writing to the packages": "import numpy\ndef f(x): open(numpy.__path__[0] + '/x', 'w'); return x * x",
    "reading /etc/passwd": "def f(x): open('/etc/passwd'); return x * x",
    "a namespace": "import ctypes\ndef f(x):\n    assert not ctypes.CDLL(None).unshare(1 << 28)\n    return x * x",
}


@needs_sandbox
@pytest.mark.parametrize("code", OUTWARD.values(), ids=OUTWARD)
def test_nothing_outside_can_be_reached_or_changed(code: str) -> None:
    assert "Error" in why(code)


ALWAYS = "class Any:\n    __eq__ = lambda s, o: True\n    __ne__ = lambda s, o: False\n    __lt__ = __le__ = __eq__\n"
FIVE = "\ndef f(x): return 5"
CHEATS = {
    "sys.exit(0)": "import sys\nsys.exit(0)",
    "os._exit(0)": "import os\nos._exit(0)",
    "exits in the function": "import os\ndef f(x): os._exit(0)",
    "raises SystemExit": "def f(x): raise SystemExit(0)",
    "prints a verdict": 'print(\'{"token": "?", "outcome": "passed", "why": ""}\')',
    "patches builtins": "import builtins\nbuiltins.AssertionError = builtins.len = lambda *a: True" + FIVE,
    "an object that equals all": ALWAYS + "def f(x): return Any()",
    "a number that equals all": "class Any(int):\n    __eq__ = lambda s, o: True\ndef f(x): return Any(5)",
    "a list that equals all": "class Any(list):\n    __eq__ = lambda s, o: True\ndef f(x): return Any()",
    "a class that lies of its type": ALWAYS + "    __class__ = int\ndef f(x): return Any()",
    "a type that equals all": (
        "class Meta(type):\n    __eq__ = lambda s, o: True\n    __hash__ = None\n"
        "class Any(metaclass=Meta): pass\ndef f(x): return Any"
    ),
    "writes to the stack": (
        "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        frame.f_globals['token'] = frame.f_locals\n        frame = frame.f_back\n    return 5"
    ),
    "answers before it is asked": (
        "import os\nfor n in range(3, 32):\n    try: os.write(n, b'{\"value\": 4}\\n' * 9)\n    except OSError: pass"
        + FIVE
    ),
    "closes everything": "import os\nos.closerange(0, 64)" + FIVE,
    "exits at exit": "import atexit, os\natexit.register(os._exit, 0)" + FIVE,
    "patches the examiner": (
        "import responses_db.graders.sandboxed.examiner as e\ne.verdict = lambda *a: ('passed', '')" + FIVE
    ),
}


@needs_sandbox
@pytest.mark.parametrize("code", CHEATS.values(), ids=CHEATS)
def test_no_cheat_passes(code: str) -> None:
    assert not passes(code)


@needs_sandbox
@pytest.mark.parametrize(
    "test", ["assert abs(f(2) - 4) < 1e-6", "assert 4 in f(2)", "assert not f(2) > 4", "assert 4 == f(2)"]
)
def test_what_is_expected_is_never_handed_to_the_solution(test: str) -> None:
    yes_to_all = "    __sub__ = __rsub__ = lambda s, o: 0\n    __contains__ = __eq__\n    __gt__ = __ne__\n"
    code = ALWAYS + yes_to_all + "def f(x): return Any()"
    assert not passes(code, test)


@needs_sandbox
@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("def broken(:", "the tests are no Python"),
        ("assert f(lambda v: v) == 4", "hand a function to the solution"),
        ("import asyncio\nasyncio.run(f(2))", "asynchronous"),
        ("import os\nos._exit(0)", "without a verdict"),
    ],
)
def test_tests_that_cannot_be_run_are_no_zero(tests: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        passes("def f(x): return x * x", tests)


@needs_sandbox
def test_code_that_goes_on_from_the_prompt_is_run_with_it() -> None:
    tests = trial.Tests("assert f(2) == 4", "f", prompt_code="def f(x):\n")
    assert passes("    return x * x", tests)
    assert passes("def f(x):\n    return x * x", tests)
    assert not passes("    return x + 1", tests)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Sure!\n```python\ndef f():\n    pass\n```\nBye", "def f():\n    pass"),
        ("```py\nimport os\ndef f(): pass\n```\nFor example:\n```python\nprint(f())\n```", "import os\ndef f(): pass"),
        ("```\nx = 1\n```", "x = 1"),
        ("```bash\npip install x\n```\n```python\ndef f(): pass\n```", "def f(): pass"),
        ("```python\ndef cut():\n    return", "def cut():\n    return"),
        ("1. So:\n   ```python\n   def f():\n       pass\n   ```", "def f():\n    pass"),
        ("Here is it:\ndef f():\n    return 1\n\nIt returns one.", "def f():\n    return 1"),
        ("    return x", "    return x"),
        ("```python\r\ndef f():\r\n    pass\r\n```", "def f():\n    pass"),
        ("I cannot help with that.", None),
        ("```\n\n```", None),
    ],
)
def test_the_code_is_read_out_of_the_text(text: str, code: str | None) -> None:
    assert GRADERS["code"].extract(text) == code


def test_without_a_sandbox_code_is_refused_in_one_line_and_is_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.why_not.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    asked = Query("d/q", "d", "code", [], "?", None, "code", "test", {"tests": "assert f() == 1"})
    try:
        with pytest.raises(LabError, match="no `bwrap` on the PATH: install bubblewrap") as caught:
            grade(GRADERS["code"], "```python\ndef f(): return 1\n```", asked)
        assert "\n" not in str(caught.value)
    finally:
        sandbox.why_not.cache_clear()


def test_where_namespaces_are_forbidden_code_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sandbox.why_not.cache_clear()
    forbidden = tmp_path / "bwrap"
    forbidden.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    forbidden.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(forbidden))
    try:
        with pytest.raises(LabError, match=r"cannot start here.*No permissions to create new namespace") as caught:
            sandbox.require()
        assert "\n" not in str(caught.value)
    finally:
        sandbox.why_not.cache_clear()


def test_a_query_without_tests_cannot_be_graded() -> None:
    asked = Query("d/q", "d", "code", [], "?", None, "code", "test", {})
    with pytest.raises(ValueError, match="no `tests`"):
        grade(GRADERS["code"], "```python\nx = 1\n```", asked)


def test_the_filter_is_known_for_two_processors_only() -> None:
    for machine in seccomp.ARCHITECTURES:
        program = seccomp.program(machine)
        assert program is not None
        assert len(program) % 8 == 0
    assert seccomp.program("riscv64") is None


@needs_sandbox
def test_no_process_is_left_behind() -> None:
    passes("import time\ndef f(x): time.sleep(60)", limits=sandbox.Limits(wall_s=0.3))
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    commands = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children if Path(f"/proc/{child}").exists()]
    assert not [command for command in commands if b"sandboxed" in command]
