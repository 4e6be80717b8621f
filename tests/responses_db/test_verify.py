"""`store verify` finds what must not be: each test plants one fault past the store's own rules."""

import json
import random
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from responses_db import ResponseStore
from responses_db.verify import verify
from tests.responses_db.store_worlds import card, fill, model, query, response, score
from xrouter_sim.cli import main


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store that is right in every respect: two answers, graded and priced."""
    given = [
        response("d/0", "a", input_tokens=5, output_tokens=5, text="maybe"),
        response("d/1", "a", reported_cost_usd=0),
    ]
    return fill(
        tmp_path / "s.duckdb",
        {
            "queries": [query("d/0"), query("d/1")],
            "models": [model("a")],
            "price_cards": [card("a")],
            "responses": given,
            "scores": [score(row) for row in given],
        },
    )


def found(path: Path) -> dict[str, tuple[int, bool]]:
    with ResponseStore(path) as store:
        return {finding.check: (finding.count, finding.note) for finding in verify(store)}


def plant(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as con:
        for statement in statements:
            con.execute(statement)


def run(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["store", "verify", *map(str, args)])
    return result.exit_code, result.stdout


def test_a_sound_store(path: Path) -> None:
    assert found(path) == {}
    code, printed = run("--db", path)
    assert (code, printed.splitlines()[-1]) == (0, "nothing is wrong")


@pytest.mark.parametrize(
    ("check", "statement"),
    [
        ("orphan-score", "INSERT INTO scores VALUES ('no such response', 'exact', 1, 1, NULL)"),
        ("orphan-query", "DELETE FROM queries WHERE query_id = 'd/1'"),
        ("orphan-model", "DELETE FROM models"),
        ("orphan-run", "DELETE FROM runs"),
        ("text-counts", "UPDATE responses SET text = 'probably' WHERE query_id = 'd/0'"),
        ("tokens", "UPDATE responses SET cached_input_tokens = 6 WHERE query_id = 'd/0'"),
        ("failed-score", "UPDATE responses SET status = 'failed' WHERE query_id = 'd/0'"),
    ],
)
def test_what_is_wrong(path: Path, check: str, statement: str) -> None:
    plant(path, statement)
    count, note = found(path)[check]
    assert (count >= 1, note) == (True, False)
    assert run("--db", path)[0] == 1


@pytest.mark.parametrize(
    ("check", "statement"),
    [
        ("ungraded", "DELETE FROM scores WHERE rowid = 0"),
        ("price-gap", "DELETE FROM price_cards"),
        ("grader", "UPDATE queries SET grader = 'oracle'; UPDATE scores SET grader = 'oracle'"),
        ("unfinished-run", "UPDATE runs SET ended_at = NULL"),
        ("clock", "UPDATE runs SET ended_at = started_at - INTERVAL 1 HOUR"),
        ("price-model", "INSERT INTO price_cards VALUES ('z', '2020-01-01', 1, 1, 1, 's')"),
    ],
)
def test_what_may_be_meant_so_is_a_note(path: Path, check: str, statement: str) -> None:
    plant(path, statement)
    assert found(path)[check][1]
    assert run("--db", path)[0] == 0
    assert run("--db", path, "--strict")[0] == 1


def without_rules(path: Path, table: str) -> None:
    """Make a table anew without keys and checks, as no program of ours would."""
    plant(
        path,
        f"CREATE TABLE copy AS FROM {table}",
        f"DROP TABLE {table}",
        f"CREATE TABLE {table} AS FROM copy",
        "DROP TABLE copy",
    )


def test_ids_and_keys_are_computed_anew(path: Path) -> None:
    without_rules(path, "responses")
    plant(
        path,
        "INSERT INTO responses FROM responses WHERE query_id = 'd/0'",
        "UPDATE responses SET response_id = 'x' WHERE query_id = 'd/1'",
    )
    assert {"response-id", "cell", "key", "orphan-score"} <= found(path).keys()


def test_a_broken_rule_of_the_schema_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB lets no such row in, so a stricter rule stands in for one that an older program did not have."""
    monkeypatch.setattr("responses_db.verify.RULES_SQL", "SELECT 'responses', 'CHECK', 'hedges < 1', ['hedges']")
    (finding,) = _findings(path)
    assert (finding["level"], finding["count"]) == ("wrong", 1)
    assert "hedges < 1" in finding["what"]


def test_a_wrong_noted_hash_is_found(path: Path) -> None:
    with ResponseStore(path) as store:
        right = store.content_hash()
    noted = path.with_name(path.name + ".hash")
    noted.write_text(noted.read_text().replace(right, "0" * 64))
    assert [finding["check"] for finding in _findings(path)] == ["hash"]


def test_json_that_is_none(path: Path) -> None:
    without_rules(path, "queries")
    plant(
        path,
        "ALTER TABLE queries ALTER messages TYPE VARCHAR",
        "UPDATE queries SET messages = '[' WHERE query_id = 'd/0'",
    )
    (finding,) = _findings(path)
    assert (finding["check"], finding["examples"]) == ("json", ["d/0"])


def test_a_damaged_block_is_named_and_not_a_traceback(tmp_path: Path) -> None:
    draw = random.Random(1)  # texts that do not compress, so that the middle of the file is texts
    many = [response("d/0", "a", sample, text=draw.randbytes(600).hex()) for sample in range(3000)]
    path = fill(tmp_path / "s.duckdb", {"queries": [query("d/0")], "models": [model("a")], "responses": many})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)
    code, printed = run("--db", path)
    assert code == 1
    assert "table responses cannot be read" in printed


def _findings(path: Path) -> list[dict[str, Any]]:
    report = json.loads(run("--db", path, "--json")[1])
    assert not report["ok"]
    findings: list[dict[str, Any]] = report["findings"]
    return findings
