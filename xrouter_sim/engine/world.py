"""A profile, drawn out into tables: what an episode, a period or an attempt looks up in place of drawing it anew.

Prices and pools are a deck of `DECK` worlds, from which an episode draws one; outages, load and drift are told by
period; latency factors are a quantile function at `QUANTILES` points. So a call costs a few look-ups however rich the
profile and however large the pool, and since logarithms and exponentials are taken here, once, in NumPy, every backend
and device meets the same numbers.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from responses_db import LabError
from xrouter_sim.engine.profile import Failures, Latency, Pools, Prices, Profile
from xrouter_sim.engine.randomness import Purpose, normal, uniform
from xrouter_sim.engine.semantics import Outcome
from xrouter_sim.replay import Bools, Floats, Ints, Replay

Singles = npt.NDArray[np.float32]
"""Small tables stay in the processor's cache; half the bytes are worth more than the last digits of a drawn factor."""

DECK = 2048
PERIODS = 1024
"""Episode numbers wrap around after this many periods."""
QUANTILES = 8192
LUCK_BITS = 24
CERTAIN = 1 << LUCK_BITS
LOWEST = -(CERTAIN >> 1)
"""Luck is a signed number of LUCK_BITS bits: this one or more, and less than its opposite."""


@dataclass(frozen=True)
class World:
    """The tables. A deck or a table of periods has one row where nothing in it varies."""

    price: Singles  # [DECK, M] factor on the price card; NaN where the model is not on offer
    order: Ints  # [DECK, M] the models as the pool shows them
    drift: Singles  # [PERIODS, M] factor on the price card
    cuts: Ints  # [PERIODS, M, 6] luck below cut i is failure i, in the order of Outcome
    latency: Singles  # [QUANTILES] factor on the recorded latency
    provider: Ints  # [M] index of a model's provider
    providers: list[str]
    extra_per_parallel: int  # luck above the last cut that a rate limit takes per earlier call to the provider


def compile_world(profile: Profile, replay: Replay, seed: int) -> World:
    """The world of a profile on a replay. Raises LabError when it names models that the replay lacks."""
    provider, providers = _providers(profile, replay)
    models = len(replay.model_ids)
    price = _prices(profile.prices, replay.mean_cost.mean(axis=0), provider, models, seed)
    price = np.where(_pools(profile.pools, replay, seed), price, np.nan)
    order = _order(profile.pools, models, seed)
    return World(
        price=np.broadcast_to(price, (max(len(price), len(order)), models)).astype(np.float32),
        order=order,
        drift=_drift(profile.prices, models, seed).astype(np.float32),
        cuts=_cuts(profile.failures, provider, seed),
        latency=_latency(profile.latency).astype(np.float32),
        provider=provider,
        providers=providers,
        extra_per_parallel=int(profile.failures.parallel_load * CERTAIN),
    )


def _providers(profile: Profile, replay: Replay) -> tuple[Ints, list[str]]:
    """By the profile's patterns, else the store's provider where it has several, else each model by itself."""
    stored = replay.providers if len(set(replay.providers)) > 1 else replay.model_ids
    names = []
    for model, fallback in zip(replay.model_ids, stored, strict=True):
        named = [name for name, patterns in profile.providers.items() if any(fnmatchcase(model, p) for p in patterns)]
        names.append(named[0] if named else fallback)
    providers = sorted(set(names))
    return np.array([providers.index(name) for name in names]), providers


def _prices(prices: Prices, arm_cost: Floats, provider: Ints, models: int, seed: int) -> Floats:
    mean_cost = arm_cost.reshape(models, -1).mean(axis=1)
    if not (prices.sigma or prices.provider_sigma or prices.sale or prices.tier_swap):
        return np.ones((1, models))
    deck, model = np.arange(DECK)[:, None], np.arange(models)
    log = prices.sigma * normal(seed, Purpose.PRICE, deck, model)
    log = log + prices.provider_sigma * normal(seed, Purpose.PROVIDER, deck, provider)
    factor = np.exp(log) * np.where(uniform(seed, Purpose.SALE, deck, model) < prices.sale, prices.sale_factor, 1.0)
    if models > 1 and (mean_cost > 0).all():
        swaps = np.flatnonzero(uniform(seed, Purpose.SWAP, deck, 0)[:, 0] < prices.tier_swap)
        pair = np.argsort(uniform(seed, Purpose.SWAP, deck[swaps], 1 + model), axis=1)[:, :2]
        ratio = mean_cost[pair[:, 1]] / mean_cost[pair[:, 0]]
        factor[swaps, pair[:, 0]] *= ratio
        factor[swaps, pair[:, 1]] /= ratio
    return factor


