"""Published benchmarks, in the layout that their datasets have on the Hugging Face hub.

A benchmark says where its rows are and what one row means; responses_db/tasks/hub.py fetches and samples them. A new
one is a function from a row to an `Item` and a line in BENCHMARKS.
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from responses_db.query import digest

LETTERS = "ABCDEFGHIJ"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """What a row means. `name` is unique within the benchmark; `prompt` is sent where it is more than the question."""

    name: str
    question: str
    reference: str | None
    domain: str | None = None
    prompt: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """`columns` must be there (one of several, where written a|b); `item` reads a row, given the seed."""

    name: str
    repository: str
    subset: str | None
    split: str
    grader: str
    columns: tuple[str, ...]
    item: Callable[[Row, int], Item]


def gsm8k(row: Row, seed: int) -> Item:
    """`answer` is the worked solution, and the result after ####."""
    solution, _, result = row["answer"].rpartition("####")
    if not solution:
        raise ValueError("`answer` has no ####, after which GSM8K has the result")
    return Item(digest(row["question"])[:16], row["question"], result.strip().replace(",", ""))


def math_500(row: Row, seed: int) -> Item:
    metadata = {"subject": row["subject"], "level": row["level"]}
    return Item(row["unique_id"], row["problem"], row["answer"], row["subject"], metadata=metadata)


def aime(row: Row, seed: int) -> Item:
    """The yearly sets name their columns differently: problem or question in either case; id, ID or problem_idx."""
    own = {key.lower(): value for key, value in row.items()}
    question = own.get("problem") or own["question"]
    name = own.get("id", own.get("problem_idx"))
    metadata = {key: own[key] for key in ("year", "url") if own.get(key) is not None}
    reference = str(own["answer"]).strip()
    return Item(
        digest(question)[:16] if name is None else str(name), question, reference.lstrip("0") or "0", metadata=metadata
    )


def gpqa(row: Row, seed: int) -> Item:
    """The right answer has a column of its own, so the options are shuffled: by seed and record, always alike."""
    options = [row["Correct Answer"], *(row[f"Incorrect Answer {number}"] for number in (1, 2, 3))]
    order = sorted(range(4), key=lambda place: digest("gpqa", seed, row["Record ID"], place))
    metadata = {"subdomain": row.get("Subdomain")}
    return _choice(
        row["Record ID"],
        row["Question"],
        [options[place] for place in order],
        order.index(0),
        row["High-level domain"],
        metadata,
    )


def mmlu(row: Row, seed: int) -> Item:
    name = f"{row['subject']}-{digest(row['question'], *row['choices'])[:16]}"
    return _choice(name, row["question"], row["choices"], int(row["answer"]), row["subject"], {})


def _choice(name: str, question: str, options: list[str], right: int, domain: str, metadata: dict[str, Any]) -> Item:
    lines = [f"{letter}) {str(option).strip()}" for letter, option in zip(LETTERS, options, strict=False)]
    text = "\n".join([question.strip(), *lines])
    return Item(name, text, LETTERS[right], domain, metadata=metadata | {"options": len(options)})


def humaneval(row: Row, seed: int) -> Item:
    """`test` defines check(candidate); HumanEval+ and HumanEval have the same columns."""
    prompt = (
        "Complete this function. Give the whole of it, with its imports, in one Python code block.\n\n"
        f"```python\n{row['prompt'].rstrip()}\n```"
    )
    tests = f"{row['test']}\n\ncheck({row['entry_point']})\n"
    metadata = {"tests": tests, "entry_point": row["entry_point"], "prompt_code": row["prompt"]}
    return Item(row["task_id"], row["prompt"], row["prompt"] + row["canonical_solution"], None, prompt, metadata)


def mbpp(row: Row, seed: int) -> Item:
    """The full set says `text` and test_setup_code, the sanitized one `prompt` and test_imports."""
    setup = row.get("test_setup_code") or "\n".join(row.get("test_imports") or [])
    tests = "\n".join([setup, *row["test_list"]]).strip() + "\n"
    return _mbpp(row, row.get("text") or row["prompt"], tests, list(row["test_list"]))


def mbpp_plus(row: Row, seed: int) -> Item:
    """`test` is a program of many more inputs; the prompt shows one test of the original, for the function's name."""
    return _mbpp(row, row["prompt"], row["test"], list(row["test_list"])[:1])


def _mbpp(row: Row, text: str, tests: str, shown: list[str]) -> Item:
    shown_tests = "\n".join(test.strip() for test in shown)
    prompt = f"{text.strip()}\nGive it in one Python code block. It must pass:\n\n```python\n{shown_tests}\n```"
    metadata = {"tests": tests, "entry_point": _entry_point(row["code"], shown)}
    return Item(str(row["task_id"]), text.strip(), row["code"].replace("\r\n", "\n"), None, prompt, metadata)


def _entry_point(code: str, tests: list[str]) -> str | None:
    """The name that the solution defines and the first test calls."""
    try:
        defined = {node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        called = [node.id for node in ast.walk(ast.parse(tests[0])) if isinstance(node, ast.Name)]
    except (SyntaxError, IndexError, ValueError):
        return None
    return next((name for name in called if name in defined), None)


HUMANEVAL = ("task_id", "prompt", "canonical_solution", "entry_point", "test")
GPQA = ("Record ID", "Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
MBPP = ("task_id", "code", "test_list")

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in [
        Benchmark("gsm8k", "openai/gsm8k", "main", "test", "math", ("question", "answer"), gsm8k),
        Benchmark(
            "math500", "HuggingFaceH4/MATH-500", None, "test", "math",
            ("unique_id", "problem", "answer", "subject", "level"), math_500,
        ),
        Benchmark("aime", "HuggingFaceH4/aime_2024", None, "train", "math", ("problem|question", "answer"), aime),
        Benchmark("gpqa", "Idavidrein/gpqa", "gpqa_diamond", "train", "choice", (*GPQA, "High-level domain"), gpqa),
        Benchmark("mmlu", "cais/mmlu", "all", "test", "choice", ("question", "subject", "choices", "answer"), mmlu),
        Benchmark("humaneval", "openai/openai_humaneval", None, "test", "code", HUMANEVAL, humaneval),
        Benchmark("humanevalplus", "evalplus/humanevalplus", None, "test", "code", HUMANEVAL, humaneval),
        Benchmark(
            "mbpp", "google-research-datasets/mbpp", "full", "test", "code", (*MBPP, "text|prompt"), mbpp
        ),
        Benchmark("mbppplus", "evalplus/mbppplus", None, "test", "code", (*MBPP, "prompt", "test"), mbpp_plus),
    ]
}  # fmt: skip
