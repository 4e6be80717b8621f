"""Evidence from returned code: what is read out of a text, what running it tells, and that none of it can be forged."""

import json
import random

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from responses_db import LabError, ResponseStore
from responses_db.graders import sandbox
from responses_db.importers import check, land, tidy
from xrouter_sim.cli import main
from xrouter_sim.evidence import code, outcomes
from xrouter_sim.evidence.code import FLAGS, Case, agreements, behaviours, code_evidence, run_missing
from xrouter_sim.evidence.examples import Example, read_examples
from xrouter_sim.evidence.inputs import generic
from xrouter_sim.evidence.programs import Program, read_question, read_response
from xrouter_sim.evidence.running import LOADED, LOST, OK, run
from xrouter_sim.evidence.values import digest_of, write_arguments
from xrouter_sim.replay import Replay

needs_sandbox = pytest.mark.skipif(sandbox.why_not() is not None, reason=f"no sandbox here: {sandbox.why_not()}")

NOTHING_ASKED = read_question("Write a function to square a number.")


def fenced(code: str) -> str:
    return f"Here it is:\n```python\n{code}\n```\nHope this helps."


def calls(*arguments: object) -> str:
    written = write_arguments(list(arguments))
    assert written is not None
    return written


# What a text says


@pytest.mark.parametrize(
    ("text", "arguments", "states"),
    [
        ("assert f(2) == 4", (2,), 4),
        (">>> f(2)\n4", (2,), 4),
        (">>> print(f(2))\n4", (2,), 4),
        ("print(f(2))  # Output: 4", (2,), 4),
        ("print(f(2)) # 4", (2,), 4),
        ("print(f(2))\n# Returns 4", (2,), 4),
        ("x = [1, 2]\ny = f(x)\nprint(y)  # Output: {1: (2, 3)}", ([1, 2],), {1: (2, 3)}),
        ("if __name__ == '__main__':\n    assert f('a', -1.5) == {1}", ("a", -1.5), {1}),
        ('def f(x):\n    """Twice.\n\n    >>> f(3)\n    6\n    """', (3,), 6),
    ],
)
def test_examples_are_read_with_what_they_are_said_to_return(text, arguments, states):
    assert read_examples([text], "f") == [Example(calls(*arguments), digest_of(states))]


@pytest.mark.parametrize("text", ["print(f(2))", "print(f(2))  # Output: about four", "print('it is', f(2))", "f(2)"])
def test_an_example_may_say_nothing_of_what_it_returns(text):
    assert read_examples([text], "f") == [Example(calls(2), None)]


@pytest.mark.parametrize(
    "text", ["f(n)", "f(open('x'))", "f(x=2)", "g(2)", "def h():\n    return f(2)", "f(2", "f(...)"]
)
def test_only_calls_with_literals_are_examples(text):
    assert read_examples([text], "f") == []


def test_the_program_is_the_function_that_no_other_one_uses():
    returned = read_response(fenced("def f(x, y=1):\n    return g(x)\ndef g(x):\n    return x"), NOTHING_ASKED)
    assert returned.program is not None
    assert (returned.program.entry, returned.program.arity) == ("f", 1)


def test_the_question_may_name_the_function_and_give_examples():
    asked = read_question("Write a function.\nYour code must pass:\nassert f(2) == 4")
    assert (asked.entry, asked.examples) == ("f", (Example(calls(2), digest_of(4)),))
    returned = read_response(fenced("def f(x):\n    return x\ndef g(x):\n    return f(x)"), asked)
    assert returned.program is not None
    assert returned.program.entry == "f"


def test_code_that_goes_on_from_the_question_is_completed():
    asked = read_question('def f(x):\n    """Square.\n\n    >>> f(2)\n    4\n    """\n')
    returned = read_response("    return x * x\n", asked)
    assert returned.program is not None
    assert returned.program.code.endswith("return x * x")
    assert asked.examples == (Example(calls(2), digest_of(4)),)


@pytest.mark.parametrize(
    ("text", "has_code", "parses"),
    [("The answer is 4.", False, False), (fenced("def f(x) return"), True, False), (fenced("x = 1"), True, True)],
)
def test_a_text_without_a_function_has_no_program(text, has_code, parses):
    returned = read_response(text, NOTHING_ASKED)
    assert (returned.has_code, returned.parses, returned.program) == (has_code, parses, None)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)


