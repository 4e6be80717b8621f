"""responses_db: what was asked, what was answered, what it cost."""

from typing import TYPE_CHECKING

from responses_db.errors import LabError

if TYPE_CHECKING:
    from responses_db.store import ResponseStore

__all__ = ["LabError", "ResponseStore"]


def __getattr__(name: str) -> object:
    """Import the store, and with it DuckDB and polars, only when it is asked for: `--help` needs neither."""
    if name == "ResponseStore":
        from responses_db.store import ResponseStore

        return ResponseStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
