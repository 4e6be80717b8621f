"""The engine's semantics: what a call costs, returns and takes, and how an episode ends."""

import numpy as np
import pytest

from responses_db import LabError
from tests.xrouter_sim.tiny import tiny_replay
from xrouter_sim.engine.profile import Profile, built_in_names
from xrouter_sim.engine.rollout import BLOCK, play
from xrouter_sim.engine.simulator import NO_CALL, Action, Final, Outcome, Simulator
from xrouter_sim.reward import reward
from xrouter_sim.routers.fixed import Always, Random

UNIT = 0.002


def simulator(profile: Profile | None = None, seed: int = 0, **replay: int) -> Simulator:
    return Simulator(tiny_replay(**replay), profile or Profile(), seed, UNIT)


def begin(world: Simulator, n: int = 8, penalty: float = 1.0):
    return world.reset(np.arange(n), np.arange(n), np.full(n, penalty))


def act(arms: list[int], n: int, final: int = Final.CONTINUE) -> Action:
    return Action(np.tile(arms, (n, 1)), np.full(n, int(final)))


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
    assert (episodes.slot_turn[:, :3] == 0).all()


def test_calling_again_draws_the_next_sample_and_then_comes_from_the_cache():
    world = simulator(samples=2)
    episodes = begin(world)
    for _ in range(3):
        world.step(episodes, act([0], 8))
    assert (episodes.sample[:, 0] != episodes.sample[:, 1]).all()
    assert np.array_equal(episodes.sample[:, 0], episodes.sample[:, 2])
    assert np.allclose(episodes.cost, 2 * 0.0001)
    assert np.allclose(episodes.time, 2 * 2.0)


def test_a_vote_takes_the_answer_that_most_arms_gave():
    world = simulator(samples=1)
    episodes = begin(world, 60)
    world.step(episodes, act([0, 1, 2], 60))
    world.step(episodes, act([NO_CALL], 60, Final.VOTE))
    answers = world.replay.answer[:60, :, 0]
    for row, given in enumerate(answers):
        values, counts = np.unique(given, return_counts=True)
        if counts.max() > 1:
            assert given[episodes.final[row]] == values[counts.argmax()]
        else:
            assert episodes.final[row] == 0  # no majority: the first


def test_an_episode_that_never_ends_it_gets_nothing():
    world = simulator(Profile(max_turns=2))
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


def test_failures_come_at_their_rates_and_are_retried():
    world = simulator(Profile(rate_limited=0.5, attempts=3), queries=3000)
    episodes = begin(world, 3000)
    world.step(episodes, act([1], 3000))
    failed = (episodes.outcome[:, 0] == Outcome.RATE_LIMITED).mean()
    assert failed == pytest.approx(0.5**3, abs=0.02)
    assert (episodes.attempts[:, 0] >= 2).mean() == pytest.approx(0.5, abs=0.03)
    assert np.allclose(episodes.cost, np.where(episodes.outcome[:, 0] == Outcome.OK, 0.0004, 0.0))


def test_a_timeout_is_billed_and_a_rate_limit_is_not():
    late, limited = simulator(Profile(timeout=1.0, attempts=2)), simulator(Profile(rate_limited=1.0, attempts=2))
    for world, paid in ((late, 2 * 0.0004), (limited, 0.0)):
        episodes = begin(world)
        world.step(episodes, act([1], 8, Final.ADOPT))
        assert np.allclose(episodes.cost, paid)
        assert not episodes.done.any()  # nothing to adopt: the router may try something else


def test_an_outage_lasts_for_a_stretch_of_episodes():
    world = simulator(Profile(outage=0.3, outage_episodes=10), queries=1000)
    episodes = begin(world, 1000)
    world.step(episodes, act([0], 1000))
    down = (episodes.outcome[:, 0] == Outcome.SERVER_ERROR).reshape(100, 10)
    assert (down.all(axis=1) | ~down.any(axis=1)).all()
    assert down[:, 0].mean() == pytest.approx(0.3, abs=0.12)


def test_prices_move_the_bill_and_pools_keep_their_minimum():
    world = simulator(Profile(price_sigma=1.0, pool_drop=0.9, pool_min=2))
    episodes = begin(world, 100)
    world.step(episodes, act([2], 100))
    assert np.allclose(episodes.cost, 0.002 * episodes.price[:, 2])
    assert np.log(episodes.price).std() == pytest.approx(1.0, abs=0.15)
    assert episodes.on_offer.sum(axis=1).min() == 2


def test_a_world_is_the_same_in_any_order_and_batch():
    world = simulator(Profile.load("stormy"), seed=5)
    router = Random()
    router.fit(world.replay, world.replay.indices("train"), UNIT, 5)
    n = 2 * BLOCK + 17
    query, key = np.arange(n) % 120, np.arange(n)
    whole = play(router.act, world, query, key, np.ones(n), batch_size=4096)
    small = play(router.act, world, query, key, np.ones(n), batch_size=1)
    back = play(router.act, world, query[::-1], key[::-1], np.ones(n))
    for name, values in vars(whole).items():
        assert np.array_equal(values, getattr(small, name)), name
        if name != "row":
            assert np.array_equal(values, getattr(back, name)[::-1]), name


def test_two_routers_meet_the_same_world():
    world = simulator(Profile.load("stormy"))
    first, second = (play(_fitted(world, arm).act, world, *_episodes(50)) for arm in (0, 2))
    assert np.array_equal(first.price, second.price)
    assert np.array_equal(first.on_offer, second.on_offer)


def _fitted(world: Simulator, arm: int) -> Always:
    router = Always(arm, "x")
    router.fit(world.replay, world.replay.indices("train"), UNIT, 0)
    return router


def _episodes(n: int):
    return np.arange(n), np.arange(n), np.ones(n)


def test_an_observation_has_no_score_in_it():
    world = simulator()
    episodes = begin(world)
    world.step(episodes, act([0], 8))
    assert not {"score", "reward"} & set(vars(world.observe(episodes, np.arange(8))))


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


def test_profiles_load_by_name_and_refuse_nonsense(tmp_path):
    assert {"calm", "prices", "failures", "stormy", "training"} <= set(built_in_names())
    with pytest.raises(LabError, match="no profile 'windy'"):
        Profile.load("windy")
    (tmp_path / "odd.toml").write_text("wind = 3")
    with pytest.raises(LabError, match="unknown keys wind"):
        Profile.load(str(tmp_path / "odd.toml"))
    with pytest.raises(LabError, match="sum to at most 1"):
        Profile(timeout=0.9, refused=0.2)
