"""`xrouter-sim harvest`: ask models for answers and keep them in the store."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from responses_db.errors import LabError
from xrouter_sim.cli.options import DB, JSON

if TYPE_CHECKING:
    from responses_db.harvest_config import HarvestConfig
    from responses_db.harvester import Harvested
    from responses_db.recorder import Tally


@click.command(short_help="Ask models many queries once, and keep the graded answers.")
@click.argument("config", type=click.Path(path_type=Path))
@DB
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help="Folder that keeps every raw response.  [default: `cache` beside the store]",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N queries: for a quick trial.")
@click.option("--concurrency", type=click.IntRange(min=1), metavar="N", help="Calls at a time, for every provider.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    metavar="USD",
    help="The most that all answers of CONFIG in this store may cost; over `budget_usd` in CONFIG.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be asked and what it would cost.")
@JSON
@click.option("--quiet", is_flag=True, help="No progress bar.")
def harvest(
    config: Path,
    db: Path,
    cache: Path | None,
    limit: int | None,
    concurrency: int | None,
    budget: float | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Ask models the queries of CONFIG and keep what they answer, graded and priced.

    CONFIG is a TOML file with [[tasks]] (where queries come from), [prompt_styles] (system prompts) and [[providers]]
    (who is asked). experiments/harvest/demo.toml needs no network and no keys: its models are simulated, and their rows
    say so. experiments/harvest/live.example.toml shows a table for each common kind of endpoint; a key is read from the
    environment variable that the config names, and written nowhere.

    Only answers that the store lacks are asked for: run it again after a stop, a crash or failed calls. Ctrl-C lets
    calls under way finish. What was answered once is in the cache and never asked again, even if the store is deleted.

    A budget is a hard cap over any number of runs: the most that a call can cost (max_tokens at list price) is set
    aside before it is sent. Simulated models count at their list price.

    \b
    Examples:
      xrouter-sim harvest experiments/harvest/demo.toml --db data/responses.duckdb
      xrouter-sim harvest experiments/harvest/demo.toml --db data/trial.duckdb --limit 20
      xrouter-sim harvest experiments/harvest/demo.toml --db data/trial.duckdb --limit 20 --dry-run
      xrouter-sim harvest live.toml --db data/live.duckdb --budget 25
    """
    from responses_db.harvest_config import read_config
    from responses_db.harvester import harvest as fill

    _say("drawing the queries …", quiet or as_json)
    settings = read_config(config)
    if budget is not None:
        settings = replace(settings, budget_usd=budget)
    for provider in settings.providers:
        provider.concurrency = concurrency or provider.concurrency
    cache = cache or db.parent / "cache"
    if dry_run:
        return _plan(settings, db, cache, limit, as_json)
    with _Bar(hidden=quiet) as bar:
        done = fill(settings, db, cache, limit, bar.advance)
    click.echo(json.dumps(_facts(done)) if as_json else _words(done, settings, db))
    _end(done)


class _Bar:
    """A progress bar on stderr: cells filled, rate, time left, spend so far. It appears with the first answers."""

    def __init__(self, hidden: bool) -> None:
        from tqdm import tqdm

        self._tqdm = tqdm(unit=" answers", disable=hidden, mininterval=0.5, smoothing=0.1, leave=False, delay=0.1)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._tqdm.close()

    def advance(self, filled: int, missing: int, tally: "Tally") -> None:
        unpriced = f" + {tally.unpriced} unpriced" if tally.unpriced else ""
        failed = f", {tally.failed} failed" if tally.failed else ""
        self._tqdm.total = missing
        self._tqdm.set_postfix_str(f"${tally.cost_usd:.2f}{unpriced}{failed}", refresh=False)
        self._tqdm.update(filled)


def _say(text: str, hidden: bool) -> None:
    if not hidden:
        click.echo(text, err=True)


def _plan(config: "HarvestConfig", db: Path, cache: Path, limit: int | None, as_json: bool) -> None:
    """Print what would be asked, by model."""
    from responses_db.harvest_plan import plan

    plans = plan(config, db, cache, limit)
    if as_json:
        click.echo(json.dumps({"budget_usd": config.budget_usd, "models": [vars(own) for own in plans]}))
        return
    width = max(len(own.model_id) for own in plans)
    heads = "".join(f" {head:>9}" for head in ("cells", "stored", "cached", "to ask"))
    click.echo(f"{'model':{width}}{heads} {'likely':>11} {'at most':>11}")
    for own in plans:
        counts = f"{own.cells:9,} {own.stored:9,} {own.cached:9,} {own.to_ask:9,}"
        click.echo(f"{own.model_id:{width}} {counts} {_usd(own.likely_usd):>11} {_usd(own.at_most_usd):>11}")
    click.echo(f"{sum(own.to_ask for own in plans):,} calls; nothing was asked. {_plan_total(config, plans)}")
    click.echo(
        "likely: input at 4 characters a token, answers as long as those that the store has (? without any). at most: "
        "a token a byte, answers as long as max_tokens allows"
    )


