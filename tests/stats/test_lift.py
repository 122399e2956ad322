"""Relative lift: signs, coverage near a zero baseline, Fieller."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.stats.lift import relative_lift
from abtest.stats.moments import Level


def test_sign_follows_the_difference_for_negative_baselines():
    for c, t in ((-10.0, -8.0), (10.0, 12.0)):
        for method in ("log", "fieller", "delta"):
            found = relative_lift(Level(1000, c, 4.0), Level(1000, t, 4.0), method=method)
            assert found.value == pytest.approx(0.2)
            assert 0.1 < found.lower < 0.2 < found.upper < 0.3


def test_methods_agree_far_from_zero():
    c, t = Level(100_000, 10.0, 4.0), Level(100_000, 10.5, 4.0)
    found = [relative_lift(c, t, method=m) for m in ("log", "fieller", "delta")]
    for other in found[1:]:
        assert (other.lower, other.upper) == pytest.approx((found[0].lower, found[0].upper), abs=2e-5)


def test_auto_turns_to_fieller_near_zero_and_when_signs_differ():
    near = relative_lift(Level(100, 0.2, 1.0), Level(100, 0.5, 1.0))
    assert near.method == "lift_fieller"
    opposite = relative_lift(Level(100, 1.0, 1.0), Level(100, -0.5, 1.0))
    assert opposite.method == "lift_fieller"
    assert opposite.upper < -1.0
    assert relative_lift(Level(100, 5.0, 1.0), Level(100, 5.5, 1.0)).method == "lift_log"


def test_unbounded_interval_is_none_not_a_number():
    found = relative_lift(Level(100, 0.05, 1.0), Level(100, 0.5, 1.0), method="fieller")
    assert (found.lower, found.upper) == (None, None)
    assert found.value is not None
    assert "unbounded" in found.note


def test_zero_baseline_has_a_status():
    found = relative_lift(Level(100, 0.0, 1.0), Level(100, 0.5, 1.0))
    assert (found.status, found.value, found.pvalue) == ("zero_baseline", None, None)


def test_fieller_inverts_the_test_of_the_contrast():
    c, t = Level(50, 3.0, 4.0), Level(60, 4.0, 6.0)
    found = relative_lift(c, t, method="fieller", distribution="z")
    for bound in (found.lower, found.upper):
        w = 1.0 + bound
        z = (t.value - w * c.value) / math.sqrt(t.se2 + w * w * c.se2)
        assert abs(z) == pytest.approx(1.959963984540054)


@settings(max_examples=150, deadline=None)
@given(
    st.floats(-1e6, 1e6),
    st.floats(-1e6, 1e6),
    st.floats(0.0, 1e9),
    st.floats(0.0, 1e9),
    st.sampled_from(["auto", "log", "fieller", "delta"]),
)
def test_any_finite_input(c, t, vc, vt, method):
    found = relative_lift(Level(20, c, vc), Level(30, t, vt), method=method)
    for v in (found.value, found.lower, found.upper, found.pvalue):
        assert v is None or math.isfinite(v)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1.0, -1.0, 1e-300, 5e-324, 1e150, -1e300, 1.7e308, 0.1]), min_size=2, max_size=2),
    st.lists(st.sampled_from([0.0, 1.0, 1e-300, 5e-324, 1e-160, 1e300]), min_size=2, max_size=2),
    st.sampled_from(["auto", "log", "fieller", "delta"]),
)
def test_the_ends_of_the_floats(values, variances, method):
    arms = [Level(20, m, v) for m, v in zip(values, variances, strict=True)]
    found = relative_lift(*arms, method=method)
    for v in (found.value, found.std_error, found.lower, found.upper, found.pvalue):
        assert v is None or math.isfinite(v)


def test_log_interval_covers():
    """2,000 runs, seed 11, nominal 95 %: between 94 % and 96.5 %."""
    generator = np.random.default_rng(11)
    inside = 0
    for _ in range(2000):
        a, b = generator.exponential(2.0, 80), generator.exponential(3.0, 90)
        arms = [Level(x.size, float(x.mean()), float(x.var(ddof=1))) for x in (a, b)]
        found = relative_lift(*arms)
        inside += found.lower <= 0.5 <= found.upper
    assert 0.94 <= inside / 2000 <= 0.965
