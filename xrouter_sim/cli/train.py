"""`xrouter-sim train`: from a store to a run's folder."""

import json
import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from xrouter_sim.cli.options import costs_options, stated_costs
from xrouter_sim.cli.train_llm import train_llm

if TYPE_CHECKING:
    from xrouter_sim.training.rl import Trainer


class OrLLM(click.Command):
    """`train llm` is a command of its own: it has other settings."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args[:1] == ["llm"]:
            return train_llm.make_context(f"{info_name} llm", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(cls=OrLLM, short_help="Train a router on a store and compare it with the baselines.")
@click.argument("router")
@click.option(
    "--db",
    type=click.Path(path_type=Path),
    default=Path("data/responses.duckdb"),
    show_default=True,
    help="The store to replay.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/demo"),
    show_default=True,
    help="The run's folder.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Fixes every random draw.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=4096,
    show_default=True,
    help="Episodes stepped at once. Speed and memory only: results do not depend on it.",
)
@click.option("--updates", type=click.IntRange(min=1), help="Updates of the RL router. [default: 30]")
@click.option("--device", default="cpu", show_default=True, help="Where the RL router is trained: cpu, cuda, …")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out, if there is one.")
@click.option("--overwrite", is_flag=True, help="Start anew even if --out holds an unfinished training.")
@costs_options
@click.option("--quiet", is_flag=True, help="No progress, no table.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest of the run as one JSON object.")
def train(
    router: str,
    db: Path,
    out: Path,
    seed: int,
    batch_size: int,
    updates: int | None,
    device: str,
    resume: bool,
    overwrite: bool,
    accuracy_only: bool,
    nominal_cost: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> None:
    """Train ROUTER on a store's training queries and compare it with the baselines on its test queries.

    ROUTER is rl (reinforcement learning in the simulator), llm (a language model with tools; `xrouter-sim train llm
    --help` has its settings), or a router that is fitted at once: table, knn, cascade,
    always:MODEL, …; a wrong name lists them all. mine.py:Mine is the class Mine in a file of your own
    (docs/extending.md). All of them at once: `xrouter-sim bench routers`. rl:without-agreement is rl that does not look
    at which answers are equal; text, domain, options, code, response and bills can be left out too.

    The folder holds decisions.parquet (every decision of every router), robustness.parquet (the same under changed
    prices and failures), training.parquet (the learning curve) and manifest.json. Ctrl-C stops after the update in
    progress and leaves a checkpoint; --resume goes on from it and ends with the same weights.

    \b
    Examples:
      xrouter-sim train rl --db data/responses.duckdb --out runs/demo
      xrouter-sim train knn --db data/responses.duckdb --out runs/knn --seed 1
      xrouter-sim train knn --db data/routerdc.duckdb --out runs/dc --accuracy-only
      xrouter-sim train knn --db data/mmlu.duckdb --out runs/mmlu --nominal-cost big=1 --nominal-cost small=0.02
    """
    from xrouter_sim.pipeline import Task, run
    from xrouter_sim.training.config import Config

    config = Config(seed=seed, device=device, updates=updates or Config.updates)
    progress = Progress(config.updates, silent=quiet or as_json)
    costs = stated_costs(accuracy_only, nominal_cost)
    task = Task(router, db, out, config, batch_size, resume, overwrite, progress.after_update, progress.say, costs)
    with progress:
        finished = run(task)
    if not finished:
        click.echo(f"stopped; the checkpoint is in {out}. Go on with the same command and --resume", err=True)
        raise SystemExit(130)
    if as_json:
        click.echo(json.dumps(json.loads((out / "manifest.json").read_text()), ensure_ascii=False))
    elif not quiet:
        from xrouter_sim.cli.report import evaluate

        click.get_current_context().invoke(evaluate, runs=(out,))
        click.echo(f"\nwritten to {out}; next: xrouter-sim report {out} --out report.html")


class Progress:
    """A bar over the updates, and Ctrl-C or SIGTERM turned into a stop after the update in progress."""

    def __init__(self, updates: int, silent: bool) -> None:
        self.updates, self.silent = updates, silent
        self.training, self.stop = False, False
        self.bar: Any = None

    def __enter__(self) -> "Progress":
        self.before = {number: signal.signal(number, self._ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stop or not self.training:
            raise KeyboardInterrupt  # asked twice, or while there is no update to finish: at once
        self.stop = True
        click.echo("\nstopping after this update (Ctrl-C again: at once)", err=True)

    def say(self, line: str) -> None:
        """A line about what happens now."""
        self.training = False
        if not self.silent:
            if self.bar is not None:
                self.bar.close()
                self.bar = None
            click.echo(line, err=True)

    def after_update(self, trainer: "Trainer") -> bool:
        """Move the bar; true when the user has asked to stop."""
        self.training = True
        if not self.silent:
            from tqdm import tqdm

            if self.bar is None:
                self.bar = tqdm(total=self.updates, initial=trainer.update - 1, unit="update", desc="training")
            row = trainer.curve[-1]
            self.bar.set_postfix_str(f"reward {row['reward']:.3f}, best validation {trainer.best_reward:.3f}")
            self.bar.update()
        return self.stop
