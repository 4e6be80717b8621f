"""From what a router has seen to the network's features. No raw query features: those a network learns by heart.

What the query tells comes in through the prior alone. Beside it stand prices, λ, the budget, what was spent, and what
the answers say of one another (see `odds`): by how much they move the odds of every arm, called or not.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xrouter_sim.engine.episodes import Observation
from xrouter_sim.engine.semantics import NO_CALL
from xrouter_sim.evidence.code import code_evidence
from xrouter_sim.features import OPTIONS, answer_options, text_features
from xrouter_sim.replay import Bools, Floats, Ints, Replay
from xrouter_sim.routers.base import callable_arms
from xrouter_sim.routers.network import FRUGALITY, State
from xrouter_sim.routers.odds import fit_odds
from xrouter_sim.routers.prior import fit_prior
from xrouter_sim.routers.unmet import Unmet

EVIDENCE = {
    "text": "what the question's words tell",
    "domain": "the domain's name",
    "options": "which letter an answer is",
    "agreement": "which answers are equal",
    "code": "what running returned code told",
    "response": "length, hedging, log-probability of a response",
    "bills": "what calls were billed",
}
"""What the router reads beside pool, prices, λ and budget, by name; each may be left out, to see what it is worth."""

PAIRS = ("agrees", "differs", "apart", "meet", "part")

BEHAVIOURS = 1 << 20
"""Numbers of behaviours begin here, so that none is that of an answer."""

WIDTH = 6
"""Arms that are weighed at once: a lattice has 2^WIDTH sets of them, and plans of three calls take WIDTH³ chances."""

USUAL = 0.02
"""Share of the responses from which on an option counts as usual."""

NO_LIMIT = 1e6
"""Cost units of a budget where there is none."""


@dataclass
class View:
    """What is known of B queries with m arms each, in S situations a query: S is 1 where episodes are played, and every
    set of called arms where a policy is trained on all of them at once (`training.lattice`).

    What an arm answers is the same in every situation; only where it is `ok` may it be looked at.
    """

    query: Tensor  # [B] index into the replay
    arm: Tensor  # [B, m] index of an arm
    price: Tensor  # [B, m] factor on the price card
    answer: Tensor  # [B, m] equal numbers are equal answers, -1 none
    option: Tensor  # [B, m] 1 … OPTIONS: the letter chosen; 0 none
    evidence: Tensor  # [B, m, E] standardised
    dearer: Tensor  # [B, m] ln of what was billed over what was expected, 0 where nothing was
    penalty: Tensor  # [B] λ
    room: Tensor  # [B] budget in cost units, NO_LIMIT at most
    called: Tensor  # [B, S, m] bool
    ok: Tensor  # [B, S, m] bool: a usable response is at hand
    callable: Tensor  # [B, S, m] bool
    spent: Tensor  # [B, S] in cost units
    turn: Tensor  # [B, S]
    last_turn: Tensor  # [B, S] bool

    def to(self, device: torch.device) -> "View":
        """The same on another device."""
        return View(**{name: values.to(device) for name, values in vars(self).items()})

    def take(self, rows: Tensor) -> "View":
        """Some of the queries."""
        return View(**{name: values[rows] for name, values in vars(self).items()})


class Encoder:
    """Turns views on one replay into States. Fitted on training queries alone."""

    def __init__(
        self,
        replay: Replay,
        queries: Ints,
        cost_unit: float,
        unmet: Unmet | None = None,
        without: Collection[str] = (),
    ) -> None:
        """`queries` [n] training indices; `cost_unit` in USD; `unmet`: arms of which less may be read; `without`: names
        of EVIDENCE that are left out."""
        self.cost_unit, self.model_of_arm = cost_unit, replay.model_of_arm
        self.without, self.device = frozenset(without), torch.device("cpu")
        if "domain" in without:
            replay = replace(replay, domains=np.full(len(replay.domains), "all"), memo={})
        self.seen = replay if "code" in without else with_code(replay)
        filled, counted = (replay, self.seen) if unmet is None else (unmet.filled(replay), unmet.blanked(self.seen))
        self.prior = fit_prior(filled, queries, text_features(replay, queries), cost_unit)
        self.prior_score, self.prior_cost = _tensor(self.prior.score), _tensor(self.prior.cost / cost_unit)
        odds = fit_odds(counted, queries)
        self.table, self.by_option = torch.from_numpy(odds.table), _tensor(odds.option)
        self.by_pair = _tensor(np.stack([getattr(odds, name) for name in PAIRS], axis=-1))  # [T, A, A, 5]
        self.by_triple_met, self.by_triple_not = _tensor(odds.if_met), _tensor(odds.if_not)  # [T, A, A, A]
        if "options" in without:
            self.by_option.zero_()
        if "agreement" in without:
            for table in (self.by_pair, self.by_triple_met, self.by_triple_not):
                table.zero_()
        self.options = answer_options(replay)
        counts = np.eye(OPTIONS + 1)[self.options[queries]][self.seen.sample_mask[queries]].sum(axis=0)
        self.usual_options = [
            option for option in np.argsort(-counts).tolist() if counts[option] >= USUAL * counts.sum()
        ]
        present = counted.sample_mask[queries][..., None]
        evidence = np.where(present, self.seen.evidence[queries], np.nan)
        evidence[:, ~present[..., 0].any(axis=(0, 2))] = 0.0  # an arm without a response: nothing to scale by
        self.evidence_mean = np.nanmean(evidence, axis=(0, 2))
        self.evidence_scale = np.nanstd(evidence, axis=(0, 2)) + 1e-3

    def to(self, device: torch.device) -> None:
        """Move what queries are looked up in."""
        self.device = device
        for name, values in vars(self).items():
            if isinstance(values, Tensor):
                setattr(self, name, values.to(device))

    def standardised(self, evidence: npt.NDArray[np.float64], arm: Ints) -> npt.NDArray[np.float64]:
        """Evidence [..., E] of responses of the arms [...], as multiples of the arm's own spread."""
        scaled = (evidence - self.evidence_mean[arm]) / self.evidence_scale[arm]
        clipped: npt.NDArray[np.float64] = np.clip(scaled, -3.0, 3.0)
        return clipped

    def view(self, observation: Observation) -> View:
        """One situation for each episode, over the arms called so far and those that promise most, WIDTH in all."""
        arms = len(self.model_of_arm)
        shape = (len(observation), arms)
        called, ok = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        answer, option = np.full(shape, -1), np.zeros(shape, np.int64)
        evidence, dearer = np.zeros((*shape, self.seen.evidence.shape[3])), np.zeros(shape)
        price = observation.price[:, self.model_of_arm]
        row, slot = np.nonzero(observation.arm != NO_CALL)
        if len(row):
            arm = observation.arm[row, slot]
            called[row, arm] = True
            ok[row, arm] = observation.ok[row, slot]
            usable = observation.ok[row, slot]
            row, slot, arm = row[usable], slot[usable], arm[usable]
            answer[row, arm], option[row, arm], told = self._told(observation, row, slot, arm)
            evidence[row, arm] = self.standardised(told, arm)
            expected = self.prior.cost[observation.query[row], arm] * price[row, arm]
            dearer[row, arm] = log_ratio(observation.slot_cost[row, slot], expected)
        may_call = callable_arms(observation, self.model_of_arm)
        may_call &= ~(observation.last_turn & ok.any(axis=1))[:, None]
        may_call &= (observation.cost < observation.budget)[:, None]
        pool = self._pool(observation, price, called, may_call)
        each = np.arange(len(observation))[:, None]
        shown = {
            "price": _tensor(price[each, pool]),
            "answer": torch.from_numpy(answer[each, pool]),
            "option": torch.from_numpy(option[each, pool]),
            "evidence": _tensor(evidence[each, pool]),
            "dearer": _tensor(dearer[each, pool]),
            "called": torch.from_numpy(called[each, pool])[:, None],
            "ok": torch.from_numpy(ok[each, pool])[:, None],
            "callable": torch.from_numpy(may_call[each, pool])[:, None],
        }
        return View(
            query=torch.from_numpy(observation.query),
            arm=torch.from_numpy(pool),
            penalty=_tensor(observation.penalty),
            room=_tensor(np.minimum(observation.budget / self.cost_unit, NO_LIMIT)),
            spent=_tensor(observation.cost / self.cost_unit)[:, None],
            turn=_tensor(observation.turn)[:, None],
            last_turn=torch.from_numpy(observation.last_turn)[:, None],
            **shown,
        )

    def _told(self, observation: Observation, row: Ints, slot: Ints, arm: Ints) -> tuple[Ints, Ints, Floats]:
        """Answers [n], options [n] and evidence [n, E] of usable responses. What running code told is not known of live
        ones."""
        if observation.live:
            plain = observation.evidence[row, slot]
            missing = self.evidence_mean[arm][:, plain.shape[1] :]
            return observation.answer[row, slot], observation.option[row, slot], np.hstack([plain, missing])
        cell = observation.query[row], arm, observation.sample[row, slot]
        return self.seen.answer[cell], self.options[cell], self.seen.evidence[cell]

    def _pool(self, observation: Observation, price: Floats, called: Bools, may_call: Bools) -> Ints:
        """[B, m] the arms to weigh."""
        arms = called.shape[1]
        if arms <= WIDTH:
            return np.tile(np.arange(arms), (len(called), 1))
        prior = self.prior
        due = observation.penalty[:, None] * prior.cost[observation.query] * price / self.cost_unit
        # Where all are too dear, the cheap ones.
        promise = prior.score[observation.query] * np.maximum(1.0 - due, 0.0) - FRUGALITY * due
        rank = np.where(called, 2.0, np.where(may_call, promise, -1e9))
        return np.argpartition(-rank, WIDTH - 1, axis=1)[:, :WIDTH]

    def answered(self, view: View, place: Tensor, options: Sequence[int | None]) -> View:
        """What would be known of the first situation after the arm at `place` ([B]) was called first, cost what is
        expected, and gave an option, or for None no answer that can be read: the first option in the first of
        len(options) equal parts of the batch, and so on."""
        chosen = nn.functional.one_hot(place, view.arm.shape[1]).bool()
        cost = self.prior_cost[view.query.to(self.device)].cpu().gather(1, view.arm) * view.price
        each = len(place) // len(options)
        answer = torch.tensor([-1 if option is None else 0 for option in options]).repeat_interleave(each)
        option = torch.tensor([option or 0 for option in options]).repeat_interleave(each)
        spent = view.spent + (cost * chosen).sum(dim=1, keepdim=True)
        return replace(
            view,
            called=chosen[:, None],
            ok=chosen[:, None],
            callable=view.callable & ~chosen[:, None] & (spent < view.room[:, None])[..., None],
            answer=torch.where(chosen, answer[:, None], -1),
            option=torch.where(chosen, option[:, None], 0),
            spent=spent,
            turn=view.turn + 1,
        )

    def _read(self, view: View) -> View:
        """The view without what is left out."""
        if "agreement" in self.without:
            view = replace(view, answer=torch.full_like(view.answer, -1))
        if "response" in self.without:
            view = replace(view, evidence=torch.zeros_like(view.evidence))
        if "bills" in self.without:
            view = replace(view, dearer=torch.zeros_like(view.dearer))
        return view

    def __call__(self, view: View, plans: bool = True) -> State:
        """`plans`: whether the state is to tell what plans of several calls are worth; it takes half of the time."""
        view = self._read(view.to(self.device))
        arm, table = view.arm, self.table[view.query]
        prior = self.prior_score[view.query].gather(1, arm)
        base = torch.logit(prior)
        cost = self.prior_cost[view.query].gather(1, arm) * view.price
        own = self.by_option[table].gather(1, arm[:, :, None].expand(-1, -1, self.by_option.shape[2]))
        own = own.gather(2, view.option[:, :, None])[:, :, 0]
        agrees, differs, apart, meet, part = _taken(self.by_pair, table, arm, 2).unbind(-1)
        several = bool((view.ok.sum(dim=2) > 1).any())
        third_base = base[:, None, None]
        if several or plans:
            if_not = (_taken(self.by_triple_not, table, arm, 3) + third_base).clamp_(-4.0, 4.0)
        equal, unequal = _agreement(view.answer)
        heard = view.ok.float()
        lift = heard @ (agrees * equal + differs * unequal).transpose(1, 2)
        same, other = heard @ equal, heard @ unequal
        answered = base[:, None] + own[:, None] + lift
        unheard = base[:, None]
        if several:  # the mean of what each pair of answers at hand says of an arm
            if_met = (_taken(self.by_triple_met, table, arm, 3) + third_base).clamp_(-4.0, 4.0)
            told = if_met * equal[..., None] + if_not * unequal[..., None]
            pairs = torch.einsum("bij,bsi,bsj->bs", equal + unequal, heard, heard)[..., None]
            mean = torch.einsum("bijk,bsi,bsj->bsk", told, heard, heard) / pairs.clamp(min=1.0)
            unheard = torch.where(pairs > 0, mean, unheard)
        odds = torch.where(view.ok, answered, unheard).clamp(-4.0, 4.0)
        chance = torch.sigmoid(odds)
        penalty = view.penalty[:, None]
        paid, due = penalty * view.spent, penalty * cost
        worth_now = chance * (1.0 - paid).clamp(min=0.0)[:, :, None] * heard
        worth_called = chance * (1.0 - paid[:, :, None] - due[:, None]).clamp(min=0.0) * view.callable
        best_now, best_called = worth_now.amax(dim=2, keepdim=True), worth_called.amax(dim=2, keepdim=True)
        best_chance = (chance * heard).amax(dim=2, keepdim=True)
        dearer = (view.dearer[:, None] * heard).sum(dim=2) / heard.sum(dim=2).clamp(min=1.0)
        room = (view.room[:, None] - view.spent).clamp(0.0, 2.0)
        tokens = [
            odds / 2.0,
            base[:, None] / 2.0,
            heard,
            (view.called & ~view.ok).float(),
            view.callable.float(),
            heard * own[:, None] / 2.0,
            heard * lift / 3.0,
            heard * same / 3.0,
            heard * other / 3.0,
            (1.0 - heard) * (odds - base[:, None]),
            0.4 * torch.log10(cost + 1e-6)[:, None] + 1.0,
            due.clamp(max=2.0)[:, None],
            worth_now,
            worth_called,
            (worth_now - best_now) * heard * 3.0,
            (worth_called - best_now) * view.callable * 3.0,
            (chance - best_chance) * (1.0 - heard) * 2.0,
            torch.log1p(view.penalty)[:, None, None] / 2.0,
            paid.clamp(max=1.0)[:, :, None],
            room[:, :, None],
            heard.sum(dim=2, keepdim=True) / 4.0,
            view.turn[:, :, None] / 4.0,
            view.last_turn[:, :, None].float(),
            best_now,
            best_called,
            (best_now - best_called) * 3.0,
            best_chance,
        ]
        shown = torch.stack(torch.broadcast_tensors(*tokens), dim=-1)  # type: ignore[no-untyped-call]
        evidence = view.evidence[:, None] * heard[..., None]
        untold = cost.new_zeros(len(arm), 0)
        return State(
            tokens=torch.cat([shown, evidence], dim=-1),
            equal=equal,
            odds=odds,
            ok=view.ok,
            callable=view.callable,
            penalty=view.penalty,
            dearer=dearer,
            paid=paid,
            due=due,
            expected_cost=cost,
            meet=meet,
            part=part,
            if_met=torch.sigmoid(base[:, :, None] + agrees) if plans else untold,
            if_not=torch.sigmoid(base[:, :, None] + differs) if plans else untold,
            if_apart=torch.sigmoid(base[:, :, None] + apart) if plans else untold,
            third_if_not=torch.sigmoid(if_not) if plans else untold,
        )


