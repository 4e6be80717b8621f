"""Bad input, bad disks and bad moments: one clear line, an exit code, and a store that still has what it had."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest
from click.testing import CliRunner

from responses_db import ResponseStore
from xrouter_sim.cli import main

PROGRAM = [sys.executable, "-c", "from xrouter_sim.cli import main; main()"]


@pytest.fixture
def db(tiny_store: Path, tmp_path: Path) -> Path:
    """A copy of the tiny store, which has 240 responses committed."""
    return Path(shutil.copy(tiny_store, tmp_path / "store.duckdb"))


def refused(*args: object) -> str:
    """Run a command that must fail in one line for the user. Returns that line."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    return one_line(result.exit_code, result.stdout, result.stderr)


def one_line(code: int, stdout: str, stderr: str) -> str:
    assert code == 1, stderr
    assert stdout == ""
    assert stderr.startswith("Error: ")
    assert stderr.endswith("\n")
    assert stderr.count("\n") == 1
    return stderr.strip()


def run_program(*args: object, limit_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    command = [*PROGRAM, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, timeout=120, check=False)


def responses(db: Path) -> int:
    with ResponseStore(db) as store:
        return int(store.frame("SELECT count(*) FROM responses").item())


class TestTidyFile:
    """A faulty file is refused whole: nothing of it is written, and no store is made for it."""

    @staticmethod
    def refused(path: Path, db: Path) -> str:
        new = db.with_name("new.duckdb")
        line = refused("import", "tidy", path, "--db", new)
        assert not new.exists()
        assert refused("import", "tidy", path, "--db", db) == line
        assert responses(db) == 240
        assert str(path) in line
        return line

    def test_missing(self, tmp_path: Path, db: Path) -> None:
        assert "no such file; give a Parquet or CSV file" in self.refused(tmp_path / "none.parquet", db)

    def test_cut_short(self, tiny_parquet: Path, tmp_path: Path, db: Path) -> None:
        path = tmp_path / "cut.parquet"
        path.write_bytes(tiny_parquet.read_bytes()[:3000])
        assert "damaged or cut-short Parquet, fetch it again" in self.refused(path, db)

    def test_damaged_in_the_middle(self, tiny_parquet: Path, tmp_path: Path, db: Path) -> None:
        path = tmp_path / "damaged.parquet"
        content = bytearray(tiny_parquet.read_bytes())
        content[200:1200] = bytes(1000)
        path.write_bytes(content)
        assert "damaged or cut-short Parquet, fetch it again" in self.refused(path, db)

    def test_not_parquet_at_all(self, tmp_path: Path, db: Path) -> None:
        path = tmp_path / "page.parquet"
        path.write_text("<html>404</html>")
        assert "is no Parquet file" in self.refused(path, db)

    def test_empty_csv(self, tmp_path: Path, db: Path) -> None:
        path = tmp_path / "empty.csv"
        path.touch()
        assert "the file is empty" in self.refused(path, db)

    def test_ragged_csv(self, tiny_rows: pl.DataFrame, tmp_path: Path, db: Path) -> None:
        path = tmp_path / "ragged.csv"
        path.write_text(tiny_rows.write_csv() + "one,two,three,4,5,6,7,8,9,10,11,12,13,14,15\n")
        assert "not readable as CSV" in self.refused(path, db)

    def test_a_word_where_csv_wants_a_number(self, tiny_rows: pl.DataFrame, tmp_path: Path, db: Path) -> None:
        path = tmp_path / "words.csv"
        tiny_rows.with_columns(score=pl.Series(["1"] * 239 + ["good"])).write_csv(path)
        assert "column score, row 240: found 'good', wanted a number" in self.refused(path, db)

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            (pl.lit("high").alias("score"), "column score holds String, wanted number (Float64): convert it"),
            (pl.lit(7).alias("query_id"), "column query_id holds Int"),
            (pl.lit([1]).alias("cost_usd"), "column cost_usd holds List(Int"),
            (pl.lit(0.5).alias("prompt_tokens"), "column prompt_tokens, row 1: found 0.5, wanted a whole number"),
            (pl.lit(1.5).alias("score"), "column score: 240 rows outside 0 to 1"),
            (pl.lit(-0.1).alias("score"), "outside 0 to 1: rescale the scores (first: row 1, -0.1)"),
            (pl.lit(None, pl.Float64).alias("score"), "240 rows without a score: grade or leave out these rows"),
            (pl.lit(float("nan")).alias("score"), "240 rows without a score"),
            (pl.lit(-1.0).alias("cost_usd"), "240 rows no cost: USD ≥ 0, or null if unknown (first: row 1, -1.0)"),
            (pl.lit(float("inf")).alias("cost_usd"), "no cost: USD ≥ 0"),
            (pl.lit(-1).alias("completion_tokens"), "below zero"),
            (pl.lit("dev").alias("split"), "column split: 240 rows unknown: it is one of train, validation, test"),
            (pl.lit("guessed").alias("provenance"), "column provenance: 240 rows unknown"),
            (pl.lit("").alias("model"), "column model: 240 rows without a value"),
            (pl.lit(None, pl.String).alias("query"), "column query: 240 rows without a value"),
            (pl.lit("same").alias("model"), "60 duplicate keys, first: tiny/q00 × same; tiny/q01 × same; tiny/q02"),
            (pl.concat_str("query", "model").alias("query"), "60 queries have more than one query, first tiny/q00"),
            (pl.col("model").alias("domain"), "60 queries have more than one domain"),
            (pl.col("model").replace({"small": "train", "medium": "test"}).alias("split"), "column split: 120 rows"),
        ],
    )
    def test_faulty_rows(self, tiny_rows: pl.DataFrame, tmp_path: Path, db: Path, fault: pl.Expr, message: str) -> None:
        path = tmp_path / "faulty.parquet"
        tiny_rows.with_columns(fault).write_parquet(path)
        assert message in self.refused(path, db)

    def test_missing_columns(self, tiny_rows: pl.DataFrame, tmp_path: Path, db: Path) -> None:
        path = tmp_path / "narrow.parquet"
        tiny_rows.drop("score", "cost_usd").write_parquet(path)
        assert "no column score, cost_usd; the tidy form needs dataset, split" in self.refused(path, db)

    def test_no_rows(self, tiny_rows: pl.DataFrame, tmp_path: Path, db: Path) -> None:
        path = tmp_path / "none.parquet"
        tiny_rows.clear().write_parquet(path)
        assert "the file has no rows" in self.refused(path, db)

    def test_a_row_that_contradicts_the_store(self, tiny_rows: pl.DataFrame, tmp_path: Path, db: Path) -> None:
        path = tmp_path / "other.parquet"
        tiny_rows.with_columns(cost_usd=pl.col("cost_usd") * 2).write_parquet(path)
        line = refused("import", "tidy", path, "--db", db)
        assert "nothing was imported: 240 rows are there already with another reported_cost_usd" in line
        assert responses(db) == 240


