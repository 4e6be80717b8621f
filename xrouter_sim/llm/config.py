"""Settings of the LLM router's training. Every one has its default here, its sentence, and its option or `--set`."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from responses_db import LabError
from xrouter_sim.llm.rollout import PriceCard
from xrouter_sim.llm.teacher import Shares


@dataclass(frozen=True)
class LLMConfig:
    """Defaults suit a small model on two cores."""

    base: str = "tiny"
    """tiny, smollm2, or a folder or hub name of a causal LM that can call tools."""
    seed: int = 0
    tiny_layers: int = 6
    tiny_width: int = 320
    """Size of `tiny`: 64 numbers a head."""
    penalties: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0)
    """λ that episodes are drawn at."""
    worlds: tuple[str, ...] = ("calm", "prices")
    """Profiles from easy to hard: the curriculum goes through them."""
    test_world: str = "calm"
    """The profile that figures are measured in."""
    switch: bool = True
    """Whether models may be called in more than one turn."""
    parallel: bool = True
    """Whether several models may be called in one turn."""
    longest: int = 60
    """Characters of a response that the router reads."""
    longest_question: int = 240
    """Characters of a question that the router reads."""
    letters: bool = False
    """Whether models are called by a letter each: a name of theirs may take a dozen tokens, and a small model learns
    the letters as quickly. A router trained with letters knows the pool it was trained on by them."""
    most_mistakes: int = 3
    """Refused actions that end an episode."""

    traces: int = 5000
    """Demonstrations for the warm start; 0 leaves it out."""
    shares: Shares = field(default_factory=Shares)
    knowledge: float = 0.1
    """What the teacher knows beyond the domain's rates, 0 to 1."""
    margin: float = 0.05
    """How much less reward a behaviour may promise than the best one on a query, and still be shown there."""
    noise: float = 0.1
    """The chance that a demonstrated call asks a model drawn at random."""
    warm_rate: float = 1e-3
    warm_batch: int = 16
    warm_epochs: float = 1.0

    steps: int = 60
    """GRPO steps; 0 leaves it out."""
    prompts: int = 6
    """Groups a step."""
    group: int = 8
    """Episodes a group, all in one world."""
    rate: float = 5e-5
    scale: str = "batch"
    """What advantages are divided by (TRL's `scale_rewards`): the spread of the group, of the batch, or none."""
    temperature: float = 1.0
    most_tokens: int = 16
    """Tokens of one turn."""
    most_episode_tokens: int = 320
    """Tokens of an episode after its prompt, tools' results included."""
    format_weight: float = 0.1
    """What a refused action costs at first; it fades to nothing over `format_fade` of the steps."""
    format_fade: float = 0.5
    entropy_target: float = 0.05
    """Nats a token below which entropy is rewarded (Skywork-OR1, arXiv 2505.22312); 0 leaves it out."""
    dynamic: bool = True
    """Whether queries on which a whole group earned the same are passed over a while (as DAPO, arXiv 2503.14476)."""
    easy_first: bool = True
    """Whether the first third of the steps leaves out the hardest third of the queries."""

    lora: bool = True
    """Train an adapter; else all weights, as always for `tiny`."""
    rank: int = 16
    """Of the adapter."""
    layers: int = 10
    """How many of the last layers the adapter is for; 0 is all."""
    bf16: bool = True
    gradient_checkpointing: bool = False
    device: str = "cpu"
    vllm: str = ""
    """colocate or server: generate with vLLM as TRL offers it."""
    report_to: str = "none"
    input_usd: float = 0.05
    output_usd: float = 0.08
    """USD per million of the router's own tokens; the default is nominal, what hosts ask for an 8B model."""

    test_queries: int = 0
    """Held-out queries that figures are measured on; 0 is all of them."""
    settings: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0)
    """λ that the final router is evaluated at."""

    @property
    def telling(self) -> dict[str, Any]:
        """What environments are made with."""
        names = ("penalties", "longest", "longest_question", "most_mistakes", "switch", "parallel", "letters")
        return {name: getattr(self, name) for name in names}

    @property
    def card(self) -> PriceCard:
        return PriceCard(self.input_usd, self.output_usd)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


SMOLLM2 = {
    "letters": True,
    "traces": 1200,
    "warm_rate": 1e-3,
    "warm_batch": 8,
    "steps": 28,
    "prompts": 4,
    "rate": 5e-5,
    "most_tokens": 32,
    "test_queries": 120,
}
"""What differs for SmolLM2-135M on two cores: thirteen times slower than `tiny`."""

LARGE = {
    "traces": 2000,
    "warm_rate": 1e-4,
    "steps": 300,
    "rate": 1e-5,
    "prompts": 8,
    "layers": 0,
    "longest": 1500,
    "longest_question": 6000,
    "most_tokens": 512,
    "most_episode_tokens": 4096,
    "device": "cuda",
    "gradient_checkpointing": True,
}
"""What differs for an instruct model on a GPU."""


def config_for(base: str, changes: dict[str, Any]) -> LLMConfig:
    """The defaults for a base, with these changes. Raises LabError on a setting that there is not."""
    known = {each.name for each in fields(LLMConfig)}
    if unknown := sorted(set(changes) - known):
        raise LabError(f"no setting {unknown[0]!r}: there is {', '.join(sorted(known))}")
    usual: dict[str, Any] = {"tiny": {}, "smollm2": SMOLLM2}.get(base, LARGE)
    return replace(LLMConfig(base=base), **(usual | changes))
