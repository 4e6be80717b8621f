"""What every registered importer does alike, on a small file of its form; what is special to one is below."""

import csv
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from click.testing import CliRunner

from responses_db import LabError, ResponseStore
from responses_db.importers import IMPORTERS, Choices, Imported, import_files
from responses_db.importers.splits import hashed_split
from tests.responses_db.importer_samples import (
    ARENA_RECORDS,
    BENCH_RUNS,
    EMBED_ROWS,
    MMLU_ROWS,
    ODD,
    SAMPLES,
    SPROUT_ROWS,
    WIDE_ROWS,
    arena_record,
    bench_run,
    gzipped,
    write_csv,
    write_jsonl,
)
from xrouter_sim.cli import main

FORMS = list(IMPORTERS)
OTHER_FILES = ["notes.csv", "notes.json", "notes.jsonl", "notes.parquet", "empty.csv", "empty.json"]
STORED = """
SELECT g.query_id, model_id, sample_index, score, text, cost_usd, input_tokens, output_tokens, reference
FROM graded g JOIN queries USING (query_id) ORDER BY ALL
"""


def stored(db: Path, sql: str = STORED) -> list[tuple[Any, ...]]:
    with ResponseStore(db) as store:
        return store.frame(sql).rows()


def content_hash(db: Path) -> str:
    with ResponseStore(db) as store:
        return store.content_hash()


def sample(form: str, folder: Path) -> Path:
    SAMPLES[form].write(folder)
    return folder / SAMPLES[form].file


def lab(*args: object) -> str:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "store.duckdb"


def put(form: str, path: Path, db: Path, **more: Any) -> Imported:
    choices = {name: more.pop(name) for name in list(more) if name in Choices.__dataclass_fields__}
    return import_files(form, [path], db, Choices(**choices), **more)


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


