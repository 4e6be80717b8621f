"""Reinforcement learning of the small policy in the simulator.

A clipped policy gradient with group-relative advantages (PPO's objective, Schulman et al., arXiv 1707.06347; GRPO's
baseline, Shao et al., arXiv 2402.03300). A group is one query, λ and world, played several times: since the world is
the same for all, what differs between their rewards is due to the actions alone. Beside it a head learns, from the
grades of the training queries, the chance that each arm is right given what has been seen.

Every draw is keyed by seed and update, and the order of gradient steps by neither batch size nor machine load: an
interrupted run that is resumed ends with the same weights.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xrouter_sim.engine.episodes import Episodes, Observation
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.randomness import Purpose, draw, uniform
from xrouter_sim.engine.rollout import play
from xrouter_sim.engine.semantics import NO_CALL, Action, Final
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.replay import Floats, Ints, Replay
from xrouter_sim.routers.network import Output, State
from xrouter_sim.routers.prior import PENALTIES_ON_COST, is_better
from xrouter_sim.routers.rl import RLRouter, to_action

TRAINING_KEYS = 1_000_000_000
"""Episode keys from here on are for training; evaluation counts from 0. So no world is met twice."""


@dataclass(frozen=True)
class Config:
    """Settings of a training run. The defaults train in under two minutes on one core."""

    seed: int = 0
    updates: int = 50
    groups: int = 192
    """Groups an update: each is one query, one λ, one world."""
    group_size: int = 8
    epochs: int = 2
    minibatch: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    clip: float = 0.2
    entropy: float = 0.002
    temperature: tuple[float, float] = (0.03, 0.02)
    """Of the rule's logits at the first and the last update, in reward: explore first, then commit. Three times hotter,
    the policy learns to make two calls where one would do (docs/log.md)."""
    correctness: float = 0.5
    """Weight of the correctness head's loss."""
    average: float = 0.9
    """Share of the averaged weights that an update keeps; the averaged weights are what is evaluated."""
    warm_up_states: int = 12_000
    warm_up_epochs: int = 3
    validation_share: float = 0.15
    validation_worlds: int = 8
    """Episodes a validation query."""
    validate_every: int = 10
    profiles: tuple[str, ...] = ("calm", "training")
    """Worlds to train in, taken in turn."""


@dataclass
class Transitions:
    """What one update learns from; T decisions."""

    state: State
    choice: Tensor  # [T] index of the logit
    log_probability: Tensor  # [T] under the policy that chose
    advantage: Tensor  # [T]
    correct: Tensor  # [T, A] mean score of every arm on the query


