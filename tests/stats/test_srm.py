import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from abtest.errors import InvalidInputError
from abtest.stats import srm

counts = st.lists(st.integers(0, 10**9), min_size=3, max_size=3)
calm = settings(deadline=None, max_examples=100)


def test_expectation_is_one_under_the_null():
    n, q = 30, 0.2
    x = np.arange(n + 1)
    chance = special.binom(n, x) * q**x * (1 - q) ** (n - x)
    log_e = srm.log_e_srm_path(np.stack([x, n - x], axis=-1), [q, 1 - q], concentration=50)
    assert chance @ np.exp(log_e) == pytest.approx(1)


@calm
@given(counts, st.floats(1, 1e6))
def test_never_nan_and_order_of_arms_does_not_matter(x, k):
    theta = [0.2, 0.3, 0.5]
    log_e = srm.log_e_srm(x, theta, concentration=k)
    assert math.isfinite(log_e)
    turned = srm.log_e_srm(x[::-1], theta[::-1], concentration=k)
    assert turned == pytest.approx(log_e, rel=1e-6, abs=1e-4)
    interval = srm.multinomial_confidence_sequence(x, theta, 0.01, concentration=k)
    assert ((interval[:, 0] >= 0) & (interval[:, 1] <= 1) & (interval[:, 0] <= interval[:, 1])).all()


@calm
@given(counts, st.floats(0.001, 0.4), st.floats(0.001, 0.4))
def test_interval_grows_as_alpha_falls(x, one, two):
    wide, narrow = (srm.multinomial_confidence_sequence(x, [1, 1, 2], a) for a in sorted((one, two)))
    assert (wide[:, 0] <= narrow[:, 0] + 1e-12).all()
    assert (wide[:, 1] >= narrow[:, 1] - 1e-12).all()


def test_interval_excludes_the_share_when_two_arms_alarm():
    counts = [5300, 4700]
    found = srm.sequential_srm(counts, [1, 1], 0.01)
    assert found.details["alarm"]
    interval = srm.multinomial_confidence_sequence(counts, [1, 1], 0.01)
    assert interval[0, 0] > 0.5
    assert interval[1, 1] < 0.5
    assert found.lower == pytest.approx(interval[0, 0] / 0.5 - 1)


def test_alarm_needs_evidence_and_size():
    huge = srm.sequential_srm([5_020_000, 4_980_000], [0.5, 0.5], 0.01)
    assert huge.pvalue < 1e-20
    assert huge.value == pytest.approx(0.004)
    assert not huge.details["alarm"]
    small = srm.sequential_srm([9, 1], [0.5, 0.5], 0.01)
    assert not small.details["alarm"]
    # 9 % of a 1 % arm lost is 0.09 points: found, because the floor is relative to the smaller arm.
    lost = srm.sequential_srm([9_100, 991_000], [0.01, 0.99], 0.01)
    assert lost.details["alarm"]
    assert lost.details["arm"] == 0
    assert lost.value == pytest.approx(-0.09, abs=0.01)
    assert not srm.sequential_srm([9_100, 991_000], [0.01, 0.99], 0.01, floor=0.2).details["alarm"]


def test_no_units_and_stray_units():
    empty = srm.sequential_srm([0, 0], [0.5, 0.5], 0.01)
    assert (empty.status, empty.pvalue) == ("no_data", None)
    assert srm.chi_square_srm([0, 0], [0.5, 0.5]).status == "no_data"
    assert srm.binomial_srm(0, 0, 0.5).status == "no_data"
    stray = srm.sequential_srm([50, 50, 1], [0.5, 0.5, 0.0], 0.01)
    assert stray.details["alarm"]
    assert stray.pvalue == 0
    assert stray.log_e_value is None
    assert "zero" in stray.note
    assert srm.chi_square_srm([50, 50, 1], [0.5, 0.5, 0.0]).pvalue == 0
    assert srm.chi_square_srm([50, 50, 0], [0.5, 0.5, 0.0]).details["df"] == 1


def test_one_dimension_and_paths_agree():
    looks = np.cumsum([[3, 7], [4, 6], [9, 1]], axis=0)
    path = srm.log_e_srm_path(looks, [0.3, 0.7])
    assert path.tolist() == [srm.log_e_srm(look, [0.3, 0.7]) for look in looks]
    np.testing.assert_allclose(srm.log_e_srm(looks[0], [30, 70]), path[0], rtol=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: srm.log_e_srm([1, 2], [0.5]),
        lambda: srm.log_e_srm([1, 2], [1.0, 0.0]),
        lambda: srm.log_e_srm([1, 2, 3], [0.5, 0.5]),
        lambda: srm.log_e_srm([-1, 2], [0.5, 0.5]),
        lambda: srm.log_e_srm([1, 2], [0.5, math.nan]),
        lambda: srm.log_e_srm([1, 2], [0.5, 0.5], concentration=0),
        lambda: srm.log_e_srm([[1, 2]], [0.5, 0.5]),
        lambda: srm.sequential_srm([1, 2], [0.5, 0.5], 0),
        lambda: srm.sequential_srm([1, 2], [0.5, 0.5], 0.01, floor=-1),
        lambda: srm.chi_square_srm([[1, 2]], [0.5, 0.5]),
        lambda: srm.binomial_srm(-1, 2, 0.5),
        lambda: srm.multinomial_confidence_sequence([1, 2, 0], [0.5, 0.5, 0], 0.05),
    ],
)
def test_bad_numbers_are_refused(call):
    with pytest.raises(InvalidInputError):
        call()
