"""Damaged files for every importer: each must end in one clear line or in a good import, and never in half of one.

    python -m tests.responses_db.fuzz_importers 10000        # what `make fuzz` runs
    python -m tests.responses_db.fuzz_importers 1 --first 4711    # one input again

Input number i of a seed is always the same, whatever ran before it. A failure names its number and keeps the file.
"""

import argparse
import copy
import csv
import faulthandler
import gzip
import io
import json
import math
import pickle
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from responses_db import LabError, ResponseStore
from responses_db.importers import IMPORTERS, Choices, import_files
from responses_db.importers.run import SURPRISE
from tests.responses_db.importer_samples import SAMPLES, SPROUT_ROWS, TIDY_ROWS, WIDE_ROWS

SECONDS = 30
"""No input of some kilobytes may take longer."""

DEEP = "[" * 2000 + "]" * 2000
NASTY: list[Any] = [
    *(None, "", " ", "nan", "null", "inf", "-inf", "1e400", "-1", "0", "1.5", "True", "0x10", "1,5", "½", "１"),
    *(float("nan"), float("inf"), -float("inf"), -0.0, 1e308, 5e-324, 10**30, -(10**30), 2**63, 2**31, -1, True, False),
    *([], {}, [None], [[None, {}], None], {"a": {"b": None}}, {"score": {"score": 1}}, [1, "1", None]),
    *(
        "\x00",
        "\ud800",
        "\ufeff",
        "é\u0301\u202e",
        "'",
        '"',
        "\\",
        "\n\n",
        "\r",
        "['a",
        "['a', 1]",
        '["\\ud800"]',
        DEEP,
    ),
    *(DEEP, "{'score': 1}", "x" * 100_000, "dataset/../../etc", "a|b|total_cost", "9" * 5000, int("9" * 300)),
]

NAMES = ["x.csv", "x.parquet", "x.json", "x.pkl", "x.tar.gz", "x", "x.csv.zst"]


@dataclass(frozen=True)
class Failure(Exception):  # noqa: N818
    """An input that an importer took badly."""

    number: int
    form: str
    damage: str
    what: str

    def __str__(self) -> str:
        return f"input {self.number} ({self.form}, {self.damage}): {self.what}"


@cache
def sound_file(form: str) -> tuple[str, bytes]:
    """(name, content) of a sound file of the form."""
    if form == "pickle":
        return "mbpp_test.pkl", sound_pickle()
    with tempfile.TemporaryDirectory() as name:
        SAMPLES[form].write(Path(name))
        file = next(file for file in sorted(Path(name).rglob("*")) if file.is_file())
        return file.name, file.read_bytes()


def sound_pickle() -> bytes:
    """RouterBench's wide form as pandas pickles it, text in object columns as in the published file."""
    import pandas

    frame = pandas.DataFrame(WIDE_ROWS).astype(object)
    frame.columns = pandas.Index(list(frame.columns), dtype=object)
    return pickle.dumps(frame)


# Damage to bytes, whatever they mean


def flip(draw: random.Random, content: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 8, 64])):
        if damaged:
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def cut(draw: random.Random, content: bytes) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def cut_out(draw: random.Random, content: bytes) -> bytes:
    start, end = sorted(draw.randrange(len(content) + 1) for _ in "12")
    return content[:start] + content[end:]


def put_in(draw: random.Random, content: bytes) -> bytes:
    place = draw.randrange(len(content) + 1)
    junk = draw.choice(
        [draw.randbytes(draw.choice([1, 4, 300])), b"\xff\xfe", b"\xed\xa0\x80", b"\x00" * 50, b'"', b"\n", b","]
    )
    return content[:place] + junk + content[place:]


def repeat_part(draw: random.Random, content: bytes) -> bytes:
    start, end = sorted(draw.randrange(len(content) + 1) for _ in "12")
    return content[:end] + content[start:end] * draw.choice([1, 3]) + content[end:]


