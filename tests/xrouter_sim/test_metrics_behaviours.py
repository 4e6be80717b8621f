"""What routers do, and whether what they foretell comes true."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrouter_sim.evaluation import metrics

SHARES = st.lists(st.integers(0, 50), min_size=2, max_size=8).filter(any)
CHANCES = st.lists(st.tuples(st.integers(0, 100).map(lambda n: n / 100), st.booleans()), min_size=1, max_size=60)


def test_a_constant_router_has_no_entropy_and_an_even_one_all_of_it() -> None:
    assert metrics.selection_entropy([0.0, 7.0, 0.0]) == 0
    assert metrics.selection_entropy([2.0, 2.0, 2.0]) == pytest.approx(1)
    assert metrics.selection_entropy([1.0, 1.0], models=4) == pytest.approx(0.5)  # half of a pool of four
    assert np.isnan(metrics.selection_entropy([0.0, 0.0]))  # nobody was ever chosen
    assert metrics.selection_entropy([3.0]) == 0  # a pool of one


@given(SHARES, st.randoms())
def test_entropy_knows_no_order_of_models_and_no_scale(shares: list[int], draw: object) -> None:
    mixed = list(shares)
    draw.shuffle(mixed)  # type: ignore[attr-defined]
    entropy = metrics.selection_entropy(shares)
    assert 0 <= entropy <= 1 + 1e-12
    assert metrics.selection_entropy(np.array(mixed) * 0.37) == pytest.approx(float(entropy))


def test_an_invalid_action_asks_in_vain_or_ends_in_nothing() -> None:
    found = metrics.invalid_actions([[0, 1], [0, 0]], [["select", "call"], ["none", "direct"]])
    assert found.tolist() == [[False, True], [True, False]]


def test_calibration_by_hand() -> None:
    predicted, outcome = [0.05, 0.05, 0.95, 0.95], [0, 1, 1, 1]
    assert metrics.brier(predicted, outcome).mean() == pytest.approx((0.0025 + 0.9025 + 2 * 0.0025) / 4)
    low, high = metrics.reliability(predicted, outcome)
    assert (low.low, low.high, low.count, low.observed) == (0.0, 0.1, 2, 0.5)
    assert (high.low, high.high, high.count, high.observed) == (0.9, 1.0, 2, 1.0)
    assert metrics.expected_calibration_error(predicted, outcome) == pytest.approx((0.45 + 0.05) / 2)


def test_a_certain_prediction_falls_into_the_last_bin() -> None:
    (found,) = metrics.reliability([1.0, 1.0], [1, 1])
    assert (found.low, found.high) == (0.9, 1.0)


@given(CHANCES)
def test_what_comes_true_exactly_is_calibrated(pairs: list[tuple[float, bool]]) -> None:
    outcome = np.array([right for _, right in pairs], dtype=float)
    assert metrics.brier(outcome, outcome).mean() == 0
    assert metrics.expected_calibration_error(outcome, outcome) == 0
    constant = np.full(len(outcome), outcome.mean())
    assert metrics.expected_calibration_error(constant, outcome) == pytest.approx(0)  # calibrated, and says nothing
    assert metrics.brier(constant, outcome).mean() == pytest.approx(outcome.var())


@given(CHANCES)
def test_bins_hold_every_prediction_once(pairs: list[tuple[float, bool]]) -> None:
    predicted, outcome = (np.array(axis, dtype=float) for axis in zip(*pairs, strict=True))
    bins = metrics.reliability(predicted, outcome)
    assert sum(found.count for found in bins) == len(pairs)
    assert all(found.low - 1e-9 <= found.predicted <= found.high + 1e-9 for found in bins)
    assert 0 <= metrics.expected_calibration_error(predicted, outcome) <= 1


def test_predictions_are_chances() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        metrics.brier([1.2], [1.0])
    with pytest.raises(ValueError, match="needs predictions"):
        metrics.reliability([], [])
