"""What sequential routers and bandits do where the right thing to do can be worked out."""

from dataclasses import replace
from itertools import chain, combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.xrouter_sim.tiny import COST, tiny_replay
from tests.xrouter_sim.turns import failing, outcome_of
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.rollout import play
from xrouter_sim.engine.semantics import NO_CALL, Action, Final
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.replay import Replay, cost_unit
from xrouter_sim.reward import SETTINGS, reward
from xrouter_sim.routers.automix import AutoMix, ThresholdAutoMix
from xrouter_sim.routers.bandit import LinUCB, Thompson
from xrouter_sim.routers.base import Router
from xrouter_sim.routers.beliefs import BINS, UNKNOWN, Beliefs, Bill
from xrouter_sim.routers.cascade import Cascade
from xrouter_sim.routers.cascade_routing import LEAST_PENALTY, CascadeRouting, NoisyCascadeRouting
from xrouter_sim.routers.fixed import Random
from xrouter_sim.routers.posthoc import PostHoc, draw_responses, seen_so_far

AS_IT_IS = ((1.0, 1.0),)
"""Cascade routing with λ as it is, so that no time goes into choosing multiples."""

FAMILIES = {
    "cascade": Cascade,
    "cascade-routing": lambda: CascadeRouting(AS_IT_IS),
    "cascade-routing-noise": lambda: NoisyCascadeRouting(AS_IT_IS),
    "automix": AutoMix,
    "automix-threshold": ThresholdAutoMix,
    "linucb": LinUCB,
    "thompson": Thompson,
}
each_family = pytest.mark.parametrize("family", FAMILIES)
each_automix = pytest.mark.parametrize("family", ["automix", "automix-threshold"])
each_bandit = pytest.mark.parametrize("family", ["linucb", "thompson"])

REPLAY = tiny_replay(300)
"""Evidence on a response gives away whether it is right."""
TRAIN, TEST = REPLAY.indices("train"), REPLAY.indices("test")
UNIT = cost_unit(REPLAY, TRAIN)


def fitted(family: str, replay: Replay = REPLAY, seed: int = 0) -> Router:
    router = FAMILIES[family]()
    router.fit(replay, TRAIN, UNIT, seed)
    return router


FITTED = {family: fitted(family) for family in FAMILIES}


def played(router: Router, penalty: float, profile: Profile | None = None, replay: Replay = REPLAY):
    world = Simulator(replay, profile or Profile(), 0, UNIT)
    return play(router.act, world, TEST, np.arange(len(TEST)), np.full(len(TEST), penalty))


def without_evidence() -> Replay:
    """Only answers tell anything."""
    return replace(tiny_replay(300), evidence=np.zeros_like(REPLAY.evidence))


# --- what holds for all of them -----------------------------------------------------------------------------------


@each_family
def test_the_same_seed_gives_the_same_router(family):
    again = fitted(family, tiny_replay(300))
    for penalty in (0.1, 1.0):
        assert np.array_equal(played(again, penalty).words(), played(FITTED[family], penalty).words())


@each_family
def test_the_batch_size_changes_nothing(family):
    world = Simulator(REPLAY, Profile.load("stormy"), 0, UNIT)
    query, key = np.tile(TEST, len(SETTINGS)), np.tile(np.arange(len(TEST)), len(SETTINGS))
    penalty = np.repeat(SETTINGS, len(TEST))
    small, large = (
        outcome_of(play(FITTED[family].act, world, query, key, penalty, batch_size=size)) for size in (256, 4096)
    )
    assert all(np.array_equal(small[name], large[name]) for name in small)


@each_family
def test_where_calls_fail_another_arm_answers(family):
    episodes = played(FITTED[family], 0.2, failing(attempts=1, server_error=0.5))
    answered = episodes.final >= 0
    assert (episodes.n_slots > 1).any()
    assert answered.mean() > 0.8
    assert (answered == ((episodes.outcome == 0).any(axis=1))).all(), "what has come is not thrown away"


@each_family
def test_where_every_call_fails_it_gives_up(family):
    episodes = played(FITTED[family], 0.2, failing(attempts=1, server_error=1.0))
    assert episodes.done.all()
    assert (episodes.final == Final.NONE).all()


@each_family
def test_more_is_earned_than_by_the_best_single_arm(family):
    best = max(reward(REPLAY.mean_score[TEST, arm], COST[arm], 0.2, UNIT).mean() for arm in range(3))
    assert played(FITTED[family], 0.2).reward.mean() > best - 0.02


# --- evidence from answers ----------------------------------------------------------------------------------------


def test_an_answer_that_others_share_is_more_likely_right():
    replay = without_evidence()
    posthoc, drawn = PostHoc.fit(replay, TRAIN, UNIT, 0), draw_responses(replay, TRAIN, 0)
    answer, chance = drawn.seen.answer, posthoc(drawn.seen.only(np.array([True, True, False])))
    same, easy = answer[:, 0] == answer[:, 1], REPLAY.domains[TRAIN] == "easy"
    for domain in (easy, ~easy):
        assert np.quantile(chance[domain & same, 0], 0.1) > np.quantile(chance[domain & ~same, 0], 0.9)