def other_content(draw: random.Random, content: bytes) -> bytes:
    return draw.choice([b"", b"\n", b"\xef\xbb\xbf", b"{}", b"[]", b"null", b"PAR1", b"PAR1PAR1", draw.randbytes(500)])


def of_another_form(draw: random.Random, content: bytes) -> bytes:
    return sound_file(draw.choice(list(IMPORTERS)))[1]


BYTES: list[Callable[[random.Random, bytes], bytes]] = [
    *(flip, cut, cut_out, put_in, repeat_part, other_content, of_another_form)
]


# Damage to what the bytes mean


def csv_cells(draw: random.Random, content: bytes) -> bytes:
    rows = list(csv.reader(io.StringIO(content.decode())))
    for _ in range(draw.choice([1, 2, 10])):
        row = draw.choice(rows if draw.random() < 0.3 else rows[1:])
        row[draw.randrange(len(row))] = str(draw.choice(NASTY))
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def csv_columns(draw: random.Random, content: bytes) -> bytes:
    rows = list(csv.reader(io.StringIO(content.decode())))
    a, b = (draw.randrange(len(rows[0])) for _ in "12")
    change = draw.choice(["swap names", "swap", "drop", "double", "ragged", "no rows", "double rows"])
    for row in rows:
        if change == "swap" or (change == "swap names" and row is rows[0]):
            row[a], row[b] = row[b], row[a]
        elif change == "drop" or (change == "ragged" and draw.random() < 0.5):
            row.pop(a)
        elif change == "double":
            row.insert(b, row[a])
    rows = rows[:1] if change == "no rows" else rows + rows[1:] if change == "double rows" else rows
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def json_nodes(draw: random.Random, content: bytes) -> bytes:
    """Values anywhere in a JSON file, or in lines of it, replaced by nasty ones; keys dropped and renamed."""
    text = content.decode()
    lines = text.splitlines() if not text.startswith(("[", "{\n")) and "\n" in text.strip() else [text]
    for _ in range(draw.choice([1, 1, 3])):
        number = draw.randrange(len(lines))
        lines[number] = _damaged_json(draw, lines[number])
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _damaged_json(draw: random.Random, text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    places = list(_places(value))
    if not places:
        return json.dumps(draw.choice(NASTY))
    holder, key = draw.choice(places)
    change = draw.random()
    if change < 0.15 and isinstance(holder, dict):
        holder.pop(key)
    elif change < 0.3 and isinstance(holder, dict):
        holder[str(draw.choice(NASTY))[:50]] = holder.pop(key)
    else:
        holder[key] = copy.deepcopy(draw.choice(NASTY))
    return json.dumps(value, ensure_ascii=draw.random() < 0.5)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def parquet_types(draw: random.Random, content: bytes) -> bytes:
    """A column of another type, of nulls, of nested nulls, under another's name, or twice."""
    table = pq.read_table(pa.BufferReader(content))
    columns, names = list(table.columns), list(table.column_names)
    for _ in range(draw.choice([1, 1, 3])):
        place = draw.randrange(len(names))
        change = draw.random()
        if change < 0.15:
            names[place] = draw.choice([*names, "", "MODEL|total_cost", "\x00"])
        elif change < 0.25 and len(names) > 1:
            names.pop(place), columns.pop(place)
        else:
            columns[place] = _odd_column(draw, table.num_rows)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, names=names), sink, compression=draw.choice(["zstd", "snappy", "none"]))
    return bytes(sink.getvalue())


