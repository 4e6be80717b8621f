"""What answers would have cost: by the store's own SQL, bills kept and scaled, the unknown never zero."""

import json
import shutil
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from responses_db import LabError, ResponseStore
from responses_db.prices import CARDS, land_cards
from responses_db.reprice import reprice
from xrouter_sim.cli import main


def cards(*rows: tuple[str, str, float | None, float | None, float | None]) -> pl.DataFrame:
    """Cards from (model, first day, input, cached input, output)."""
    return pl.DataFrame(
        [(model, date.fromisoformat(day), *prices, "the test", None) for model, day, *prices in rows],
        schema=CARDS,
        orient="row",
    )


NOW = ("small", "2025-01-01", 1.0, None, 2.0)
EARLIER = ("small", "2024-01-01", 3.0, None, 6.0)


@pytest.fixture
def db(tiny_store: Path, tmp_path: Path) -> Path:
    """The tiny store, in which only `giant` was billed, and `small` has had two prices."""
    path = Path(shutil.copy(tiny_store, tmp_path / "copy.duckdb"))
    with ResponseStore(path, write=True) as store:
        store.con.execute("UPDATE responses SET reported_cost_usd = NULL WHERE model_id <> 'giant'")
        land_cards(cards(NOW, EARLIER), store, "the test")
    return path


def test_at_todays_prices_costs_are_those_of_the_view_graded(db: Path) -> None:
    with ResponseStore(db) as store:
        done = reprice(store)
        costs = dict(store.frame("SELECT model_id, sum(cost_usd) FROM graded GROUP BY 1").iter_rows())
    assert {row["model_id"]: row["cost_now_usd"] for row in done.models} == costs
    small = next(row for row in done.models if row["model_id"] == "small")
    assert (small["cost_then_usd"], small["ratio"]) == (costs["small"], 1.0)


def test_on_another_day_the_card_of_that_day_counts(db: Path) -> None:
    with ResponseStore(db) as store:
        first, later, before = (
            next(row for row in reprice(store, on=date.fromisoformat(day)).models if row["model_id"] == "small")
            for day in ("2024-12-31", "2025-01-01", "2023-12-31")
        )
        tokens = store.frame("SELECT sum(input_tokens), sum(output_tokens) FROM responses WHERE model_id = 'small'")
    given, made = map(int, tokens.row(0))
    assert (first["input_tokens"], first["output_tokens"]) == (given, made)
    assert first["cost_then_usd"] == pytest.approx((given * 3 + made * 6) / 1e6)
    assert first["ratio"] == pytest.approx(3.0)
    assert later["ratio"] == 1.0
    assert (before["cost_then_usd"], before["ratio"], before["no_price"]) == (None, None, 60)


def test_given_prices_replace_a_models_own_and_may_lie_in_the_future(db: Path) -> None:
    with ResponseStore(db) as store:
        dearer = cards(("small", "2999-01-01", 10.0, None, 20.0))
        small = next(row for row in reprice(store, prices=dearer).models if row["model_id"] == "small")
        assert small["ratio"] == pytest.approx(10.0)
        dated = reprice(store, prices=dearer, on=date(2025, 6, 1))
        assert next(row for row in dated.models if row["model_id"] == "small")["ratio"] == 1.0


def test_cached_input_has_its_own_price(db: Path) -> None:
    with ResponseStore(db, write=True) as store:
        store.con.execute("UPDATE responses SET cached_input_tokens = 30 WHERE model_id = 'small'")
        cheaper = cards(("small", "2025-01-01", 1.0, 0.1, 2.0))
        small = next(row for row in reprice(store, prices=cheaper).models if row["model_id"] == "small")
    assert small["cached_input_tokens"] == 60 * 30
    assert small["cost_now_usd"] - small["cost_then_usd"] == pytest.approx(60 * 30 * 0.9 / 1e6)