class TestRouterBench:
    def test_parquet_with_lists_and_nan_gives_the_same_store(self, tmp_path: Path, db: Path) -> None:
        put("routerbench", sample("routerbench", tmp_path), db)
        rows = [
            row | {"prompt": [f"Print {row['']}: {ODD}"], "gpt-4|total_cost": row["gpt-4|total_cost"] or float("nan")}
            for row in WIDE_ROWS
        ]
        path = tmp_path / "mbpp_test.parquet"
        pl.DataFrame(rows).write_parquet(path)
        put("routerbench", path, tmp_path / "other.duckdb")
        assert content_hash(tmp_path / "other.duckdb") == content_hash(db)

    def test_the_question_is_the_prompt_without_its_few_shot_examples(self, tmp_path: Path, db: Path) -> None:
        shots = "Q: 1 + 1?\nA: 2\n\nQ: 2 + 2?\nA: 4\n\n"
        rows = [row | {"prompt": repr([f"{shots}Q: {row['']}?\n\nA:"])} for row in WIDE_ROWS]
        write_csv(tmp_path / "few_test.csv", rows)
        put("routerbench", tmp_path / "few_test.csv", db)
        assert sorted(stored(db, "SELECT question FROM queries")) == [("Q: 1?\n\nA:",), ("Q: 2?\n\nA:",)]

    def test_several_turns_are_joined_and_text_that_only_looks_like_a_list_stays(
        self, tmp_path: Path, db: Path
    ) -> None:
        texts = [repr(["Write a poem.", "Now in French."]), "['not closed", "[1, 2, 3]"]
        write_csv(
            tmp_path / "x_test.csv",
            [WIDE_ROWS[0] | {"sample_id": text[:3] + str(len(text)), "prompt": text} for text in texts],
        )
        put("routerbench", tmp_path / "x_test.csv", db)
        messages = {json.loads(text)[0]["content"] for (text,) in stored(db, "SELECT messages FROM queries")}
        assert messages == {"Write a poem.\n\nNow in French.", "['not closed", "[1, 2, 3]"}

    def test_zero_shot_and_five_shot_are_two_datasets(self, tmp_path: Path, db: Path) -> None:
        write_csv(tmp_path / "routerbench_5shot.csv", WIDE_ROWS)
        put("routerbench", tmp_path / "routerbench_5shot.csv", db)
        assert stored(db, "SELECT DISTINCT dataset FROM queries") == [("routerbench-5shot",)]

    def test_one_id_for_two_prompts_makes_two_queries(self, tmp_path: Path, db: Path) -> None:
        write_csv(tmp_path / "a_test.csv", WIDE_ROWS)
        write_csv(tmp_path / "b_test.csv", [row | {"prompt": "['Something else']"} for row in WIDE_ROWS[:1]])
        done = put("routerbench", tmp_path, db)
        ids = [name for (name,) in stored(db, "SELECT query_id FROM queries ORDER BY 1")]
        assert ids == ["routerbench/mbpp.dev.1", "routerbench/mbpp.dev.1~48f88ac3", "routerbench/mbpp.dev.2"]
        assert "1 query ids stand for several texts" in done.gathered.notes[0]

    def test_agrees_with_the_tidy_form_of_the_same_data(self, shared_data: Path, db: Path) -> None:
        put("routerbench", shared_data / "raw" / "routerbench_mbpp_test.csv", db)
        tidy = pl.read_parquet(shared_data / "routerbench.parquet").filter(domain="mbpp", split="test")
        columns = ["query_id", "model", "score", "response", "cost_usd", "query", "question"]
        sql = """SELECT substr(g.query_id, 13) AS query_id, model_id AS model, score, text AS response, cost_usd,
            messages ->> '$[0].content' AS query, question FROM graded g JOIN queries USING (query_id)"""
        with ResponseStore(db) as store:
            found = store.frame(sql)
        assert found.height == 1408
        assert found.sort("query_id", "model").equals(tidy.select(columns).sort("query_id", "model"))

    def test_the_wide_form_of_tidy_data_gives_the_store_that_the_tidy_form_gives(
        self, shared_data: Path, tmp_path: Path, db: Path
    ) -> None:
        tidy = pl.read_parquet(shared_data / "routerbench.parquet").filter(domain="arc_challenge", split="test")
        tidy = tidy.with_columns(prompt_tokens=None, completion_tokens=None)  # which the wide form does not have
        tidy.write_parquet(tmp_path / "tidy.parquet")
        put("tidy", tmp_path / "tidy.parquet", db)
        printed = pl.col("response").map_elements(lambda text: repr([text]), return_dtype=pl.String)
        wide = tidy.select("query_id", "domain", "query").unique("query_id").sort("query_id")
        for (model,), rows in tidy.group_by("model"):
            columns = {model: "score", f"{model}|total_cost": "cost_usd", f"{model}|model_response": printed}
            wide = wide.join(rows.select("query_id", **columns), on="query_id")
        wide.rename({"query_id": "sample_id", "domain": "eval_name", "query": "prompt"}).write_csv(
            tmp_path / "a_test.csv"
        )
        put("routerbench", tmp_path / "a_test.csv", tmp_path / "wide.duckdb")
        assert content_hash(tmp_path / "wide.duckdb") == content_hash(db)


class TestPickle:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """A pickled DataFrame as pandas writes it, text in object columns as in the published file."""
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(WIDE_ROWS).astype(object)
        frame.columns = pandas.Index(list(frame.columns), dtype=object)
        frame["gpt-4"] = frame["gpt-4"].astype(float)
        frame["gpt-4|total_cost"] = pandas.to_numeric(frame["gpt-4|total_cost"])
        path = tmp_path / "mbpp_test.pkl"
        frame.to_pickle(path)
        return path

    def test_is_refused(self, path: Path, db: Path) -> None:
        result = CliRunner().invoke(main, ["import", "routerbench", str(path), "--db", str(db)])
        assert result.exit_code == 1
        assert result.stderr == (
            f"Error: {path}: a pickle may run code when it is opened, so it is refused: give RouterBench's CSV or "
            "Parquet form, or say --trust-pickle if you know where the file comes from\n"
        )
        assert not db.exists()

    def test_trusted_gives_the_same_store_as_csv(self, path: Path, tmp_path: Path, db: Path) -> None:
        lab("import", "routerbench", path, "--trust-pickle", "--db", db)
        put("routerbench", sample("routerbench", tmp_path), tmp_path / "csv.duckdb")
        assert content_hash(db) == content_hash(tmp_path / "csv.duckdb")

    @pytest.mark.parametrize("protocol", range(6))
    def test_even_trusted_it_runs_nothing(self, tmp_path: Path, db: Path, protocol: int) -> None:
        import pickle

        class Act:
            def __reduce__(self) -> Any:
                return Path.touch, (tmp_path / "done",)

        path = tmp_path / "bad.pkl"
        path.write_bytes(pickle.dumps(Act(), protocol))
        with pytest.raises(LabError, match="it asks for"):
            put("routerbench", path, db, trust_pickle=True)
        assert not (tmp_path / "done").exists()


