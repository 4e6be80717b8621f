"""Where queries come from: the same in every run and process, no question twice."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from responses_db.errors import LabError
from responses_db.graders import GRADERS, grade
from responses_db.harvest_config import read_config
from responses_db.query import Query, digest, split_of
from responses_db.tasks import TASKS, interleave
from responses_db.toml_table import Table, read_toml

DEMO = Path(__file__).parents[2] / "experiments/harvest/demo.toml"
A_FEW = 12


def draw(**spec: object) -> list[Query]:
    return TASKS["reasoning_gym"].read(Table({"domain": "arithmetic", "count": 6, **spec}, "here"), 7, Path("."))


def a_few_of_each(path: Path) -> list[Query]:
    """The demo's tasks with fewer queries each."""
    tables = read_toml(path).tables("tasks")
    smaller = [Table(table.values | {"count": A_FEW}, table.where) for table in tables]
    for table in smaller:
        table.text("kind")
    return interleave(TASKS["reasoning_gym"].read(table, 1, path.parent) for table in smaller)


def test_the_demo_has_16_generators_in_4_domains_and_grades_its_own_references() -> None:
    queries = a_few_of_each(DEMO)
    assert len({query.metadata["generator"] for query in queries}) == 16
    assert {query.domain for query in queries} == {"arithmetic", "logic", "algorithmic", "language_games"}
    for query in queries:
        assert grade(GRADERS[query.grader], f"Answer: {query.reference}", query).score == 1.0
        assert len(query.question) < 6_000


def test_the_demos_queries_are_the_same_in_a_process_with_other_string_hashes() -> None:
    """reasoning-gym's isomorphic_strings is not, so it is refused."""
    code = (
        "from tests.responses_db.test_tasks import *; from responses_db.query import digest\n"
        "print(digest([(q.query_id, q.reference, q.metadata) for q in a_few_of_each(DEMO)]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        cwd=DEMO.parents[2],
    )
    assert run.stdout.strip() == digest([(q.query_id, q.reference, q.metadata) for q in a_few_of_each(DEMO)])
    with pytest.raises(LabError, match=r"isomorphic_strings.* cannot be used.*PYTHONHASHSEED"):
        draw(generator="isomorphic_strings")


def test_no_question_stands_twice_and_levels_share_the_count() -> None:
    queries = draw(generator="gcd", count=31, levels=[{"max_value": 60}, {"max_value": 500}])
    assert len({query.question for query in queries}) == len({query.query_id for query in queries}) == 31
    assert sorted(query.metadata["difficulty"] for query in queries) == [0.0] * 16 + [1.0] * 15


def test_another_seed_gives_other_questions_not_shifted_ones() -> None:
    """reasoning-gym seeds item i with seed + i, so seeds that follow each other would share nearly all items."""
    table = {"generator": "products", "domain": "arithmetic", "count": 40}
    ids = [{q.query_id for q in TASKS["reasoning_gym"].read(Table(table, ""), seed, Path("."))} for seed in (1, 2)]
    assert len(ids[0] & ids[1]) < 5


def test_a_split_is_a_function_of_the_id_and_about_70_to_30() -> None:
    train = sum(split_of(f"q{i}") == "train" for i in range(2000)) / 2000
    assert train == pytest.approx(0.7, abs=0.03)
    assert split_of("reasoning_gym/gcd-1") == split_of("reasoning_gym/gcd-1")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"generator": "chainsum"}, "generator 'chainsum' is not known .did you mean 'chain_sum'"),
        ({"generator": "chain_sum", "levels": [{"terms": 3}]}, "chain_sum refuses the settings of level 1"),
        ({"generator": "chain_sum", "levels": [{"min_terms": 9, "max_terms": 2}]}, "refuses the settings of level 1"),
        ({"generator": "chain_sum", "difficulty": 3}, "unknown key `difficulty`"),
        ({"generator": "gcd", "count": 50, "levels": [{"max_value": 3}]}, "has only .* different questions, 50 wanted"),
    ],
)
def test_a_mistake_in_a_task_is_one_line_that_says_where(spec: dict[str, object], message: str) -> None:
    with pytest.raises(LabError, match=f"here: .*{message}") as caught:
        draw(**spec)
    assert "\n" not in str(caught.value)


