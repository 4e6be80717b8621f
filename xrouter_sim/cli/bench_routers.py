"""`xrouter-sim bench routers`: every router on one bench."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xrouter_sim.cli.bench import bench_group
from xrouter_sim.cli.options import DB, JSON, costs_options, stated_costs
from xrouter_sim.cli.train import Progress

if TYPE_CHECKING:
    from xrouter_sim.bench.routers import Job, Outcome
    from xrouter_sim.training.rl import Trainer

PAGE, PICTURE, FIGURES = "report.html", "curves.svg", "figures.json"


@bench_group.command("routers", short_help="Train and compare all routers on one store.")
@DB
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/bench"),
    show_default=True,
    metavar="DIR",
    help="A folder for each run goes here: DIR/NAME-seedN.",
)
@click.option(
    "--routers",
    metavar="A,B,…",
    help="Compare these only. Single models and baselines stand beside them. [default: all]",
)
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Runs a router.")
@click.option("--updates", type=click.IntRange(min=1), help="Updates of the RL router. [default: as in train]")
@click.option(
    "--profiles",
    default="calm,prices,realistic,stormy",
    show_default=True,
    metavar="A,B,…",
    help="Worlds beside the recorded one, for robustness; with calm among them, what prices take away is told. "
    "`none`: none.",
)
@click.option("--held-out", metavar="MODEL", help="Also train without MODEL, then let each router meet it.")
@click.option(
    "--calibration",
    default="0,32,128",
    show_default=True,
    metavar="N,…",
    help="How many of MODEL's training queries a router may read when it meets it.",
)
@click.option(
    "--groups",
    multiple=True,
    metavar="NAME=DOMAIN,…",
    help="A group of domains whose mean accuracy is told, each domain counting alike. Repeat it for each group.",
)
@costs_options
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=4096,
    show_default=True,
    help="Episodes stepped at once. Speed and memory only: results do not depend on it.",
)
@click.option(
    "--replicates", type=click.IntRange(min=100), default=1000, show_default=True, help="Bootstrap samples of queries."
)
@click.option("--resume", is_flag=True, help="Keep the finished runs in --out, and go on with the others.")
@click.option("--overwrite", is_flag=True, help="Start anew even if --out holds runs.")
@click.option("--quiet", is_flag=True, help="No progress.")
@JSON
def bench_routers(
    db: Path,
    out: Path,
    routers: str | None,
    seeds: int,
    updates: int | None,
    profiles: str,
    held_out: str | None,
    calibration: str,
    groups: tuple[str, ...],
    accuracy_only: bool,
    nominal_cost: tuple[str, ...],
    batch_size: int,
    replicates: int,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train and evaluate every router on one store, several seeds each, and compare them in one table.

    All meet the same test queries and worlds, so differences are paired. DIR/NAME-seedN is a run like one of
    `xrouter-sim train`, with the decisions of that router alone; DIR also gets figures.json, report.html and,
    where there are costs, curves.svg. Ctrl-C stops; the same command with --resume goes on.

    \b
      AIQ, R(λ), acc, USD/1k   as in `xrouter-sim evaluate`; acc and USD/1k at λ = 1
      Δ                        the router minus the best peer by that figure, picked on these test queries, so in the
                               peer's favour; paired, with its 95% interval. rl and oracle are no peers
      fit s                    seconds to fit or train
      μs                       microseconds a decision, alone and in a batch of 4,096; features are at hand

    A router whose fit does not depend on the seed is fitted once, and played in the world of each seed.

    \b
    Examples:
      xrouter-sim bench routers --db data/responses.duckdb --out runs/bench
      xrouter-sim bench routers --routers rl,logistic --seeds 2 --profiles none --json
      xrouter-sim bench routers --db data/routerdc.duckdb --accuracy-only --groups in=mmlu,gsm8k --groups out=mbpp
      xrouter-sim bench routers --held-out gpt-4 --calibration 0,32 --resume
    """
    from xrouter_sim.bench.router_figures import figures_of
    from xrouter_sim.bench.routers import Plan, Told, run_all
    from xrouter_sim.bench.unseen import Unseen
    from xrouter_sim.evaluation.groups import groups_of

    named = groups_of(groups)
    plan = Plan(
        db=db,
        out=out,
        routers=_names(routers) if routers else (),
        seeds=seeds,
        updates=updates,
        batch_size=batch_size,
        resume=resume,
        overwrite=overwrite,
        costs=stated_costs(accuracy_only, nominal_cost),
        profiles=() if profiles == "none" else _names(profiles),
        unseen=Unseen(held_out, _numbers(calibration)) if held_out else None,
    )
    progress = BenchProgress(plan.config(0).updates, silent=quiet or as_json)
    try:
        with progress:
            outcome = run_all(plan, Told(progress.begins, progress.say, progress.after_update))
    except KeyboardInterrupt:
        _stopped(out)
    if outcome.stopped:
        _stopped(out)
    progress.say(f"comparing {len(outcome.finished)} runs")
    found = {"db": str(db), "out": str(out), **_told(outcome)}
    if outcome.finished:
        found |= figures_of(outcome.finished, named, replicates)
        _write(found, outcome.finished, out, replicates)
    click.echo(json.dumps(found, ensure_ascii=False, allow_nan=False) if as_json else "\n".join(_lines(found)))
    if outcome.failed:
        raise SystemExit(1)


