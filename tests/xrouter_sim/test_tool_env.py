"""The tool-calling face: it plays the engine's episodes, tells them in words, and plugs into TRL."""

import doctest
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from responses_db import LabError, ResponseStore
from tests.xrouter_sim.faces import CodeTexts, assert_same, played, through_tools, trace_of
from tests.xrouter_sim.tiny import tiny_replay
from xrouter_sim.engine.arrays import TorchArrays
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.semantics import Final
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.envs import brief_text, pool_text
from xrouter_sim.envs.episode_text import MISTAKES
from xrouter_sim.envs.pool_text import INSTRUCTIONS, OVER
from xrouter_sim.envs.texts import StoreTexts
from xrouter_sim.envs.tools import ToolRoutingEnv, answer_with_last_message, dataset
from xrouter_sim.envs.vector import VectorRoutingEnv
from xrouter_sim.replay import Replay, cost_unit
from xrouter_sim.reward import reward

REPLAY = tiny_replay(queries=60, samples=2)
STYLED = replace(REPLAY, model_ids=["a"], prompt_styles=["code", "cot", "plain"])
TRAIN = REPLAY.indices("train")
LAMBDAS = (0.0, 0.5, 2.0)
NEUTRAL = {"pools": {"shuffle": True, "aliases": True, "drop": 0.3}}


def world(profile: Profile | str = "calm", replay: Replay = REPLAY) -> Simulator:
    profile = Profile.load(profile) if isinstance(profile, str) else profile
    return Simulator(replay, profile, 3, 0.002, vote_weights=[1.0, 2.0, 4.5])


def env(profile: Profile | str = "calm", replay: Replay = REPLAY, **options) -> ToolRoutingEnv:
    options = {"penalties": LAMBDAS, "texts": CodeTexts(replay)} | options
    return ToolRoutingEnv(world(profile, replay), TRAIN, **options)


# --- the engine's episodes --------------------------------------------------------------------------------------------

ACTIONS = st.lists(
    st.tuples(st.lists(st.integers(-1, 2), max_size=3), st.sampled_from([-1, -1, -1, *range(-6, 4)])), max_size=7
)
WORLDS = {
    "calm": (Profile(), REPLAY),
    "stormy": (Profile.load("stormy"), REPLAY),
    "neutral": (Profile.from_tables("neutral", NEUTRAL), REPLAY),
    "styles": (Profile.load("stormy"), STYLED),
}


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(sorted(WORLDS)),
    actions=ACTIONS,
    key=st.integers(0, 2**40),
    query=st.sampled_from(REPLAY.query_ids),
    budget=st.sampled_from([None, 0.0005, 0.003]),
    deadline=st.sampled_from([None, 3.0, 30.0]),
)
def test_it_plays_what_the_engine_plays(name, actions, key, query, budget, deadline):
    profile, replayed = WORLDS[name]
    face = env(profile, replayed, budget_usd=budget, deadline_s=deadline)
    face.reset(query_id=query, key=key, penalty=0.5)
    taken = []
    for calls, final in actions:
        turns = len(face.steps)
        through_tools(face, calls, final)
        if len(face.steps) > turns:
            taken.append((tuple(arm for arm in calls if arm >= 0), final))
    assert face.steps == taken
    answered = bool(taken) and taken[-1][1] == Final.DIRECT
    place = REPLAY.query_ids.index(query)
    engine = trace_of(played(face.simulator, place, key, 0.5, taken, budget=budget, deadline=deadline))
    assert_same(trace_of(face.episodes), engine, but=("score", "reward") if answered else ())
    if answered:
        score = face.texts.grade(place, "Answer: 0")
        assert face.episodes.score[0] == score
        assert face.get_reward() == reward(score, engine["cost"][0], 0.5, 0.002)


