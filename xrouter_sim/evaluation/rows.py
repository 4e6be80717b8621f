"""A router's main statistics in the sample and in every replicate, and the figures and paired differences they make."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xrouter_sim.evaluation import metrics
from xrouter_sim.evaluation.metrics import Array
from xrouter_sim.evaluation.runs import Panel
from xrouter_sim.evaluation.statistics import Bootstrap, Figure, figure

LAMBDAS = (0.0, 0.5, 1.0, 2.0)
"""The cost penalties whose rewards are told; those that a run has among its settings."""

SINGLE = "always:"
"""How the routers' names begin that always call one arm: the single models."""


@dataclass(frozen=True)
class Headline:
    """The figures by which routers are compared; also the paired difference of two routers' figures."""

    accuracy: Figure  # mean score at the setting `at`
    cost_per_1000_usd: Figure  # at the setting `at`
    reward: dict[float, Figure]  # λ -> mean reward at the setting λ
    aiq: Figure  # range form
    aiq_code_form: Figure


@dataclass(frozen=True)
class Rows:
    """One router's statistics in the sample (row 0) and in every replicate: what Figures are made of.

    Those of cost are nan where the run leaves costs out.
    """

    accuracy: Array
    cost: Array
    reward: dict[float, Array]
    aiq: Array
    aiq_code_form: Array
    curve_cost: Array  # (1 + replicates, settings)
    curve_score: Array
    curve_reward: Array

    @property
    def priced(self) -> bool:
        return not np.isnan(self.curve_cost).any()

    def minus(self, other: "Rows") -> Headline:
        """The paired difference of two routers."""
        both = [lam for lam in self.reward if lam in other.reward]
        return Headline(
            accuracy=figure(self.accuracy - other.accuracy),
            cost_per_1000_usd=figure((self.cost - other.cost) * 1000),
            reward={lam: figure(self.reward[lam] - other.reward[lam]) for lam in both},
            aiq=figure(self.aiq - other.aiq),
            aiq_code_form=figure(self.aiq_code_form - other.aiq_code_form),
        )

    def headline(self) -> Headline:
        return Headline(
            accuracy=figure(self.accuracy),
            cost_per_1000_usd=figure(self.cost * 1000),
            reward={lam: figure(rows) for lam, rows in self.reward.items()},
            aiq=figure(self.aiq),
            aiq_code_form=figure(self.aiq_code_form),
        )


def rows_of(panel: Panel, bootstrap: Bootstrap, at: float, low: Array, high: Array) -> Rows:
    """Seeds of a query are averaged first: they are no more queries. AIQ over the cost range [`low`, `high`] USD."""
    cost, score, reward = (bootstrap.means(values.mean(axis=0)) for values in (panel.cost, panel.score, panel.reward))
    here = panel.nearest(at)
    places = {lam: panel.at(lam) for lam in sorted({*LAMBDAS, at})}
    nowhere = np.full(len(bootstrap.weights), np.nan)
    return Rows(
        accuracy=score[:, here],
        cost=cost[:, here],
        reward={lam: reward[:, place] for lam, place in places.items() if place is not None},
        aiq=metrics.aiq(cost, score, low, high) if panel.priced else nowhere,
        aiq_code_form=metrics.aiq_code_form(cost, score, high) if panel.priced else nowhere,
        curve_cost=cost,
        curve_score=score,
        curve_reward=reward,
    )


def cost_range(panels: Mapping[str, Panel], bootstrap: Bootstrap) -> tuple[Array, Array]:
    """Mean cost of the cheapest and of the dearest single model, in the sample and in each replicate.

    Each replicate has the range of its own queries, as another test set would. nan without single models or costs.
    """
    costs = [panel.cost.mean(axis=(0, 1)) for router, panel in panels.items() if router.startswith(SINGLE)]
    if not costs:
        nowhere = np.full(len(bootstrap.weights), np.nan)
        return nowhere, nowhere
    means = bootstrap.means(np.stack(costs))
    return means.min(axis=1), means.max(axis=1)


def best_single(rows: Mapping[str, Rows]) -> str | None:
    """The single model with the best accuracy on the sample; of equals, the cheapest, then the first by name."""
    models = sorted(router for router in rows if router.startswith(SINGLE))
    return max(
        models,
        key=lambda router: (rows[router].curve_score[0].mean(), -np.nan_to_num(rows[router].curve_cost[0]).mean()),
        default=None,
    )
