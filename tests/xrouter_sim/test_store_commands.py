"""`xrouter-sim store sql | coverage | compare`: what they print, and that a query cannot do more than read."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

from responses_db import ResponseStore
from tests.responses_db.store_worlds import card, fill, model, query, response, score
from xrouter_sim.cli import main
from xrouter_sim.cli.store_sql import table_lines


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Models a and b on three queries of two domains: a is right on d/0 and d/1, b on d/1; b failed on d/2."""
    asked = [
        query("d/0", domain="x", question="1 + 1?", reference="2"),
        query("d/1", domain="x"),
        query("d/2", domain="y"),
    ]
    a = [response(row["query_id"], "a", input_tokens=10, output_tokens=10) for row in asked]
    b = [response(name, "b", reported_cost_usd=0.5) for name in ("d/0", "d/1")]
    failed = response("d/2", "b", text=None, status="failed")
    cut = response("d/2", "a", 1, status="truncated", input_tokens=10, output_tokens=10)
    right = [score(a[0]), score(a[1]), score(b[1])]
    wrong = [score(row, 0.0, answer="3") for row in (a[2], b[0], cut)]
    rows = {"queries": asked, "models": [model(name) for name in "abc"], "price_cards": [card("a")]}
    return fill(tmp_path / "s.duckdb", rows | {"responses": [*a, *b, failed, cut], "scores": right + wrong})


def run(*args: object) -> Result:
    return CliRunner().invoke(main, ["store", *map(str, args)], env={"COLUMNS": "120"})


def out(*args: object) -> str:
    done = run(*args)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def refused(*args: object) -> str:
    done = run(*args)
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    return done.stderr


class TestSql:
    def test_a_table_for_people(self, db: Path) -> None:
        sql = "SELECT model_id, count(*) AS n, sum(cost_usd) FROM graded WHERE status = 'ok' GROUP BY 1 ORDER BY 1"
        assert out("sql", sql, "--db", db).splitlines() == [
            "model_id  n  sum(cost_usd)",
            "a         3          6e-05",
            "b         2              1",
        ]

    def test_rows_beyond_the_limit_are_said_to_be_there(self, db: Path) -> None:
        printed = out("sql", "FROM responses SELECT query_id", "--db", db, "--limit", 2).splitlines()
        assert len(printed) == 4
        assert printed[-1] == "the first 2 rows; more with --limit N (0 for all), or with --out FILE.parquet"
        assert len(out("sql", "FROM range(100)", "--db", db, "--limit", 0).splitlines()) == 101
        assert out("sql", "SELECT 1 AS one WHERE false", "--db", db).splitlines() == ["one", "no rows"]

    def test_a_row_of_json_a_line(self, db: Path) -> None:
        sql = (
            "SELECT DATE '2026-01-02' AS day, [1, NULL] AS list, sum(i) AS total, NULL AS nothing FROM range(3) AS t(i)"
        )
        row = json.loads(out("sql", sql, "--db", db, "--json"))
        assert row == {"day": "2026-01-02", "list": [1, None], "total": 3, "nothing": None}

    def test_csv(self, db: Path) -> None:
        assert out("sql", "SELECT 'a,\"b' AS x, [1] AS y", "--db", db, "--csv") == 'x,y\n"a,""b",[1]\n'

    @pytest.mark.parametrize(("name", "read"), [("o.parquet", pl.read_parquet), ("o.csv", pl.read_csv)])
    def test_all_rows_into_a_file(self, db: Path, tmp_path: Path, name: str, read: Any) -> None:
        target = tmp_path / "it's" / name
        target.parent.mkdir()
        target.write_text("older")
        assert out("sql", "FROM range(3000)", "--db", db, "--out", target).startswith("wrote 3,000 rows to")
        assert read(target).height == 3000
        assert list(target.parent.iterdir()) == [target]

    def test_a_failed_query_leaves_an_older_file_alone(self, db: Path, tmp_path: Path) -> None:
        target = tmp_path / "o.csv"
        target.write_text("older")
        refused("sql", "SELECT error('no') FROM range(3)", "--db", db, "--out", target)
        assert target.read_text() == "older"
        assert "ends in .parquet or .csv" in refused("sql", "SELECT 1", "--db", db, "--out", tmp_path / "o.txt")

    @pytest.mark.parametrize(
        "sql",
        [
            "DELETE FROM responses",
            "INSERT INTO models VALUES ('z', 'z', NULL)",
            "DROP TABLE scores",
            "COPY responses TO '{folder}/stolen.csv'",
            "COPY (SELECT 1) TO '{folder}/stolen.parquet'",
            "EXPORT DATABASE '{folder}/stolen'",
            "ATTACH '{folder}/new.duckdb'",
            "SELECT * FROM read_text('/etc/hostname')",
            "SELECT * FROM '{folder}/there.csv'",
            "SELECT * FROM glob('/*')",
            "SELECT * FROM db",
            "INSTALL httpfs",
            "LOAD '{folder}/x.duckdb_extension'",
            "SET enable_external_access = true",
            "SET lock_configuration = false",
            "SELECT 1; DROP TABLE scores",
            "CREATE TABLE mine (i INTEGER)",
            "",
        ],
    )
    def test_a_query_only_reads_this_store(self, db: Path, tmp_path: Path, sql: str) -> None:
        (tmp_path / "there.csv").write_text("a\n1\n")
        before, files = db.read_bytes(), sorted(tmp_path.iterdir())
        assert "Traceback" not in refused("sql", sql.format(folder=tmp_path), "--db", db)
        assert db.read_bytes() == before
        assert sorted(tmp_path.iterdir()) == files

    def test_wrong_sql_is_one_line_with_what_duckdb_proposes(self, db: Path) -> None:
        assert 'Candidate bindings: "score"' in refused("sql", "SELECT scor FROM graded", "--db", db)
        assert 'Did you mean "queries"?' in refused("sql", "FROM querys", "--db", db)

    def test_a_table_is_cut_to_the_width(self) -> None:
        lines = table_lines(["name", "text"], [("a", "x" * 200), (None, "two\nlines")], 40)
        assert max(map(len, lines)) == 40
        assert lines[1].endswith("…")
        assert lines[2].split() == ["null", "two⏎lines"]


