"""The scores by which the field's benchmarks rank routers, for every router of a run, with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from xrouter_sim.evaluation import metrics
from xrouter_sim.evaluation.metrics import Array
from xrouter_sim.evaluation.rows import SINGLE, Rows, best_single
from xrouter_sim.evaluation.runs import Panel, Run
from xrouter_sim.evaluation.statistics import Bootstrap, Figure, figure

CPT_PARTS = (0.5, 0.8)
"""Parts of the gap between two models for which the least share of strong calls is told."""

NOT_DEFINED = Figure(None)


@dataclass(frozen=True)
class Field:
    """One router's scores at the setting `at`, or over its whole dial where that is said.

    None inside a Figure: not defined in this run (no single models, no costs), or never reached.
    """

    arena: Figure  # RouterArena's score of accuracy and cost
    optimal_selection: Figure  # RouterArena: takes the cheapest right model
    optimal_cost: Figure  # RouterArena: cost of the cheapest right model / what was spent
    optimal_accuracy: Figure  # RouterArena: accuracy / accuracy of always taking a right answer
    performance_gain: Figure  # LLMRouterBench, whole dial: best accuracy over the best single model's, − 1
    cost_save: Figure  # LLMRouterBench, whole dial, settings as run
    pareto_distance: Figure  # LLMRouterBench, whole dial: mean distance to the front of all but oracles
    quality_neutral_cost: Figure  # UniRoute, whole dial, mixtures included
    apgr: Figure  # RouteLLM, whole dial, two models only
    cpt: dict[float, Figure]  # RouteLLM, whole dial, two models only: part of the gap -> share of strong calls
    selection_entropy: Figure  # 0: one model answers all; 1: all models alike
    invalid_actions: Figure  # share of episodes that ask for what is not on offer, or end without an answer


@dataclass(frozen=True)
class Pool:
    """What the scores measure a router against: the single models of the run."""

    bootstrap: Bootstrap
    here: float  # λ
    models: list[str]  # that may answer
    singles: dict[str, Panel]  # by router name
    best: Rows | None  # the best single model's
    oracles: list[str]  # routers beyond the front, which leaves them out
    front: metrics.Front | None
    ends: tuple[Rows, Rows] | None  # the weak and the strong one, where there are two
    strong: dict[str, Array]  # router -> (seeds, settings, queries) whether the strong model was called


def pool_of(run: Run, rows: Mapping[str, Rows], bootstrap: Bootstrap, at: float) -> Pool:
    """Everything that the routers of a run share when they are scored."""
    singles = {router: panel for router, panel in run.panels.items() if router.startswith(SINGLE)}
    best = best_single(rows)
    front = None
    oracles = [router for router in rows if run.kind(router) == "oracle"]
    compared = [row for router, row in rows.items() if router not in oracles]
    if compared and all(row.priced for row in compared):
        axes = ([row.curve_cost for row in compared], [row.curve_score for row in compared])
        front = metrics.Front.of(*(np.concatenate(axis, axis=1) for axis in axes))
    models = models_of(run)
    ends, strong = None, {}
    if len(singles) == 2 and best is not None:
        (weak,) = set(singles) - {best}
        ends = (rows[weak], rows[best])
        strong = _calls_of(run, model_of(best, models))
    return Pool(bootstrap, at, models, singles, rows[best] if best else None, oracles, front, ends, strong)


def models_of(run: Run) -> list[str]:
    """The models that may answer in this run, in order."""
    return sorted({*run.manifest["store"].get("models", []), *run.decisions["answered_by"].drop_nulls().unique()})


def field_of(pool: Pool, panel: Panel, rows: Rows) -> Field:
    """All scores of one router."""
    here = panel.nearest(pool.here)
    means = pool.bootstrap.means
    # RouterArena's cost is in USD: without costs there is no such score.
    arena = figure(metrics.arena_score(rows.accuracy, rows.cost * 1000)) if rows.priced else NOT_DEFINED
    invalid = metrics.invalid_actions(panel.unavailable[:, here], panel.final[:, here])
    selection, cost_ratio, accuracy = _optimality(pool, panel, here, rows)
    gain, save, neutral = _against_best(pool, rows)
    apgr, cpt = _two_models(pool, panel, rows)
    return Field(
        arena=arena,
        optimal_selection=selection,
        optimal_cost=cost_ratio,
        optimal_accuracy=accuracy,
        performance_gain=gain,
        cost_save=save,
        pareto_distance=_distance(pool, panel.router, rows),
        quality_neutral_cost=neutral,
        selection_entropy=figure(entropy_rows(panel.answered_by[:, here], pool.models, pool.bootstrap)),
        invalid_actions=figure(means(invalid.astype(float).mean(axis=0))),
        apgr=apgr,
        cpt=cpt,
    )


def model_of(single: str, models: list[str]) -> str:
    """The model that a single model's router calls: `always:MODEL`, or `always:MODEL/STYLE` of several styles."""
    arm = single.removeprefix(SINGLE)
    return max((model for model in models if arm == model or arm.startswith(f"{model}/")), key=len, default=arm)


