"""Published benchmarks as queries: from the Hugging Face hub, or from a copy of its files on disk.

    [[tasks]]
    kind = "hf"
    benchmark = "gsm8k"
    count = 200              # a sample, drawn by the config's seed; all without it
    revision = "e53f048856"  # a commit of the dataset: pin it, or the queries may change under your answers
    path = "gsm8k"           # instead of the hub: a folder or file in the hub's layout (Parquet, JSON Lines, CSV)

`subset`, `split` and `repository` choose other parts or copies of it, `grader` and `domain` replace the benchmark's.
Queries are train or test by their id's hash, like all others: a benchmark's own split says what others trained on, and
stands in the metadata. `split_as = "source"` takes it instead.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from responses_db.errors import LabError
from responses_db.graders import GRADERS
from responses_db.query import Query, digest, split_of
from responses_db.tasks.benchmarks import BENCHMARKS, Benchmark, Item, Row
from responses_db.toml_table import Table

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv")

SOURCE_SPLITS = {"train": "train", "validation": "validation", "dev": "validation", "test": "test"}


def read(table: Table, seed: int, folder: Path) -> list[Query]:
    """A benchmark's queries. LabError for a mistake in the table, without network or extra, and for odd rows."""
    benchmark = BENCHMARKS[table.text("benchmark", among=BENCHMARKS)]
    split, subset = table.text("split", benchmark.split), table.text("subset", benchmark.subset)
    path, revision = table.text("path", None), table.text("revision", None)
    repository = table.text("repository", benchmark.repository)
    count = table.integer("count", None, least=1)
    domain, grader = table.text("domain", None), table.text("grader", benchmark.grader, among=GRADERS)
    split_as = table.text("split_as", "hash", among=("hash", "source"))
    table.finish()
    if path is None:
        where, rows = f"{repository} of the hub", _from_hub(table, repository, subset, split, revision)
    else:
        where, rows = str(folder / path), _from_disk(table, folder / path, subset, split)
    queries = dict[str, Query]()
    for number, row in enumerate(rows, 1):
        item = _item(benchmark, row, seed, f"{where}, row {number}")
        query = _query(benchmark.name, item, domain, grader, split, split_as)
        if queries.setdefault(query.query_id, query) != query:
            raise LabError(f"{where}, row {number}: another row is named {item.name!r} too")
    return _sample(list(queries.values()), count, seed, table)


def _item(benchmark: Benchmark, row: Row, seed: int, where: str) -> Item:
    have = {key.lower() for key in row}
    for column in benchmark.columns:
        if not any(name.lower() in have for name in column.split("|")):
            raise LabError(
                f"{where}: no column {column.replace('|', ' or ')}, so this is not {benchmark.name} "
                f"in the layout of {benchmark.repository}; there are {', '.join(row)}"
            )
    try:
        return benchmark.item(row, seed)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise LabError(f"{where}: not a row of {benchmark.name}: {error}") from None


def _query(dataset: str, item: Item, domain: str | None, grader: str, split: str, split_as: str) -> Query:
    query_id = f"{dataset}/{item.name}"
    prompt = item.prompt or item.question
    return Query(
        query_id=query_id,
        dataset=dataset,
        domain=domain or item.domain or dataset,
        messages=[{"role": "user", "content": prompt}],
        question=item.question,
        reference=item.reference,
        grader=grader,
        split=SOURCE_SPLITS.get(split, "test") if split_as == "source" else split_of(query_id),
        metadata=item.metadata | {"source_split": split},
    )


def _sample(queries: list[Query], count: int | None, seed: int, table: Table) -> list[Query]:
    """`count` of them, in the order of the file: the same ones whatever their order was, and more contain fewer."""
    if not queries:
        raise table.fail("there is not one row: is it the right `split`?")
    if count is None:
        return queries
    if count > len(queries):
        raise table.fail(f"there are {len(queries):,} queries and `count` is {count:,}: lower it, or leave it out")
    chosen = {query.query_id for query in sorted(queries, key=lambda query: digest("hf", seed, query.query_id))[:count]}
    return [query for query in queries if query.query_id in chosen]


def _from_hub(
    table: Table, repository: str, subset: str | None, split: str, revision: str | None
) -> Iterator[Mapping[str, Any]]:
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it announces every try; the last is told below
    try:
        from datasets import load_dataset
    except ImportError:
        raise table.fail(
            "the hub needs the extra `hf`: pip install 'xrouter-sim[hf]', or give `path`, a folder with its files"
        ) from None
    try:
        rows = load_dataset(repository, subset, split=split, revision=revision)
    except Exception as error:  # whatever the hub's client, its HTTP library or a gated repository raises
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise table.fail(
            f"cannot get {repository} from the hub ({why}): check network, access and `revision`, or give `path`, "
            "a folder with its files"
        ) from None
    yield from rows


def _from_disk(table: Table, path: Path, subset: str | None, split: str) -> Iterator[Mapping[str, Any]]:
    for file in _files(table, path, subset, split):
        yield from _rows(file)


def _files(table: Table, path: Path, subset: str | None, split: str) -> list[Path]:
    """The files of one split, as the hub names them: [SUBSET/ or data/]SPLIT-00000-of-00001.parquet, SUBSET.csv, …"""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise table.fail(f"no folder or file {path}")
    every = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
    here = [file for file in every if subset in file.relative_to(path).parts[:-1]] if subset else []
    here = here or [file for file in every if file.parent in (path, path / "data")]  # not those of another subset
    of_split = [file for file in here if file.stem == split or file.stem.startswith(f"{split}-")]
    named = of_split or [file for file in here if file.stem == subset] or (every if len(every) == 1 else [])
    if not named:
        there = ", ".join(str(file.relative_to(path)) for file in every[:8]) or "no data file"
        what = f"subset {subset!r} and split {split!r}" if subset else f"split {split!r}"
        raise table.fail(f"{path} has no file of {what}; there is {there}")
    return named


def _rows(file: Path) -> list[dict[str, Any]]:
    import polars as pl

    try:
        if file.suffix == ".parquet":
            return pl.read_parquet(file).to_dicts()
        if file.suffix == ".csv":
            return pl.read_csv(file, infer_schema=False).to_dicts()
        return pl.read_ndjson(file, infer_schema_length=None).to_dicts()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LabError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from None