@given(key=st.integers(0, 500), arms=st.lists(st.integers(0, 2), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_nothing_that_is_told_depends_on_a_score(key, arms):
    def transcript(replay: Replay) -> list[str | None]:
        face = env("stormy", replay)
        told = [face.reset(key=key), through_tools(face, arms, Final.CONTINUE)]
        return [*told, *(face.call_model("a") for _ in range(2)), face.select_response(1), face.majority_vote()]

    assert transcript(REPLAY) == transcript(replace(REPLAY, score=1.0 - REPLAY.score))


def test_episodes_that_it_draws_itself_are_those_of_the_vector_environment():
    many = VectorRoutingEnv(world("stormy"), TRAIN, 5, penalties=LAMBDAS, observes=False)
    many.reset()
    face = env("stormy")
    for number in range(5):
        face.reset()
        drawn = face.episodes
        expected = many.episodes
        assert drawn.key[0] == number
        assert (drawn.query[0], drawn.penalty[0]) == (expected.query[number], expected.penalty[number])
        assert drawn.world[0] == expected.world[number]


def test_an_episode_that_nobody_ends_has_no_answer():
    face = env()
    face.call_model("c")
    assert face.get_reward() == 0.0
    assert face.steps == [((2,), Final.CONTINUE), ((), Final.NONE)]
    assert face.episodes.done[0]
    assert face.get_reward() == 0.0
    assert len(face.steps) == 2


def test_turns_run_out():
    face = env()
    last = [face.call_model("a") for _ in range(6)][-1]
    assert "Your turns are used up, and there is no final answer. The episode is over." in last
    assert face.call_model("a") == OVER


# --- words ------------------------------------------------------------------------------------------------------------


def test_a_pool_is_told_with_prices_what_an_answer_is_worth_and_limits():
    told = env(budget_usd=0.01, deadline_s=30).reset(query_id="tiny/001", key=0, penalty=0.5)
    assert told == (
        "an hard question about number 1\n\n"
        "Models on offer, at today's prices:\n"
        "- a: about $0.0001 a call\n"
        "- b: about $0.0004 a call\n"
        "- c: about $0.002 a call\n"
        "A right answer is worth $0.004 less what you have spent, and never below nothing; "
        "a wrong one is worth nothing.\n"
        "You have 6 turns, 6 calls, a budget of $0.01 and 30.0 seconds."
    )


def test_a_turn_is_told_with_texts_bills_agreement_and_what_is_left():
    face = env()
    face.reset(query_id="tiny/001", key=0, penalty=0.0)
    face.texts.response = lambda *_: "x" * 2000
    answer = REPLAY.answer[1].copy()
    REPLAY.answer[1] = [[1, 1], [1, 1], [2, 2]]
    try:
        told = face.call_models(["a", "b", "c"])
    finally:
        REPLAY.answer[1] = answer
    text = f"{'x' * 750}\n[… 500 characters left out …]\n{'x' * 750}"
    assert told == (
        f"Response 1 from a. 100 tokens, $0.0001, 2.0 seconds.\n{text}\n"
        "No earlier response gives the same answer.\n\n"
        f"Response 2 from b. 100 tokens, $0.0004, 2.0 seconds.\n{text}\n"
        "Its answer is the same as that of response 1.\n\n"
        f"Response 3 from c. 100 tokens, $0.002, 2.0 seconds.\n{text}\n"
        "No earlier response gives the same answer.\n\n"
        "Spent so far: $0.0025, 2.0 seconds. You have 5 turns and 3 calls left."
    )
    assert face.majority_vote() == "Response 1 is the final answer. The episode is over."


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("timeout", "Response 1: The call of a timed out after 3 attempts. $0.0003, 18"),
        (
            "rate_limited",
            "Response 1: The call of a was turned away by the provider's rate limit after 3 attempts. $0, ",
        ),
        ("truncated", "Response 1: The call of a was cut off at its token limit. $0.0001, 2.0 seconds."),
        ("refused", "Response 1: The call of a was refused by the model. $0.00002, 2.0 seconds."),
    ],
)
def test_failures_are_told_in_words_and_without_a_text(kind, words):
    face = env(Profile.from_tables("broken", {"failures": {kind: 1.0}}))
    told = face.call_model("a", then="select_last")
    assert told.startswith(words)
    assert "Answer:" not in told
    assert "The last response is not usable, so it is not the final answer." in told


