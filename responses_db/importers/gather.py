"""From files to rows that may be written: what is the same for every form."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from responses_db.errors import LabError
from responses_db.importers.base import Form, WrongFormError
from responses_db.importers.checks import QUERY_FACTS, check, sift
from responses_db.importers.registry import Choices
from responses_db.importers.sources import Source, check_paths, find
from responses_db.importers.splits import with_splits
from responses_db.importers.tidy import KINDS, with_defaults
from responses_db.importers.typing_rows import MARKS, typed_rows

QUERY = ["dataset", "query_id"]


@dataclass
class Gathered:
    """Rows in the tidy form that passed every check, the rest with the reason in `_fault`, and what to tell."""

    rows: pl.DataFrame
    rejects: pl.DataFrame
    files: int
    hashed: int = 0  # rows whose split is a hash's
    passed_over: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def read(self) -> int:
        return self.rows.height + self.rejects.height

    def reasons(self) -> list[tuple[str, int]]:
        """Each reason with its number of rows, the commonest first."""
        counts = self.rejects.group_by("_fault", maintain_order=True).len().sort("len", descending=True)
        return [(reason, count) for reason, count in counts.iter_rows()]


def gather(form: Form, paths: Sequence[Path], choices: Choices, *, strict: bool = False) -> Gathered:
    """Read all files of an import. `strict` refuses all at the first faulty row.

    Raises LabError for a file that cannot be read; nothing is left out in silence.
    """
    check_paths(paths)
    form.prepare(choices)
    gathered = Gathered(pl.DataFrame(), pl.DataFrame(), files=0)
    frames = []
    for source in find(paths, form.accepts, gathered.passed_over):
        frames += _read(form, source, choices, gathered)
    if not frames:
        raise LabError(f"{_name(paths)}: nothing to read there: no file is of this form")
    rows = form.finish(pl.concat(frames, how="diagonal"), choices)
    rows = _datasets(rows.select(*KINDS, *MARKS), form, choices)
    if not form.strict or choices.split != "source":
        own = rows["split"].count() if choices.split == "source" else 0
        gathered.hashed = rows.height - own if choices.split in ("source", "hash") else 0
        rows = with_splits(rows, choices)
    rows = with_defaults(rows)
    if not form.strict:
        sound = pl.col("_fault").is_null()
        rows = pl.concat([_one_text_an_id(rows.filter(sound), gathered), rows.filter(~sound)])
    if strict:
        check(rows.drop(MARKS), _name(paths))
        gathered.rows, gathered.rejects = rows, rows.clear()
    else:
        gathered.rows, gathered.rejects = sift(rows)
    return gathered


def _name(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0]}{more}"


def _read(form: Form, source: Source, choices: Choices, gathered: Gathered) -> list[pl.DataFrame]:
    try:
        loose = form.read(source, choices)
    except WrongFormError:
        if source.explicit:
            raise
        gathered.passed_over.append(source.name)
        return []
    gathered.files += 1
    for name in loose.columns:
        if name not in KINDS and not name.startswith("_") and name not in gathered.unused:
            gathered.unused.append(name)
    return [typed_rows(loose, source, nan_is_null=not form.strict)]


def _datasets(rows: pl.DataFrame, form: Form, choices: Choices) -> pl.DataFrame:
    if choices.dataset:
        return rows.with_columns(dataset=pl.lit(choices.dataset))
    return rows.with_columns(dataset=pl.col("dataset").fill_null(form.dataset)) if form.dataset else rows


def _one_text_an_id(rows: pl.DataFrame, gathered: Gathered) -> pl.DataFrame:
    """Where a source uses one id for several texts, all but the first get an id with a digest of their text.

    Other facts of a query (domain, split, reference, question) are those of its first row.
    """
    first = pl.col("query").first().over(QUERY)
    others = rows.filter(pl.col("query").ne_missing(first))
    if not others.is_empty():
        digests = {text: _digest(text) for text in others["query"].unique() if text is not None}
        again = pl.format("{}~{}", "query_id", pl.col("query").replace_strict(digests, default=""))
        changed = pl.col("query").ne_missing(first) & pl.col("query").is_not_null() & first.is_not_null()
        rows = rows.with_columns(query_id=pl.when(changed).then(again).otherwise("query_id"))
        gathered.notes.append(
            f"{others.n_unique(QUERY)} query ids stand for several texts: the later texts got ids of their own"
        )
    facts = [name for name in QUERY_FACTS if name != "query"]
    torn = rows.filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).first().over(QUERY)) for name in facts))
    if not torn.is_empty():
        gathered.notes.append(
            f"{torn.n_unique(QUERY)} queries have several domains, splits or references: the first row's are kept"
        )
    kept = [pl.col(name).drop_nulls().first().over(QUERY).alias(name) for name in facts]
    return rows.with_columns(kept)


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:8]
