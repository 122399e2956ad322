import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from abtest.errors import InvalidInputError
from abtest.stats import rate_ratio as rr

counts = st.integers(0, 10**6)
shares = st.floats(0.001, 0.999)
calm = settings(deadline=None, max_examples=100)


def test_one_batch_by_hand():
    q, r = 0.1, 4.0
    theta = q * r / (q * r + 1 - q)
    by_hand = 3 * math.log(theta / q) + 7 * math.log((1 - theta) / (1 - q))
    assert rr.log_e_rate_ratio(3, 7, q, ratios=[r]) == pytest.approx(by_hand)
    mixed = np.log(0.25 * np.exp(by_hand) + 0.75 * np.exp(rr.log_e_rate_ratio(3, 7, q, ratios=[2.0])))
    assert rr.log_e_rate_ratio(3, 7, q, ratios=[4.0, 2.0], weights=[1, 3]) == pytest.approx(mixed)


def test_expectation_is_one_under_the_null():
    # Every split of n events, weighted by its probability: exactly 1 for any share and any grid.
    n, q = 25, 0.13
    x = np.arange(n + 1)
    chance = special.binom(n, x) * q**x * (1 - q) ** (n - x)
    log_e = [rr.log_e_rate_ratio(k, n - k, q) for k in x]
    assert chance @ np.exp(log_e) == pytest.approx(1)
    beta = rr.log_e_beta_mixture(x, n - x, q)
    both = rr.log_e_beta_mixture(x, n - x, q, alternative="two-sided")
    assert chance @ np.exp(both) == pytest.approx(1)
    assert chance @ np.exp(beta) <= 1 + 1e-12


def test_points_margin_expectation_is_at_most_one_at_the_margin():
    # One trial: treatment with probability q, events at rates p_C + m and p_C <= ceiling.
    q, margin, ceiling = 0.2, 0.02, 0.1
    for p in (0.0, 0.04, 0.1):
        outcomes = [((1, 0, 0), q * (p + margin)), ((0, 0, 0), q * (1 - p - margin))]
        outcomes += [((0, 1, 1), (1 - q) * p), ((0, 0, 1), (1 - q) * (1 - p))]
        mean = sum(
            chance * math.exp(rr.log_e_points_margin([t], [c], [n], q, margin, ceiling)[-1])
            for (t, c, n), chance in outcomes
        )
        assert mean <= 1 + 1e-12
        if p == ceiling:
            assert mean == pytest.approx(1)


def test_batches_with_their_own_shares_multiply():
    path = rr.log_e_rate_ratio_path([1, 2, 3], [4, 0, 1], [0.1, 0.2, 0.5], ratios=[3.0])
    alone = [rr.log_e_rate_ratio(t, c, q, ratios=[3.0]) for t, c, q in ((1, 4, 0.1), (2, 0, 0.2), (3, 1, 0.5))]
    np.testing.assert_allclose(path, np.cumsum(alone))
    many = rr.log_e_rate_ratio_path(np.ones((4, 3)), np.zeros((4, 3)), 0.1)
    assert many.shape == (4, 3)


def test_batches_without_share_or_events_contribute_nothing():
    base = rr.log_e_rate_ratio([5], [2], [0.1])
    assert rr.log_e_rate_ratio([9, 5, 9, 9, 0], [9, 2, 9, 9, 0], [0.0, 0.1, 1.0, math.nan, 0.3]) == pytest.approx(base)
    assert rr.log_e_rate_ratio([], [], 0.1) == 0
    assert rr.log_e_points_margin([1], [1], [5], math.nan, 0.01, 0.1)[-1] == pytest.approx(0)


@calm
@given(counts, counts, shares)
def test_never_nan_and_grows_with_treatment_events(x_t, x_c, q):
    log_e = rr.log_e_rate_ratio(x_t, x_c, q)
    more = rr.log_e_rate_ratio(x_t + 1, x_c, q)
    assert math.isfinite(log_e)
    assert more > log_e - 1e-9 * abs(log_e)
    assert rr.log_e_rate_ratio(x_t, x_c + 1, q) < log_e + 1e-9 * abs(log_e)
    for alternative in ("two-sided", "larger"):
        assert np.isfinite(rr.log_e_beta_mixture(x_t, x_c, q, alternative=alternative))


@calm
@given(st.integers(0, 300), st.integers(0, 300), shares)
def test_swapping_the_arms_mirrors_the_answer(x_t, x_c, q):
    ours = rr.rate_ratio(x_t, x_c, q, 0.05, alternative="two-sided")
    mirror = rr.rate_ratio(x_c, x_t, 1 - q, 0.05, alternative="two-sided")
    if ours.log_e_value is None:
        assert x_t + x_c == 0
        return
    assert ours.log_e_value == pytest.approx(mirror.log_e_value, rel=1e-6, abs=1e-6)
    if ours.lower and mirror.upper:
        assert ours.lower == pytest.approx(1 / mirror.upper, rel=1e-6)