def test_models_go_by_neutral_names_when_the_profile_says_so():
    face = env(Profile.from_tables("neutral", {"prices": {"sigma": 0.5}, "pools": {"shuffle": True, "aliases": True}}))
    called = set()
    for _ in range(20):
        told = face.reset()
        lines = [line for line in told.splitlines() if line.startswith("- ")]
        assert [line.split(":")[0] for line in lines] == ["- model-a", "- model-b", "- model-c"]
        face.call_model("model-a")
        called.add(face.steps[0][0])
        assert "There is no model 'a'." in face.call_model("a")
    assert called == {(0,), (1,), (2,)}


def test_a_model_that_is_away_is_no_offer_but_may_be_called_for_nothing():
    face = env(Profile.from_tables("away", {"pools": {"held_out": ["b"]}}))
    assert "- b" not in face.reset()
    assert "There is no model 'giant'. On offer are a, c." in face.call_model("giant")
    assert "The call of b was not sent: this model is not on offer in this episode. $0, 0.0" in face.call_model("b")


def test_the_last_turn_is_announced_and_calls_beyond_the_limit_are_named():
    face = env(Profile.from_tables("short", {"client": {"max_turns": 2, "max_calls": 2}}))
    told = face.call_models(["a", "b", "c", "c"])
    assert "Not called, since you have made all calls of an episode: c." in told
    assert told.endswith("You have 1 turn and 0 calls left. This is your last turn: it must end the episode.")


def test_prompt_styles_are_priced_and_chosen():
    face = env("calm", STYLED)
    told = face.reset(key=0)
    assert "- a: a call costs about $0.0001 (code), $0.0004 (cot), $0.002 (plain)\n" in told
    assert "Prompt styles: code, cot, plain." in told
    assert "Response 1 from a (cot)." in face.call_model("a", "cot")
    face.call_models(["a", "a"], ["plain", "code"])
    face.call_models(["a", "a"], "plain")
    assert [calls for calls, _ in face.steps] == [(1,), (2, 0), (2, 2)]


# --- what a language model gets wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "arguments", "hint"),
    [
        ("call_model", {"model": "gpt-9"}, "There is no model 'gpt-9'. On offer are a, b, c."),
        ("call_model", {"model": None}, "There is no model 'None'."),
        ("call_model", {"model": "a", "prompt_style": "loud"}, "There is no prompt style 'loud'. There is plain."),
        ("call_model", {"model": "a", "then": "win"}, "`then` is one of continue, select_last, "),
        ("call_model", {"model": "a", "then": ["vote"]}, "`then` is one of"),
        ("call_models", {"models": []}, "Name at least one model."),
        ("call_models", {"models": 7}, "There is no model '7'."),
        ("call_models", {"models": ["a", "b", "c"], "prompt_styles": ["plain", "plain"]}, "3 models but 2 prompt"),
        ("select_response", {"number": 0}, "There is no response 0: the responses are numbered 1 to 1."),
        ("select_response", {"number": 2}, "There is no response 2:"),
        ("select_response", {"number": "the first"}, "There is no response 'the first':"),
        ("select_response", {"number": float("inf")}, "There is no response inf:"),
        ("select_response", {"number": 1.5}, "There is no response 1.5:"),
        ("answer", {"text": " "}, "The answer is empty"),
        ("answer", {"text": 42}, "The answer is empty"),
    ],
)
def test_a_call_that_means_nothing_is_refused_with_a_hint_and_is_no_turn(tool, arguments, hint):
    face = env()
    face.call_model("a")
    before = trace_of(face.episodes)
    told = getattr(face, tool)(**arguments)
    assert told.startswith("Nothing was done, and nothing is billed. ")
    assert hint in told
    assert_same(trace_of(face.episodes), before)
    assert len(face.steps) == 1


