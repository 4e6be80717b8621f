"""From an observation to the network's features. No raw query features: those let a network learn queries by heart.

What the query tells comes in through the prior alone; beside it stand prices, λ, what was spent, and what the answers
so far say: which arms agree, how good the arms are that agree or differ, how long, hesitant and likely their words are.
"""

import numpy as np
import numpy.typing as npt
import torch

from xrouter_sim.engine.episodes import Observation
from xrouter_sim.engine.semantics import NO_CALL
from xrouter_sim.features import text_features
from xrouter_sim.replay import Bools, Floats, Ints, Replay
from xrouter_sim.routers.base import callable_arms
from xrouter_sim.routers.network import State
from xrouter_sim.routers.prior import fit_prior

BEHAVIOUR_DIMENSIONS = 4
LOG_GUESSES = np.log(3.0)
"""Evidence that agreement carries beside the arms' own odds: two wrong answers seldom agree by chance. A scale, learned
over by the network."""


class Encoder:
    """Turns observations on one replay into States. Fitted on training queries alone."""

    def __init__(self, replay: Replay, queries: Ints, cost_unit: float) -> None:
        """`queries` [n] training indices; `cost_unit` in USD."""
        self.cost_unit, self.model_of_arm = cost_unit, replay.model_of_arm
        self.prior = fit_prior(replay, queries, text_features(replay, queries), cost_unit)
        self.mean_score = replay.mean_score[queries].mean(axis=0)
        seen = replay.sample_mask[queries][..., None]
        evidence = np.where(seen, replay.evidence[queries], np.nan)
        self.evidence_mean = np.nanmean(evidence, axis=(0, 2))
        self.evidence_scale = np.nanstd(evidence, axis=(0, 2)) + 1e-3
        self.behaviour = _behaviour(replay.mean_score[queries] - self.prior.score[queries])

    def __call__(self, observation: Observation) -> State:
        prior = self.prior.score[observation.query]
        odds = np.log(prior / (1.0 - prior))
        cost = self.prior.cost[observation.query] * observation.price[:, self.model_of_arm] / self.cost_unit
        spent, penalty = observation.cost / self.cost_unit, observation.penalty
        called, ok, answer, evidence = self._by_arm(observation)
        selectable = ok
        may_call = callable_arms(observation, self.model_of_arm)
        may_call &= ~(observation.last_turn & selectable.any(axis=1))[:, None]
        same, differ = _agreement(answer)
        weight = np.where(answer >= 0, odds + LOG_GUESSES, 0.0)
        tokens = [
            odds / 2.0,
            np.broadcast_to(2.0 * self.mean_score - 1.0, odds.shape),
            ok,
            called & ~ok,
            may_call,
            answer >= 0,
            0.5 * np.log10(cost + 1e-6) + 1.0,
            np.clip(penalty[:, None] * cost, 0.0, 2.0),
            prior * np.clip(1.0 - penalty[:, None] * (spent[:, None] + cost), 0.0, 1.0),
            (same @ weight[:, :, None])[..., 0] / 3.0,
            (differ @ weight[:, :, None])[..., 0] / 3.0,
            same.sum(axis=2) / 4.0,
            differ.sum(axis=2) / 4.0,
        ]
        shared = [
            np.log1p(penalty),
            penalty == 0,
            np.clip(penalty * spent, 0.0, 1.0),
            observation.turn / 4.0,
            observation.last_turn,
            ok.sum(axis=1) / 4.0,
            same.sum(axis=2).max(axis=1) / 4.0,
        ]
        behaviour = np.broadcast_to(self.behaviour, (*odds.shape, self.behaviour.shape[1]))
        return State(
            tokens=_tensor(np.concatenate([np.stack(tokens, axis=-1), evidence, behaviour], axis=-1)),
            globals=_tensor(np.stack(shared, axis=-1)),
            answer=torch.from_numpy(answer),
            prior=_tensor(prior),
            penalty=_tensor(penalty),
            spent=_tensor(spent),
            expected_cost=_tensor(cost),
            callable=torch.from_numpy(may_call),
            selectable=torch.from_numpy(selectable),
        )

    def _by_arm(self, observation: Observation) -> tuple[Bools, Bools, Ints, Floats]:
        """Slots laid out by arm: called, ok, answer (-1 none) and standardised evidence, [B, A] or [B, A, E] each."""
        shape = (len(observation), len(self.model_of_arm))
        called, ok = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        answer = np.full(shape, -1)
        evidence = np.zeros((*shape, observation.evidence.shape[2]))
        row, slot = np.nonzero(observation.arm != NO_CALL)
        arm = observation.arm[row, slot]
        called[row, arm] = True
        ok[row, arm] = observation.ok[row, slot]
        answer[row, arm] = observation.answer[row, slot]
        standard = (observation.evidence[row, slot] - self.evidence_mean[arm]) / self.evidence_scale[arm]
        evidence[row, arm] = np.where(ok[row, arm][:, None], np.clip(standard, -3.0, 3.0), 0.0)
        return called, ok, answer, evidence


def _behaviour(residual: Floats) -> Floats:
    """[A, ≤ 4] how an arm's surprises go with those of others: scaled principal directions of the residuals [n, A]."""
    _, singular, directions = np.linalg.svd(residual - residual.mean(axis=0), full_matrices=False)
    kept = slice(0, BEHAVIOUR_DIMENSIONS)
    scale = 2.0 * singular[kept] / np.sqrt(len(residual))
    loadings: Floats = directions[kept].T * scale
    return loadings


def _agreement(answer: Ints) -> tuple[Floats, Floats]:
    """[B, A, A] 1 where two different arms gave equal answers, and where they gave different ones."""
    has = answer >= 0
    both = has[:, :, None] & has[:, None, :]
    equal = answer[:, :, None] == answer[:, None, :]
    others = ~np.eye(answer.shape[1], dtype=np.bool_)
    return (both & equal & others).astype(np.float64), (both & ~equal).astype(np.float64)


def _tensor(values: npt.NDArray[np.generic]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