@given(PLAIN)
def test_a_value_has_one_digest_whatever_the_order_of_its_dicts(value):
    def turned(part):
        if isinstance(part, dict):
            return {key: turned(part[key]) for key in reversed(part)}
        return [turned(item) for item in part] if isinstance(part, list) else part

    assert digest_of(value) is not None
    assert digest_of(turned(value)) == digest_of(value)


def test_digests_tell_apart_what_python_tells_apart():
    assert digest_of(2) == digest_of(2.0)
    assert digest_of(True) == digest_of(1)
    assert digest_of(0.1 + 0.2) == digest_of(0.3)
    assert digest_of({"a", "b", "c"}) == digest_of(frozenset("cba"))
    values = [None, 0, 1, "", "0", [], (), set(), {}, [0], (0,), {0}, {0: 0}, [[0]], 0.5, "nan", float("nan"), b"0"]
    assert len({digest_of(value) for value in values}) == len(values)


def test_generic_inputs_are_different_calls_of_the_arity():
    for arity in range(6):
        inputs = generic(arity)
        assert len(set(inputs)) == len(inputs) >= 1
        assert {len(json.loads(text)) for text in inputs} == {arity}


# What running tells


SQUARES = {
    "product": "def square(x):\n    return x * x",
    "power": "import math\n\ndef power_of_two(number):\n    return number ** 2\n\nprint(power_of_two(3))  # Output: 9",
    "lie": "def square(x):\n    return x * x\n\nassert square(3) == 6",
    "double": "def square(x):\n    return x + x\n\nprint(square(2))  # Output: 4",
    "prints": "def square(x):\n    print(x * x)",
    "broken": "def square(x) return x * x",
    "endless": "def square(x):\n    while True: pass",
}


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """The case of SQUARES, and what running each of its programs led to."""
    sandbox.require()
    folder = tmp_path_factory.mktemp("outcomes")
    case = Case.read("Write a function to square a number.", [fenced(text) for text in SQUARES.values()])
    assert run_missing([case], folder, jobs=2) == (len(SQUARES) - 1, len(SQUARES) - 1)
    known = outcomes.read(folder)
    return case, [known[one.program.key] if one.program else None for one in case.returned]


@needs_sandbox
def test_equal_programs_behave_alike_and_others_do_not(squares):
    found = dict(zip(SQUARES, behaviours(*squares), strict=True))
    assert found["product"] == found["power"] == found["lie"]
    assert len({found[name] for name in ("product", "double", "prints")} - {-1}) == 3
    assert found["broken"] == found["endless"] == -1


@needs_sandbox
def test_two_responses_agree_on_their_own_examples(squares):
    names = list(SQUARES)
    agrees = agreements(*squares)

    def pair(one, other):
        return agrees[names.index(one), names.index(other)]

    assert np.array_equal(agrees, agrees.T)
    assert pair("product", "power") == 1
    assert pair("product", "double") == 1  # 2 · 2 is 2 + 2: these two have no other example
    assert pair("power", "double") == pair("lie", "double") == 0
    assert pair("product", "broken") == pair("product", "prints") == pair("broken", "broken") == -1
    assert pair("product", "endless") == -1


@needs_sandbox
def test_flags_say_whether_a_program_keeps_its_word(squares):
    case, results = squares
    flags = {
        name: dict(zip(FLAGS, code._flags(case, returned, result), strict=True))
        for name, returned, result in zip(SQUARES, case.returned, results, strict=True)
    }
    assert flags["power"]["own_examples"] == flags["power"]["own_hold"] == flags["power"]["runs"] == 1
    assert flags["lie"]["own_examples"] == 1
    assert flags["lie"]["own_hold"] == flags["lie"]["runs"] == 0  # its own assert ends it
    assert flags["product"]["own_examples"] == flags["product"]["own_hold"] == flags["product"]["own_crash"] == 0
    assert flags["broken"] == {name: float(name == "has_code") for name in FLAGS}
    assert flags["endless"]["accepts"] == 0 < flags["product"]["accepts"] < 1


