"""GRPO in the simulator, with TRL's GRPOTrainer and its environment hook."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.envs.episode_text import TextEpisode
from xrouter_sim.envs.texts import Texts
from xrouter_sim.envs.tools import answer_with_last_message
from xrouter_sim.llm.bases import Base
from xrouter_sim.llm.compact_head import compact_head
from xrouter_sim.llm.config import LLMConfig
from xrouter_sim.llm.curriculum import SAME, Curriculum
from xrouter_sim.llm.warm_start import ROUTER, last_checkpoint
from xrouter_sim.replay import Ints


def environments(
    base: Base, simulators: Sequence[Simulator], queries: Ints, texts: Texts, config: LLMConfig
) -> dict[str, Any]:
    """A factory a world, by its place in the curriculum.

    TRL has no sign for the end of an episode: it generates once more after the last action. But it drops a tool's
    result that is longer than the completion may be, and with it that turn. So an episode that is over says something
    very long, which nobody reads.
    """
    too_long = " ." * (config.most_episode_tokens + 1)
    return {
        str(world): partial(
            base.face,
            simulator,
            queries,
            texts=texts,
            told_at_end=too_long,
            **config.telling,
        )
        for world, simulator in enumerate(simulators)
    }


class Settle:
    """A reward function that pays nothing: ends what is not over, puts the router's own tokens on the bill, and tells
    the curriculum what each group earned."""

    __name__ = "settle"

    def __init__(self, config: LLMConfig, curriculum: Curriculum) -> None:
        self.card, self.curriculum = config.card, curriculum

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[list[int]],
        environments: Sequence[TextEpisode],
        log_metric: Any = None,
        **columns: Any,
    ) -> list[float]:
        answer_with_last_message(completions, environments)
        for ids, env in zip(completion_ids, environments, strict=True):
            env.get_reward()
            env._charge(self.card.usd(0, len(ids)))
        told = [
            (key, query_id, env.get_reward())
            for key, query_id, env in zip(columns["key"], columns["query_id"], environments, strict=True)
        ]
        if self.curriculum.dynamic:
            self.curriculum.learn(*zip(*gather_object(told), strict=True))
        if log_metric is not None:
            for name, value in _behaviours(environments).items():
                log_metric(name, value)
            log_metric("silent_groups", silent_groups(columns["key"], [env.get_reward() for env in environments]))
        return [0.0] * len(completions)


def silent_groups(keys: Sequence[int], rewards: Sequence[float]) -> float:
    """The share of groups (equal keys) that earned the same throughout: they have no gradient.

    >>> silent_groups([7, 7, 8, 8], [0.5, 0.5, 0.0, 1.0])
    0.5
    """
    groups: dict[int, list[float]] = {}
    for key, earned in zip(keys, rewards, strict=True):
        groups.setdefault(key, []).append(earned)
    return sum(max(each) - min(each) < SAME for each in groups.values()) / len(groups)


class Format:
    """A reward function: every refused action costs something at first, less with every step, and then nothing."""

    __name__ = "format"

    def __init__(self, config: LLMConfig) -> None:
        self.weight, self.until = config.format_weight, max(config.format_fade * config.steps, 1.0)

    def __call__(self, environments: Sequence[TextEpisode], trainer_state: Any, **_columns: Any) -> list[float]:
        weight = self.weight * max(0.0, 1.0 - trainer_state.global_step / self.until)
        return [-weight * env.mistakes for env in environments]


def _behaviours(environments: Sequence[TextEpisode]) -> dict[str, float]:
    steps = [env.steps for env in environments]
    n = len(steps)
    return {
        "calls": sum(len(calls) for episode in steps for calls, _ in episode) / n,
        "escalated": sum(sum(bool(calls) for calls, _ in episode) > 1 for episode in steps) / n,
        "parallel": sum(any(len(calls) > 1 for calls, _ in episode) for episode in steps) / n,
        "mistakes": sum(env.mistakes > 0 for env in environments) / n,
        "accuracy": sum(float(env.episodes.score[0]) for env in environments) / n,
    }


def grpo_args(config: LLMConfig, out: Path) -> GRPOConfig:
    """TRL's arguments. DAPO's loss and its higher upper clip are TRL's and our defaults."""
    adaptive = config.entropy_target > 0
    return GRPOConfig(
        output_dir=str(out),
        max_steps=config.steps,
        per_device_train_batch_size=config.prompts * config.group,
        num_generations=config.group,
        learning_rate=config.rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=3,
        temperature=config.temperature,
        scale_rewards=config.scale,
        max_completion_length=config.most_episode_tokens,
        generation_kwargs={"max_new_tokens": config.most_tokens},
        epsilon_high=0.28,
        beta=0.0,
        use_adaptive_entropy=adaptive,
        entropy_target=config.entropy_target if adaptive else 0.2,
        entropy_coef_max=0.05,
        shuffle_dataset=False,
        seed=config.seed,
        use_cpu=config.device == "cpu",
        bf16=config.bf16,
        gradient_checkpointing=config.gradient_checkpointing,
        use_vllm=bool(config.vllm),
        vllm_mode=config.vllm or "colocate",
        logging_steps=1,
        save_strategy="steps",
        save_steps=25,
        save_total_limit=2,
        report_to=config.report_to,
        dataloader_pin_memory=config.device != "cpu",
    )


def grpo(
    base: Base,
    simulators: Sequence[Simulator],
    queries: Ints,
    texts: Texts,
    config: LLMConfig,
    out: Path,
    resume: bool,
    callbacks: Sequence[Any] = (),
) -> list[dict[str, Any]]:
    """Train `base.model` in place on the training `queries` ([n] indices); returns TRL's log."""
    trainer = grpo_trainer(base, simulators, queries, texts, config, out, callbacks)
    torch.manual_seed(config.seed)  # making the trainer has drawn numbers of its own
    with compact_head():
        trainer.train(resume_from_checkpoint=last_checkpoint(out) if resume else None)
    trainer.save_model(str(out / ROUTER))
    return list(trainer.state.log_history)


def grpo_trainer(
    base: Base,
    simulators: Sequence[Simulator],
    queries: Ints,
    texts: Texts,
    config: LLMConfig,
    out: Path,
    callbacks: Sequence[Any] = (),
) -> GRPOTrainer:
    """Ready to train. Nothing is generated yet."""
    n = config.steps * config.prompts
    curriculum = Curriculum(
        simulators,
        queries,
        config.penalties,
        texts,
        base.face,
        n,
        config.seed,
        config.longest_question,
        config.easy_first,
        config.dynamic,
    )
    rewards: list[Any] = [Settle(config, curriculum), Format(config)]
    rows = Dataset.from_dict({"place": list(range(n))})
    rows.set_transform(curriculum)
    return GRPOTrainer(
        base.model,
        args=grpo_args(config, out),
        train_dataset=rows,
        processing_class=base.tokenizer,
        reward_funcs=rewards,
        environment_factory=environments(base, simulators, queries, texts, config),
        callbacks=list(callbacks),
    )
