"""`xrouter-sim evaluate` and `xrouter-sim report`: a run's figures in the terminal, and as one page."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from xrouter_sim.evaluation.runs import Run
    from xrouter_sim.evaluation.summary import RunSummary

RUNS = click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
REFERENCE = click.option(
    "--reference", metavar="ROUTER", help="Compare the others with this router. [default: the trained router]"
)
AT = click.option(
    "--at",
    type=float,
    metavar="λ",
    help="Cost penalty of the figures that need one: accuracy, cost, behaviours. [default: the setting nearest to 1]",
)
REPLICATES = click.option(
    "--replicates",
    type=click.IntRange(min=100),
    default=1000,
    show_default=True,
    help="Bootstrap samples of the queries.",
)
SEED = click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap.")


@click.command()
@RUNS
@REFERENCE
@AT
@REPLICATES
@SEED
@click.option("--all", "every", is_flag=True, help="List every single model, not only the best ones.")
@click.option(
    "--json", "as_json", is_flag=True, help='Print one JSON object; every figure is {"value", "low", "high"}.'
)
def evaluate(
    runs: tuple[Path, ...],
    reference: str | None,
    at: float | None,
    replicates: int,
    seed: int,
    every: bool,
    as_json: bool,
) -> None:
    """Compare the routers of one run or of several, with 95% intervals.

    RUN is a folder that `xrouter-sim train` or `xrouter-sim bench routers` wrote. Figures are computed from its
    decisions.parquet: one row a (router, seed, setting λ, query). Queries are resampled, all routers together, so
    differences are paired. RUNs on the same queries of the same store make one table: all routers in it, seeds of one
    router averaged, their spread beside the interval and never in it. Other RUNs get a table of their own.

    \b
      accuracy  mean score at the setting λ (--at)
      reward    score · (1 − min(λ · cost / cost unit, 1)), each at its own setting
      AIQ       mean height of the router's cost–quality hull between the mean costs of the
                cheapest and the dearest single model
      Δ         the reference router minus this one, in reward at --at
      bounds    what a router that knew more than any can would earn, and the regret to it;
                from the store where it is at hand, else from the single models' decisions

    Every table has the best single model, cheapest, random, table, knn and oracle, or says that the run lacks one.

    \b
    Examples:
      xrouter-sim evaluate runs/demo
      xrouter-sim evaluate runs/bench/* --reference rl
      xrouter-sim evaluate runs/demo --reference knn --at 2
      xrouter-sim evaluate runs/a runs/b --json > figures.json
    """
    from xrouter_sim.evaluation.joining import joined
    from xrouter_sim.evaluation.runs import load_run
    from xrouter_sim.evaluation.summary import summarise

    loaded = joined([load_run(path) for path in _folders(runs)])
    found = [summarise(run, reference=reference, at=at, replicates=replicates, seed=seed) for run in loaded]
    if as_json:
        click.echo(json.dumps(_json(loaded, found, replicates, seed), ensure_ascii=False, allow_nan=False))
        return
    for run, summary in zip(loaded, found, strict=True):
        _print_run(run, summary, every)
    for line in _between(loaded, found, replicates, seed):
        click.echo(line)


@click.command(short_help="Write a self-contained page on one or several runs.")
@RUNS
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the page here, e.g. report.html.")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save the cost–quality picture of the first table's routers here, as .svg or .png.",
)
@REFERENCE
@AT
@REPLICATES
@SEED
def report(
    runs: tuple[Path, ...],
    out: Path | None,
    picture: Path | None,
    reference: str | None,
    at: float | None,
    replicates: int,
    seed: int,
) -> None:
    """Write a page on one or several runs: verdicts, pictures, tables with 95% intervals, the manifest.

    The page is one file that fetches nothing, so it can be mailed or archived. RUN is a folder that
    `xrouter-sim train` wrote; RUNs on the same queries of the same store share a section, others get their own.

    \b
    Examples:
      xrouter-sim report runs/demo --out report.html
      xrouter-sim report runs/a runs/b --out both.html --at 2
      xrouter-sim report runs/demo --picture docs/frontier.svg
    """
    if out is None and picture is None:
        raise click.UsageError("nothing to write: give --out report.html, --picture frontier.svg, or both")
    from xrouter_sim.evaluation.report import save_picture, write_report

    folders = _folders(runs)
    if out is not None:
        write_report(folders, out, reference=reference, at=at, replicates=replicates, seed=seed)
        click.echo(f"wrote {out}")
    if picture is not None:
        save_picture(folders, picture, reference=reference, at=at)
        click.echo(f"wrote {picture}")


def _json(runs: list["Run"], summaries: list["RunSummary"], replicates: int, seed: int) -> dict[str, Any]:
    from xrouter_sim.evaluation.robustness import robustness
    from xrouter_sim.evaluation.summary import as_json
    from xrouter_sim.evaluation.words import provenance_words, verdicts

    found = []
    for run, summary in zip(runs, summaries, strict=True):
        store = run.manifest["store"]
        found.append(
            as_json(summary)
            | {
                "provenance": {"counts": store.get("provenance"), "words": provenance_words(run.manifest)},
                "store": {key: store.get(key) for key in ("path", "content_hash")},
                "joined": run.manifest.get("joined", []),
                "verdicts": verdicts(summary),
                "robustness": as_json(robustness(run, at=summary.at, replicates=replicates, seed=seed)),
            }
        )
    between = _between(runs, summaries, replicates, seed)
    return {"confidence": 0.95, "replicates": replicates, "seed": seed, "runs": found, "between_runs": between}


def _between(runs: list["Run"], summaries: list["RunSummary"], replicates: int, seed: int) -> list[str]:
    from xrouter_sim.evaluation.words import between_runs

    return between_runs(runs, summaries[0].at, replicates, seed)


def _print_run(run: "Run", summary: "RunSummary", every: bool) -> None:
    from xrouter_sim.cli import evaluate_text as text
    from xrouter_sim.evaluation.words import provenance_words, verdicts

    seeds = "1 seed" if summary.seeds == 1 else f"{summary.seeds} seeds"
    unit = f"cost unit {run.cost_unit:g} USD" if run.priced else "costs left out"
    click.echo(f"{summary.name}: {summary.queries:,} test queries, {seeds}, {unit}")
    click.echo(provenance_words(run.manifest) + "\n")
    click.echo(text.comparison(summary, every))
    click.echo(
        f"\nRouters by reward at λ={summary.at:g}; acc and USD/1k (cost of 1,000 queries) at λ={summary.at:g}. "
        "± is half of the 95% interval (--json has both ends).\n"
        f"Δ: {text.printable(summary.reference)} minus the router in reward at λ={summary.at:g}, paired, with its 95% "
        "interval."
    )
    if any(row.seeds > 1 for row in summary.routers):
        click.echo(
            "Figures are means over seeds, intervals are of the queries; seed sd: how far seeds differ in reward at "
            f"λ={summary.at:g}."
        )
    click.echo()
    for line in verdicts(summary):
        click.echo(f"- {line}")
    click.echo()
    bounds = text.left_to_win(summary)
    click.echo(f"{bounds}\nBounds {summary.bounds_note}.\n" if bounds else f"{summary.bounds_note.capitalize()}.\n")
    click.echo(text.field(summary, every) + "\n")


def _folders(runs: tuple[Path, ...]) -> list[Path]:
    """The folders among several paths; what a wildcard caught besides is named on stderr and left out."""
    files = [path for path in runs if path.is_file()] if len(runs) > 1 else []
    for path in files:
        click.echo(f"leaving out {path}: a file, not a run's folder", err=True)
    return [path for path in runs if path not in files] or list(runs)
