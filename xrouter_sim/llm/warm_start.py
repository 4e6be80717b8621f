"""Supervised fine-tuning on demonstrations, with TRL's SFTTrainer: only what the router says is learned."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers.trainer_utils import get_last_checkpoint
from trl.chat_template_utils import get_training_chat_template, has_generation_markers
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from xrouter_sim.envs.episode_text import TextEpisode
from xrouter_sim.llm.bases import Base
from xrouter_sim.llm.compact_head import compact_head
from xrouter_sim.llm.config import LLMConfig
from xrouter_sim.llm.conversation import tools_of

ROUTER = "router"
"""Folder of a trained router: weights or adapter, and the tokenizer with its chat template."""


def tokenised(base: Base, env: TextEpisode, traces: Sequence[dict[str, Any]]) -> list[dict[str, list[int]]]:
    """`input_ids` of each trace, and `assistant_masks`: 1 where the router speaks."""
    template = base.tokenizer.chat_template
    if not has_generation_markers(template):
        template = get_training_chat_template(base.tokenizer)
    rows = []
    for trace in traces:
        told = base.tokenizer.apply_chat_template(
            trace["messages"],
            tools=tools_of(env),
            chat_template=template,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        # What stands after the last word (a line break in ChatML) is nobody's.
        end = len(told["input_ids"]) - told["assistant_masks"][::-1].index(1)
        rows.append({name: told[name][:end] for name in ("input_ids", "assistant_masks")})
    return rows


def warm_start(
    base: Base, env: TextEpisode, traces: Sequence[dict[str, Any]], config: LLMConfig, out: Path, resume: bool
) -> list[dict[str, Any]]:
    """Train `base.model` in place; returns TRL's log."""
    rows = tokenised(base, env, traces)
    args = SFTConfig(
        output_dir=str(out),
        num_train_epochs=config.warm_epochs,
        per_device_train_batch_size=config.warm_batch,
        learning_rate=config.warm_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        max_length=None,
        # Not by length: batches of one length show one behaviour, and a model then learns none of the questions.
        train_sampling_strategy="random",
        seed=config.seed,
        use_cpu=config.device == "cpu",
        bf16=config.bf16,
        gradient_checkpointing=config.gradient_checkpointing,
        logging_steps=10,
        save_strategy="steps",
        save_steps=100,
        save_total_limit=1,
        report_to=config.report_to,
        disable_tqdm=None,
        dataloader_pin_memory=config.device != "cpu",
    )
    trainer = SFTTrainer(base.model, args=args, train_dataset=Dataset.from_list(rows), processing_class=base.tokenizer)
    with compact_head():
        trainer.train(resume_from_checkpoint=last_checkpoint(out) if resume else None)
    trainer.save_model(str(out / ROUTER))
    return list(trainer.state.log_history)


def last_checkpoint(folder: Path) -> str | None:
    """Where a training that was stopped goes on."""
    found: str | None = get_last_checkpoint(str(folder)) if folder.is_dir() else None  # type: ignore[no-untyped-call]
    return found
