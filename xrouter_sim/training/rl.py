"""Reinforcement learning of the small policy in the simulator, in two parts.

First the exact policy gradient over every course through drawn pools and worlds (`lattice`): since all answers to the
training queries are on record, nothing needs to be sampled. Then, in the engine itself, with its failures, retries and
outages, a clipped policy gradient with group-relative advantages (PPO's objective, Schulman et al., arXiv 1707.06347;
GRPO's baseline, Shao et al., arXiv 2402.03300). A group is one query, λ and world, played several times: since the
world is the same for all, what differs between their rewards is due to the actions alone. In both, a head learns the
chance that each arm is right given what has been seen.

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
from xrouter_sim.engine.semantics import Action
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.replay import Floats, Ints, Replay
from xrouter_sim.reward import reward as reward_of
from xrouter_sim.routers.network import Output, State
from xrouter_sim.routers.odds import smoothed_grades
from xrouter_sim.routers.prior import PENALTIES_ON_COST
from xrouter_sim.routers.rl import RLRouter, to_action
from xrouter_sim.training.lattice import draw_lattice, exact_reward

TRAINING_KEYS = 1_000_000_000
"""Episode keys from here on are for training; evaluation counts from 0. So no world is met twice."""


@dataclass(frozen=True)
class Config:
    """Settings of a training run. The defaults train in under two minutes on one core."""

    seed: int = 0
    updates: int = 50
    """The first of them exact (`lattice_share`), the others played in the engine."""
    lattice_share: float = 0.8
    warm_up_share: float = 0.2
    """Share of the updates, within the exact ones, that teach the correctness head alone."""
    lattice_steps: int = 15
    """Gradient steps of an exact update."""
    lattice_queries: int = 64
    """Queries of such a step; each has its own pool, world and λ."""
    groups: int = 192
    """Groups of a played update: each is one query, one λ, one world."""
    group_size: int = 8
    epochs: int = 2
    minibatch: int = 1024
    learning_rate: float = 5e-4
    weight_decay: float = 1e-3
    clip: float = 0.2
    entropy: float = 0.002
    temperature: tuple[float, float] = (0.02, 0.01)
    """Of the rule's logits at the first and the last update, in reward: explore first, then commit. Three times hotter,
    the policy learns to make two calls where one would do (docs/log.md)."""
    correctness: float = 0.5
    """Weight of the correctness head's loss."""
    average: float = 0.98
    """Share of the averaged weights that a gradient step keeps; the averaged weights are what is evaluated."""
    validation_share: float = 0.15
    validation_worlds: int = 8
    """Episodes a validation query where arms have several samples; else one."""
    validate_every: int = 10
    profiles: tuple[str, ...] = ("calm", "training")
    """Worlds to play in, taken in turn."""

    @property
    def lattice_updates(self) -> int:
        return round(self.updates * self.lattice_share)

    @property
    def warm_up_updates(self) -> int:
        return round(self.updates * self.warm_up_share)


