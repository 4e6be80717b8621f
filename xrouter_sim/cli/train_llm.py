"""`xrouter-sim train llm`: a language model becomes a router."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from responses_db import LabError
from xrouter_sim.cli.options import costs_options, stated_costs


@click.command("llm", short_help="Train a language model to route.")
@click.option("--base", default="tiny", show_default=True, help="tiny, smollm2, a folder, or a name on the hub.")
@click.option(
    "--db",
    type=click.Path(path_type=Path),
    default=Path("data/responses.duckdb"),
    show_default=True,
    help="The store to replay.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/llm"), show_default=True, help="The run's folder."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Fixes every random draw.")
@click.option("--warm-start/--no-warm-start", default=True, help="Learn from demonstrations first. [default: do]")
@click.option("--traces", type=click.IntRange(min=1), help="Demonstrations. [default: as the base needs]")
@click.option(
    "--shares",
    metavar="B=W,…",
    help="How often each behaviour is demonstrated: single, escalate, parallel, direct. "
    "[default: single=0.5,escalate=0.3,parallel=0.2]",
)
@click.option("--steps", type=click.IntRange(min=0), help="GRPO steps; 0: none. [default: as the base needs]")
@click.option("--adapter", type=click.Path(path_type=Path), help="Go on from the folder `router` of an earlier run.")
@click.option(
    "--beside",
    type=click.Path(path_type=Path),
    help="A run of `train rl` on the same store, to be compared with.",
)
@click.option("--device", help="cpu, cuda, … [default: cpu for tiny and smollm2, else cuda]")
@click.option("--vllm", type=click.Choice(["colocate", "server"]), help="Generate with vLLM, as TRL offers it.")
@click.option("--report-to", default="none", show_default=True, help="A tracker that transformers knows.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Another setting; see --settings.")
@click.option("--settings", "list_settings", is_flag=True, help="List all settings with their values, and stop.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoints in --out.")
@click.option("--dry-run", is_flag=True, help="Build trainer and first batch, say what would be done, and stop.")
@costs_options
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as one JSON object.")
def train_llm(
    base: str,
    db: Path,
    out: Path,
    seed: int,
    warm_start: bool,
    traces: int | None,
    shares: str | None,
    steps: int | None,
    adapter: Path | None,
    beside: Path | None,
    device: str | None,
    vllm: str | None,
    report_to: str,
    settings: tuple[str, ...],
    list_settings: bool,
    resume: bool,
    dry_run: bool,
    accuracy_only: bool,
    nominal_cost: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train a language model to route: on demonstrations first, then by reinforcement in the simulator.

    Its tools are the models of the store; plain text is an answer of its own. Demonstrations come from policies that
    know each model's chances on the training queries. Reinforcement is GRPO: it plays groups of episodes, each group in
    one world, so what differs within a group is what the router did. λ stands in the prompt, so one adapter serves the
    whole cost–quality curve.

    The folder holds router/ (a standard adapter, or model, with its chat template), decisions.parquet and manifest.json
    as every run, metrics.json (what base, warm start and GRPO earn), traces.jsonl, and the learning curves.

    \b
    Bases:
      tiny       ten million parameters, from scratch; twenty minutes on two cores
      smollm2    SmolLM2-135M-Instruct (`make smollm2` fetches it); ninety minutes
      otherwise  an instruct model whose chat template carries tools, such as Qwen/Qwen2.5-7B-Instruct, on a GPU
                 (docs/llm-router.md has the commands for 1, 4 and 8 GPUs)

    \b
    Examples:
      xrouter-sim train llm --db data/responses.duckdb --out runs/llm
      xrouter-sim train llm --base smollm2 --steps 40 --set group=8
      xrouter-sim train llm --base Qwen/Qwen3-0.6B --device cuda --vllm colocate --report-to trackio
    """
    needs("transformers", "trl", "peft", "datasets")
    from xrouter_sim.llm.config import config_for
    from xrouter_sim.llm.run import LLMTask, rehearse, run

    changes: dict[str, Any] = {"seed": seed, "report_to": report_to, **parsed(settings)}
    given = {"traces": traces, "steps": steps, "device": device, "vllm": vllm}
    changes |= {name: value for name, value in given.items() if value is not None}
    if not warm_start:
        changes["traces"] = 0
    if shares:
        changes["shares"] = parsed_shares(shares)
    config = config_for(base, changes)
    if list_settings:
        click.echo(json.dumps(config.as_dict(), indent=2))
        return
    say = (lambda line: None) if as_json else (lambda line: click.echo(line, err=True))
    task = LLMTask(db, out, config, stated_costs(accuracy_only, nominal_cost), adapter, beside, resume, say)
    metrics = rehearse(task) if dry_run else run(task)
    if as_json or dry_run:
        click.echo(json.dumps(metrics, ensure_ascii=False, indent=None if as_json else 2))
        return
    if "reward" not in metrics:  # one of several processes
        click.echo(
            f"trained; to see what it earns: xrouter-sim train llm --base {base} --adapter {metrics['router']} …"
        )
        return
    click.echo(told(metrics))
    click.echo(f"\nwritten to {out}; next: xrouter-sim evaluate {out}, or report {out} --out report.html")


def needs(*packages: str) -> None:
    """Raises LabError where the extra is not installed."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise LabError(f"no {missing[0]} here: the LLM router needs the extra `llm` (pip install 'xrouter-sim[llm]')")


def parsed(settings: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE, the value as JSON or a word."""
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise LabError(f"--set {setting}: write NAME=VALUE")
        try:
            read = json.loads(value)
        except json.JSONDecodeError:
            read = value
        found[name] = tuple(read) if isinstance(read, list) else read
    return found


def parsed_shares(text: str) -> Any:
    from xrouter_sim.llm.teacher import Shares

    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.partition("=")
        if name.strip() not in Shares.__dataclass_fields__:
            raise LabError(f"--shares {part}: behaviours are {', '.join(Shares.__dataclass_fields__)}")
        try:
            weights[name.strip()] = float(weight)
        except ValueError:
            raise LabError(f"--shares {part}: a weight is a number") from None
    return Shares(**(dict.fromkeys(Shares.__dataclass_fields__, 0.0) | weights))


def told(metrics: dict[str, Any]) -> str:
    """The metrics in a few lines."""
    lines = [f"mean success-gated reward at λ = 1 on {metrics['queries']} held-out queries"]
    for name, value in metrics["interval"].items():
        stage = metrics["stages"][name]
        lines.append(
            f"  {name.replace('_', ' '):<11} {value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]   "
            f"accuracy {stage['accuracy']:.3f}   switched {stage['switched']:.0%}   parallel {stage['parallel']:.0%}   "
            f"direct {stage['direct']:.0%}   refused actions {stage['invalid_action_rate']:.1%}"
        )
    for name, value in metrics["gain"].items():
        lines.append(f"  {name.replace('_', ' ')}: {value['value']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]")
    lines.append("the final router by λ:")
    for penalty, at in metrics["by_penalty"].items():
        lines.append(
            f"  λ = {penalty:<4} reward {at['reward']:.3f}   accuracy {at['accuracy']:.3f}   "
            f"USD/1k {at['usd_per_1k']:.3f} (own tokens {at['own_usd_per_1k']:.4f})"
        )
    return "\n".join(lines)
