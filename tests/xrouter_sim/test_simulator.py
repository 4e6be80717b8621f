"""The engine's semantics: what a call costs, returns and takes, and how an episode ends."""

import dataclasses

import numpy as np
import pytest

from tests.xrouter_sim.tiny import tiny_replay
from tests.xrouter_sim.turns import UNIT, act, begin, failing, simulator
from xrouter_sim.engine.episodes import ATTEMPTS, CACHED, SAMPLE, TURN
from xrouter_sim.engine.profile import Client, Failures, Profile
from xrouter_sim.engine.semantics import NO_CALL, Final, Outcome
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.reward import reward


def test_a_call_and_a_selection():
    world = simulator()
    episodes = begin(world)
    world.step(episodes, act([2], 8))
    assert not episodes.done.any()
    world.step(episodes, act([NO_CALL], 8, 0))
    assert episodes.done.all()
    drawn = world.first_sample(np.arange(8), np.arange(8), np.full(8, 2))
    assert np.array_equal(episodes.score, world.replay.score[np.arange(8), 2, drawn])
    assert np.allclose(episodes.cost, 0.002)
    assert np.allclose(episodes.reward, episodes.score * (1 - 1.0 * 0.002 / UNIT))
    assert np.allclose(episodes.time, 2.0)


def test_parallel_calls_take_as_long_as_the_slowest_and_cost_their_sum():
    world = simulator()
    episodes = begin(world)
    world.step(episodes, act([0, 1, 2], 8))
    assert np.allclose(episodes.time, 2.0)
    assert np.allclose(episodes.cost, 0.0025)
    assert (episodes.slot(TURN)[:, :3] == 0).all()


def test_calling_again_draws_the_next_sample_and_then_comes_from_the_cache():
    world = simulator(samples=2)
    episodes = begin(world)
    for _ in range(3):
        world.step(episodes, act([0], 8))
    sample = episodes.slot(SAMPLE)
    assert (sample[:, 0] != sample[:, 1]).all()
    assert np.array_equal(sample[:, 0], sample[:, 2])
    assert (episodes.slot(CACHED)[:, :3] == [0, 0, 1]).all()
    assert np.allclose(episodes.cost, 2 * 0.0001)
    assert np.allclose(episodes.time, 2 * 2.0)


def test_a_failed_call_is_no_answer_in_the_cache():
    world = simulator(failing(attempts=1, server_error=0.5), queries=400, samples=1)
    episodes = begin(world, 400)
    for _ in range(2):
        world.step(episodes, act([0], 400))
    first, second = (episodes.outcome[:, i] for i in (0, 1))
    again = first == Outcome.SERVER_ERROR
    assert (episodes.slot(CACHED)[:, 1] == ~again).all()
    assert 0.3 < (second[again] == Outcome.OK).mean() < 0.7, "the second call meets luck of its own"
    assert np.allclose(episodes.cost[again & (second == Outcome.OK)], 0.0001)


def test_a_response_that_was_damaged_on_the_way_must_be_asked_and_paid_again():
    world = simulator(failing(attempts=1, truncated=0.5), queries=400, samples=1)
    episodes = begin(world, 400)
    for _ in range(2):
        world.step(episodes, act([0], 400))
    again = (episodes.outcome[:, :2] == [Outcome.TRUNCATED, Outcome.OK]).all(axis=1)
    assert again.sum() > 50
    assert np.allclose(episodes.cost[again], 2 * 0.0001)
    assert not episodes.slot(CACHED)[again, 1].any()


def test_a_vote_takes_the_answer_that_most_arms_gave():
    world = simulator(samples=1)
    episodes = begin(world, 60)
    world.step(episodes, act([0, 1, 2], 60))
    world.step(episodes, act([NO_CALL], 60, Final.VOTE))
    for row, given in enumerate(world.replay.answer[:60, :, 0]):
        values, counts = np.unique(given, return_counts=True)
        if counts.max() > 1:
            assert given[episodes.final[row]] == values[counts.argmax()]
        else:
            assert episodes.final[row] == 0, "no majority: the first"