class TestRouteLLM:
    def test_the_gsm8k_form_has_answers(self, tmp_path: Path, db: Path) -> None:
        answers = {"mixtral-8x7b_response": "#### 4", "gpt-4_response": "four"}
        rows = [row | answers | {"prompt": f"{number} + 2?"} for number, row in enumerate(MMLU_ROWS)]
        write_csv(tmp_path / "gsm8k_responses.csv", [{"Unnamed: 0": number} | row for number, row in enumerate(rows)])
        put("routellm", tmp_path / "gsm8k_responses.csv", db)
        sql = "SELECT DISTINCT domain, model_id, text, answer FROM graded ORDER BY ALL"
        assert stored(db, sql) == [("gsm8k", "gpt-4", "four", "four"), ("gsm8k", "mixtral-8x7b", "#### 4", "4")]

    def test_repeated_prompts_stay_on_one_side(self, tmp_path: Path, db: Path) -> None:
        prompts = [{"prompt": f"{number}?", "m": True, "n": False} for number in range(40)]
        write_csv(tmp_path / "mmlu_a.csv", prompts)
        write_csv(tmp_path / "mmlu_b.csv", prompts)
        put("routellm", tmp_path, db, test_share=0.5)
        sql = "SELECT count(DISTINCT split) AS sides, count(*) FROM queries GROUP BY question"
        assert set(stored(db, sql)) == {(1, 2)}
        assert {split for (split,) in stored(db, "SELECT DISTINCT split FROM queries")} == {"train", "test"}

    def test_agrees_with_the_tidy_form_of_the_same_data(self, shared_data: Path, db: Path) -> None:
        put("routellm", shared_data / "raw" / "routellm_mmlu_astronomy.csv", db)
        tidy = pl.read_parquet(shared_data / "routellm_mmlu.parquet").filter(domain="mmlu/astronomy")
        ids = pl.format("routellm/{}", "query_id").alias("query_id")
        expected = tidy.select(ids, "model", "score").sort("query_id", "model").rows()
        assert stored(db, "SELECT query_id, model_id, score FROM graded ORDER BY ALL") == expected


def test_routerdc_agrees_with_the_tidy_form_of_the_same_data(shared_data: Path, db: Path) -> None:
    put("routerdc", shared_data / "raw" / "routerdc_humaneval_test.json", db)
    tidy = pl.read_parquet(shared_data / "routerdc.parquet").filter(domain="humaneval", split="test")
    columns = [pl.format("routerdc/{}", "query_id").alias("query_id"), "model", "score", "query", "split", "domain"]
    sql = "SELECT g.query_id, model_id, score, question, g.split, g.domain FROM graded g JOIN queries USING (query_id)"
    assert sorted(stored(db, sql)) == sorted(tidy.select(columns).rows())


def test_routerdc_a_file_without_a_split_is_out_of_distribution(tmp_path: Path, db: Path) -> None:
    (tmp_path / "MATH_prealgebra.json").write_text(json.dumps([{"question": "1?", "scores": {"m": 1.0}}]))
    (tmp_path / "gsm8k-train.json").write_text(
        json.dumps([{"question": "2?", "scores": {"m": 1.0}}, {"question": "3?"}, 7])
    )
    done = put("routerdc", tmp_path, db)
    assert stored(db, "SELECT domain, split FROM queries ORDER BY 1") == [
        ("gsm8k", "train"),
        ("math_prealgebra", "test"),
    ]
    assert sorted(reason for reason, _ in done.gathered.reasons()) == [
        "no record: wanted an object",
        "no scores by model",
    ]


