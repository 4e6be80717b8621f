"""What is left of a router's reward, and of its choices, when prices move and calls fail."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from xrouter_sim.evaluation.field import entropy_rows, models_of
from xrouter_sim.evaluation.metrics import invalid_actions
from xrouter_sim.evaluation.runs import Panel, Run, panels
from xrouter_sim.evaluation.statistics import REPLICATES, Bootstrap, Figure, figure

CALM = "calm"


@dataclass(frozen=True)
class Kept:
    """One router under one profile, at one setting."""

    router: str
    profile: str
    setting: float
    accuracy: Figure
    cost_per_1000_usd: Figure
    reward: Figure
    kept: Figure  # reward under the profile as a part of the same router's calm reward, paired by query
    no_answer: Figure  # share of episodes without an answer
    invalid_actions: Figure  # share that ask for what is not on offer, or end without an answer
    same_choice: Figure  # share of queries that the same model answers as when all is calm
    selection_entropy: Figure  # 0 where one model answers all: such a router keeps its choices, whatever happens


def robustness(run: Run, *, at: float = 1.0, replicates: int = REPLICATES, seed: int = 0) -> list[Kept]:
    """Each router under each profile, at the tried setting nearest to `at`; empty when the run tried none.

    Calm comes from the robustness file, and from the decisions where that file has no calm profile. `kept` is not
    defined where calm was measured on other queries or earned nothing.
    """
    if run.robustness is None:
        return []
    where = str(run.path / "robustness.parquet")
    parts = run.robustness.partition_by("profile", maintain_order=True, as_dict=True)
    profiles = {str(profile): panels(frame.drop("profile"), where) for (profile,), frame in parts.items()}
    calm = profiles.get(CALM, run.panels)
    models = models_of(run)
    found = []
    for profile, routers in profiles.items():
        bootstrap = Bootstrap(len(next(iter(routers.values())).queries), replicates, seed)
        found += [_kept(panel, profile, calm, bootstrap, at, models) for panel in routers.values()]
    return found


def profiles_of(frame: pl.DataFrame) -> list[str]:
    """Names of the profiles tried, in order of appearance."""
    return [str(name) for name in frame["profile"].unique(maintain_order=True)]


def _kept(
    panel: Panel, profile: str, calm: Mapping[str, Panel], bootstrap: Bootstrap, at: float, models: list[str]
) -> Kept:
    here = panel.nearest(at)
    invalid = invalid_actions(panel.unavailable, panel.final)
    values = [panel.score, panel.cost * 1000, panel.reward, panel.final == "none", invalid]
    rows = bootstrap.means(np.stack([np.asarray(v, dtype=float)[:, here].mean(axis=0) for v in values]))
    kept, same = rows[:, 2] * np.nan, rows[:, 2] * np.nan
    other = calm.get(panel.router)
    place = other.at(float(panel.settings[here])) if other else None
    if other is not None and place is not None and other.queries == panel.queries:
        base = bootstrap.means(other.reward[:, place].mean(axis=0))
        kept = np.where(base > 0, rows[:, 2] / np.where(base > 0, base, 1.0), np.nan)
        if other.seeds == panel.seeds:
            same = bootstrap.means((panel.answered_by[:, here] == other.answered_by[:, place]).mean(axis=0))
    accuracy, cost, reward, nothing, vain = (figure(column) for column in rows.T)
    return Kept(
        router=panel.router,
        profile=profile,
        setting=float(panel.settings[here]),
        accuracy=accuracy,
        cost_per_1000_usd=cost,
        reward=reward,
        kept=figure(kept),
        no_answer=nothing,
        invalid_actions=vain,
        same_choice=figure(same),
        selection_entropy=figure(entropy_rows(panel.answered_by[:, here], models, bootstrap)),
    )
