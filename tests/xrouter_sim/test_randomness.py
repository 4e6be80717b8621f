"""Draws are pure functions of their key."""

import numpy as np
import pytest
from scipy.stats import kstest

from xrouter_sim.engine.randomness import Purpose, draw, normal, splitmix64, uniform


def test_splitmix64_gives_the_published_sequence():
    # Seed 1234567, as in the reference implementation's test vectors (Vigna; also Rosetta Code's task page).
    state, got = 1234567, []
    for _ in range(5):
        got.append(int(splitmix64(np.uint64(state))))
        state = (state + 0x9E3779B97F4A7C15) % 2**64
    assert got == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_a_draw_does_not_depend_on_what_is_drawn_beside_it():
    together = draw(7, Purpose.FAILURE, np.arange(100)[:, None], np.arange(5))
    alone = np.array([[draw(7, Purpose.FAILURE, i, j) for j in range(5)] for i in range(100)])
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("other", [(8, Purpose.PRICE, 1, 2), (7, Purpose.POOL, 1, 2), (7, Purpose.PRICE, 2, 1)])
def test_every_part_of_the_key_counts(other):
    assert draw(7, Purpose.PRICE, 1, 2) != draw(*other)


def test_seed_and_counter_do_not_trade_places():
    assert draw(1, Purpose.QUERY, 0) != draw(0, Purpose.QUERY, 1)


def test_uniforms_and_normals_have_their_distributions():
    counters = np.arange(20_000)
    assert kstest(uniform(3, Purpose.SAMPLE, counters), "uniform").pvalue > 0.001
    assert kstest(normal(3, Purpose.PRICE, counters), "norm").pvalue > 0.001
