"""A store as files, and back: nothing changes on the way but what a form says it cannot carry."""

import json
import resource
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from responses_db import LabError, ResponseStore
from responses_db.backup import restore
from responses_db.export import FORMS, export
from xrouter_sim.cli import main

FIGURES = """
SELECT query_id, model_id, prompt_style, sample_index, score, round(cost_usd, 15), input_tokens, cached_input_tokens,
    output_tokens, reasoning_tokens, text, status, error, latency_s, provenance, domain, split, max_tokens
FROM graded ORDER BY ALL
"""


def lab(*args: object) -> str:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result.output


def stored(db: Path, sql: str = FIGURES) -> list[tuple[Any, ...]]:
    with ResponseStore(db) as store:
        return store.frame(sql).rows()


def content_hash(db: Path) -> str:
    with ResponseStore(db) as store:
        return store.content_hash()


def write(db: Path, out: Path, form: str) -> list[str]:
    with ResponseStore(db) as store:
        return export(store, out, form).notes


@pytest.fixture
def rich(tiny_store: Path, tmp_path: Path) -> Path:
    """The tiny store, and in it what is rare: styles, samples, a failed call, a priced one, chat messages, no grade."""
    db = Path(shutil.copy(tiny_store, tmp_path / "rich.duckdb"))
    query = {"dataset": "rich", "split": "validation", "domain": "talk", "question": "hi?", "grader": "exact"}
    chat = '[{"role":"system","content":"s"},{"role":"user","content":"hi?"}]'
    queries = [
        query
        | {"query_id": "rich/1", "messages": '[{"role":"user","content":"hi? ü \\"quoted\\"\\n"}]', "reference": ""},
        query | {"query_id": "elsewhere", "messages": chat, "metadata": '{"seed": 1}'},
    ]
    cell = {"run_id": "r", "query_id": "rich/1", "model_id": "giant", "prompt_style": "cot", "sample_index": 0}
    cell |= {"provenance": "live", "status": "ok", "text": "", "input_tokens": 1000, "output_tokens": 10}
    cells = [
        cell | {"cached_input_tokens": 400, "reasoning_tokens": 5, "latency_s": 0.25, "max_tokens": 512},
        cell | {"sample_index": 1, "text": None, "status": "failed", "error": "503", "output_tokens": None},
        cell | {"query_id": "elsewhere", "text": "no grade yet"},
    ]
    card = {"model_id": "giant", "valid_from": date(2020, 1, 1), "source": "test"}
    card |= {"input_usd_per_mtok": 10.0, "cached_input_usd_per_mtok": 1.0, "output_usd_per_mtok": 30.0}
    with ResponseStore(db, write=True) as store:
        store.append("queries", pl.DataFrame(queries, infer_schema_length=None))
        store.append("price_cards", pl.DataFrame([card]))
        store.append("responses", pl.DataFrame(cells, infer_schema_length=None))
        (first,) = store.frame("SELECT response_id FROM responses WHERE latency_s = 0.25")["response_id"]
        grade = {"response_id": first, "grader": "exact", "grader_version": 2, "score": 0.5, "answer": "x"}
        store.append("scores", pl.DataFrame([grade]))
    return db


