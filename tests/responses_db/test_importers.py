"""Imports: tidy rows land whole, once, unchanged; and answers are read so that agreement means something."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

from responses_db import LabError, ResponseStore
from responses_db.importers import IMPORTERS, Landed, check, land, tidy
from responses_db.importers.answers import with_answers
from xrouter_sim.cli import main


def lab(*args: object) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result


def import_rows(rows: pl.DataFrame, db: Path) -> Landed:
    rows = tidy.with_defaults(rows)
    check(rows, "rows")
    with ResponseStore(db, write=True) as store:
        return land(rows, store, {})


@pytest.fixture
def db(tiny_store: Path, tmp_path: Path) -> Path:
    """A copy of the tiny store, to write to."""
    return Path(shutil.copy(tiny_store, tmp_path / "copy.duckdb"))


def test_a_row_lands_as_query_model_response_and_score(tiny_rows: pl.DataFrame, tiny_store: Path) -> None:
    row = tiny_rows.row(0, named=True)
    with ResponseStore(tiny_store) as store:
        (graded,) = store.frame("SELECT * FROM graded WHERE query_id = 'tiny/q00' AND model_id = 'small'").to_dicts()
        (query,) = store.frame("SELECT * FROM queries WHERE query_id = 'tiny/q00'").to_dicts()
        (model,) = store.frame("SELECT * FROM models WHERE model_id = 'small'").to_dicts()
    assert (
        graded
        | {
            "prompt_style": "plain",
            "sample_index": 0,
            "text": row["response"],
            "input_tokens": 40,
            "output_tokens": 2,
            "tokens_from": "source",
            "reported_cost_usd": row["cost_usd"],
            "cost_usd": row["cost_usd"],
            "provenance": "imported",
            "status": "ok",
            "score": row["score"],
            "grader_version": 1,
        }
        == graded
    )
    assert json.loads(query.pop("messages")) == [{"role": "user", "content": row["query"]}]
    assert query == {
        "query_id": "tiny/q00",
        "dataset": "tiny",
        "split": "train",
        "domain": "sums",
        "question": row["query"],
        "reference": row["reference"],
        "grader": "imported",
        "metadata": None,
    }
    assert model == {"model_id": "small", "provider": "imported", "metadata": None}


def test_an_import_is_one_run_with_its_counts(tiny_store: Path) -> None:
    with ResponseStore(tiny_store) as store:
        (run,) = store.frame("SELECT * FROM runs").to_dicts()
        runs_of_rows = store.frame("SELECT DISTINCT run_id FROM responses")["run_id"].to_list()
    assert json.loads(run["counts"]) == {"queries": 60, "models": 4, "responses": 240}
    assert runs_of_rows == [run["run_id"]]
    assert run["ended_at"] >= run["started_at"]


def test_importing_again_adds_nothing_and_says_so(tiny_parquet: Path, db: Path) -> None:
    with ResponseStore(db) as store:
        before = store.content_hash()
    assert "nothing new" in lab("import", "tidy", tiny_parquet, "--db", db).output
    with ResponseStore(db) as store:
        assert store.content_hash() == before
        assert store.frame("SELECT * FROM runs").height == 1


def test_a_file_that_has_grown_adds_its_new_rows_only(
    tiny_rows: pl.DataFrame, tmp_path: Path, tiny_store: Path
) -> None:
    db = tmp_path / "grown.duckdb"
    import_rows(tiny_rows.head(100), db)
    landed = import_rows(tiny_rows, db)
    assert (landed.new_responses, landed.responses, landed.new_queries, landed.new_models) == (140, 240, 35, 0)
    with ResponseStore(db) as grown, ResponseStore(tiny_store) as whole:
        assert grown.content_hash() == whole.content_hash()


@pytest.mark.parametrize(
    ("column", "value"), [("score", 0.123), ("response", "other"), ("cost_usd", None), ("domain", "x")]
)
def test_a_row_that_contradicts_the_store_is_refused(
    tiny_rows: pl.DataFrame, db: Path, column: str, value: Any
) -> None:
    changed = tiny_rows.with_columns(
        pl.when(pl.col("query_id") == "q07")
        .then(pl.lit(value, tiny_rows.schema[column]))
        .otherwise(column)
        .alias(column)
    )
    new_query = tiny_rows.head(1).with_columns(query_id=pl.lit("new"))
    with pytest.raises(LabError, match=r"nothing was imported.* tiny/q07"):
        import_rows(pl.concat([new_query, changed]), db)
    with ResponseStore(db) as store:
        assert store.frame("SELECT * FROM queries").height == 60


def test_csv_and_parquet_give_the_same_store(tiny_rows: pl.DataFrame, tiny_store: Path, tmp_path: Path) -> None:
    tiny_rows.write_csv(tmp_path / "tiny.csv")
    lab("import", "tidy", tmp_path / "tiny.csv", "--db", tmp_path / "csv.duckdb")
    with ResponseStore(tmp_path / "csv.duckdb") as csv, ResponseStore(tiny_store) as parquet:
        assert csv.content_hash() == parquet.content_hash()


def test_what_a_source_does_not_know_stays_unknown(tiny_rows: pl.DataFrame, tmp_path: Path) -> None:
    unknown = ["cost_usd", "prompt_tokens", "completion_tokens", "response", "reference"]
    tiny_rows.with_columns(pl.lit(None).alias(name) for name in unknown).write_parquet(tmp_path / "bare.parquet")
    output = lab("import", "tidy", tmp_path / "bare.parquet", "--db", tmp_path / "db").output
    assert "the cost of 240 responses is unknown (null, not zero)" in output
    with ResponseStore(tmp_path / "db") as store:
        rows = store.frame("SELECT DISTINCT text, input_tokens, tokens_from, cost_usd, answer FROM graded").rows()
    assert rows == [(None, None, None, None, None)]


def test_samples_styles_questions_and_provenance_are_honoured(tiny_rows: pl.DataFrame, tmp_path: Path) -> None:
    row = tiny_rows.head(1).with_columns(question=pl.lit("short?"), provenance=pl.lit("simulated"))
    cells = [("cot", 0), ("cot", 1), ("plain", 0)]
    rows = [row.with_columns(prompt_style=pl.lit(style), sample_index=pl.lit(index)) for style, index in cells]
    import_rows(pl.concat(rows), tmp_path / "db")
    with ResponseStore(tmp_path / "db") as store:
        found = store.frame("SELECT prompt_style, sample_index, provenance FROM responses ORDER BY ALL").rows()
        assert found == [(style, index, "simulated") for style, index in cells]
        assert store.frame("SELECT question FROM queries").item() == "short?"


def test_columns_outside_the_form_are_named_and_left_aside(tiny_rows: pl.DataFrame, tmp_path: Path) -> None:
    tiny_rows.with_columns(reference_inferred=pl.lit("A")).write_parquet(tmp_path / "more.parquet")
    output = lab("import", "tidy", tmp_path / "more.parquet", "--db", tmp_path / "db").output
    assert "columns not used: reference_inferred" in output


OPTIONS = "Which?\nA) one\nB) two\nC) three\nD) four\nAnswer:"


@pytest.mark.parametrize(
    ("question", "response", "answer"),
    [
        # a question with options: the letter, however it is dressed
        (OPTIONS, "A", "A"),
        (OPTIONS, "B\n", "B"),
        (OPTIONS, "C)", "C"),
        (OPTIONS, " (d).", "D"),
        (OPTIONS, "**A**", "A"),
        (OPTIONS, "Let me see. The answer is A? No: the answer is (B).", "B"),
        (OPTIONS.replace(")", "."), "Answer: C", "C"),
        # … and null when there is none, or none of those on offer
        (OPTIONS, "I do", None),
        (OPTIONS, "A hypothesis", None),
        (OPTIONS, "E", None),
        (OPTIONS, "", None),
        (OPTIONS, None, None),
        # no options: a declared result, or a short reply as it is
        ("How many?", "So 40 + 2 = 42.\n#### 42", "42"),
        ("How many?", "It follows that \\boxed{1,042}.", "1042"),
        ("How many?", "Thus the answer is: $42.0", "42"),
        ("How many?", "42", "42"),
        ("Where?", " Paris. ", "paris"),
        ("Where?", "PARIS", "paris"),
        # long texts: agreement cannot be seen from their characters
        ("Write a function.", "def double(number):\n    return 2 * number  # the answer is in here somewhere", None),
        ("Explain.", "It depends on many things, as we know.", None),
    ],
)
def test_the_answer_read_out_of_a_response(question: str, response: str | None, answer: str | None) -> None:
    rows = pl.DataFrame({"question": [question], "response": [response]}, schema_overrides={"response": pl.String})
    assert with_answers(rows)["answer"].to_list() == [answer]


@pytest.mark.parametrize("name", IMPORTERS)
def test_every_importer_is_a_documented_command(name: str) -> None:
    help_text = lab("import", name, "--help").output
    assert f"xrouter-sim import {name} " in help_text  # an example
    assert IMPORTERS[name].summary.endswith(".")


def test_info_tells_coverage_accuracy_cost_and_provenance(tiny_rows: pl.DataFrame, tiny_store: Path) -> None:
    facts = json.loads(lab("store", "info", "--db", tiny_store, "--json").output)
    assert facts["counts"] == {"queries": 60, "models": 4, "responses": 240, "scores": 240, "price_cards": 0, "runs": 1}
    assert facts["splits"] == {"test": 20, "train": 40}
    assert facts["provenance"] == {"imported": 240}
    assert facts["coverage"] == {"cells_filled": 240, "cells_possible": 240, "share": 1.0, "samples_per_cell": 1.0}
    assert [arm["model_id"] for arm in facts["models"]] == ["small", "medium", "large", "giant"]  # by cost
    giant = tiny_rows.filter(model="giant")
    assert facts["models"][-1]["accuracy"] == pytest.approx(giant["score"].mean())
    assert facts["models"][-1]["mean_cost_usd"] == pytest.approx(giant["cost_usd"].mean())
    words = giant.filter(domain="words")
    assert facts["models"][-1]["domains"]["words"]["accuracy"] == pytest.approx(words["score"].mean())


def test_info_in_words_names_simulated_answers_loudly(tiny_rows: pl.DataFrame, tmp_path: Path) -> None:
    import_rows(tiny_rows.with_columns(provenance=pl.lit("simulated")), tmp_path / "db")
    output = lab("store", "info", "--db", tmp_path / "db").output
    assert "All 240 answers in this store are SIMULATED" in output
    assert "price cards: none" in output


def test_info_shows_holes_failures_and_unknown_costs(tiny_rows: pl.DataFrame, tmp_path: Path) -> None:
    import_rows(tiny_rows.filter((pl.col("model") != "giant") | (pl.col("query_id") < "q30")), tmp_path / "db")
    with ResponseStore(tmp_path / "db", write=True) as store:
        store.append("models", pl.DataFrame({"model_id": ["absent"], "provider": ["p"]}))
        store.con.execute("UPDATE responses SET reported_cost_usd = NULL WHERE model_id = 'giant'")
        store.con.execute("UPDATE responses SET status = 'failed' WHERE model_id = 'small' AND query_id = 'tiny/q00'")
    facts = json.loads(lab("store", "info", "--db", tmp_path / "db", "--json").output)
    assert facts["models_without_responses"] == ["absent"]
    assert facts["statuses"] == {"failed": 1, "ok": 209}
    assert facts["coverage"]["share"] == pytest.approx(210 / 300)
    giant = facts["models"][-1]
    assert (giant["coverage"], giant["mean_cost_usd"], giant["cost_known"]) == (0.5, None, 0.0)
    text = lab("store", "info", "--db", tmp_path / "db").output
    assert "no response yet of: absent" in text
    assert "1 failed, 209 ok" in text


@pytest.mark.parametrize(
    ("name", "responses", "models", "queries", "model", "accuracy", "mean_cost"),
    [
        ("routerbench", 34_804, 11, 3_164, "gpt-4-1106-preview", 0.8796, 0.005003),
        ("routerdc", 144_200, 7, 20_600, "meta-math/MetaMath-Mistral-7B", None, None),
        ("routellm_mmlu", 20_034, 2, 10_017, "gpt-4-1106-preview", None, None),
    ],
)
def test_public_data_lands_whole(
    shared_data: Path,
    tmp_path: Path,
    name: str,
    responses: int,
    models: int,
    queries: int,
    model: str,
    accuracy: float | None,
    mean_cost: float | None,
) -> None:
    output = lab("import", "tidy", shared_data / f"{name}.parquet", "--db", tmp_path / "db").output
    assert f"imported {responses:,} responses of {models} models to {queries:,} queries" in output
    with ResponseStore(tmp_path / "db") as store:
        sql = "SELECT avg(score), avg(cost_usd), count(cost_usd) FROM graded WHERE model_id = ? AND split = 'test'"
        score, cost, known = store.frame(sql, [model]).row(0)
    if accuracy is None:
        assert (cost, known) == (None, 0)  # the source has no costs: unknown, not free
    else:
        assert (score, cost) == (pytest.approx(accuracy, abs=5e-5), pytest.approx(mean_cost, abs=5e-7))