def test_what_routers_share_depends_on_the_unit_of_cost():
    replay = tiny_replay(300)
    PostHoc.fit(replay, TRAIN, UNIT, 0)
    remembered = len(replay.memo)
    PostHoc.fit(replay, TRAIN, UNIT, 0)
    assert len(replay.memo) == remembered
    PostHoc.fit(replay, TRAIN, 2 * UNIT, 0)
    assert len(replay.memo) > remembered


# --- cascade routing ----------------------------------------------------------------------------------------------


def best_superset(quality, cost, called, rate):
    """By the paper's formula, over all supermodels that hold what has been called."""
    arms = [arm for arm in range(len(quality)) if arm not in called]
    further = chain.from_iterable(combinations(arms, size) for size in range(len(arms) + 1))
    sets = [(*called, *more) for more in further if called or more]
    return max(sets, key=lambda each: max(quality[list(each)]) - rate * cost[list(each)].sum())


@pytest.mark.parametrize("ahead", [1, 3])
@pytest.mark.parametrize("called", [(), (0,), (1,), (0, 1)])
def test_without_noise_cascade_routing_takes_the_best_supermodel(called, ahead):
    replay, router = without_evidence(), CascadeRouting(AS_IT_IS, ahead)
    router.fit(replay, TRAIN, UNIT, 0)
    world = Simulator(replay, Profile(), 0, UNIT)
    penalty = np.tile([0.0, 0.05, 0.1, 0.2, 0.4], 20)
    episodes = world.reset(TEST, np.arange(len(TEST)), penalty)
    for arm in called:
        world.step(episodes, Action.call(np.full(len(TEST), arm)))
    observation = world.observe(episodes)
    quality = router.posthoc(seen_so_far(observation, 3)[0])
    action = router.act(observation)
    for row, rate in enumerate(np.maximum(penalty, LEAST_PENALTY) / UNIT):
        cost = router.posthoc.prior.cost[TEST[row]]
        more = set(best_superset(quality[row], cost, called, rate)) - set(called)
        if more:
            assert action.calls[row, 0] == min(more, key=lambda arm: cost[arm])
        else:
            likeliest = max(called, key=lambda arm: quality[row, arm])
            assert (action.calls[row, 0], action.final[row]) == (NO_CALL, called.index(likeliest))


def test_noise_makes_a_further_call_worth_something():
    plain, noisy = FITTED["cascade-routing"], FITTED["cascade-routing-noise"]
    assert played(noisy, 0.05).n_slots.mean() > played(plain, 0.05).n_slots.mean()


def test_the_bill_of_cascade_routing_falls_as_cost_weighs_more():
    paid = [played(FITTED["cascade-routing"], penalty).cost.mean() for penalty in (0.0, 0.1, 0.5, 2.0, 20.0)]
    assert paid == sorted(paid, reverse=True)
    assert paid[0] > 5 * paid[-1]


def test_multiples_are_chosen_by_what_they_earn():
    absurd = CascadeRouting(((1000.0, 1000.0), (1.0, 1.0)))
    absurd.fit(REPLAY, TRAIN, UNIT, 0)
    small = np.array(SETTINGS) < 0.5
    assert (absurd.chosen[small] == 1.0).all()


# --- AutoMix ------------------------------------------------------------------------------------------------------


@each_automix
def test_automix_escalates_where_verification_fails(family):
    episodes = played(FITTED[family], 0.2)
    first_right = REPLAY.score[TEST, episodes.arm[:, 0], 0]  # of the two samples either may have been drawn
    other = REPLAY.score[TEST, episodes.arm[:, 0], 1]
    sure, may_follow = first_right == other, episodes.arm[:, 0] != 2
    assert (episodes.n_slots[sure & may_follow & (first_right == 0)] > 1).all()
    assert (episodes.n_slots[sure & may_follow & (first_right == 1)] == 1).all()
    assert may_follow.sum() > 20


@each_automix
def test_automix_asks_one_arm_where_verification_tells_nothing(family):
    scores = np.random.default_rng(1).random(REPLAY.score.shape) < 0.6
    blank = replace(
        without_evidence(), score=scores.astype(np.float64), answer=np.zeros_like(REPLAY.answer), domains=REPLAY.domains
    )
    assert (played(fitted(family, blank), 1.0, replay=blank).n_slots == 1).all()