@needs_sandbox
def test_the_order_of_responses_changes_nothing(squares):
    case, results = squares
    order = list(range(len(SQUARES)))
    random.Random(1).shuffle(order)
    turned = Case(case.asked, [case.returned[i] for i in order])
    before, after = behaviours(case, results), behaviours(turned, [results[i] for i in order])
    assert np.array_equal(before[order][:, None] == before[order], after[:, None] == after)
    assert np.array_equal(before[order] < 0, after < 0)
    assert np.array_equal(
        agreements(turned, [results[i] for i in order]), agreements(case, results)[np.ix_(order, order)]
    )


@needs_sandbox
@pytest.mark.parametrize("names", [("f", "x"), ("total", "répété")])
def test_names_and_comments_alter_no_behaviour(names):
    entry, argument = names
    program = Program(f"def {entry}({argument}):  # {names}\n    return sorted({argument})", entry, 1)
    assert run(program, [calls([3, 1]), calls("ba")]) == {
        LOADED: OK,
        calls([3, 1]): digest_of([1, 3]),
        calls("ba"): digest_of(["a", "b"]),
    }


HOSTILE = {
    "an endless call": "def f(x):\n    while x == 1: pass\n    return x",
    "an exit": "import os\ndef f(x):\n    if x == 1: os._exit(0)\n    return x",
    "a huge answer": "def f(x): return 'x' * (1 << 20) if x == 1 else x",
}


@needs_sandbox
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_call_that_does_not_come_back_costs_itself_alone(text):
    found = run(Program(text, "f", 1), [calls(1), calls(2)])
    assert found == {LOADED: OK, calls(1): LOST, calls(2): digest_of(2)}


ENDLESS = {
    "the code": "while True: pass\n\nclass A:\n    def f(x): return x",
    "every call": "def f(x):\n    while True: pass",
    "sleep": "import time\ndef f(x): time.sleep(99)",
}


@needs_sandbox
@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS)
def test_an_endless_program_costs_bounded_time(text, monkeypatch):
    monkeypatch.setattr("xrouter_sim.evidence.running.LIMITS", sandbox.Limits(1, 1.0, 512 << 20, 1 << 20))
    sandboxes, start = [], sandbox.start
    monkeypatch.setattr(sandbox, "start", lambda *a, **b: sandboxes.append(start(*a, **b)) or sandboxes[-1])
    found = run(Program(text, "f", 1), [calls(number) for number in range(60)])
    assert LOST in found.values()
    assert set(found.values()) <= {OK, LOST, "!absent"}
    assert len(sandboxes) <= 3  # each of a second of CPU or wall time


FORGES = """
import json, os
def f(x):
    return x
for fd in range(3, 64):
    try:
        for _ in range(99): os.write(fd, b'{"value": 1, "names": [["f", "value", {"kept": 1}]]}\\n["dict", 3]\\n')
    except OSError: pass
while True: pass
"""


@needs_sandbox
def test_a_program_that_writes_its_own_replies_is_of_no_harm(monkeypatch):
    monkeypatch.setattr("xrouter_sim.evidence.running.LIMITS", sandbox.Limits(1, 1.0, 512 << 20, 1 << 20))
    found = run(Program(FORGES, "f", 1), [calls("x" * 3000, number) for number in range(60)])
    assert len(found) == 61  # it came back, although nobody took the orders


@needs_sandbox
@pytest.mark.parametrize(
    ("use", "loaded"), [("print(f(1)[0])", "!TypeError"), ("input()", "!EOFError"), ("while True: pass", LOST)]
)
def test_code_whose_example_of_use_fails_still_defines_its_function(use, loaded, monkeypatch):
    monkeypatch.setattr("xrouter_sim.evidence.running.LIMITS", sandbox.Limits(1, 9.0, 512 << 20, 1 << 20))
    found = run(Program(f"BASE = 3\ndef f(x):\n    return BASE + x\n{use}", "f", 1), [calls(1)])
    assert found == {LOADED: loaded, calls(1): digest_of(4)}


# In a store


MODELS = ("a", "b", "c")


def make_store(path, answers):
    """A store with a question for each row of `answers`: what the models said."""
    rows = pl.DataFrame(
        [
            {
                "dataset": "tiny",
                "split": "train",
                "domain": "code",
                "query_id": f"q{number}",
                "query": f"Write function number {number}.",
                "model": model,
                "response": text,
                "score": 1.0,
                "prompt_tokens": 10,
                "completion_tokens": 20,
                "cost_usd": 1e-5,
                "reference": None,
            }
            for number, row in enumerate(answers)
            for model, text in zip(MODELS, row, strict=True)
        ]
    )
    file = path.with_suffix(".parquet")
    rows.write_parquet(file)
    read = tidy.read(file)
    check(read, str(file))
    with ResponseStore(path, write=True) as store:
        land(read, store, {"form": "tidy", "path": file})
    return path