class TestRouterArena:
    def test_a_failed_call_is_no_answer(self, tmp_path: Path, db: Path) -> None:
        put("routerarena", sample("routerarena", tmp_path), db)
        sql = "SELECT status, text, error, score FROM graded WHERE query_id LIKE '%_8'"
        assert stored(db, sql) == [("failed", None, "503", None)]

    def test_costs_come_from_prices_only_where_none_was_billed(self, tmp_path: Path, db: Path) -> None:
        unbilled = {"evaluation_result": {"score": 1.0}}
        records = [
            arena_record("A_1", 1.0),
            arena_record("A_2", 1.0, **unbilled),
            arena_record("A_3", 1.0, llm_selected="nobody", **unbilled),
        ]
        write_jsonl(tmp_path / "m.jsonl", records)
        prices = {"claude-x": {"input_token_price_per_million": 3, "output_token_price_per_million": 15.0}}
        (tmp_path / "cost.json").write_text(json.dumps(prices))
        put("routerarena", tmp_path / "m.jsonl", db, costs=tmp_path / "cost.json")
        costs = [cost for (cost,) in stored(db, "SELECT cost_usd FROM graded ORDER BY query_id")]
        assert costs == [0.00025, pytest.approx((100 * 3 + 10 * 15) / 1e6), None]

    @pytest.mark.parametrize("prices", ["[]", "{}", "{", '{"m": 3}', '{"m": {"input_token_price_per_million": "3"}}'])
    def test_a_broken_price_file_is_named(self, tmp_path: Path, db: Path, prices: str) -> None:
        (tmp_path / "cost.json").write_text(prices)
        with pytest.raises(LabError, match=r"cost\.json"):
            put("routerarena", sample("routerarena", tmp_path), db, costs=tmp_path / "cost.json")

    def test_ungraded_records_and_broken_lines_are_rejected(self, tmp_path: Path, db: Path) -> None:
        path = tmp_path / "m.jsonl"
        write_jsonl(
            path, [*ARENA_RECORDS[:1], arena_record("A_1", 1.0, evaluation_result=None), ["no"], "half \ud83d"[:4]]
        )
        path.write_bytes(
            path.read_bytes() + b'{"global_index": "A_2", "que\n\n{"question": "\\ud83d", "global_index": "A_3"}'
        )
        done = put("routerarena", path, db)
        listed = done.gathered.rejects.sort("_row").select("_row", pl.col("_fault").str.slice(0, 14)).rows()
        assert listed == [
            (2, "score: without"),
            (3, "no record: wan"),
            (4, "no record: wan"),
            (5, "no JSON, or cu"),
            (7, "query: the tex"),
        ]

    def test_the_published_sample(self, shared_data: Path, db: Path) -> None:
        raw = shared_data / "raw"
        put("routerarena", raw / "routerarena_claude-3-haiku_first5.jsonl", db, costs=raw / "routerarena_cost.json")
        records = [
            json.loads(line)
            for line in (raw / "routerarena_claude-3-haiku_first5.jsonl").read_text().splitlines()
            if line
        ]
        expected = [
            (
                f"routerarena/{record['global_index']}",
                record["evaluation_result"]["score"],
                record["evaluation_result"]["inference_cost"],
            )
            for record in records
        ]
        assert stored(db, "SELECT query_id, score, cost_usd FROM graded ORDER BY 1") == sorted(expected)


