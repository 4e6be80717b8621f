"""What profiles do to the world: prices, pools, outages, load, latency; the same for every router, order and batch."""

import numpy as np
import pytest

from tests.xrouter_sim.tiny import tiny_replay
from tests.xrouter_sim.turns import UNIT, act, begin, failing, outcome_of, simulator
from xrouter_sim.engine.profile import Client, Latency, Pools, Prices, Profile
from xrouter_sim.engine.rollout import BLOCK, play
from xrouter_sim.engine.semantics import Final, Outcome
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.routers.fixed import Always, Random


def test_outages_strike_providers_for_stretches_of_episodes():
    replay = tiny_replay(queries=3000)
    replay.store["providers"] = {"a": "one", "b": "one", "c": "two"}
    world = Simulator(replay, failing(outage=0.3, attempts=1), 0, UNIT)
    episodes = begin(world, 3000)
    world.step(episodes, act([0, 1, 2], 3000))
    down = episodes.outcome[:, :3] == Outcome.SERVER_ERROR
    assert np.array_equal(down[:, 0], down[:, 1]), "one provider, one outage"
    assert not np.array_equal(down[:, 0], down[:, 2])
    assert down[:, 0].mean() == pytest.approx(0.3, abs=0.08)
    periods = down.reshape(300, 10, 3)
    assert (periods.all(axis=1) | ~periods.any(axis=1)).all(), "an outage begins and ends between periods"
    ends = (periods[:-1, 0, 0] & ~periods[1:, 0, 0]).sum() / periods[:-1, 0, 0].sum()
    assert 1 / ends == pytest.approx(5.0, abs=2.0), "and lasts five of them on average"


def test_rate_limits_follow_load_and_parallel_calls():
    replay = tiny_replay(queries=4000)
    replay.store["providers"] = {"a": "one", "b": "one", "c": "two"}
    profile = failing(rate_limited=0.2, load=1.0, parallel_load=0.3, attempts=1)
    world = Simulator(replay, profile, 0, UNIT)
    episodes = begin(world, 4000)
    world.step(episodes, act([0, 1, 2], 4000))
    limited = episodes.outcome[:, :3] == Outcome.RATE_LIMITED
    first, second, other = limited.mean(axis=0)
    assert first == pytest.approx(0.2, abs=0.03)
    assert second == pytest.approx(0.5, abs=0.03), "the provider was called already in this turn"
    assert other == pytest.approx(0.2, abs=0.03)
    by_period = limited[:, 0].reshape(4, 10, 100).mean(axis=(0, 2))
    assert by_period.max() > 3 * by_period.min(), "the wave of load is ten periods of a hundred episodes long here"


def test_latency_has_a_tail_and_what_is_too_late_is_a_timeout():
    wide = Profile(latency=Latency(sigma=0.5, tail=0.05), client=Client(timeout_s=20.0, attempts=1))
    world = simulator(wide, queries=4000)
    episodes = begin(world, 4000)
    world.step(episodes, act([1], 4000))
    late = episodes.outcome[:, 0] == Outcome.TIMEOUT
    assert np.median(episodes.time) == pytest.approx(2.0, rel=0.05)
    assert (episodes.time <= 20.0).all()
    assert 0.0 < late.mean() < 0.02
    assert (episodes.time[late] == 20.0).all()
    body = np.log(episodes.time[(episodes.time < 4.0)] / 2.0)
    assert body.std() == pytest.approx(0.5, abs=0.1)


def test_prices_move_the_bill_and_pools_keep_their_bounds():
    world = simulator(Profile(prices=Prices(sigma=1.0), pools=Pools(drop=0.9, least=1, most=2)))
    episodes = begin(world, 100)
    seen = world.observe(episodes)
    world.step(episodes, act([2], 100))
    there = seen.on_offer[:, 2]
    assert np.allclose(episodes.cost, np.where(there, 0.002 * seen.price[:, 2], 0.0))
    assert (episodes.outcome[~there, 0] == Outcome.UNAVAILABLE).all()
    assert np.log(seen.price[seen.on_offer]).std() == pytest.approx(1.0, abs=0.2)
    assert seen.on_offer.sum(axis=1).min() == 1
    assert seen.on_offer.sum(axis=1).max() <= 2


