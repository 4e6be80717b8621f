"""Public routing data into the store: an importer turns one published form into the tidy form, the rest is shared.

A new importer is one new file and one line in `registry.IMPORTERS`: that gives `xrouter-sim import NAME`.
The way of a row: sources (files) → the importer's `read` (loose rows) → typing_rows → gather (splits, ids) → checks →
landing (one transaction).
"""

from typing import TYPE_CHECKING, Any

from responses_db.importers.registry import IMPORTERS, Choices, Importer

if TYPE_CHECKING:
    from responses_db.importers import tidy
    from responses_db.importers.checks import check
    from responses_db.importers.landing import Landed, land
    from responses_db.importers.run import Imported, import_files

__all__ = [
    "IMPORTERS",
    "Choices",
    "Imported",
    "Importer",
    "Landed",
    "check",
    "import_files",
    "land",
    "tidy",
]

HOMES = {"check": "checks", "Landed": "landing", "land": "landing", "Imported": "run", "import_files": "run"}


def __getattr__(name: str) -> Any:
    """Import what needs polars only when it is asked for: `--help` needs none of it."""
    from importlib import import_module

    if name in HOMES:
        return getattr(import_module(f"responses_db.importers.{HOMES[name]}"), name)
    if name == "tidy":
        return import_module("responses_db.importers.tidy")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
