"""`xrouter-sim store run-code`: evidence from running the code that models returned."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xrouter_sim.cli.options import DB, JSON
from xrouter_sim.cli.store import store_group

if TYPE_CHECKING:
    from xrouter_sim.evidence.code import Case, Ran


@store_group.command("run-code", short_help="Run returned code in a sandbox: who behaves alike?")
@DB
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help="Folder that keeps what programs returned.  [default: `cache/code` beside the store]",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Sandboxes at a time."
)
@JSON
@click.option("--quiet", is_flag=True, help="No progress bar.")
def store_run_code(db: Path, cache: Path | None, jobs: int, as_json: bool, quiet: bool) -> None:
    """Run the Python functions that responses returned, so that routers know which of them behave alike.

    Each different program runs once, in a sandbox of its own, on inputs that are the same for all (by the number of
    its arguments) and on the examples that stand in the question and in the responses to it. Kept is a hash of what
    it returned, by the hash of its code: run the command again after a harvest, and only new programs run. Programs
    that agree are often right: on RouterBench's MBPP (train), agreement tells right from wrong with an AUC of .78
    to .80, where the model's name alone has .65. No hidden test and no grade is read, and nothing in the store changes.

    The sandbox is that of the grader `code` (bubblewrap, on Linux): no network, no files, 2 s of CPU time. About ten
    programs a second and core. Ctrl-C keeps what was done, and the same command goes on.

    \b
    Examples:
      xrouter-sim store run-code
      xrouter-sim store run-code --db data/routerbench.duckdb --jobs 2
      xrouter-sim store run-code --json --quiet
    """
    from time import perf_counter

    from tqdm import tqdm

    from xrouter_sim.evidence.code import cache_beside, run_missing

    start = perf_counter()
    cases = _cases(db)
    folder = cache or cache_beside(db)
    with tqdm(unit=" programs", desc="running", disable=quiet, leave=False, delay=2) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        done = run_missing(cases, folder, jobs, progress)
    facts = _facts(cases, done) | {"seconds": perf_counter() - start, "cache": str(folder)}
    if as_json:
        click.echo(json.dumps(facts))
        return
    click.echo(
        f"{facts['responses']:,} different responses to {facts['queries']:,} queries; {facts['with_code']:,} hold "
        f"code, {facts['with_program']:,} define a function: {done.programs:,} different programs"
    )
    click.echo(f"{done.ran:,} ran in {facts['seconds']:.1f} s, the rest was known; kept in {folder}")


def _cases(db: Path) -> "list[Case]":
    from responses_db import ResponseStore
    from xrouter_sim.evidence.code import Case

    sql = r"""
    SELECT any_value(question) AS question, list(DISTINCT text ORDER BY text) AS texts
    FROM queries JOIN responses USING (query_id) WHERE regexp_matches(text, '\S') GROUP BY query_id ORDER BY query_id
    """
    with ResponseStore(db) as store:
        rows = store.frame(sql).iter_rows()
        return [Case.read(question, texts) for question, texts in rows]


def _facts(cases: "list[Case]", done: "Ran") -> dict[str, object]:
    returned = [one for case in cases for one in case.returned]
    return {
        "queries": len(cases),
        "responses": len(returned),
        "with_code": sum(one.has_code for one in returned),
        "with_program": sum(one.program is not None for one in returned),
        "programs": done.programs,
        "ran": done.ran,
    }
