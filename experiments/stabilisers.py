"""What does GRPO add to a weak warm start, and what does each of its stabilisers do for it?

    python experiments/stabilisers.py --db data/responses.duckdb --out runs/stabilisers

Warm-starts `tiny` on a quarter of the usual demonstrations, then trains it by GRPO from that same start with all
stabilisers, and with each one taken away. What it should show: GRPO earns clearly more than the weak start, since there
is much to mend (from the usual start there is little); and what each stabiliser is worth, with paired intervals. One
seed, on held-out queries at λ = 1.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl

from xrouter_sim.evaluation.statistics import Bootstrap, figure
from xrouter_sim.llm.config import LLMConfig
from xrouter_sim.llm.run import NAME, LLMTask, run

VARIANTS: dict[str, dict[str, Any]] = {
    "all": {},
    "no entropy target": {"entropy_target": 0.0},
    "silent groups drawn again": {"dynamic": False},
    "hard queries at once": {"easy_first": False},
    "all worlds hard": {"worlds": ("prices",)},
    "no format reward": {"format_weight": 0.0},
    "scaled by group": {"scale": "group"},
}


def rewards(folder: Path) -> np.ndarray:
    """Of the run's own router, a query each, in the order of their names."""
    decisions = pl.read_parquet(folder / "decisions.parquet").filter(pl.col("router") == NAME)
    return decisions.sort("query_id")["reward"].to_numpy()


@click.command(help=__doc__)
@click.option("--db", type=click.Path(path_type=Path), default=Path("data/responses.duckdb"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/stabilisers"), show_default=True)
@click.option("--traces", default=1200, show_default=True, help="Demonstrations of the weak start.")
@click.option("--steps", default=30, show_default=True, help="GRPO steps.")
@click.option("--test-queries", default=0, show_default=True, help="0: all.")
@click.option("--variant", "chosen", multiple=True, type=click.Choice(list(VARIANTS)), help="Only these; repeat it.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    db: Path, out: Path, traces: int, steps: int, test_queries: int, chosen: tuple[str, ...], seed: int, as_json: bool
) -> None:
    usual = LLMConfig(seed=seed, traces=traces, steps=0, settings=(1.0,), test_queries=test_queries)
    start = out / "start"
    _run(db, start, usual)
    found: dict[str, Any] = {}
    earned = {"start": rewards(start)}
    for name, changes in VARIANTS.items():
        if chosen and name not in chosen:
            continue
        folder = out / name.replace(" ", "-")
        going_on = replace(usual, base=str(start / "router"), traces=0, steps=steps, lora=False, **changes)
        found[name] = _run(db, folder, going_on)
        earned[name] = rewards(folder)
    bootstrap = Bootstrap(len(earned["start"]))
    rows = {
        name: {
            "reward": float(values.mean()),
            "over_start": figure(bootstrap.means(values - earned["start"])).to_json(),
            "over_all": figure(bootstrap.means(values - earned["all"])).to_json() if "all" in earned else None,
            "behaviour": found[name]["by_penalty"]["1"] if name in found else None,
        }
        for name, values in earned.items()
    }
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    click.echo("reward at λ = 1 on held-out queries; paired 95% intervals")
    for name, row in rows.items():
        click.echo(f"{name:<26} {row['reward']:.3f}   over start {_said(row['over_start'])}", nl=False)
        click.echo(f"   over all {_said(row['over_all'])}" if row["over_all"] else "")


def _said(row: Any) -> str:
    return f"{row['value']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"


def _run(db: Path, folder: Path, config: LLMConfig) -> dict[str, Any]:
    """A run that is there is not made again."""
    if (folder / "metrics.json").is_file():
        done: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
        return done
    click.echo(f"— {folder.name}", err=True)
    return run(LLMTask(db, folder, config, say=lambda line: click.echo(line, err=True)))


if __name__ == "__main__":
    main()
