"""Can a language model learn to switch after a bad answer, and to call in parallel? And does it pay?

    python experiments/behaviours.py --out runs/behaviours

xRouter (arXiv 2510.08439, section 5) reports that neither would come. Here is a store made so that both pay, all of it
SIMULATED, in a world of two turns (`two-turns.toml`):

* `facts`: a cheap model knows 60% of them and mostly says so where it does not; a dear one knows 95%. Best: ask the
  cheap one, read, and ask the dear one where it gave up.
* `sums`: three middling models are right on 72% each, independently, and err each in its own way; the dear one is right
  on 60%. Best: ask all three at once, and vote. Two turns leave no room for asking them one after the other.

Trains `tiny` with both tools, without either and without both, on demonstrations that show what the tools allow, and
GRPO after it. What it should show: at least 15% of episodes switch and at least 10% call in parallel, and taking either
tool away costs reward.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl

from responses_db import ResponseStore
from responses_db.importers import check, land, tidy
from xrouter_sim.evaluation.statistics import Bootstrap, figure
from xrouter_sim.llm.config import LLMConfig
from xrouter_sim.llm.run import NAME, LLMTask, run
from xrouter_sim.llm.teacher import Shares

USD = {"sim-cheap": 0.001, "sim-a": 0.003, "sim-b": 0.003, "sim-c": 0.003, "sim-dear": 0.025, "sim-vast": 0.1}
"""What a call costs; the dearest sets the unit of cost, and is no better than the dear one."""

RIGHT = {
    "facts": {"sim-cheap": 0.6, "sim-a": 0.3, "sim-b": 0.3, "sim-c": 0.3, "sim-dear": 0.95, "sim-vast": 0.95},
    "sums": {"sim-cheap": 0.2, "sim-a": 0.72, "sim-b": 0.72, "sim-c": 0.72, "sim-dear": 0.6, "sim-vast": 0.6},
}
ADMITS = {"facts": 0.9, "sums": 0.0}
"""How often a wrong answer says that it is none."""

GAVE_UP = "I am sorry, but I do not know that, and I would rather not guess."
WORLD = Path(__file__).parent / "two-turns.toml"

VARIANTS = {
    "both": {},
    "no switching": {"switch": False, "shares": Shares(0.5, 0.0, 0.5)},
    "no parallel calls": {"parallel": False, "shares": Shares(0.5, 0.5, 0.0)},
    "neither": {"switch": False, "parallel": False, "shares": Shares(1.0, 0.0, 0.0)},
}


def rows(queries: int, samples: int, seed: int) -> pl.DataFrame:
    """Tidy rows: half of the queries are facts, half sums; every fourth is a test query."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(queries):
        domain = "facts" if number % 2 else "sums"
        one, other = (int(value) for value in rng.integers(100, 900, 2))
        asked = (
            f"What is {one} + {other}?" if domain == "sums" else f"In which year was town number {one}{other} founded?"
        )
        gold = one + other if domain == "sums" else int(rng.integers(1000, 1900))
        for model, usd in USD.items():
            for sample in range(samples):
                right = rng.random() < RIGHT[domain][model]
                told = gold if right else gold + int(rng.choice([-1, 1])) * int(rng.integers(1, 90))
                admits = not right and rng.random() < ADMITS[domain]
                made.append(
                    {
                        "dataset": "behaviours",
                        "split": "test" if number % 4 > 1 else "train",
                        "domain": domain,
                        "query_id": f"{domain}-{number:05}",
                        "query": asked,
                        "model": model,
                        "response": GAVE_UP if admits else f"The answer is {told}",
                        "score": float(right),
                        "prompt_tokens": 12,
                        "completion_tokens": 12,
                        "cost_usd": usd * float(rng.uniform(0.9, 1.1)),
                        "reference": str(gold),
                        "sample_index": sample,
                        "provenance": "simulated",
                        "latency_s": float(rng.uniform(0.5, 2.0)),
                    }
                )
    return pl.DataFrame(made)


def made_store(folder: Path, queries: int, seed: int) -> Path:
    """The store as a file; made once."""
    path, file = folder / "behaviours.duckdb", folder / "behaviours.parquet"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    rows(queries, 2, seed).write_parquet(file)
    read = tidy.read(file)
    check(read, str(file))
    with ResponseStore(path, write=True) as store:
        land(read, store, {"form": "tidy", "path": file})
    return path


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/behaviours"), show_default=True)
@click.option("--queries", default=1600, show_default=True, help="Half of them are test queries.")
@click.option("--traces", default=2400, show_default=True, help="Demonstrations.")
@click.option("--steps", default=30, show_default=True, help="GRPO steps.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(out: Path, queries: int, traces: int, steps: int, seed: int, as_json: bool) -> None:
    store = made_store(out, queries, seed)
    usual = LLMConfig(
        seed=seed,
        traces=traces,
        steps=steps,
        worlds=(str(WORLD),),
        test_world=str(WORLD),
        penalties=(1.0,),
        settings=(1.0,),
        knowledge=0.0,
        shares=Shares(0.2, 0.4, 0.4),
        test_queries=400,
    )
    found: dict[str, Any] = {}
    rewards: dict[str, Any] = {}
    for name, changes in VARIANTS.items():
        folder = out / name.replace(" ", "-")
        click.echo(f"— {name}", err=True)
        task = LLMTask(store, folder, replace(usual, **changes), say=lambda line: click.echo(line, err=True))
        found[name] = run(task)
        decisions = pl.read_parquet(folder / "decisions.parquet").filter(pl.col("router") == NAME)
        rewards[name] = decisions.sort("query_id")["reward"].to_numpy()
    bootstrap = Bootstrap(len(rewards["both"]))
    costs = {name: figure(bootstrap.means(rewards["both"] - earned)).to_json() for name, earned in rewards.items()}
    if as_json:
        click.echo(json.dumps({"runs": found, "both_over": costs}, ensure_ascii=False))
        return
    click.echo("all answers SIMULATED; reward at λ = 1, and what both tools earn more, paired 95% interval")
    for name, metrics in found.items():
        stage, more = metrics["by_penalty"]["1"], costs[name]
        click.echo(
            f"{name:<18} reward {stage['reward']:.3f}   switched {stage['switched']:.0%}   "
            f"parallel {stage['parallel']:.0%}   {more['value']:+.3f} [{more['low']:+.3f}, {more['high']:+.3f}]"
        )


if __name__ == "__main__":
    main()