class TestCoverage:
    def test_the_matrix(self, db: Path) -> None:
        lines = out("coverage", "--db", db).splitlines()
        assert lines[0].endswith("5 of 9 cells filled, 55.6%")
        assert lines[1].startswith("3 of 3 queries have every response")
        assert [line.split() for line in lines[3:8]] == [
            ["all", "x", "y"],
            ["queries", "3", "2", "1"],
            ["a", "100%", "1t", "100%", "100%", "1t"],
            ["b", "66.7%", "1f", "100%", "0%", "1f"],
            ["c", "0%", "0%", "0%"],
        ]
        assert lines[-1] == "counts of responses: f failed, t truncated"

    def test_json_has_every_count(self, db: Path) -> None:
        facts = json.loads(out("coverage", "--db", db, "--by", "split", "--json"))
        assert facts["columns"] == [{"name": "train", "queries": 3}]
        assert {arm["model_id"]: arm["all"]["filled"] for arm in facts["arms"]} == {"a": 3, "b": 2, "c": 0}
        assert (facts["failed"], facts["truncated"], facts["ungraded"], facts["responses"]) == (1, 1, 0, 7)

    def test_an_empty_store(self, tmp_path: Path) -> None:
        path = fill(tmp_path / "s.duckdb", {})
        assert "no models and no responses yet" in out("coverage", "--db", path)


class TestCompare:
    def test_the_two_by_two_table(self, db: Path) -> None:
        lines = out("compare", "a", "b", "--db", db).splitlines()
        assert [line.split() for line in lines[3:6]] == [
            ["of", "3", "b", "right", "b", "wrong"],
            ["a", "right", "1", "1"],
            ["a", "wrong", "0", "1"],
        ]
        assert "failed responses count as wrong: 0 of A, 1 of B" in lines
        assert lines[-6:] == [
            "only a is right, for example:",
            "  d/0 (x, plain)",
            "    question: 1 + 1?",
            "    reference: 2",
            "    A: d/0 a 0",
            "    B: 3",
        ]

    def test_json(self, db: Path) -> None:
        facts = json.loads(out("compare", "a", "b", "--db", db, "--show", 1, "--json"))
        overall = facts["overall"]
        assert [overall[name] for name in ("pairs", "both_right", "only_a", "only_b", "neither")] == [3, 1, 1, 0, 1]
        assert overall["difference"]["value"] == pytest.approx(1 / 3)
        assert overall["difference"]["low"] <= 1 / 3 <= overall["difference"]["high"]
        assert overall["cost_usd_a"] == pytest.approx(2e-5)
        assert overall["cost_usd_b"] is None  # the failed call's cost is unknown
        assert [domain["domain"] for domain in facts["domains"]] == ["x", "y"]
        assert [example["query_id"] for example in facts["only_a"]] == ["d/0"]

    def test_two_styles_of_one_model(self, db: Path) -> None:
        cot = response("d/0", "a", prompt_style="cot", input_tokens=10, output_tokens=10)
        with ResponseStore(db, write=True) as store:
            store.append("responses", pl.DataFrame([cot]))
            store.append("scores", pl.DataFrame([score(cot, 0.0, answer="4")]))
        facts = json.loads(out("compare", "a/plain", "a/cot", "--db", db, "--json"))
        assert (facts["overall"]["pairs"], facts["overall"]["only_a"]) == (1, 1)
        assert "a has several prompt styles, the other side is one: say which" in refused(
            "compare", "a", "b/plain", "--db", db
        )

    def test_who_is_unknown_and_what_is_not_shared(self, db: Path) -> None:
        assert "has no response of 'z'; it has a, b" in refused("compare", "a", "z", "--db", db)
        assert "a and b have no query in common under 'cot'" in refused(
            "compare", "a", "b", "--style", "cot", "--db", db
        )