class TestBackup:
    def test_comes_back_equal_in_every_table(self, rich: Path, tmp_path: Path) -> None:
        lab("store", "export", tmp_path / "backup", "--form", "parquet", "--db", rich)
        lab("import", "backup", tmp_path / "backup", "--db", tmp_path / "new.duckdb")
        assert content_hash(tmp_path / "new.duckdb") == content_hash(rich)
        for table in ("queries", "models", "price_cards", "runs", "responses", "scores"):
            sql = f"SELECT * FROM {table} ORDER BY ALL"
            assert stored(tmp_path / "new.duckdb", sql) == stored(rich, sql)

    def test_is_not_restored_over_something(self, rich: Path, tmp_path: Path) -> None:
        write(rich, tmp_path / "backup", "parquet")
        before = content_hash(rich)
        with pytest.raises(LabError, match="holds models already: restore into a new --db"):
            restore(tmp_path / "backup", rich)
        assert content_hash(rich) == before

    @pytest.mark.parametrize(
        "damage", ["manifest", "no manifest", "cut", "missing", "other rows", "unknown table", "newer"]
    )
    def test_damaged_leaves_no_store(self, rich: Path, tmp_path: Path, damage: str) -> None:
        folder = tmp_path / "backup"
        write(rich, folder, "parquet")
        manifest = json.loads((folder / "manifest.json").read_text())
        responses = folder / "responses.parquet"
        if damage == "manifest":
            (folder / "manifest.json").write_text("[1]")
        elif damage == "no manifest":
            (folder / "manifest.json").unlink()
        elif damage == "cut":
            responses.write_bytes(responses.read_bytes()[:-100])
        elif damage == "missing":
            responses.unlink()
        elif damage == "other rows":
            pl.read_parquet(responses).with_columns(text=pl.lit("forged")).write_parquet(responses)
        elif damage == "unknown table":
            (folder / "manifest.json").write_text(json.dumps(manifest | {"rows": manifest["rows"] | {"more": 1}}))
        else:
            (folder / "manifest.json").write_text(json.dumps(manifest | {"schema": 99}))
        with pytest.raises(LabError, match=r"backup|damaged") as caught:
            restore(folder, tmp_path / "new.duckdb")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "new.duckdb").exists()


class TestTidy:
    @pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.csv.gz"])
    def test_an_imported_store_comes_back_with_the_same_hash(self, tiny_store: Path, tmp_path: Path, name: str) -> None:
        lab("store", "export", tmp_path / name, "--form", "tidy", "--db", tiny_store)
        lab("import", "tidy", tmp_path / name, "--db", tmp_path / "new.duckdb")
        assert content_hash(tmp_path / "new.duckdb") == content_hash(tiny_store)

    @pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
    def test_a_harvested_store_keeps_scores_costs_tokens_and_texts(self, rich: Path, tmp_path: Path, name: str) -> None:
        notes = write(rich, tmp_path / name, "tidy")
        assert notes[1:] == [
            "1 responses have no grade yet: their score is null, and an import rejects them",
            "1 queries are more than one user message: their `query` is the messages as JSON",
        ]
        output = lab("import", "tidy", tmp_path / name, "--max-rejects", "0.1", "--db", tmp_path / "new.duckdb")
        assert "rejected 1 of 243 rows (1 score: without a score)" in output
        assert stored(tmp_path / "new.duckdb") == [row for row in stored(rich) if row[0] != "elsewhere"]
        with ResponseStore(tmp_path / "new.duckdb") as store:
            (query,) = store.frame("SELECT messages, reference FROM queries WHERE dataset = 'rich'").rows()
        assert json.loads(query[0]) == [{"role": "user", "content": 'hi? ü "quoted"\n'}]
        assert query[1] == ""

    def test_equal_stores_give_equal_files(self, tiny_store: Path, tmp_path: Path) -> None:
        for name in ("a.csv", "b.csv"):
            write(tiny_store, tmp_path / name, "tidy")
        assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


