"""What moving prices take from a router that does not see them, and what a model that is new brings."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from xrouter_sim.evaluation.metrics import Array
from xrouter_sim.evaluation.robustness import CALM, profiles_of
from xrouter_sim.evaluation.runs import panels
from xrouter_sim.evaluation.statistics import REPLICATES, Bootstrap, Figure, figure
from xrouter_sim.routers.blind import SUFFIX

WITHOUT, FULL = "without", "full"
"""In place of a number of calibration queries: the model is not on offer; all training queries are known of it."""


@dataclass(frozen=True)
class PriceLoss:
    """What moving prices take from a router, and from its twin that sees list prices only; at one setting."""

    router: str
    profile: str
    setting: float
    lost: Figure  # reward in the calm world − reward under the profile
    lost_blind: Figure
    share: Figure  # lost / lost_blind; None where the twin loses nothing
    gained_by_seeing: Figure  # reward under the profile − the twin's


def price_losses(
    decisions: pl.DataFrame, where: str, *, at: float = 1.0, replicates: int = REPLICATES, seed: int = 0
) -> list[PriceLoss]:
    """For each profile but calm, and each router whose twin was played, paired by query.

    `decisions` in the form of a robustness file, of routers and of twins; empty where the calm world was not played.
    """
    if CALM not in profiles_of(decisions):
        return []
    parts = decisions.partition_by("profile", maintain_order=True, as_dict=True)
    worlds = {str(profile): panels(frame.drop("profile"), where) for (profile,), frame in parts.items()}
    bootstrap, found = Bootstrap(len(next(iter(worlds[CALM].values())).queries), replicates, seed), []

    def earned(profile: str, router: str) -> tuple[float, Array]:
        panel = worlds[profile][router]
        here = panel.nearest(at)
        return float(panel.settings[here]), bootstrap.means(panel.reward[:, here].mean(axis=0))

    for profile in worlds.keys() - {CALM}:
        for router in worlds[profile]:
            twin = router + SUFFIX
            if not all(name in worlds[world] for name in (router, twin) for world in (profile, CALM)):
                continue
            (setting, here), (_, blind) = earned(profile, router), earned(profile, twin)
            lost, lost_blind = earned(CALM, router)[1] - here, earned(CALM, twin)[1] - blind
            share = np.where(lost_blind > 0, lost / np.where(lost_blind > 0, lost_blind, 1.0), np.nan)
            told = (figure(rows) for rows in (lost, lost_blind, share, here - blind))
            found.append(PriceLoss(router, profile, setting, *told))
    return sorted(found, key=lambda row: (row.profile, row.router))


@dataclass(frozen=True)
class Met:
    """What a router gains from a model that it meets with some calibration queries; at one setting."""

    router: str
    calibration: str  # number of queries, or `full`
    setting: float
    reward: Figure
    gain: Figure  # over the router without the model
    share: Figure  # of the gain with all training queries; None where that is none


def unseen_gains(
    decisions: pl.DataFrame, where: str, *, at: float = 1.0, replicates: int = REPLICATES, seed: int = 0
) -> list[Met]:
    """From decisions with a column `calibration` (`without`, a number, `full`), paired by query."""
    parts = decisions.partition_by("calibration", maintain_order=True, as_dict=True)
    worlds = {str(calibration): panels(frame.drop("calibration"), where) for (calibration,), frame in parts.items()}
    bootstrap, found = Bootstrap(len(next(iter(worlds[FULL].values())).queries), replicates, seed), []
    for router, panel in worlds[FULL].items():
        here = panel.nearest(at)
        rows = {name: bootstrap.means(world[router].reward[:, here].mean(axis=0)) for name, world in worlds.items()}
        full = rows[FULL] - rows[WITHOUT]
        for name in sorted(rows.keys() - {WITHOUT}, key=lambda name: (name == FULL, len(name), name)):
            gain = rows[name] - rows[WITHOUT]
            share = np.where(full > 0, gain / np.where(full > 0, full, 1.0), np.nan)
            told = (figure(values) for values in (rows[name], gain, share))
            found.append(Met(router, name, float(panel.settings[here]), *told))
    return found
