"""Base models: where a language model and its tokenizer come from, and which face of the engine they speak.

`smollm2` and `tiny` need no network. Any other name is a folder or a hub's name of a causal LM whose chat template can
carry tools.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl.chat_template_utils import add_response_schema, supports_tool_calling

from responses_db import LabError
from xrouter_sim.envs.brief import BriefRoutingEnv
from xrouter_sim.envs.episode_text import TextEpisode
from xrouter_sim.envs.tools import ToolRoutingEnv
from xrouter_sim.llm.config import LLMConfig
from xrouter_sim.llm.templates import BRIEF, BRIEF_RESPONSE, END, PAD, START

MODELS = Path("data/models")
"""Where `make smollm2` puts the GGUF, and where the checkpoint made of it is kept."""

SMOLLM2 = "SmolLM2-135M-Instruct"
VOCABULARY = 4096
"""Tokens of the `tiny` tokenizer."""


LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""What the adapter adapts."""


@dataclass
class Base:
    """A language model to make a router of. `name` is what finds it again."""

    name: str
    model: Any
    tokenizer: Any
    face: type[TextEpisode]


def face_of(name: str) -> type[TextEpisode]:
    """The face that a base speaks. A router that was saved speaks what it spoke."""
    saved = Path(name) / "chat_template.jinja"
    brief = name in ("tiny", "smollm2") or (saved.is_file() and saved.read_text("utf-8").strip() == BRIEF.strip())
    return BriefRoutingEnv if brief else ToolRoutingEnv


def load_base(config: LLMConfig, corpus: Iterable[str], cache: Path = MODELS) -> Base:
    """What the config names. `corpus`: texts that the tokenizer of `tiny` is trained on.

    Raises LabError when the model is not there or cannot call tools.
    """
    torch.manual_seed(config.seed)
    if config.base == "tiny":
        return _tiny(corpus, config.tiny_layers, config.tiny_width)
    if config.base == "smollm2":
        return _smollm2(cache, torch.bfloat16 if config.bf16 and config.lora else torch.float32)
    return _from_hub(config.base)


def with_adapter(base: Base, rank: int, layers: int) -> Base:
    """A fresh LoRA adapter on the last `layers` (0: all), where there is none yet."""
    if isinstance(base.model, PeftModel):
        return base
    depth = int(base.model.config.num_hidden_layers)
    last = list(range(depth - layers, depth)) if 0 < layers < depth else None
    lora = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=LINEAR, layers_to_transform=last, task_type="CAUSAL_LM"
    )
    return replace(base, model=get_peft_model(base.model, lora))


def continued(base: Base, adapter: Path) -> Base:
    """A base with an adapter that was trained before. Raises LabError where there is none, or it is another base's."""
    if not (adapter / "adapter_config.json").is_file():
        raise LabError(f"no adapter in {adapter}: give the folder `router` of a run of `xrouter-sim train llm`")
    trained_on = PeftConfig.from_pretrained(str(adapter)).base_model_name_or_path
    if trained_on != base.model.config._name_or_path:
        raise LabError(f"{adapter} is an adapter of {trained_on}, not of {base.name}: give that one as --base")
    return replace(base, model=PeftModel.from_pretrained(base.model, adapter, is_trainable=True))


def _tiny(corpus: Iterable[str], layers: int, width: int) -> Base:
    """A Llama: of a Qwen2 transformers would believe that its tokenizer is Qwen's own, and cut words otherwise."""
    tokenizer = speaks_brief(tiny_tokenizer(corpus))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(width // 64, 1),
        num_key_value_heads=1,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    model: Any = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    return Base("tiny", model, tokenizer, BriefRoutingEnv)


def tiny_tokenizer(corpus: Iterable[str], vocabulary: int = VOCABULARY) -> Any:
    """A byte-level BPE trained on these texts."""
    tokenizer = Tokenizer(models.BPE())
    # Names and actions are wanted whole (" sim-gpt-5/cot"), and so are usual numbers: an action takes three tokens.
    words = Regex(r" ?[^\s\d]\S*| ?\d[\d.]*|\s+|\S")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    marks = [AddedToken(mark, special=True) for mark in (PAD, START, END)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=marks, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)


def _smollm2(cache: Path, dtype: torch.dtype) -> Base:
    """From the GGUF once; then from the checkpoint beside it. Under an adapter that is trained in float32 the frozen
    weights may be bfloat16."""
    folder = cache / SMOLLM2
    if not (folder / "config.json").is_file():
        found = sorted(cache.glob(f"{SMOLLM2}*.gguf"))
        if not found:
            raise LabError(f"no {SMOLLM2} in {cache}: fetch it with `make smollm2` (90 MB, once)")
        _converted(found[0], folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    tokenizer = speaks_brief(AutoTokenizer.from_pretrained(folder))
    return Base("smollm2", model, tokenizer, BriefRoutingEnv)


def _converted(gguf: Path, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # Else transformers would save it as a quantised model, which it is no longer.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    fresh = folder.with_suffix(".fresh")
    model.save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    fresh.rename(folder)


def speaks_brief(tokenizer: Any) -> Any:
    """Give a ChatML tokenizer the brief action language. What pads must not be what ends a turn."""
    tokenizer.pad_token, tokenizer.eos_token, tokenizer.padding_side = PAD, END, "left"
    tokenizer.chat_template, tokenizer.response_template = BRIEF, BRIEF_RESPONSE
    return tokenizer


def _from_hub(name: str) -> Base:
    """Raises LabError when there is no such model, no network to fetch it, or no way to call tools."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForCausalLM.from_pretrained(name, dtype="auto")
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise LabError(
            f"no base model {name!r} here, or no network to fetch it ({reason}): give a folder with a saved model, "
            "smollm2, or tiny"
        ) from error
    face = face_of(name)
    if face is BriefRoutingEnv:
        return Base(name, model, speaks_brief(tokenizer), face)
    return Base(name, model, with_tools(tokenizer, name), face)


def with_tools(tokenizer: Any, name: str) -> Any:
    """Raises LabError where the chat template cannot carry tool calls, or nobody knows how to read them."""
    if not supports_tool_calling(tokenizer):
        raise LabError(
            f"the chat template of {name} carries no tool calls: choose a model with a tool-calling template"
        )
    if getattr(tokenizer, "response_template", None) is None and getattr(tokenizer, "response_schema", None) is None:
        try:
            tokenizer = add_response_schema(tokenizer)
        except ValueError as error:
            raise LabError(
                f"no parser for the tool calls of {name}: its chat template is unknown to TRL; "
                "save the tokenizer with a `response_template`"
            ) from error
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.pad_token = PAD if PAD in tokenizer.get_vocab() else tokenizer.unk_token
    tokenizer.padding_side = "left"
    return tokenizer
