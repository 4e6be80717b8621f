"""Episodes on the tiny replay, played turn by turn by hand."""

import numpy as np

from tests.xrouter_sim.tiny import tiny_replay
from xrouter_sim.engine.episodes import Episodes
from xrouter_sim.engine.profile import Client, Failures, Profile
from xrouter_sim.engine.semantics import Action, Final
from xrouter_sim.engine.simulator import Simulator

UNIT = 0.002


def simulator(profile: Profile | None = None, seed: int = 0, **replay: int) -> Simulator:
    return Simulator(tiny_replay(**replay), profile or Profile(), seed, UNIT)


def begin(world: Simulator, n: int = 8, penalty: float = 1.0, **limits: float) -> Episodes:
    arrays = {name: np.full(n, value) for name, value in limits.items()}
    return world.reset(np.arange(n), np.arange(n), np.full(n, penalty), **arrays)


def act(arms: list[int], n: int, final: int = Final.CONTINUE) -> Action:
    return Action(np.tile(arms, (n, 1)), np.full(n, int(final)))


def failing(attempts: int = 3, **rates: float) -> Profile:
    return Profile(failures=Failures(**rates), client=Client(attempts=attempts))


def outcome_of(episodes: Episodes) -> dict[str, np.ndarray]:
    """All that counts of finished episodes, by row."""
    names = ("query", "key", "turn", "n_slots", "cost", "time", "done", "ending", "final", "score", "reward")
    filled = episodes.words() >= 0
    kept = {"words": episodes.words(), "costs": episodes.slot_cost.T * filled, "times": episodes.slot_time.T * filled}
    return {name: getattr(episodes, name) for name in names} | kept
