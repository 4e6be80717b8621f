"""`xrouter-sim bounds`: what any router could win on a store at best, and how much of it is luck."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xrouter_sim.cli.options import DB, JSON, costs_options, stated_costs

if TYPE_CHECKING:
    from xrouter_sim.bounds import Bound, Dice
    from xrouter_sim.evaluation.statistics import Figure


@click.command("bounds")
@DB
@click.option("--split", default="test", show_default=True, help="The queries to bound: test, train or all.")
@click.option(
    "--penalty",
    "-p",
    type=click.FloatRange(min=0),
    metavar="λ",
    help="Cost penalty. 0 is the lexicographic objective: the best score, then the least cost. [default: 1, and 0 "
    "where costs are left out]",
)
@click.option(
    "--unit", type=click.FloatRange(min=0, min_open=True), help="Unit of cost in USD. [default: as in training]"
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap.")
@costs_options
@JSON
def bounds(
    db: Path,
    split: str,
    penalty: float | None,
    unit: float | None,
    seed: int,
    accuracy_only: bool,
    nominal_cost: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show what a router could win at best: one line for each thing it might know.

    The reward is score · (1 − λ · cost / unit), at least 0; the unit is the 95th percentile of the dearest arm's cost
    on the training queries. Nobody knows what these bounds know: they say what is left to win, and whether it would
    take knowing the query better, looking at answers, or luck. How each is defined: docs/bounds.md.

    \b
    Examples:
      xrouter-sim bounds --db data/responses.duckdb
      xrouter-sim bounds --db data/responses.duckdb --split all --penalty 0.5 --json
      xrouter-sim bounds --db data/routerdc.duckdb --accuracy-only
    """
    import numpy as np

    from xrouter_sim.bounds import Cells, all_bounds, dice, verified_cascade, weitzman, zero_router
    from xrouter_sim.evaluation.statistics import Bootstrap, figure
    from xrouter_sim.replay import Replay, cost_unit

    costs = stated_costs(accuracy_only, nominal_cost)
    penalty = _penalty(penalty, unit, accuracy_only)
    replay = Replay.load(db, costs)
    queries = np.arange(len(replay.query_ids)) if split == "all" else replay.indices(split)
    fitted_on = replay.indices("train") if "train" in replay.splits else np.arange(len(replay.query_ids))
    unit = unit or cost_unit(replay, fitted_on)
    cells, found = Cells.of(replay, queries), all_bounds(replay, queries, penalty, unit)
    sampled, fixed = Bootstrap(len(queries), seed=seed), found["best fixed"]

    def figures(bound: "Bound") -> dict[str, Any]:
        gain = figure(sampled.means(bound.reward - fixed.reward))
        return _figures(bound, gain, figure(sampled.means(bound.reward)), replay.priced)

    hull, tables = zero_router(cells), dice(cells, penalty, unit)
    facts = {
        "db": str(db),
        "content_hash": replay.store["content_hash"],
        "costs": costs.facts(),
        "split": split,
        "queries": len(queries),
        "arms": replay.arms,
        "penalty": penalty,
        "cost_unit_usd": unit if replay.priced else None,
        "samples": int(cells.mask.sum(axis=2).max()),
        "bounds": {b.name: figures(b) for b in (*found.values(), verified_cascade(cells, penalty, unit))},
        "weitzman_additive_reward": float(weitzman(cells, penalty, unit).reward.mean()),
        "zero_router": {"cost_usd": hull.cost_usd.tolist() if replay.priced else None, "score": hull.score.tolist()},
        "best_fixed_arm": _arm(replay.arm_names, fixed),
        "dice": [_dice(table) for table in tables],
    }
    click.echo(json.dumps(facts, ensure_ascii=False) if as_json else "\n".join(_lines(facts)))


