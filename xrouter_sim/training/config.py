"""Settings of a training run of the RL router, and the λ it trains on."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from xrouter_sim.engine.randomness import Purpose, uniform
from xrouter_sim.replay import Floats, Ints


@dataclass(frozen=True)
class Config:
    """The defaults train in about two minutes on one core."""

    seed: int = 0
    device: str = "cpu"
    """Where the networks are: as torch names it. The engine's worlds stay on the processor."""
    folds: int = 4
    """Networks trained, each without its part of the training queries, on which it is validated."""
    updates: int = 30
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
    cost: float = 0.1
    """Weight of the cost head's loss."""
    average: float = 0.98
    """Share of the averaged weights that a gradient step keeps; the averaged weights are what is evaluated."""
    validation_worlds: int = 2
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


def config_from(values: dict[str, Any]) -> Config:
    """The Config that `config_as_dict` and JSON made `values` of. Raises TypeError for a setting that is not known."""
    settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return Config(**settings)


def config_as_dict(config: Config) -> dict[str, Any]:
    """A Config as JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return values


def penalties(seed: int, key: Ints) -> Floats:
    """[B] λ to train on, one for each key."""
    return penalties_of(uniform(seed, Purpose.PENALTY, key))


def penalties_of(luck: Floats) -> Floats:
    """[B] λ for uniform numbers: one in ten is 0, the others are log-uniform, half below 1 and half above."""
    low = 0.05 * 20.0 ** ((luck - 0.1) / 0.45)
    high = 80.0 ** ((luck - 0.55) / 0.45)
    return np.where(luck < 0.1, 0.0, np.where(luck < 0.55, low, high))
