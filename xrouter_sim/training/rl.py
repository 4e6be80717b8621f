"""Reinforcement learning of the small policy in the simulator: several networks, cross-validated, and their mean.

A few thousand queries leave a validation split too small to tell a gain of a hundredth from luck. So K networks are
trained, each without its own part of the training queries (`member`); together their parts are all of these, and each
query is validated by a network that has not seen it. What is kept, training or a plain rule, and from which update, is
chosen by that, and for each λ whether to trust it. The router gets the mean of the K networks' averaged weights: they
begin alike and stay near (model soups, Wortsman et al., arXiv 2203.05482), so it costs no more than one to run.

Every draw is keyed by seed, update and network, and the order of gradient steps hangs on neither batch size nor machine
load: an interrupted run that is resumed ends with the same weights.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.randomness import Purpose, draw
from xrouter_sim.engine.rollout import play
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.replay import Floats, Ints, Replay
from xrouter_sim.reward import reward as reward_of
from xrouter_sim.routers.network import PENALTIES
from xrouter_sim.routers.odds import smoothed_grades
from xrouter_sim.routers.rl import RLRouter
from xrouter_sim.training.config import Config
from xrouter_sim.training.member import Member, Weights

SINGLE, PLANS, TRAINED = "single calls", "plans", "trained"
"""What a router may be left with: the untrained rule without and with plans of several calls, or trained weights."""


class Trainer:
    """Trains an RLRouter whose `fit` has been called."""

    def __init__(self, router: RLRouter, replay: Replay, queries: Ints, cost_unit: float, config: Config) -> None:
        """`queries` [n]: training indices."""
        self.router, self.replay, self.config = router, replay, config
        router.to(config.device)
        self.simulators = [Simulator(replay, Profile.load(name), config.seed, cost_unit) for name in config.profiles]
        self.calm = Simulator(replay, Profile(), config.seed, cost_unit)
        self.grades = replay.mean_score.copy()
        self.grades[queries] = smoothed_grades(router.encoder.seen, queries)
        self.members = [
            Member(number, router.encoder, copy.deepcopy(router.network), self.grades, parts, config)
            for number, parts in enumerate(parts_of(queries, config.folds, config.seed))
        ]
        self.update = 0
        self.curve: list[dict[str, Any]] = []
        self.best, self.best_update, self.chosen = router.weights(), 0, SINGLE
        self.rule_reward = self._validation_reward([self.best] * len(self.members))
        self.best_reward = float(self.rule_reward.mean())
        self._consider(PLANS)

    def run(self, batch_size: int, after_update: Callable[["Trainer"], bool]) -> bool:
        """Train to the last update, or until `after_update` says stop. Returns whether it finished."""
        while self.update < self.config.updates:
            self.step(batch_size)
            if after_update(self) and self.update < self.config.updates:
                return False
        return True

    def step(self, batch_size: int) -> None:
        """One update of every network; now and then, validate."""
        simulator = self.simulators[self.update % len(self.simulators)]
        figures = [member.step(self.update, simulator, batch_size) for member in self.members]
        is_exact = self.update < self.config.lattice_updates
        self.update += 1
        self.curve.append(self._row("exact" if is_exact else simulator.profile.name, figures))
        if self.update % self.config.validate_every == 0 or self.update == self.config.updates:
            self.curve[-1]["validation_reward"] = self._consider(TRAINED)

    def _consider(self, name: str) -> float:
        """Keep the members' mean if it is the best so far on held-out queries; returns what it earns there.

        It is trusted near those λ alone around which it earns more than single calls do, by more than a standard error
        of the paired difference: what training cannot show, it does not change.
        """
        averages = [member.average for member in self.members]
        gain = self._validation_reward(averages) - self.rule_reward
        around = with_neighbours(gain)
        trusted = around.mean(axis=1) > around.std(axis=1) / np.sqrt(gain.shape[1])
        reward = float((self.rule_reward + gain * trusted[:, None]).mean())
        if reward > self.best_reward:
            self.best = mean_of(averages) | {"trusted": torch.from_numpy(trusted.astype(np.float32))}
            self.best_reward, self.best_update, self.chosen = reward, self.update, name
        return reward

    def _validation_reward(self, weights: list[Weights]) -> Floats:
        """[λ, n] what each member earns with these weights on the queries held out from it, in the calm world.

        The mean of several episodes a query where arms have several samples: half of the noise of one is their luck.
        Where they have one, it is paid by what all answers say of the grade, which is the less noisy.
        """
        worlds = self.config.validation_worlds if self.replay.samples.max() > 1 else 1
        settings, parts = len(PENALTIES), []
        for member, own in zip(self.members, weights, strict=True):
            n = len(member.held_out)
            penalty = np.repeat(PENALTIES, worlds * n)
            query, key = np.tile(member.held_out, worlds * settings), np.tile(np.arange(worlds * n), settings)
            with Swapped(self.router.network, own):
                played = play(self.router.act, self.calm, query, key, penalty)
            reward = played.reward
            if worlds == 1:
                arm = played.arm[np.arange(len(played)), np.maximum(played.final, 0)]
                score = np.where(played.final >= 0, self.grades[played.query, arm], 0.0)
                reward = reward_of(score, played.cost, penalty, self.calm.cost_unit)
            parts.append(reward.reshape(settings, worlds, n).mean(axis=1))
        return np.concatenate(parts, axis=1)

    def _row(self, profile: str, figures: list[dict[str, float]]) -> dict[str, Any]:
        """A row of the curve: means over the networks; figures that an exact update does not have are null."""
        config, exact = self.config, min(self.update, self.config.lattice_updates)
        episodes = exact * config.lattice_steps * config.lattice_queries
        episodes += (self.update - exact) * config.groups * config.group_size
        names = ("reward", "accuracy", "cost_usd", "calls_per_episode", "entropy")
        means = {n: float(np.mean([each[n] for each in figures])) if n in figures[0] else None for n in names}
        told = {"update": self.update, "episodes": episodes * len(self.members), "profile": profile}
        return told | means | {"validation_reward": None}


class Swapped:
    """Puts other weights into a network for as long as a block lasts."""

    def __init__(self, network: nn.Module, weights: Weights) -> None:
        self.network, self.weights = network, weights

    def __enter__(self) -> None:
        self.own = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.weights)

    def __exit__(self, *_: object) -> None:
        self.network.load_state_dict(self.own)


def parts_of(queries: Ints, folds: int, seed: int) -> list[tuple[Ints, Ints]]:
    """For each fold the queries outside and inside it; folds differ in size by one at most. A fold alone holds all."""
    fold = np.empty(len(queries), np.int64)
    fold[np.argsort(draw(seed, Purpose.SPLIT, queries), kind="stable")] = np.arange(len(queries)) % folds
    parts = [(queries[fold != number], queries[fold == number]) for number in range(min(folds, len(queries)))]
    return parts if len(parts) > 1 else [(queries, queries)]


def mean_of(weights: list[Weights]) -> Weights:
    """The mean of several networks' weights."""
    return {name: torch.stack([each[name] for each in weights]).mean(dim=0) for name in weights[0]}


def with_neighbours(gain: Floats) -> Floats:
    """[λ, n] each row averaged with those of the next λ on both sides, which count half: what pays at one λ hardly pays
    at none beside it, so a hole among λ that gain is luck."""
    padded = np.pad(gain, ((1, 1), (0, 0)), mode="edge")
    smooth: Floats = (padded[:-2] + 2.0 * gain + padded[2:]) / 4.0
    return smooth
