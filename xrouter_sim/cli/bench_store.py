"""`xrouter-sim bench store`: how quick the store is, next to plain DuckDB."""

from pathlib import Path

import click

from xrouter_sim.cli.bench import bench_group, print_figures
from xrouter_sim.cli.options import JSON


@bench_group.command("store")
@click.option("--rows", type=click.IntRange(min=1000), default=1_000_000, show_default=True, help="Responses.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Rounds; the median counts.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Where the files go meanwhile  [default: /tmp]")
@JSON
def bench_store(rows: int, repeats: int, folder: Path | None, as_json: bool) -> None:
    """Measure ingest and replay of made-up responses of about 550 characters, with grades.

    \b
    ingest_vs_duckdb    rows a second, over those of DuckDB's own INSERT … SELECT from the same Arrow data into tables
                        of the same columns with no key, check, id or count; both until the file is closed. Aim: ≥ 0.5
    replay_vs_sql       time of a load, over that of the plainest SQL that fills the same arrays. Aim: ≤ 5
    replay_peak_ratio   peak memory of a first load in a fresh process, over the size of its arrays, which count in.
                        Aim: ≤ 3, at a million; with few rows DuckDB's own needs of some 50 MB are most of it

    Beside them: ingest_vs_duckdb_unordered against DuckDB's INSERT with preserve_insertion_order off, as the store sets
    it; replay_vs_score_and_cost_sql against SQL that fills these two arrays only; replay_first_s, of a load that has to
    compute the content hash as well. …_cpu: the ratio of CPU times, for a machine that is busy with other things.

    \b
    Examples:
      xrouter-sim bench store --json
      xrouter-sim bench store --rows 100000
    """
    from tempfile import TemporaryDirectory

    from xrouter_sim.bench.store import bench

    with TemporaryDirectory(prefix="xrouter-sim-bench-", dir=folder) as scratch:
        print_figures(bench(rows, repeats, Path(scratch)), as_json)
