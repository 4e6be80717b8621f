"""Demonstrations: each behaviour is shown, and each is best within itself."""

import doctest
from dataclasses import replace

import numpy as np
import pytest

from responses_db import LabError
from tests.xrouter_sim.llm.worlds import REPLAY, TRAIN, UNIT, brief, row
from xrouter_sim.engine.semantics import Final
from xrouter_sim.llm import grpo, teacher
from xrouter_sim.llm.teacher import BEHAVIOURS, Chances, Shares, Teacher
from xrouter_sim.llm.traces import demonstrate
from xrouter_sim.reward import reward

KNOWING = Chances.of(REPLAY, TRAIN, 1.0)


def shown(
    behaviour: str, query: int = 0, penalty: float = 0.5, chances: Chances = KNOWING, noise: float = 0.0, replay=REPLAY
):
    env = brief(replay=replay, longest=100)
    teacher = Teacher(chances, noise, 0, {query: "Answer: 0"})
    shares = Shares(**{name: float(name == behaviour) for name in BEHAVIOURS})
    [trace] = demonstrate(teacher, [env], [row(query, penalty=penalty)], shares)
    return env, trace


@pytest.mark.parametrize("module", [teacher, grpo], ids=lambda module: module.__name__)
def test_examples(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("penalty", [0.0, 0.5, 4.0])
def test_single_calls_the_arm_with_the_best_expected_reward(penalty):
    for query in TRAIN[:10]:
        env, _ = shown("single", int(query), penalty)
        worth = reward(KNOWING.right[query], KNOWING.usd[query], penalty, UNIT)
        [(called, final)] = env.steps[:1]
        assert final == Final.ADOPT
        assert worth[called[0]] == pytest.approx(worth.max())


def test_parallel_lets_three_vote_and_reads_two():
    usd = np.full_like(KNOWING.usd, 0.00001)
    three, two = np.full_like(usd, 0.7), np.tile([0.9, 0.89, 0.02], (len(usd), 1))
    env, trace = shown("parallel", chances=Chances(three, usd, three))
    assert [(len(calls), final) for calls, final in env.steps] == [(3, Final.VOTE)]
    assert trace["behaviour"] == "parallel"
    env, trace = shown("parallel", chances=Chances(two, usd, two))
    assert (len(env.steps[0][0]), env.steps[0][1]) == (2, Final.CONTINUE)
    assert env.steps[1][0] == ()


def test_escalate_goes_on_where_no_answer_can_be_read_and_takes_one_that_can():
    usd = np.tile([0.00001, 0.001, 0.001], (len(KNOWING.usd), 1))  # at λ = 0.5: 0.0025, 0.25 and 0.25 of the reward
    right, if_read = np.tile([0.62, 0.9, 0.9], (len(usd), 1)), np.tile([0.95, 0.9, 0.9], (len(usd), 1))
    answer = REPLAY.answer.copy()
    answer[1::2, 0] = -1
    silent = replace(REPLAY, answer=answer, memo={})
    for query in TRAIN[:6]:
        env, _ = shown("escalate", int(query), chances=Chances(right, usd, if_read), replay=silent)
        calls = [called for called, _ in env.steps if called]
        assert calls[0] == (0,)
        assert len(calls) == 1 + query % 2


def test_an_answer_that_can_be_read_is_trusted_more_where_failures_show():
    usd = np.tile([0.00001, 0.001, 0.001], (len(KNOWING.usd), 1))
    right, if_read = np.tile([0.5, 0.9, 0.9], (len(usd), 1)), np.tile([0.95, 0.95, 0.95], (len(usd), 1))
    env, _ = shown("escalate", chances=Chances(right, usd, if_read))
    assert env.steps == [((0,), Final.CONTINUE), ((), 0)]


def test_a_behaviour_is_shown_where_it_pays():
    usd = np.tile([0.00001, 0.0002, 0.0002], (len(KNOWING.usd), 1))
    silent = Chances(np.tile([0.5, 0.9, 0.1], (len(usd), 1)), usd, np.tile([0.99, 0.9, 0.1], (len(usd), 1)))
    alike = Chances(np.tile([0.1, 0.7, 0.7], (len(usd), 1)), usd, np.tile([0.1, 0.7, 0.7], (len(usd), 1)))
    alike.right[:, 0] = alike.right_if_read[:, 0] = 0.7
    for chances, best in ((silent, "escalate"), (alike, "parallel")):
        env = brief()
        env.reset(**row(penalty=0.5))
        shown = {Teacher(chances, 0.0, seed, margin=0.0).behaviour(env, Shares()) for seed in range(8)}
        assert shown == {best}
        assert len({Teacher(chances, 0.0, seed).behaviour(env, Shares()) for seed in range(16)}) == 3


def test_arms_that_err_alike_are_worth_no_more_together():
    answer, score = REPLAY.answer.copy(), REPLAY.score.copy()
    answer[:], score[:] = answer[:, :1], score[:, :1]  # all arms say what the first one says
    copies = Chances.of(replace(REPLAY, answer=answer, score=score, memo={}), TRAIN, 0.0)
    alone = replace(copies, together=None)
    for query in TRAIN[:6]:
        assert copies.of_set(int(query), (0, 1, 2)) == pytest.approx(copies.right[query, 0], abs=0.01)
        assert alone.of_set(int(query), (0, 1, 2)) > copies.right[query, 0] + 0.02


def test_direct_says_the_reference_and_no_tool():
    env, trace = shown("direct")
    assert trace["messages"][-1] == {"role": "assistant", "content": "Answer: 0"}
    assert env.steps == [((), Final.DIRECT)]


def test_noise_asks_others_and_the_same_seed_asks_the_same():
    steps = [[shown("single", int(query), noise=1.0)[0].steps for query in TRAIN[:8]] for _ in range(2)]
    assert steps[0] == steps[1]
    assert steps[0] != [shown("single", int(query))[0].steps for query in TRAIN[:8]]


def test_knowledge_mixes_a_querys_own_answers_with_its_domains_rates():
    blurred = Chances.of(REPLAY, TRAIN, 0.0).right[TRAIN]
    for domain in np.unique(REPLAY.domains[TRAIN]):
        assert np.ptp(blurred[REPLAY.domains[TRAIN] == domain], axis=0).max() == 0
    assert np.allclose(KNOWING.right[TRAIN], np.clip(REPLAY.mean_score[TRAIN], 0.01, 0.99))


def test_shares_must_leave_something_to_show():
    with pytest.raises(LabError, match="not all 0"):
        Shares(0.0, 0.0, 0.0, 0.0)