def test_a_weighted_vote_may_let_one_arm_outvote_two():
    world = Simulator(tiny_replay(samples=1), Profile(), 0, UNIT, vote_weights=[1.0, 1.0, 2.5])
    episodes = begin(world, 60)
    world.step(episodes, act([0, 1, 2], 60))
    world.step(episodes, act([NO_CALL], 60, Final.WEIGHTED_VOTE))
    answers = world.replay.answer[:60, :, 0]
    chosen = answers[np.arange(60), episodes.final]
    assert (chosen == answers[:, 2]).all()


def test_a_direct_answer_is_the_routers_own_model_and_nothing_without_one():
    own = Simulator(tiny_replay(samples=1), Profile(), 0, UNIT, direct_arm=1)
    for world, cost, score in ((own, 0.0004, own.replay.score[:8, 1, 0]), (simulator(samples=1), 0.0, np.zeros(8))):
        episodes = begin(world)
        world.step(episodes, act([NO_CALL], 8, Final.DIRECT))
        assert episodes.done.all()
        assert np.allclose(episodes.cost, cost)
        assert np.array_equal(episodes.score, score)


def test_an_episode_that_never_ends_it_gets_nothing():
    world = simulator(Profile(client=Client(max_turns=2)))
    episodes = begin(world)
    world.step(episodes, act([2], 8))
    world.step(episodes, act([1], 8))
    assert episodes.done.all()
    assert (episodes.final == Final.NONE).all()
    assert not episodes.reward.any()


def test_selecting_an_empty_slot_gets_nothing():
    world = simulator()
    episodes = begin(world)
    world.step(episodes, act([NO_CALL], 8, 0))
    assert episodes.done.all()
    assert not episodes.score.any()
    assert (episodes.final == Final.NONE).all()


def test_no_more_calls_than_slots():
    world = simulator(Profile(client=Client(max_calls=2)))
    episodes = begin(world)
    world.step(episodes, act([0, 1, 2], 8))
    assert (episodes.arm == [[0, 1]]).all()
    assert np.allclose(episodes.cost, 0.0005)


def test_failures_come_at_their_rates_and_are_retried():
    world = simulator(failing(rate_limited=0.5), queries=3000)
    episodes = begin(world, 3000)
    world.step(episodes, act([1], 3000))
    outcome = episodes.outcome[:, 0]
    assert (outcome == Outcome.RATE_LIMITED).mean() == pytest.approx(0.5**3, abs=0.02)
    assert (episodes.slot(ATTEMPTS)[:, 0] >= 2).mean() == pytest.approx(0.5, abs=0.03)
    assert np.allclose(episodes.cost, np.where(outcome == Outcome.OK, 0.0004, 0.0))


def test_retries_wait_longer_each_time_with_jitter():
    world = simulator(failing(rate_limited=1.0), queries=500)
    episodes = begin(world, 500)
    world.step(episodes, act([1], 500))
    waited = episodes.time - 3 * 1.0  # three attempts of one second, and two waits of 1 s and 2 s, ± half
    assert waited.min() >= 1.5
    assert waited.max() <= 4.5
    assert waited.mean() == pytest.approx(3.0, abs=0.1)
    assert waited.std() > 0.4


@pytest.mark.parametrize(
    ("rates", "paid", "outcome", "attempts"),
    [
        ({"timeout": 1.0}, 2 * 0.0004, Outcome.TIMEOUT, 2),
        ({"rate_limited": 1.0}, 0.0, Outcome.RATE_LIMITED, 2),
        ({"server_error": 1.0}, 0.0, Outcome.SERVER_ERROR, 2),
        ({"malformed": 1.0}, 2 * 0.0004, Outcome.MALFORMED, 2),
        ({"truncated": 1.0}, 0.0004, Outcome.TRUNCATED, 1),
        ({"refused": 1.0}, 0.2 * 0.0004, Outcome.REFUSED, 1),
    ],
)
def test_what_a_failure_is_billed_and_whether_it_is_tried_again(rates, paid, outcome, attempts):
    world = simulator(failing(attempts=2, **rates))
    episodes = begin(world)
    world.step(episodes, act([1], 8, Final.ADOPT))
    assert np.allclose(episodes.cost, paid)
    assert (episodes.outcome[:, 0] == outcome).all()
    assert (episodes.slot(ATTEMPTS)[:, 0] == attempts).all()
    assert not episodes.done.any(), "nothing to adopt: the router may try something else"
    world.step(episodes, act([NO_CALL], 8, 0))
    assert episodes.done.all()
    assert not episodes.score.any(), "a damaged response is no answer"


