"""What the families of predictive routers share, and what sets each apart."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.xrouter_sim.tiny import COST, tiny_replay
from xrouter_sim.embeddings import HashingEmbedder
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.rollout import play
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.features import FeatureSpec
from xrouter_sim.replay import Replay, cost_unit
from xrouter_sim.routers.clusters import AvengersPro, Clusters
from xrouter_sim.routers.factorisation import Factorisation
from xrouter_sim.routers.irt import ItemResponse
from xrouter_sim.routers.knn import NearestNeighbour
from xrouter_sim.routers.linear import Linear, SupportVector
from xrouter_sim.routers.logistic import Logistic
from xrouter_sim.routers.mlp import NeuralNetwork
from xrouter_sim.routers.predictive import Predictive, expected_cost

FAMILIES = {
    "knn": lambda: NearestNeighbour(5),
    "linear": lambda: Linear(1.0),
    "svm": lambda: SupportVector(1.0),
    "svm, absolute loss": lambda: SupportVector(1.0, "absolute"),
    "mlp": lambda: NeuralNetwork(0.1),
    "mlp, one an arm": lambda: NeuralNetwork(0.1, shared=False),
    "logistic": lambda: Logistic(10.0),
    "factorisation": lambda: Factorisation(1e-3),
    "clusters": lambda: Clusters(4),
    "avengers-pro": lambda: AvengersPro(4),
    "irt": lambda: ItemResponse(1e-3),
}
"""Each with a setting that lets it follow the questions, so that no time goes into choosing one."""

each_family = pytest.mark.parametrize("family", FAMILIES)
REPLAY = tiny_replay(60)
TRAIN = REPLAY.indices("train")
UNIT = cost_unit(REPLAY, TRAIN)


def fitted(router: Predictive, replay: Replay = REPLAY, queries=TRAIN) -> Predictive:
    router.fit(replay, queries, UNIT, seed=3)
    return router


def with_scores(score, replay: Replay = REPLAY) -> Replay:
    """A replay whose arms score so ([Q, A], for every sample)."""
    return replace(replay, score=np.repeat(score[:, :, None], replay.score.shape[2], axis=2), memo=dict(replay.memo))


@each_family
@given(order=st.permutations(range(3)))
@settings(max_examples=3, deadline=None)
def test_the_order_of_the_arms_changes_nothing(family, order):
    turned = replace(
        REPLAY,
        model_ids=[REPLAY.model_ids[arm] for arm in order],
        score=REPLAY.score[:, order],
        cost_usd=REPLAY.cost_usd[:, order],
        memo=tiny_replay(60).memo,
    )
    router, other = fitted(FAMILIES[family]()), fitted(FAMILIES[family](), turned)
    assert np.array_equal(other.predicted_score, router.predicted_score[:, order])
    assert np.array_equal(other.predicted_cost, router.predicted_cost[:, order])


@each_family
@given(constant=st.floats(0.0, 1.0))
@settings(max_examples=3, deadline=None)
def test_an_arm_that_always_scores_the_same_is_predicted_to(family, constant):
    score = REPLAY.mean_score.copy()
    score[:, 1] = constant
    router = fitted(FAMILIES[family](), with_scores(score))
    assert (router.predicted_score[:, 1] == router.predicted_score[0, 1]).all()
    assert router.predicted_score[0, 1] == pytest.approx(constant)
    assert np.ptp(router.predicted_score[:, 0]) > 0


@each_family
def test_where_no_arm_ever_varies_nothing_is_left_to_learn(family):
    score = np.tile([0.0, 1.0, 0.5], (60, 1))
    assert np.array_equal(fitted(FAMILIES[family](), with_scores(score)).predicted_score, score)


@each_family
def test_a_domain_never_seen_before_gets_an_answer_all_the_same(family):
    easy = TRAIN[REPLAY.domains[TRAIN] == "easy"]
    router = fitted(FAMILIES[family](), queries=easy)
    assert np.isfinite(router.predicted_score).all()
    hard = np.flatnonzero(REPLAY.domains == "hard")
    world = Simulator(REPLAY, Profile(), 0, UNIT)
    assert (play(router.act, world, hard, np.arange(len(hard)), np.ones(len(hard))).final >= 0).all()


@each_family
def test_one_training_query_is_enough_to_go_on(family):
    router = fitted(FAMILIES[family](), queries=TRAIN[:1])
    assert np.array_equal(router.predicted_score, np.tile(REPLAY.mean_score[TRAIN[0]], (60, 1)))
    assert np.array_equal(router.predicted_cost, np.tile(COST, (60, 1)))


@each_family
def test_it_learns_which_arm_is_good_at_what(family):
    """Two kinds of question; the first arm answers the first kind, the second the other, the third half of each."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 120)
    question = np.eye(4)[kind] + 0.1 * rng.normal(size=(120, 4))
    right = np.stack([kind == 0, kind == 1, rng.random(120) < 0.5], axis=1).astype(float)
    predicted = FAMILIES[family]().predict(question[:80], right[:80], question[80:], FAMILIES[family]().setting, 0)
    assert predicted.shape == (40, 3)
    assert (predicted[:, :2].argmax(axis=1) == kind[80:]).all()