def _plan_total(config: "HarvestConfig", plans: list[Any]) -> str:
    most = [own.at_most_usd for own in plans]
    if None in most:
        unpriced = [own.model_id for own in plans if own.at_most_usd is None]
        return f"No price: {', '.join(unpriced)}."
    total = f"At most {_usd(sum(most))}"
    return f"{total}; the budget is ${config.budget_usd:,.2f}." if config.budget_usd is not None else f"{total}."


def _usd(usd: float | None) -> str:
    return "?" if usd is None else f"${usd:,.4f}" if usd < 1 else f"${usd:,.2f}"


def _facts(done: "Harvested") -> dict[str, Any]:
    tally = done.tally
    return {
        "missing": done.missing,
        "asked": done.asked,
        "cached": done.cached,
        "stored": tally.stored,
        "failed": tally.failed,
        "truncated": tally.truncated,
        "refused": tally.refused,
        "left": done.left,
        "damaged": done.damaged,
        "regraded": done.regraded.graded,
        "ungraded": done.grading.ungraded + done.regraded.ungraded,
        "cost_usd": round(tally.cost_usd, 6),
        "unpriced": tally.unpriced,
        "estimated": tally.estimated,
        "spent_usd": done.spent_usd,
        "lost_usd": done.lost_usd,
        "seconds": round(done.seconds, 2),
        "stopped": done.stopped,
        "budget_reached": done.budget_reached,
        "given_up": done.given_up,
        "content_hash": done.content_hash,
    }


def _words(done: "Harvested", config: "HarvestConfig", db: Path) -> str:
    regraded = [f"graded {done.regraded.graded:,} answers that had no grade"] if done.regraded.graded else []
    if not done.missing:
        nothing = f"nothing new: {db} has every answer of this config already (content hash {done.content_hash[:12]})"
        return "\n".join([*regraded, nothing])
    tally = done.tally
    lines = [
        *regraded,
        f"{db}: {tally.answered:,} answers stored, {done.asked - tally.failed:,} asked for and {done.cached:,} from "
        f"the cache, in {done.seconds:.0f} s; {tally.truncated:,} truncated, {tally.refused:,} refused, "
        f"{tally.failed:,} failed",
        f"cost at list price: ${tally.cost_usd:,.2f}"
        + (f", and {tally.unpriced:,} unpriced" if tally.unpriced else "")
        + (f" ({tally.estimated:,} with tokens estimated: the endpoint counts none)" if tally.estimated else ""),
        f"content hash {done.content_hash[:12]}",
        *_notices(done),
    ]
    simulated = [p for p in config.providers if p.provenance == "simulated"]
    if simulated:
        models = sum(len(provider.models) for provider in simulated)
        lines.append(
            f"the answers of {models} models are SIMULATED (provenance 'simulated'): calibrated to published accuracy "
            "and cost, but no real model was asked and nothing was spent"
        )
    if done.stopped:
        lines.append("stopped before the end; run the same command again to go on")
    elif tally.failed:
        lines.append(f"{tally.failed:,} calls failed, first {tally.first_failure}; the same command asks them again")
    return "\n".join(lines)


def _notices(done: "Harvested") -> list[str]:
    """What the user should know of the cache and of the budget."""
    lines = []
    if done.damaged:
        lines.append(f"{done.damaged:,} cached answers were not as they had been written, and were asked for again")
    if done.budget_reached:
        lines.append(f"{done.budget_reached}; {done.left:,} cells are left: go on with a larger --budget")
    return lines


def _end(done: "Harvested") -> None:
    """The exit status: 130 when stopped, 1 when an endpoint died, nothing was answered or something has no grade."""
    ungraded = done.grading.ungraded + done.regraded.ungraded
    if ungraded:
        first = done.grading.first_error or done.regraded.first_error
        raise LabError(f"{ungraded} answers could not be graded, first {first}; mend the grader and run this again")
    if done.stopped:
        raise SystemExit(130)
    if done.given_up:
        raise LabError(
            f"{done.given_up[0]}; {done.left:,} cells are left: see to the endpoint and run the same command again"
        )
    if done.tally.failed and not done.tally.answered:
        raise LabError(f"no call was answered, first failure {done.tally.first_failure}")