class TestLLMRouterBench:
    @staticmethod
    def write(folder: Path, name: str, run: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(run))

    def test_the_archive_is_read_as_it_is(self, tmp_path: Path, db: Path) -> None:
        put("llmrouterbench", sample("llmrouterbench", tmp_path), db)
        with tarfile.open(tmp_path / "bench-release.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "bench", "bench-release")
        put("llmrouterbench", tmp_path / "bench-release.tar.gz", tmp_path / "other.duckdb")
        assert content_hash(tmp_path / "other.duckdb") == content_hash(db)

    def test_of_several_runs_the_last_counts_and_demos_do_not(self, tmp_path: Path, db: Path) -> None:
        run = BENCH_RUNS["gpt-5"]
        self.write(tmp_path / "m", "aime-hybrid-gpt-5-20260101_000000.json", run)
        newer = bench_run("gpt-5", [0.9, 0.9])
        self.write(tmp_path / "m", "aime-hybrid-gpt-5-20260301_000000.json", newer)
        self.write(tmp_path / "m", "aime-hybrid-gpt-5-20260401_000000.json", run | {"demo": True})
        done = put("llmrouterbench", tmp_path, db)
        assert stored(db, "SELECT DISTINCT cost_usd FROM graded") == [(0.9,)]
        assert done.gathered.reasons() == [
            ("superseded by a later run of the same model and benchmark", 2),
            ("a demo run: the first few records only", 2),
        ]

    def test_what_the_collector_failed_at_is_no_answer(self, tmp_path: Path, db: Path) -> None:
        run = bench_run("m", [0.1, 0.1])
        run["records"][0] |= {
            "score": None,
            "raw_output": "Processing failed: timeout",
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "cost": 0.0,
        }
        self.write(tmp_path, "a.json", run)
        put("llmrouterbench", tmp_path / "a.json", db)
        sql = "SELECT status, text, error, score, input_tokens, cost_usd FROM graded ORDER BY query_id LIMIT 1"
        assert stored(db, sql) == [("failed", None, "Processing failed: timeout", None, None, None)]

    def test_other_json_in_a_folder_is_passed_over_and_named(self, tmp_path: Path, db: Path) -> None:
        sample("llmrouterbench", tmp_path)
        (tmp_path / "bench" / "config.json").write_text("{}")
        assert "1 other files there were not read: config.json" in lab("import", "llmrouterbench", tmp_path, "--db", db)


def test_sprout_printed_as_text_gives_the_same_store(tmp_path: Path, db: Path) -> None:
    put("sprout", sample("sprout", tmp_path), db)
    for number, show in enumerate((json.dumps, repr)):
        rows = [
            {name: show(value) if isinstance(value, dict) else value for name, value in row.items()}
            for row in SPROUT_ROWS
        ]
        path = tmp_path / f"{number}_train.csv"
        write_csv(path, rows)
        put("sprout", path, tmp_path / f"{number}.duckdb")
        assert content_hash(tmp_path / f"{number}.duckdb") == content_hash(db)


def test_sprout_a_cell_without_a_score_is_rejected_not_zero(tmp_path: Path, db: Path) -> None:
    holes = [SPROUT_ROWS[0] | {"key": "k2", "wxai-llama": None}, SPROUT_ROWS[0] | {"key": "k3"}]
    pl.DataFrame([*SPROUT_ROWS, *holes], infer_schema_length=None).write_parquet(tmp_path / "test.parquet")
    done = put("sprout", tmp_path / "test.parquet", db)
    assert done.gathered.rejects.select("query_id", "model", "_fault").rows() == [
        ("k2", "wxai-llama", "score: without a score")
    ]


def test_embedllm_order_files_in_the_folder_are_passed_over(tmp_path: Path, db: Path) -> None:
    sample("embedllm", tmp_path)
    write_csv(tmp_path / "question_order.csv", [{"prompt_id": 5, "prompt": "p"}])
    write_csv(tmp_path / "train.csv", [row | {"prompt_id": 100 + row["prompt_id"]} for row in EMBED_ROWS])
    done = put("embedllm", tmp_path, db)
    assert [Path(name).name for name in done.gathered.passed_over] == ["question_order.csv"]
    assert stored(db, "SELECT split, count(*) FROM queries GROUP BY 1 ORDER BY 1") == [("train", 2), ("validation", 2)]


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
