"""Counter-based randomness: every draw is a pure function of its key, never of what was drawn before.

A key is a seed, a purpose and any number of counters (episode, arm, attempt, …). Each part is folded into the state and
mixed by splitmix64's finaliser (Steele, Lea and Flood, OOPSLA 2014; constants as in Vigna's public-domain
`splitmix64.c`). So an outcome does not depend on batch size, order or workers, and two routers under one seed meet the
same world.

The engine draws in a cheaper way, one finaliser a draw: seed and episode are folded into one word, which seeds a
splitmix64 generator, and a call takes from it the output whose number is made of purpose, arm and attempt (`counter`).
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
    EPISODE = 12
    CALL = 13
    PROVIDER = 14
    SALE = 15
    SWAP = 16
    DRIFT = 17
    LOAD = 18
    ORDER = 19


def mix(state: Words) -> Words:
    """splitmix64's finaliser: output number i (from 1) of the generator seeded with s is mix(s + i · GOLDEN)."""
    z = state ^ (state >> np.uint64(30))
    z *= _MIX_1
    z ^= z >> np.uint64(27)
    z *= _MIX_2
    z ^= z >> np.uint64(31)
    return z


def splitmix64(state: npt.ArrayLike) -> Words:
    """The splitmix64 output for each state (uint64): advance by the golden gamma, then mix."""
    with np.errstate(over="ignore"):
        return mix(np.asarray(state, np.uint64) + GOLDEN)


def draw(seed: int, purpose: Purpose, *counters: npt.ArrayLike) -> Words:
    """64 random bits for each element of the broadcast counters."""
    word = _seed_word(seed, purpose)
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


def _seed_word(seed: int, purpose: Purpose) -> Words:
    return splitmix64(np.uint64(seed & 0xFFFFFFFFFFFFFFFF) ^ splitmix64(int(purpose)))


def episode_word_seed(seed: int) -> Words:
    """What `episode_words` folds an episode's number into."""
    return _seed_word(seed, Purpose.EPISODE)


def episode_words(seed: int, key: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """[B] the word that fixes an episode's whole world, from the seed and the episode's number. int64 for torch."""
    return draw(seed, Purpose.EPISODE, key).view(np.int64)


def counter(purpose: Purpose, arm: npt.ArrayLike, attempt: int = 0) -> npt.NDArray[np.uint64]:
    """Which output (from 1) of an episode's stream a draw takes; arms and attempts below 65,536."""
    number = (int(purpose) << 40) + attempt + 1
    return np.uint64(number) + (np.asarray(arm).astype(np.uint64) << np.uint64(16))
