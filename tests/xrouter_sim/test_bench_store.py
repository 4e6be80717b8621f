"""`bench store`: its figures are there, its references do the same work, and a busy moment does not decide a ratio."""

import json

import polars as pl
import pytest
from click.testing import CliRunner

from responses_db import ResponseStore
from xrouter_sim.bench import store as bench
from xrouter_sim.bench.store_sql import CORE_SQL, by_plain_sql
from xrouter_sim.cli import main
from xrouter_sim.loading import load_arrays


def test_it_prints_the_ratios() -> None:
    done = CliRunner().invoke(main, ["bench", "store", "--rows", "1000", "--repeats", "1", "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    for name in ("ingest_vs_duckdb", "replay_vs_sql", "replay_peak_ratio"):
        assert figures[name] > 0
    assert figures["rows"] == 1000
    assert 500 < figures["text_characters"] < 620


def test_made_up_answers_are_the_same_every_time_and_make_a_whole_store(tmp_path) -> None:
    tables = bench.make_tables(400)
    assert tables.responses.equals(bench.make_tables(400).responses)
    bench._by_store(tables, tmp_path / "s.duckdb")
    arrays = load_arrays(tmp_path / "s.duckdb")
    assert arrays["score"].shape == (40, 10, 1)
    plain = by_plain_sql(tmp_path / "s.duckdb", CORE_SQL)
    assert plain["score"].tolist() == arrays["score"][:, :, 0].tolist()
    assert plain["cost_usd"].tolist() == arrays["cost_usd"][:, :, 0].tolist()


def test_a_reference_that_does_other_work_is_refused(tmp_path) -> None:
    bench._by_store(bench.make_tables(100), tmp_path / "s.duckdb")
    with ResponseStore(tmp_path / "s.duckdb", write=True) as store:
        card = {"model_id": "model-0", "valid_from": "2021-01-01", "source": "a second card"}
        prices = {"input_usd_per_mtok": 9.0, "output_usd_per_mtok": 9.0}
        store.append("price_cards", pl.DataFrame([card | prices]).with_columns(pl.col("valid_from").str.to_date()))
    with pytest.raises(AssertionError, match="the reference computes another"):
        bench._replay(tmp_path / "s.duckdb", 1)


def test_the_median_round_counts() -> None:
    rounds = bench.Rounds()
    for plain, mine in ((1.0, 2.0), (1.0, 8.0), (9.0, 3.0)):  # a busy moment for mine, then for plain
        rounds.add("plain", plain, plain)
        rounds.add("mine", mine, mine / 2)
    assert rounds.ratio("plain", "mine") == 0.5
    assert rounds.cpu_ratio("plain", "mine") == 1.0
    assert rounds.best("mine") == 2.0
