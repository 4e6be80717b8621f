"""The exact policy gradient: what a policy earns, summed over all it could do instead of sampled.

Every arm's answer to a training query is on record, so for a query, λ and prices the outcome of any course is known. A
course through a pool of m arms passes through sets of called arms: 2^m situations, in each of which the policy has a
distribution over what to call or select. Its expected reward is a sum over that lattice, from the full set back to the
empty one, and differentiable: no action is drawn, so none adds noise, and no critic or baseline is needed. (All-action
policy gradient, Sutton et al., 2001; here over whole episodes.) Noise that is left is that of the grades of a few
thousand queries; `odds.smoothed_grades` takes most of it.

Pools, prices, budgets and failing arms are drawn anew for each query of each step.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from xrouter_sim.replay import Floats, Ints
from xrouter_sim.routers.encoding import NO_LIMIT, WIDTH, Encoder, View, log_ratio

PRICE_SIGMA = 1.0
"""Of the log of each arm's price factor, in half of the draws; the others are at list price."""

FAILING = 0.1
"""Chance that an arm fails, in half of the draws."""

BUDGETED = 0.2
"""Share of draws with a budget: log-uniform between 0.02 and 2 cost units."""

CONTESTED = 0.6
"""Share of draws whose pool holds the arms that promise most at its λ; in the others it is drawn evenly."""

PROMISE = 0.1
"""Spread of the noise, in reward, by which the first kind of pool is drawn."""


@dataclass
class Lattice:
    """B queries with every set of called arms as situations, and what selecting each arm would be graded."""

    view: View
    grade: Tensor  # [B, m] in [0, 1]
    penalty: Tensor  # [B]
    spent: Tensor  # [B, S] in cost units
    dearer: Tensor  # [B, m] ln of the arm's mean cost on the query over what is expected of it

    def to(self, device: torch.device) -> "Lattice":
        """The same on another device."""
        tensors = (self.grade, self.penalty, self.spent, self.dearer)
        return Lattice(self.view.to(device), *(each.to(device) for each in tensors))


def draw_lattice(encoder: Encoder, grades: Floats, queries: Ints, penalty: Floats, rng: np.random.Generator) -> Lattice:
    """A pool and a world for each of `queries` [B] (indices into the replay) and λ [B]. Selecting an arm pays `grades`
    [Q, A]; that of the sample drawn where it has several."""
    replay = encoder.seen
    b, arms = len(queries), replay.arms
    price = np.exp(PRICE_SIGMA * rng.standard_normal((b, arms)) * (rng.random((b, 1)) < 0.5))
    listed = encoder.prior.cost[queries] / encoder.cost_unit * price
    promise = encoder.prior.score[queries] * np.maximum(1.0 - penalty[:, None] * listed, 0.0)
    noise = rng.gumbel(size=(b, arms))
    score = np.where(rng.random((b, 1)) < CONTESTED, promise / PROMISE, 0.0) + noise
    m = min(WIDTH, arms)
    arm = np.argsort(-score, axis=1)[:, :m]
    price = np.take_along_axis(price, arm, axis=1)
    sample = (rng.random((b, m)) * replay.samples[queries[:, None], arm]).astype(np.int64)
    cell = (queries[:, None], arm, sample)
    fails = (rng.random((b, m)) < FAILING) & (rng.random((b, 1)) < 0.5)
    billed = replay.cost_usd[cell] / encoder.cost_unit * price * ~(fails & (rng.random((b, m)) < 0.5))
    fails |= replay.status[cell] > 0
    room = np.where(rng.random(b) < BUDGETED, 0.02 * 100.0 ** rng.random(b), NO_LIMIT)
    sets = _sets(m)
    spent = _tensor(billed) @ sets.float().T
    called = sets.expand(b, *sets.shape)
    evidence = encoder.standardised(replay.evidence[cell], arm)
    # Several samples of an arm differ in their grades; smoothed grades are of the arm.
    several = replay.samples[queries[:, None], arm] > 1
    grade = np.where(several, replay.score[cell], grades[queries[:, None], arm])
    view = View(
        query=torch.from_numpy(queries),
        arm=torch.from_numpy(arm),
        price=_tensor(price),
        answer=torch.from_numpy(np.where(fails, -1, replay.answer[cell])),
        option=torch.from_numpy(np.where(fails, 0, encoder.options[cell]).astype(np.int64)),
        evidence=_tensor(evidence * ~fails[:, :, None]),
        dearer=_tensor(log_ratio(billed, np.take_along_axis(listed, arm, axis=1)) * ~fails),
        penalty=_tensor(penalty),
        room=_tensor(room),
        called=called,
        ok=called & ~torch.from_numpy(fails)[:, None],
        callable=~called & (spent < _tensor(room)[:, None])[:, :, None],
        spent=spent,
        turn=sets.sum(dim=1).float().expand(b, -1),
        last_turn=torch.zeros(spent.shape, dtype=torch.bool),
    )
    dearer = log_ratio(replay.mean_cost[queries[:, None], arm], encoder.prior.cost[queries[:, None], arm])
    return Lattice(view, _tensor(grade), view.penalty, spent, _tensor(dearer)).to(encoder.device)


def exact_reward(logits: Tensor, lattice: Lattice) -> Tensor:
    """[B] expected reward, from the empty set, of the policy with these logits [B, S, 2m]."""
    m = lattice.grade.shape[1]
    # Where nothing can be done the policy's distribution means nothing, and no reward is due.
    can = torch.cat([lattice.view.callable, lattice.view.ok], dim=2)
    chance = torch.softmax(logits, dim=2) * can
    earned = (1.0 - lattice.penalty[:, None] * lattice.spent).clamp(min=0.0)[:, :, None] * lattice.grade[:, None]
    stops = (chance[:, :, m:] * earned).sum(dim=2)
    value, place = stops[:, -1:], torch.zeros(2**m, dtype=torch.int64)
    for sets, following in _levels(m):
        goes_on = chance[:, sets, :m] * value[:, place[following]]
        place = torch.zeros(2**m, dtype=torch.int64)
        place[sets] = torch.arange(len(sets))
        value = stops[:, sets] + goes_on.sum(dim=2)
    return value[:, 0]


@cache
def _sets(m: int) -> Tensor:
    """[2^m, m] bool: the sets of m arms by number, bit i for arm i."""
    return ((torch.arange(2**m)[:, None] >> torch.arange(m)) & 1).bool()


@cache
def _levels(m: int) -> list[tuple[Tensor, Tensor]]:
    """Sets of m − 1, …, 0 arms ([n] numbers), and the set that each arm makes of them ([n, m]; of called ones, any)."""
    sizes = _sets(m).sum(dim=1)
    levels = []
    for size in range(m - 1, -1, -1):
        sets = torch.nonzero(sizes == size)[:, 0]
        following = sets[:, None] | (1 << torch.arange(m))
        levels.append((sets, following))
    return levels


def _tensor(values: Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
