"""What is left to win: bounds on every router of a run, and each router's regret to them (xrouter_sim.bounds).

Bounds need every model's answer to every query. The decisions of the single models hold one draw of each; the store
holds all samples, and with them each model's chances. The store is read where it still lies and is the one that the run
was made on; otherwise the bounds are those of the draws that were played, and the note says so.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from responses_db import LabError, ResponseStore
from xrouter_sim.bounds import BOUNDS, Bound, Cells
from xrouter_sim.evaluation.metrics import Array
from xrouter_sim.evaluation.rows import SINGLE
from xrouter_sim.evaluation.runs import Run
from xrouter_sim.evaluation.statistics import Bootstrap, Figure, figure
from xrouter_sim.replay import Replay

LUCK_CORRECTED = "luck-corrected oracle"


@dataclass(frozen=True)
class BoundFigures:
    """One bound at the setting `at`."""

    name: str
    knows: str
    reward: Figure


@dataclass(frozen=True)
class Left:
    """The bounds of a run at one setting, the highest first; none where they cannot be had, and the note says why."""

    bounds: list[Bound]
    rows: list[Array]  # of each bound: its mean reward in the sample and in every replicate
    note: str

    def figures(self) -> list[BoundFigures]:
        return [
            BoundFigures(bound.name, bound.knows, figure(rows))
            for bound, rows in zip(self.bounds, self.rows, strict=True)
        ]

    def regrets(self, reward: Array | None) -> dict[str, Figure]:
        """Each bound's reward minus the router's (1 + replicates,), paired by query; none at a setting it lacks.

        A regret below 0 is luck: a bound holds in expectation over the draws.
        """
        if reward is None:
            return {}
        return {bound.name: figure(rows - reward) for bound, rows in zip(self.bounds, self.rows, strict=True)}


def left_to_win(run: Run, at: float, bootstrap: Bootstrap) -> Left:
    """The bounds on this run's queries at λ = `at`, at list prices and without failures."""
    profile = str((run.manifest.get("profile") or {}).get("name", "calm"))
    if profile != "calm":
        return Left(
            [], [], f"no bounds: they hold at list prices and without failures, and this run's world is {profile}"
        )
    if not run.priced:
        return Left([], [], "no bounds: costs are left out")
    cells = _stored(run)
    note = "from all samples in the store"
    if cells is None:
        cells, note = _played(run), "from one draw a model, as played"
    if cells is None:
        return Left([], [], "no bounds: the run has no decisions of single models, and its store is not at hand")
    if cells.score.shape[2] == 1:
        note += "; with one answer a model, who knows its chance knows the answer, and the first four are one"
    unit = run.cost_unit
    bounds = [find(cells, at, unit) for find in BOUNDS]
    return Left(bounds, [bootstrap.means(bound.reward) for bound in bounds], note)


def _stored(run: Run) -> Cells | None:
    """The cells of the run's queries from its store; None where that is not at hand, or no longer the same."""
    facts = run.manifest["store"]
    path, known = Path(str(facts.get("path", ""))), facts.get("content_hash")
    if known is None or not path.is_file() or (facts.get("costs") or {}).get("kind", "known") != "known":
        return None
    try:
        with ResponseStore(path) as store:
            same = store.content_hash() == known
        replay = Replay.load(path) if same else None
    except LabError:
        return None
    place = {query: number for number, query in enumerate(replay.query_ids)} if replay else {}
    if replay is None or not set(run.queries) <= set(place):
        return None
    return Cells.of(replay, np.array([place[query] for query in run.queries]))


def _played(run: Run) -> Cells | None:
    """One draw a model, from the decisions of the single models in their first seed's world.

    One seed only: where a cell holds one sample, several seeds would be copies that seem to agree.
    """
    singles = [panel for router, panel in run.panels.items() if router.startswith(SINGLE)]
    if not singles:
        return None
    score, cost = (
        np.stack(axis, axis=1)[:, :, None]
        for axis in (
            [panel.score[0, 0] for panel in singles],
            [panel.cost[0, 0] for panel in singles],
        )
    )
    return Cells(score, cost, np.ones(score.shape, dtype=bool), np.array(singles[0].domains))
