import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.errors import InvalidInputError
from abtest.stats import betting, mixture

calm = settings(deadline=None, max_examples=25)
histograms = st.lists(st.integers(0, 500), min_size=5, max_size=5)
VALUES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])


def test_grid_of_the_page():
    bets = betting.bet_grid(1000, 0.25, 0.05, 1.0)
    sigma = math.sqrt(float(mixture.tuning(250.0, 0.05)))
    np.testing.assert_allclose(bets.lambdas, np.arange(-6, 7) * sigma / 2)
    weights = np.exp(bets.log_weights)
    assert weights.sum() == pytest.approx(1)
    assert weights[6] / weights[4] == pytest.approx(math.exp(0.5))
    assert (np.abs(betting.bet_grid(3, 0.25, 0.05, 2.0).lambdas) <= 0.45).all()
    assert (betting.bet_grid(3, 0.25, 0.05, 2.0, alternative="larger").lambdas > 0).all()
    assert (betting.bet_grid(3, 0.25, 0.05, 2.0, alternative="smaller").lambdas < 0).all()


def test_wealth_has_mean_one_under_the_null():
    # Every outcome of five fair draws from a skewed score with mean 0, weighted by its probability.
    chance = np.array([0.3, 0.5, 0.2])
    g = np.array([-0.5, 0.1, 1.0])
    g = g - g @ chance
    bets = betting.bet_grid(5, 0.3, 0.05, 1.3)
    mean = 0.0
    for draw in itertools.product(range(3), repeat=5):
        counts = np.bincount(draw, minlength=3)
        mean += np.prod(chance[list(draw)]) * math.exp(bets.log_e(betting.log_wealth(g, counts, bets)))
    assert mean == pytest.approx(1)


def test_batches_add_up_and_order_does_not_matter():
    bets = betting.bet_grid(100, 0.1, 0.05, 1.0)
    batches = np.array([[1, 2, 3, 4, 5], [5, 0, 0, 1, 2]])
    apart = betting.log_wealth(VALUES, batches, bets, shift=0.5)
    np.testing.assert_allclose(apart.sum(axis=0), betting.log_wealth(VALUES, batches.sum(axis=0), bets, shift=0.5))
    back = betting.log_wealth(VALUES[::-1], batches[0, ::-1], bets, shift=0.5)
    np.testing.assert_allclose(back, apart[0], rtol=1e-12, atol=1e-12)


def test_randomised_scores():
    treated, controls = betting.randomised_scores([0.0, 1.0], 0.2, 0.5)
    assert treated.tolist() == pytest.approx([-2.5, 2.5])
    assert controls.tolist() == pytest.approx([0.625, -0.625])
    assert betting.randomised_bound(0.0, 1.0, 0.2, 0.5, margin=-0.1) == pytest.approx(2.6)
    bets = betting.bet_grid(1000, 1.5, 0.05, 2.6, alternative="larger")
    equal = betting.log_wealth_randomised([0.0, 1.0], [80, 20], [320, 80], bets, share=0.2, center=0.2)
    worse = betting.log_wealth_randomised([0.0, 1.0], [60, 40], [320, 80], bets, share=0.2, center=0.2)
    past = betting.log_wealth_randomised([0.0, 1.0], [60, 40], [320, 80], bets, share=0.2, center=0.2, margin=0.1)
    assert bets.log_e(equal) < 0 < bets.log_e(past) < bets.log_e(worse)


@calm
@given(histograms, st.floats(0.001, 0.4), st.floats(0.001, 0.4))
def test_interval_holds_the_mean_and_grows_as_alpha_falls(counts, one, two):
    wide, narrow = (
        betting.betting_interval(VALUES, counts, a, lower=0, upper=1, n_star=300, variance=0.1)
        for a in sorted((one, two))
    )
    n = sum(counts)
    mean = VALUES @ counts / n if n else 0.5
    assert 0 <= wide[0] <= mean <= wide[1] <= 1
    # The bets are tuned at their own alpha, so that only a rough order holds near the tuning.
    if n > 50:
        assert wide[0] <= narrow[0] + 0.02
        assert wide[1] >= narrow[1] - 0.02


