"""Files are written whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl
from safetensors import SafetensorError

from responses_db import LabError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives a path to write to, which then takes the place of `path`. Raises LabError when it cannot be written."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        yield fresh
        fresh.replace(path)
    except (OSError, pl.exceptions.PolarsError, SafetensorError) as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        reason = " ".join(str(error).split())
        raise LabError(f"cannot write {path} ({reason}): free some disk space, or give another --out") from error
