"""What the store costs: ingest against DuckDB's own INSERT, a replay against the plainest SQL, and its peak memory.

The answers are made up: ten models, a grade each, texts of about 550 characters made of some thousand phrases.
Both sides of a ratio run in turn in the same process; the median over the rounds counts.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median

import duckdb
import numpy as np
import polars as pl

from responses_db import ResponseStore
from responses_db.store import versions
from xrouter_sim.bench.store_sql import CORE_SQL, SAME_SQL, by_plain_sql
from xrouter_sim.loading import load_arrays

MODELS = 10
PHRASES, PHRASES_A_TEXT = 4_000, 11


@dataclass(frozen=True)
class Tables:
    """What is ingested: `responses` and `scores` are timed, the rest are small."""

    queries: pl.DataFrame
    models: pl.DataFrame
    price_cards: pl.DataFrame
    responses: pl.DataFrame
    scores: pl.DataFrame


def bench(rows: int, repeats: int, folder: Path) -> dict[str, object]:
    """All figures, by name; `folder` holds up to five files of about 0.6 kB a row meanwhile."""
    tables = make_tables(rows)
    ingest = _ingest(tables, repeats, folder)
    store = folder / "store.duckdb"
    first, replay = _replay(store, repeats)
    peak = _peak(store, folder)
    return {
        "ingest_vs_duckdb": ingest.ratio("plain", "store"),
        "replay_vs_sql": replay.ratio("load", "same"),
        "replay_peak_ratio": peak,
        "ingest_vs_duckdb_unordered": ingest.ratio("unordered", "store"),
        "ingest_vs_duckdb_cpu": ingest.cpu_ratio("plain", "store"),
        "replay_vs_score_and_cost_sql": replay.ratio("load", "core"),
        "replay_vs_sql_cpu": replay.cpu_ratio("load", "same"),
        "rows": rows,
        "ingest_rows_per_s": rows / ingest.best("store"),
        "duckdb_rows_per_s": rows / ingest.best("plain"),
        "replay_s": replay.best("load"),
        "replay_first_s": first,
        "sql_s": replay.best("same"),
        "score_and_cost_sql_s": replay.best("core"),
        "store_bytes": store.stat().st_size,
        "text_characters": tables.responses["text"].str.len_chars().mean(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "versions": versions(),
    }


class Rounds:
    """Wall-clock and CPU seconds of several ways to do a thing, each done once a round, one after the other."""

    def __init__(self) -> None:
        self._took: dict[str, list[tuple[float, float]]] = {}

    def add(self, way: str, wall: float, cpu: float) -> None:
        self._took.setdefault(way, []).append((wall, cpu))

    def best(self, way: str) -> float:
        return min(wall for wall, _ in self._took[way])

    def ratio(self, over: str, under: str) -> float:
        """The median over rounds of the ratio of wall-clock times: a busy moment hits both sides of a round."""
        return self._median(over, under, 0)

    def cpu_ratio(self, over: str, under: str) -> float:
        """The same of CPU times, which other programs on the machine disturb less."""
        return self._median(over, under, 1)

    def _median(self, over: str, under: str, clock: int) -> float:
        both = zip(self._took[over], self._took[under], strict=True)
        return median(upper[clock] / lower[clock] for upper, lower in both)


def make_tables(rows: int, seed: int = 0) -> Tables:
    """Answers of MODELS models to rows / MODELS queries (rounded down), one sample each."""
    rng = np.random.default_rng(seed)
    count = rows // MODELS
    number, model = np.divmod(np.arange(count * MODELS), MODELS)
    key = {
        "query_id": pl.format("bench/{}", pl.Series(number).cast(pl.String).str.zfill(7)),
        "model_id": pl.format("model-{}", pl.Series(model)),
        "prompt_style": pl.lit("plain"),
        "sample_index": pl.lit(0, pl.Int32),
    }
    responses = _texts(rng, len(number)).with_columns(
        **key,
        run_id=pl.lit("bench"),
        finish_reason=pl.lit("stop"),
        max_tokens=pl.lit(1024, pl.Int32),
        input_tokens=pl.Series(rng.integers(50, 2_000, len(number))),
        output_tokens=pl.Series(rng.integers(50, 500, len(number))),
        tokens_from=pl.lit("usage"),
        latency_s=pl.Series(10 * rng.random(len(number))),
        mean_logprob=pl.Series(-rng.random(len(number))),
        provenance=pl.lit("simulated"),
        status=pl.lit("ok"),
    )
    scores = responses.select(
        *key,
        grader=pl.lit("numeric"),
        grader_version=pl.lit(1, pl.Int32),
        score=pl.Series(rng.integers(0, 2, len(number)).astype(float)),
        answer=pl.Series(rng.integers(0, 20, len(number))).cast(pl.String),
    )
    queries = pl.DataFrame({"number": np.arange(count)}).select(
        query_id=pl.format("bench/{}", pl.col("number").cast(pl.String).str.zfill(7)),
        dataset=pl.lit("bench"),
        split=pl.when(pl.col("number") % 10 < 7).then(pl.lit("train")).otherwise(pl.lit("test")),
        domain=pl.format("domain-{}", pl.col("number") % 4),
        messages=pl.lit("[]"),
        question=pl.format("What is {} plus one?", "number"),
        grader=pl.lit("numeric"),
    )
    models = pl.DataFrame({"number": np.arange(MODELS)}).select(
        model_id=pl.format("model-{}", "number"), provider=pl.lit("bench")
    )
    cards = models.with_row_index().select(
        "model_id",
        valid_from=pl.lit(date(2020, 1, 1)),
        input_usd_per_mtok=0.5 + pl.col("index"),
        output_usd_per_mtok=1.5 + pl.col("index"),
        source=pl.lit("bench"),
    )
    return Tables(queries, models, cards, responses, scores)


def _texts(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    letters = np.array(list("eeeeeetttttaaaaooooiiiinnnnsssshhhrrrddllucmfwygpbvk"))
    words = ["".join(rng.choice(letters, size)) for size in rng.integers(2, 11, 1_000)]
    phrases = pl.Series([" ".join(rng.choice(words, 7)) for _ in range(PHRASES)])
    parts = [phrases.gather(rng.integers(0, PHRASES, rows)).alias(str(part)) for part in range(PHRASES_A_TEXT)]
    return pl.DataFrame(parts).select(text=pl.concat_str(pl.all(), separator=". "))


def _ingest(tables: Tables, repeats: int, folder: Path) -> Rounds:
    """From the first row to the closed file, each way. Leaves `store.duckdb` behind."""
    ways: dict[str, Callable[[Path], tuple[float, float]]] = {
        "plain": lambda path: _by_duckdb(tables, path, ordered=True),
        "store": lambda path: _by_store(tables, path),
        "unordered": lambda path: _by_duckdb(tables, path, ordered=False),
    }
    rounds = Rounds()
    for _ in range(repeats):
        for name, way in ways.items():
            path = folder / f"{name}.duckdb"
            path.unlink(missing_ok=True)
            rounds.add(name, *way(path))
            if name != "store":
                path.unlink()
    return rounds


def _by_store(tables: Tables, path: Path) -> tuple[float, float]:
    with ResponseStore(path, write=True) as store:
        for name in ("queries", "models", "price_cards"):
            store.append(name, getattr(tables, name))
        begun = _clocks()
        with store.transaction():
            store.append("responses", tables.responses)
            store.append("scores", tables.scores)
    return _since(begun)


def _by_duckdb(tables: Tables, path: Path, ordered: bool) -> tuple[float, float]:
    """INSERT … SELECT into tables of the same columns, with no key, no check, no id and nothing counted."""
    with duckdb.connect(str(path)) as con:
        con.execute("SET enable_progress_bar = false")
        con.execute(f"SET preserve_insertion_order = {ordered}")
        for name in ("responses", "scores"):
            con.register(f"new_{name}", getattr(tables, name).to_arrow())
            con.execute(f"CREATE TABLE {name} AS SELECT * FROM new_{name} LIMIT 0")
        begun = _clocks()
        con.execute("BEGIN")
        for name in ("responses", "scores"):
            con.execute(f"INSERT INTO {name} SELECT * FROM new_{name}")
        con.execute("COMMIT")
    return _since(begun)


def _replay(path: Path, repeats: int) -> tuple[float, Rounds]:
    """Seconds of a load that has to compute the content hash, and the rounds of those that follow."""
    begun = _clocks()
    arrays = load_arrays(path)
    first, _ = _since(begun)
    for name, plain in by_plain_sql(path, SAME_SQL).items():
        if name != "answer" and not np.array_equal(plain, arrays[name][:, :, 0]):
            raise AssertionError(f"the reference computes another {name}: the ratio would mean nothing")
    ways: dict[str, Callable[[], object]] = {
        "load": lambda: load_arrays(path),
        "same": lambda: by_plain_sql(path, SAME_SQL),
        "core": lambda: by_plain_sql(path, CORE_SQL),
    }
    rounds = Rounds()
    for _ in range(2 * repeats + 1):
        for name, way in ways.items():
            begun = _clocks()
            way()
            rounds.add(name, *_since(begun))
    return first, rounds


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(begun: tuple[float, float]) -> tuple[float, float]:
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def _peak(path: Path, folder: Path) -> float:
    """The peak of a load in a fresh process, which has loaded a tiny store before, over the size of its arrays.

    The content hash is not at hand there: the texts are read, as in a first load.
    """
    tiny = folder / "tiny.duckdb"
    tiny.unlink(missing_ok=True)
    _by_store(make_tables(10 * MODELS), tiny)
    path.with_name(path.name + ".hash").unlink(missing_ok=True)
    code = "import sys; from xrouter_sim.bench.store import print_peak; print_peak(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny), str(path)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def print_peak(tiny: str, path: str) -> None:
    """Print (highest resident memory while loading `path` − resident memory before) / size of its arrays."""
    load_arrays(tiny)
    before = _memory("VmRSS")
    arrays = [array for array in load_arrays(path).values() if isinstance(array, np.ndarray)]
    print((_memory("VmHWM") - before) / sum(array.nbytes for array in arrays))


def _memory(what: str) -> int:
    """Bytes, from Linux; `resource` would count in what the parent process had."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what + ":"))
    return int(line.split()[1]) * 1024
