"""Put routers on one bench: the same queries, worlds and λ for all, decisions written down."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import polars as pl

from xrouter_sim.engine.episodes import ARM, ATTEMPTS, EMPTY, OUTCOME, SAMPLE, TURN, Episodes, field_of
from xrouter_sim.engine.profile import Prices, Profile
from xrouter_sim.engine.rollout import play
from xrouter_sim.engine.semantics import Final, Outcome
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.evaluation.decisions import SCHEMA
from xrouter_sim.replay import Floats, Ints, Replay
from xrouter_sim.routers import BASELINES, ROUTERS
from xrouter_sim.routers.base import Router
from xrouter_sim.routers.fixed import Always, Cheapest
from xrouter_sim.routers.oracle import Oracle

ROBUSTNESS_PROFILES = ("calm", "prices", "failures", "stormy")
ROBUSTNESS_SETTINGS = (1.0,)

ENDINGS = ("select", "vote", "direct", "call", "vote", "none", "none")
"""What decisions call a Final: 0 stands for any slot, the others count from the end (NONE is −2)."""


def baselines(replay: Replay) -> list[Router]:
    """What every comparison has: each single arm, and the plain routers, unfitted."""
    singles: list[Router] = [Always(arm, name) for arm, name in enumerate(replay.arm_names)]
    return singles + [ROUTERS[name]() for name in BASELINES if name != Cheapest.name or replay.priced]


def world_of(replay: Replay, name: str) -> Profile:
    """A profile by name; with its prices as listed where the replay knows none.

    Raises LabError on an unknown name.
    """
    profile = Profile.load(name)
    return profile if replay.priced else replace(profile, prices=Prices())


def decide(
    routers: Iterable[Router],
    replay: Replay,
    queries: Ints,
    profile: Profile,
    settings: tuple[float, ...],
    seed: int,
    cost_unit: float,
    batch_size: int,
) -> pl.DataFrame:
    """Decisions of fitted routers: one row a (router, setting, query), in that order.

    The world of a query is the same for every router and every λ, so comparisons are paired.
    """
    simulator = Simulator(replay, profile, seed, cost_unit)
    query, key = np.tile(queries, len(settings)), np.tile(np.arange(len(queries)), len(settings))
    penalty = np.repeat(np.array(settings), len(queries))
    frames = []
    for router in routers:
        if isinstance(router, Oracle):
            router.watch(simulator)
        episodes = play(router.act, simulator, query, key, penalty, batch_size)
        frames.append(as_frame(episodes, simulator, router.name))
    return pl.concat(frames)


def as_frame(episodes: Episodes, simulator: Simulator, router: str) -> pl.DataFrame:
    """Finished episodes in the form of `decisions.SCHEMA`. NumPy arrays. Where costs are unknown they are null."""
    replay, seed = simulator.replay, simulator.seed
    latency_known = bool(np.isfinite(replay.latency_s[replay.sample_mask]).all())
    answered = episodes.final >= 0
    direct = episodes.ending == int(Final.DIRECT)  # in the router's own words, where no arm stands for them
    arm = episodes.arm[np.arange(len(episodes)), np.maximum(episodes.final, 0)]
    models = np.array(replay.model_ids)
    return pl.DataFrame(
        {
            "router": pl.repeat(router, len(episodes), eager=True),
            "seed": pl.repeat(seed, len(episodes), dtype=pl.Int64, eager=True),
            "setting": episodes.penalty,
            "query_id": np.array(replay.query_ids)[episodes.query],
            "domain": replay.domains[episodes.query],
            "calls": _calls(episodes, simulator),
            "final": np.where(answered | direct, np.array(ENDINGS)[np.minimum(episodes.ending, 0)], "none"),
            "answered_by": pl.Series(models[replay.model_of_arm[arm]]).set(pl.Series(~answered), None),
            "score": episodes.score,
            "cost_usd": _if_priced(replay, episodes.cost),
            "latency_s": pl.Series(episodes.time if latency_known else [None] * len(episodes), dtype=pl.Float64),
            "reward": episodes.reward,
        },
        schema=SCHEMA,
    )


def _if_priced(replay: Replay, values: Floats) -> pl.Series:
    return pl.Series(values if replay.priced else [None] * len(values), dtype=pl.Float64)


def _calls(episodes: Episodes, simulator: Simulator) -> pl.Series:
    """One list of calls an episode."""
    replay, words = simulator.replay, episodes.words()
    row, slot = np.nonzero(words != EMPTY)
    word, price = words[row, slot], simulator.price(episodes.world, episodes.period)
    arm, sample = field_of(word, ARM), field_of(word, SAMPLE)
    style = arm % len(replay.prompt_styles)
    tokens = replay.tokens[episodes.query[row], arm, sample]
    outcomes = np.array([outcome.name.lower() for outcome in Outcome])
    calls = pl.DataFrame(
        {
            "turn": field_of(word, TURN),
            "model": np.array(replay.model_ids)[replay.model_of_arm[arm]],
            "prompt_style": np.array(replay.prompt_styles)[style],
            "sample": sample,
            "price": _if_priced(replay, price[row, replay.model_of_arm[arm]]),
            "outcome": outcomes[field_of(word, OUTCOME)],
            "attempts": field_of(word, ATTEMPTS),
            "tokens": pl.Series(tokens).set(pl.Series(tokens < 0), None),
            "cost": _if_priced(replay, episodes.slot_cost[slot, row]),
        }
    ).to_struct("calls")
    lists = pl.DataFrame({"row": row, "calls": calls}).group_by("row", maintain_order=True).agg("calls")
    every = pl.DataFrame({"row": np.arange(len(episodes))}).join(lists, on="row", how="left", maintain_order="left")
    return every["calls"].fill_null(pl.lit([], dtype=lists.schema["calls"]))
