"""From a store to an LLM router: demonstrations, warm start, GRPO, and what each stage earns on held-out queries."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from accelerate import PartialState

from responses_db import LabError
from responses_db.store import versions
from xrouter_sim.costs import Costs
from xrouter_sim.engine.episodes import Episodes
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.randomness import Purpose, uniform
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.envs.episode_text import TextEpisode
from xrouter_sim.envs.texts import StoreTexts
from xrouter_sim.envs.tools import dataset, opening
from xrouter_sim.evaluation import bench
from xrouter_sim.evaluation.statistics import Bootstrap, figure
from xrouter_sim.files import written_whole
from xrouter_sim.llm.bases import Base, continued, face_of, load_base, with_adapter
from xrouter_sim.llm.config import LLMConfig
from xrouter_sim.llm.grpo import grpo, grpo_trainer
from xrouter_sim.llm.rollout import Played, Rollout, Speaker, roll_out
from xrouter_sim.llm.teacher import Chances, Teacher
from xrouter_sim.llm.traces import demonstrate
from xrouter_sim.llm.warm_start import ROUTER, tokenised, warm_start
from xrouter_sim.pipeline import Ground, write_parquet
from xrouter_sim.replay import Floats, Ints
from xrouter_sim.routers.base import Router
from xrouter_sim.simulation import fitted

NAME = "rl-llm"
"""Of the router in decisions."""


@dataclass
class LLMTask:
    """What to train, on what, and where to put it."""

    db: Path
    out: Path
    config: LLMConfig
    costs: Costs = field(default_factory=Costs)
    adapter: Path | None = None
    """A router of before to go on from."""
    beside: Path | None = None
    """A run of `xrouter-sim train rl` on the same store, to be compared with."""
    resume: bool = False
    say: Callable[[str], None] = field(default=lambda line: None)


class Lab:
    """The store, its worlds and its texts, as the stages share them."""

    def __init__(self, task: LLMTask) -> None:
        config = task.config
        self.ground, self.config = Ground.load(task.db, task.costs), config
        if not self.ground.replay.priced:
            raise LabError("the LLM router reads prices: state costs with --nominal-cost, or use a store that has them")
        self.replay, self.face = self.ground.replay, face_of(config.base)
        self.worlds = [self._simulator(bench.world_of(self.replay, name)) for name in config.worlds]
        self.world = bench.world_of(self.replay, config.test_world)
        self.test_world = self._simulator(self.world)
        self.texts = StoreTexts(self.replay)
        order = np.argsort(uniform(config.seed, Purpose.SPLIT, self.ground.test), kind="stable")
        count = config.test_queries or len(order)
        self.test = np.sort(self.ground.test[order[:count]])

    def _simulator(self, world: Profile) -> Simulator:
        return Simulator(self.replay, world, self.config.seed, self.ground.unit)

    def env(self, simulator: Simulator) -> TextEpisode:
        return self.face(simulator, self.ground.train, texts=self.texts, **self.config.telling)

    def traces(self) -> list[dict[str, Any]]:
        """Demonstrations on training queries, evenly in all worlds."""
        config, each = self.config, -(-self.config.traces // len(self.worlds))
        rows = [
            row | {"world": world}
            for world, simulator in enumerate(self.worlds)
            for row in dataset(
                self.face,
                simulator,
                self.texts,
                "train",
                each,
                1 + config.seed,
                config.penalties,
                config.longest_question,
            )
        ]
        chances = Chances.of(self.replay, self.ground.train, config.knowledge)
        answers = {int(query): reference for query in self.ground.train if (reference := self._answer(int(query)))}
        shown = answers if config.shares.direct else None
        teacher = Teacher(chances, config.noise, config.seed, shown, config.margin)
        return demonstrate(teacher, [self.env(simulator) for simulator in self.worlds], rows, config.shares)

    def _answer(self, query: int) -> str | None:
        if not self.config.shares.direct or not self.texts.can_grade(query):
            return None
        reference = self.texts.query(query).reference
        return str(reference) if reference is not None else None

    def play(self, base: Base, queries: Ints, settings: Sequence[float], temperature: float = 0.0) -> Rollout:
        """Episodes of the queries at each λ in the test world, as `bench.decide` plays routers."""
        config = self.config
        base.model.eval()
        rows = [
            {
                "prompt": opening(self.face.wording, self.texts.messages(int(query)), config.longest_question),
                "query_id": self.replay.query_ids[query],
                "key": key,
                "penalty": penalty,
            }
            for penalty in settings
            for key, query in enumerate(queries)
        ]
        speaker = Speaker(base.model, base.tokenizer, config.most_tokens, temperature, bf16=config.bf16)
        torch.manual_seed(config.seed)
        return roll_out(speaker, [self.env(self.test_world) for _ in rows], rows, config.card)

    def decisions(self, played: Sequence[Played]) -> pl.DataFrame:
        return bench.as_frame(joined(played), self.test_world, NAME)


def joined(played: Sequence[Played]) -> Episodes:
    """Episodes that were played one by one as one batch."""
    parts = [each.talk.env.episodes for each in played]
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in parts[0].arrays()
    }
    arrays["place"] = np.arange(len(parts))
    return Episodes(**arrays, lanes=parts[0].lanes, limited=parts[0].limited)


def run(task: LLMTask) -> dict[str, Any]:
    """All stages; returns the metrics, which are in `metrics.json` too.

    Raises LabError when the store or the base cannot be used.
    """
    config, out, started = task.config, task.out, datetime.now(UTC)
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    task.say(f"reading {task.db}")
    lab = Lab(task)
    seconds: dict[str, float] = {}
    clock = time.perf_counter()
    task.say(f"demonstrating {config.traces:,} episodes on {len(lab.ground.train):,} training queries")
    traces = lab.traces() if config.traces else []
    _write_jsonl(out / "traces.jsonl", traces)
    seconds["traces"] = time.perf_counter() - clock
    base = _ready(task, config, traces)
    stages = Stages(task, lab, base, seconds)
    stages.played("base")
    if traces:
        stages.trained(
            "warm_start", lambda folder: warm_start(base, lab.env(lab.test_world), traces, config, folder, task.resume)
        )
    if config.steps:
        stages.trained(
            "final",
            lambda folder: grpo(base, lab.worlds, lab.ground.train, lab.texts, config, folder, task.resume),
        )
    if not stages.alone:
        return {"router": str(out / ROUTER), "seconds": seconds}
    task.say(f"playing {len(lab.test)} test queries at {len(config.settings)} λ")
    final = lab.play(base, lab.test, config.settings)
    decisions = pl.concat([lab.decisions(final.played), *_others(task, lab)])
    write_parquet(decisions, out / "decisions.parquet")
    metrics = stages.metrics() | {
        "by_penalty": {f"{at:g}": _summary(_at(final, at)) for at in config.settings},
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    _write_json(out / "metrics.json", metrics)
    _write_json(out / "manifest.json", _manifest(task, lab, started, seconds, decisions))
    return metrics


def _ready(task: LLMTask, config: LLMConfig, traces: Sequence[dict[str, Any]]) -> Base:
    base = load_base(config, (_text(trace) for trace in traces))
    if task.adapter is not None:
        return continued(base, task.adapter)
    return with_adapter(base, config.rank, config.layers) if config.lora and config.base != "tiny" else base


def rehearse(task: LLMTask) -> dict[str, Any]:
    """Build everything up to the first batch, generate nothing and write no run: does this configuration stand?"""
    lab = Lab(task)
    few = replace(task.config, traces=min(task.config.traces, 2 * len(lab.worlds)), steps=max(task.config.steps, 1))
    lab.config = few
    traces = lab.traces()
    base = _ready(task, few, traces)
    rows = tokenised(base, lab.env(lab.test_world), traces) if traces else []
    trainer: Any = grpo_trainer(base, lab.worlds, lab.ground.train, lab.texts, few, task.out / "rehearsal")
    batch = next(iter(trainer.get_train_dataloader()))
    weights = list(base.model.parameters())
    return {
        "base": few.base,
        "parameters": sum(each.numel() for each in weights),
        "trained_parameters": sum(each.numel() for each in weights if each.requires_grad),
        "training_queries": len(lab.ground.train),
        "tokens_a_trace": float(np.mean([len(row["input_ids"]) for row in rows])) if rows else None,
        "steps": task.config.steps,
        "episodes_a_step": len(batch),
        "first_prompt": batch[0]["prompt"],
        "processes": trainer.accelerator.num_processes,
        "device": str(trainer.accelerator.device),
    }


class Stages:
    """What is trained one after the other, and what each earns at λ = 1 on the same episodes.

    Each speaks greedily, as it would be used, and as it is sampled in training: GRPO raises the second first.
    """

    def __init__(self, task: LLMTask, lab: Lab, base: Base, seconds: dict[str, float]) -> None:
        self.task, self.lab, self.base, self.seconds = task, lab, base, seconds
        self.greedy: dict[str, Rollout] = {}
        self.sampled: dict[str, Rollout] = {}
        state = PartialState()
        self.alone, self.first = state.num_processes == 1, state.is_main_process

    def trained(self, name: str, train: Callable[[Path], list[dict[str, Any]]]) -> None:
        task, clock = self.task, time.perf_counter()
        task.say(f"training: {name.replace('_', ' ')}")
        log = train(task.out / name)
        self.seconds[name] = time.perf_counter() - clock
        if self.first:
            write_parquet(pl.DataFrame(log, infer_schema_length=None), task.out / f"{name}.parquet")
            shutil.copytree(task.out / name / ROUTER, task.out / ROUTER, dirs_exist_ok=True)
        self.played(name)

    def played(self, name: str) -> None:
        """Among several processes nobody has the whole model: then nothing is played."""
        if not self.alone:
            return
        self.base.model.to(self.task.config.device)
        clock = time.perf_counter()
        self.greedy[name] = self.lab.play(self.base, self.lab.test, (1.0,))
        self.sampled[name] = self.lab.play(self.base, self.lab.test, (1.0,), temperature=1.0)
        self.seconds[f"evaluate_{name}"] = time.perf_counter() - clock
        greedy, sampled = (_rewards(each[name]).mean() for each in (self.greedy, self.sampled))
        self.task.say(f"{name.replace('_', ' ')}: reward {greedy:.3f} at λ = 1, sampled {sampled:.3f}")

    def metrics(self) -> dict[str, Any]:
        """`reward` and `gain` over the stage before, with 95% intervals, and how each stage behaves; then the same
        `sampled`."""
        greedy = _compared(self.greedy)
        return {
            "penalty": 1.0,
            "queries": len(self.lab.test),
            **greedy,
            "sampled": _compared(self.sampled),
            "invalid_action_rate": list(greedy["stages"].values())[-1]["invalid_action_rate"],
        }


def _rewards(rollout: Rollout) -> Floats:
    return np.array([each.talk.env.get_reward() for each in rollout.played])


def _compared(rollouts: dict[str, Rollout]) -> dict[str, Any]:
    rewards = {name: _rewards(rollout) for name, rollout in rollouts.items()}
    bootstrap = Bootstrap(len(next(iter(rewards.values()))))
    return {
        "reward": {name: float(values.mean()) for name, values in rewards.items()},
        "interval": {name: figure(bootstrap.means(values)).to_json() for name, values in rewards.items()},
        "gain": {
            f"{after} over {before}": figure(bootstrap.means(rewards[after] - rewards[before])).to_json()
            for before, after in pairwise(rewards)
        },
        "stages": {name: _summary(rollout) for name, rollout in rollouts.items()},
    }


def _at(rollout: Rollout, penalty: float) -> Rollout:
    """The episodes at one λ; times are those of all."""
    return replace(rollout, played=[each for each in rollout.played if each.talk.row["penalty"] == penalty])


def _summary(rollout: Rollout) -> dict[str, float]:
    """Behaviours as shares of episodes; the router's own tokens an episode; where the time went."""
    played, n = rollout.played, len(rollout.played)
    envs = [each.talk.env for each in played]
    asked = [[calls for calls, _ in env.steps if calls] for env in envs]
    actions = sum(len(env.steps) + env.mistakes for env in envs)
    return {
        "reward": sum(env.get_reward() for env in envs) / n,
        "accuracy": sum(float(env.episodes.score[0]) for env in envs) / n,
        "usd_per_1k": 1000 * sum(float(env.episodes.cost[0]) for env in envs) / n,
        "own_usd_per_1k": 1000 * sum(env.own_usd for env in envs) / n,
        "own_tokens_read": sum(each.read for each in played) / n,
        "own_tokens_written": sum(each.written for each in played) / n,
        "single": sum(len(turns) == 1 and len(turns[0]) == 1 for turns in asked) / n,
        "switched": sum(len(turns) > 1 for turns in asked) / n,
        "parallel": sum(any(len(calls) > 1 for calls in turns) for turns in asked) / n,
        "direct": sum(not turns and float(env.episodes.score[0]) > 0 for turns, env in zip(asked, envs, strict=True))
        / n,
        "invalid_action_rate": sum(env.mistakes for env in envs) / max(actions, 1),
        "no_answer": sum(int(env.episodes.final[0]) < 0 for env in envs) / n,
        "tokens_a_second": rollout.tokens_written / max(rollout.seconds_generating, 1e-9),
        "outside_the_model": 1 - rollout.seconds_generating / max(rollout.seconds, 1e-9),
    }


