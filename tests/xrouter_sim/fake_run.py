"""A made-up but plausible run folder, the same for the same arguments, for tests of what reads one."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from xrouter_sim.evaluation.decisions import SCHEMA
from xrouter_sim.reward import reward

COST_UNIT = 0.01
SETTINGS = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0, 20.0, 80.0)
DOMAINS = ("arithmetic", "code", "logic")
SKILL = {"tiny-1b": -0.9, "small-8b": 0.0, "middle-70b": 0.9, "<b>grand</b>": 2.0}
USD = {"tiny-1b": 0.0001, "small-8b": 0.0005, "middle-70b": 0.002, "<b>grand</b>": 0.006}
KINDS = {
    "rl": "rl",
    "oracle": "oracle",
    "cascade": "sequential",
    "knn": "single-shot",
    "table": "fixed",
    "cheapest": "fixed",
    "random": "fixed",
    **{f"always:{model}": "fixed" for model in SKILL},
}


@dataclass
class World:
    """What every model would answer: arrays (queries, models)."""

    right: np.ndarray
    chance: np.ndarray
    cost: np.ndarray
    models: list[str]
    rng: np.random.Generator

    def gain(self, lam: float, belief: np.ndarray) -> np.ndarray:
        return belief * (1 - np.minimum(lam * self.cost / COST_UNIT, 1))


def write_fake_run(
    folder: Path,
    *,
    queries: int = 60,
    seed: int = 0,
    seeds: int = 1,
    settings: tuple[float, ...] = SETTINGS,
    skill: dict[str, float] = SKILL,
    usd: dict[str, float] = USD,
    extra: int = 0,
    name: str = "fake",
) -> Path:
    """Write runs/NAME's four files to `folder` and return it. `extra` adds that many more single-shot routers."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = KINDS | {f"extra{i}": "single-shot" for i in range(extra)}
    kinds = {k: v for k, v in kinds.items() if not k.startswith("always:")} | {f"always:{m}": "fixed" for m in skill}
    calm = [rows(kinds, queries, seed + s, s, settings, skill, usd) for s in range(seeds)]
    pl.DataFrame([row for part in calm for row in part], schema=SCHEMA).write_parquet(folder / "decisions.parquet")
    robustness_frame(kinds, queries, seed, skill, usd).write_parquet(folder / "robustness.parquet")
    training_frame(seed).write_parquet(folder / "training.parquet")
    (folder / "manifest.json").write_text(json.dumps(manifest(name, kinds, queries, seed, settings, skill)))
    return folder


def edited(folder: Path, change: Callable[[pl.DataFrame], pl.DataFrame], name: str = "decisions") -> Path:
    """Rewrite one of the folder's tables; returns the folder."""
    path = folder / f"{name}.parquet"
    change(pl.read_parquet(path)).write_parquet(path)
    return folder


def make_world(queries: int, seed: int, skill: dict[str, float], usd: dict[str, float]) -> World:
    rng = np.random.default_rng(seed)
    hardness = rng.normal(0.2, 1.2, size=(queries, 1))
    chance = 1 / (1 + np.exp(-1.6 * (np.array(list(skill.values())) - hardness)))
    cost = np.array(list(usd.values())) * rng.lognormal(0, 0.4, size=(queries, 1))
    return World(rng.random(chance.shape) < chance, chance, cost, list(skill), rng)


def rows(
    kinds: dict[str, str],
    queries: int,
    seed: int,
    label: int,
    settings: tuple[float, ...],
    skill: dict[str, float],
    usd: dict[str, float],
) -> list[dict[str, Any]]:
    """Decisions of every router on one draw of the world."""
    world = make_world(queries, seed, skill, usd)
    found = []
    for router, kind in kinds.items():
        noise = world.rng.normal(0, 0.1 if kind == "rl" else 0.35, size=world.chance.shape)
        fixed = world.rng.integers(len(world.models), size=queries)
        for lam in settings:
            for query in range(queries):
                calls, final, winner = decide(world, router, kind, lam, query, noise[query], int(fixed[query]))
                found.append(row(world, router, label, lam, query, calls, final, winner))
    return found


def decide(
    world: World, router: str, kind: str, lam: float, query: int, noise: np.ndarray, drawn: int
) -> tuple[list[tuple[int, int]], str, int | None]:
    """(turn, model) of each call, how it ended, and whose answer won."""
    right, cost = world.right[query], world.cost[query]
    if kind == "oracle":
        best = int(np.argmax(np.where(right, world.gain(lam, np.ones_like(cost))[query], -cost)))
        return [(0, best)], "call", best
    if kind in ("sequential", "rl"):
        stop = np.clip(lam / 4, 0, 1)
        order = [i for i in np.argsort(cost) if i != 0 or lam > 1]
        if kind == "rl" and lam < 0.5 and query % 3 == 0:
            return [(0, i) for i in order], "vote", int(order[-1])
        if kind == "rl" and lam > 50 and query % 2:
            return [], "direct", None
        calls = []
        for turn, model in enumerate(order):
            calls.append((turn, int(model)))
            if right[model] + noise[model] > 0.5 or stop > 0.3 * (turn + 1):
                break
        if query == 7:
            return calls, "none", None
        return calls, "select" if len(calls) > 1 else "call", calls[-1][1]
    gain = world.gain(lam, world.chance)[query]
    choice = {"random": drawn, "cheapest": 0, "table": int(np.argmax(world.gain(lam, world.chance).mean(axis=0)))}
    always = world.models.index(router.removeprefix("always:")) if router.startswith("always:") else None
    model = always if always is not None else choice.get(router, int(np.argmax(gain + 0.2 * noise)))
    return [(0, model)], "call", model


