"""One network in training, on its own part of the training queries: exact updates first, then played ones.

The exact policy gradient over every course through drawn pools and worlds (`lattice`): since all answers to the
training queries are on record, nothing needs to be sampled. Then, in the engine itself, with its failures, retries and
outages, a clipped policy gradient with group-relative advantages (PPO's objective, Schulman et al., arXiv 1707.06347;
GRPO's baseline, Shao et al., arXiv 2402.03300). A group is one query, λ and world, played several times: since the
world is the same for all, what differs between their rewards is due to the actions alone. In both, a head learns the
chance that each arm is right given what has been seen, another what a call of it would cost.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xrouter_sim.engine.episodes import Episodes, Observation
from xrouter_sim.engine.randomness import Purpose, draw, uniform
from xrouter_sim.engine.rollout import play
from xrouter_sim.engine.semantics import Action
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.replay import Floats, Ints
from xrouter_sim.routers.encoding import Encoder, View
from xrouter_sim.routers.network import Output, PolicyNetwork, State
from xrouter_sim.routers.rl import to_action
from xrouter_sim.training.config import Config, penalties, penalties_of
from xrouter_sim.training.lattice import draw_lattice, exact_reward

TRAINING_KEYS = 1_000_000_000
"""Episode keys from here on are for training; evaluation counts from 0. So no world is met twice."""

REWARD_SCALE = 20.0
"""Of the exact reward beside the correctness loss: differences that matter are of a hundredth."""

UNHEARD = 0.3
"""Weight, in the correctness loss, of an arm that has not answered: there are more of them."""

Weights = dict[str, Tensor]

Decided = tuple[Observation, View, State, Ints, Floats]
"""What was seen, the index of the logit that was chosen, and its log-probability."""


@dataclass
class Transitions:
    """What one played update learns from; T decisions."""

    state: State
    choice: Tensor  # [T] index of the logit
    log_probability: Tensor  # [T] under the policy that chose
    advantage: Tensor  # [T]
    correct: Tensor  # [T, A] grade of every arm on the query


class Member:
    """A network, its averaged weights and its optimiser; trained on `train_queries`, validated on `held_out`."""

    def __init__(
        self, number: int, encoder: Encoder, network: PolicyNetwork, grades: Floats, parts: tuple[Ints, Ints], c: Config
    ) -> None:
        """`grades` [Q, A] of training queries; `parts`: indices of the queries to train and to validate on."""
        self.number, self.encoder, self.network, self.grades, self.config = number, encoder, network, grades, c
        self.train_queries, self.held_out = parts
        self.network.lookahead.fill_(1.0)
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=c.learning_rate, weight_decay=c.weight_decay, foreach=False
        )
        self.average = self.weights()

    def weights(self) -> Weights:
        """A copy of the network's weights, by name."""
        return {name: value.clone() for name, value in self.network.state_dict().items()}

    def step(self, update: int, simulator: Simulator, batch_size: int) -> dict[str, float]:
        """Carry out an update, counted from 0; returns figures for the curve."""
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * (1.0 - update / config.updates)
        hot, cold = config.temperature
        self.network.temperature.fill_(hot + (cold - hot) * update / max(config.updates - 1, 1))
        return self._exact(update) if update < config.lattice_updates else self._played(update, simulator, batch_size)

    def _exact(self, update: int) -> dict[str, float]:
        config = self.config
        rng = np.random.default_rng(int(draw(config.seed, Purpose.POLICY, update * config.folds + self.number)))
        rewards = []
        for _ in range(config.lattice_steps):
            queries = self.train_queries[rng.integers(len(self.train_queries), size=config.lattice_queries)]
            penalty = penalties_of(rng.random(len(queries)))
            lattice = draw_lattice(self.encoder, self.grades, queries, penalty, rng)
            state = self.encoder(lattice.view)
            output = self.network(state)
            reward = exact_reward(output.logits, lattice)
            loss = config.correctness * correctness_loss(output, lattice.grade[:, None], state.ok)
            loss = loss + config.cost * cost_loss(output, lattice.dearer[:, None], state)
            if update >= config.warm_up_updates:
                loss = loss - REWARD_SCALE * (reward.mean() + config.entropy * entropy_of(output.logits).mean())
            self._descend(loss)
            rewards.append(float(reward.mean().detach()))
        return {"reward": float(np.mean(rewards))}

    def _played(self, update: int, simulator: Simulator, batch_size: int) -> dict[str, float]:
        transitions, episodes = self.collect(update, simulator, batch_size)
        entropy = 0.0
        for rows in self._minibatches(len(transitions.choice), update):
            loss, entropy = self.loss(transitions, rows)
            self._descend(loss)
        return {
            "reward": float(episodes.reward.mean()),
            "accuracy": float(episodes.score.mean()),
            "cost_usd": float(episodes.cost.mean()),
            "calls_per_episode": float(episodes.n_slots.mean()),
            "entropy": entropy,
        }

    def collect(self, update: int, simulator: Simulator, batch_size: int) -> tuple[Transitions, Episodes]:
        """Play an update's groups with the current policy, sampling its actions."""
        config = self.config
        first = (update * config.folds + self.number) * config.groups
        key = TRAINING_KEYS + np.repeat(first + np.arange(config.groups), config.group_size)
        query = self.train_queries[(uniform(config.seed, Purpose.QUERY, key) * len(self.train_queries)).astype(int)]
        seen: list[Decided] = []

        def policy(observation: Observation) -> Action:
            view = self.encoder.view(observation)
            state = self.encoder(view)
            with torch.inference_mode():
                log_probabilities = torch.log_softmax(self.network(state).logits[:, 0], dim=1).cpu().numpy()
            actions = np.arange(log_probabilities.shape[1])
            counters = (observation.key[:, None], observation.row[:, None], observation.turn[:, None], actions)
            gumbel = -np.log(-np.log(uniform(config.seed, Purpose.POLICY, *counters)))
            choice = (log_probabilities + gumbel).argmax(axis=1)
            seen.append((observation, view, state, choice, log_probabilities[np.arange(len(choice)), choice]))
            return to_action(choice, view, observation)

        episodes = play(policy, simulator, query, key, penalties(config.seed, key), batch_size)
        return self._transitions(seen, episodes), episodes

    def _transitions(self, seen: list[Decided], episodes: Episodes) -> Transitions:
        reward = episodes.reward.reshape(-1, self.config.group_size)
        # The mean of the others is the baseline: leaving oneself out keeps the gradient unbiased.
        size = max(self.config.group_size, 2)
        advantage = ((reward - reward.mean(axis=1, keepdims=True)) * size / (size - 1)).ravel()
        row = np.concatenate([observation.row for observation, *_ in seen])
        turn = np.concatenate([observation.turn for observation, *_ in seen])
        arm = torch.cat([view.arm for _, view, *_ in seen]).numpy()
        state = State.concatenate([state for _, _, state, *_ in seen])
        choice = np.concatenate([choice for *_, choice, _ in seen])
        log_probability = np.concatenate([values for *_, values in seen])
        # One order whatever the batch size, and no decision that was none.
        order = np.lexsort((turn, row))
        order = order[state.free[:, 0].cpu().numpy()[order]]
        return Transitions(
            state=state.take(self._tensor(order)),
            choice=self._tensor(choice[order]),
            log_probability=self._tensor(log_probability[order].astype(np.float32)),
            advantage=self._tensor(advantage[row[order]].astype(np.float32)),
            correct=self._tensor(self.grades[episodes.query[row[order], None], arm[order]].astype(np.float32)),
        )

    def loss(self, transitions: Transitions, rows: Tensor) -> tuple[Tensor, float]:
        """The clipped objective, entropy and correctness on some of the transitions; and the entropy alone (nats)."""
        config = self.config
        state = transitions.state.take(rows)
        output = self.network(state)
        logits = output.logits[:, 0]
        chosen = torch.log_softmax(logits, dim=1).gather(1, transitions.choice[rows][:, None])[:, 0]
        ratio = torch.exp(chosen - transitions.log_probability[rows])
        advantage = transitions.advantage[rows] / (transitions.advantage.std() + 1e-6)
        clipped = ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
        gain = torch.minimum(ratio * advantage, clipped * advantage).mean()
        entropy = entropy_of(logits).mean()
        fit = correctness_loss(output, transitions.correct[rows][:, None], state.ok)
        return -gain - config.entropy * entropy + config.correctness * fit, float(entropy.detach())

    def _descend(self, loss: Tensor) -> None:
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0, foreach=False)
        self.optimiser.step()
        for name, value in self.network.state_dict().items():
            self.average[name] = torch.lerp(value, self.average[name], self.config.average)

    def _minibatches(self, n: int, update: int) -> list[Tensor]:
        counter = update * self.config.folds + self.number + 1
        generator = torch.Generator().manual_seed(int(draw(self.config.seed, Purpose.SPLIT, counter) >> np.uint64(1)))
        parts: list[Tensor] = []
        for _ in range(self.config.epochs):
            order = torch.randperm(n, generator=generator).to(self.encoder.device)
            parts += torch.split(order, self.config.minibatch)
        return parts

    def _tensor(self, values: Any) -> Tensor:
        return torch.from_numpy(values).to(self.encoder.device)