class BenchProgress(Progress):
    """A bar over the runs; Ctrl-C stops after the update in progress, or at once where there is none."""

    def begins(self, job: "Job", number: int, count: int) -> None:
        """A run starts."""
        self.training = False
        if self.silent:
            return
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(total=count, unit="run", desc="bench")
        self.bar.update(number - 1 - self.bar.n)
        self.bar.set_postfix_str(f"{job.router}, seed {job.seed}")

    def after_update(self, trainer: "Trainer") -> bool:
        """Tell how far the training is; true when the user has asked to stop."""
        self.training = True
        if self.bar is not None:
            said = f"{trainer.router.name}, seed {trainer.config.seed}, update {trainer.update} of {self.updates}"
            self.bar.set_postfix_str(f"{said}, best validation {trainer.best_reward:.3f}")
        return self.stop


def _stopped(out: Path) -> None:
    click.echo(f"stopped; what is finished is in {out}. Go on with the same command and --resume", err=True)
    raise SystemExit(130)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in text.split(",") if name))


def _numbers(text: str) -> tuple[int, ...]:
    from responses_db import LabError

    if not all(part.isdigit() for part in text.split(",")):
        raise LabError(f"--calibration {text}: write whole numbers with commas between, as in 0,32,128")
    return tuple(sorted({int(part) for part in text.split(",")}))


def _told(outcome: "Outcome") -> dict[str, Any]:
    return {
        "runs": len(outcome.finished),
        "runs_from_before": outcome.skipped,
        "failed": outcome.failed,
        "left_out": outcome.left_out,
    }