class TestHuggingFace:
    def test_datasets_loads_it(self, rich: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        datasets = pytest.importorskip("datasets")
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        folder = tmp_path / "dataset"
        output = lab("store", "export", folder, "--form", "hf", "--db", rich)
        assert "80 test, 160 train, 3 validation" in output
        loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
        assert {split: rows.num_rows for split, rows in loaded.items()} == {"train": 160, "validation": 3, "test": 80}
        assert loaded["train"][0]["query_id"] == "q00"
        assert loaded["train"].features["score"].dtype == "float64"

    def test_the_files_import_as_tidy(self, tiny_store: Path, tmp_path: Path) -> None:
        write(tiny_store, tmp_path / "dataset", "hf")
        lab("import", "tidy", tmp_path / "dataset", "--db", tmp_path / "new.duckdb")
        assert content_hash(tmp_path / "new.duckdb") == content_hash(tiny_store)

    def test_the_card_says_what_is_in_it(self, rich: Path, tmp_path: Path) -> None:
        with ResponseStore(rich, write=True) as store:
            store.con.execute("UPDATE responses SET provenance = 'simulated' WHERE query_id = 'rich/1'")
        write(rich, tmp_path / "dataset", "hf")
        card = (tmp_path / "dataset" / "README.md").read_text()
        assert card.startswith("---\n")
        assert "  - split: validation\n    path: data/validation-*.parquet\n" in card
        assert "243 answers of 4 models to 62 queries of rich, tiny" in card
        assert "SIMULATED" in card
        assert content_hash(rich) in card

    def test_large_splits_are_cut_into_shards(
        self, tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("responses_db.export.SHARD_BYTES", 1)
        monkeypatch.setattr("responses_db.export.PARQUET", "FORMAT parquet, ROW_GROUP_SIZE 2048")  # cut between groups
        db = Path(shutil.copy(tiny_store, tmp_path / "many.duckdb"))
        with ResponseStore(db, write=True) as store:
            store.con.execute(
                """INSERT INTO responses BY NAME SELECT r.* REPLACE (i AS sample_index,
                md5(concat_ws(chr(31), query_id, model_id, prompt_style, i)) AS response_id)
                FROM responses r, range(1, 50) t(i) WHERE r.query_id < 'tiny/q40'"""
            )
        write(db, tmp_path / "dataset", "hf")
        names = sorted(file.name for file in (tmp_path / "dataset" / "data").iterdir() if "train" in file.name)
        assert len(names) > 1
        assert names == [f"train-{number:05}-of-{len(names):05}.parquet" for number in range(len(names))]
        rows = pl.concat(pl.read_parquet(tmp_path / "dataset" / "data" / name, columns=["query_id"]) for name in names)
        assert rows.height == 160 * 50
        assert rows["query_id"].is_sorted()

    def test_an_empty_store_is_no_dataset(self, tmp_path: Path) -> None:
        with (
            ResponseStore(tmp_path / "empty.duckdb", write=True) as store,
            pytest.raises(LabError, match="no responses"),
        ):
            export(store, tmp_path / "dataset", "hf")
        assert not (tmp_path / "dataset").exists()


class TestPlace:
    @pytest.mark.parametrize("form", FORMS)
    def test_what_is_there_stays_unless_the_user_says(self, tiny_store: Path, tmp_path: Path, form: str) -> None:
        out = tmp_path / "it's here"
        write(tiny_store, out, form)
        with pytest.raises(LabError, match="is there already: give another place, or say --replace"):
            write(tiny_store, out, form)
        lab("store", "export", out, "--form", form, "--replace", "--db", tiny_store)
        assert [path.name for path in tmp_path.iterdir()] == [out.name]

    @pytest.mark.parametrize("form", FORMS)
    def test_a_full_disk_leaves_the_old_export_and_nothing_else(
        self, tiny_store: Path, tmp_path: Path, form: str
    ) -> None:
        out = tmp_path / "out"
        write(tiny_store, out, form)
        files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))

        command = [sys.executable, "-c", "from xrouter_sim.cli import main; main()", "store", "export", out]
        command += ["--form", form, "--replace", "--db", tiny_store]
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, timeout=60, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("Error: cannot write ")
        assert done.stderr.count("\n") == 1
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files

    @pytest.mark.parametrize("form", FORMS)
    def test_a_place_that_cannot_be(self, tiny_store: Path, tmp_path: Path, form: str) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(LabError, match="cannot write"):
            write(tiny_store, tmp_path / "file" / "out", form)

    def test_json(self, tiny_store: Path, tmp_path: Path) -> None:
        facts = json.loads(lab("store", "export", tmp_path / "t.csv", "--form", "tidy", "--db", tiny_store, "--json"))
        assert facts["rows"] == {"responses": 240}
        assert facts["form"] == "tidy"
