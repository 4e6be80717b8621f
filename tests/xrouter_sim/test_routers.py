"""What all routers share, and what each of them does on a world where the right choice is known."""

import numpy as np
import polars as pl
import pytest

from tests.xrouter_sim.tiny import COST, tiny_replay
from xrouter_sim.engine.profile import Client, Failures, Profile
from xrouter_sim.engine.rollout import play
from xrouter_sim.engine.semantics import Outcome
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.evaluation.bench import as_frame
from xrouter_sim.evaluation.decisions import SCHEMA
from xrouter_sim.pipeline import make
from xrouter_sim.replay import cost_unit
from xrouter_sim.routers import ROUTERS
from xrouter_sim.routers.oracle import Oracle
from xrouter_sim.routers.prior import fit_prior
from xrouter_sim.routers.rl import RL
from xrouter_sim.routers.table import Table

REPLAY = tiny_replay(300)
TRAIN, TEST = REPLAY.indices("train"), REPLAY.indices("test")
UNIT = cost_unit(REPLAY, TRAIN)
NAMES = [*(f"always:{arm}" for arm in REPLAY.arm_names), *ROUTERS, RL]
FITTED = {name: make(name, REPLAY) for name in NAMES}
for _router in FITTED.values():
    _router.fit(REPLAY, TRAIN, UNIT, seed=0)


def played(name: str, penalty: float, profile: Profile | None = None):
    world = Simulator(REPLAY, profile or Profile(), 0, UNIT)
    router = FITTED[name]
    if isinstance(router, Oracle):
        router.watch(world)
    return play(router.act, world, TEST, np.arange(len(TEST)), np.full(len(TEST), penalty))


@pytest.mark.parametrize("name", NAMES)
def test_a_router_carries_the_name_it_is_registered_by(name):
    assert FITTED[name].name == name


@pytest.mark.parametrize("name", NAMES)
def test_every_router_answers_every_query_in_the_calm_world(name):
    episodes = played(name, 1.0)
    assert (episodes.final >= 0).all()
    assert (episodes.n_slots >= 1).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_router_gets_along_with_failures_prices_and_missing_models(name):
    episodes = played(name, 1.0, Profile.load("stormy"))
    assert episodes.done.all()
    assert (episodes.final >= 0).mean() > 0.9
    assert (episodes.outcome != Outcome.UNAVAILABLE).all(), "it sees what is on offer"


@pytest.mark.parametrize("name", ["rl", *(name for name in ROUTERS if name != "oracle")])
def test_no_router_sees_a_test_grade(name):
    router = make(name, REPLAY)
    blind = tiny_replay(300)
    blind.score[TEST] = 0.5
    router.fit(blind, TRAIN, UNIT, seed=0)
    world = Simulator(blind, Profile(), 0, UNIT)
    arms = (np.arange(len(TEST)), np.full(len(TEST), 1.0))
    assert np.array_equal(play(router.act, world, TEST, *arms).arm, played(name, 1.0).arm)


def test_the_oracle_earns_most_and_the_cheapest_costs_least():
    rewards = {name: played(name, 1.0).reward.mean() for name in NAMES}
    assert max(rewards, key=rewards.__getitem__) == "oracle"
    assert played("cheapest", 1.0).cost.max() == pytest.approx(COST[0])


def test_the_table_buys_quality_only_where_it_pays():
    picks = {penalty: played("table", penalty).arm[:, 0] for penalty in (0.0, 0.5, 80.0)}
    easy = REPLAY.domains[TEST] == "easy"
    assert (picks[0.0] == 2).all()
    assert (picks[80.0] == 0).all()
    assert (picks[0.5][easy] != 2).all()


def test_a_single_shot_router_follows_todays_prices():
    table = FITTED["table"]
    assert isinstance(table, Table)
    world = Simulator(REPLAY, Profile(), 0, UNIT)
    episodes = world.reset(TEST[:1], np.zeros(1, np.int64), np.zeros(1) + 0.2)
    assert table.act(world.observe(episodes, np.arange(1))).calls[0, 0] == 2
    dear = world.observe(episodes)
    dear.price = np.array([[1.0, 1.0, 20.0]])
    assert table.act(dear).calls[0, 0] != 2


def test_the_cascade_looks_and_escalates():
    episodes = played("cascade", 0.2)
    assert 1.0 < episodes.n_slots.mean() < 3.0
    assert episodes.reward.mean() > played("random", 0.2).reward.mean()


def test_a_failed_call_falls_back_to_the_next_arm():
    episodes = played("always:c", 0.0, Profile(failures=Failures(server_error=0.6), client=Client(attempts=1)))
    first_failed = episodes.outcome[:, 0] == Outcome.SERVER_ERROR
    assert first_failed.any()
    assert (episodes.arm[first_failed, 1] == 0).all()


def test_the_prior_of_a_training_query_does_not_know_its_own_grade():
    features = np.zeros((300, 1))
    blind = tiny_replay(300)
    query = TRAIN[0]
    before = fit_prior(blind, TRAIN, features, UNIT).score[query]
    blind.score[query] = 1.0 - blind.score[query]
    assert np.allclose(fit_prior(blind, TRAIN, features, UNIT).score[query], before)


def test_decisions_can_be_added_up_again():
    frame = as_frame(played("cascade", 0.2), Simulator(REPLAY, Profile(), 0, UNIT), "cascade")
    assert frame.schema == SCHEMA
    paid = frame["calls"].list.eval(pl.element().struct.field("cost")).list.sum()
    assert np.allclose(paid, frame["cost_usd"])
    assert np.allclose(frame["reward"], frame["score"] * (1 - np.minimum(0.2 * frame["cost_usd"] / UNIT, 1)))


def test_the_untrained_rule_spends_nothing_more_where_nothing_can_be_won():
    episodes = played("rl", 1e6)
    assert (episodes.arm[:, 0] == 0).all()
    assert (episodes.n_slots == 1).all()