def test_an_unknown_model_in_a_price_file(tmp_path: Path, db: Path) -> None:
    path = tmp_path / "prices.toml"
    card = "valid_from = 2025-01-01\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 1\nsource = 's'"
    path.write_text(f"[[price]]\nmodel = 'mediun'\n{card}")
    line = refused("import", "prices", path, "--db", db)
    assert f"{path}: model mediun is not in {db}; the nearest are medium" in line
    assert "no store at" in refused("import", "prices", path, "--db", tmp_path / "new.duckdb")
    assert not (tmp_path / "new.duckdb").exists()


class TestPlace:
    """The store's path is wrong, or its folder cannot be written to."""

    @pytest.fixture
    def read_only_folder(self, tmp_path: Path) -> Iterator[Path]:
        folder = tmp_path / "read-only"
        folder.mkdir(mode=0o555)
        if not os.access(folder, os.W_OK):
            yield folder
        elif os.path.ismount("/sys"):  # nothing keeps root out of a folder, but the kernel's own tree does
            yield Path("/sys")
        else:
            pytest.skip("this user may write everywhere")

    @pytest.mark.parametrize("below", ["store.duckdb", "new/folder/store.duckdb"])
    def test_read_only_folder(self, tiny_parquet: Path, read_only_folder: Path, below: str) -> None:
        line = refused("import", "tidy", tiny_parquet, "--db", read_only_folder / below)
        assert f"cannot open {read_only_folder / below}: check that its folder exists, may be written to" in line

    def test_a_folder(self, tiny_parquet: Path, tmp_path: Path) -> None:
        assert f"{tmp_path} is " in refused("import", "tidy", tiny_parquet, "--db", tmp_path)

    @pytest.mark.parametrize("command", [["store", "info"], ["import", "tidy", "PARQUET"]])
    def test_not_a_database(self, tiny_parquet: Path, tmp_path: Path, command: list[str]) -> None:
        path = tmp_path / "notes.duckdb"
        path.write_text("notes\n" * 1000)
        line = refused(*(tiny_parquet if arg == "PARQUET" else arg for arg in command), "--db", path)
        assert f"{path} is no DuckDB file of this version: give another --db, or move the file away" in line
        assert path.read_text() == "notes\n" * 1000

    def test_a_database_of_something_else(self, tiny_parquet: Path, tmp_path: Path) -> None:
        path = tmp_path / "other.duckdb"
        with duckdb.connect(str(path)) as con:
            con.execute("CREATE TABLE mine (i INTEGER)")
        assert "is a DuckDB file but no store" in refused("import", "tidy", tiny_parquet, "--db", path)

    def test_a_store_of_a_newer_program(self, db: Path) -> None:
        with ResponseStore(db, write=True) as store:
            store.con.execute("INSERT INTO migrations VALUES (99, now())")
        assert "schema version 99, newer than this program: upgrade" in refused("store", "info", "--db", db)

    def test_a_damaged_store(self, db: Path) -> None:
        content = bytearray(db.read_bytes())
        content[12_288:] = os.urandom(len(content) - 12_288)
        db.write_bytes(content)
        assert str(db) in refused("store", "info", "--db", db)