def _others(task: LLMTask, lab: Lab) -> list[pl.DataFrame]:
    """The baselines, and a small RL router where there is one, on the same episodes."""
    ground, config = lab.ground, lab.config
    routers: list[Router] = bench.baselines(ground.replay)
    for router in routers:
        router.fit(ground.replay, ground.train, ground.unit, config.seed)
    if task.beside is not None:
        routers.append(fitted("rl", ground.replay, ground.train, ground.unit, config.seed, task.beside))
    return [bench.decide(routers, ground.replay, lab.test, lab.world, config.settings, config.seed, ground.unit, 4096)]


def _manifest(
    task: LLMTask, lab: Lab, started: datetime, seconds: dict[str, float], decisions: pl.DataFrame
) -> dict[str, Any]:
    ground, replay = lab.ground, lab.replay
    names = decisions["router"].unique(maintain_order=True).to_list()
    kinds = {router.name: router.kind for router in bench.baselines(replay)} | {NAME: "rl", "rl": "rl"}
    return {
        "name": task.out.resolve().name,
        "router": NAME,
        "config": task.config.as_dict() | {"costs": asdict(task.costs)},
        "seed": task.config.seed,
        "store": replay.store
        | {
            "queries": {"test": len(lab.test), "train": len(ground.train)},
            "models": replay.model_ids,
            "prompt_styles": replay.prompt_styles,
        },
        "cost_unit_usd": ground.unit,
        "settings": list(task.config.settings),
        "profile": lab.world.as_dict(),
        "robustness_profiles": {},
        "versions": versions(),
        "started_at": started.isoformat(timespec="seconds"),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "reads": {name: [] for name in names},
        "kinds": {name: kinds[name] for name in names},
        "training": {},
    }


def _text(trace: dict[str, Any]) -> str:
    """What a tokenizer is trained on: who speaks, and what is told and said."""
    return "\n".join(
        f"{message['role']}\n{_said(message) if message.get('tool_calls') else message['content']}"
        for message in trace["messages"]
    )


def _said(message: dict[str, Any]) -> str:
    functions = [call["function"] for call in message["tool_calls"]]
    return "\n".join(f">{each['name']} {' '.join(map(str, each['arguments'].values()))}" for each in functions)


def _write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with written_whole(path) as fresh:
        fresh.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def _write_json(path: Path, value: Any) -> None:
    with written_whole(path) as fresh:
        fresh.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
