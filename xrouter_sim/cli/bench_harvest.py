"""`xrouter-sim bench harvest` and `bench faults`: how fast the harvester is, and what it loses when all goes wrong."""

import click

from responses_db.errors import LabError
from xrouter_sim.cli.bench import bench_group, print_figures
from xrouter_sim.cli.options import JSON


@bench_group.command("harvest")
@click.option("--calls", type=click.IntRange(min=1), default=10_000, show_default=True, metavar="N")
@click.option("--concurrency", type=click.IntRange(min=1), default=256, show_default=True, metavar="N")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, metavar="N")
@JSON
def bench_harvest(calls: int, concurrency: int, rounds: int, as_json: bool) -> None:
    """Requests a second of a whole harvest, over those of a bare HTTP client.

    Both ask the same N questions of a server on loopback that answers after 50 ms, in turns, in every round: the bare
    client posts and reads, the harvest also checks, caches, grades and stores what it reads.

    \b
    Figures:
      vs_bare_client   the median over the rounds; it should be at least 0.5

    \b
    Example:
      xrouter-sim bench harvest --json
    """
    from xrouter_sim.bench.harvest import run

    print_figures(run(calls, concurrency, rounds), as_json)


@bench_group.command("faults")
@click.option("--calls", type=click.IntRange(min=10), default=10_000, show_default=True, metavar="N")
@click.option("--kills", type=click.IntRange(min=0), default=20, show_default=True, metavar="N")
@click.option("--seed", type=int, default=0, show_default=True, help="Fixes the faults and the moments of the kills.")
@JSON
def bench_faults(calls: int, kills: int, seed: int, as_json: bool) -> None:
    """Whether a harvest loses an answer, pays for one twice or spends too much when everything goes wrong.

    N questions are put to a server on loopback of whose answers 5% are 429 with Retry-After, 5% are 500, 2% are
    malformed, 1% never come and 1% are cut off. The harvest is killed with SIGKILL at random moments, and run again
    each time, first with a budget for less than half of the answers. The server keeps a ledger of what it bills. Exits
    with 1 if one of the figures is not 0. Takes one to two minutes.

    \b
    Figures, all 0 if all is well:
      cells_missing        without a graded answer at the end
      cells_duplicated     rows beyond one a cell
      answers_paid_twice   but for those in flight at a kill, which are counted apart
      overspend_usd        billed beyond the budget in force, the calls in flight at kills included
      files_with_key       files of any kind that hold the key

    \b
    Examples:
      xrouter-sim bench faults --json
      xrouter-sim bench faults --calls 500 --kills 3
    """
    from xrouter_sim.bench.faults import run, whole

    figures = run(calls, kills, seed)
    print_figures(figures, as_json)
    if not whole(figures):
        raise LabError("the trial found a fault: see which figure is not 0")