def entropy_of(logits: Tensor) -> Tensor:
    """[...] nats of the distributions with these logits [..., N]."""
    log_probabilities = torch.log_softmax(logits, dim=-1)
    return -(log_probabilities.exp() * log_probabilities.clamp(min=-50.0)).sum(dim=-1)


def cost_loss(output: Output, dearer: Tensor, state: State) -> Tensor:
    """Huber loss of the cost head [B, S] on what the arms' calls cost ([B, 1, A], ln over expected), once something was
    billed and where there is still something to call."""
    asked = state.callable & state.ok.any(dim=-1, keepdim=True)
    foretold = output.dearer[..., None].expand(asked.shape)
    loss = nn.functional.smooth_l1_loss(foretold, dearer.expand(asked.shape), reduction="none")
    return (loss * asked).sum() / asked.sum().clamp(min=1)


def correctness_loss(output: Output, correct: Tensor, answered: Tensor) -> Tensor:
    """Cross-entropy of the correctness head [B, S, A] with the arms' grades ([B, 1, A] in [0, 1]), once one has
    answered."""
    target = correct.expand_as(output.correct)
    loss = nn.functional.binary_cross_entropy_with_logits(output.correct, target, reduction="none")
    weight = answered + UNHEARD * (~answered & answered.any(dim=-1, keepdim=True))
    return (loss * weight).sum() / weight.sum().clamp(min=1)
