"""A small world that every test can use: graded answers of four models to sixty queries, as a file and as a store."""

import random
from pathlib import Path

import polars as pl
import pytest

from responses_db import ResponseStore
from responses_db.importers import check, land, tidy

SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
"""Real routing data beside the checkout, where a machine has it."""

MODELS = {"small": 0.45, "medium": 0.6, "large": 0.75, "giant": 0.9}
"""Chance of a right answer; costs grow eightfold from each to the next."""


@pytest.fixture(scope="session")
def tiny_rows() -> pl.DataFrame:
    """Tidy rows: 60 queries × 4 models, domains `sums` and `words`, 40 train and 20 test, letters for answers."""
    draw = random.Random(7)
    return pl.DataFrame([row for number in range(60) for row in _answers(number, draw)])


@pytest.fixture(scope="session")
def tiny_parquet(tiny_rows: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny rows as a Parquet file in the tidy form. Not to be changed."""
    path = tmp_path_factory.mktemp("tidy") / "tiny.parquet"
    tiny_rows.write_parquet(path)
    return path


@pytest.fixture(scope="session")
def tiny_store(tiny_parquet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the tiny rows. For reading; a test that writes takes a copy."""
    path = tmp_path_factory.mktemp("store") / "tiny.duckdb"
    rows = tidy.read(tiny_parquet)
    check(rows, str(tiny_parquet))
    with ResponseStore(path, write=True) as store:
        land(rows, store, {"form": "tidy", "path": tiny_parquet})
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real routing data; the test is skipped where the machine has none."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no routing data at {SHARED_DATA}")
    return SHARED_DATA


def _answers(number: int, draw: random.Random) -> list[dict[str, object]]:
    domain = ("sums", "words")[number % 2]
    question = f"Question {number} about {domain}?\nA) one\nB) two\nC) three\nD) four"
    gold, luck = draw.choice("ABCD"), draw.random()  # one luck a query: the models find the same queries hard
    rows = []
    for rank, (model, ability) in enumerate(MODELS.items()):
        right = (luck + draw.random()) / 2 < ability - 0.1 * (domain == "words")
        letter = gold if right else draw.choice([other for other in "ABCD" if other != gold])
        rows.append(
            {
                "dataset": "tiny",
                "split": "train" if number < 40 else "test",
                "domain": domain,
                "query_id": f"q{number:02}",
                "query": question,
                "model": model,
                "response": draw.choice([letter, f"{letter})", f"{letter}\n", f"The answer is ({letter})."]),
                "score": float(right),
                "prompt_tokens": 40 + number,
                "completion_tokens": 2,
                "cost_usd": 1e-6 * (40 + number) * 8**rank,
                "reference": gold,
            }
        )
    return rows
