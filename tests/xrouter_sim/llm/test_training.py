"""The LLM router's whole path on a two-layer model, and one rollout looked at token by token."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("trl", reason="needs the extra `llm`")

from responses_db import LabError
from tests.xrouter_sim.faces import CodeTexts
from tests.xrouter_sim.llm.worlds import REPLAY, TRAIN, UNIT, brief, row, simulator
from xrouter_sim.envs.brief import BriefRoutingEnv
from xrouter_sim.llm.bases import Base, continued, load_base, with_adapter, with_tools
from xrouter_sim.llm.compact_head import compact_head
from xrouter_sim.llm.config import LLMConfig, config_for
from xrouter_sim.llm.curriculum import Curriculum
from xrouter_sim.llm.grpo import grpo_trainer
from xrouter_sim.llm.rollout import PriceCard, Speaker, roll_out
from xrouter_sim.llm.run import NAME, LLMTask, run
from xrouter_sim.llm.teacher import Chances, Shares, Teacher
from xrouter_sim.llm.traces import demonstrate
from xrouter_sim.llm.warm_start import tokenised
from xrouter_sim.reward import reward

pytestmark = pytest.mark.filterwarnings("ignore:You are using .environment_factory.")

SMALL = LLMConfig(
    tiny_layers=2,
    tiny_width=64,
    penalties=(0.5,),
    worlds=("calm",),
    traces=128,
    warm_batch=16,
    warm_rate=8e-3,
    warm_epochs=8.0,
    steps=2,
    prompts=1,
    group=4,
    most_tokens=8,
    scale="group",
    test_queries=6,
    settings=(0.5, 1.0),
    bf16=False,
)


def traces(n: int = 12) -> list[dict]:
    teacher = Teacher(Chances.of(REPLAY, TRAIN, 1.0), 0.0, 0)
    rows = [row(int(query), key) for key, query in enumerate(np.resize(TRAIN, n))]
    return demonstrate(teacher, [brief(longest=20)], rows, Shares())


def small_base(config: LLMConfig = SMALL) -> Base:
    texts = [" ".join(f">{verb} a b c 1 λ 0.5 same as new spent over" for verb in ("call", "use", "take", "vote"))]
    return load_base(config, texts + [message["content"] for trace in traces() for message in trace["messages"]])


BASE = small_base()


def spoken(base: Base, rows: dict) -> str:
    return base.tokenizer.decode([token for token, own in zip(*rows.values(), strict=True) if own])


def test_only_what_the_router_says_is_learned():
    for trace, rows in zip(traces(), tokenised(BASE, brief(), traces()), strict=True):
        said = [message for message in trace["messages"] if message["role"] == "assistant"]
        calls = [message["tool_calls"][0]["function"] for message in said]
        words = [f">{call['name']} {call['arguments'].get('what', '')}".rstrip() + "<|im_end|>" for call in calls]
        assert spoken(BASE, rows) == "".join(words)
        assert rows["assistant_masks"][-1] == 1


def test_a_head_that_scores_less_gives_the_same_loss_and_gradient(tmp_path: Path):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    args = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], max_length=None)
    rows, base = Dataset.from_list(tokenised(BASE, brief(), traces(6))), small_base()
    trainer = SFTTrainer(base.model, args=args, train_dataset=rows, processing_class=base.tokenizer)
    batch = next(iter(trainer.get_train_dataloader()))

    def loss_and_gradient() -> tuple[float, np.ndarray]:
        base.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=40)
        loss.backward()
        return loss.item(), base.model.get_input_embeddings().weight.grad.numpy().copy()

    whole = loss_and_gradient()
    with compact_head():
        compact = loss_and_gradient()
    assert compact[0] == pytest.approx(whole[0], rel=1e-5)
    assert np.allclose(compact[1], whole[1], atol=1e-5)


@pytest.mark.parametrize(
    ("said", "calls", "text"),
    [
        (">call a b<|im_end|>", [("call", {"what": "a b"})], ""),
        (">use a/cot<|im_end|>", [("use", {"what": "a/cot"})], ""),
        (">vote<|im_end|>", [("vote", {"what": ""})], ""),
        (">call a\n>take 1<|im_end|>", [("call", {"what": "a"}), ("take", {"what": "1"})], ""),
        ("5 > 3, so A<|im_end|>", [], "5 > 3, so A"),
        (">fly away<|im_end|>", [], ">fly away"),
    ],
)
def test_turns_are_read_as_they_are_written(said, calls, text):
    from xrouter_sim.llm.conversation import Conversation
    from xrouter_sim.llm.rollout import _opening, _read

    env = brief()
    prompt = _opening(BASE.tokenizer, Conversation.begin(env, row()))
    tokens = BASE.tokenizer(said, add_special_tokens=False)["input_ids"]
    assert _read(BASE.tokenizer, tokens, prompt, env) == (text, calls)


SCRIPTS = [
    [">use a<|im_end|>"],
    [">call a b<|im_end|>", ">take 2<|im_end|>"],
    [">call zebra<|im_end|>", ">use c<|im_end|>"],
    ["Answer: 0<|im_end|>"],
]


def test_a_golden_rollout_token_by_token(tmp_path: Path):
    """Four episodes of a group, said by a script: prompt, completion, mask and reward of each are what they must be."""
    config = replace(SMALL, steps=1, format_weight=0.1, dynamic=True, most_tokens=24)
    trainer = grpo_trainer(BASE, [simulator()], TRAIN, CodeTexts(REPLAY), config, tmp_path)
    tokenizer, turns = BASE.tokenizer, []

    def say(prompt_ids, *args, **kwargs):
        told = [tokenizer.decode(ids) for ids in prompt_ids]
        turns.append(len(told))
        rows = range(len(told)) if len(turns) == 1 else [1, 2]  # the first and the last have ended
        done = [text.count("<|im_start|>assistant") - 1 for text in told]
        said = [SCRIPTS[number][turn] for number, turn in zip(rows, done, strict=True)]
        return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in said], None

    trainer._generate_single_turn = say
    batch = next(iter(trainer.get_train_dataloader()))
    assert len({(each["key"], each["query_id"]) for each in batch}) == 1
    made = trainer._generate_and_score_completions(batch)
    assert turns == [4, 2]  # an episode that is over is not generated for any more

    prompt = tokenizer.decode(made["prompt_ids"][0][made["prompt_mask"][0].bool()])
    assert prompt.startswith("<|im_start|>system\nRoute.")
    assert "λ 0.5, 6 turns" in prompt
    assert prompt.endswith("<|im_end|>\n<|im_start|>assistant\n")
    for place, script in enumerate(SCRIPTS):
        ids, real = made["completion_ids"][place], made["completion_mask"][place].bool()
        own = made["tool_mask"][place].bool() & real
        assert tokenizer.decode(ids[own]) == "".join(script)
        told = tokenizer.decode(ids[real & ~own])
        assert told == "" or (told.startswith("\n<|im_start|>tool\n") and told.endswith("<|im_start|>assistant\n"))

    query = REPLAY.query_ids.index(batch[0]["query_id"])
    for env, script in zip(trainer.environments, SCRIPTS, strict=True):
        own = PriceCard().usd(0, sum(len(tokenizer(text)["input_ids"]) for text in script))
        assert env.own_usd >= own > 0
        again = brief()
        again.reset(query_id=REPLAY.query_ids[query], key=batch[0]["key"], penalty=0.5)
        for calls, final in env.steps:
            again._turn(list(calls), final)
        score = env.episodes.score[0]
        spent = again.episodes.cost[0] + env.own_usd
        assert env.get_reward() == pytest.approx(reward(score, spent, 0.5, UNIT))
    assert [env.mistakes for env in trainer.environments] == [0, 0, 1, 0]
    earned = np.array([env.get_reward() for env in trainer.environments]) - [0, 0, 0.1, 0]
    assert np.allclose(made["advantages"], (earned - earned.mean()) / (earned.std(ddof=1) + 1e-4), atol=1e-4)


def test_evaluation_plays_what_the_model_says(monkeypatch: pytest.MonkeyPatch):
    script = iter([[">call a<|im_end|>", "Answer: 0<|im_end|>"], [">take 1<|im_end|>"]])
    speaker = Speaker(BASE.model, BASE.tokenizer, 8)
    monkeypatch.setattr(
        Speaker,
        "next_turns",
        lambda self, prompts: [BASE.tokenizer(text, add_special_tokens=False)["input_ids"] for text in next(script)],
    )
    rollout = roll_out(speaker, [brief(), brief()], [row(0), row(1)], PriceCard(1.0, 10.0))
    first, second = rollout.played
    assert [len(calls) for calls, _ in first.talk.env.steps] == [1, 0]
    assert (first.turns, second.turns) == (2, 1)
    assert first.talk.env.own_usd == pytest.approx((first.read + 10 * first.written) / 1e6)


def test_a_greedy_model_says_the_same_in_any_company():
    speaker = Speaker(BASE.model.eval(), BASE.tokenizer, 6)
    prompts = [BASE.tokenizer(text)["input_ids"] for text in ("λ 0.5", "Question 3 about sums? a b c", "spent over")]
    together = speaker.next_turns(prompts)
    assert together == [speaker.next_turns([prompt])[0] for prompt in prompts]


def test_the_curriculum_goes_from_easy_to_hard_and_passes_over_what_teaches_nothing():
    def made(**options) -> Curriculum:
        return Curriculum(
            [simulator(), simulator("prices")], TRAIN, (0.5,), CodeTexts(REPLAY), BriefRoutingEnv, 60, 0, 240, **options
        )

    first = made()
    rows = [first.row(place) for place in range(60)]
    assert [each["world"] for each in rows] == [0] * 30 + [1] * 30
    ease = REPLAY.mean_score.mean(axis=1)
    of = [float(ease[REPLAY.query_ids.index(each["query_id"])]) for each in rows]
    assert min(of[:20]) >= np.quantile(ease[TRAIN], 1 / 3) > min(of[20:])
    assert min(of) > 0
    assert rows == [made().row(place) for place in range(60)]
    told = made()
    query = rows[40]["query_id"]
    told.learn([7, 7], [query, query], [0.5, 0.5])
    assert told.row(40)["query_id"] != query
    told.learn([7, 7], [query, query], [0.5, 0.6])
    assert query not in told.silent


@pytest.fixture(scope="module")
def trained(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict]:
    folder = tmp_path_factory.mktemp("llm")
    store = shutil.copy(tiny_store, folder / "store.duckdb")
    metrics = run(LLMTask(Path(store), folder / "run", SMALL))
    return Path(store), folder / "run", metrics


def test_the_whole_path_from_a_store_to_a_run(trained):
    _, out, metrics = trained
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert set(metrics["reward"]) == {"base", "warm_start", "final"}
    assert metrics["stages"]["base"]["reward"] == 0.0  # it knows no action
    assert metrics["reward"]["warm_start"] > 0.0  # it does now: tools are called
    assert metrics["stages"]["warm_start"]["no_answer"] < 1.0
    assert metrics["stages"]["final"]["own_tokens_written"] > 0
    assert set(metrics["by_penalty"]) == {"0.5", "1"}
    assert metrics["by_penalty"]["1"]["reward"] == pytest.approx(metrics["reward"]["final"])
    decisions = pl.read_parquet(out / "decisions.parquet")
    own = decisions.filter(pl.col("router") == NAME)
    assert own.height == 6 * 2
    assert own["calls"].list.len().max() >= 1
    others = decisions.filter(pl.col("router") == "table")
    assert others["query_id"].to_list() == own["query_id"].to_list()
    steps = pl.read_parquet(out / "final.parquet")["step"].drop_nulls().to_list()
    assert max(steps) == 2


def test_a_saved_router_loads_with_no_code_of_this_project(trained):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, out, _ = trained
    tokenizer = AutoTokenizer.from_pretrained(out / "router")
    AutoModelForCausalLM.from_pretrained(out / "router")
    file = json.loads((out / "router" / "tokenizer.json").read_text())
    assert ">use" in file["model"]["vocab"]
    assert tokenizer.tokenize(">use giant 12.5")[0] == ">use"
    call = {"type": "function", "function": {"name": "use", "arguments": {"what": "a"}}}
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    assert tokenizer.apply_chat_template(talk, tokenize=False).endswith(">use a<|im_end|>\n")
    assert tokenizer.parse_response(">take 1<|im_end|>", prefix="")["tool_calls"][0]["function"]["name"] == "take"


def test_the_same_seed_gives_the_same_decisions(trained):
    store, out, _ = trained
    run(LLMTask(store, out.parent / "again", SMALL))
    first, again = (pl.read_parquet(folder / "decisions.parquet") for folder in (out, out.parent / "again"))
    assert first.equals(again)


def test_what_was_stopped_goes_on_where_it_was(trained, tmp_path: Path):
    store, out, _ = trained
    stopped = tmp_path / "stopped"
    shutil.copytree(out, stopped)
    shutil.rmtree(stopped / "final")  # as if it had been stopped while GRPO began
    (stopped / "decisions.parquet").unlink()
    said: list[str] = []
    run(LLMTask(store, stopped, SMALL, resume=True, say=said.append))
    first, again = (pl.read_parquet(folder / "decisions.parquet") for folder in (out, stopped))
    assert first.equals(again)
    state = json.loads(next((stopped / "warm_start").glob("checkpoint-*/trainer_state.json")).read_text())
    original = json.loads(next((out / "warm_start").glob("checkpoint-*/trainer_state.json")).read_text())
    assert state == original  # the warm start was taken as it was


# --- what a user can mend ---------------------------------------------------------------------------------------------


def test_a_base_that_is_not_there_is_one_clear_line():
    with pytest.raises(LabError, match="no base model '/nowhere/at/all'"):
        load_base(replace(SMALL, base="/nowhere/at/all"), [])


def test_a_template_without_tools_is_refused():
    tokenizer = small_base().tokenizer
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    with pytest.raises(LabError, match="carries no tool calls"):
        with_tools(tokenizer, "plain")


def test_a_missing_adapter_and_one_of_another_base_are_refused(tmp_path: Path):
    base = small_base()
    with pytest.raises(LabError, match="no adapter in"):
        continued(base, tmp_path / "nothing")
    with_adapter(base, 4, 1).model.save_pretrained(tmp_path / "adapter")
    other = replace(small_base(), name="other")
    other.model.config._name_or_path = "other/model"
    with pytest.raises(LabError, match="is an adapter of"):
        continued(other, tmp_path / "adapter")


def test_smollm2_that_was_not_fetched_says_how(tmp_path: Path):
    with pytest.raises(LabError, match="make smollm2"):
        load_base(replace(SMALL, base="smollm2"), [], tmp_path)


def test_unknown_settings_are_named():
    with pytest.raises(LabError, match="no setting 'rats'"):
        config_for("tiny", {"rats": 1})
