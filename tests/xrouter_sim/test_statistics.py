"""The bootstrap: against scipy, on samples where the answer is known, and in its words."""

import doctest

import numpy as np
import pytest
from scipy import stats

from xrouter_sim.evaluation import statistics
from xrouter_sim.evaluation.statistics import Bootstrap, Figure, differs, figure, figures, signed, verdict


def test_worked_examples() -> None:
    assert doctest.testmod(statistics).failed == 0


def test_weights_are_the_sample_and_its_resamples() -> None:
    weights = Bootstrap(30, replicates=200, seed=1).weights
    assert weights.shape == (201, 30)
    assert weights.sum(axis=1) == pytest.approx(1)
    assert weights[0] == pytest.approx(1 / 30)
    assert (weights == Bootstrap(30, replicates=200, seed=1).weights).all()
    assert (weights != Bootstrap(30, replicates=200, seed=2).weights).any()


def test_a_bootstrap_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs queries"):
        Bootstrap(0)


def test_the_interval_of_a_mean_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).random(80)
    ours = figure(Bootstrap(80, replicates=4000).means(values))
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    found = [figure(Bootstrap(60, replicates=200, seed=i).means(rng.random(60))) for i in range(120)]
    covered = np.mean([f.low <= 0.5 <= f.high for f in found if f.low is not None and f.high is not None])
    assert 0.89 <= covered <= 0.98


def test_pairing_finds_a_small_difference_that_unpaired_intervals_hide() -> None:
    rng = np.random.default_rng(2)
    hard = (rng.random(400) < 0.5).astype(float)
    better = np.where(rng.random(400) < 0.08, 1.0, hard)
    rows = Bootstrap(400).means(np.stack([better, hard]))
    mine, other = figures(rows)
    assert mine.low is not None
    assert other.high is not None
    assert mine.low < other.high
    assert differs(figure(rows[:, 0] - rows[:, 1]))


def test_means_keep_leading_axes_and_ignore_the_order_of_queries() -> None:
    values = np.random.default_rng(1).random((2, 3, 10))
    rows = Bootstrap(10, replicates=50).means(values)
    assert rows.shape == (51, 2, 3)
    assert rows[0] == pytest.approx(values.mean(axis=-1))
    assert rows[0] == pytest.approx(Bootstrap(10, replicates=50).means(values[..., ::-1])[0])


def test_quantiles_are_of_queries_and_seeds_together() -> None:
    rows = Bootstrap(4, replicates=100).quantiles([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]], [0.5, 0.95])
    assert rows.shape == (101, 2)
    assert rows[0].tolist() == [4.0, 8.0]


def test_never_is_none_and_never_nan() -> None:
    assert figure([np.nan, 1.0, 2.0]) == Figure(None)
    assert figure([1.0, 1.0, *[np.nan] * 9]) == Figure(1.0, 1.0, None)


def test_verdicts_say_no_difference_in_words() -> None:
    tie = verdict("rl", "reward at λ=1", "knn", Figure(-0.001, -0.01, 0.008))
    assert tie == "rl and knn: no difference in reward at λ=1 at this sample size, −0.001 [−0.010, +0.008]"
    assert verdict("rl", "AIQ", "knn", Figure(None)) == "rl and knn: AIQ cannot be compared"


@pytest.mark.parametrize(
    ("difference", "by_seed", "end"),
    [
        (Figure(0.012, 0.003, 0.021), [0.01, 0.02], "more reward than knn, in each of 2 seeds"),
        (Figure(0.012, 0.003, 0.021), [0.03, -0.01], "more reward than knn, but its seeds disagree (ahead in 1 of 2)"),
        (Figure(-0.012, -0.021, -0.003), [-0.01, -0.02], "less reward than knn, in each of 2 seeds"),
        (
            Figure(-0.012, -0.021, -0.003),
            [-0.03, 0.0],
            "less reward than knn, but its seeds disagree (ahead in 0 of 2)",
        ),
        (
            Figure(0.002, -0.004, 0.009),
            [0.01, -0.01],
            "at this sample size, +0.002 [−0.004, +0.009] (ahead in 1 of 2 seeds)",
        ),
        (Figure(0.012, 0.003, 0.021), [0.012], "more reward than knn"),
        (Figure(None), [0.1, 0.2], "reward cannot be compared"),
    ],
)
def test_verdicts_say_when_seeds_disagree(difference: Figure, by_seed: list[float], end: str) -> None:
    assert verdict("rl", "reward", "knn", difference, by_seed).endswith(end)


def test_there_is_no_minus_zero() -> None:
    assert signed(-0.0001) == "+0.000"
    assert signed(-0.01) == "−0.010"