def _pools(pools: Pools, replay: Replay, seed: int) -> Bools:
    models = len(replay.model_ids)
    if unknown := sorted(set(pools.held_out) - set(replay.model_ids)):
        raise LabError(f"the profile holds out {', '.join(unknown)}, not in the store ({', '.join(replay.model_ids)})")
    there = ~np.isin(replay.model_ids, pools.held_out)
    if not there.any():
        raise LabError("the profile holds out every model: leave one at least on offer")
    if not pools.drop and not 0 < pools.most < models:
        return there[None]
    luck = uniform(seed, Purpose.POOL, np.arange(DECK)[:, None], np.arange(models))
    luck = np.where(there, luck, -1.0)
    rank = np.argsort(np.argsort(-luck, axis=1), axis=1)
    offer = there & ((luck >= pools.drop) | (rank < pools.least))
    return offer & (rank < pools.most) if pools.most else offer


def _order(pools: Pools, models: int, seed: int) -> Ints:
    if not pools.shuffle:
        return np.arange(models)[None]
    return np.argsort(uniform(seed, Purpose.ORDER, np.arange(DECK)[:, None], np.arange(models)), axis=1)


def _drift(prices: Prices, models: int, seed: int) -> Floats:
    if not prices.drift_sigma:
        return np.ones((1, models))
    moves = prices.drift_sigma * normal(seed, Purpose.DRIFT, np.arange(PERIODS)[:, None], np.arange(models))
    moves[0] = 0.0
    return np.exp(np.cumsum(moves, axis=0))


def _cuts(failures: Failures, provider: Ints, seed: int) -> Ints:
    """[PERIODS, M, 6]"""
    varies = failures.outage > 0 or (failures.load > 0 and failures.rate_limited > 0)
    periods, providers = PERIODS if varies else 1, int(provider.max()) + 1
    rates = np.tile(np.array(failures.rates), (periods, providers, 1))
    phase = uniform(seed, Purpose.LOAD, np.arange(providers))
    wave = np.sin(2.0 * np.pi * (np.arange(periods)[:, None] / failures.load_periods + phase))
    rates[:, :, Outcome.RATE_LIMITED - 1] *= 1.0 + failures.load * wave * varies
    cuts = np.rint(np.cumsum(rates, axis=2) * CERTAIN).astype(np.int64)
    down = _outages(failures, periods, providers, seed)
    # While a provider is down, all luck is a server error: nothing comes before it, everything lies below its cut.
    cuts[down] = np.where(np.arange(cuts.shape[2]) < Outcome.SERVER_ERROR - 1, 0, CERTAIN)
    by_model: Ints = LOWEST + cuts[:, provider]
    return by_model


def _outages(failures: Failures, periods: int, providers: int, seed: int) -> Bools:
    """[periods, providers] a two-state Markov chain, begun in its stationary state."""
    luck = uniform(seed, Purpose.OUTAGE, np.arange(periods)[:, None], np.arange(providers))
    recovers = 1.0 / failures.outage_periods
    breaks = min(failures.outage / (1.0 - failures.outage) * recovers, 1.0)
    down = np.zeros((periods, providers), np.bool_)
    down[0] = luck[0] < failures.outage
    for period in range(1, periods):
        down[period] = np.where(down[period - 1], luck[period] >= recovers, luck[period] < breaks)
    return down


def _latency(latency: Latency) -> Floats:
    chance = (np.arange(QUANTILES) + 0.5) / QUANTILES
    cut = 1.0 - latency.tail
    body: Floats = np.exp(latency.sigma * ndtri(np.minimum(chance, cut - 0.5 / QUANTILES)))
    beyond = np.maximum(1.0 - chance, 0.5 / QUANTILES) / max(latency.tail, 0.5 / QUANTILES)
    return np.where(chance < cut, body, body * beyond ** (-1.0 / latency.tail_exponent))
