"""Published benchmarks in their real layouts: each row becomes a query whose own reference is graded right."""

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from responses_db.errors import LabError
from responses_db.graders import GRADERS, grade, sandbox
from responses_db.query import Query, split_of
from responses_db.tasks import TASKS
from responses_db.tasks.benchmarks import BENCHMARKS
from responses_db.toml_table import Table

CHECK = "\n\ndef check(candidate):\n    assert candidate(2) == 4\n    assert candidate(0) == 0\n"
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def double(x: int) -> int:\n    """ Twice x.\n    >>> double(2)\n    4\n    """\n',
    "canonical_solution": "    return 2 * x\n",
    "entry_point": "double",
    "test": CHECK,
}
MBPP_TESTS = ["assert similar((3, 4, 5),(5, 4)) == (4, 5)", "assert similar((1, 2),(2, 3)) == (2,)"]
SIMILAR = "def similar(a, b):\r\n  return tuple(sorted(set(a) & set(b)))"
MBPP_PLUS_TEST = """\
import numpy as np

def assertion(out, exp, atol):
    assert out == exp, f"out: {out}, exp: {exp}"

inputs = [[(3, 4, 5), (5, 4)], [(), (1,)]]
results = [(4, 5), ()]
for inp, exp in zip(inputs, results):
    assertion(similar(*inp), exp, 0)
"""

ROWS: dict[str, list[dict[str, Any]]] = {
    "gsm8k": [
        {"question": "Natalia sold 48 clips, then half as many.", "answer": "She sold 48/2 = <<48/2=24>>24.\n#### 72"},
        {"question": "A car costs $1,500 and a half more. Cost?", "answer": "1000+1250\n#### 2,250"},
    ],
    "math500": [
        {
            "problem": "Convert $(0,3)$ to polar coordinates.",
            "solution": "So $\\boxed{\\left( 3, \\frac{\\pi}{2} \\right)}.$",
            "answer": "\\left( 3, \\frac{\\pi}{2} \\right)",
            "subject": "Precalculus",
            "level": 2,
            "unique_id": "test/precalculus/807.json",
        }
    ],
    "aime": [
        {
            "id": 60,
            "problem": "Every morning Aya goes for a walk. Find $t$.",
            "solution": "…",
            "answer": "024",
            "url": "https://example.org/2024_I_1",
            "year": "2024",
        }
    ],
    "gpqa": [
        {
            "Record ID": f"rec{number}",
            "Question": f"Which energy difference resolves level {number}?",
            "Correct Answer": "10^-4 eV\n",
            "Incorrect Answer 1": "10^-11 eV",
            "Incorrect Answer 2": "10^-8 eV",
            "Incorrect Answer 3": "10^-9 eV",
            "Subdomain": "Physics (general)",
            "High-level domain": "Physics",
        }
        for number in range(12)
    ],
    "mmlu": [
        {
            "question": "Find the degree of the extension.",
            "subject": "abstract_algebra",
            "choices": ["0", "4", "2", "6"],
            "answer": 1,
        }
    ],
    "humaneval": [HUMANEVAL],
    "humanevalplus": [HUMANEVAL | {"test": "import numpy as np\n" + CHECK}],
    "mbpp": [
        {
            "task_id": 2,
            "text": "Write a function to find the shared elements of two tuples.",
            "code": SIMILAR,
            "test_list": MBPP_TESTS,
            "test_setup_code": "import math",
            "challenge_test_list": [],
        }
    ],
    "mbppplus": [
        {
            "task_id": 2,
            "code": SIMILAR,
            "prompt": "Write a function to find the shared elements of two tuples.",
            "source_file": "Benchmark Questions Verification V2.ipynb",
            "test_imports": [],
            "test_list": MBPP_TESTS,
            "test": MBPP_PLUS_TEST,
        }
    ],
}  # fmt: skip


