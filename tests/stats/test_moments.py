"""Moments merge exactly and survive large means; one formula for mean, ratio, proportion, CUPED."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.errors import InvalidInputError
from abtest.stats.moments import Columns, Moments, covariate_level, cuped_theta, level

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)
rows = st.lists(st.tuples(numbers, numbers), min_size=0, max_size=20)


def of(data):
    return Moments.from_arrays([r[0] for r in data], [r[1] for r in data])


def same(a, b, scale=1e12):
    assert a.n == b.n
    assert a.mean + a.tail == pytest.approx(b.mean + b.tail, rel=1e-12, abs=1e-9)
    assert a.comoment == pytest.approx(b.comoment, rel=1e-9, abs=1e-9 * scale * 1e-6)


@settings(max_examples=80, deadline=None)
@given(rows, rows, rows)
def test_merge_is_associative_commutative_and_equals_the_whole(a, b, c):
    left, right = (of(a) + of(b)) + of(c), of(a) + (of(b) + of(c))
    same(left, right)
    same(left, of(c) + of(b) + of(a))
    same(left, of(a + b + c))


@settings(max_examples=50, deadline=None)
@given(rows)
def test_order_does_not_matter(data):
    same(of(data), of(data[::-1]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-(10**9), 10**9), min_size=2, max_size=30), st.integers(-(10**14), 10**14))
def test_integer_sums_are_exact_at_any_offset(values, offset):
    def exact(v):
        return Moments.from_integer_sums(len(v), [sum(v)], [[sum(x * x for x in v)]])

    plain, moved = exact(values), exact([v + offset for v in values])
    assert moved.variance() == plain.variance()
    n = len(values)
    wanted = sum((Fraction(v) - Fraction(sum(values), n)) ** 2 for v in values) / (n - 1)
    assert plain.variance() == pytest.approx(float(wanted), rel=1e-15)
    assert Fraction(float(moved.mean[0])) + Fraction(float(moved.tail[0])) == pytest.approx(
        Fraction(sum(values), n) + offset, rel=1e-30
    )


def test_stable_at_a_mean_of_1e8_standard_deviations():
    generator = np.random.default_rng(3)
    noise = np.round(generator.normal(size=(20, 500)) * 2**20) / 2**20  # exact after adding 1e8
    shifts = np.linspace(-1.0, 1.0, 20).round(3)
    parts = [np.round((part + s) * 2**20) / 2**20 for part, s in zip(noise, shifts, strict=True)]
    merged = sum((Moments.from_arrays(p + 1e8) for p in parts), Moments.empty())
    whole = np.concatenate(parts)
    exact = [Fraction(float(x)) for x in whole]
    mean = sum(exact) / len(exact)
    variance = float(sum((x - mean) ** 2 for x in exact) / (len(exact) - 1))
    assert merged.variance() == pytest.approx(variance, rel=1e-9)
    assert float(merged.mean[0]) - 1e8 + float(merged.tail[0]) == pytest.approx(float(mean), rel=1e-9)


def test_scales_turn_fixed_point_into_units():
    m = Moments.from_integer_sums(3, [6_000_000, 12], [[14 * 10**12, 28 * 10**6], [28 * 10**6, 56]], [10**6, 1])
    assert m.mean == pytest.approx([2.0, 4.0])
    assert m.comoment == pytest.approx(np.array([[2.0, 4.0], [4.0, 8.0]]))


def test_sums_around_an_offset():
    x = np.array([1e9, 1e9 + 1, 1e9 + 4])
    d = x - 1e9
    m = Moments.from_sums(3, [d.sum()], [[d @ d]], offset=[1e9])
    assert m.variance() == pytest.approx(np.var(d, ddof=1), rel=1e-15)
    assert m.mean[0] == pytest.approx(x.mean(), rel=1e-15)


def test_a_mean_is_a_ratio_with_denominator_one():
    generator = np.random.default_rng(1)
    x, ones = generator.exponential(size=50), np.ones(50)
    mean, ratio = level(Moments.from_arrays(x)), level(Moments.from_arrays(x, ones), Columns(0, 1))
    assert (ratio.value, ratio.variance) == pytest.approx((mean.value, mean.variance), rel=1e-13)


def test_ratio_variance_is_the_delta_method():
    generator = np.random.default_rng(2)
    y = generator.integers(1, 9, 200).astype(float)
    x = y * 0.3 + generator.normal(size=200)
    found = level(Moments.from_arrays(x, y), Columns(0, 1))
    r = x.sum() / y.sum()
    assert found.value == pytest.approx(r)
    assert found.variance == pytest.approx(np.var((x - r * y) / y.mean(), ddof=1))


def test_cuped_is_the_residual_variance():
    generator = np.random.default_rng(4)
    x = generator.normal(size=300)
    y = 2.0 * x + generator.normal(size=300)
    m = Moments.from_arrays(y, x)
    theta = cuped_theta([m], Columns(0, None, 1))
    found = level(m, Columns(0, None, 1), theta=theta, centre=covariate_level(m, Columns(0, None, 1)))
    assert found.value == pytest.approx(y.mean())
    assert found.variance == pytest.approx(np.var(y - theta * x, ddof=1))
    assert found.variance < np.var(y, ddof=1)


def test_cuped_without_variation_has_no_theta():
    m = Moments.from_arrays([1.0, 2.0, 3.0], [5.0, 5.0, 5.0])
    assert cuped_theta([m], Columns(0, None, 1)) is None


def test_too_little_is_none():
    assert level(Moments.from_arrays([1.0])) is None
    assert level(Moments.empty()) is None
    assert Moments.from_arrays([1.0]).variance() is None
    assert level(Moments.from_arrays([1.0, 2.0], [1.0, -1.0]), Columns(0, 1)) is None


def test_select_keeps_the_pairs():
    m = Moments.from_arrays([1.0, 2.0, 4.0], [3.0, 1.0, 2.0], [0.0, 0.0, 1.0])
    assert m.select(2, 0).covariance(0, 1) == m.covariance(2, 0)


def test_moments_cannot_be_changed():
    m = Moments.from_arrays([1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        m.mean[0] = 5.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: Moments.from_arrays([1.0, np.nan]),
        lambda: Moments.from_arrays([1.0], [1.0, 2.0]),
        lambda: Moments.from_sums(5, [100.0], [[1.0]]),
        lambda: Moments.from_integer_sums(2, [1, 2], [[1]]),
        lambda: Moments.empty(1) + Moments.empty(2),
        lambda: cuped_theta([Moments.empty()], Columns(0)),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(InvalidInputError):
        call()