def entropy_rows(answered_by: NDArray[np.str_], models: list[str], bootstrap: Bootstrap) -> Array:
    """Selection entropy (1 + replicates,) of choices (seeds, queries); episodes that no model answered are left out.

    They are in every other denominator; here they are no choice of a model, and the invalid actions count them.
    """
    taken = np.stack([(answered_by == model).mean(axis=0) for model in models]) if models else np.zeros((1, 1))
    return metrics.selection_entropy(bootstrap.means(taken), len(models))


def _distance(pool: Pool, router: str, rows: Rows) -> Figure:
    if pool.front is None or not rows.priced or router in pool.oracles:
        return NOT_DEFINED
    return figure(pool.front.distance(rows.curve_cost, rows.curve_score))


def _optimality(pool: Pool, panel: Panel, here: int, rows: Rows) -> tuple[Figure, Figure, Figure]:
    if not pool.singles:
        return NOT_DEFINED, NOT_DEFINED, NOT_DEFINED
    means, found = pool.bootstrap.means, []
    for number, seed in enumerate(panel.seeds):
        names, score, cost = _answers(pool, seed)
        possible = score.max(axis=0)
        counts, selected, ratio = np.zeros_like(possible), np.zeros_like(possible), np.zeros_like(possible)
        if rows.priced:
            chosen = _chosen(panel.answered_by[number, here], names, score, cost)
            counts, selected, ratio = metrics.optimal_choice(chosen, panel.cost[number, here], score, cost)
        found.append(np.stack([counts, selected, ratio, possible]).astype(float))
    counts, selected, ratio, possible = means(np.mean(found, axis=0)).T
    some = np.where(counts > 0, counts, np.nan)
    accuracy = figure(metrics.optimal_accuracy(rows.accuracy, possible))
    return figure(selected / some), figure(ratio / some), accuracy


def _answers(pool: Pool, seed: int) -> tuple[list[str], Array, Array]:
    """Models, scores and costs (arms, queries) of the single models in this seed's world."""
    names, score, cost = [], [], []
    for panel in pool.singles.values():
        world = panel.seeds.index(seed) if seed in panel.seeds else 0
        names.append(model_of(panel.router, pool.models))
        score.append(panel.score[world, 0])
        cost.append(panel.cost[world, 0])
    return names, np.stack(score), np.stack(cost)


def _chosen(answered_by: NDArray[np.str_], names: list[str], score: Array, cost: Array) -> NDArray[np.int64]:
    """(queries,) the arm whose answer was taken; of one model's prompt styles the cheapest right one, -1 for none.

    Decisions name the model that answered, not its prompt style: the doubt is in the router's favour.
    """
    dear = np.where(score >= 1, cost, cost + cost.max() + 1.0)
    mine = np.array(names)[:, None] == answered_by
    return np.where(mine.any(axis=0), np.where(mine, dear, np.inf).argmin(axis=0), -1)


def _against_best(pool: Pool, rows: Rows) -> tuple[Figure, Figure, Figure]:
    best = pool.best
    if best is None:
        return NOT_DEFINED, NOT_DEFINED, NOT_DEFINED
    gain = figure(metrics.performance_gain(rows.curve_score, best.accuracy))
    if not (rows.priced and best.priced):
        return gain, NOT_DEFINED, NOT_DEFINED
    against = (rows.curve_cost, rows.curve_score, best.cost, best.accuracy)
    return gain, figure(metrics.cost_save(*against)), figure(metrics.quality_neutral_cost(*against))


def _two_models(pool: Pool, panel: Panel, rows: Rows) -> tuple[Figure, dict[float, Figure]]:
    if pool.ends is None:
        return NOT_DEFINED, {}
    weak, strong = (end.accuracy for end in pool.ends)
    share = pool.bootstrap.means(pool.strong[panel.router].mean(axis=0))
    thresholds = {
        part: figure(metrics.call_performance_threshold(share, rows.curve_score, weak, strong, part))
        for part in CPT_PARTS
    }
    return figure(metrics.apgr(share, rows.curve_score, weak, strong)), thresholds


def _calls_of(run: Run, model: str) -> dict[str, Array]:
    """Whether each episode of each router called the model: (seeds, settings, queries)."""
    called = pl.col("calls").list.eval(pl.element().struct.field("model")).list.contains(model)
    flagged = run.decisions.select("router", "seed", "setting", "query_id", called=called.cast(pl.Float64))
    found = {}
    for (router,), rows in flagged.partition_by("router", as_dict=True).items():
        values = rows.sort("seed", "setting", "query_id")["called"].to_numpy()
        found[str(router)] = values.reshape(run.panels[str(router)].score.shape)
    return found
