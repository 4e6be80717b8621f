"""What programs returned, kept on disk by the hash of their code: whoever returned the same code, it runs once.

A folder holds parts that are written once, whole, and never changed, so any number of processes may read and add. Each
is a Parquet file of (program, inputs, outcomes) rows whose name is the SHA-256 of its bytes: a part that does not match
is thrown away.
"""

import hashlib
import io
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import polars as pl

from responses_db import LabError
from xrouter_sim.evidence.running import Outcomes
from xrouter_sim.files import written_whole

SCHEMA = pl.Schema([("program", pl.String()), ("inputs", pl.List(pl.String())), ("outcomes", pl.List(pl.String()))])


def read(folder: Path) -> dict[str, dict[str, str]]:
    """For each program's key, what came of each input. A damaged part counts as absent, and is deleted."""
    known: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob("*.parquet")):  # in order, so that of two outcomes it is always the same that stays
        part = _read(path)
        if part is None:
            with suppress(OSError):
                path.unlink()
            continue
        for program, inputs, outcomes in part.iter_rows():
            outcomes_of = known.setdefault(program, {})
            for text, outcome in zip(inputs, outcomes, strict=True):
                outcomes_of.setdefault(text, outcome)
    return known


def keep(folder: Path, found: Mapping[str, Outcomes]) -> None:
    """Add outcomes by their programs' keys. A folder that cannot be written costs a warning, not the outcomes."""
    rows = [(program, list(outcomes), list(outcomes.values())) for program, outcomes in found.items()]
    buffer = io.BytesIO()
    pl.DataFrame(rows, SCHEMA, orient="row").write_parquet(buffer)
    content = buffer.getvalue()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with written_whole(folder / f"{hashlib.sha256(content).hexdigest()}.parquet") as path:
            path.write_bytes(content)
    except (LabError, OSError) as error:
        reason = error.__cause__ or error
        warnings.warn(f"outcomes of programs are not kept, and they run again next time: {reason}", stacklevel=2)


def _read(path: Path) -> pl.DataFrame | None:
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != path.stem:
            return None
        part = pl.read_parquet(io.BytesIO(content))
    except (OSError, pl.exceptions.PolarsError):
        return None
    return part if part.schema == SCHEMA else None
