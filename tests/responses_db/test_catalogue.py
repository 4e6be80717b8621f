"""Published prices from genai-prices: what becomes a card, what is said, what is refused."""

import shutil
from datetime import date, time
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner
from genai_prices.types import (
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)

from responses_db import LabError, ResponseStore
from responses_db.catalogue import UNDATED, catalogue_version, find_entry, search
from responses_db.prices import catalogue_cards, import_prices, land_cards
from xrouter_sim.cli import main


def model(name: str, prices: ModelPrice | list[ConditionalPrice]) -> ModelInfo:
    return ModelInfo(id=name, match=ClauseStartsWith(name), prices=prices)


def price(**usd: str) -> ModelPrice:
    return ModelPrice(**{key: Decimal(value) for key, value in usd.items()})


CHANGED = [
    ConditionalPrice(prices=price(input_mtok="10", cache_read_mtok="1", output_mtok="30")),
    ConditionalPrice(StartDateConstraint(date(2025, 3, 1)), prices=price(input_mtok="5", output_mtok="15")),
    ConditionalPrice(TimeOfDateConstraint(time(16), time(23)), prices=price(input_mtok="2", output_mtok="7")),
]
TIERED = ModelPrice(
    input_mtok=TieredPrices(Decimal("1.25"), [Tier(50, Decimal("2.5"))]),
    output_mtok=Decimal(10),
    cache_write_mtok=Decimal("1.6"),
)


@pytest.fixture(autouse=True)
def acme(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue of one provider."""
    models = [
        model("changed", CHANGED),
        model("tiered", TIERED),
        model("fee", price(input_mtok="1", output_mtok="1", requests_kcount="5")),
        model("ears", price(audio_hours="1")),
    ]
    provider = Provider(id="acme", name="Acme", api_pattern="acme", models=models)
    monkeypatch.setattr("responses_db.catalogue._providers", lambda: [provider])


@pytest.fixture
def db(tiny_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_store, tmp_path / "copy.duckdb"))


def test_every_dated_price_is_a_card_and_off_peak_hours_are_said_to_be_left_out() -> None:
    entry = find_entry("acme/changed")
    first, second = entry.cards
    assert (first.valid_from, first.input_usd_per_mtok, first.cached_input_usd_per_mtok) == (UNDATED, 10.0, 1.0)
    assert (second.valid_from, second.output_usd_per_mtok, second.cached_input_usd_per_mtok) == (
        date(2025, 3, 1),
        15.0,
        None,
    )
    head = f"{catalogue_version()}, acme/changed"
    assert first.source == f"{head}; no first day given; not carried: prices of certain hours"
    assert second.source == f"{head}; not carried: prices of certain hours"
    assert [entry.on(day) for day in (date(2025, 2, 28), date(2025, 3, 1))] == [first, second]


def test_a_name_with_a_dated_suffix_finds_its_entry() -> None:
    assert find_entry("acme/changed-2025-05-05").name == "acme/changed"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acme/fee", "a fee for every call, which a card of token prices cannot carry"),
        ("acme/ears", "no price of text tokens for acme/ears"),
        ("acme/chnaged", r"has no 'acme/chnaged' \(the nearest: changed\)"),
        ("acne/changed", r"no provider 'acne' \(the nearest: acme\); it has acme"),
        ("changed", "write PROVIDER/NAME"),
    ],
)
def test_what_fits_no_card_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(LabError, match=message) as error:
        find_entry(name)
    assert "\n" not in str(error.value)


def test_a_price_that_rises_for_long_prompts_is_refused_only_where_there_are_such(db: Path) -> None:
    cards = catalogue_cards({"small": "acme/tiered"})
    assert "not carried: dearer above 50 input tokens, cache_write_mtok" in cards["source"][0]
    with ResponseStore(db, write=True) as store:
        with pytest.raises(LabError, match=r"49 answers of small have more than 50 input tokens"):
            land_cards(cards, store, "genai-prices")
        store.con.execute("UPDATE responses SET input_tokens = 50")
        assert land_cards(cards, store, "genai-prices") == 1
        assert store.frame("SELECT input_usd_per_mtok FROM price_cards").item() == 1.25


def test_a_price_file_names_an_entry_and_overrides_one_of_its_days(db: Path, tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    override = """
[[price]]
model = "small"
valid_from = 2025-03-01
input_usd_per_mtok = 4
output_usd_per_mtok = 12
source = "our contract"
"""
    entry = '[[price]]\nmodel = "small"\ncatalogue = "acme/changed"\n'
    file.write_text(entry + override)
    with ResponseStore(db, write=True) as store:
        assert import_prices(file, store) == 2
        stored = store.frame("SELECT valid_from, input_usd_per_mtok, source FROM price_cards ORDER BY 1").rows()
        assert [row[:2] for row in stored] == [(UNDATED, 10.0), (date(2025, 3, 1), 4.0)]
        assert stored[1][2] == "our contract"
        assert import_prices(file, store) == 0
        file.write_text(entry + "output_usd_per_mtok = 1\n")
        with pytest.raises(LabError, match=r"prices.toml, .*`output_usd_per_mtok` beside `catalogue`: override"):
            import_prices(file, store)
        file.write_text(entry.replace("changed", "fee"))
        with pytest.raises(LabError, match=r"prices.toml, \[\[price\]\] 1: acme/fee has a fee"):
            import_prices(file, store)


def test_the_command_imports_cards_and_lists_entries(db: Path) -> None:
    def run(*arguments: str) -> str:
        return CliRunner().invoke(main, ["import", "catalogue", *arguments]).output

    words = run("small=acme/changed", "--db", str(db))
    assert "imported 2 of 2 price cards" in words
    assert "small: genai-prices" in words
    assert "nothing new" in run("small=acme/changed", "--db", str(db))
    assert "smal is not in" in run("smal=acme/changed", "--db", str(db))
    assert "is no MODEL=PROVIDER/NAME" in run("acme/changed", "--db", str(db))
    assert "no store at" in run("small=acme/changed", "--db", f"{db}.none")
    listed = run("--find", "A").splitlines()
    assert [line.split()[:2] for line in listed[1:-1]] == [
        ["acme/changed", "5"],
        ["acme/ears", "no"],
        ["acme/fee", "no"],
        ["acme/tiered", "1.25"],
    ]


def test_the_real_catalogue_is_read_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    card = find_entry("openai/gpt-4o-mini").cards[-1]
    assert 0 < (card.cached_input_usd_per_mtok or 0) < (card.input_usd_per_mtok or 0) < (card.output_usd_per_mtok or 0)
    assert len(search("gpt-4o")) > 3
