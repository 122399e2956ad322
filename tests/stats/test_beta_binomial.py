import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from abtest.errors import InvalidInputError
from abtest.stats import beta_binomial as bb
from abtest.stats import numerics

calm = settings(deadline=None, max_examples=80)
trials = st.integers(0, 10**7).flatmap(lambda t: st.tuples(st.integers(0, t), st.just(t)))


def test_expectation_is_one_under_the_null():
    n, p = 40, 0.07
    s = np.arange(n + 1)
    chance = special.binom(n, s) * p**s * (1 - p) ** (n - s)
    assert chance @ np.exp(bb.log_e_beta_binomial(s, n, p)) == pytest.approx(1)
    # The same for sums of centred trials, two-sided and one-sided.
    g, h = p, 1 - p
    for one_sided in (False, True):
        log_e = bb.log_e_beta_mixture_sum(s - p * n, g * h * n, 2.0, g, h, one_sided=one_sided)
        assert chance @ np.exp(log_e) == pytest.approx(1)


@calm
@given(trials, st.floats(1e-6, 0.5), st.floats(1e-6, 0.5))
def test_intervals_hold_the_rate_and_grow_as_alpha_falls(pair, one, two):
    s, t = pair
    rate = s / t if t else 0.5
    for interval in (
        lambda a: bb.beta_binomial_interval(s, t, a),
        lambda a: bb.beta_binomial_interval(s, t, a, prior=(0.5, 20.0)),
    ):
        wide, narrow = (interval(a) for a in sorted((one, two)))
        assert 0 <= wide[0] <= narrow[0] + 1e-12
        assert narrow[1] <= wide[1] + 1e-12 <= 1 + 1e-12
    tuned = bb.bernoulli_interval(s, t, one, trials_star=1000)
    assert 0 <= tuned[0] <= rate <= tuned[1] <= 1


@calm
@given(trials)
def test_success_and_failure_mirror(pair):
    s, t = pair
    for interval in (
        lambda s: bb.beta_binomial_interval(s, t, 0.05),
        lambda s: bb.bernoulli_interval(s, t, 0.05, trials_star=100),
    ):
        low, high = interval(s)
        back = interval(t - s)
        np.testing.assert_allclose([1 - back[1], 1 - back[0]], [low, high], atol=1e-9)


def test_no_trials_is_no_knowledge():
    assert [float(x) for x in bb.beta_binomial_interval(0, 0, 0.05)] == [0, 1]
    assert [float(x) for x in bb.bernoulli_interval(0, 0, 0.05, trials_star=10)] == [0, 1]


def test_interval_is_the_test_inverted():
    low, high = bb.beta_binomial_interval([30, 3], [100, 100], 0.05)
    for edge in (low, high):
        np.testing.assert_allclose(bb.log_e_beta_binomial([30, 3], 100, edge), -math.log(0.05), rtol=1e-9)


def test_boundary_is_where_the_evidence_is_enough():
    for one_sided in (False, True):
        r = bb.beta_binomial_tuning(100, 0.05, 0.1, 0.9, one_sided=one_sided)
        v = np.array([5.0, 100.0, 1e4])
        edge = bb.beta_binomial_boundary(v, 0.05, r, 0.1, 0.9, one_sided=one_sided)
        log_e = bb.log_e_beta_mixture_sum(edge, v, r, 0.1, 0.9, one_sided=one_sided)
        np.testing.assert_allclose(log_e, -math.log(0.05), rtol=1e-9)
    assert bb.beta_binomial_boundary(0.0, 0.05, 1.0, 0.1, 0.9) == 0


def test_one_sided_sum_stays_honest_where_its_tail_underflows():
    v = 0.09 * 1e6
    log_e = bb.log_e_beta_mixture_sum([-1e5, -5e4, -1e3, 0.0], v, 2.0, 0.1, 0.9, one_sided=True)
    assert (log_e < 0).all()
    assert (np.diff(log_e) > 0).all()


