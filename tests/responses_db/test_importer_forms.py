"""What every registered importer does alike, on a small file of its form. What is special: test_importer_sources.py."""

import csv
import json
import re
import tarfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from responses_db import LabError
from responses_db.importers import IMPORTERS, Choices, import_files
from responses_db.importers.splits import hashed_split
from tests.responses_db.importer_samples import (
    SAMPLES,
    WIDE_ROWS,
    gzipped,
    write_csv,
)
from tests.responses_db.importing import content_hash, lab, put, sample, stored

FORMS = list(IMPORTERS)
OTHER_FILES = ["notes.csv", "notes.json", "notes.jsonl", "notes.parquet", "empty.csv", "empty.json"]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "store.duckdb"


class TestEveryForm:
    def test_has_a_sample_here(self) -> None:
        assert set(SAMPLES) == set(IMPORTERS)

    @pytest.mark.parametrize("form", FORMS)
    def test_becomes_these_rows(self, form: str, tmp_path: Path, db: Path) -> None:
        done = put(form, sample(form, tmp_path), db)
        assert stored(db) == SAMPLES[form].rows
        assert (done.gathered.rejects.height, done.rejects_file) == (0, None)
        assert dict(stored(db, "SELECT query_id, domain FROM queries")) == SAMPLES[form].domains

    @pytest.mark.parametrize("form", FORMS)
    def test_splits_are_the_sources_own_or_a_hash_of_the_text(self, form: str, tmp_path: Path, db: Path) -> None:
        put(form, sample(form, tmp_path), db, seed=3)
        messages = {
            name: json.loads(text)[0]["content"] for name, text in stored(db, "SELECT query_id, messages FROM queries")
        }
        hashed = {name: hashed_split(text, Choices(seed=3)) for name, text in messages.items()}
        assert dict(stored(db, "SELECT query_id, split FROM queries")) == (SAMPLES[form].splits or hashed)

    @pytest.mark.parametrize("form", FORMS)
    def test_twice_is_once(self, form: str, tmp_path: Path, db: Path) -> None:
        path = sample(form, tmp_path)
        put(form, path, db)
        before = content_hash(db)
        assert "nothing new" in lab("import", form, path, "--db", db)
        assert content_hash(db) == before

    @pytest.mark.parametrize("form", FORMS)
    def test_compression_folders_and_several_paths_change_nothing(self, form: str, tmp_path: Path, db: Path) -> None:
        sample(form, tmp_path)
        put(form, tmp_path, db)
        folder = tmp_path / "packed"
        folder.mkdir()
        sample(form, folder)
        for file in [file for file in folder.rglob("*") if file.is_file()]:
            gzipped(file)
        (folder / "notes.txt").write_text("no data")
        done = import_files(form, [folder, folder], tmp_path / "other.duckdb")
        assert content_hash(tmp_path / "other.duckdb") == content_hash(db)
        assert [Path(name).name for name in done.gathered.passed_over] == ["notes.txt"]

    @pytest.mark.parametrize("form", FORMS)
    def test_help_says_where_it_comes_from_and_what_is_unknown(self, form: str) -> None:
        text = re.sub(r"\s+", " ", lab("import", form, "--help"))
        assert f"xrouter-sim import {form} " in text
        if form != "tidy":
            for word in ("From: the", "Paper: ", "icen[cs]e", "Split: ", "Unknown, so null"):
                assert re.search(word, text), word
        assert "http" not in text

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize(
        "other", ["notes.csv", "notes.json", "notes.jsonl", "notes.parquet", "empty.csv", "empty.json"]
    )
    def test_another_file_is_refused_in_one_line(self, form: str, other: str, tmp_path: Path, db: Path) -> None:
        path = tmp_path / other
        path.write_text("" if "empty" in other else '{"a": 1, "b": "just, notes"}\n')
        with pytest.raises(LabError, match=re.escape(str(path))) as caught:
            put(form, path, db)
        assert "\n" not in str(caught.value)
        assert not db.exists()

    @pytest.mark.parametrize("form", FORMS)
    def test_one_split_for_all_and_a_name_for_the_dataset(self, form: str, tmp_path: Path, db: Path) -> None:
        put(form, sample(form, tmp_path), db, split="validation", dataset="mine")
        assert stored(db, "SELECT DISTINCT dataset, split FROM queries") == [("mine", "validation")]


