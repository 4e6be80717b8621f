"""responses_db: what was asked, what was answered, what it cost."""

from responses_db.errors import LabError
from responses_db.store import ResponseStore

__all__ = ["LabError", "ResponseStore"]
