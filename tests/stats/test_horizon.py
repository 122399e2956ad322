import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.errors import InvalidInputError
from abtest.stats import horizon, mixture


def plan(looks=50, one_sided=False, alpha=0.05, v_max=1.25):
    rho2 = mixture.tuning(1.0, alpha, one_sided=one_sided)
    return horizon.calibrate_horizon(v_max, rho2, alpha, looks=looks, one_sided=one_sided)


def test_thresholds_of_the_page():
    assert plan().log_threshold == pytest.approx(1.99, abs=0.01)
    assert plan(one_sided=True).log_threshold == pytest.approx(2.07, abs=0.01)


def test_one_look_is_the_fixed_test():
    one = plan(looks=1, v_max=1.0)
    edge = float(mixture.boundary(1.0, one.rho2, 0.05, log_threshold=one.log_threshold))
    assert edge == pytest.approx(1.959964, abs=1e-4)


@pytest.mark.parametrize("looks", [10, 50])
def test_unequal_spacing_holds_and_more_looks_do_not(looks):
    made = plan(looks=looks)
    even = horizon.crossing_rate(np.arange(1, looks + 1) / looks * 1.25, made.rho2, made.log_threshold)
    assert even == pytest.approx(0.05, abs=1e-5)
    rng = np.random.default_rng(3)
    uneven = np.sort(rng.uniform(0.02, 1.25, looks))
    assert horizon.crossing_rate(uneven, made.rho2, made.log_threshold) < 0.0545
    more = horizon.crossing_rate(np.arange(1, 201) / 200 * 1.25, made.rho2, made.log_threshold)
    assert more > 0.055


@settings(deadline=None, max_examples=10)
@given(st.floats(0.005, 0.2), st.floats(0.005, 0.2), st.booleans())
def test_threshold_falls_with_alpha_and_stays_below_the_anytime_one(one, two, one_sided):
    low, high = (plan(10, one_sided, a) for a in sorted((one, two)))
    edges = [float(mixture.boundary(0.5, 8.0, 0.5, log_threshold=p.log_threshold)) for p in (low, high)]
    assert edges[0] >= edges[1] - 1e-5
    assert low.log_threshold < -math.log(low.alpha)


def test_units_do_not_matter():
    small = horizon.calibrate_horizon(1.25, mixture.tuning(1.0, 0.05), 0.05, looks=10)
    large = horizon.calibrate_horizon(1.25e6, mixture.tuning(1e6, 0.05), 0.05, looks=10)
    assert small.log_threshold == pytest.approx(large.log_threshold, abs=1e-6)


def test_judge_inside_and_outside():
    made = plan(looks=10)
    inside = made.judge(0.9, 0.35, 1.0, 8)
    assert inside.method == "horizon"
    assert inside.details["rejected"]
    assert inside.lower > 0
    for late in (made.judge(0.9, 0.35, 1.0, 11), made.judge(0.9, 0.35, 1.3, 9)):
        assert late.method == "normal_mixture"
        assert late.details["log_threshold"] == pytest.approx(-math.log(0.05))
        assert "anytime" in late.note
        assert not late.details["rejected"]
        assert late.lower < 0
    assert made.judge(0.9, 0.0, 1.0, 3).status == "zero_variance"
    harm = plan(looks=10, one_sided=True).judge(0.9, 0.35, 1.0, 8)
    assert harm.upper is None
    assert harm.alternative == "larger"
    assert made.judge(0.1, 0.35, 1.25, 10).method == "horizon"


@pytest.mark.parametrize("one_sided", [False, True])
def test_interval_of_a_series(one_sided):
    made = plan(looks=10, one_sided=one_sided)
    v = np.array([0.25, 1.25, 1.3])
    lower, upper = horizon.horizon_interval(made, 0.5, 0.1 / v, v)
    kind = "larger" if one_sided else "two-sided"
    far = mixture.confidence_sequence(0.5, 0.1 / v, v, made.rho2, 0.05, alternative=kind)
    assert (lower[:2] > far[0][:2]).all()
    assert lower[2] == far[0][2]
    assert (upper <= far[1]).all()
    single = made.judge(0.5, math.sqrt(0.1 / 0.25), 0.25, 2)
    assert single.lower == pytest.approx(lower[0])


def test_several_tunings():
    rho2 = mixture.tuning([0.1, 1.0], 0.05, one_sided=True)
    made = horizon.calibrate_horizon(1.25, rho2, 0.05, looks=10, one_sided=True)
    rate = horizon.crossing_rate(np.arange(1, 11) / 10 * 1.25, rho2, made.log_threshold, one_sided=True)
    assert rate == pytest.approx(0.05, abs=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda: horizon.calibrate_horizon(0.0, 1.0, 0.05, looks=5),
        lambda: horizon.calibrate_horizon(1.0, 1.0, 0.05, looks=0),
        lambda: horizon.calibrate_horizon(1.0, 1.0, 1.05, looks=5),
        lambda: horizon.calibrate_horizon(1.0, 1.0, 0.05, looks=2, fractions=[0.5]),
        lambda: horizon.calibrate_horizon(1.0, 1.0, 0.05, looks=2, fractions=[0.7, 0.5]),
        lambda: horizon.calibrate_horizon(1.0, 1.0, 0.05, looks=2, fractions=[0.7, 1.5]),
    ],
)
def test_bad_numbers_are_refused(call):
    with pytest.raises(InvalidInputError):
        call()