def log_ratio(billed: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """ln(billed / expected), in [−2, 2]; 0 where nothing was billed."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(billed / expected)
    clipped: npt.NDArray[np.float64] = np.clip(np.where((billed > 0) & (expected > 0), ratio, 0.0), -2.0, 2.0)
    return clipped


def with_code(replay: Replay) -> Replay:
    """The replay with what running returned code told, where `xrouter-sim store run-code` was run.

    Responses that behave alike count as equal answers where no answer could be read; flags join the other evidence.
    """
    found = code_evidence(replay)
    if found is None:
        return replay
    unread = (replay.answer < 0) & (found.behaviour >= 0)
    answer = np.where(unread, found.behaviour + BEHAVIOURS, replay.answer)
    return replace(replay, answer=answer, evidence=np.concatenate([replay.evidence, found.flags], axis=3))


def _taken(tables: Tensor, table: Tensor, arm: Tensor, axes: int) -> Tensor:
    """[B, m, …, N] of tables [T, A, …, N] with some axes of arms: row `table` [B], those of `arm` [B, m]."""
    at = [table.view(-1, *[1] * axes)]
    for axis in range(axes):
        shape = [len(arm), *[1] * axes]
        shape[1 + axis] = arm.shape[1]
        at.append(arm.reshape(shape))
    taken: Tensor = tables[tuple(at)]
    return taken


def _agreement(answer: Tensor) -> tuple[Tensor, Tensor]:
    """[B, m, m] 1 where two different arms gave equal answers, and where they gave different ones."""
    has = answer >= 0
    others = ~torch.eye(answer.shape[1], dtype=torch.bool, device=answer.device)
    both = has[:, :, None] & has[:, None, :] & others
    equal = answer[:, :, None] == answer[:, None, :]
    return (both & equal).float(), (both & ~equal).float()


def _tensor(values: npt.NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
