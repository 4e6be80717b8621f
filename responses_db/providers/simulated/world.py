"""How simulated models answer: a pure function of (seed, query, model, system prompt, sample index).

**Right or wrong** is item-response behaviour:

    P(correct) = c + (1 − c) · sigmoid(a · (θ[model, domain] + e[model, system prompt] − b[query]))

θ comes from published accuracies (calibration.py). b = EASIEST + (HARDEST − EASIEST) · difficulty + jitter, where
`difficulty` in [0, 1] is the place of the query's level on its generator's dial and the jitter is normal with deviation
JITTER. c is 1 / number of options where the answer is one of a few, else 0. e > 0 when the system prompt asks to go
step by step: little for models that reason anyway, more for the others, most for the weak.

**Errors are correlated.** An answer is right if Φ(z) < P(correct), with

    z = √SHARED · item + √OWN · item×model + √(1 − SHARED − OWN) · sample      (independent standard normals)

so P(correct) holds exactly, two models' z correlate by SHARED and two samples of one model's by SHARED + OWN.
A wrong answer is the query's common one with probability COMMON, else the model's favourite with probability
FAVOURITE, else any plausible one: agreement is evidence, not proof.

**What an answer shows** is weak evidence: wrong answers are hedged more often, go on longer and have a lower mean
log-probability. **Tokens**: log-normal around the length at which a call without step-by-step costs what was published.
"""

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

from responses_db.providers.simulated.calibration import SimulatedModel, data_digest
from responses_db.providers.simulated.wording import hedges, wording
from responses_db.query import digest

VERSION = 1
"""Raise it with any change to answers, wrong ones and wording included: it is in the cache key and the store."""

NORMAL = NormalDist()
STEP_BY_STEP = "step by step"
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class Parameters:
    """The dials of the simulated world. Abilities and difficulties are in standard deviations of flagship ability."""

    discrimination: float = 1.1  # a
    easiest: float = -3.0  # b at difficulty 0
    hardest: float = 1.0  # b at difficulty 1
    jitter: float = 0.5  # deviation of b within a level
    shared: float = 0.35  # variance of z that all models share on a query
    own: float = 0.30  # variance of z that a model's answers to a query share beside it
    common: float = 0.40  # P(the query's common wrong answer | wrong)
    favourite: float = 0.40  # P(the model's favourite wrong answer | wrong, not the common one)
    help_reasoner: float = 0.15  # e of step by step, for reasoning models
    help_other: float = 0.55  # e for the others at average ability
    help_slope: float = 0.20  # how much more e is for each unit of ability below average
    longer_reasoner: float = 1.1  # length under step by step, as a factor
    longer_other: float = 1.7
    length_deviation: float = 0.45  # of log length
    length_wrong: float = 1.20  # how much longer wrong answers are
    length_difficulty: float = 0.8  # how much longer the hardest level is than the easiest, relative to the mean
    nats: float = 0.20  # typical −mean log-probability of a right answer
    nats_wrong: float = 1.22  # how much larger it is for a wrong one
    nats_deviation: float = 0.5  # of its logarithm
    hedge_right: float = 0.20  # P(hedged | right)
    hedge_wrong: float = 0.42


