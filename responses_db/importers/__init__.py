"""Public routing data into the store: an importer turns one published form into the tidy form, the rest is shared.

A new importer is one new file with a `read` function and one line in IMPORTERS: that gives `xrouter-sim import NAME`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from responses_db.importers import tidy
from responses_db.importers.checks import check
from responses_db.importers.landing import Landed, land

__all__ = ["IMPORTERS", "Importer", "Landed", "check", "land"]


@dataclass(frozen=True)
class Importer:
    """A published form. `read` gives its rows in the tidy form (columns of `tidy.COLUMNS`); LabError if it cannot."""

    name: str
    summary: str  # one sentence: what the form is and who publishes it
    read: Callable[[Path], pl.DataFrame]


IMPORTERS = {
    importer.name: importer
    for importer in [
        Importer("tidy", "Parquet or CSV in the tidy form: one row a response.", tidy.read),
    ]
}