def test_a_held_out_model_is_never_on_offer():
    world = simulator(Profile(pools=Pools(held_out=("b",))))
    assert (world.observe(begin(world)).on_offer == [True, False, True]).all()


def test_sales_swaps_and_drift_move_prices():
    on_sale = simulator(Profile(prices=Prices(sale=0.25)))
    prices = on_sale.observe(begin(on_sale, 100)).price
    assert set(np.unique(prices)) == {0.5, 1.0}
    assert (prices == 0.5).mean() == pytest.approx(0.25, abs=0.08)
    swapped = simulator(Profile(prices=Prices(tier_swap=1.0)))
    factor = swapped.observe(begin(swapped, 100)).price
    cards = np.sort(factor * [0.0001, 0.0004, 0.002], axis=1)
    assert np.allclose(cards, [0.0001, 0.0004, 0.002], rtol=1e-6), "the same prices, in other hands"
    assert ((factor != 1.0).sum(axis=1) == 2).all()
    drifting = simulator(Profile(prices=Prices(drift_sigma=0.1)), queries=1000)
    walk = np.log(drifting.observe(begin(drifting, 1000)).price)[::10]
    assert (walk[0] == 0).all()
    assert np.diff(walk, axis=0).std() == pytest.approx(0.1, abs=0.02)


def test_a_world_is_the_same_in_any_order_and_batch():
    world = simulator(Profile.load("stormy"), seed=5)
    router = Random()
    router.fit(world.replay, world.replay.indices("train"), UNIT, 5)
    n = 2 * BLOCK + 17
    query, key = np.arange(n) % 120, np.arange(n)
    whole = play(router.act, world, query, key, np.ones(n), batch_size=4096)
    small = play(router.act, world, query, key, np.ones(n), batch_size=1)
    back = play(router.act, world, query[::-1], key[::-1], np.ones(n))
    for name, values in outcome_of(whole).items():
        assert np.array_equal(values, outcome_of(small)[name]), name
        assert np.array_equal(values, outcome_of(back)[name][::-1]), name


def test_two_routers_meet_the_same_world():
    world = simulator(Profile.load("stormy"))
    seen = []
    for arm in (0, 2):
        router = Always(arm, "x")
        router.fit(world.replay, world.replay.indices("train"), UNIT, 0)
        seen.append(world.observe(play(router.act, world, np.arange(50), np.arange(50), np.ones(50))))
    assert np.array_equal(seen[0].price, seen[1].price)
    assert np.array_equal(seen[0].on_offer, seen[1].on_offer)


def test_a_row_that_begins_again_is_a_fresh_episode():
    world = simulator(Profile.load("stormy"))
    used, fresh = begin(world), begin(world)
    world.step(used, act([0, 1], 8, Final.VOTE))
    rows = np.arange(8)
    world.restart(used, rows, rows, world.fate(rows), np.ones(8))
    for episodes in (used, fresh):
        world.step(episodes, act([2], 8, Final.ADOPT))
    for name, values in outcome_of(fresh).items():
        if name not in ("ending", "final", "score", "reward"):
            assert np.array_equal(values, outcome_of(used)[name]), name


def test_a_shuffled_pool_is_shown_in_another_order_each_time():
    world = simulator(Profile(pools=Pools(shuffle=True)))
    episodes = begin(world, 100)
    order, place = world.order(episodes.world), world.place(episodes.world)
    assert len({tuple(row) for row in order.tolist()}) == 6, "all orders of three models"
    assert (np.take_along_axis(order, place, axis=1) == [0, 1, 2]).all()
