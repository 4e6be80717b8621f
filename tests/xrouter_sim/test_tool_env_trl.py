"""ToolRoutingEnv under TRL: every tool has a schema, and GRPO takes a step on episodes played through tools."""

import inspect
import json
import os
from itertools import count
from pathlib import Path

import pytest

from tests.xrouter_sim.faces import CodeTexts
from tests.xrouter_sim.tiny import tiny_replay
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.semantics import Final
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.envs.tools import ToolRoutingEnv, answer_with_last_message, dataset

transformers = pytest.importorskip("transformers", reason="needs the extra `llm`")

REPLAY = tiny_replay(queries=12, samples=2)
TOOLS = {"answer", "call_model", "call_models", "majority_vote", "select_response", "weighted_vote"}


def tools_of(env: ToolRoutingEnv) -> dict:
    """As TRL finds them: public methods of the class but `reset` and `get_reward`."""
    names = [name for name, _ in inspect.getmembers(type(env), predicate=inspect.isfunction)]
    return {name: getattr(env, name) for name in names if name[0] != "_" and name not in ("reset", "get_reward")}


def test_every_tool_has_a_schema_that_explains_its_arguments():
    env = ToolRoutingEnv(Simulator(REPLAY, Profile(), 0, 0.002), REPLAY.indices("train"), texts=CodeTexts(REPLAY))
    schemas = {name: transformers.utils.get_json_schema(tool)["function"] for name, tool in tools_of(env).items()}
    assert schemas.keys() == TOOLS
    for schema in schemas.values():
        assert schema["description"]
        assert all(argument["description"] for argument in schema["parameters"]["properties"].values())
    arguments = schemas["call_models"]["parameters"]
    assert arguments["required"] == ["models"]
    assert arguments["properties"]["models"]["items"] == {"type": "string"}
    assert arguments["properties"]["then"]["enum"] == ["continue", "select_last", "majority_vote", "weighted_vote"]


@pytest.mark.filterwarnings("ignore:You are using .environment_factory.")
@pytest.mark.skipif(
    not os.environ.get("XROUTER_SIM_TRL_TEST"), reason="XROUTER_SIM_TRL_TEST=1 runs it, in half a minute"
)
def test_grpo_takes_a_step_on_episodes_played_through_tools(tmp_path):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = tiny_tokenizer()
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=8192,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = transformers.Qwen3ForCausalLM(config)
    before = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    simulator, texts, made = Simulator(REPLAY, Profile(), 0, 0.002), CodeTexts(REPLAY), []

    def factory() -> ToolRoutingEnv:
        made.append(ToolRoutingEnv(simulator, REPLAY.indices("train"), texts=texts))
        return made[-1]

    class Scripted(GRPOTrainer):
        """The model's forward and backward passes are real; what it says comes from a script, since it cannot speak."""

        def _generate_single_turn(self, prompt_ids, *args, **kwargs):
            told = [tokenizer.decode(ids) for ids in prompt_ids]
            said = [script(number)[text.count("<tool_response>")] for number, text in enumerate(told)]
            assert all("Models on offer" in text and '"name": "call_models"' in text for text in told)
            return [tokenizer.encode(text, add_special_tokens=False) for text in said], None

    trainer = Scripted(
        model,
        args=GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=4,
            num_generations=4,
            max_steps=1,
            report_to=[],
            max_completion_length=1500,
            use_cpu=True,
            learning_rate=0.1,
            logging_steps=1,
            save_strategy="no",
        ),
        train_dataset=Dataset.from_list(
            dataset(ToolRoutingEnv, simulator, texts, "train", 4, seed=1, penalties=(0.5,))
        ),
        processing_class=tokenizer,
        reward_funcs=answer_with_last_message,
        environment_factory=factory,
    )
    trainer.train()
    logged = trainer.state.log_history[0]
    played = made[:4]
    assert [env.steps[0] for env in played] == [((0, 1), Final.CONTINUE)] * 4
    assert len({int(env.episodes.key[0]) for env in played}) == 1
    endings = [((), 1), ((), Final.VOTE), ((2,), Final.WEIGHTED_VOTE), ((), Final.DIRECT)]
    assert [env.steps[1] for env in played] == endings
    assert logged["rewards/ToolRoutingEnv/mean"] == pytest.approx(sum(env.get_reward() for env in played) / 4)
    assert played[3].get_reward() == pytest.approx(1 - 0.5 * 0.0005 / 0.002)
    assert logged["tools/failure_frequency"] == 0.0
    assert (model.model.layers[0].mlp.up_proj.weight != before).any()


def script(number: int) -> list[str]:
    """What rollout `number` of four says, turn by turn: they end by a selection, two votes and a plain last message."""
    last = [
        tool_call("select_response", number=2),
        tool_call("majority_vote"),
        tool_call("call_model", model="c", then="weighted_vote"),
        "Answer: 0<|im_end|>",
    ]
    return [tool_call("call_models", models=["a", "b"]), last[number], "Done.<|im_end|>"]


def tool_call(name: str, **arguments: object) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call><|im_end|>"


def tiny_tokenizer():
    """Bytes for tokens, and Qwen's chat template, which TRL knows how to read tool calls from."""
    import trl
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab=dict(zip(letters, count())), merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text()
    return fast