REWARD_SCALE = 20.0
"""Of the exact reward beside the correctness loss: differences that matter are of a hundredth."""


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
        self.grades = replay.mean_score.copy()
        self.grades[queries] = smoothed_grades(router.encoder.seen, queries)
        self.optimiser = torch.optim.AdamW(
            router.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, foreach=False
        )
        self.rule_reward = self._validation_reward(router.weights())
        self.best = {name: value.clone() for name, value in router.weights().items()}
        self.best_reward, self.best_update = float(self.rule_reward.mean()), 0
        router.network.lookahead.fill_(1.0)
        self.average = {name: value.clone() for name, value in router.weights().items()}
        self.update = 0
        self.curve: list[dict[str, Any]] = []

    def run(self, batch_size: int, after_update: Callable[["Trainer"], bool]) -> bool:
        """Train to the last update, or until `after_update` says stop (returns True). Returns whether it finished."""
        while self.update < self.config.updates:
            self.step(batch_size)
            if after_update(self) and self.update < self.config.updates:
                return False
        return True

    def step(self, batch_size: int) -> None:
        """One update: climb the exact or the sampled gradient, average the weights, now and then validate."""
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * (1.0 - self.update / config.updates)
        hot, cold = config.temperature
        self.router.network.temperature.fill_(hot + (cold - hot) * self.update / max(config.updates - 1, 1))
        row = self._exact_update() if self.update < config.lattice_updates else self._played_update(batch_size)
        self.update += 1
        self.curve.append({"update": self.update} | row)
        if self.update % config.validate_every == 0 or self.update == config.updates:
            self.validate()

    def _exact_update(self) -> dict[str, Any]:
        config = self.config
        rng = np.random.default_rng(int(draw(config.seed, Purpose.POLICY, self.update)))
        rewards = []
        for _ in range(config.lattice_steps):
            queries = self.train_queries[rng.integers(len(self.train_queries), size=config.lattice_queries)]
            penalty = penalties_of(rng.random(len(queries)))
            lattice = draw_lattice(self.router.encoder, self.grades, queries, penalty, rng)
            state = self.router.encoder(lattice.view)
            output = self.router.network(state)
            reward = exact_reward(output.logits, lattice)
            fit = correctness_loss(output, lattice.grade[:, None], state.ok)
            loss = config.correctness * fit
            if self.update >= config.warm_up_updates:
                loss = loss - REWARD_SCALE * (reward.mean() + config.entropy * entropy_of(output.logits).mean())
            self._descend(loss)
            rewards.append(float(reward.mean().detach()))
        done = (self.update + 1) * config.lattice_steps * config.lattice_queries
        return self._row("exact", done, reward=float(np.mean(rewards)))

    def _played_update(self, batch_size: int) -> dict[str, Any]:
        config = self.config
        transitions, episodes = self.collect(batch_size)
        entropy = 0.0
        for rows in self._minibatches(len(transitions.choice), config.epochs, self.update):
            loss, entropy = self.loss(transitions, rows)
            self._descend(loss)
        played = self.update + 1 - config.lattice_updates
        done = config.lattice_updates * config.lattice_steps * config.lattice_queries
        return self._row(
            self._simulator.profile.name,
            done + played * config.groups * config.group_size,
            reward=float(episodes.reward.mean()),
            accuracy=float(episodes.score.mean()),
            cost_usd=float(episodes.cost.mean()),
            calls_per_episode=float(episodes.n_slots.mean()),
            entropy=entropy,
        )

    @property
    def _simulator(self) -> Simulator:
        """The world of this update."""
        return self.simulators[self.update % len(self.simulators)]

    def collect(self, batch_size: int) -> tuple[Transitions, Episodes]:
        """Play this update's groups with the current policy, sampling its actions."""
        config = self.config
        group = np.repeat(self.update * config.groups + np.arange(config.groups), config.group_size)
        key = TRAINING_KEYS + group
        seen: list[tuple[Observation, State, Ints, Floats]] = []

        def policy(observation: Observation) -> Action:
            state = self.router.encoder(self.router.encoder.view(observation))
            with torch.inference_mode():
                log_probabilities = torch.log_softmax(self.router.network(state).logits[:, 0], dim=1).numpy()
            actions = np.arange(log_probabilities.shape[1])
            counters = (observation.key[:, None], observation.row[:, None], observation.turn[:, None], actions)
            gumbel = -np.log(-np.log(uniform(config.seed, Purpose.POLICY, *counters)))
            choice = (log_probabilities + gumbel).argmax(axis=1)
            seen.append((observation, state, choice, log_probabilities[np.arange(len(choice)), choice]))
            return to_action(choice, state, observation)

        episodes = play(policy, self._simulator, self._queries(key), key, penalties(config.seed, key), batch_size)
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
        free = state.free[:, 0].numpy()[order]
        order = order[free]
        return Transitions(
            state=state.take(torch.from_numpy(order)),
            choice=torch.from_numpy(choice[order]),
            log_probability=_tensor(log_probability[order]),
            advantage=_tensor(advantage[row[order]]),
            correct=_tensor(self.grades[episodes.query[row[order]]]),
        )

    def loss(self, transitions: Transitions, rows: Tensor) -> tuple[Tensor, float]:
        """The clipped objective, entropy and correctness on some of the transitions; and the entropy alone (nats)."""
        config = self.config
        state = transitions.state.take(rows)
        output = self.router.network(state)
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
        nn.utils.clip_grad_norm_(self.router.network.parameters(), 1.0, foreach=False)
        self.optimiser.step()
        for name, value in self.router.weights().items():
            self.average[name] = torch.lerp(value, self.average[name], self.config.average)

    def validate(self) -> None:
        """Play the validation queries with the averaged weights; keep them if they are the best so far.

        They must also earn more on average over λ than single calls by the prior, and clearly less at none: what
        training cannot show, it does not change.
        """
        reward = self._validation_reward(self.average)
        self.curve[-1]["validation_reward"] = float(reward.mean())
        if reward.mean() > self.best_reward and not harms(reward - self.rule_reward):
            self.best = {name: value.clone() for name, value in self.average.items()}
            self.best_reward, self.best_update = float(reward.mean()), self.update

    def _validation_reward(self, weights: dict[str, Tensor]) -> Floats:
        """[λ, n] reward on the validation queries (the training queries where there are none), in the calm world.

        The mean of several episodes a query, which draw different samples: half of the noise of one is their luck.
        """
        queries = self.validation_queries if len(self.validation_queries) else self.train_queries
        worlds = self.config.validation_worlds if self.replay.samples.max() > 1 else 1
        settings = len(PENALTIES_ON_COST)
        penalty = np.repeat(PENALTIES_ON_COST, worlds * len(queries))
        query = np.tile(queries, worlds * settings)
        key = np.tile(np.arange(worlds * len(queries)), settings)
        with Swapped(self.router.network, weights):
            played = play(self.router.act, self.calm, query, key, penalty)
        if worlds == 1:  # one sample an arm: paid by what all answers say of the grade, which is the less noisy
            arm = played.arm[np.arange(len(played)), np.maximum(played.final, 0)]
            score = np.where(played.final >= 0, self.grades[played.query, arm], 0.0)
            played.reward = reward_of(score, played.cost, penalty, self.calm.cost_unit)
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

    def _row(self, profile: str, episodes: int, **figures: float) -> dict[str, Any]:
        """A row of the curve; figures that an exact update does not have are null."""
        names = ("reward", "accuracy", "cost_usd", "calls_per_episode", "entropy", "validation_reward")
        return {"episodes": episodes, "profile": profile} | {name: figures.get(name) for name in names}


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
    """[B] λ to train on, one for each key."""
    return penalties_of(uniform(seed, Purpose.PENALTY, key))


