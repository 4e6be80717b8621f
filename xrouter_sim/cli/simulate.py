"""`xrouter-sim simulate` and `xrouter-sim trace`: play a router in a simulated world, and read what happened."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from xrouter_sim.cli.options import DB, JSON, costs_options, stated_costs

if TYPE_CHECKING:
    from xrouter_sim.engine.trace import EpisodeTrace

TRACED = 100
SHOWN = 3


@click.command("simulate", short_help="Play a router in a simulated world, and trace what happens.")
@click.argument("router")
@DB
@click.option("--run", type=click.Path(path_type=Path), help="Folder of a trained rl router.")
@click.option(
    "--profile",
    default="calm",
    show_default=True,
    metavar="NAME|FILE|A+B",
    help="The world: a built-in profile, a TOML file, or several, later ones laid over earlier ones.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Fixes every random draw.")
@click.option(
    "--penalty",
    "-p",
    type=click.FloatRange(min=0),
    metavar="λ",
    help="Cost penalty. [default: 1, and 0 where costs are left out]",
)
@click.option("--split", default="test", show_default=True, help="The queries to play.")
@click.option("--episodes", type=click.IntRange(min=1), metavar="N", help="[default: one for each query]")
@click.option("--trace", type=click.Path(path_type=Path), metavar="OUT.jsonl", help="Write what happens to this file.")
@click.option(
    "--trace-first",
    type=click.IntRange(min=1),
    default=TRACED,
    show_default=True,
    metavar="N",
    help="Trace the first N episodes.",
)
@click.option("--trace-all", is_flag=True, help="Trace all of them.")
@click.option(
    "--backend",
    type=click.Choice(["numpy", "torch"]),
    default="numpy",
    show_default=True,
    help="What the engine computes with. No outcome depends on it.",
)
@costs_options
@click.option("--quiet", is_flag=True, help="No progress.")
@JSON
def simulate(
    router: str,
    db: Path,
    run: Path | None,
    profile: str,
    seed: int,
    penalty: float | None,
    split: str,
    episodes: int | None,
    trace: Path | None,
    trace_first: int,
    trace_all: bool,
    backend: str,
    accuracy_only: bool,
    nominal_cost: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> None:
    """Fit ROUTER on a store's training queries and play it in a simulated world.

    ROUTER is table, knn, cascade, always:MODEL or any other that `train` knows; rl with the folder of its training as
    --run. The world is a profile: calm (as recorded), prices, failures, realistic, stormy, training, or your own file;
    `realistic+mine.toml` lays mine.toml over realistic. How a world works: docs/engine.md.

    With --trace every turn, call and attempt is written down, one episode a line; read it with `xrouter-sim trace
    show`. Calls go through in virtual time: nothing is asked and nothing spent.

    \b
    Examples:
      xrouter-sim simulate cascade --profile stormy --trace out.jsonl
      xrouter-sim simulate rl --run runs/demo --profile realistic --penalty 0.5
      xrouter-sim simulate table --profile failures+mine.toml --episodes 5000 --json
    """
    from xrouter_sim.engine.trace import check_folder, write_traces
    from xrouter_sim.simulation import Setting
    from xrouter_sim.simulation import simulate as played

    if trace is not None:
        check_folder(trace)
    most = 0 if trace is None else (2**62 if trace_all else trace_first)
    costs = stated_costs(accuracy_only, nominal_cost)
    penalty = (0.0 if accuracy_only else 1.0) if penalty is None else penalty
    setting = Setting(router, db, run, profile, seed, penalty, split, episodes, backend, most, costs)
    done = played(setting, _sayer(quiet or as_json))
    figures = done.figures
    if trace is not None:
        write_traces(done.traces, trace)
        figures |= {"trace": str(trace), "traced": len(done.traces)}
    click.echo(json.dumps(figures, ensure_ascii=False) if as_json else "\n".join(_summary(figures)))


@click.group("trace")
def trace_group() -> None:
    """Read what happened in simulated and live episodes."""


@trace_group.command("show", short_help="Print episodes as a person reads them.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--episode", type=int, metavar="KEY", help="The episode of this number.")
@click.option("--query", metavar="ID", help="Episodes of this query.")
@click.option(
    "--only",
    type=click.Choice(["failed", "escalated", "wrong", "unanswered"]),
    multiple=True,
    help="Where an attempt failed; that called in several turns; that earned nothing; that ended without an answer. "
    "Several: all must hold.",
)
@click.option(
    "--most", type=click.IntRange(min=0), default=SHOWN, show_default=True, metavar="N", help="Show N; 0: all."
)
@click.option("--json", "as_json", is_flag=True, help="Print the episodes' own JSON, one a line.")
def show(path: Path, episode: int | None, query: str | None, only: tuple[str, ...], most: int, as_json: bool) -> None:
    """Print the episodes of PATH, a file that `xrouter-sim simulate --trace` wrote.

    Each with its pool at today's prices, its calls on a time line (█ a good attempt, ▒ a failed one, · a wait) and its
    verdict. Calls that ran in parallel are bracketed; ✓ and ✗ say which answers were right, which no router saw.

    \b
    Examples:
      xrouter-sim trace show out.jsonl
      xrouter-sim trace show out.jsonl --only failed --only wrong --most 10
      xrouter-sim trace show out.jsonl --episode 17
    """
    from responses_db import LabError
    from xrouter_sim.cli.trace_text import episode_lines
    from xrouter_sim.engine.trace import read_traces

    width, shown, found = min(shutil.get_terminal_size((100, 24)).columns, 120), 0, 0
    for trace in read_traces(path):
        if not _fits(trace, episode, query, only):
            continue
        found += 1
        if most and shown >= most:
            continue
        shown += 1
        text = trace.to_json() if as_json else "\n".join(["", *episode_lines(trace, width)][shown == 1 :])
        click.echo(text)
    if not found:
        raise LabError(f"{path}: no episode is like that; `xrouter-sim trace show {path}` shows the first ones")
    if shown < found and not as_json:
        click.echo(f"\n{found - shown:,} more; --most 0 shows all", err=True)


def _fits(trace: "EpisodeTrace", episode: int | None, query: str | None, only: tuple[str, ...]) -> bool:
    kinds: dict[str, Callable[[], bool]] = {
        "failed": lambda: any(attempt.outcome != "ok" for call in trace.calls for attempt in call.attempts),
        "escalated": lambda: sum(bool(turn.calls) for turn in trace.turns) > 1,
        "wrong": lambda: trace.end.score is not None and trace.end.score <= 0,
        "unanswered": lambda: trace.end.slot is None,
    }
    asked_for = (episode is None or trace.episode == episode) and (query is None or trace.query_id == query)
    return asked_for and all(kinds[kind]() for kind in only)


def _sayer(silent: bool) -> Callable[[str], None]:
    return lambda line: None if silent else click.echo(line, err=True)


def _summary(figures: dict[str, Any]) -> list[str]:
    from xrouter_sim.evaluation.words import provenance_words

    many = f"{figures['episodes']:,} episodes on {figures['queries']:,} {figures['split']} queries of {figures['db']}"
    rows = {
        "accuracy": _interval(figures["accuracy"], 4),
        "cost": _interval(figures["usd_per_1k"], 3) + "  USD for 1,000 episodes" if figures["usd_per_1k"] else "–",
        "reward": f"{_interval(figures['reward'], 4)}  at λ = {figures['penalty']:g}",
        "time": _time(figures),
        "calls": f"{_interval(figures['calls_per_episode'], 2)}  an episode ({_mix(figures['episodes_by_calls'])} with "
        f"that many); {figures['escalated']:.1%} escalate",
        "outcomes": f"{_mix(figures['calls_by_outcome'])} of the calls; {figures['calls_tried_again']:.1%} were tried "
        f"again, {figures['calls_from_cache']:.1%} came from the cache",
        "endings": f"{_mix(figures['endings'])}; {figures['unanswered']:.1%} without an answer",
        "answered by": _mix(figures["answered_by"], most=6),
    }
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    lines = [
        click.style(f"{figures['router']} under {figures['profile']}, seed {figures['seed']}", bold=True),
        *wrap(f"{many}. {provenance_words({'store': figures})}", width, break_long_words=False),
        "",
        *(line for name, value in rows.items() for line in _wrapped(f"{name:<13}{value}", width)),
    ]
    if "trace" in figures:
        lines += ["", f"{figures['traced']:,} episodes traced; next: xrouter-sim trace show {figures['trace']}"]
    return lines


def _wrapped(line: str, width: int) -> list[str]:
    return wrap(line, width, subsequent_indent=" " * 13, break_long_words=False, break_on_hyphens=False)


def _interval(value: dict[str, float], digits: int) -> str:
    return f"{value['value']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def _time(figures: dict[str, Any]) -> str:
    seconds = figures["seconds"]
    said = f"median {seconds['median']:.1f} s, 90% {seconds['p90']:.1f}, 99% {seconds['p99']:.1f}, most "
    said += f"{seconds['most']:.1f} of virtual time"
    if not figures["latency_known"]:
        said += "; only waits and errors: the store knows no latencies"
    return said


def _mix(shares: dict[str, float], most: int = 12) -> str:
    named = [f"{name.replace('_', ' ')} {share:.1%}" for name, share in list(shares.items())[:most]]
    rest = 1.0 - sum(list(shares.values())[:most])
    return ", ".join([*named, *([f"others {rest:.1%}"] if len(shares) > most else [])]) or "none"
