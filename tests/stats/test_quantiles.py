"""Histogram quantiles, order-statistic intervals with clusters, sequences for independent rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.errors import InvalidInputError
from abtest.stats.moments import Moments
from abtest.stats.quantiles import (
    clustered_share_variance,
    histogram_cdf,
    histogram_quantile,
    quantile_difference,
    quantile_interval,
    quantile_interval_clustered,
    quantile_interval_exact,
    quantile_sequence,
)

histograms = st.lists(st.tuples(st.integers(-2000, 4000), st.integers(0, 1000)), min_size=1, max_size=30)


def bucketed(values, resolution=200):
    return np.unique(np.floor(np.log(values) * resolution).astype(np.int64), return_counts=True)


def test_error_on_a_million_lognormal_rows():
    """Seed 1: below 5e-5 at p50 and p95, below 5e-4 at p99 and p99.9, where a bucket holds few rows itself."""
    values = np.random.default_rng(1).lognormal(6.0, 1.0, 1_000_000)
    buckets, counts = bucketed(values)
    for q, error in ((0.5, 5e-5), (0.95, 5e-5), (0.99, 5e-4), (0.999, 5e-4)):
        assert histogram_quantile(buckets, counts, q) == pytest.approx(np.quantile(values, q), rel=error)


def test_finer_buckets_are_as_good_as_the_rows():
    values = np.random.default_rng(2).lognormal(6.0, 1.0, 100_000)
    buckets, counts = bucketed(values, 20_000)
    assert histogram_quantile(buckets, counts, 0.99, 20_000) == pytest.approx(np.quantile(values, 0.99), rel=5e-5)


@settings(max_examples=80, deadline=None)
@given(histograms, st.floats(0.001, 0.999))
def test_cdf_is_the_inverse_of_the_quantile(rows, q):
    buckets, counts = [r[0] for r in rows], [r[1] for r in rows]
    value = histogram_quantile(buckets, counts, q)
    if sum(counts) == 0:
        assert value is None
        assert histogram_cdf(buckets, counts, 1.0) is None
    else:
        assert histogram_cdf(buckets, counts, value) == pytest.approx(q, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(histograms, st.floats(0.01, 0.99), st.integers(-500, 500))
def test_order_merging_and_scale(rows, q, shift):
    buckets, counts = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    value = histogram_quantile(buckets, counts, q)
    assert histogram_quantile(buckets[::-1], counts[::-1], q) == value
    twice = histogram_quantile(np.concatenate([buckets, buckets]), np.concatenate([counts, counts]), q)
    if value is not None:
        assert twice == pytest.approx(value)
        assert histogram_quantile(buckets + shift, counts, q) == pytest.approx(value * np.exp(shift / 200))


def test_quantiles_ascend_in_q():
    buckets, counts = bucketed(np.random.default_rng(3).lognormal(size=500))
    values = [histogram_quantile(buckets, counts, q) for q in np.linspace(0.01, 0.99, 99)]
    assert values == sorted(values)


def test_rows_without_a_logarithm_count_as_the_smallest():
    assert histogram_quantile([0], [50], 0.4, below=50) == 0.0
    assert histogram_quantile([0], [50], 0.75, below=50) == pytest.approx(np.exp(0.5 / 200))
    assert histogram_cdf([0], [50], 0.0, below=50) == 0.5
    assert histogram_cdf([0], [50], -1.0, below=50) == 0.0
    assert histogram_quantile([], [], 0.5, below=3) == 0.0
    assert histogram_cdf([3, 5], [1, 1], float("inf")) == 1.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: histogram_quantile([1], [1], 0.0),
        lambda: histogram_quantile([1], [-1], 0.5),
        lambda: histogram_quantile([1, 2], [1], 0.5),
        lambda: histogram_quantile([1.5], [1], 0.5),
        lambda: histogram_quantile([1], [1], 0.5, resolution=0),
        lambda: histogram_quantile([1], [1], 0.5, below=-1),
        lambda: histogram_cdf([1], [1], float("nan")),
        lambda: quantile_interval([1.0, np.nan], 0.5),
        lambda: quantile_interval([1.0, 2.0], 0.5, clusters=[1]),
        lambda: quantile_interval_exact([1.0, np.inf], 0.5),
        lambda: quantile_sequence([1.0], 0.5, tuned_at=0),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(InvalidInputError):
        call()


def clustered_rows(generator, users=150, rows=10, icc=0.5, shift=0.0):
    level = np.repeat(generator.normal(size=users) * np.sqrt(icc), rows)
    return np.exp(level + generator.normal(size=users * rows) * np.sqrt(1 - icc) + shift), np.repeat(
        np.arange(users), rows
    )


@pytest.mark.calibration
def test_clustered_interval_covers_where_rows_as_independent_do_not():
    """400 runs, seed 5, median of 150 users with 10 rows, ICC 0.5, nominal 95 %; row-wise about 60 %."""
    generator = np.random.default_rng(5)
    hits = np.zeros(2)
    for _ in range(400):
        values, users = clustered_rows(generator)
        for k, clusters in enumerate((users, None)):
            found = quantile_interval(values, 0.5, clusters=clusters)
            hits[k] += found.lower <= 1.0 <= found.upper
    assert hits[0] / 400 >= 0.92
    assert hits[1] / 400 <= 0.75


def test_histogram_and_rows_agree():
    values, users = clustered_rows(np.random.default_rng(6), users=400)
    exact = quantile_interval(values, 0.9, clusters=users)
    buckets, counts = bucketed(values)
    centre = histogram_quantile(buckets, counts, 0.9)
    units = Moments.from_arrays(np.bincount(users, weights=values <= centre), np.bincount(users).astype(float))
    found = quantile_interval_clustered(buckets, counts, 0.9, units)
    assert found.status == "ok"
    assert found.clusters == 400
    assert (found.value, found.lower, found.upper) == pytest.approx((exact.value, exact.lower, exact.upper), rel=0.02)
    assert found.share_se == pytest.approx(np.sqrt(clustered_share_variance(units)))


def test_too_few_rows_in_the_tail_is_insufficient():
    values = np.random.default_rng(7).lognormal(size=200)
    found = quantile_interval(values, 0.99)
    assert found.status == "insufficient"
    assert quantile_interval([], 0.5).status == "no_data"
    assert quantile_interval_clustered([], [], 0.5, Moments.empty(2)).status == "no_data"
    assert quantile_interval([1.0, 2.0], 0.5, clusters=[1, 1]).status == "insufficient"
    other = quantile_interval(np.random.default_rng(8).lognormal(size=200), 0.99)
    difference = quantile_difference(found, other)
    assert (difference.status, difference.pvalue) == ("insufficient", None)


def test_difference_of_quantiles():
    generator = np.random.default_rng(9)
    a, b = generator.normal(10.0, 1.0, 4000), generator.normal(10.4, 1.0, 4000)
    one, two = quantile_interval(a, 0.9), quantile_interval(b, 0.9)
    found, back = quantile_difference(one, two), quantile_difference(two, one)
    assert found.lower < 0.4 < found.upper
    assert found.value == pytest.approx(-back.value)
    assert found.pvalue == pytest.approx(back.pvalue)
    relative = quantile_difference(one, two, relative=True)
    assert relative.value == pytest.approx(found.value / one.value)
    same = quantile_interval(np.ones(500), 0.5)
    assert quantile_difference(same, same).status == "zero_variance"
    with pytest.raises(InvalidInputError, match="different quantiles"):
        quantile_difference(one, quantile_interval(a, 0.5))


def test_sequence_holds_at_every_look_and_narrows():
    """400 runs of 1,000 rows, 20 looks, seed 10, nominal 10 %: at most 10 % ever miss."""
    generator = np.random.default_rng(10)
    missed = 0
    for _ in range(400):
        values = generator.normal(size=1000)
        for n in range(50, 1001, 50):
            found = quantile_sequence(values[:n], 0.8, alpha=0.1, tuned_at=500)
            low = -np.inf if found.lower is None else found.lower
            high = np.inf if found.upper is None else found.upper
            if not low <= 0.8416212 <= high:
                missed += 1
                break
    assert missed / 400 <= 0.10
    assert found.upper - found.lower < 0.6


def test_sequence_with_few_rows_is_open_not_wrong():
    found = quantile_sequence([1.0, 2.0], 0.9)
    assert found.upper is None
    assert quantile_sequence([], 0.5).status == "no_data"
    ties = quantile_sequence(np.repeat([1.0, 2.0], 500), 0.75)
    assert ties.lower == ties.upper == 2.0
