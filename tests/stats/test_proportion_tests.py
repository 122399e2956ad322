"""Exact and chi-square tests of two proportions."""

import math

import pytest

from abtest.errors import InvalidInputError
from abtest.stats.proportion_tests import proportion_test


def test_boschloo_is_never_weaker_than_fisher():
    for control, treatment in (((2, 40), (9, 42)), ((0, 30), (5, 30)), ((5, 60), (14, 62))):
        fisher, boschloo = (proportion_test(control, treatment, method=m).pvalue for m in ("fisher", "boschloo"))
        assert boschloo <= fisher + 1e-9


def test_one_sided_fisher_by_hand():
    found = proportion_test((0, 10), (4, 10), method="fisher", alternative="larger")
    assert found.pvalue == pytest.approx(math.comb(10, 4) / math.comb(20, 4))


def test_swapping_the_arms_changes_nothing_but_the_sign():
    for method in ("fisher", "pearson", "log_likelihood"):
        one, two = proportion_test((3, 50), (11, 60), method=method), proportion_test((11, 60), (3, 50), method=method)
        assert one.pvalue == pytest.approx(two.pvalue)
        assert one.value == -two.value


@pytest.mark.parametrize("method", ["fisher", "boschloo", "pearson", "log_likelihood"])
def test_same_outcome_everywhere_is_a_status(method):
    for events in (0, 1):
        found = proportion_test((10 * events, 10), (20 * events, 20), method=method)
        assert (found.status, found.pvalue) == ("zero_variance", None)
    assert proportion_test((0, 0), (1, 5), method=method).status == "no_data"


def test_refuses_what_it_cannot_do():
    with pytest.raises(InvalidInputError, match="two-sided"):
        proportion_test((1, 10), (2, 10), method="pearson", alternative="larger")
    with pytest.raises(InvalidInputError, match="unknown method"):
        proportion_test((1, 10), (2, 10), method="wald")