def _penalty(penalty: float | None, unit: float | None, accuracy_only: bool) -> float:
    """λ as asked for, or its default. Raises LabError where there are no costs that it could weigh."""
    from responses_db import LabError

    if accuracy_only and (penalty or unit):
        raise LabError("--accuracy-only leaves costs out, so --penalty and --unit have nothing to weigh")
    return (0.0 if accuracy_only else 1.0) if penalty is None else penalty


def _arm(names: list[str], fixed: "Bound") -> str | None:
    """The arm that a fixed policy calls; None where it calls nothing."""
    return names[fixed.arm[0]] if fixed.arm is not None and fixed.arm[0] >= 0 else None


def _figures(bound: "Bound", gain: "Figure", reward: "Figure", priced: bool) -> dict[str, Any]:
    return {
        "knows": bound.knows,
        "score": float(bound.score.mean()),
        "cost_usd": float(bound.cost_usd.mean()) if priced else None,
        "reward": reward.to_json(),
        "floor": float(bound.floor.mean()),
        "exact_share": float(bound.exact.mean()),
        "over_best_fixed": gain.to_json(),
    }


def _dice(table: "Dice") -> dict[str, Any]:
    names = ("domain", "queries", "fixed", "observed", "by_luck", "kept")
    return {name: getattr(table, name) for name in names}


def _lines(facts: dict[str, Any]) -> list[str]:
    """The table, and what it says in words."""
    from xrouter_sim.costs import cost_words

    head = ["", "accuracy", "USD/1k", f"R(λ={facts['penalty']:g})", "over best fixed", "knows"]
    lines = [head, *(_line(name, row) for name, row in facts["bounds"].items())]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    aligned = [
        [cell.rjust(w) if 0 < i < 4 else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    ]
    unit = "costs left out" if facts["cost_unit_usd"] is None else f"cost unit {facts['cost_unit_usd']:g} USD"
    return [
        f"{facts['db']}: {facts['queries']:,} queries ({facts['split']}), {facts['arms']} arms, "
        f"{unit}, content hash {facts['content_hash'][:12]}",
        *([cost_words(facts["costs"])] if cost_words(facts["costs"]) else []),
        "",
        *("  ".join(line).rstrip() for line in aligned),
        "",
        "USD/1k: cost of 1,000 queries. over best fixed: mean difference in reward with its paired 95% interval.",
        *_words(facts),
    ]


def _line(name: str, row: dict[str, Any]) -> list[str]:
    from xrouter_sim.evaluation.statistics import signed

    gain = row["over_best_fixed"]
    interval = f"{signed(gain['value'])} [{signed(gain['low'])}, {signed(gain['high'])}]"
    reward, mark = row["reward"]["value"], "" if row["exact_share"] == 1 else "≤ "
    cost = "–" if row["cost_usd"] is None else f"{1000 * row['cost_usd']:.3f}"
    figures = [f"{row['score']:.4f}", cost, f"{mark}{reward:.4f}"]
    return [name, *figures, interval if name != "best fixed" else "", row["knows"]]


def _words(facts: dict[str, Any]) -> list[str]:
    rows, tables = facts["bounds"], facts["dice"]
    found = [f"best fixed: {facts['best_fixed_arm'] or 'call nothing'}."]
    if facts["samples"] == 1:
        found.append("One answer a cell: who knows its chance knows the answer, so the first four lines are one.")
    search = rows["informed sequential"]
    if search["exact_share"] < 1:
        found.append(
            f"informed sequential: the optimum is known on {search['exact_share']:.0%} of the queries and bounded on "
            f"the others; a known policy reaches {search['floor']:.4f}, and accuracy and cost are that policy's."
        )
    found.append(
        "If calls in vain were paid for too (Pandora's box), the sequential optimum would be "
        f"{facts['weitzman_additive_reward']:.4f}."
    )
    beaten = sum(table["by_luck"] >= table["observed"] for table in tables)
    found.append(
        f"Luck: models with these accuracies that throw dice would give an oracle as much or more in {beaten} of "
        f"{len(tables)} domains. There, what it has over the domain's best model is no evidence of skill."
    )
    return found