def test_a_belief_follows_bayes():
    score = np.array([[1.0, 1.0]] * 60 + [[0.0, 1.0]] * 40)
    chance = np.where(score[:, :1] == 1.0, 0.9, 0.1) + np.linspace(0, 0.05, 100)[:, None]
    beliefs = Beliefs.fit(chance, score, np.zeros(100, np.int64), 1)
    outcomes = [beliefs.outcome(0, np.array([0.1, 0.95, np.nan]))]
    assert outcomes[0].tolist() == [0, BINS - 1, UNKNOWN]
    right = beliefs.after(np.zeros(3, np.int64), outcomes) @ beliefs.states
    assert right[0, 0] < 0.25 < 0.75 < right[1, 0]
    assert right[2, 0] == pytest.approx(0.6, abs=0.05)


def random_beliefs(rng: np.random.Generator) -> Beliefs:
    def shares(*shape):
        drawn = rng.random(shape) ** 3
        return drawn / drawn.sum(axis=-1, keepdims=True)

    first, second = np.ones((BINS + 1, 8)), np.ones((BINS + 1, 8, BINS + 1))
    first[:BINS], second[:, :, :BINS] = shares(8, BINS).T, shares(BINS + 1, 8, BINS)
    states = np.array(list(product((0.0, 1.0), repeat=3)))
    return Beliefs(states, np.tile(np.arange(1, BINS) / BINS, (2, 1)), shares(1, 8), first, second)


@given(seed=st.integers(0, 1000), outcome=st.integers(0, BINS - 1), penalty=st.floats(0.0, 2.0))
@settings(max_examples=50, deadline=None)
def test_the_worth_of_going_on_is_that_of_the_best_plan(seed, outcome, penalty):
    """Against all plans written out: for each outcome of the second verification, keep or ask the third arm."""
    rng = np.random.default_rng(seed)
    beliefs, spent, cost = random_beliefs(rng), 0.1, rng.random(3)
    joint = beliefs.prior[0] * beliefs.first[outcome]
    joint = (joint / joint.sum())[:, None] * beliefs.second[outcome, :, :BINS]  # [S, o_2]

    def earned(arm, outcomes, *called):
        right = (joint[:, outcomes] * beliefs.states[:, [arm]]).sum()
        return reward(right, spent + cost[list(called)].sum(), penalty, 1.0)

    plans = (
        sum(earned(2, [o], 1, 2) if asks else earned(1, [o], 1) for o, asks in enumerate(plan))
        for plan in product((False, True), repeat=BINS)
    )
    everything = list(range(BINS))
    expected = [earned(0, everything), max(plans), earned(2, everything, 2)]
    bill = Bill(np.array([spent]), cost[None], np.array([penalty]), 1.0)
    values = beliefs.values(np.zeros(1, np.int64), [np.array([outcome])], bill)
    assert values[0] == pytest.approx(expected)


# --- bandits ------------------------------------------------------------------------------------------------------


@each_bandit
def test_a_bandit_learns_list_prices_though_it_pays_changing_ones(family):
    predicted = FITTED[family].predicted_cost
    assert np.allclose(predicted[TEST].mean(axis=0), COST, rtol=0.15)


@each_bandit
def test_a_bandit_learns_which_arm_is_good_where(family):
    predicted, easy = FITTED[family].predicted_score[TEST], REPLAY.domains[TEST] == "easy"
    assert (predicted[easy].argmax(axis=1) == 2).mean() > 0.9
    assert (predicted[easy].mean(axis=0) > predicted[~easy].mean(axis=0)).all()


@each_bandit
def test_a_bandit_follows_a_change_of_prices(family):
    world = Simulator(REPLAY, Profile(), 0, UNIT)
    observation = world.observe(world.reset(TEST, np.arange(len(TEST)), np.full(len(TEST), 0.2)))
    calm = FITTED[family].act(observation).calls[:, 0]
    observation.price = np.tile([1.0, 1.0, 20.0], (len(TEST), 1))
    assert (calm == 2).any()
    assert (FITTED[family].act(observation).calls[:, 0] != 2).all()


@each_bandit
def test_a_bandit_sees_no_score_of_an_arm_that_it_did_not_call(family, monkeypatch):
    replay, called, step = tiny_replay(300), np.zeros((300, 3), np.bool_), Simulator.step

    def recorded(world, episodes, action):
        called[episodes.query, action.calls[:, 0]] = True
        step(world, episodes, action)

    monkeypatch.setattr(Simulator, "step", recorded)
    expected = fitted(family, replay).predicted_score
    assert called.sum() == len(TRAIN)
    replay.score[~called] = 1.0 - replay.score[~called]
    assert np.array_equal(fitted(family, replay).predicted_score, expected)


@each_bandit
def test_a_bandit_earns_more_than_chance_while_it_learns(family):
    world = Simulator(REPLAY, Profile.load("prices"), 0, UNIT)
    router = Random()
    router.fit(REPLAY, TRAIN, UNIT, 0)
    penalty = np.repeat(SETTINGS, len(TRAIN))
    blind = play(router.act, world, np.tile(TRAIN, len(SETTINGS)), np.arange(len(penalty)), penalty)
    learner = FITTED[family]
    assert isinstance(learner, LinUCB)
    assert learner.seen_reward > 1.1 * blind.reward.mean()
