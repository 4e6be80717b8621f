"""From the store to dense arrays: what every model answered to every query, ready to be played back."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from responses_db import LabError
from xrouter_sim.costs import Costs
from xrouter_sim.loading import EVIDENCE as EVIDENCE
from xrouter_sim.loading import STATUSES as STATUSES
from xrouter_sim.loading import load_arrays

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Replay:
    """Dense arrays over Q queries × A arms × K samples. An arm is a (model, prompt style) pair: model · S + style.

    The bounds and the simulator read the same arrays, so that what is optimal on one is optimal in the other.
    `score` is for the simulator, the bounds and for fitting on training queries; no router sees it when it acts.
    """

    query_ids: list[str]
    questions: list[str]
    domains: npt.NDArray[np.str_]  # [Q]
    splits: npt.NDArray[np.str_]  # [Q]
    model_ids: list[str]  # M
    prompt_styles: list[str]  # S
    samples: Ints  # [Q, A] number of samples at hand, at least 1
    score: Floats  # [Q, A, K] in [0, 1]
    cost_usd: Floats  # [Q, A, K] USD under the price card in force
    tokens: Ints  # [Q, A, K] input and output; -1 unknown
    latency_s: Floats  # [Q, A, K] seconds; NaN unknown
    answer: Ints  # [Q, A, K] equal numbers within a query are equal answers; -1 none could be read
    status: Ints  # [Q, A, K] index into STATUSES
    evidence: Floats  # [Q, A, K, len(EVIDENCE)]
    store: dict[str, Any]  # path, content_hash, provenance and what was left out: for the manifest
    memo: dict[object, Floats] = field(default_factory=dict, compare=False, repr=False)  # what several routers compute

    @classmethod
    def load(cls, path: str | Path, costs: Costs | None = None) -> Self:
        """Read a store. Queries that lack an answer of some arm are left out and counted in `store["left_out"]`.

        `costs` says what to do where a price is unknown. Raises LabError when nothing is left, a response has no grade,
        or a price is unknown and `costs` does not say.
        """
        return cls(**load_arrays(path, costs))

    @property
    def priced(self) -> bool:
        """Whether costs mean anything. Where not, `cost_usd` holds a placeholder, and no figure of cost may be told."""
        return bool(self.store.get("costs", {}).get("kind") != "none")

    @property
    def arms(self) -> int:
        return len(self.model_ids) * len(self.prompt_styles)

    @cached_property
    def arm_names(self) -> list[str]:
        """`model` where there is one prompt style, else `model/style`."""
        if len(self.prompt_styles) == 1:
            return self.model_ids
        return [f"{model}/{style}" for model in self.model_ids for style in self.prompt_styles]

    @property
    def providers(self) -> list[str]:
        """M: who serves each model, by the store; the model itself where it does not say."""
        known = self.store.get("providers", {})
        return [known.get(model, model) for model in self.model_ids]

    @cached_property
    def model_of_arm(self) -> Ints:
        """[A] index into `model_ids`."""
        return np.arange(self.arms) // len(self.prompt_styles)

    def indices(self, split: str) -> Ints:
        """The query indices of a split; LabError when it is empty."""
        found = np.flatnonzero(self.splits == split)
        if not len(found):
            known = ", ".join(sorted(set(self.splits.tolist())))
            raise LabError(f"{self.store['path']}: no queries in split {split!r} (it has {known})")
        return found

    @cached_property
    def sample_mask(self) -> Bools:
        """[Q, A, K] true where a sample is at hand."""
        return np.arange(self.score.shape[2]) < self.samples[:, :, None]

    def mean_over_samples(self, values: Floats) -> Floats:
        """[Q, A] mean of [Q, A, K] over the samples at hand; 0 where there is none."""
        total: Floats = np.where(self.sample_mask, values, 0.0).sum(axis=2)
        return total / np.maximum(self.samples, 1)

    @cached_property
    def mean_score(self) -> Floats:
        """[Q, A]"""
        return self.mean_over_samples(self.score)

    @cached_property
    def mean_cost(self) -> Floats:
        """[Q, A] USD"""
        return self.mean_over_samples(self.cost_usd)


def cost_unit(replay: Replay, queries: Ints) -> float:
    """The unit of cost in the reward, in USD: the 95th percentile of what the dearest arm costs on these queries.

    Under `Costs(accuracy_only=True)` it is the placeholder, and not to be told.
    """
    cost = replay.mean_cost[queries]
    unit = float(np.quantile(cost[:, cost.mean(axis=0).argmax()], 0.95))
    if unit <= 0:
        raise LabError(f"{replay.store['path']}: every call is free, nothing to route for: import costs or price cards")
    return unit
