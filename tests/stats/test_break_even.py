"""Break-even: Fieller against independent computations, and every case with its status."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from abtest.errors import InvalidInputError
from abtest.stats.break_even import BreakEven, break_even
from abtest.stats.lift import relative_lift
from abtest.stats.moments import Level

Z = float(stats.norm.ppf(0.975))


def inside(v: float, f: float, s: float, fe: float, se: float, cov: float, q: float) -> bool:
    """The definition itself: V is not rejected by the normal test of F - V s = 0."""
    return (f - v * s) ** 2 <= q * q * (fe * fe - 2 * v * cov + v * v * se * se)


def test_against_the_roots_of_the_test_statistic():
    # scipy's root finder on the z statistic, without the quadratic formula.
    f, s, fe, se, cov = 1500.0, 0.02, 180.0, 0.003, 0.1

    def z(v: float) -> float:
        return (f - v * s) / math.sqrt(fe**2 - 2 * v * cov + v**2 * se**2)

    low = optimize.brentq(lambda v: z(v) - Z, 1.0, f / s)
    high = optimize.brentq(lambda v: z(v) + Z, f / s, 1e7)
    found = break_even(f, s, se, fixed_error=fe, covariance=cov)
    assert found.status == "ok"
    assert found.value == pytest.approx(75_000)
    assert (found.lower, found.upper) == pytest.approx((low, high), rel=1e-10)


def test_against_the_fieller_interval_of_a_lift():
    # abtest.stats.lift inverts the same ratio by another route (its own quadratic, with unit control).
    n, f, s, fe, se = 200, 12.0, 4.0, 1.5, 0.6
    lift = relative_lift(Level(n, s, se**2 * n), Level(n, f, fe**2 * n), method="fieller", distribution="z")
    found = break_even(f, s, se, fixed_error=fe)
    assert found.lower == pytest.approx(lift.lower + 1, rel=1e-12)
    assert found.upper == pytest.approx(lift.upper + 1, rel=1e-12)


def test_a_ratio_of_two_means_by_a_profile_of_t_tests():
    # The ratio of two sample means by scipy: all V that a z-test of mean(x - V y) = 0 does not reject.
    rng = np.random.default_rng(3)
    x, y = rng.normal(50, 10, 400), rng.normal(2, 0.8, 400)
    x += 8 * y
    cov = np.cov(x, y) / 400

    def pvalue(v: float) -> float:
        d = x - v * y
        return 2 * float(special.ndtr(-abs(d.mean()) / math.sqrt(d.var(ddof=1) / 400)))

    middle = x.mean() / y.mean()
    low = optimize.brentq(lambda v: pvalue(v) - 0.05, middle * 0.5, middle)
    high = optimize.brentq(lambda v: pvalue(v) - 0.05, middle, middle * 2)
    found = break_even(
        x.mean(), y.mean(), math.sqrt(cov[1, 1]), fixed_error=math.sqrt(cov[0, 0]), covariance=float(cov[0, 1])
    )
    assert (found.lower, found.upper) == pytest.approx((low, high), rel=1e-9)


def test_a_known_cost_is_divided_by_the_interval_of_the_saving():
    found = break_even(1000.0, 0.01, 0.001)
    assert found.lower == pytest.approx(1000 / (0.01 + Z * 0.001), rel=1e-12)
    assert found.upper == pytest.approx(1000 / (0.01 - Z * 0.001), rel=1e-12)
    wider = break_even(1000.0, 0.01, 0.001, critical=3.0)
    assert wider.upper == pytest.approx(1000 / 0.007, rel=1e-12)
    assert wider.lower < found.lower


@pytest.mark.parametrize(
    ("fixed", "saving", "error", "status", "pays"),
    [
        (1000.0, 0.01, 0.001, "ok", {1e4: False, 1e5: None, 1e6: True}),
        (1000.0, 0.01, 0.02, "unbounded", {1e4: False, 1e9: None}),
        (1000.0, -0.01, 0.02, "unbounded", {1e4: False, 1e9: None}),
        (1000.0, -0.01, 0.001, "never", {1.0: False, 1e9: False}),
        (-1000.0, 0.01, 0.001, "always", {1.0: True, 1e9: True}),
        (0.0, 0.01, 0.001, "always", {1.0: True}),
        (0.0, -0.01, 0.001, "never", {1e9: False}),
        (0.0, 0.01, 0.1, "unknown", {1.0: None}),
        (-1000.0, -0.01, 0.001, "below", {1e4: True, 1e5: None, 1e6: False}),
        (-1000.0, 0.01, 0.1, "below", {1e3: True, 1e9: None}),
    ],
)
def test_every_case_has_its_status(fixed, saving, error, status, pays):
    found = break_even(fixed, saving, error)
    assert found.status == status
    assert {v: found.pays_at(v) for v in pays} == pays
    if status in ("never", "always", "unknown"):
        assert (found.value, found.lower, found.upper) == (None, None, None)
        assert found.note
    if status == "unbounded":
        assert found.upper is None
        assert found.lower == pytest.approx(fixed / (saving + Z * error))
        assert found.value == (pytest.approx(fixed / saving) if saving > 0 else None)


def test_what_is_not_known_is_no_number():
    assert break_even(10.0, None, None) == BreakEven(
        None, None, None, "unknown", 10.0, None, alpha=0.05, note="no saving is known"
    )
    assert break_even(0.0, 0.0, 0.0).status == "unknown"


@pytest.mark.parametrize(
    "arguments",
    [
        {"fixed": math.nan},
        {"saving": math.inf},
        {"saving_error": -1.0},
        {"fixed_error": -1.0},
        {"covariance": 1.0},
        {"critical": 0.0},
        {"alpha": 1.5},
    ],
)
def test_impossible_numbers_are_refused(arguments):
    with pytest.raises(InvalidInputError):
        break_even(**{"fixed": 10.0, "saving": 1.0, "saving_error": 0.1, **arguments})


numbers = st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-6)


@settings(max_examples=150, deadline=None)
@given(numbers, numbers, st.floats(1e-6, 1e4), st.floats(0, 1e4), st.floats(-0.99, 0.99), st.floats(0.5, 5))
def test_the_bounds_are_where_the_test_changes_its_mind(f, s, se, fe, rho, q):
    cov = rho * se * fe
    found = break_even(f, s, se, fixed_error=fe, covariance=cov, critical=q)
    assert found.lower is None or found.lower > 0
    for bound in (found.lower, found.upper):
        if bound is None or not 1e-6 < bound < 1e9:
            continue
        assume(
            abs((s * s - (q * se) ** 2) / (s * s + (q * se) ** 2)) > 1e-6
        )  # next to a bound at infinity floats cannot tell
        sides = {inside(bound * f_, f, s, fe, se, cov, q) for f_ in (1 - 1e-4, 1 + 1e-4)}
        assert sides == {True, False} or found.lower == pytest.approx(found.upper, rel=1e-3)
    if found.status == "ok" and found.lower and found.upper:
        assert inside(math.sqrt(found.lower * found.upper), f, s, fe, se, cov, q)
    if found.status == "never":
        assert f >= 0
        assert s <= 0


@settings(max_examples=50, deadline=None)
@given(st.floats(1, 1e5), st.floats(1e-3, 10), st.floats(1e-4, 1), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_units_do_not_matter(f, s, se, unit_f, unit_s):
    one, other = break_even(f, s, se), break_even(f * unit_f, s * unit_s, se * unit_s)
    assert one.status == other.status
    for a, b in ((one.lower, other.lower), (one.upper, other.upper)):
        assert (a is None) == (b is None)
        if a is not None and a < 1e7:
            assert b == pytest.approx(a * unit_f / unit_s, rel=1e-6)