def penalties_of(luck: Floats) -> Floats:
    """[B] λ for uniform numbers: one in ten is 0, the others are log-uniform, half below 1 and half above."""
    low = 0.05 * 20.0 ** ((luck - 0.1) / 0.45)
    high = 80.0 ** ((luck - 0.55) / 0.45)
    return np.where(luck < 0.1, 0.0, np.where(luck < 0.55, low, high))


def harms(gain: Floats) -> bool:
    """Whether a paired gain in reward [λ, n] is below zero by more than twice its standard error at some λ."""
    error = gain.std(axis=1) / np.sqrt(gain.shape[1])
    return bool((gain.mean(axis=1) < -2.0 * error).any())


def entropy_of(logits: Tensor) -> Tensor:
    """[...] nats of the distributions with these logits [..., N]."""
    log_probabilities = torch.log_softmax(logits, dim=-1)
    return -(log_probabilities.exp() * log_probabilities.clamp(min=-50.0)).sum(dim=-1)


def correctness_loss(output: Output, correct: Tensor, answered: Tensor) -> Tensor:
    """Cross-entropy of the correctness head [B, S, A] with the arms' grades ([B, 1, A] in [0, 1]), once one has
    answered; arms that have not count for less, since there are more of them."""
    target = correct.expand_as(output.correct)
    loss = nn.functional.binary_cross_entropy_with_logits(output.correct, target, reduction="none")
    weight = answered + UNHEARD * (~answered & answered.any(dim=-1, keepdim=True))
    return (loss * weight).sum() / weight.sum().clamp(min=1)


UNHEARD = 0.3


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