def command(*arguments):
    done = CliRunner().invoke(main, ["store", "run-code", "--json", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


ANSWERS = [
    ["No code.", "None here.", "Nor here."],
    [fenced(SQUARES["product"]), fenced(SQUARES["power"]), fenced(SQUARES["double"])],
    [fenced(SQUARES["product"]), "I cannot.", fenced(SQUARES["product"])],
]


@needs_sandbox
def test_the_command_runs_each_program_once_and_evidence_stands_where_the_replay_has_it(tmp_path):
    path = make_store(tmp_path / "s.duckdb", ANSWERS)
    replay = Replay.load(path)
    assert code_evidence(replay) is None  # nothing has run
    first = command("--db", path)
    assert {name: first[name] for name in ("queries", "with_program", "programs", "ran")} == {
        "queries": 3,
        "with_program": 4,  # of two equal texts to a question, one
        "programs": 3,
        "ran": 3,
    }
    assert command("--db", path)["ran"] == 0
    evidence = code_evidence(replay)
    assert evidence is not None
    assert evidence.behaviour.shape == (3, 3, 1)
    assert evidence.flags.shape == (3, 3, 1, len(FLAGS))
    assert evidence.agrees.shape == (3, 3, 3)
    assert (evidence.behaviour[0] == -1).all()
    assert not evidence.flags[0].any()
    assert evidence.behaviour[1, 0, 0] != evidence.behaviour[1, 2, 0]
    assert evidence.behaviour[2, :, 0].tolist() == [0, -1, 0]
    assert evidence.agrees[1].tolist() == [[-1, 1, 1], [1, 1, 0], [1, 0, 1]]
    assert evidence.flags[2, 0, 0, FLAGS.index("runs")] == 1


@needs_sandbox
def test_a_store_that_grew_is_to_be_run_again_and_damage_is_repaired(tmp_path):
    path = make_store(tmp_path / "s.duckdb", ANSWERS[:2])
    command("--db", path)
    path.unlink()
    more = [*ANSWERS[:2], [fenced("def cube(x):\n    return x ** 3"), "?", "?"]]
    make_store(path, more)
    with pytest.raises(LabError, match=r"1 of 4 programs .* store run-code --db"):
        code_evidence(Replay.load(path))
    assert command("--db", path)["ran"] == 1
    assert code_evidence(Replay.load(path)) is not None
    for part in (tmp_path / "cache" / "code").iterdir():
        part.write_bytes(part.read_bytes()[:-1])
    assert command("--db", path)["ran"] == 4


def test_evidence_about_two_responses_rests_on_no_third(tmp_path):
    """What a router did not call must not shine through: a third response's examples change nothing for two others."""
    texts = [fenced(SQUARES["product"]), fenced(SQUARES["double"])]
    third = fenced("def square(x):\n    return x * x\nassert square(5) == 25")
    two, three = (Case.read("Write a function to square a number.", more) for more in (texts, [*texts, third]))

    def made_up(case):
        """Outcomes under which the two programs differ on 5 alone."""
        wanted = {program.key: inputs for program, inputs in case.wanted()}
        keys = [one.program.key for one in case.returned]
        return [
            {LOADED: OK}
            | {text: (keys[i] if text == calls(5) and text not in generic(1) else "same") for text in wanted[key]}
            for i, key in enumerate(keys)
        ]

    fewer, more = agreements(two, made_up(two)), agreements(three, made_up(three))
    assert np.array_equal(fewer, more[:2, :2])
    assert behaviours(two, made_up(two)).tolist() == behaviours(three, made_up(three))[:2].tolist()


def test_without_a_sandbox_the_command_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "why_not", lambda: "no `bwrap` on the PATH")
    path = make_store(tmp_path / "s.duckdb", ANSWERS)
    done = CliRunner().invoke(main, ["store", "run-code", "--db", str(path)])
    assert done.exit_code == 1
    assert "in a sandbox only" in done.output
    assert "no `bwrap`" in done.output
    assert not (tmp_path / "cache").exists()
