"""The engine's semantics: what a call costs, returns and takes, and how an episode ends."""

import dataclasses

import numpy as np
import pytest

from tests.xrouter_sim.tiny import tiny_replay
from xrouter_sim.engine.episodes import ATTEMPTS, CACHED, SAMPLE, TURN, Episodes
from xrouter_sim.engine.profile import Client, Failures, Latency, Pools, Prices, Profile
from xrouter_sim.engine.rollout import BLOCK, play
from xrouter_sim.engine.semantics import NO_CALL, Action, Final, Outcome
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.reward import reward
from xrouter_sim.routers.fixed import Always, Random

UNIT = 0.002


def simulator(profile: Profile | None = None, seed: int = 0, **replay: int) -> Simulator:
    return Simulator(tiny_replay(**replay), profile or Profile(), seed, UNIT)


def begin(world: Simulator, n: int = 8, penalty: float = 1.0, **limits: float) -> Episodes:
    arrays = {name: np.full(n, value) for name, value in limits.items()}
    return world.reset(np.arange(n), np.arange(n), np.full(n, penalty), **arrays)


def act(arms: list[int], n: int, final: int = Final.CONTINUE) -> Action:
    return Action(np.tile(arms, (n, 1)), np.full(n, int(final)))


def failing(attempts: int = 3, **rates: float) -> Profile:
    return Profile(failures=Failures(**rates), client=Client(attempts=attempts))


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


def outcome_of(episodes: Episodes) -> dict[str, np.ndarray]:
    """All that counts of finished episodes, by row."""
    names = ("query", "key", "turn", "n_slots", "cost", "time", "done", "ending", "final", "score", "reward")
    filled = episodes.words() >= 0
    kept = {"words": episodes.words(), "costs": episodes.slot_cost.T * filled, "times": episodes.slot_time.T * filled}
    return {name: getattr(episodes, name) for name in names} | kept


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


def test_a_shuffled_pool_is_shown_in_another_order_each_time():
    world = simulator(Profile(pools=Pools(shuffle=True)))
    episodes = begin(world, 100)
    order, place = world.order(episodes.world), world.place(episodes.world)
    assert len({tuple(row) for row in order.tolist()}) == 6, "all orders of three models"
    assert (np.take_along_axis(order, place, axis=1) == [0, 1, 2]).all()
