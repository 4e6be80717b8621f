"""The small policy's network: equivariant over the arms of the pool, told λ and today's prices.

Each arm is a token. Tokens exchange three kinds of message: from arms whose answers agree, from arms whose answers
differ, and from the whole pool. So a permutation of the arms permutes the outputs, and any number of arms will do.

The heads are corrections of plain rules, so that an untrained network is already a sensible router:

    p(arm is right)  = σ(logit(prior) + correction), the correction only for arms that have answered
    value of select  = p · (1 − min(λ · spent, 1))
    value of call    = p · (1 − min(λ · (spent + expected cost), 1))       (call it and take what comes)
    logit            = value / temperature + correction
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

FRUGALITY = 1e-4
"""Reward that one cost unit is worth beside λ: where nothing can be won any more, nothing more is spent."""


@dataclass
class State:
    """Tensors for B episodes and A arms; the last axis of `tokens` and `globals` holds features."""

    tokens: Tensor  # [B, A, F]
    globals: Tensor  # [B, G]
    answer: Tensor  # [B, A] int; equal numbers are equal answers, -1 none
    prior: Tensor  # [B, A] expected score from the query alone, in (0, 1)
    penalty: Tensor  # [B] λ
    spent: Tensor  # [B] in cost units
    expected_cost: Tensor  # [B, A] of calling the arm now, in cost units
    callable: Tensor  # [B, A] bool
    selectable: Tensor  # [B, A] bool

    def __len__(self) -> int:
        return len(self.penalty)

    def take(self, rows: Tensor) -> "State":
        return State(**{name: values[rows] for name, values in vars(self).items()})

    @staticmethod
    def concatenate(parts: "list[State]") -> "State":
        return State(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


@dataclass
class Output:
    """What the network says of B states."""

    logits: Tensor  # [B, 2A] call each arm, then select each arm; least float where not allowed
    correct: Tensor  # [B, A] logit of the chance that the arm's answer is right


class Message(nn.Module):
    """One round of messages along agreement, disagreement and the whole pool."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(4 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden: Tensor, agree: Tensor, differ: Tensor) -> Tensor:
        pool = hidden.mean(dim=1, keepdim=True).expand_as(hidden)
        heard = torch.cat([hidden, agree @ hidden, differ @ hidden, pool], dim=-1)
        out: Tensor = self.norm(hidden + torch.relu(self.mix(heard)))
        return out


class PolicyNetwork(nn.Module):
    """See the module's text. `width` is that of the hidden layers."""

    temperature: Tensor

    def __init__(self, token_features: int, global_features: int, width: int = 48, rounds: int = 2) -> None:
        super().__init__()
        # Reward that one unit of a logit is worth; training cools it. A buffer, so that it is saved with the weights.
        self.register_buffer("temperature", torch.tensor(0.03))
        self.embed_token = nn.Linear(token_features, width)
        self.embed_global = nn.Linear(global_features, width)
        self.rounds = nn.ModuleList(Message(width) for _ in range(rounds))
        self.arm_head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3))
        last = self.arm_head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, state: State) -> Output:
        agree, differ = _agreement(state.answer)
        hidden = torch.relu(self.embed_token(state.tokens) + self.embed_global(state.globals)[:, None])
        for message in self.rounds:
            hidden = message(hidden, agree, differ)
        correction = self.arm_head(hidden)
        # What an arm that has not answered is worth stays the prior's to say: it is fitted for that.
        correct = torch.logit(state.prior) + correction[..., 0] * state.selectable
        call, select = _rule_values(state, torch.sigmoid(correct.detach()))
        blocked = torch.finfo(call.dtype).min
        logits = torch.cat(
            [
                (call / self.temperature + correction[..., 1]).masked_fill(~state.callable, blocked),
                (select / self.temperature + correction[..., 2]).masked_fill(~state.selectable, blocked),
            ],
            dim=1,
        )
        return Output(logits, correct)


def _rule_values(state: State, chance: Tensor) -> tuple[Tensor, Tensor]:
    """[B, A] expected reward of calling an arm and taking what comes, and of selecting its response now."""
    spent = (state.penalty * state.spent)[:, None]
    select = chance * (1.0 - spent).clamp(min=0.0)
    call = chance * (1.0 - spent - state.penalty[:, None] * state.expected_cost).clamp(min=0.0)
    return call - FRUGALITY * state.expected_cost, select


def _agreement(answer: Tensor) -> tuple[Tensor, Tensor]:
    """[B, A, A] averaging weights over the other arms with an equal answer, and with another answer."""
    has = answer >= 0
    both = has[:, :, None] & has[:, None, :]
    equal = (answer[:, :, None] == answer[:, None, :]) & both
    others = ~torch.eye(answer.shape[1], dtype=torch.bool, device=answer.device)
    scale = 1.0 / 4.0  # sums, not means, since how many agree matters; scaled to stay near 1
    return (equal & others).float() * scale, (both & ~equal).float() * scale