def test_a_response_cannot_be_selected_before_there_is_one():
    assert "There is no response yet: call a model first." in env().select_response(1)


def test_too_many_mistakes_end_the_episode():
    face = env()
    told = [face.call_model("nobody") for _ in range(MISTAKES)][-1]
    assert told.endswith("That was mistake number 10. There is no final answer. The episode is over.")
    assert face.get_reward() == 0.0


def test_a_number_may_come_as_text_and_a_model_without_a_list():
    face = env()
    face.call_models("a")
    assert face.select_response("1") == "Response 1 is the final answer. The episode is over."


@pytest.mark.parametrize(
    ("options", "cure"),
    [({"xp": TorchArrays()}, "leave out `xp`"), ({"direct_arm": 1}, "make the simulator without direct_arm")],
)
def test_a_simulator_that_does_not_fit_is_refused(options, cure):
    with pytest.raises(LabError, match=cure):
        ToolRoutingEnv(Simulator(REPLAY, Profile(), 3, 0.002, **options), TRAIN, texts=CodeTexts(REPLAY))


# --- answers in the policy's own words --------------------------------------------------------------------------------


def test_an_answer_is_graded_by_the_querys_grader_and_costs_nothing():
    face = env()
    face.reset(query_id="tiny/000", key=0, penalty=1.0)
    assert face.answer("Answer: 0") == "Your answer is the final answer. The episode is over."
    assert face.get_reward() == 1.0
    face.reset(query_id="tiny/000", key=0, penalty=1.0)
    face.call_model("b")
    face.answer("Answer: 0")
    assert face.get_reward() == pytest.approx(0.8)
    face.reset(query_id="tiny/000", key=0, penalty=1.0)
    face.answer("Answer: 9")
    assert face.get_reward() == 0.0


def test_a_grader_that_fails_gives_no_score_at_all():
    face = env()
    face.reset(query_id="tiny/000")
    assert "Your answer is the final answer." in face.answer("no number")
    with pytest.raises(LabError, match="tiny/000: the answer 'no number' could not be graded: invalid literal"):
        face.get_reward()
    face.reset()
    assert face.get_reward() == 0.0


def test_where_no_grader_can_tell_an_answer_is_refused():
    texts = CodeTexts(REPLAY)
    texts.can_grade = lambda query: False
    face = env(texts=texts)
    assert "An answer in your own words cannot be graded here" in face.reset()
    assert "cannot be graded here: select a response, or vote." in face.answer("Answer: 0")
    assert face.steps == []


def test_a_plain_last_message_counts_as_the_answer():
    faces = [env() for _ in range(4)]
    for face in faces:
        face.reset(query_id="tiny/000", key=0, penalty=0.0)
    faces[1].call_model("a", then="select_last")
    call = {"type": "function", "function": {"name": "call_model", "arguments": {"model": "a"}}}
    completions = [
        [{"role": "assistant", "content": "Answer: 0"}],
        [{"role": "assistant", "tool_calls": [call]}, {"role": "tool"}, {"role": "assistant", "content": "Answer: 9"}],
        [{"role": "assistant", "content": "", "tool_calls": [call]}],
        [{"role": "assistant", "content": ""}],
    ]
    selected = faces[1].get_reward()
    assert answer_with_last_message(completions=completions, environments=faces, key=[0] * 4) == [0.0] * 4
    assert [face.get_reward() for face in faces] == [1.0, selected, 0.0, 0.0]


# --- texts of a store -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graded_store(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny store with a grader for new answers, a price card, and a response that was cut."""
    path = tmp_path_factory.mktemp("graded") / "tiny.duckdb"
    shutil.copy(tiny_store, path)
    card = {"model_id": "giant", "valid_from": date(2026, 1, 1), "source": "made up"}
    with ResponseStore(path, write=True) as store:
        store.con.execute("UPDATE queries SET grader = 'choice' WHERE query_id <> 'tiny/q01'")
        store.con.execute(
            "UPDATE scores SET grader = 'choice' FROM responses r WHERE r.response_id = "
            "scores.response_id AND r.query_id <> 'tiny/q01'"
        )
        store.con.execute(
            "UPDATE responses SET text = 'The answer is', status = 'truncated' "
            "WHERE query_id = 'tiny/q00' AND model_id = 'small'"
        )
        store.append("price_cards", pl.DataFrame([card | {"input_usd_per_mtok": 10.0, "output_usd_per_mtok": 30.0}]))
    return path


