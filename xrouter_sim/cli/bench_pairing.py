"""`xrouter-sim bench pairing`: what common random numbers are worth."""

from pathlib import Path

import click

from xrouter_sim.cli.bench import bench_group, print_figures
from xrouter_sim.cli.options import DB, JSON


@bench_group.command("pairing")
@click.argument("routers", nargs=2)
@DB
@click.option("--run", type=click.Path(path_type=Path), help="Folder of a trained rl router, where one of them is rl.")
@click.option("--profile", default="stormy", show_default=True, metavar="NAME|FILE|A+B", help="The world.")
@click.option("--split", default="test", show_default=True, help="The queries.")
@click.option("--penalty", "-p", type=click.FloatRange(min=0), default=1.0, show_default=True, metavar="λ")
@click.option("--trials", type=click.IntRange(min=10), default=200, show_default=True, help="Worlds to play in.")
@JSON
def bench_pairing(
    routers: tuple[str, str],
    db: Path,
    run: Path | None,
    profile: str,
    split: str,
    penalty: float,
    trials: int,
    as_json: bool,
) -> None:
    """Compare the variance of a paired comparison of two ROUTERS with that of an unpaired one.

    \b
    paired_vs_unpaired          the variance of the difference in mean reward when both meet the same queries and
                                worlds, over that when each meets its own. Aim: ≤ 1/3
    paired_vs_unpaired_worlds   the same with the queries given, and only worlds drawn

    Each with a 95% interval over resampled trials. docs/engine.md has figures.

    \b
    Examples:
      xrouter-sim bench pairing table cascade --profile stormy
      xrouter-sim bench pairing table knn --profile failures --trials 50 --json
    """
    from xrouter_sim.bench.pairing import bench

    print_figures(bench(routers, db, run, profile, split, penalty, trials), as_json)