@calm
@given(histograms)
def test_interval_mirrors(counts):
    plan = {"lower": 0.0, "upper": 1.0, "n_star": 300, "variance": 0.1}
    low, high = betting.betting_interval(VALUES, counts, 0.05, **plan)
    back = betting.betting_interval(1 - VALUES, counts, 0.05, **plan)
    assert (1 - back[1], 1 - back[0]) == pytest.approx((low, high), abs=1e-9)


@calm
@given(histograms, st.floats(1e-3, 1e3))
def test_units_do_not_matter(counts, unit):
    plain = betting.betting_interval(VALUES, counts, 0.05, lower=0, upper=1, n_star=300, variance=0.1)
    scaled = betting.betting_interval(
        VALUES * unit, counts, 0.05, lower=0, upper=unit, n_star=300, variance=0.1 * unit**2
    )
    assert scaled == pytest.approx((plain[0] * unit, plain[1] * unit), rel=1e-7, abs=1e-9 * unit)


def test_one_sided_interval_keeps_the_other_bound():
    plan = {"lower": 0.0, "upper": 1.0, "n_star": 300, "variance": 0.1}
    low = betting.betting_interval(VALUES, [10, 20, 40, 80, 60], 0.05, alternative="larger", **plan)
    high = betting.betting_interval(VALUES, [10, 20, 40, 80, 60], 0.05, alternative="smaller", **plan)
    both = betting.betting_interval(VALUES, [10, 20, 40, 80, 60], 0.05, **plan)
    assert low[1] == 1
    assert high[0] == 0
    assert both[0] < low[0]
    assert both[1] > high[1]


def test_hedged_wealth_is_large_away_from_the_mean():
    x = np.tile([0.2, 0.4, 0.3], 100)
    assert betting.hedged_log_wealth(x, 0.3, 0.05)[-1] < math.log(20)
    assert betting.hedged_log_wealth(x, 0.6, 0.05)[-1] > math.log(20)
    lower, upper = betting.hedged_interval(x, 0.05, breaks=200)
    assert lower[-1] < 0.3 < upper[-1]
    assert (np.diff(lower) >= 0).all()
    assert betting.plug_in_bets([], 0.05).size == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda: betting.bet_grid(0, 1, 0.05, 1),
        lambda: betting.bet_grid(10, 0, 0.05, 1),
        lambda: betting.bet_grid(10, 1, 0.05, 0),
        lambda: betting.bet_grid(10, 1, 0.05, 1, alternative="up"),
        lambda: betting.log_wealth([9.0], [1], betting.bet_grid(2, 0.1, 0.05, 1.0)),
        lambda: betting.log_wealth([0.1], [-1], betting.bet_grid(2, 0.1, 0.05, 1.0)),
        lambda: betting.log_wealth([0.1, 0.2], [1], betting.bet_grid(2, 0.1, 0.05, 1.0)),
        lambda: betting.log_wealth([math.nan], [1], betting.bet_grid(2, 0.1, 0.05, 1.0)),
        lambda: betting.randomised_scores([1.0], 1.0, 0.0),
        lambda: betting.randomised_bound(1.0, 0.0, 0.5, 0.0),
        lambda: betting.betting_interval([2.0], [1], 0.05, lower=0, upper=1, n_star=9, variance=0.1),
        lambda: betting.betting_interval([0.5], [1], 0.05, lower=0, upper=1, n_star=9, variance=0.1, alternative="up"),
        lambda: betting.plug_in_bets([2.0], 0.05),
        lambda: betting.hedged_log_wealth([0.5], 1.0, 0.05),
    ],
)
def test_bad_numbers_are_refused(call):
    with pytest.raises(InvalidInputError):
        call()