def _odd_column(draw: random.Random, height: int) -> Any:
    struct = {
        "score": draw.choice([None, 2.5, math.nan]),
        "response": None,
        "num_input_tokens": draw.choice([-1, 2**40]),
    }
    odd: list[Any] = [
        *(pa.nulls(height), pa.nulls(height, pa.list_(pa.string())), pa.array([[None]] * height, pa.list_(pa.null()))),
        *(pa.array([b"\xff\x00"] * height), pa.array([b"\xff"] * height, pa.binary()).view(pa.string())),
        *(pa.array([True] * height), pa.array([math.nan] * height), pa.array([math.inf] * height)),
        *(
            pa.array([2**63 - 1] * height),
            pa.array([2**64 - 1] * height, pa.uint64()),
            pa.array([-1] * height, pa.int8()),
        ),
        *(pa.array([struct] * height), pa.array([None] * height, pa.struct([("score", pa.float64())]))),
        *(pa.array(["a"] * height).dictionary_encode(), pa.array([0] * height, pa.timestamp("ns"))),
        *(pa.array([{"score": "high"}] * height), pa.array([[("a", 1)]] * height, pa.map_(pa.string(), pa.int64()))),
        *(pa.array(["x" * 50] * height, pa.large_string()), pa.array([1] * height, pa.decimal128(38, 10))),
        *(pa.array([["a", None]] * height), pa.array([["a", "b"]] * height), pa.array([0.1] * height, pa.float16())),
    ]
    return draw.choice(odd)


SOUND_COSTS = json.dumps(
    {"claude-x": {"input_token_price_per_million": 3, "output_token_price_per_million": 15.0}}
).encode()
MEANING: dict[str, list[Callable[[random.Random, bytes], bytes]]] = {
    ".csv": [csv_cells, csv_cells, csv_columns],
    ".json": [json_nodes, json_nodes],
    ".jsonl": [json_nodes, json_nodes],
    ".parquet": [parquet_types, parquet_types],
    ".pkl": [],
}


@dataclass(frozen=True)
class Input:
    """A damaged file: the form it is given to, and how it came about."""

    form: str
    damage: str
    path: Path
    choices: Choices


def damaged_input(seed: int, number: int, folder: Path) -> Input:
    """Input `number` of a seed, written into `folder`."""
    draw = random.Random(f"{seed}/{number}")
    kinds = [*IMPORTERS, *(["pickle"] if find_spec("pandas") else [])]
    kind = kinds[number % len(kinds)]
    name, content = sound_file(kind)
    if kind in ("tidy", "routerbench", "sprout") and draw.random() < 0.5:
        name, content = other_container(kind, name)
    done = []
    for _ in range(draw.choice([1, 1, 1, 2])):
        means = MEANING[Path(name).suffix] if not done else []
        damage = draw.choice([*means, *means, *BYTES])
        content, done = damage(draw, content), [*done, damage.__name__]
    if draw.random() < 0.1:
        content, name, done = gzip.compress(content), name + ".gz", [*done, "gz"]
        if draw.random() < 0.5:
            content = flip(draw, content)
    if draw.random() < 0.05:
        name, done = (
            draw.choice(["x.csv", "x.parquet", "x.json", "x.pkl", "x.tar.gz", "x", "x.csv.zst"]),
            [*done, "name"],
        )
    path = folder / name
    path.write_bytes(content)
    costs = None
    if kind == "routerarena" and draw.random() < 0.4:
        costs = folder / "costs.json"
        costs.write_bytes(draw.choice([flip, cut, json_nodes, json_nodes])(draw, SOUND_COSTS))
    split = draw.choice(["source", "source", "hash", "test"])
    choices = Choices(trust_pickle=kind == "pickle", split=split, costs=costs)
    return Input("routerbench" if kind == "pickle" else kind, "+".join(done), path, choices)


def other_container(kind: str, name: str) -> tuple[str, bytes]:
    """The same rows in the form's other container: CSV for Parquet, Parquet for CSV."""
    rows = {"tidy": TIDY_ROWS, "routerbench": WIDE_ROWS, "sprout": SPROUT_ROWS}[kind]
    if name.endswith(".csv"):
        frame = pl.DataFrame([{k: v for k, v in row.items() if k} | {"gpt-4|total_cost": 0.1} for row in rows])
        table = frame.to_arrow()
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        return Path(name).stem + ".parquet", bytes(sink.getvalue())
    flat = pl.DataFrame([{k: str(v) if isinstance(v, dict) else v for k, v in row.items()} for row in rows])
    return Path(name).stem + ".csv", flat.write_csv().encode()


