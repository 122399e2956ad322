"""Spending, boundaries, futility, power and stage-wise inference."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from abtest.errors import InvalidInputError
from abtest.stats.group_sequential import (
    boundaries,
    classical_design,
    futility_design,
    operating,
    spend,
    spending_design,
    stagewise,
)
from abtest.stats.recursion import crossings

FAMILIES = ["obrien_fleming", "pocock", "hsd", "power"]
times = (
    st.lists(st.floats(0.02, 1.0), min_size=1, max_size=6, unique=True)
    .map(sorted)
    .filter(lambda t: all(b - a > 0.01 for a, b in pairwise(t)))
)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_error_is_spent_at_the_end_and_none_after(family):
    spent = spend([0.1, 0.5, 1.0, 1.5], 0.05, family)
    assert np.all(np.diff(spent) >= 0.0)
    assert spent[2] == pytest.approx(0.05)
    assert spent[3] == pytest.approx(0.05)
    assert spend([0.3], 0.05, "hsd", 0.0)[0] == pytest.approx(0.015)


@settings(max_examples=40, deadline=None)
@given(times, st.sampled_from(FAMILIES), st.sampled_from([1, 2]), st.sampled_from([0.01, 0.05, 0.2]))
def test_boundaries_spend_what_they_should(looks, family, sides, alpha):
    design = spending_design(looks, alpha=alpha, sides=sides, spending=family)
    upper = np.array(design.upper)
    both = crossings(looks, upper, -upper if sides == 2 else None)
    assert np.cumsum(both.upper + both.lower) == pytest.approx(design.spent, rel=1e-6, abs=1e-12)


def test_one_look_is_the_fixed_test():
    assert spending_design([1.0], alpha=0.05).upper[0] == pytest.approx(1.959963984540054)
    design = classical_design(1, alpha=0.05, power=0.8)
    assert design.inflation == pytest.approx(1.0, abs=1e-9)
    assert operating(design, design.drift).power == pytest.approx(0.8)


def test_a_look_that_spends_nothing_has_no_bound():
    bounds = boundaries([0.3, 0.6, 1.0], [0.01, 0.01, 0.025])
    assert bounds[1] == math.inf
    assert np.all(np.isfinite(bounds[[0, 2]]))


def test_ten_looks_cost_four_percent_and_save_a_fifth():
    """STATISTICS 11: O'Brien-Fleming, 10 looks: maximum 1.038 times, mean 0.79 times the fixed sample."""
    design = spending_design(np.arange(1, 11) / 10, power=0.8)
    assert design.inflation == pytest.approx(1.038, abs=0.012)
    mean = operating(design, design.drift).mean_information * design.inflation
    assert mean == pytest.approx(0.79, abs=0.02)


def test_non_binding_futility_keeps_the_efficacy_bounds():
    looks = [0.25, 0.5, 0.75, 1.0]
    plain, futile = spending_design(looks, alpha=0.025, sides=1), futility_design(looks)
    assert futile.upper == pytest.approx(plain.upper)
    assert len(futile.futility) == 3
    found = operating(futile, futile.drift)
    assert found.power == pytest.approx(0.8, abs=1e-6)
    assert sum(found.other) + found.power == pytest.approx(1.0, abs=0.2)
    assert operating(futile, 0.0).mean_information < operating(plain, 0.0).mean_information
    # The bounds meet at the last look: what is not stopped for efficacy there is the rest of beta.
    assert 1.0 - found.power - sum(found.other) >= 0.0
    assert operating(futile, 0.0).power <= 0.025


def test_binding_futility_gives_back_alpha():
    looks = [0.5, 1.0]
    binding, loose = futility_design(looks, binding=True), futility_design(looks)
    assert binding.upper[-1] < loose.upper[-1]
    assert binding.inflation < loose.inflation
    assert operating(binding, 0.0).power == pytest.approx(0.025, abs=1e-8)


def test_stagewise_at_the_first_look_is_the_ordinary_test():
    found = stagewise([25.0], [3.0], 3.2)
    assert found.pvalue == pytest.approx(2 * float(ndtr(-3.2)))
    assert found.value == pytest.approx(3.2 / 5.0)
    z = float(ndtri(0.975))
    assert (found.lower, found.upper) == pytest.approx(((3.2 - z) / 5.0, (3.2 + z) / 5.0))


def test_stagewise_rejects_exactly_where_the_design_does():
    looks, info = [1 / 3, 2 / 3, 1.0], [10.0, 20.0, 30.0]
    design = spending_design(looks, alpha=0.05)
    upper, lower = list(design.upper), [-u for u in design.upper]
    for k in (1, 2, 3):
        at = stagewise(info[:k], upper[:k], upper[k - 1], lower=lower[:k])
        assert at.pvalue == pytest.approx(design.spent[k - 1], rel=1e-5)
        above = stagewise(info[:k], upper[:k], upper[k - 1] + 0.1, lower=lower[:k])
        assert above.pvalue < at.pvalue
        assert (above.lower > 0.0) == (above.pvalue < 0.05)
    end = stagewise(info, upper, upper[-1], lower=lower)
    assert end.lower == pytest.approx(0.0, abs=1e-6)


@pytest.mark.calibration
def test_stagewise_interval_covers_and_its_estimate_is_median_unbiased():
    """400 runs, seed 12, Pocock, 3 looks, true effect 0.5: covers 95 %, half of the estimates above the truth."""
    generator = np.random.default_rng(12)
    info = np.array([4.0, 8.0, 12.0])
    design = spending_design(info / 12.0, alpha=0.05, spending="pocock")
    upper, lower, theta = np.array(design.upper), -np.array(design.upper), 0.5
    inside = above = naive = 0
    for _ in range(400):
        path = np.cumsum(generator.normal(theta * 4.0, 2.0, 3))
        z = path / np.sqrt(info)
        stop = int(np.argmax((np.abs(z) >= upper) | (np.arange(3) == 2)))
        found = stagewise(info[: stop + 1], upper[: stop + 1], z[stop], lower=lower[: stop + 1])
        inside += found.lower <= theta <= found.upper
        above += found.value > theta
        naive += found.details["naive"] > theta
    assert 0.92 <= inside / 400 <= 0.98
    assert 0.43 <= above / 400 <= 0.57
    assert naive > above


def test_one_sided_stagewise_leaves_one_bound_open():
    found = stagewise([10.0, 20.0], [2.8], 1.0, alternative="larger")
    assert found.upper is None
    assert found.lower < 0.0
    assert stagewise([10.0, 20.0], [2.8], 1.0, alternative="smaller").lower is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: spend([0.5], 0.05, "linear"),
        lambda: spend([0.5], 0.05, "power", -1.0),
        lambda: spending_design([0.5, 1.0], sides=3),
        lambda: classical_design(0),
        lambda: classical_design(3, kind="haybittle"),
        lambda: boundaries([0.5, 1.0], [0.02, 0.01]),
        lambda: stagewise([1.0, 2.0], [], 1.0),
        lambda: stagewise([1.0], [2.0], float("nan")),
        lambda: spending_design([1.0], power=0.01),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(InvalidInputError):
        call()