def test_jsonl_gives_ones_own_queries(tmp_path: Path) -> None:
    lines = [
        {"question": "2 + 2?", "reference": "4", "id": "sum", "split": "test"},
        {"question": "Capital of France?", "reference": "Paris", "domain": "geography"},
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    table = Table({"path": "mine.jsonl", "grader": "exact"}, "here")
    first, second = TASKS["jsonl"].read(table, 0, tmp_path)
    assert (first.query_id, first.split, first.domain) == ("mine/sum", "test", "mine")
    assert first.messages == [{"role": "user", "content": "2 + 2?"}]
    assert (second.domain, second.reference) == ("geography", "Paris")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 1: not JSON"),
        ("[1]", "line 1: not an object"),
        ('{"question": "?"}', "line 1: `reference` is missing"),
        ('{"question": "?", "reference": "!", "referense": "!"}', "line 1: unknown key `referense`.*did you mean"),
    ],
)
def test_a_bad_line_of_jsonl_is_named(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(line)
    with pytest.raises(LabError, match=message):
        TASKS["jsonl"].read(Table({"path": "mine.jsonl", "grader": "exact"}, "here"), 0, tmp_path)


def test_parquet_gives_ones_own_queries_with_nested_columns_or_texts_of_json(tmp_path: Path) -> None:
    plain = {"question": "2 + 2?", "reference": "4", "id": "sum", "grader": "numeric"}
    nested = {"messages": [{"role": "user", "content": "Say 4"}], "metadata": {"source": "me", "none": None}}
    pl.DataFrame([plain | nested, {"question": "Paris?", "reference": "yes"}]).write_parquet(tmp_path / "mine.parquet")
    as_text = {key: json.dumps(value) for key, value in nested.items()}
    pl.DataFrame([plain | as_text]).write_parquet(tmp_path / "text.parquet")
    first, second = TASKS["parquet"].read(Table({"path": "mine.parquet", "grader": "exact"}, "here"), 0, tmp_path)
    assert (first.grader, first.messages, first.metadata) == ("numeric", nested["messages"], {"source": "me"})
    assert (second.grader, second.messages) == ("exact", [{"role": "user", "content": "Paris?"}])
    (third,) = TASKS["parquet"].read(Table({"path": "text.parquet"}, "here"), 0, tmp_path)
    assert (third.messages, third.metadata["source"]) == (nested["messages"], "me")


def test_ones_own_programs_need_tests_and_no_reference(tmp_path: Path) -> None:
    table = Table({"path": "mine.jsonl", "grader": "code"}, "here")
    (tmp_path / "mine.jsonl").write_text('{"question": "Double x", "metadata": {"tests": "assert f(2) == 4"}}')
    (query,) = TASKS["jsonl"].read(table, 0, tmp_path)
    assert query.reference is None
    (tmp_path / "mine.jsonl").write_text('{"question": "Double x"}')
    with pytest.raises(LabError, match="line 1: grader `code` needs tests"):
        TASKS["jsonl"].read(table, 0, tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.parquet", b"nothing", "mine.parquet: not a Parquet file"),
        ("mine.jsonl", b"PAR1\xff\xfe", "no text in UTF-8 .*Name it .parquet"),
        ("mine.jsonl", b'{"question": "?", "reference": "!"}', "line 1: `grader` is missing"),
    ],
)
def test_a_file_of_another_kind_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LabError, match=message):
        TASKS["jsonl"].read(Table({"path": name}, "here"), 0, tmp_path)


def test_one_id_for_two_queries_is_refused() -> None:
    queries = draw(generator="gcd")
    with pytest.raises(LabError, match="two queries have the id"):
        interleave([queries, queries])


def test_the_demo_config_is_valid() -> None:
    config = read_config(DEMO)
    assert len(config.queries) == 2_000
    assert len(config.providers[0].models) == 8
    assert list(config.prompt_styles) == ["plain", "cot"]
    assert config.samples == 2