class Trainer:
    """Trains an RLRouter whose `fit` has been called: its network, beside it the averaged weights and the optimiser."""

    def __init__(self, router: RLRouter, replay: Replay, queries: Ints, cost_unit: float, config: Config) -> None:
        """`queries` [n] training indices; a validation share of them is set aside for choosing the best weights."""
        self.router, self.replay, self.config = router, replay, config
        held_out = uniform(config.seed, Purpose.SPLIT, queries) < config.validation_share
        self.train_queries, self.validation_queries = queries[~held_out], queries[held_out]
        self.simulators = [Simulator(replay, Profile.load(name), config.seed, cost_unit) for name in config.profiles]
        self.calm = Simulator(replay, Profile(), config.seed, cost_unit)
        self.optimiser = self._optimiser()
        self.average = {name: value.clone() for name, value in router.weights().items()}
        self.rule_reward = self._validation_reward(router.weights())
        self.best, self.best_reward, self.best_update = dict(self.average), float(self.rule_reward.mean()), 0
        self.update = 0
        self.curve: list[dict[str, Any]] = []

    def _optimiser(self) -> torch.optim.AdamW:
        config = self.config
        parameters = self.router.network.parameters()
        return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, foreach=False)

    def run(self, batch_size: int, after_update: Callable[["Trainer"], bool]) -> bool:
        """Train to the last update, or until `after_update` says stop (returns True). Returns whether it finished."""
        if self.update == 0:
            self.warm_up()
        while self.update < self.config.updates:
            self.step(batch_size)
            if after_update(self) and self.update < self.config.updates:
                return False
        return True

    def warm_up(self) -> None:
        """Teach the correctness head on states after up to four random calls, before any routing is learned."""
        config = self.config
        n = min(config.warm_up_states, 40 * len(self.train_queries))
        key = TRAINING_KEYS - n + np.arange(n)
        episodes = self.simulators[-1].reset(self._queries(key), key, penalties(config.seed, key))
        order = np.argsort(uniform(config.seed, Purpose.POLICY, key[:, None], np.arange(self.replay.arms)), axis=1)
        length = draw(config.seed, Purpose.POLICY, key).astype(np.int64) % 5
        for turn in range(min(4, self.replay.arms)):
            arm = np.where(turn < length, order[:, turn], NO_CALL)
            self.simulators[-1].step(episodes, Action(arm[:, None], np.full(n, int(Final.CONTINUE))))
        state = self.router.encoder(self.simulators[-1].observe(episodes, np.arange(n)))
        correct = _tensor(self.replay.mean_score[episodes.query])
        optimiser = self._optimiser()
        for rows in self._minibatches(n, config.warm_up_epochs, -1):
            part = state.take(rows)
            loss = correctness_loss(self.router.network(part), correct[rows], part.selectable)
            self._descend(optimiser, loss)
        self.average = {name: value.clone() for name, value in self.router.weights().items()}

    def step(self, batch_size: int) -> None:
        """One update: play the groups, climb the gradient, average the weights, now and then validate."""
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * (1.0 - self.update / config.updates)
        hot, cold = config.temperature
        self.router.network.temperature.fill_(hot + (cold - hot) * self.update / max(config.updates - 1, 1))
        transitions, episodes = self.collect(batch_size)
        entropy = 0.0
        for rows in self._minibatches(len(transitions.choice), config.epochs, self.update):
            loss, entropy = self.loss(transitions, rows)
            self._descend(self.optimiser, loss)
        for name, value in self.router.weights().items():
            self.average[name] = torch.lerp(value, self.average[name], config.average)
        self.update += 1
        self.curve.append(self._row(episodes, entropy))
        if self.update % config.validate_every == 0 or self.update == config.updates:
            self.validate()

    def collect(self, batch_size: int) -> tuple[Transitions, Episodes]:
        """Play this update's groups with the current policy, sampling its actions."""
        config = self.config
        group = np.repeat(self.update * config.groups + np.arange(config.groups), config.group_size)
        key = TRAINING_KEYS + group
        seen: list[tuple[Observation, State, Ints, Floats]] = []

        def policy(observation: Observation) -> Action:
            state = self.router.encoder(observation)
            with torch.inference_mode():
                log_probabilities = torch.log_softmax(self.router.network(state).logits, dim=1).numpy()
            actions = np.arange(log_probabilities.shape[1])
            counters = (observation.key[:, None], observation.row[:, None], observation.turn[:, None], actions)
            gumbel = -np.log(-np.log(uniform(config.seed, Purpose.POLICY, *counters)))
            choice = (log_probabilities + gumbel).argmax(axis=1)
            seen.append((observation, state, choice, log_probabilities[np.arange(len(choice)), choice]))
            return to_action(choice, state, observation)

        simulator = self.simulators[self.update % len(self.simulators)]
        episodes = play(policy, simulator, self._queries(key), key, penalties(config.seed, key), batch_size)
        return self._transitions(seen, episodes), episodes

    def _transitions(self, seen: list[tuple[Observation, State, Ints, Floats]], episodes: Episodes) -> Transitions:
        reward = episodes.reward.reshape(-1, self.config.group_size)
        # The mean of the others is the baseline: leaving oneself out keeps the gradient unbiased.
        size = max(self.config.group_size, 2)
        advantage = ((reward - reward.mean(axis=1, keepdims=True)) * size / (size - 1)).ravel()
        row = np.concatenate([observation.row for observation, *_ in seen])
        turn = np.concatenate([observation.turn for observation, *_ in seen])
        state = State.concatenate([state for _, state, *_ in seen])
        choice = np.concatenate([choice for _, _, choice, _ in seen])
        log_probability = np.concatenate([values for *_, values in seen])
        # One order whatever the batch size, and no decision that was none.
        order = np.lexsort((turn, row))
        free = (state.callable.sum(dim=1) + state.selectable.sum(dim=1) > 1).numpy()[order]
        order = order[free]
        return Transitions(
            state=state.take(torch.from_numpy(order)),
            choice=torch.from_numpy(choice[order]),
            log_probability=_tensor(log_probability[order]),
            advantage=_tensor(advantage[row[order]]),
            correct=_tensor(self.replay.mean_score[episodes.query[row[order]]]),
        )

    def loss(self, transitions: Transitions, rows: Tensor) -> tuple[Tensor, float]:
        """The clipped objective, entropy and correctness on some of the transitions; and the entropy alone (nats)."""
        config = self.config
        state = transitions.state.take(rows)
        output = self.router.network(state)
        log_probabilities = torch.log_softmax(output.logits, dim=1)
        chosen = log_probabilities.gather(1, transitions.choice[rows][:, None])[:, 0]
        ratio = torch.exp(chosen - transitions.log_probability[rows])
        advantage = transitions.advantage[rows] / (transitions.advantage.std() + 1e-6)
        clipped = ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
        gain = torch.minimum(ratio * advantage, clipped * advantage).mean()
        entropy = -(log_probabilities.exp() * log_probabilities.clamp(min=-50.0)).sum(dim=1).mean()
        fit = correctness_loss(output, transitions.correct[rows], state.selectable)
        return -gain - config.entropy * entropy + config.correctness * fit, float(entropy.detach())

    def _descend(self, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.router.network.parameters(), 1.0, foreach=False)
        optimiser.step()

    def validate(self) -> None:
        """Play the validation queries with the averaged weights; keep them if they are the best so far.

        They must also beat the untrained rule by more than luck: what training cannot show, it does not change.
        """
        reward = self._validation_reward(self.average)
        self.curve[-1]["validation_reward"] = float(reward.mean())
        if reward.mean() > self.best_reward and is_better(reward - self.rule_reward):
            self.best = {name: value.clone() for name, value in self.average.items()}
            self.best_reward, self.best_update = float(reward.mean()), self.update

    def _validation_reward(self, weights: dict[str, Tensor]) -> Floats:
        """[λ, n] reward on the validation queries (the training queries where there are none), in the calm world.

        The mean of several episodes a query, which draw different samples: half of the noise of one is their luck.
        """
        queries = self.validation_queries if len(self.validation_queries) else self.train_queries
        worlds, settings = self.config.validation_worlds, len(PENALTIES_ON_COST)
        penalty = np.repeat(PENALTIES_ON_COST, worlds * len(queries))
        query = np.tile(queries, worlds * settings)
        key = np.tile(np.arange(worlds * len(queries)), settings)
        with Swapped(self.router.network, weights):
            played = play(self.router.act, self.calm, query, key, penalty)
        reward: Floats = played.reward.reshape(settings, worlds, -1).mean(axis=1)
        return reward

    def _queries(self, key: Ints) -> Ints:
        place = uniform(self.config.seed, Purpose.QUERY, key) * len(self.train_queries)
        return self.train_queries[place.astype(np.int64)]

    def _minibatches(self, n: int, epochs: int, update: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(
            int(draw(self.config.seed, Purpose.SPLIT, update + 1) >> np.uint64(1))
        )
        parts: list[Tensor] = []
        for _ in range(epochs):
            parts += torch.split(torch.randperm(n, generator=generator), self.config.minibatch)
        return parts

    def _row(self, episodes: Episodes, entropy: float) -> dict[str, Any]:
        return {
            "update": self.update,
            "episodes": self.update * self.config.groups * self.config.group_size,
            "profile": self.simulators[(self.update - 1) % len(self.simulators)].profile.name,
            "reward": float(episodes.reward.mean()),
            "accuracy": float(episodes.score.mean()),
            "cost_usd": float(episodes.cost.mean()),
            "calls_per_episode": float(episodes.n_slots.mean()),
            "entropy": entropy,
            "validation_reward": None,
        }


class Swapped:
    """Puts other weights into a network for as long as a block lasts."""

    def __init__(self, network: nn.Module, weights: dict[str, Tensor]) -> None:
        self.network, self.weights = network, weights

    def __enter__(self) -> None:
        self.own = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.weights)

    def __exit__(self, *_: object) -> None:
        self.network.load_state_dict(self.own)


def penalties(seed: int, key: Ints) -> Floats:
    """[B] λ to train on: one in ten is 0, the others are log-uniform, half below 1 and half above."""
    luck = uniform(seed, Purpose.PENALTY, key)
    low = 0.05 * 20.0 ** ((luck - 0.1) / 0.45)
    high = 80.0 ** ((luck - 0.55) / 0.45)
    return np.where(luck < 0.1, 0.0, np.where(luck < 0.55, low, high))


def correctness_loss(output: Output, correct: Tensor, answered: Tensor) -> Tensor:
    """Cross-entropy of the correctness head with the arms' mean scores ([B, A] in [0, 1]), where they have answered."""
    loss = nn.functional.binary_cross_entropy_with_logits(output.correct, correct, reduction="none")
    return (loss * answered).sum() / answered.sum().clamp(min=1)


def config_from(values: dict[str, Any]) -> Config:
    """The Config that `asdict` and JSON made `values` of."""
    settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return Config(**settings)


def config_as_dict(config: Config) -> dict[str, Any]:
    """A Config as JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return values


def _tensor(values: Floats) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