class Bench:
    """A store with something in it, which every input is imported into."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.db, self.kept = folder, folder / "store.duckdb", folder / "kept.duckdb"
        tidy = folder / "base.parquet"
        pl.DataFrame(TIDY_ROWS).write_parquet(tidy)
        import_files("tidy", [tidy], self.kept, Choices(dataset="kept"))
        self.reset()
        with ResponseStore(self.db) as store:
            self.hash = store.content_hash()

    def reset(self) -> None:
        shutil.copy(self.kept, self.db)
        self.stamp = self.db.stat().st_mtime_ns, self.db.stat().st_size

    def try_input(self, number: int, given: Input) -> str:
        """`refused` or `imported`; raises Failure for anything that must not be."""
        fresh = number % 10 == 0
        db = self.folder / "fresh.duckdb" if fresh else self.db
        try:
            with time_limit():
                done = import_files(given.form, [given.path], db, given.choices, rejects=self.folder / "rejects.csv")
        except LabError as error:
            self._check_refusal(number, given, str(error), fresh)
            return "refused"
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise Failure(number, given.form, given.damage, f"{type(error).__name__}: {error!s:.300}") from error
        self._check_import(number, given, db, done.landed.new_responses)
        if fresh:
            db.unlink()
        else:
            self.reset()
        return "imported"

    def _check_refusal(self, number: int, given: Input, line: str, fresh: bool) -> None:
        if "\n" in line or len(line) > 1500 or SURPRISE in line:
            raise Failure(number, given.form, given.damage, f"a refusal that tells a reader nothing: {line[:300]!r}")
        if fresh:
            if (self.folder / "fresh.duckdb").exists():
                raise Failure(number, given.form, given.damage, f"refused ({line}), but a store was left")
        elif (self.db.stat().st_mtime_ns, self.db.stat().st_size) != self.stamp:
            with ResponseStore(self.db) as store:
                found = store.content_hash()
            if found != self.hash:
                raise Failure(number, given.form, given.damage, f"refused ({line}), but the store has changed")
            self.reset()

    def _check_import(self, number: int, given: Input, db: Path, new: int) -> None:
        sql = """SELECT count(*), count(*) FILTER (q.query_id IS NULL OR m.model_id IS NULL OR
                    (s.response_id IS NULL AND r.status <> 'failed')), count(*) FILTER (isnan(s.score))
            FROM responses r LEFT JOIN queries q USING (query_id) LEFT JOIN models m USING (model_id)
            LEFT JOIN scores s USING (response_id) WHERE q.dataset IS DISTINCT FROM 'kept'"""
        with ResponseStore(db) as store:
            counts = store.frame(sql).row(0)
        if counts != (new, 0, 0):
            raise Failure(number, given.form, given.damage, f"half an import: {new} responses told, {counts} found")


@contextmanager
def time_limit() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise TimeoutError(f"took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fuzz(count: int, folder: Path, *, seed: int = 0, first: int = 0, tell: bool = False) -> Counter[str]:
    """Import `count` damaged files. Returns how many were refused and imported; raises Failure at the first bad end."""
    bench, outcomes = Bench(folder), Counter[str]()
    place = folder / "input"
    for number in range(first, first + count):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        given = damaged_input(seed, number, place)
        outcomes[bench.try_input(number, given)] += 1
        outcomes[given.form] += 1
        if tell and (number - first + 1) % 500 == 0:
            print(f"{number - first + 1:,} of {count:,}: {dict(outcomes)}", flush=True)
    return outcomes


def run() -> int:
    parser = argparse.ArgumentParser(description="Import damaged files; end with 1 at the first one taken badly.")
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    options = parser.parse_args()
    faulthandler.enable()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-importers-"))
    try:
        outcomes = fuzz(options.count, folder, seed=options.seed, first=options.first, tell=True)
    except Failure as failure:
        print(f"{failure}\nkept: {folder / 'input'}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    print(f"{options.count:,} damaged inputs, no traceback, no partial import: {dict(outcomes)}")
    return 0


if __name__ == "__main__":
    sys.exit(run())