def test_texts_questions_cards_and_graders_come_from_the_store(graded_store):
    replay = Replay.load(graded_store)
    simulator = Simulator(replay, Profile(), 0, cost_unit(replay, replay.indices("train")))
    face = ToolRoutingEnv(simulator, replay.indices("train"), penalties=(0.0,))
    told = face.reset(query_id="tiny/q00", key=4)
    assert told.startswith("Question 0 about sums?\nA) one\nB) two\nC) three\nD) four\n\nModels on offer")
    assert "- giant: $10.00 in and $30.00 out per million tokens, about $0.0" in told
    assert "- small: about $0.00" in told
    with ResponseStore(graded_store) as store:
        said, right = store.frame(
            "SELECT text, reference FROM responses JOIN queries USING (query_id) "
            "WHERE query_id = 'tiny/q00' AND model_id = 'giant'"
        ).row(0)
    assert "Response 1 from giant. 42 tokens, $0.02" in face.call_model("giant")
    assert said in face.call_model("giant")
    cut = face.call_model("small")
    assert "Response 3: The call of small was cut off at its token limit." in cut
    assert "\nThe answer is\n" in cut
    face.answer(f"I take ({right}).\nAnswer: {right}")
    assert face.get_reward() == 1.0


def test_a_query_whose_scores_came_with_the_data_takes_no_answer(graded_store):
    texts = StoreTexts(Replay.load(graded_store))
    assert texts.can_grade(0)
    assert not texts.can_grade(1)
    with pytest.raises(LabError, match="tiny/q01: no grader 'imported' for new answers"):
        texts.grade(1, "A")


def test_a_text_that_the_store_lacks_is_said_to_be_unknown():
    texts = CodeTexts(REPLAY)
    texts.response = lambda *_: None
    assert "(its text is not known)" in env(texts=texts).call_model("a")


# --- TRL --------------------------------------------------------------------------------------------------------------


def test_rows_for_a_trainer_bring_back_the_same_episode_every_time():
    simulator, texts = world("stormy"), CodeTexts(REPLAY)
    rows = dataset(ToolRoutingEnv, simulator, texts, "train", 8, seed=5, penalties=LAMBDAS)
    many = VectorRoutingEnv(simulator, TRAIN, 8, penalties=LAMBDAS, observes=False)
    many.reset(seed=5)
    faces = [env("stormy"), env("stormy")]
    for number, row in enumerate(rows):
        told = [face.reset(**row, trainer_column="whatever") for face in faces]
        assert told[0] == told[1]
        assert told[0].startswith("\n\nModels on offer")
        assert faces[0].call_model("a") == faces[1].call_models(["a"])
        assert [message["role"] for message in row["prompt"]] == ["system", "user"]
        assert row["prompt"][0]["content"] == INSTRUCTIONS
        for name in ("query", "key", "penalty", "world", "period"):
            assert getattr(faces[0].episodes, name)[0] == getattr(many.episodes, name)[number]
    assert rows != dataset(ToolRoutingEnv, simulator, texts, "train", 8, seed=6, penalties=LAMBDAS)


def test_a_query_that_the_replay_lacks_is_refused():
    with pytest.raises(LabError, match="no query 'tiny/999' in tiny"):
        env().reset(query_id="tiny/999")


def test_the_words_are_as_the_docstrings_say():
    assert doctest.testmod(pool_text).failed == 0
    assert doctest.testmod(brief_text).failed == 0


def test_it_needs_no_language_model_stack():
    code = "import sys, xrouter_sim.envs.tools; print(sorted({'trl', 'transformers', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
