"""The small policy's network: equivariant over the arms of the pool, told λ, the budget and today's prices.

Each arm is a token. Tokens exchange four kinds of message: from arms whose answers agree, from all that have answered,
from the best of those that could be called, and their own. So a permutation of the arms permutes the outputs, and any
number of arms will do.

The heads are corrections of plain rules, so that an untrained network is already a router, told by `lookahead` which:

    p(arm is right)  = σ(odds + correction)           odds: prior and evidence, see `encoding`
    cost of a call   = expected cost · e^(a + b · ln(billed / expected))     of the calls so far: one long answer
                       foretells others
    value of select  = p · (1 − min(λ · spent, 1))
    value of call    = p · (1 − min(λ · (spent + expected cost), 1))       lookahead 0: call it and take what comes
                     = the best plan of up to three calls that begins with it: ask a second arm; where the two agree,
                       select; where they differ, select the likelier or ask a third     lookahead 1
    logit            = value / temperature + correction

Near a λ that is not `trusted`, there are neither corrections nor plans: what is left is the rule of single calls.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

PENALTIES = (0.0, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0, 20.0)
"""λ at which it is decided whether to trust the network."""

NEAR_NOTHING = 0.02
"""λ below which costs hardly matter."""

FRUGALITY = 1e-4
"""Reward that one cost unit is worth beside λ: where nothing can be won any more, nothing more is spent."""


@dataclass
class State:
    """Tensors for B queries, S situations each (see `encoding.View`) and m arms; tokens hold features last."""

    tokens: Tensor  # [B, S, m, F]
    equal: Tensor  # [B, m, m] 1 where two arms' answers are equal
    odds: Tensor  # [B, S, m] log-odds that an arm's answer is, or would be, right
    ok: Tensor  # [B, S, m] bool: a response to select
    callable: Tensor  # [B, S, m] bool
    penalty: Tensor  # [B] λ
    dearer: Tensor  # [B, S] mean ln of what calls were billed over what was expected of them
    paid: Tensor  # [B, S] λ · spent
    due: Tensor  # [B, m] λ · expected cost
    expected_cost: Tensor  # [B, m] of calling the arm now, in cost units
    meet: Tensor  # [B, m, m] how often two arms agree; this and what follows are chances, see `odds`
    part: Tensor  # [B, m, m] how often they differ
    if_met: Tensor  # [B, m, m] that the first arm is right given that the second agrees
    if_not: Tensor  # [B, m, m] and given that it differs
    if_apart: Tensor  # [B, m, m] and given that one of the two gave no answer
    third_if_not: Tensor  # [B, m, m, m] that the third arm is right given that the other two differ
    # The last four are [B, 0] where no plans are made.

    def __len__(self) -> int:
        return len(self.paid)

    @property
    def free(self) -> Tensor:
        """[B, S] whether there is more than one thing to do."""
        return self.callable.sum(dim=2) + self.ok.sum(dim=2) > 1

    def take(self, rows: Tensor) -> "State":
        return State(**{name: values[rows] for name, values in vars(self).items()})

    @staticmethod
    def concatenate(parts: "list[State]") -> "State":
        return State(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


@dataclass
class Output:
    """What the network says of the situations."""

    logits: Tensor  # [B, S, 2m] call each arm, then select each arm; least float where not allowed
    correct: Tensor  # [B, S, m] logit of the chance that the arm's answer is, or would be, right
    dearer: Tensor  # [B, S] ln of a further call's cost over what was expected before any
    plans: Tensor  # [B, S, m] bool: calling the arm is worth most as the first step of a plan of several calls


class PolicyNetwork(nn.Module):
    """See the module's text. `width` is that of the hidden layers."""

    temperature: Tensor
    lookahead: Tensor
    trusted: Tensor  # [len(PENALTIES)] 1 or 0: whether to act near this λ otherwise than by single calls
    known: Tensor  # [len(PENALTIES)] their logarithms

    def __init__(self, features: int, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.mix = nn.Linear(4 * width, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 3)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.dearer = nn.Parameter(torch.zeros(2))
        self.register_buffer("temperature", torch.tensor(0.02))
        self.register_buffer("lookahead", torch.tensor(0.0))
        self.register_buffer("trusted", torch.ones(len(PENALTIES)))
        self.register_buffer("known", torch.log(torch.tensor(PENALTIES) + NEAR_NOTHING), persistent=False)

    def forward(self, state: State) -> Output:
        hidden = torch.relu(self.embed(state.tokens))
        heard = state.ok[..., None].float()
        answered = (hidden * heard).sum(dim=2, keepdim=True) / heard.sum(dim=2, keepdim=True).clamp(min=1.0)
        offered = (hidden * state.callable[..., None]).amax(dim=2, keepdim=True)
        # An arm that has not been heard must not learn who agrees with it.
        agree = (0.5 * state.equal[:, None]) @ (hidden * heard) * heard
        parts = [hidden, answered.expand_as(hidden), offered.expand_as(hidden), agree]
        trust = self.trust(state.penalty)[:, None, None]
        correction = self.head(self.norm(hidden + torch.relu(self.mix(torch.cat(parts, dim=-1))))) * trust[..., None]
        # Before the first answer the prior says what there is to say.
        after = state.ok.any(dim=2)
        correct = state.odds + correction[..., 0] * after[..., None]
        # A line and no more: bills tell how long the question is, by which a deeper network would know it again.
        dearer = (self.dearer[0] + self.dearer[1] * state.dearer) * after
        call, select, plans = self._rule_values(state, correct.detach(), dearer.detach().exp()[..., None], trust)
        blocked = torch.finfo(call.dtype).min
        logits = torch.cat(
            [
                (call / self.temperature + correction[..., 1]).masked_fill(~state.callable, blocked),
                (select / self.temperature + correction[..., 2]).masked_fill(~state.ok, blocked),
            ],
            dim=2,
        )
        return Output(logits, correct, dearer, plans)

    def trust(self, penalty: Tensor) -> Tensor:
        """[B] what `trusted` holds for the λ nearest to each, by logarithm."""
        distance = (torch.log(penalty + NEAR_NOTHING)[:, None] - self.known).abs()
        return self.trusted[distance.argmin(dim=1)]

    def makes_plans(self, penalty: Tensor) -> bool:
        """Whether plans of several calls are weighed at any of these λ ([B])."""
        return bool(self.lookahead > 0 and self.trust(penalty).any())

    def _rule_values(self, state: State, odds: Tensor, dearer: Tensor, trust: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, S, m] expected reward of calling an arm, of selecting its response now, and whether the former is that
        of a plan; `dearer` [B, S, 1]: factor on costs; `trust` [B, 1, 1]."""
        chance = torch.sigmoid(odds)
        select = chance * (1.0 - state.paid[:, :, None]).clamp(min=0.0)
        call = chance * (1.0 - state.paid[:, :, None] - state.due[:, None] * dearer).clamp(min=0.0)
        plans = torch.zeros_like(state.callable)
        if self.lookahead > 0 and trust.any():
            plan = planned(state) * trust
            call, plans = torch.maximum(call, plan), plan > call
        return call - FRUGALITY * state.expected_cost[:, None] * dearer, select, plans


def planned(state: State) -> Tensor:
    """[B, S, m] what plans with a second and a third call are worth, that begin with calling an arm; 0 from the second
    answer on, when only single calls are weighed."""
    m = state.due.shape[1]
    due = state.due
    others = ~torch.eye(m, dtype=torch.bool, device=due.device)
    heard = state.ok.sum(dim=2)

    worth = torch.zeros(state.ok.shape, device=due.device)
    tables = [state.meet, state.part, state.if_met, state.if_not, state.if_not.transpose(1, 2)]
    tables += [state.if_apart, state.if_apart.transpose(1, 2), state.third_if_not]
    if (heard == 1).any():  # its arm i is given, j is called now
        first = state.ok.float().argmax(dim=2)  # [B, S]
        after = 1.0 - state.paid[:, :, None] - due[:, None]  # [B, S, m] once j is paid
        now = _second_call([_of(table, first) for table in tables], after, due, state.callable)
        worth = torch.where((heard == 1)[..., None], now, worth)
    if (heard == 0).any():  # i is called now, j next; the best j counts
        after_both = 1.0 - state.paid[:, :1, None] - due[:, :, None] - due[:, None]  # [B, m, m]
        offered = state.callable[:, :1] & others
        later = (_second_call(tables, after_both, due, offered) * offered).amax(dim=2)
        worth = torch.where((heard == 0)[..., None], later[:, None], worth)
    return worth


def _second_call(tables: list[Tensor], after: Tensor, due: Tensor, offered: Tensor) -> Tensor:
    """[B, N, m] worth of asking each arm j for a second answer beside that of arm i of N.

    `tables` are [B, N, m], the last one [B, N, m, m] with the third arm's chance. `after` is 1 − λ · (all that is paid
    once j is), `due` [B, m] for the third call; `offered` says which arms may be the third.
    """
    meet, part, first_if_met, first_if_not, second_if_not, first_apart, second_apart, third_if_not = tables
    left = after.clamp(min=0.0)
    third = third_if_not * (after[..., None] - due[:, None, None]).clamp(min=0.0) * offered[:, :, None]
    differ = torch.maximum(torch.maximum(first_if_not, second_if_not) * left, third.amax(dim=3))
    apart = torch.maximum(first_apart, second_apart) * left
    return meet * first_if_met * left + part * differ + (1.0 - meet - part).clamp(min=0.0) * apart


def _of(table: Tensor, arm: Tensor) -> Tensor:
    """[B, S, m, …] the rows of arms [B, S] in tables [B, m, m, …]."""
    rows = torch.arange(len(table), device=table.device)[:, None]
    return table[rows, arm]
