"""Welch, ratio, CUPED, Lin, clustered means: invariances and answers when there is no number."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.errors import InvalidInputError
from abtest.stats.means import clustered_difference, compare_levels, lin_difference, mean_difference
from abtest.stats.moments import Columns, Level, Moments

samples = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30)
anything = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=0, max_size=12)


def numbers(estimate):
    return [
        v
        for v in (estimate.value, estimate.std_error, estimate.lower, estimate.upper, estimate.pvalue)
        if v is not None
    ]


@settings(max_examples=60, deadline=None)
@given(samples, samples)
def test_swapping_the_arms_flips_the_sign(a, b):
    one = mean_difference(Moments.from_arrays(a), Moments.from_arrays(b))
    two = mean_difference(Moments.from_arrays(b), Moments.from_arrays(a))
    assert one.value == pytest.approx(-two.value, abs=1e-9)
    assert one.status == two.status
    if one.status == "ok":
        assert (one.lower, one.upper) == pytest.approx((-two.upper, -two.lower), abs=1e-9)
        assert one.pvalue == pytest.approx(two.pvalue, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-1000, 1000), min_size=3, max_size=20),
    st.lists(st.integers(-1000, 1000), min_size=3, max_size=20),
    st.floats(0.01, 100.0),
    st.integers(-(10**6), 10**6),
)
def test_scale_and_shift(a, b, scale, shift):
    plain = mean_difference(Moments.from_arrays(a), Moments.from_arrays(b))
    moved = mean_difference(
        Moments.from_arrays(np.array(a) * scale + shift), Moments.from_arrays(np.array(b) * scale + shift)
    )
    if plain.status == "ok":
        assert moved.value == pytest.approx(plain.value * scale, abs=1e-7)
        assert moved.std_error == pytest.approx(plain.std_error * scale, rel=1e-6)
        assert moved.pvalue == pytest.approx(plain.pvalue, rel=1e-4, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(samples, samples, st.permutations(range(5)))
def test_smaller_alpha_gives_a_wider_interval(a, b, order):
    control, treatment = Moments.from_arrays(a), Moments.from_arrays(b)
    levels = sorted([0.2, 0.1, 0.05, 0.01, 0.001][k] for k in order)
    found = [mean_difference(control, treatment, alpha=x) for x in levels]
    if found[0].status == "ok":
        lower, upper = [e.lower for e in found], [e.upper for e in found]
        assert lower == sorted(lower)
        assert upper == sorted(upper, reverse=True)


@settings(max_examples=150, deadline=None)
@given(anything, anything, st.sampled_from(["two-sided", "larger", "smaller"]), st.booleans())
def test_any_finite_input_gives_numbers_or_a_status(a, b, alternative, equal):
    found = mean_difference(Moments.from_arrays(a), Moments.from_arrays(b), alternative=alternative, equal_var=equal)
    assert all(math.isfinite(v) for v in numbers(found))
    assert (found.pvalue is None) == (found.status != "ok")


extremes = st.sampled_from([0.0, 1.0, -1.0, 1e-300, 5e-324, 1e150, -1e300, 1.7e308, 1e8, 0.1])
columns = st.sampled_from([Columns(0, 1), Columns(0, None, 2), Columns(0, 1, 2), Columns(0, 1, 2, 1)])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(extremes, extremes, extremes), min_size=2, max_size=5),
    st.lists(st.tuples(extremes, extremes, extremes), min_size=2, max_size=5),
    columns,
    st.sampled_from(["pooled", "per_arm"]),
)
def test_ratios_and_cuped_at_the_ends_of_the_floats(a, b, chosen, adjustment):
    found = mean_difference(
        Moments.from_arrays(*zip(*a, strict=True)),
        Moments.from_arrays(*zip(*b, strict=True)),
        chosen,
        adjustment=adjustment,
    )
    assert all(math.isfinite(v) for v in numbers(found))
    assert (found.pvalue is None) == (found.status != "ok")
    rows = lin_difference(([r[0] for r in a], [r[1] for r in a]), ([r[0] for r in b], [r[1] for r in b]))
    assert all(math.isfinite(v) for v in numbers(rows))


def test_difference_at_a_mean_of_1e8_standard_deviations():
    generator = np.random.default_rng(5)
    a, b = (np.round(generator.normal(s, 1, 1000) * 2**20) / 2**20 for s in (0.0, 0.3))
    plain = mean_difference(Moments.from_arrays(a), Moments.from_arrays(b))
    far = mean_difference(Moments.from_arrays(a + 1e8), Moments.from_arrays(b + 1e8))
    for name in ("value", "std_error", "lower", "upper"):
        assert getattr(far, name) == pytest.approx(getattr(plain, name), rel=1e-9)


def test_one_sided_bounds_leave_the_other_side_open():
    a, b = Moments.from_arrays([1.0, 2.0, 3.0]), Moments.from_arrays([2.0, 3.0, 5.0])
    larger, smaller = (mean_difference(a, b, alternative=s) for s in ("larger", "smaller"))
    assert larger.upper is None
    assert larger.lower < larger.value
    assert smaller.lower is None
    assert smaller.upper > smaller.value
    assert larger.pvalue + smaller.pvalue == pytest.approx(1.0)


def test_interval_and_pvalue_agree():
    generator = np.random.default_rng(6)
    a, b = Moments.from_arrays(generator.normal(size=40)), Moments.from_arrays(generator.normal(0.7, 2, size=25))
    found = mean_difference(a, b)
    edge = mean_difference(a, b, null=found.lower)
    assert edge.pvalue == pytest.approx(0.05, rel=1e-9)


def test_empty_and_single_arms_are_insufficient():
    some = Moments.from_arrays([1.0, 2.0])
    for other in (Moments.empty(), Moments.from_arrays([1.0])):
        found = mean_difference(some, other)
        assert found.status == "insufficient"
        assert found.value is None
        assert found.pvalue is None


def test_zero_variance_in_one_arm_is_no_obstacle():
    found = mean_difference(Moments.from_arrays([0.0] * 100), Moments.from_arrays([1.0] * 30 + [0.0] * 70))
    assert found.status == "ok"
    assert found.details["df"] == pytest.approx(99.0)
    assert found.pvalue < 1e-6


def test_weight_tests_a_relative_margin_without_dividing():
    control, treatment = Level(100, 10.0, 4.0), Level(100, 11.0, 5.0)
    found = compare_levels(control, treatment, weight=1.1)
    assert found.value == pytest.approx(0.0)
    assert found.std_error == pytest.approx(math.sqrt(0.05 + 1.21 * 0.04))


def test_clustered_rows_have_wider_intervals():
    generator = np.random.default_rng(8)
    users = np.repeat(np.arange(200), 10)
    level = np.repeat(generator.normal(size=200), 10)
    values = level + generator.normal(size=2000)
    half = users < 100
    found = clustered_difference((values[half], users[half]), (values[~half], users[~half]))
    naive = mean_difference(Moments.from_arrays(values[half]), Moments.from_arrays(values[~half]))
    assert found.value == pytest.approx(naive.value)
    assert found.std_error > 1.8 * naive.std_error
    assert found.method == "delta_welch"


def test_cuped_reduces_variance_and_names_its_theta():
    generator = np.random.default_rng(9)
    arms = []
    for shift in (0.0, 0.2):
        x = generator.normal(size=500)
        arms.append(Moments.from_arrays(0.8 * x + shift + generator.normal(scale=0.6, size=500), x))
    plain, adjusted = mean_difference(*arms), mean_difference(*arms, Columns(0, None, 1))
    assert adjusted.std_error < 0.75 * plain.std_error
    assert adjusted.details["theta_control"] == pytest.approx(0.8, abs=0.1)
    assert adjusted.method == "cuped_welch"
    constant = [Moments.from_arrays([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])] * 2
    assert mean_difference(*constant, Columns(0, None, 1)).method == "welch"


def test_lin_needs_three_units_and_a_covariate_that_varies():
    few = ([1.0, 2.0], [1.0, 2.0])
    assert lin_difference(few, few).status == "insufficient"
    flat = ([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    assert lin_difference(flat, flat).status == "zero_variance"


@pytest.mark.parametrize("kwargs", [{"alpha": 0.0}, {"alpha": 1.0}, {"alternative": "greater"}, {"adjustment": "none"}])
def test_bad_arguments_are_refused(kwargs):
    some = Moments.from_arrays([1.0, 2.0])
    with pytest.raises(InvalidInputError):
        mean_difference(some, some, **kwargs)
