"""`xrouter-sim bench serve`: what serving costs beside a direct call and a bare proxy, and if its books are right."""

import json
from pathlib import Path

import click

from xrouter_sim.cli.bench import bench_group, print_figures
from xrouter_sim.cli.options import JSON


@bench_group.command("serve")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--db", type=click.Path(path_type=Path), help="The store of the training, where it has moved.")
@click.option("--requests", type=click.IntRange(min=100), default=500, show_default=True, metavar="N")
@click.option("--concurrency", type=click.IntRange(min=1), default=32, show_default=True, metavar="N")
@click.option("--storm", type=click.IntRange(min=1), default=2000, show_default=True, metavar="N")
@JSON
def bench_serve(run: Path, db: Path | None, requests: int, concurrency: int, storm: int, as_json: bool) -> None:
    """Serve RUN over a provider on loopback, and compare with asking that provider directly and by a bare proxy.

    \b
    Figures:
      …_overhead_p50_ms, _p99_ms   over a direct call, one request at a time; new text needs the embedder, known text
                                   does not (where the router reads text at all)
      served_vs_proxy              requests a second over those of a bare FastAPI proxy
      storm_…                      N requests at once, a tenth of the calls faulty: answers, errors, and the books

    \b
    Example:
      xrouter-sim bench serve runs/demo --json
    """
    from responses_db import LabError
    from xrouter_sim.bench.serve import run as measured

    try:
        store = json.loads((run / "manifest.json").read_text())["store"]
        models, styles = store["models"], store["prompt_styles"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabError(f"{run} is no finished run: give the folder of `xrouter-sim train`") from error
    print_figures(measured(run, db, requests, concurrency, storm, models, styles), as_json)