def test_interval_inverts_the_test():
    found = rr.rate_ratio([30, 10], [60, 20], [0.1, 0.2], 0.05)
    assert found.status == "ok"
    assert 1 < found.lower < found.value
    assert found.upper is None
    assert found.pvalue < 0.05
    wider = rr.rate_ratio([30, 10], [60, 20], [0.1, 0.2], 0.001)
    assert wider.lower < found.lower
    none = rr.rate_ratio([3], [27], [0.1], 0.05, alternative="smaller")
    assert none.lower is None
    assert none.value == pytest.approx(1)
    assert none.upper > 1


def test_zero_events():
    no_control = rr.rate_ratio(9, 0, 0.1, 0.05, alternative="two-sided")
    assert no_control.value is None
    assert no_control.lower > 5
    assert no_control.upper is None
    no_treatment = rr.rate_ratio(0, 40, 0.5, 0.05, alternative="two-sided")
    assert no_treatment.value == 0
    assert no_treatment.lower == 0
    assert no_treatment.upper < 0.5
    nothing = rr.rate_ratio(0, 0, 0.5, 0.05)
    assert (nothing.status, nothing.pvalue, nothing.lower) == ("no_data", None, None)
    unknown = rr.rate_ratio(5, 5, math.nan, 0.05)
    assert (unknown.status, unknown.pvalue) == ("no_share", None)


def test_points_margin_needs_more_than_the_margin():
    n = np.full(20, 90.0)
    safe = rr.log_e_points_margin(np.full(20, 0.2), np.full(20, 0.9), n, 0.1, 0.01, 0.05)
    harm = rr.log_e_points_margin(np.full(20, 1.0), np.full(20, 0.9), n, 0.1, 0.01, 0.05)
    assert safe[-1] < 0
    assert harm[-1] > math.log(100)
    assert harm.shape == (20,)
    no_margin = rr.log_e_points_margin([5.0], [10.0], [90.0], 0.1, 0.0, 0.5)
    assert no_margin[-1] == pytest.approx(rr.log_e_rate_ratio(5, 10, 0.1))


@pytest.mark.parametrize(
    "call",
    [
        lambda: rr.log_e_rate_ratio(-1, 0, 0.1),
        lambda: rr.log_e_rate_ratio(math.nan, 0, 0.1),
        lambda: rr.log_e_rate_ratio(1, 0, 0.1, ratios=[]),
        lambda: rr.log_e_rate_ratio(1, 0, 0.1, ratios=[-2.0]),
        lambda: rr.log_e_rate_ratio(1, 0, 0.1, weights=[1.0]),
        lambda: rr.log_e_rate_ratio(np.ones((2, 2)), 0, 0.1),
        lambda: rr.rate_ratio(1, 1, 0.1, 2.0),
        lambda: rr.rate_ratio(1, 1, 0.1, 0.05, alternative="up"),
        lambda: rr.rate_ratio(1, 1, 0.1, 0.05, ratios=[0.5]),
        lambda: rr.log_e_beta_mixture(1, 1, 0.1, concentration=0),
        lambda: rr.log_e_beta_mixture(1, 1, 0.1, alternative="smaller"),
        lambda: rr.log_e_points_margin([1], [9], [5], 0.1, 0.01, 0.1),
        lambda: rr.log_e_points_margin([1], [1], [5], 0.1, 0.5, 0.6),
        lambda: rr.log_e_points_margin([1], [1], [5], 0.1, 0.01, 0.1, ratios=[0.5]),
    ],
)
def test_bad_numbers_are_refused(call):
    with pytest.raises(InvalidInputError):
        call()


def test_beta_mixture_stays_honest_where_its_tail_underflows():
    # Millions of events the other way: the plain mixture is sure of a difference, the one-sided one is not.
    both = rr.log_e_beta_mixture(1000, 10**6, 0.5, alternative="two-sided")
    larger = rr.log_e_beta_mixture([0, 10, 1000, 10**5], 10**6, 0.5)
    assert both > 1e5
    assert (larger < -10).all()
    assert (np.diff(larger) > -1e-6).all()  # rounding of terms near 1e6


def test_default_grid_is_frozen():
    assert rr.DEFAULT_RATIOS[0] == pytest.approx(1.5)
    assert rr.DEFAULT_RATIOS[-1] == pytest.approx(50)
    with pytest.raises(ValueError):
        rr.DEFAULT_RATIOS[0] = 1.0