def test_log_beta_tail_where_the_probability_underflows():
    for a, b, x in ((3.0, 4000.0, 0.2), (30.0, 900.0, 0.6), (0.5, 2000.0, 0.4), (1000.0, 1e6, 0.5)):
        t = x + (1 - x) * np.linspace(0, 1, 200_001)[:-1] ** 3
        logs = (a - 1) * np.log(t) + (b - 1) * np.log1p(-t) - special.betaln(a, b)
        exact = logs.max() + math.log(np.trapezoid(np.exp(logs - logs.max()), t))
        ours = float(numerics.log_beta_tail(np.array(a), np.array(b), np.array(x)))
        assert exact - 0.05 < ours < exact + 1e-6


def test_quantile_ranks():
    n = np.array([10, 100, 1000, 100_000])
    low, high = bb.quantile_ranks(n, 0.95, 0.05, n_star=1000)
    assert low[0] <= 9
    assert high[0] == 11  # no finite upper bound from ten rows
    assert (low <= 0.95 * n).all()
    assert (high >= 0.95 * n).all()
    assert high[-1] - low[-1] < 0.01 * n[-1]
    mirror_low, mirror_high = bb.quantile_ranks(n, 0.05, 0.05, n_star=1000)
    np.testing.assert_array_equal(mirror_low, n + 1 - high)
    np.testing.assert_array_equal(mirror_high, n + 1 - low)


def test_quantile_ranks_cover_at_every_look():
    # 1,000 series of 600 uniform rows, seed 5, looked at after every row; 5 % + 3 standard errors = 7.1 %.
    rng = np.random.default_rng(5)
    q, runs, rows = 0.9, 1000, 600
    below = np.cumsum(rng.random((runs, rows)) <= q, axis=1)
    low, high = bb.quantile_ranks(np.arange(1, rows + 1), q, 0.05, n_star=300)
    # The quantile lies at or above X_(k) when at least k rows are at or below it.
    missed = ((below < low) | (below >= high)).any(axis=1)
    assert missed.mean() < 0.071


def test_quantile_comparison():
    rng = np.random.default_rng(2)
    base, same = rng.exponential(size=400), rng.exponential(size=350)
    assert bb.log_e_quantile_ab(base, same, 0.5, n_star=400) < math.log(20)
    assert bb.log_e_quantile_ab(base, 2 * same, 0.5, n_star=400) > math.log(20)
    one = bb.log_e_quantile_ab(base, 1.5 * same, 0.8, n_star=400)
    assert bb.log_e_quantile_ab(1.5 * same, base, 0.8, n_star=400) == pytest.approx(one)
    assert bb.log_e_quantile_ab(np.log(base), np.log(1.5 * same), 0.8, n_star=400) == pytest.approx(one)


@pytest.mark.parametrize(
    "call",
    [
        lambda: bb.log_e_beta_binomial(3, 2, 0.1),
        lambda: bb.log_e_beta_binomial(1, 2, 0.0),
        lambda: bb.log_e_beta_binomial(1, 2, 0.5, prior=(0.0, 1.0)),
        lambda: bb.beta_binomial_interval(1, 2, 0.05, prior=(-1.0, 1.0)),
        lambda: bb.beta_binomial_interval(1, 2, 0.0),
        lambda: bb.bernoulli_interval(1, 2, 0.05, trials_star=0),
        lambda: bb.log_e_beta_mixture_sum(1.0, 1.0, 0.0, 0.1, 0.9),
        lambda: bb.quantile_ranks(10, 1.0, 0.05, n_star=10),
        lambda: bb.log_e_quantile_ab([], [1.0], 0.5, n_star=10),
        lambda: bb.log_e_quantile_ab([math.nan], [1.0], 0.5, n_star=10),
    ],
)
def test_bad_numbers_are_refused(call):
    with pytest.raises(InvalidInputError):
        call()