@pytest.fixture
def more(tiny_rows: pl.DataFrame, tmp_path: Path) -> Path:
    """A file of 24,000 more responses with texts, about 10 MB in a store."""
    rows = pl.concat(
        tiny_rows.with_columns(
            query_id=pl.format(f"{number}-{{}}", "query_id"), response=pl.format("{}" * 50, *50 * ["query_id"])
        )
        for number in range(100)
    )
    path = tmp_path / "more.parquet"
    rows.write_parquet(path)
    return path


class TestFullDisk:
    @pytest.mark.parametrize("spare_bytes", [0, 2_000_000])
    def test_what_was_committed_is_kept(self, more: Path, db: Path, spare_bytes: int) -> None:
        done = run_program("import", "tidy", more, "--db", db, limit_bytes=db.stat().st_size + spare_bytes)
        line = one_line(done.returncode, done.stdout, done.stderr)
        assert f"{db}: disk trouble; what was committed is kept: free some space and run again" in line
        assert responses(db) == 240
        assert run_program("import", "tidy", more, "--db", db).returncode == 0  # the cure works
        assert responses(db) == 24_240

    @pytest.mark.parametrize("limit_bytes", [4096, 20_000])
    def test_a_store_that_could_not_be_made_does_not_stand_in_the_way(
        self, tiny_parquet: Path, tmp_path: Path, limit_bytes: int
    ) -> None:
        db = tmp_path / "new.duckdb"
        done = run_program("import", "tidy", tiny_parquet, "--db", db, limit_bytes=limit_bytes)
        assert "space" in one_line(done.returncode, done.stdout, done.stderr)
        assert run_program("import", "tidy", tiny_parquet, "--db", db).returncode == 0
        assert responses(db) == 240

    def test_on_a_real_file_system_without_space(self, more: Path, db: Path, tmp_path: Path) -> None:
        small = tmp_path / "small"
        small.mkdir()
        size = f"size={db.stat().st_size + 500_000}"
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", small], capture_output=True, check=False)
        if mounted.returncode:
            pytest.skip("may not mount a small file system here")
        try:
            store = Path(shutil.copy(db, small))
            assert "disk trouble; what was committed is kept" in refused("import", "tidy", more, "--db", store)
            assert responses(store) == 240
        finally:
            subprocess.run(["umount", "-l", small], check=True)

    def test_output_that_cannot_be_written(self, db: Path) -> None:
        with Path("/dev/full").open("w") as full:
            command = [*PROGRAM, "store", "info", "--db", str(db)]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert "No space left on device" in one_line(done.returncode, "", done.stderr)


class TestOtherProcesses:
    @pytest.fixture
    def holder(self, db: Path) -> Iterator[Callable[[bool], int]]:
        """Starts a process that holds the store, for writing or for reading. Returns its PID."""
        script = (
            "import sys; from responses_db import ResponseStore as S\nwith S(sys.argv[1], write=sys.argv[2] == 'True'):"
        )
        script += "\n    print('held', flush=True); sys.stdin.read()"
        started: list[subprocess.Popen[str]] = []

        def start(write: bool) -> int:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            process = subprocess.Popen([sys.executable, "-c", script, str(db), str(write)], **pipes)
            started.append(process)
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            return process.pid

        yield start
        for process in started:
            process.communicate()

    def test_a_second_writer(self, tiny_parquet: Path, db: Path, holder: Callable[[bool], int]) -> None:
        pid = holder(True)
        line = refused("import", "tidy", tiny_parquet, "--db", db)
        assert line == f"Error: {db} is in use by another process (PID {pid}): wait for it to end, or give another --db"

    def test_a_reader_while_somebody_writes(self, db: Path, holder: Callable[[bool], int]) -> None:
        pid = holder(True)
        assert f"{db} is in use by another process (PID {pid})" in refused("store", "info", "--db", db)

    def test_a_writer_while_somebody_reads(self, tiny_parquet: Path, db: Path, holder: Callable[[bool], int]) -> None:
        pid = holder(False)
        assert f"(PID {pid}): wait for it to end" in refused("import", "tidy", tiny_parquet, "--db", db)
        assert responses(db) == 240  # another reader is welcome


class TestInterruption:
    def test_ctrl_c_during_an_import_leaves_what_was_committed(self, more: Path, db: Path) -> None:
        command = [*PROGRAM, "import", "tidy", str(more), "--db", str(db)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not held_open(process.pid, db) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 130
        assert (stdout, stderr) == ("", "\ninterrupted: what was committed is kept\n")
        assert responses(db) == 240

    def test_a_closed_pipe_is_no_error(self, db: Path) -> None:
        command = [*PROGRAM, "store", "info", "--db", str(db)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
        process.wait()


def held_open(pid: int, path: Path) -> bool:
    """Whether the process has the file open (as far as /proc tells)."""
    try:
        return any(link.resolve() == path.resolve() for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
