"""Non-inferiority and equivalence, margins in points and relative."""

import numpy as np
import pytest

from abtest.errors import InvalidInputError
from abtest.stats.margins import equivalence, non_inferiority, proportion_non_inferiority
from abtest.stats.means import compare_levels
from abtest.stats.moments import Level

C, T = Level(4000, 10.0, 25.0), Level(4000, 9.9, 25.0)


def test_a_wide_margin_is_met_and_a_narrow_one_is_not():
    assert non_inferiority(C, T, 0.5).pvalue < 0.001
    assert non_inferiority(C, T, 0.05).pvalue > 0.5
    assert non_inferiority(C, T, 0.05, kind="relative").pvalue < 0.001
    assert non_inferiority(C, T, 0.005, kind="relative").pvalue > 0.5


def test_bound_and_pvalue_say_the_same():
    for margin in (0.2, 0.25, 0.3, 0.4):
        found = non_inferiority(C, T, margin)
        assert (found.pvalue < 0.05) == (found.lower > -margin)
        relative = non_inferiority(C, T, margin / 10, kind="relative")
        assert (relative.pvalue < 0.05) == (relative.lower > 0.0)


def test_better_lower_mirrors_better_higher():
    up = non_inferiority(C, T, 0.3, better="higher")
    down = non_inferiority(Level(4000, -10.0, 25.0), Level(4000, -9.9, 25.0), 0.3, better="lower")
    assert up.pvalue == pytest.approx(down.pvalue)
    assert down.lower is None
    assert up.upper is None


def test_relative_margin_of_a_negative_baseline_allows_a_loss_not_a_gain():
    c, t = Level(4000, -10.0, 25.0), Level(4000, -10.0, 25.0)
    assert non_inferiority(c, t, 0.1, kind="relative").pvalue < 1e-6
    assert non_inferiority(c, t, 0.1, kind="relative", better="lower").pvalue < 1e-6


def test_tost_is_the_larger_p_and_the_90_percent_interval():
    found = equivalence(C, T, 0.3)
    plain = compare_levels(C, T, alpha=0.1)
    assert found.pvalue == max(found.details["p_lower"], found.details["p_upper"])
    assert (found.lower, found.upper) == (plain.lower, plain.upper)
    for margin in (0.2, 0.28, 0.3, 0.5):
        e = equivalence(C, T, margin)
        assert (e.pvalue < 0.05) == (e.lower > -margin and e.upper < margin)


def test_unknown_stays_unknown():
    assert non_inferiority(None, T, 0.3).status == "insufficient"
    flat = Level(10, 1.0, 0.0)
    found = equivalence(flat, flat, 0.3)
    assert (found.status, found.pvalue) == ("zero_variance", None)


def test_proportions_at_the_margin_hold_their_level():
    """4,000 runs, seed 21: truth exactly at a margin of 2 points, nominal 5 %: called safe in 3.5 % to 6.2 %."""
    generator = np.random.default_rng(21)
    x0, x1 = generator.binomial(600, 0.03, 4000), generator.binomial(600, 0.05, 4000)
    pairs = {}
    for a, b in zip(x0.tolist(), x1.tolist(), strict=True):
        if (a, b) not in pairs:
            pairs[a, b] = proportion_non_inferiority((a, 600), (b, 600), 0.02).pvalue < 0.05
    share = np.mean([pairs[a, b] for a, b in zip(x0.tolist(), x1.tolist(), strict=True)])
    assert 0.035 <= share <= 0.062


def test_proportions_with_zero_events_can_be_safe():
    found = proportion_non_inferiority((0, 1000), (0, 1000), 0.01)
    assert found.pvalue < 0.01
    assert found.upper < 0.01
    assert proportion_non_inferiority((0, 50), (0, 50), 0.01).pvalue > 0.05
    assert proportion_non_inferiority((40, 1000), (30, 1000), 0.2, kind="relative").pvalue < 0.05
    assert proportion_non_inferiority((400, 1000), (380, 1000), 0.05, better="higher").pvalue < 0.1


@pytest.mark.parametrize(
    "call",
    [
        lambda: non_inferiority(C, T, -0.1),
        lambda: non_inferiority(C, T, 0.1, kind="percent"),
        lambda: non_inferiority(C, T, 0.1, better="up"),
        lambda: equivalence(C, T, 0.1, alpha=0.5),
        lambda: proportion_non_inferiority((1, 10), (1, 10), 1.0),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(InvalidInputError):
        call()