def files_of(name: str, folder: Path) -> Path:
    """The rows in files named as on the hub."""
    benchmark, frame = BENCHMARKS[name], pl.DataFrame(ROWS[name])
    if name == "gpqa":
        frame.write_csv(folder / "gpqa_diamond.csv")
        (folder / "gpqa_main.csv").write_text("another subset")
        return folder
    if name == "math500":
        (folder / "test.jsonl").write_text("\n".join(map(json.dumps, ROWS[name])))
        return folder
    inner = folder / (benchmark.subset or "data")
    inner.mkdir()
    frame.write_parquet(inner / f"{benchmark.split}-00000-of-00001.parquet")
    (inner / f"other{benchmark.split}-00000-of-00001.parquet").write_text("another split")
    return folder


def read(name: str, path: Path, seed: int = 0, **spec: object) -> list[Query]:
    return TASKS["hf"].read(Table({"benchmark": name, "path": str(path), **spec}, "here"), seed, Path("/"))


def as_answer(query: Query) -> str:
    """How a model would give the query's reference."""
    return f"```python\n{query.reference}\n```" if query.grader == "code" else f"So:\nAnswer: {query.reference}"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_in_its_real_layout_becomes_queries_that_grade_their_own_reference(
    name: str, tmp_path: Path
) -> None:
    queries = read(name, files_of(name, tmp_path))
    assert len(queries) == len(ROWS[name])
    for query in queries:
        assert query.query_id.startswith(f"{name}/")
        assert (query.dataset, query.grader) == (name, BENCHMARKS[name].grader)
        assert query.split == split_of(query.query_id)
        assert query.metadata["source_split"] == BENCHMARKS[name].split
        json.dumps(query.metadata)
        if query.grader != "code" or sandbox.why_not() is None:
            assert grade(GRADERS[query.grader], as_answer(query), query).score == 1.0


@pytest.mark.parametrize("name", ["humaneval", "humanevalplus", "mbpp", "mbppplus"])
@pytest.mark.skipif(sandbox.why_not() is not None, reason=f"no sandbox here: {sandbox.why_not()}")
def test_a_wrong_program_fails_the_benchmarks_tests(name: str, tmp_path: Path) -> None:
    (query,) = read(name, files_of(name, tmp_path))
    wrong = f"```python\ndef {query.metadata['entry_point']}(*given):\n    return given\n```"
    assert grade(GRADERS["code"], wrong, query).score == 0.0


def test_gsm8k_takes_what_stands_after_the_marks(tmp_path: Path) -> None:
    first, second = read("gsm8k", files_of("gsm8k", tmp_path))
    assert (first.reference, second.reference) == ("72", "2250")
    assert first.messages == [{"role": "user", "content": first.question}]
    assert first.domain == "gsm8k"


def test_gpqa_shuffles_its_options_by_the_seed_alone(tmp_path: Path) -> None:
    path = files_of("gpqa", tmp_path)
    queries, again, other = read("gpqa", path), read("gpqa", path), read("gpqa", path, seed=1)
    assert queries == again
    letters = [query.reference for query in queries]
    assert len(set(letters)) > 2
    assert letters != [query.reference for query in other]
    for query in queries:
        assert f"{query.reference}) 10^-4 eV" in query.question.splitlines()
        assert query.domain == "Physics"


def test_mmlu_gives_its_choices_letters_and_its_subject_as_domain(tmp_path: Path) -> None:
    (query,) = read("mmlu", files_of("mmlu", tmp_path))
    assert query.question == "Find the degree of the extension.\nA) 0\nB) 4\nC) 2\nD) 6"
    assert (query.reference, query.domain) == ("B", "abstract_algebra")


def test_a_code_prompt_shows_what_the_function_is_called(tmp_path: Path) -> None:
    (query,) = read("mbppplus", files_of("mbppplus", tmp_path))
    assert MBPP_TESTS[0] in query.messages[0]["content"]
    assert MBPP_TESTS[1] not in query.messages[0]["content"]
    assert query.metadata["entry_point"] == "similar"
    assert query.reference is not None
    assert "\r" not in query.reference


