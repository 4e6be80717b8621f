"""Which split a query gets: the source's own, one that the user names, or a hash of its text.

The hash is a pure function of (seed, text): it does not depend on order, on other rows or on the machine, and a prompt
that stands in a source twice stays on one side.
"""

import hashlib
import re

import polars as pl

from responses_db.importers.registry import Choices
from responses_db.importers.sources import Source

NAMES = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation"}
NAMES["test"] = "test"


def split_in(source: Source) -> str | None:
    """The split that a file's name tells (`mbpp_test.csv`, `gsm8k-train.json`, `data/val.csv`), null if none."""
    parts = re.split(r"[^a-z]+", source.stem.lower())
    found = [NAMES[part] for part in parts if part in NAMES]
    return found[-1] if found else None


def with_splits(rows: pl.DataFrame, choices: Choices) -> pl.DataFrame:
    """Fill the column `split` as the user chose."""
    if choices.split not in ("source", "hash"):
        return rows.with_columns(split=pl.lit(choices.split))
    texts = rows.filter(pl.col("query").is_not_null())
    if choices.split == "source":
        texts = texts.filter(pl.col("split").is_null())
    hashed = pl.DataFrame({"query": texts["query"].unique(maintain_order=True)}, schema={"query": pl.String})
    sides = [hashed_split(text, choices) for text in hashed["query"]]
    rows = rows.join(hashed.with_columns(_side=pl.Series(sides, dtype=pl.String)), on="query", how="left")
    own = pl.col("split") if choices.split == "source" else pl.lit(None, pl.String)
    return rows.with_columns(split=pl.coalesce(own, "_side")).drop("_side")


def hashed_split(text: str, choices: Choices) -> str:
    """`test` for a share of `test_share` of all texts, else `train`.

    >>> hashed_split("What is 2 + 2?", Choices(test_share=1.0))
    'test'
    """
    digest = hashlib.sha256(f"{choices.seed}\x1f{text}".encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") < choices.test_share * 2**64 else "train"