def row(
    world: World,
    router: str,
    seed: int,
    lam: float,
    query: int,
    calls: list[tuple[int, int]],
    final: str,
    winner: int | None,
) -> dict[str, Any]:
    cost = float(sum(world.cost[query, model] for _, model in calls))
    score = float(world.right[query, winner]) if winner is not None else 0.0
    return {
        "router": router,
        "seed": seed,
        "setting": lam,
        "query_id": f"q{query:04d}",
        "domain": DOMAINS[query % len(DOMAINS)],
        "calls": [
            {
                "turn": turn,
                "model": world.models[model],
                "prompt_style": "plain",
                "sample": 0,
                "price": 1.0,
                "outcome": "ok",
                "attempts": 1,
                "tokens": None,
                "cost": float(world.cost[query, model]),
            }
            for turn, model in calls
        ],
        "final": final,
        "answered_by": None if winner is None else world.models[winner],
        "score": score,
        "cost_usd": cost,
        "latency_s": 0.5 * len(calls) + 0.01 * (query % 50),
        "reward": float(reward(score, cost, lam, COST_UNIT)),
    }


def robustness_frame(
    kinds: dict[str, str], queries: int, seed: int, skill: dict[str, float], usd: dict[str, float]
) -> pl.DataFrame:
    """λ = 1 under three profiles: dear prices multiply costs, failures lose some answers."""
    calm = pl.DataFrame(rows(kinds, queries, seed, 0, (1.0,), skill, usd), schema=SCHEMA)
    frames = [calm.with_columns(profile=pl.lit("calm"))]
    dear = calm.with_columns(pl.col("cost_usd") * 1.7)
    frames.append(rewarded(dear).with_columns(profile=pl.lit("prices")))
    failed = pl.col("query_id").str.ends_with("3") & (pl.col("calls").list.len() < 2)
    lost = calm.with_columns(
        score=pl.when(failed).then(0.0).otherwise("score"),
        final=pl.when(failed).then(pl.lit("none")).otherwise("final"),
    )
    frames.append(rewarded(lost).with_columns(profile=pl.lit("failures")))
    return pl.concat(frames)


def rewarded(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(reward=pl.Series(reward(frame["score"], frame["cost_usd"], frame["setting"], COST_UNIT)))


def training_frame(seed: int, updates: int = 40) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rise = 1 - np.exp(-np.arange(updates) / 10)
    validation = [float(x) if i % 5 == 0 else None for i, x in enumerate(0.5 + 0.25 * rise)]
    return pl.DataFrame(
        {
            "update": np.arange(updates),
            "episodes": np.arange(updates) * 1024,
            "reward": 0.5 + 0.25 * rise + rng.normal(0, 0.01, updates),
            "accuracy": 0.6 + 0.2 * rise + rng.normal(0, 0.01, updates),
            "cost_usd": 0.004 - 0.002 * rise,
            "calls_per_episode": 2.5 - rise,
            "entropy": 1.6 - rise,
            "validation_reward": pl.Series(validation, dtype=pl.Float64),
        }
    )


def manifest(
    name: str, kinds: dict[str, str], queries: int, seed: int, settings: tuple[float, ...], skill: dict[str, float]
) -> dict[str, Any]:
    return {
        "name": name,
        "router": "rl",
        "command": f"xrouter-sim train rl --db data/responses.duckdb --out runs/{name}",
        "config": {"updates": 40, "episodes": 1024},
        "seed": seed,
        "store": {
            "path": "data/responses.duckdb",
            "content_hash": "0123456789abcdef",
            "queries": {"train": 2 * queries, "test": queries},
            "models": list(skill),
            "provenance": {"simulated": 3 * queries * len(skill)},
        },
        "cost_unit_usd": COST_UNIT,
        "settings": list(settings),
        "features": {"text": "hashed"},
        "profile": {"name": "calm"},
        "versions": {"xrouter-sim": "0.1.0"},
        "started_at": "2026-01-01T00:00:00Z",
        "seconds": {"train": 12.5, "evaluate": 3.25},
        "kinds": kinds,
        "reads": {router: ["question"] for router in kinds},
    }