def test_the_layouts_of_other_years_of_aime_are_read_too(tmp_path: Path) -> None:
    for number, row in enumerate(
        [
            {"ID": "2024-I-1", "Problem": "Find m.", "Solution": "…", "Answer": 204},
            {"problem_idx": 1, "problem": "Find n.", "answer": 70, "problem_type": ["Algebra"]},
            {"question": "Find k.", "answer": "70"},
        ]
    ):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(json.dumps(row))
        (query,) = read("aime", path)
        assert query.reference in ("204", "70")
        assert query.question.startswith("Find ")


def test_count_draws_a_sample_by_the_seed_and_more_contain_fewer(tmp_path: Path) -> None:
    path = files_of("gpqa", tmp_path)
    few, more, other = (read("gpqa", path, seed=seed, count=count) for seed, count in ((0, 4), (0, 8), (1, 4)))
    ids = [{query.query_id for query in queries} for queries in (few, more, other)]
    assert [len(queries) for queries in ids] == [4, 8, 4]
    assert ids[0] < ids[1]
    assert ids[0] != ids[2]


def test_the_benchmarks_own_split_can_be_taken(tmp_path: Path) -> None:
    (query,) = read("mbpp", files_of("mbpp", tmp_path), split_as="source")
    assert query.split == "test"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"benchmark": "gsm9k"}, "benchmark 'gsm9k' is not known .did you mean 'gsm8k'"),
        ({"benchmark": "gsm8k", "path": "none"}, "no folder or file /none"),
        (
            {"benchmark": "gsm8k", "path": "DIR", "split": "train"},
            "no file of subset 'main' and split 'train'; there is .*main/test",
        ),
        ({"benchmark": "math500", "path": "FILE"}, "row 1: no column unique_id, so this is not math500"),
        ({"benchmark": "gsm8k", "path": "FILE", "count": 3}, "there are 2 queries and `count` is 3"),
        ({"benchmark": "gsm8k", "path": "FILE", "splits": "test"}, "unknown key `splits`"),
        ({"benchmark": "gsm8k", "path": "BAD"}, "bad.parquet: cannot be read"),
        ({"benchmark": "gsm8k", "path": "ODD"}, "odd.jsonl, row 1: not a row of gsm8k: `answer` has no ####"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_and_where(spec: dict[str, object], message: str, tmp_path: Path) -> None:
    folder = files_of("gsm8k", tmp_path)
    (tmp_path / "bad.parquet").write_text("no parquet")
    (tmp_path / "odd.jsonl").write_text('{"question": "?", "answer": "42"}')
    places = {"DIR": folder, "FILE": folder / "main/test-00000-of-00001.parquet"}
    places |= {"BAD": tmp_path / "bad.parquet", "ODD": tmp_path / "odd.jsonl"}
    given = {key: str(places.get(str(value), value)) if key == "path" else value for key, value in spec.items()}
    with pytest.raises(LabError, match=message) as caught:
        TASKS["hf"].read(Table(given, "here"), 0, Path("/"))
    assert "\n" not in str(caught.value)


def test_without_the_extra_or_the_network_it_says_what_to_do_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"benchmark": "gsm8k", "revision": "e53f048856"}
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "datasets", None)
        with pytest.raises(LabError, match=r"needs the extra `hf`.*or give `path`"):
            TASKS["hf"].read(Table(table, "here"), 0, Path("/"))
    asked: list[Any] = []

    def unreachable(*arguments: Any, **named: Any) -> None:
        asked.append((arguments, named))
        raise ConnectionError("Couldn't reach the Hub\nafter 5 tries")

    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(
        LabError, match=r"cannot get openai/gsm8k from the hub .*after 5 tries.*or give `path`"
    ) as caught:
        TASKS["hf"].read(Table(table, "here"), 0, Path("/"))
    assert "\n" not in str(caught.value)
    assert asked == [(("openai/gsm8k", "main"), {"split": "test", "revision": "e53f048856"})]


def test_rows_of_the_hub_are_read_like_those_of_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: datasets.Dataset.from_list(ROWS["mmlu"]))
    from_hub = TASKS["hf"].read(Table({"benchmark": "mmlu"}, "here"), 0, Path("/"))
    assert from_hub == read("mmlu", files_of("mmlu", tmp_path))