@dataclass(frozen=True, slots=True)
class Item:
    """What the world knows of a query. `wrong` are plausible wrong answers, the common one first."""

    query_id: str
    domain: str
    difficulty: float
    options: int  # 0: free answer
    reference: str
    wrong: Sequence[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """One simulated answer with what an endpoint would report of it."""

    text: str
    finish_reason: str
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    logprobs: tuple[float, ...]
    latency_s: float


class World:
    """All randomness of the simulated models, under one seed."""

    def __init__(self, seed: int, parameters: Parameters | None = None) -> None:
        self.seed = seed
        self.parameters = parameters or Parameters()
        self._items: dict[str, tuple[float, float]] = {}
        self._pairs: dict[tuple[str, str], tuple[float, float]] = {}

    @cached_property
    def fingerprint(self) -> str:
        """Short hash of everything here that alters an answer."""
        return digest(VERSION, data_digest(), self.seed, asdict(self.parameters))[:16]

    def p_correct(self, model: SimulatedModel, item: Item, system: str) -> float:
        """The probability that an answer is right, before the draw."""
        p = self.parameters
        ability = model.ability[item.domain] + self.help(model, item.domain, system)
        x = p.discrimination * (ability - self._item(item)[0])
        guess = 1 / item.options if item.options else 0.0
        return guess + (1 - guess) / (1 + math.exp(-x))

    def help(self, model: SimulatedModel, domain: str, system: str) -> float:
        """e: what the system prompt adds to ability."""
        p = self.parameters
        if STEP_BY_STEP not in system.lower():
            return 0.0
        return p.help_reasoner if model.reasoner else max(0.1, p.help_other - p.help_slope * model.ability[domain])

    def answer(self, model: SimulatedModel, item: Item, system: str, prompt: str, sample: int, limit: int) -> Answer:
        """The answer to `prompt` (its text only counts as input tokens), cut at `limit` output tokens."""
        p = self.parameters
        u = self._uniforms(item.query_id, model.model_id, system, sample)
        chance = self.p_correct(model, item, system)
        right = NORMAL.cdf(self._latent(model, item, u[0])) < chance
        input_tokens = (len(system) + len(prompt)) // CHARACTERS_PER_TOKEN + 10
        output_tokens = self._length(model, item, system, input_tokens, chance, right, u[1])
        given = item.reference if right else self._wrong(model, item, u[2], u[3])
        hedged = u[4] < (p.hedge_right if right else p.hedge_wrong)
        text = wording(given, system, hedges(u[5]) if hedged else "", right, u[5], u[7])
        nats = p.nats * (1.0 if right else p.nats_wrong) * math.exp(p.nats_deviation * NORMAL.inv_cdf(u[6]))
        cut = output_tokens > limit
        output_tokens = min(output_tokens, limit)
        return Answer(
            text=text.partition("Answer:")[0].rstrip() if cut else text,
            finish_reason="length" if cut else "stop",
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            reasoning_tokens=int(output_tokens * (0.85 + 0.1 * u[7])) if model.reasoner else 0,
            logprobs=_spread(nats, u[7]),
            latency_s=round(0.4 + output_tokens / model.tokens_per_s, 3),
        )

    def _latent(self, model: SimulatedModel, item: Item, u: float) -> float:
        p = self.parameters
        rest = math.sqrt(1 - p.shared - p.own)
        return self._item(item)[1] + self._pair(model, item)[0] + rest * NORMAL.inv_cdf(u)

    def _wrong(self, model: SimulatedModel, item: Item, u: float, v: float) -> str:
        p = self.parameters
        if u < p.common:
            return item.wrong[0]
        if u < p.common + (1 - p.common) * p.favourite:
            v = self._pair(model, item)[1]
        return item.wrong[int(v * len(item.wrong))]

    def _length(
        self, model: SimulatedModel, item: Item, system: str, input_tokens: int, chance: float, right: bool, u: float
    ) -> int:
        """Output tokens. Their mean over right and wrong, draws and levels is what the published cost pays for."""
        p = self.parameters
        price = model.price
        assert price.input_usd_per_mtok is not None
        assert price.output_usd_per_mtok is not None
        budget = model.cost_usd[item.domain] * 1e6 - input_tokens * price.input_usd_per_mtok
        mean = max(budget / price.output_usd_per_mtok, 12.0)
        if STEP_BY_STEP in system.lower():
            mean *= p.longer_reasoner if model.reasoner else p.longer_other
        mean *= 1 + p.length_difficulty * (item.difficulty - 0.5)
        mean *= (1.0 if right else p.length_wrong) / (chance + (1 - chance) * p.length_wrong)
        noise = math.exp(p.length_deviation * NORMAL.inv_cdf(u) - p.length_deviation**2 / 2)
        return max(8, round(mean * noise))

    def _item(self, item: Item) -> tuple[float, float]:
        """b, and the part of z that all models share."""
        if (known := self._items.get(item.query_id)) is None:
            p, u = self.parameters, self._uniforms("item", item.query_id)
            b = p.easiest + (p.hardest - p.easiest) * item.difficulty + p.jitter * NORMAL.inv_cdf(u[0])
            known = self._items[item.query_id] = b, math.sqrt(p.shared) * NORMAL.inv_cdf(u[1])
        return known

    def _pair(self, model: SimulatedModel, item: Item) -> tuple[float, float]:
        """The part of z that this model's answers to the query share, and its favourite wrong answer in [0, 1)."""
        key = item.query_id, model.model_id
        if (known := self._pairs.get(key)) is None:
            u = self._uniforms("pair", *key)
            known = self._pairs[key] = math.sqrt(self.parameters.own) * NORMAL.inv_cdf(u[0]), u[1]
        return known

    def _uniforms(self, *purpose: object) -> tuple[float, ...]:
        """Eight numbers inside (0, 1), a pure function of seed and purpose."""
        text = "\x1f".join(map(str, (self.seed, *purpose)))
        words = struct.unpack("<8Q", hashlib.blake2b(text.encode(), digest_size=64).digest())
        return tuple(((word >> 12) + 0.5) / 2**52 for word in words)


def _spread(nats: float, u: float) -> tuple[float, ...]:
    """Log-probabilities of the last tokens, whose mean is −nats."""
    tilt = 0.8 * u
    return tuple(round(-nats * weight, 4) for weight in (1 - tilt, 1 + tilt, 1 - tilt / 2, 1 + tilt / 2))


def facts(world: World) -> dict[str, Any]:
    """What a store's models.metadata says of the world that answered."""
    return {"world": world.fingerprint, "world_version": VERSION, "world_seed": world.seed}