def test_what_the_store_recorded_as_truncated_keeps_its_bill_and_score():
    replay = tiny_replay(samples=1)
    recorded = dataclasses.replace(replay, status=np.full_like(replay.status, 1), score=np.full_like(replay.score, 0.5))
    world = Simulator(recorded, Profile(), 0, UNIT)
    episodes = begin(world)
    world.step(episodes, act([1], 8))
    world.step(episodes, act([NO_CALL], 8, 0))
    assert (episodes.outcome[:, 0] == Outcome.TRUNCATED).all()
    assert np.allclose(episodes.cost, 0.0004)
    assert np.allclose(episodes.score, 0.5)


def test_a_budget_stops_calls_but_not_those_under_way():
    world = simulator()
    episodes = begin(world, budget=0.002)
    world.step(episodes, act([2], 8))
    world.step(episodes, act([0], 8))
    assert (episodes.outcome[:, 1] == Outcome.OVER_LIMIT).all()
    assert np.allclose(episodes.cost, 0.002)
    assert not episodes.done.any(), "what is there can still be selected"


def test_a_deadline_cuts_a_call_and_stops_the_next():
    world = simulator()
    episodes = begin(world, deadline=3.0)
    for _ in range(3):
        world.step(episodes, act([0], 8))
    assert (episodes.outcome[:, :3] == [Outcome.OK, Outcome.TIMEOUT, Outcome.OVER_LIMIT]).all()
    assert np.allclose(episodes.time, 3.0)
    assert np.allclose(episodes.cost, 0.0002), "the cut call is billed, the third one never sent"


def test_a_deadline_within_a_wait_ends_the_call_unsent():
    patient = Profile(failures=Failures(server_error=1.0), client=Client(backoff_s=100.0))
    world = simulator(patient)
    episodes = begin(world, deadline=5.0)
    world.step(episodes, act([0], 8))
    assert (episodes.outcome[:, 0] == Outcome.TIMEOUT).all()
    assert (episodes.slot(ATTEMPTS)[:, 0] == 1).all()
    assert np.allclose(episodes.time, 5.0)


def test_calls_in_parallel_do_not_know_each_others_bills():
    world = simulator()
    episodes = begin(world, budget=0.00005)
    world.step(episodes, act([0, 1], 8))
    assert (episodes.outcome[:, :2] == Outcome.OK).all(), "both were under way before either was billed"
    world.step(episodes, act([0], 8))
    assert (episodes.outcome[:, 2] == Outcome.OVER_LIMIT).all()


def test_a_call_that_was_never_sent_brings_nothing_even_where_answers_take_no_time():
    replay = dataclasses.replace(tiny_replay(queries=500), latency_s=np.full((500, 3, 2), np.nan))
    patient = Profile(failures=Failures(server_error=0.5), client=Client(backoff_s=100.0))
    world = Simulator(replay, patient, 0, UNIT)
    episodes = begin(world, 500, deadline=5.0)
    world.step(episodes, act([0], 500))
    failed = episodes.slot_time[0] > 0
    assert 0.3 < failed.mean() < 0.7
    assert (episodes.outcome[:, 0] == np.where(failed, Outcome.TIMEOUT, Outcome.OK)).all()


def test_an_observation_is_a_snapshot_without_a_score():
    world = simulator()
    episodes = begin(world)
    world.step(episodes, act([0], 8))
    seen = world.observe(episodes)
    world.step(episodes, act([1], 8))
    assert (seen.arm[:, 1] == NO_CALL).all()
    assert (seen.cost == 0.0001).all()
    assert (seen.answer[:, 1:] == -1).all()
    assert not {"score", "reward", "final"} & {name for name in dir(seen) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("score", "cost", "penalty", "expected"),
    [
        (1.0, 0.001, 1.0, 0.5),
        (1.0, 0.001, 0.0, 1.0),
        (1.0, 0.01, 1.0, 0.0),
        (0.0, 0.0, 0.0, 0.0),
        (0.5, 0.001, 1, 0.25),
    ],
)
def test_no_success_no_reward_and_cheaper_is_better(score, cost, penalty, expected):
    assert reward(np.array([score]), np.array([cost]), penalty, UNIT)[0] == pytest.approx(expected)
