"""The brief face: the same episodes in few tokens."""

from dataclasses import replace

import pytest

from tests.xrouter_sim.llm.worlds import REPLAY, TRAIN, brief, row, simulator
from xrouter_sim.engine.semantics import Final
from xrouter_sim.envs.actions import as_tool_call
from xrouter_sim.envs.brief import BriefRoutingEnv
from xrouter_sim.envs.tools import ToolRoutingEnv
from xrouter_sim.llm.conversation import Conversation, carry_out


def test_a_pool_is_a_line_a_model_with_what_a_call_takes_off_the_reward():
    env = brief()
    lines = env.reset(**row()).strip().split("\n")
    assert lines[0] == "λ 0.5, 6 turns, 6 calls"
    usd = REPLAY.mean_cost[TRAIN].mean(axis=0)
    assert lines[1:] == [f"{name} {100 * 0.5 * cost / 0.002:.2g}" for name, cost in zip("abc", usd, strict=True)]


def test_what_is_called_is_told_with_its_bill_and_who_agrees():
    env = brief()
    env.reset(**row())
    told = env.call("a b")
    first, second, spent = told.split("\n\n")
    assert first.startswith("1 a ")
    assert first.endswith("new")
    assert second.startswith("2 b ")
    assert second.split("\n")[-1] in ("new", "same as 1")
    assert spent.startswith("spent ")
    assert spent.endswith("5 turns, 4 calls")
    assert env.steps == [((0, 1), Final.CONTINUE)]


@pytest.mark.parametrize(
    ("tool", "what", "step"),
    [
        ("call", "a", ((0,), Final.CONTINUE)),
        ("use", "b", ((1,), Final.ADOPT)),
        ("poll", "a b c", ((0, 1, 2), Final.VOTE)),
        ("vote", "", ((), Final.VOTE)),
        ("take", "1", ((), 0)),
    ],
)
def test_tools_are_the_engines_actions_and_back(tool, what, step):
    env = brief()
    env.reset(**row())
    if tool in ("vote", "take"):
        env.call("a")
    getattr(env, tool)(what)
    assert env.steps[-1] == step
    assert as_tool_call(env, *step) == (tool, {"what": what} if what else {})


def test_letters_stand_for_models_the_same_in_every_episode():
    replay = replace(REPLAY, model_ids=["one-long-name", "another-long-name", "third-long-name"], memo={})
    for profile in ("calm", "stormy"):
        env = brief(profile, replay, letters=True)
        for key in range(4):
            offered = env.reset(**row(key=key)).strip().split("\n")[1:]
            assert {line.split()[0] for line in offered} <= {"a", "b", "c"}
        last = offered[-1].split()[0]
        assert env.call(last).startswith(f"1 {last} ")
        assert env.steps == [((ord(last) - ord("a"),), Final.CONTINUE)]
        assert as_tool_call(env, *env.steps[0]) == ("call", {"what": last})


def test_the_explained_face_says_the_same_actions():
    env = ToolRoutingEnv(simulator(), TRAIN, texts=brief().texts)
    env.reset(**row())
    for calls, final in [((0,), Final.CONTINUE), ((1, 2), Final.CONTINUE), ((), 1)]:
        name, arguments = as_tool_call(env, calls, final)
        carry_out(env, name, arguments)
        assert env.steps[-1] == (calls, final)


def test_actions_that_no_tool_stands_for_are_refused():
    with pytest.raises(ValueError, match="no tool call"):
        as_tool_call(brief(), (), Final.NONE)


def test_mistakes_are_no_turns_and_too_many_end_the_episode():
    env = brief(most_mistakes=3)
    env.reset(**row())
    assert "no model 'zebra'" in env.call("zebra")
    assert "no response yet" in env.take("1")
    assert env.steps == []
    assert env.mistakes == 2
    assert "There is no tool 'fly'" in carry_out(env, "fly", {"to": "a"})
    assert env.get_reward() == 0.0
    assert env.steps == [((), Final.NONE)]


def test_what_a_policys_own_tokens_cost_is_on_the_bill():
    env = brief()
    right = next(query for query in TRAIN if REPLAY.score[query, 0].min() == 1)
    env.reset(**row(int(right), penalty=1.0))
    env.use("a")
    before = env.get_reward()
    assert before > 0
    env._charge(0.0002)
    assert env.get_reward() == pytest.approx(before - 0.1)


def test_a_conversation_ends_with_plain_text_as_an_answer():
    env = brief()
    talk = Conversation.begin(env, row())
    assert talk.messages[-1]["content"].startswith(REPLAY.questions[0])
    talk.says("", [("call", {"what": "a"})])
    assert [message["role"] for message in talk.messages] == ["system", "user", "assistant", "tool"]
    talk.says("Answer: 0", [])
    assert talk.over
    assert env.steps[-1] == ((), Final.DIRECT)


def test_a_long_question_is_cut_in_the_middle():
    env = brief(longest_question=10)
    assert "characters left out" in env.reset(query_id=REPLAY.query_ids[0])
    assert isinstance(env, BriefRoutingEnv)