class TestRejects:
    """Rows that cannot be used are counted and listed with file, row and reason; the others land."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "mbpp_test.csv"
        bad = [
            {"gpt-4": ""},  # a hole
            {"gpt-4": "high"},
            {"gpt-4": 7},
            {"gpt-4|total_cost": -1},
            {"gpt-4|total_cost": "inf"},
            {"prompt": ""},
        ]
        rows = [WIDE_ROWS[0] | {"sample_id": f"bad.{number}"} | change for number, change in enumerate(bad)]
        write_csv(path, [*WIDE_ROWS, *rows, WIDE_ROWS[0], WIDE_ROWS[1] | {"gpt-4": 0.25}])
        return path

    def test_are_listed_beside_the_store(self, path: Path, tmp_path: Path, db: Path) -> None:
        output = lab("import", "routerbench", path, "--db", db)
        listed = tmp_path / "store.routerbench.rejects.csv"
        assert "rejected 11 of 20 rows (3 the same row again" in output
        assert f"listed in {listed}" in output
        with listed.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert {(row["row"], row["model"], row["reason"]) for row in rows} == {
            ("3", "gpt-4", "score: without a score"),
            ("4", "gpt-4", "score: found high, wanted a number"),
            ("5", "gpt-4", "score: outside 0 to 1"),
            ("6", "gpt-4", "cost_usd: no cost"),
            ("7", "gpt-4", "cost_usd: no cost"),
            ("8", "gpt-4", "query: without a value"),
            ("8", "zoo/llama", "query: without a value"),
            ("9", "gpt-4", "the same row again"),
            ("9", "zoo/llama", "the same row again"),
            ("10", "gpt-4", "a row of the same query, model, prompt style and sample came first, and says otherwise"),
            ("10", "zoo/llama", "the same row again"),
        }
        assert {row["file"] for row in rows} == {str(path)}
        assert len(stored(db)) == 9

    def test_where_the_user_says(self, path: Path, tmp_path: Path, db: Path) -> None:
        assert (
            put("routerbench", path, db, rejects=tmp_path / "deep" / "r.csv").rejects_file
            == tmp_path / "deep" / "r.csv"
        )
        clean = tmp_path / "none.csv"
        put("sprout", sample("sprout", tmp_path), db, rejects=clean)
        assert clean.read_text() == "file,row,dataset,query_id,model,reason\n"

    def test_too_many_stop_the_import(self, path: Path, db: Path) -> None:
        with pytest.raises(LabError, match=r"11 of 20 rows are rejected, mostly: the same row again; .*nothing"):
            put("routerbench", path, db, max_rejects=0.5)
        assert not db.exists()
        put("routerbench", path, db, max_rejects=0.6)
        assert len(stored(db)) == 9

    def test_nothing_left_is_an_error(self, tmp_path: Path, db: Path) -> None:
        path = tmp_path / "mbpp_test.csv"
        write_csv(path, [row | {"gpt-4": "?", "zoo/llama": ""} for row in WIDE_ROWS])
        with pytest.raises(LabError, match="none of 4 rows can be used, mostly: score: "):
            put("routerbench", path, db)
        assert not db.exists()

    def test_the_users_own_tidy_file_is_refused_whole_unless_they_say(
        self, tiny_rows: pl.DataFrame, tmp_path: Path, db: Path
    ) -> None:
        path = tmp_path / "own.csv"
        rows = tiny_rows.with_columns(score=pl.when(pl.col("query_id") == "q03").then(9.0).otherwise("score"))
        pl.concat([rows, rows.head(1)]).write_csv(path)
        with pytest.raises(LabError, match="column score: 4 rows outside 0 to 1"):
            put("tidy", path, db)
        done = put("tidy", path, db, max_rejects=0.1)
        assert done.gathered.reasons() == [("score: outside 0 to 1", 4), ("the same row again", 1)]
        assert done.landed.new_responses == 236

    def test_a_list_that_cannot_be_written_stops_the_import(self, path: Path, tmp_path: Path, db: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(LabError, match=r"cannot write .* give another --rejects FILE"):
            put("routerbench", path, db, rejects=tmp_path / "file" / "r.csv")
        assert not db.exists()


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_damaged_compression_is_named(tmp_path: Path, db: Path, suffix: str) -> None:
    path = sample("routerbench", tmp_path)
    with pa.output_stream(f"{path}{suffix}", compression="detect") as stream:
        stream.write(path.read_bytes() * 20)
    packed = Path(f"{path}{suffix}")
    packed.write_bytes(packed.read_bytes()[:-40])
    with pytest.raises(LabError, match=r"damaged or cut-short (gzip|zstd) file, fetch it again"):
        put("routerbench", packed, db)


def test_a_store_that_contradicts_keeps_what_it_has(tmp_path: Path, db: Path) -> None:
    path = sample("routerbench", tmp_path)
    put("routerbench", path, db)
    before = content_hash(db)
    write_csv(path, [{**WIDE_ROWS[0], "sample_id": "new"}, WIDE_ROWS[1] | {"zoo/llama": 0.125}])
    with pytest.raises(LabError, match="nothing was imported: 1 rows are there already with another score"):
        put("routerbench", path, db)
    assert content_hash(db) == before


def test_the_run_says_what_was_chosen(tmp_path: Path, db: Path) -> None:
    put("routellm", sample("routellm", tmp_path), db, seed=5, test_share=0.25)
    (config,) = (json.loads(text) for (text,) in stored(db, "SELECT config FROM runs"))
    assert {name: config[name] for name in ("form", "seed", "test_share", "split", "rejected")} == {
        "form": "routellm",
        "seed": 5,
        "test_share": 0.25,
        "split": "source",
        "rejected": 0,
    }


DOCS = Path(__file__).resolve().parents[2] / "docs" / "importing.md"


def test_every_command_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^xrouter-sim (.*)$", DOCS.read_text("utf-8"), re.M)
    assert {command.split()[1] for command in commands} >= set(IMPORTERS)
    for command in commands:
        group, form, place, *_ = command.split()
        if group == "import" and form in SAMPLES:
            as_published(form, Path(place))
        lab(*command.split())


def as_published(form: str, place: Path) -> None:
    """The form's sample where the docs say the user has it: a folder, an archive or a file."""
    folder = place if not place.suffix else Path(form)
    folder.mkdir(parents=True)
    path = sample(form, folder)
    if place.name.endswith(".tar.gz"):
        with tarfile.open(place, "w:gz") as archive:
            archive.add(path, "bench-release")
    elif place.suffix and path != place:
        path.rename(place)