def _write(found: dict[str, Any], folders: list[Path], out: Path, replicates: int) -> None:
    """The figures, the page and the picture, beside the runs' folders."""
    from xrouter_sim.evaluation.report import save_picture, write_report
    from xrouter_sim.files import written_whole

    with written_whole(out / FIGURES) as fresh:
        fresh.write_text(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_report(folders, out / PAGE, replicates=replicates)
    if found["cost_unit_usd"] is not None:
        save_picture(folders, out / PICTURE)


# --- words ------------------------------------------------------------------------------------------------------------


def _lines(found: dict[str, Any]) -> list[str]:
    lines = []
    if "routers" in found:
        lines += [*_head(found), "", *_table(_comparison(found)), ""]
        lines += [f"best peer by {what}: {peer}" for what, peer in found["best_peer"].items()]
        lines += [*_groups(found), *_robustness(found), *_prices(found), *_unseen(found)]
        lines += ["", f"in {found['out']}: {PAGE}, {FIGURES} and {found['runs']} runs"]
    lines += [f"left out: {what}: {why}" for what, why in found["left_out"].items()]
    lines += [f"FAILED {folder}: {why}" for folder, why in found["failed"].items()]
    return lines


def _head(found: dict[str, Any]) -> list[str]:
    from xrouter_sim.evaluation.words import provenance_words

    unit = "costs left out" if found["cost_unit_usd"] is None else f"cost unit {found['cost_unit_usd']:g} USD"
    return [
        f"{found['db']}: {found['queries']:,} test queries, {unit}, content hash {found['content_hash'][:12]}",
        provenance_words({"store": {"provenance": found["provenance"], "costs": found["costs"]}}),
    ]


def _comparison(found: dict[str, Any]) -> list[list[str]]:
    """Routers by reward at the one setting that matters, best first; of single models the best few."""
    priced, at = found["cost_unit_usd"] is not None, f"{found['at']:g}"
    lams = list(next(iter(found["routers"].values()))["reward"])
    ranked = sorted(found["routers"].items(), key=lambda item: -item[1]["reward"][at]["value"])
    singles = [name for name, _ in ranked if name.startswith("always:")]
    head = ["router", "kind", *(["AIQ"] if priced else []), *(f"R({lam})" for lam in lams), "acc"]
    head += [*(["USD/1k", "Δ AIQ"] if priced else []), f"Δ R({at})", "fit s", "μs alone", "batched"]
    lines = [head]
    for name, row in ranked:
        if name in singles[3:]:
            continue
        over, speed = row["over_best_peer"], row.get("microseconds_a_decision", {})
        cells = [name, row["kind"], *([_number(row["aiq"])] if priced else [])]
        cells += [_number(row["reward"][lam]) for lam in lams] + [_number(row["accuracy"])]
        cells += [_number(row["cost_per_1000_usd"], 3), _difference(over.get("aiq"))] if priced else []
        cells += [_difference(over.get(f"reward {at}")), f"{row.get('fit_seconds', 0):.1f}"]
        lines.append([*cells, f"{speed.get('alone', 0):.0f}", f"{speed.get('batched', 0):.2f}"])
    if len(singles) > 3:
        lines.append([f"… and {len(singles) - 3} more single models ({FIGURES})", *[""] * (len(head) - 1)])
    return lines


def _groups(found: dict[str, Any]) -> list[str]:
    groups = list(next(iter(found["domains"].values()))["groups"])
    if not groups:
        return []
    ranked = sorted(found["domains"].items(), key=lambda item: -item[1]["groups"][groups[0]]["value"])
    rows = [[name, *(_interval(row["groups"][group]) for group in groups)] for name, row in ranked]
    return ["", "Accuracy, mean over the domains of a group:", *_table([["router", *groups], *rows])]


def _robustness(found: dict[str, Any]) -> list[str]:
    worlds = found["robustness"]
    if not worlds:
        return []
    setting = next(iter(next(iter(worlds.values())).values()))["setting"]
    last = list(worlds)[-1]
    ranked = sorted(worlds[last], key=lambda name: -worlds[last][name]["reward"]["value"])
    rows = []
    for name in ranked:
        if name.startswith("always:"):
            continue
        cells = [name]
        for world in worlds.values():
            cells += [_number(world[name]["reward"]), _difference(world[name]["over_best_peer"])]
        rows.append(cells)
    head = ["router", *(part for name in worlds for part in (name, "Δ"))]
    return ["", f"Reward at λ = {setting:g} in other worlds, and over the best peer there:", *_table([head, *rows])]


def _prices(found: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for profile, routers in found["prices"].items():
        rows = [["router", "lost", "lost blind", "lost / lost blind", "gained by seeing prices"]]
        for name, row in routers.items():
            rows.append([name, *(_interval(row[key]) for key in ("lost", "lost_blind", "share", "gained_by_seeing"))])
        lines += ["", f"Reward lost to `{profile}`, and by the twin that sees list prices only:", *_table(rows)]
    return lines


def _unseen(found: dict[str, Any]) -> list[str]:
    unseen = found["unseen"]
    if unseen is None:
        return []
    counts = [*(str(count) for count in unseen["calibration"]), "full"]
    rows = [["router", "gain with all", *(f"part at {count}" for count in counts[:-1])]]
    for name, met in unseen["routers"].items():
        parts = [_interval(met[count]["share"], 2) for count in counts[:-1]]
        rows.append([name, _interval(met["full"]["gain"]), *parts])
    return ["", f"Gain in reward from meeting {unseen['model']}, by calibration queries:", *_table(rows)]


def _table(lines: list[list[str]]) -> list[str]:
    widths = [max(len(line[i]) for line in lines if i == 0 or line[i]) for i in range(len(lines[0]))]
    return [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]


def _number(value: dict[str, float | None], digits: int = 4) -> str:
    return "–" if value["value"] is None else f"{value['value']:.{digits}f}"


def _interval(value: dict[str, float | None], digits: int = 3) -> str:
    ends = ", ".join("–" if value[end] is None else f"{value[end]:.{digits}f}" for end in ("low", "high"))
    text = "–" if value["value"] is None else f"{value['value']:.{digits}f} [{ends}]"
    return text.replace("-", "−")


def _difference(value: dict[str, float | None] | None) -> str:
    from xrouter_sim.evaluation.statistics import signed

    if value is None or value["value"] is None:
        return ""
    return f"{signed(value['value'])} [{signed(value['low'])}, {signed(value['high'])}]"
