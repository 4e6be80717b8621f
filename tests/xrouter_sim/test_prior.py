"""The prior: what it may know of a query, what it makes of texts, and of arms that have not answered everything."""

from dataclasses import replace

import numpy as np
import pytest

from tests.xrouter_sim.tiny import tiny_replay
from xrouter_sim.features import text_features
from xrouter_sim.replay import cost_unit
from xrouter_sim.routers.prior import completed, fit_prior, is_better, is_truer
from xrouter_sim.routers.smoothers import Texts, domain_means, overall_mean, ridge_within_domains, word_ridge
from xrouter_sim.routers.stacking import stack, stack_for_new_domains, stack_weights

RNG = np.random.default_rng(0)
QUERIES = np.arange(200)
WORDS = RNG.normal(size=(240, 3))
"""Of 200 training queries and 40 others."""
TEXTS = Texts(np.where(np.arange(240) % 2 == 0, "a", "b"), WORDS, WORDS[:, :1])
SIGNAL = np.stack([WORDS[:, 0], -WORDS[:, 0]], axis=1)
NOISY = SIGNAL + RNG.normal(size=SIGNAL.shape)


def stacked(known):
    return stack(TEXTS, QUERIES, lambda rows: known[rows], domain_means, (word_ridge, ridge_within_domains))


def squared_error(predicted, rows):
    return ((predicted - SIGNAL)[rows] ** 2).mean()


def test_a_stack_finds_what_texts_tell_beyond_the_domain():
    predicted = stacked(NOISY)
    assert squared_error(predicted, slice(0, 200)) < 0.1, "for training queries, cross-fitted"
    assert squared_error(predicted, slice(200, 240)) < 0.1, "for others"


def test_no_grade_of_a_training_query_reaches_its_own_prediction():
    other = NOISY.copy()
    other[7] += 100.0
    before, after = stacked(NOISY), stacked(other)
    assert np.allclose(after[7], before[7], atol=1e-12), "neither through the fits nor through the weights"
    assert not np.allclose(after[200:], before[200:], atol=0.1)


def test_a_smoother_that_tells_nothing_gets_no_weight():
    useful, useless = SIGNAL[:200], RNG.normal(size=(200, 2))
    weights = stack_weights(np.stack([np.zeros((200, 2)), useful, -useful, useless]), NOISY[:200], np.ones(200))
    assert weights[0] > 0.7
    assert weights[1] == 0.0
    assert weights[2] < 0.1


def test_texts_carry_into_a_domain_without_training_queries():
    domains = np.where(QUERIES < 100, "a", "b")
    texts = replace(TEXTS, domains=np.r_[domains, ["new"] * 40])
    predicted, tested = stack_for_new_domains(texts, QUERIES, lambda rows: NOISY[rows], overall_mean, (word_ridge,))
    assert squared_error(predicted, slice(200, 240)) < 0.2 * squared_error(np.zeros_like(SIGNAL), slice(200, 240))
    assert ((tested - SIGNAL[:200]) ** 2).mean() < 0.2, "also in the domains that it was tested on"


def test_a_single_domain_tells_nothing_of_another():
    texts = replace(TEXTS, domains=np.array(["a"] * 200 + ["new"] * 40))
    predicted, _ = stack_for_new_domains(texts, QUERIES, lambda rows: NOISY[rows], overall_mean, (word_ridge,))
    assert np.allclose(predicted, NOISY[:200].mean(axis=0))


@pytest.mark.parametrize(("calibration", "low", "high"), [(0, 0.5, 0.5), (4, 0.55, 0.8), (128, 0.9, 1.0)])
def test_an_arm_counts_as_the_pool_until_its_own_answers_say_otherwise(calibration, low, high):
    values, present = np.tile([0.5, 0.5, 1.0], (200, 1)), np.ones((200, 3), np.bool_)
    present[calibration:, 2] = False
    filled = completed(values, present, np.array(["a"] * 200))
    assert low <= filled[199, 2] <= high
    assert np.array_equal(filled[:, :2], values[:, :2])


def test_what_an_arm_is_worth_is_told_by_domain():
    values, present = np.full((200, 3), 0.5), np.ones((200, 3), np.bool_)
    values[::2, 2], values[1::2, 2] = 1.0, 0.0
    present[150:, 2] = False
    filled = completed(values, present, TEXTS.domains[:200])
    assert filled[198, 2] > 0.85
    assert filled[199, 2] < 0.15


def test_a_model_that_answered_nothing_has_a_prior():
    replay = tiny_replay(300)
    samples = replay.samples.copy()
    samples[:, 1] = 0
    unseen, train = replace(replay, samples=samples), replay.indices("train")
    prior = fit_prior(unseen, train, text_features(replay, train), cost_unit(replay, train))
    assert np.allclose(prior.score[:, 1], prior.score[:, [0, 2]].mean(axis=1), atol=0.02)
    assert np.isfinite(prior.cost).all()
    assert (prior.cost > 0).all()


def test_better_predictions_are_taken_only_where_they_cost_no_reward():
    closer, nothing = np.full(50, 0.1), np.zeros((2, 50))
    loss = np.stack([np.full(50, 0.1), np.full(50, -0.1)])
    assert is_truer(closer, nothing)
    assert not is_truer(closer, loss), "at one λ it costs"
    assert not is_truer(-closer, nothing)
    assert not is_better(nothing)
