"""Counter-based randomness: every draw is a pure function of its key, never of what was drawn before.

A key is a seed, a purpose and any number of counters (episode, arm, attempt, …). Each part is folded into the state and
mixed by splitmix64's finaliser (Steele, Lea and Flood, OOPSLA 2014; constants as in Vigna's public-domain
`splitmix64.c`). So an outcome does not depend on batch size, order or workers, and two routers under one seed meet the
same world.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

Words = npt.NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Purpose(IntEnum):
    """What a draw is for. Numbers are part of the world: append, never renumber."""

    SAMPLE = 1
    FAILURE = 2
    OUTAGE = 3
    PRICE = 4
    POOL = 5
    BACKOFF = 6
    POLICY = 7
    QUERY = 8
    PENALTY = 9
    FOLD = 10
    SPLIT = 11


def splitmix64(state: npt.ArrayLike) -> Words:
    """The splitmix64 output for each state (uint64): advance by the golden gamma, then mix."""
    with np.errstate(over="ignore"):
        z = np.asarray(state, np.uint64) + GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _MIX_1
        z = (z ^ (z >> np.uint64(27))) * _MIX_2
        return z ^ (z >> np.uint64(31))


def draw(seed: int, purpose: Purpose, *counters: npt.ArrayLike) -> Words:
    """64 random bits for each element of the broadcast counters."""
    word = splitmix64(np.uint64(seed & 0xFFFFFFFFFFFFFFFF) ^ splitmix64(int(purpose)))
    for counter in counters:
        word = splitmix64(word ^ splitmix64(np.asarray(counter).astype(np.uint64)))
    return word


def uniform(seed: int, purpose: Purpose, *counters: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Uniform on the open interval (0, 1): 53 bits, shifted by half a step so that logarithms stay finite."""
    bits = (draw(seed, purpose, *counters) >> np.uint64(11)).astype(np.float64)
    values: npt.NDArray[np.float64] = (bits + 0.5) * 2.0**-53
    return values


def normal(seed: int, purpose: Purpose, *counters: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Standard normal, by inversion."""
    values: npt.NDArray[np.float64] = ndtri(uniform(seed, purpose, *counters))
    return values
