"""The simulated models: calibrated to what was published, correlated as documented, pure functions of their inputs."""

import json
import re
from itertools import pairwise
from statistics import fmean

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from responses_db.errors import LabError
from responses_db.graders import GRADERS, grade
from responses_db.providers.simulated.calibration import BENCHMARKS, simulated_models
from responses_db.providers.simulated.items import make_item, message_key
from responses_db.providers.simulated.server import HOST, SimulatedServer
from responses_db.providers.simulated.world import Answer, Item, World
from responses_db.query import Query

PLAIN, COT = "Answer the question.", "Think step by step, then answer."
MODELS = simulated_models()
WORLD = World(seed=5)
ITEMS = [
    Item(f"q{i}", list(BENCHMARKS)[i % 4], (i // 4 % 5) / 4, 0, "right", ("w0", "w1", "w2", "w3", "w4", "w5"))
    for i in range(3_000)
]


def ask(
    model: str, item: Item, system: str = PLAIN, sample: int = 0, world: World = WORLD, limit: int = 1 << 20
) -> Answer:
    return world.answer(MODELS[model], item, system, "x" * 400, sample, limit)


def given(answer: Answer) -> str:
    return answer.text.rpartition("Answer: ")[2]


def right(model: str, system: str = PLAIN, sample: int = 0) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return np.array([given(ask(model, item, system, sample)) == "right" for item in ITEMS])


def test_an_answer_is_a_pure_function_of_seed_query_model_prompt_and_sample() -> None:
    again = World(seed=5)
    backwards = [ask("sim-gpt-5", item, world=again) for item in reversed(ITEMS[:50])]
    assert backwards[::-1] == [ask("sim-gpt-5", item) for item in ITEMS[:50]]
    for other in (
        [ask("sim-gpt-5", item, world=World(seed=6)) for item in ITEMS[:50]],
        [ask("sim-gpt-5", item, sample=1) for item in ITEMS[:50]],
        [ask("sim-gpt-5", item, COT) for item in ITEMS[:50]],
    ):
        assert other != backwards[::-1]


@pytest.mark.parametrize("model", MODELS)
def test_models_are_right_as_often_as_the_formula_says(model: str) -> None:
    chance = fmean(WORLD.p_correct(MODELS[model], item, PLAIN) for item in ITEMS)
    assert right(model).mean() == pytest.approx(chance, abs=0.03)


def test_abilities_are_the_published_standings() -> None:
    """GPT-5 leads in arithmetic (AIME, LiveMathBench), Gemini-Pro in language games (SimpleQA, ArenaHard)."""
    best = {domain: max(MODELS, key=lambda m: MODELS[m].ability[domain]) for domain in BENCHMARKS}
    assert best == {
        "arithmetic": "sim-gpt-5",
        "logic": "sim-gpt-5",
        "algorithmic": "sim-gpt-5",
        "language_games": "sim-gemini-pro",
    }
    assert MODELS["sim-qwen3-235b"].ability["language_games"] > MODELS["sim-gpt-5"].ability["language_games"]


@pytest.mark.parametrize("model", MODELS)
def test_a_plain_call_costs_what_was_published(model: str) -> None:
    for domain, published in MODELS[model].cost_usd.items():
        answers = [ask(model, item) for item in ITEMS if item.domain == domain]
        costs = [MODELS[model].price.cost(a.input_tokens, a.output_tokens, 0) or 0.0 for a in answers]
        assert fmean(costs) == pytest.approx(published, rel=0.1)


def test_the_published_figures_are_read_right() -> None:
    """GPT-5: AIME 60 questions for 4.57 USD, LiveMathBench 121 for 4.09 (LLMRouterBench, Table 10)."""
    assert MODELS["sim-gpt-5"].cost_usd["arithmetic"] == pytest.approx((4.57 / 60 + 4.09 / 121) / 2)
    costs = [fmean(model.cost_usd.values()) for model in MODELS.values()]
    assert max(costs) / min(costs) > 50


def test_step_by_step_helps_and_lengthens_most_where_a_model_does_not_reason_by_itself() -> None:
    gains, lengths = {}, {}
    for model in ("sim-gpt-5", "sim-deepseek-v3", "sim-claude-v4"):
        gains[model] = right(model, COT).mean() - right(model).mean()
        tokens = [fmean(ask(model, item, system).output_tokens for item in ITEMS) for system in (PLAIN, COT)]
        lengths[model] = tokens[1] / tokens[0]
    assert 0 < gains["sim-gpt-5"] < 0.04 < gains["sim-deepseek-v3"]
    assert lengths["sim-gpt-5"] == pytest.approx(1.1, abs=0.05)
    assert lengths["sim-claude-v4"] == pytest.approx(1.7, abs=0.1)


def test_harder_levels_are_harder() -> None:
    correct = right("sim-kimi-k2")
    by_level = [correct[[item.difficulty == level / 4 for item in ITEMS]].mean() for level in range(5)]
    assert all(easier > harder for easier, harder in pairwise(by_level))
    assert by_level[0] > 0.85 > 0.5 > by_level[4]


def test_errors_are_shared_between_models_and_more_so_between_samples_of_one() -> None:
    same_level = [i for i, item in enumerate(ITEMS) if item.difficulty == 0.75 and item.domain == "logic"]
    one, other, again = (
        x[same_level] for x in (right("sim-kimi-k2"), right("sim-glm-4.6"), right("sim-kimi-k2", sample=1))
    )
    between, within = np.corrcoef(one, other)[0, 1], np.corrcoef(one, again)[0, 1]
    assert 0.15 < between < within < 0.75


def test_two_wrong_answers_agree_often_but_not_always() -> None:
    pairs = [(given(ask("sim-claude-v4", item)), given(ask("sim-kimi-k2", item))) for item in ITEMS]
    both_wrong = [a == b for a, b in pairs if "right" not in (a, b)]
    assert 0.25 < fmean(both_wrong) < 0.55


def test_what_an_answer_shows_is_weak_evidence() -> None:
    """Hedging, length and log-probability together tell right from wrong with an AUC of .6 to .75 within a domain."""
    answers = [ask("sim-kimi-k2", item) for item in ITEMS if item.domain == "logic"]
    hedged = [float("not " in a.text or "probably" in a.text or "might" in a.text) for a in answers]
    shown = np.array([[h, len(a.text), fmean(a.logprobs)] for h, a in zip(hedged, answers, strict=True)])
    shown = (shown - shown.mean(axis=0)) / shown.std(axis=0)
    correct = np.array([given(answer) == "right" for answer in answers])
    half = len(answers) // 2
    fitted = LogisticRegression().fit(shown[:half], correct[:half])
    assert 0.6 < roc_auc_score(correct[half:], fitted.decision_function(shown[half:])) < 0.75


def test_texts_are_short_and_reasoning_is_billed_where_a_model_reasons() -> None:
    for item in ITEMS[:200]:
        answer, quick = ask("sim-gpt-5", item, COT), ask("sim-kimi-k2", item)
        assert len(answer.text) < 80 * 5
        assert 0 < answer.reasoning_tokens < answer.output_tokens
        assert quick.reasoning_tokens == 0


def test_an_answer_over_the_limit_is_cut_before_its_answer_line() -> None:
    answer = ask("sim-gpt-5", ITEMS[0], limit=16)
    assert (answer.finish_reason, answer.output_tokens) == ("length", 16)
    assert "Answer:" not in answer.text


def query(reference: str, question: str = "How many?", grader: str = "exact", **metadata: object) -> Query:
    return Query(
        "d/q", "d", "logic", [{"role": "user", "content": question}], question, reference, grader, "test", metadata
    )


@pytest.mark.parametrize(
    ("asked", "looks"),
    [
        (query("42", grader="numeric"), r"\d+"),
        (query("-7", grader="numeric"), r"-?\d+"),
        (query("no", options=["yes", "no"]), "yes"),
        (query("Anna", "Anna met Bert. Bert met Carl.\nWho met Bert?"), "Bert|Carl"),
        (query("abab", "Rewrite the string abba."), r"\w+"),
    ],
)
def test_wrong_answers_look_like_the_reference_and_score_nothing(asked: Query, looks: str) -> None:
    item = make_item(asked)
    assert len(set(item.wrong)) == len(item.wrong) >= 1
    for wrong in item.wrong:
        assert re.fullmatch(looks, wrong)
        assert grade(GRADERS[asked.grader], f"Answer: {wrong}", asked).score == 0.0


def test_a_query_that_cannot_be_simulated_is_refused() -> None:
    with pytest.raises(LabError, match="a reference that its grader accepts"):
        make_item(query("three", grader="numeric"))
    with pytest.raises(LabError, match="no plausible wrong answer"):
        make_item(query("yes", options=["yes"]))


def test_the_server_speaks_openai_on_loopback_and_knows_only_its_own_queries() -> None:
    messages = [{"role": "system", "content": COT}, {"role": "user", "content": "2 + 2?"}]
    server = SimulatedServer(WORLD, MODELS, {message_key(messages): ITEMS[0]})
    assert HOST == "127.0.0.1"
    request = {"model": "sim-gpt-5", "messages": messages, "max_tokens": 1 << 16, "logprobs": True, "seed": 1}
    reply = server.complete(request)
    assert reply.status == 200
    assert isinstance(reply.body, bytes)
    body = json.loads(reply.body)
    answer = WORLD.answer(MODELS["sim-gpt-5"], ITEMS[0], COT, "2 + 2?", 1, 1 << 16)
    assert body["choices"][0]["message"]["content"] == answer.text
    assert body["usage"]["completion_tokens"] == answer.output_tokens
    assert fmean(t["logprob"] for t in body["choices"][0]["logprobs"]["content"]) == pytest.approx(
        fmean(answer.logprobs)
    )
    assert body["simulated"] == {"latency_s": answer.latency_s}
    assert "logprobs" not in json.loads(server.complete(request | {"logprobs": False}).body)["choices"][0]  # type: ignore[arg-type]
    assert server.complete(request | {"model": "gpt-5"}).status == 404
    assert server.complete(request | {"messages": [{"role": "user", "content": "3 + 3?"}]}).status == 400