@pytest.mark.parametrize("family", [NearestNeighbour, Linear, Clusters, Logistic])
def test_what_it_smooths_by_follows_what_the_questions_tell(family):
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 120)
    questions = np.eye(16)[kind] + 0.1 * rng.normal(size=(120, 16))
    replay = tiny_replay(120)
    replay.memo.update(dict.fromkeys(replay.memo, questions))
    told = np.tile(kind[:, None] * 1.0, (1, 3))
    noise = np.random.default_rng(2).integers(0, 2, (120, 3)) * 1.0
    informed, lost = (fitted(family(), with_scores(score, replay)) for score in (told, noise))
    assert lost.chosen == family.settings[0]
    assert family.settings.index(informed.chosen) > 0


def test_costs_are_those_of_the_nearest_questions():
    rng = np.random.default_rng(0)
    long = rng.integers(0, 2, 60)
    replay = tiny_replay(60)
    replay.memo.update({key: np.eye(3)[long] + 0.01 * rng.normal(size=(60, 3)) for key in replay.memo})
    replay.cost_usd[long == 1] *= 10.0
    cost = expected_cost(replay, TRAIN, FeatureSpec())
    assert np.allclose(cost, np.array(COST) * np.where(long == 1, 10.0, 1.0)[:, None])


def test_features_are_read_once_for_all_routers_of_a_replay(monkeypatch):
    replay, spec = tiny_replay(30), FeatureSpec(embedder="hashing", query=("embedding", "lexical"))
    calls = []
    encode = HashingEmbedder.encode
    monkeypatch.setattr(HashingEmbedder, "encode", lambda self, texts: calls.append(len(texts)) or encode(self, texts))
    for router in (NearestNeighbour(3, spec), Linear(1.0, spec)):
        router.fit(replay, np.arange(20), UNIT, seed=0)
    assert calls == [30]


def test_a_score_of_a_half_is_half_a_right_answer():
    question = np.array([[0.0], [0.0], [1.0], [1.0]])
    wrong_and_right = Logistic().predict(question, np.array([[0.0], [1.0], [0.0], [1.0]]), question, 1.0, 0)
    halves = Logistic().predict(question, np.full((4, 1), 0.5), question, 1.0, 0)
    assert np.allclose(wrong_and_right, 0.5)
    assert np.allclose(halves, 0.5)


def test_the_absolute_loss_learns_the_median_where_the_squared_one_learns_the_mean():
    question, right = np.zeros((10, 1)), np.array([[1.0]] * 7 + [[0.0]] * 3)
    median = SupportVector(loss="absolute").predict(question, right, question[:1], 1000.0, 0)
    mean = SupportVector(loss="squared").predict(question, right, question[:1], 1000.0, 0)
    assert median.item() == pytest.approx(1.0, abs=0.01)
    assert mean.item() == pytest.approx(0.7, abs=0.01)


def test_more_ability_never_hurts_in_item_response():
    question = np.random.default_rng(0).normal(size=(80, 4))
    luck = np.random.default_rng(1).random((80, 1))
    right = (luck < 1 / (1 + np.exp(-np.array([-1.0, 0.0, 1.0]) - question[:, :1]))).astype(float)
    weak, middle, strong = ItemResponse().predict(question, right, question, 1e-2, 0).T
    assert (weak < middle).all()
    assert (middle < strong).all()


def test_avengers_pro_weighs_stretched_scores_against_relative_costs():
    score, cost = np.array([[0.5, 0.6, 0.7]]), np.array([[0.001, 0.002, 0.010]])
    worth = AvengersPro(4).worth(score, cost, np.array([[1.0]]))
    assert np.allclose(worth, [[0.5 * 0.0 - 0.5 * 0.1, 0.5 * 0.5 - 0.5 * 0.2, 0.5 * 1.0 - 0.5 * 1.0]])
    picks = [int(AvengersPro(4).worth(score, cost, np.array([[penalty]])).argmax()) for penalty in (0.0, 1.0, 80.0)]
    assert picks == [2, 1, 0]
