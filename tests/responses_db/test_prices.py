"""Price cards: dated, sourced, for models that the store knows; never overwritten unless asked."""

import shutil
from datetime import date
from pathlib import Path

import pytest

from responses_db import LabError, ResponseStore
from responses_db.prices import import_prices, read_prices

CARD = """
[[price]]
model = "giant"
valid_from = 2025-06-01
input_usd_per_mtok = 10
output_usd_per_mtok = 30.5
source = "a price page"
"""


@pytest.fixture
def db(tiny_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_store, tmp_path / "copy.duckdb"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text(CARD)
    return path


def test_a_card_lands_as_written(file: Path, db: Path) -> None:
    with ResponseStore(db, write=True) as store:
        assert import_prices(file, store) == 1
        cards = store.frame("SELECT * FROM price_cards").to_dicts()
        assert store.frame("SELECT kind FROM runs ORDER BY started_at")["kind"].to_list() == ["import", "import"]
    assert cards == [
        {
            "model_id": "giant",
            "valid_from": date(2025, 6, 1),
            "input_usd_per_mtok": 10.0,
            "cached_input_usd_per_mtok": None,
            "output_usd_per_mtok": 30.5,
            "source": "a price page",
        }
    ]


def test_the_same_file_again_adds_nothing(file: Path, db: Path) -> None:
    with ResponseStore(db, write=True) as store:
        assert [import_prices(file, store) for _ in range(2)] == [1, 0]


def test_another_price_for_the_same_day_needs_replace(file: Path, db: Path) -> None:
    with ResponseStore(db, write=True) as store:
        import_prices(file, store)
        file.write_text(CARD.replace("30.5", "40"))
        with pytest.raises(LabError, match=r"another price for giant from 2025-06-01.*--replace"):
            import_prices(file, store)
        assert store.frame("SELECT output_usd_per_mtok FROM price_cards").item() == 30.5
        assert import_prices(file, store, replace=True) == 1
        assert store.frame("SELECT output_usd_per_mtok FROM price_cards").item() == 40


def test_a_price_gives_costs_where_none_was_billed(file: Path, db: Path) -> None:
    with ResponseStore(db, write=True) as store:
        store.con.execute("UPDATE responses SET reported_cost_usd = NULL WHERE query_id = 'tiny/q00'")
        import_prices(file, store)
        row = "WHERE model_id = 'giant' AND query_id = 'tiny/q00'"
        sql = f"SELECT input_tokens, output_tokens, cost_usd FROM graded {row}"
        given, made, cost = store.frame(sql).row(0)
    assert cost == pytest.approx((given * 10 + made * 30.5) / 1e6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('model = "giant"', 'model = "gaint"', "model gaint is not in .*copy.duckdb; the nearest are giant"),
        ("output_usd_per_mtok = 30.5", "", "`output_usd_per_mtok` is missing"),
        ('source = "a price page"', "", "`source` is missing"),
        ("30.5", "-1", "`output_usd_per_mtok` is -1"),
        ("30.5", "30500000", "30,500,000 USD per million tokens: off by a million"),
        ("30.5", "nan", "`output_usd_per_mtok` is nan"),
        ("30.5", '"30.5"', "`output_usd_per_mtok` is '30.5', but it takes a number"),
        ("2025-06-01", '"June"', "`valid_from` is 'June', but it takes a date"),
        ("output_usd", "outptu_usd", "`output_usd_per_mtok` is missing"),
        ("source", "currency = 'EUR'\nsource", "unknown key `currency`"),
        (CARD, CARD + CARD, "two cards for giant from 2025-06-01"),
        (CARD, "", "`price` is missing"),
        (CARD, "[[price", "not a TOML file"),
    ],
)
def test_a_faulty_file_is_refused_whole(file: Path, db: Path, old: str, new: str, message: str) -> None:
    good = CARD.replace("giant", "small") if old != CARD else ""
    file.write_text(good + CARD.replace(old, new))
    with ResponseStore(db, write=True) as store:
        with pytest.raises(LabError, match=message):
            import_prices(file, store)
        assert store.frame("SELECT * FROM price_cards").is_empty()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"none\.toml: no such file; give a TOML file"):
        read_prices(tmp_path / "none.toml")
