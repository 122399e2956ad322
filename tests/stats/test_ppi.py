"""Judge and labels: unbiased, tighter than labels alone, whatever the judge."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.errors import InvalidInputError
from abtest.stats.ppi import Centring, centred_scores, freeze_centring, ppi_difference, ppi_mean, ppi_weight

finite = st.floats(-100.0, 100.0)


def world(generator, n, slope=0.9):
    judged = generator.normal(size=n)
    return 2.0 + slope * judged + generator.normal(scale=0.4, size=n), judged + 5.0


def test_a_good_judge_helps_and_a_useless_one_does_no_harm():
    generator = np.random.default_rng(1)
    y, f = world(generator, 1100)
    good, labels = (ppi_mean(y[:100], f[:100], f[100:], weight=w) for w in (None, 0.0))
    assert good.std_error < 0.6 * labels.std_error
    noise = generator.normal(size=1100)
    useless = ppi_mean(y[:100], noise[:100], noise[100:])
    assert useless.std_error == pytest.approx(labels.std_error, rel=0.05)
    assert ppi_weight(y[:100], np.ones(100), np.ones(50)) == 0.0


@pytest.mark.calibration
def test_interval_covers_the_human_mean():
    """1,000 runs, seed 2, 60 labels among 600 judged, judge biased by 5 points: nominal 95 %, 92 % to 97 %."""
    generator = np.random.default_rng(2)
    inside = 0
    for _ in range(1000):
        y, f = world(generator, 600)
        found = ppi_mean(y[:60], f[:60], f[60:])
        inside += found.lower <= 2.0 <= found.upper
    assert 0.92 <= inside / 1000 <= 0.97


def test_difference_of_two_arms():
    generator = np.random.default_rng(3)
    arms = []
    for shift in (0.0, 0.5):
        y, f = world(generator, 1100)
        arms.append(ppi_mean(y[:100] + shift, f[:100] + shift, f[100:] + shift))
    found, back = ppi_difference(*arms), ppi_difference(*arms[::-1])
    assert found.lower < 0.5 < found.upper
    assert found.value == -back.value
    assert found.pvalue == pytest.approx(back.pvalue)
    unknown = ppi_difference(ppi_mean([1.0], [1.0], [1.0]), arms[0])
    assert (unknown.status, unknown.pvalue) == ("insufficient", None)


def test_no_variance_is_a_status():
    found = ppi_mean([1.0, 1.0], [1.0, 1.0], [1.0])
    assert (found.status, found.value, found.lower) == ("zero_variance", 1.0, None)


def test_centred_scores_have_the_variance_of_the_page():
    """STATISTICS 10, label share 0.05: uncentred 2.05, labels only 0.38, centred 0.18 (seed 4, one setting alike)."""
    generator = np.random.default_rng(4)
    n = 200_000
    y = 0.7 + 0.1 * generator.normal(size=n)
    f = y + 0.06 * generator.normal(size=n)
    labelled = generator.random(n) < 0.05
    constants = freeze_centring(y[:2000], f[:2000])
    centred = centred_scores(y, labelled, 0.05, f, constants)
    uncentred = centred_scores(y, labelled, 0.05, f, Centring(0.0, 0.0, 0.0))
    labels_only = centred_scores(y, labelled, 0.05, f, Centring(0.7, 0.0, 0.0))
    assert centred.var() < 0.55 * labels_only.var() < 0.1 * uncentred.var()
    for phi in (centred, uncentred, labels_only):
        assert phi.mean() == pytest.approx(0.7, abs=4 * phi.std() / n**0.5)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(finite, finite), min_size=1, max_size=8), finite, finite, st.floats(-3, 3), st.floats(0.05, 1.0)
)
def test_centred_scores_are_unbiased_for_every_constant(rows, mu, centre, slope, pi):
    """Exact: the mean over "labelled" and "not", weighted by the chance, is the label itself."""
    y, f = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    constants = Centring(mu, centre, slope)
    yes = centred_scores(y, np.ones(y.size, dtype=bool), pi, f, constants)
    no = centred_scores(np.full(y.size, np.nan), np.zeros(y.size, dtype=bool), pi, f, constants)
    assert pi * yes + (1.0 - pi) * no == pytest.approx(y, abs=1e-8)


def test_constants_need_two_labels():
    assert freeze_centring([1.0], [1.0]) is None
    assert freeze_centring([1.0, 3.0], [2.0, 2.0]) == Centring(2.0, 2.0, 0.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: ppi_mean([1.0, np.nan], [1.0, 1.0], [1.0]),
        lambda: ppi_mean([1.0], [1.0, 1.0], [1.0]),
        lambda: ppi_mean([1.0, 2.0], [1.0, 1.0], [np.inf]),
        lambda: freeze_centring([1.0, 2.0], [1.0]),
        lambda: centred_scores([1.0], [True], 0.0, [1.0], Centring(0, 0, 0)),
        lambda: centred_scores([np.nan], [True], 0.5, [1.0], Centring(0, 0, 0)),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(InvalidInputError):
        call()
