"""First-crossing probabilities: against the multivariate normal, simulation-free identities, speed."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import multivariate_normal

from abtest.errors import InvalidInputError
from abtest.stats.recursion import START, crossing_probabilities, crossings


def test_one_look_is_a_normal_tail():
    assert crossing_probabilities([0.3], 2.5)[0] == pytest.approx(float(ndtr(-2.5)), rel=1e-14)
    both = crossings([4.0], 1.0, -2.0, drift=0.5)
    assert both.upper[0] == pytest.approx(float(ndtr(1.0 - 1.0)), rel=1e-14)
    assert both.lower[0] == pytest.approx(float(ndtr(-2.0 - 1.0)), rel=1e-14)


@pytest.mark.parametrize("drift", [0.0, 1.3])
def test_agrees_with_the_multivariate_normal(drift):
    times = np.array([0.1, 0.13, 0.5, 1.0])
    upper = np.array([2.0, 2.2, 1.5, 2.0])
    root = np.sqrt(times)
    covariance = np.minimum.outer(times, times) / np.outer(root, root)
    inside = multivariate_normal(mean=drift * root, cov=covariance).cdf(upper, rng=np.random.default_rng(7))
    assert crossing_probabilities(times, upper, drift=drift).sum() == pytest.approx(1.0 - inside, abs=2e-4)


def test_second_look_by_quadrature():
    from scipy.integrate import quad

    first, second = 2.0 * np.sqrt(0.25), 1.5

    def integrand(x):
        density = np.exp(-0.5 * x * x / 0.25) / np.sqrt(2 * np.pi * 0.25)
        return density * ndtr((x - second) / np.sqrt(0.75))

    wanted = quad(integrand, -8, first, epsabs=1e-13)[0]
    assert crossing_probabilities([0.25, 1.0], [2.0, 1.5])[1] == pytest.approx(wanted, abs=1e-11)


def test_symmetric_bounds_cross_both_sides_alike():
    both = crossings([0.2, 0.5, 1.0], [2.5, 2.2, 2.0], [-2.5, -2.2, -2.0])
    assert both.upper == pytest.approx(both.lower, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=8),
    bounds=st.lists(st.floats(-1.0, 6.0), min_size=8, max_size=8),
    width=st.floats(0.1, 8.0),
    drift=st.floats(-2.0, 2.0),
)
def test_probabilities_are_probabilities_and_all_paths_leave_in_the_end(steps, bounds, width, drift):
    times = np.cumsum(steps)
    upper = np.array(bounds[: times.size])
    lower = upper - width
    lower[-1] = upper[-1]  # at the last look there is no inside left
    both = crossings(times, upper, lower, drift=drift)
    total = both.upper + both.lower
    assert np.all(total >= 0.0)
    assert total.sum() == pytest.approx(1.0, abs=1e-7)


def test_information_has_no_unit():
    upper = [2.9, 2.5, 2.1]
    assert crossing_probabilities([1, 3, 7], upper) == pytest.approx(crossing_probabilities([1e6, 3e6, 7e6], upper))


def test_a_look_without_a_bound_changes_nothing():
    plain = crossing_probabilities([0.5, 1.0], [2.2, 2.0])
    with_gap = crossing_probabilities([0.5, 0.75, 1.0], [2.2, np.inf, 2.0])
    assert with_gap[[0, 2]] == pytest.approx(plain, abs=1e-12)
    assert with_gap[1] == 0.0


def test_nearly_simultaneous_looks():
    twice = crossing_probabilities([0.5, 0.5 * (1 + 1e-7), 1.0], 2.0)
    once = crossing_probabilities([0.5, 1.0], 2.0)
    assert twice.sum() == pytest.approx(once.sum(), abs=1e-4)
    assert twice.sum() >= once.sum() - 1e-9


def test_tails_keep_their_relative_accuracy():
    """Reach of 16 standard deviations: the second crossing is 1e-23 and still right to six digits (by bridge)."""
    walk = START.advance(0.02, -np.inf, 15.8, next_time=0.05, reach=15.8)
    whole = START.advance(0.02, -np.inf, np.inf, next_time=0.05, reach=15.8)
    assert whole.above(0.05, 10.0) == pytest.approx(float(ndtr(-10.0)), rel=1e-6)
    assert walk.above(0.05, 10.0) <= whole.above(0.05, 10.0)


def test_two_hundred_looks_are_fast():
    times = np.arange(1, 201) / 200
    begin = time.perf_counter()
    total = crossing_probabilities(times, 2.8, -2.8).sum()
    assert time.perf_counter() - begin < 2.0
    assert 0.07 < total < 0.075


@pytest.mark.parametrize("times", [[], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [np.nan], [np.inf]])
def test_times_must_ascend(times):
    with pytest.raises(InvalidInputError, match="information times"):
        crossing_probabilities(times, 2.0)


def test_nan_bound_is_refused():
    with pytest.raises(InvalidInputError, match="NaN"):
        crossing_probabilities([1.0], np.nan)