def test_a_bill_is_kept_and_scaled_where_both_prices_are_known(db: Path) -> None:
    with ResponseStore(db, write=True) as store:
        billed = store.frame("SELECT sum(reported_cost_usd) FROM responses WHERE model_id = 'giant'").item()
        double = cards(("giant", "2025-01-01", 8.0, None, 8.0))
        giant = next(row for row in reprice(store, prices=double).models if row["model_id"] == "giant")
        assert giant["cost_now_usd"] == pytest.approx(billed)
        assert (giant["billed"], giant["billed_without_price_now"], giant["cost_then_usd"]) == (60, 60, None)
        land_cards(cards(("giant", "2025-01-01", 4.0, None, 4.0)), store, "the test")
        giant = next(row for row in reprice(store, prices=double).models if row["model_id"] == "giant")
        assert (giant["cost_then_usd"], giant["unknown_then"]) == (pytest.approx(2 * billed), 0)
        same = next(row for row in reprice(store).models if row["model_id"] == "giant")
        assert same["cost_then_usd"] == pytest.approx(billed)


def test_what_is_unknown_is_counted_by_reason_and_is_no_zero(db: Path) -> None:
    with ResponseStore(db, write=True) as store:
        store.con.execute("UPDATE responses SET output_tokens = NULL WHERE query_id = 'tiny/q00'")
        store.con.execute(
            "UPDATE responses SET status = 'failed', input_tokens = NULL, output_tokens = NULL, "
            "text = NULL WHERE query_id = 'tiny/q01' AND model_id = 'small'"
        )
        half = cards(("medium", "2025-01-01", 1.0, None, None))
        done = reprice(store, prices=half)
    row = {row["model_id"]: row for row in done.models}
    assert (row["small"]["failed"], row["small"]["no_tokens"], row["small"]["unknown_then"]) == (1, 1, 1)
    assert (row["medium"]["no_tokens"], row["medium"]["no_price"], row["medium"]["cost_then_usd"]) == (1, 59, None)
    assert row["large"]["unknown_now"] == 60
    assert done.total["unknown_then"] == sum(each["unknown_then"] for each in done.models)
    assert done.total["cost_then_usd"] == row["small"]["cost_then_usd"]


def test_it_reads_only(db: Path) -> None:
    with ResponseStore(db) as store:
        before = store.content_hash()
        reprice(store, prices=cards(("small", "2025-01-01", 9.0, None, 9.0)))
        assert store.content_hash() == before
        assert reprice(store).total["responses"] == 240  # and leaves nothing behind in the connection


def test_a_price_of_an_unknown_model_is_refused(db: Path) -> None:
    with ResponseStore(db) as store, pytest.raises(LabError, match=r"model smal is not in .*; the nearest are small"):
        reprice(store, prices=cards(("smal", "2025-01-01", 1.0, None, 1.0)))


def test_the_command_says_then_now_and_what_is_open(db: Path, tmp_path: Path) -> None:
    file = tmp_path / "next.toml"
    file.write_text(
        '[[price]]\nmodel = "small"\nvalid_from = 2030-01-01\ninput_usd_per_mtok = 2\noutput_usd_per_mtok = 4\n'
        'source = "a guess"\n'
    )
    command = ["store", "reprice", "--db", str(db), "--prices", str(file)]
    words = CliRunner().invoke(main, command).output
    assert "nothing was changed; to make these the store's prices: xrouter-sim import prices" in words
    assert "* 60 answers at the cost that their source billed" in words
    assert "unknown then: 180 answers of models without a price there (giant, large, medium)" in words
    facts = json.loads(CliRunner().invoke(main, [*command, "--json"]).output)
    assert {row["model_id"]: row["ratio"] for row in facts["models"]}["small"] == pytest.approx(2.0)
    assert facts["cards"][0]["source"] == "a guess"
    assert "give --on DATE" in CliRunner().invoke(main, ["store", "reprice", "--db", str(db)]).output
