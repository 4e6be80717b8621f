"""Play a router against a simulator from the first turn to the last grade."""

from collections.abc import Callable
from typing import Any

import numpy as np

from xrouter_sim.engine.episodes import Episodes, Observation
from xrouter_sim.engine.semantics import Action
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.replay import Floats, Ints

Policy = Callable[[Observation], Action]

BLOCK = 256
"""Episodes that a policy sees together. Floating-point matrix products may differ in the last bit with the number of
rows, so a batch is always cut into the same blocks of episodes: then decisions do not depend on the batch size."""


def play(
    policy: Policy, simulator: Simulator, query: Ints, key: Ints, penalty: Floats, batch_size: int = 4096
) -> Episodes:
    """Play one episode for each element of query, key and λ ([N] each); returns them finished, in the same order.

    `batch_size` (rounded up to whole BLOCKs) trades memory for speed and changes no outcome.
    """
    batch = -(-batch_size // BLOCK) * BLOCK
    played = []
    for start in range(0, len(query), batch):
        part = slice(start, start + batch)
        episodes = simulator.reset(query[part], key[part], penalty[part], first_row=start)
        _finish(policy, simulator, episodes)
        played.append(episodes)
    names = played[0].arrays()
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in played], axis=-1) for name in names}
    joined["place"] = np.arange(len(query))
    return Episodes(**joined, lanes=played[0].lanes, limited=played[0].limited)


def _finish(policy: Policy, simulator: Simulator, episodes: Episodes) -> None:
    while not episodes.done.all():
        live = np.flatnonzero(~episodes.done)
        actions = [policy(simulator.observe(episodes, rows)) for rows in _blocks(live)]
        width = max(action.calls.shape[1] for action in actions)
        calls = np.full((len(episodes), width), -1)
        final = np.full(len(episodes), -1)
        for rows, action in zip(_blocks(live), actions, strict=True):
            calls[rows, : action.calls.shape[1]] = action.calls
            final[rows] = action.final
        simulator.step(episodes, Action(calls, final))


def _blocks(rows: Ints) -> list[Ints]:
    """Cut row numbers into the blocks they belong to."""
    return np.split(rows, np.flatnonzero(np.diff(rows // BLOCK)) + 1)
