"""`xrouter-sim compare`: one run's router against another's, in pairs, and the queries that moved."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xrouter_sim.cli.options import JSON
from xrouter_sim.cli.report import REPLICATES, SEED
from xrouter_sim.cli.store_text import table_of

if TYPE_CHECKING:
    from xrouter_sim.evaluation.moved import Comparison, Moved
    from xrouter_sim.evaluation.statistics import Figure


@click.command()
@click.argument("run_a", type=click.Path(path_type=Path))
@click.argument("run_b", type=click.Path(path_type=Path))
@click.option("--router-a", metavar="ROUTER", help="Of RUN_A, take this router.  [default: the trained one]")
@click.option("--router-b", metavar="ROUTER", help="Of RUN_B, take this router.  [default: the trained one]")
@click.option(
    "--at",
    type=float,
    metavar="λ",
    help="Cost penalty at which accuracy, cost and queries are compared.  [default: the common one nearest to 1]",
)
@click.option("--show", type=click.IntRange(min=0), default=5, show_default=True, help="Moved queries a side.")
@REPLICATES
@SEED
@JSON
def compare(
    run_a: Path,
    run_b: Path,
    router_a: str | None,
    router_b: str | None,
    at: float | None,
    show: int,
    replicates: int,
    seed: int,
    as_json: bool,
) -> None:
    """Compare two runs in pairs: the difference A − B with its 95% interval, and the queries that moved.

    Both runs replay one store, so every query is met twice in the same world. Queries are resampled, both routers
    together: what a hard query does to both cancels out, and the interval is that of the difference itself. An interval
    that leaves out 0 is a difference that this many queries can show; one that holds 0 is not proof that there is none.

    \b
      accuracy, cost   at λ (--at)
      reward           score · (1 − min(λ · cost / cost unit, 1)), each at its own λ
      AIQ              mean height of the cost–quality hull, over the whole dial
      moved            queries with another score (better) or, at equal score, another cost (cheaper);
                       listed by the gap in reward, with what each router did

    Two routers of one run are compared by naming it twice.

    \b
    Examples:
      xrouter-sim compare runs/demo runs/knn
      xrouter-sim compare runs/demo runs/demo --router-b cascade --at 2
      xrouter-sim compare runs/new runs/old --show 20
      xrouter-sim compare runs/demo runs/knn --json > difference.json
    """
    from xrouter_sim.evaluation.moved import compare_runs
    from xrouter_sim.evaluation.runs import load_run
    from xrouter_sim.evaluation.summary import as_json as plain
    from xrouter_sim.evaluation.words import provenance_words

    a, b = load_run(run_a), load_run(run_b)
    found = compare_runs(a, b, routers=(router_a, router_b), at=at, show=show, replicates=replicates, seed=seed)
    provenance = provenance_words(a.manifest)
    if as_json:
        facts = plain(found) | {"provenance": provenance, "confidence": 0.95, "replicates": replicates, "seed": seed}
        click.echo(json.dumps(facts, ensure_ascii=False, allow_nan=False))
        return
    click.echo("\n".join([*_heading(found), provenance, "", *_table(found), *_domains(found), *_moves(found)]))


def _heading(found: "Comparison") -> list[str]:
    sides = [
        f"{letter}: {side.router} of {side.run}" + (f" (mean of {side.seeds} seeds)" if side.seeds > 1 else "")
        for letter, side in (("A", found.a), ("B", found.b))
    ]
    return [*sides, f"{found.queries:,} queries that both routed", *(f"note: {line}" for line in found.notes)]


def _table(found: "Comparison") -> list[str]:
    """Every figure of both sides and their difference, and what the reward at λ came to in a sentence."""
    from xrouter_sim.evaluation.statistics import verdict

    sides, at = (found.a.headline, found.b.headline, found.difference), f"λ={found.at:g}"
    rows = [
        _row(f"accuracy, {at}", [side.accuracy for side in sides]),
        _row(f"USD/1k, {at}", [side.cost_per_1000_usd for side in sides]),
        *(_row(f"reward, λ={lam:g}", [side.reward[lam] for side in sides]) for lam in found.difference.reward),
        _row("AIQ", [side.aiq for side in sides]),
    ]
    reward = found.difference.reward[found.at]
    said = verdict(f"A ({found.a.router})", f"reward at {at}", f"B ({found.b.router})", reward)
    return [*table_of([["", "A", "B", "A − B  [95%]"], *rows]), "", f"{said}."]


def _domains(found: "Comparison") -> list[str]:
    if len(found.domains) < 2:
        return []
    head = ["A − B by domain", "queries", "accuracy", f"reward, λ={found.at:g}"]
    rows = [[part.domain, f"{part.queries:,}", _apart(part.accuracy), _apart(part.reward)] for part in found.domains]
    return ["", *table_of([head, *rows])]


def _moves(found: "Comparison") -> list[str]:
    counts = (
        f"at λ={found.at:g} A is better on {found.better_a:,} queries and B on {found.better_b:,}; at equal score A is "
        f"cheaper on {found.cheaper_a:,} and B on {found.cheaper_b:,}; {found.same:,} came out the same"
    )
    won = [("A", found.won_by_a), ("B", found.won_by_b)]
    return ["", counts, *(line for letter, rows in won for line in _listed(letter, rows))]


def _listed(letter: str, rows: "list[Moved]") -> list[str]:
    lines = ["", f"{letter} earns more, the widest gaps:"] if rows else []
    for row in rows:
        lines.append(f"  {row.query_id} ({row.domain})")
        lines.append(f"    A  {_came_to(row.score_a, row.cost_usd_a, row.reward_a)}  {row.did_a}")
        lines.append(f"    B  {_came_to(row.score_b, row.cost_usd_b, row.reward_b)}  {row.did_b}")
    return lines


def _came_to(score: float, cost: float | None, reward: float) -> str:
    from xrouter_sim.evaluation.words import money

    return f"score {score:.2f}  {money(cost):>9}  reward {reward:.3f}"


def _row(name: str, figures: "Sequence[Figure]") -> list[str]:
    *sides, apart = figures
    return [name, *("–" if side.value is None else f"{side.value:.3f}" for side in sides), _apart(apart)]


def _apart(figure: "Figure") -> str:
    from xrouter_sim.evaluation.statistics import signed

    if figure.value is None:
        return "–"
    return f"{signed(figure.value)} [{signed(figure.low)}, {signed(figure.high)}]"
