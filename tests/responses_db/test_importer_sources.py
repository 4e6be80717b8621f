"""What is special to one published form: its shapes, its holes, how it agrees with other copies of the same data."""

import json
import tarfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from responses_db import LabError, ResponseStore
from tests.responses_db.importer_samples import (
    ARENA_RECORDS,
    BENCH_RUNS,
    EMBED_ROWS,
    MMLU_ROWS,
    ODD,
    SPROUT_ROWS,
    WIDE_ROWS,
    arena_record,
    bench_run,
    write_csv,
    write_jsonl,
)
from tests.responses_db.importing import content_hash, lab, put, sample, stored
from xrouter_sim.cli import main


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "store.duckdb"


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
        done = put("routerarena", tmp_path, tmp_path / "folder.duckdb")  # the prices among the files
        assert content_hash(tmp_path / "folder.duckdb") == content_hash(db)
        assert done.gathered.rejects.is_empty()

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
