"""Holm, BH, e-BH, budgets, and the ship rule."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.errors import InvalidInputError
from abtest.stats.multiplicity import (
    adjust,
    benjamini_hochberg,
    e_bh,
    holm,
    planned_power,
    ship_rule,
    split_budget,
)

pvalues = st.lists(st.one_of(st.none(), st.floats(0.0, 1.0)), min_size=0, max_size=12)


@settings(max_examples=80, deadline=None)
@given(pvalues, st.randoms())
def test_order_of_the_tests_does_not_matter(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    for method in ("holm", "bh", "by", "bonferroni"):
        plain, mixed = adjust(values, method=method), adjust([values[k] for k in order], method=method)
        assert [plain.rejected[k] for k in order] == list(mixed.rejected)


@settings(max_examples=80, deadline=None)
@given(pvalues, st.floats(0.001, 0.3), st.floats(0.001, 0.3))
def test_a_larger_level_rejects_more_and_unknown_is_never_rejected(values, one, two):
    small, large = sorted([one, two])
    for method in ("holm", "bh", "by"):
        a, b = adjust(values, method=method, alpha=small), adjust(values, method=method, alpha=large)
        assert all(not x or y for x, y in zip(a.rejected, b.rejected, strict=True))
        for p, hit, adjusted in zip(values, b.rejected, b.adjusted, strict=True):
            assert (p is None) == (adjusted is None)
            assert p is not None or not hit


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
def test_bonferroni_within_holm_within_bh(values):
    weak, middle, strong = (adjust(values, method=m).rejected for m in ("bonferroni", "holm", "bh"))
    assert all(not a or b for a, b in zip(weak, middle, strict=True))
    assert all(not a or b for a, b in zip(middle, strong, strict=True))


def test_an_unknown_p_still_counts_as_a_test():
    assert holm([0.03]).rejected == (True,)
    assert holm([0.03, None]).rejected == (False, False)
    assert benjamini_hochberg([0.03, None]).adjusted == (0.06, None)


def test_e_bh_by_hand():
    logs = [math.log(e) for e in (100.0, 45.0, 30.0, 1.0)]
    # m / (k alpha): 80, 40, 26.7, 20 -> the largest three are rejected.
    assert e_bh(logs, 0.05).rejected == (True, True, True, False)
    assert e_bh([math.log(100.0), None], 0.05).rejected == (True, False)
    assert e_bh([800.0, -800.0]).rejected == (True, False)
    assert e_bh([]).rejected == ()


def test_e_bh_holds_the_false_discovery_rate_when_all_nulls_are_the_same_one():
    """4,000 runs, seed 13: e-values exp(z·2 - 2) shared by 20 nulls; any rejection is false: at most 5 %."""
    logs = np.random.default_rng(13).normal(size=4000) * 2.0 - 2.0
    wrong = sum(any(e_bh([float(v)] * 20, 0.05).rejected) for v in logs)
    assert wrong / 4000 <= 0.05


@settings(max_examples=80, deadline=None)
@given(st.floats(1e-6, 0.5), st.dictionaries(st.text(max_size=3), st.floats(1e-3, 1e3), min_size=1, max_size=8))
def test_budget_is_spent_once_and_by_weight(total, weights):
    shares = split_budget(total, weights)
    assert math.fsum(shares.values()) <= total
    assert math.fsum(shares.values()) == pytest.approx(total)
    first = next(iter(weights))
    assert shares[first] == pytest.approx(total * weights[first] / math.fsum(weights.values()))


def test_ship_needs_everything_at_once():
    good = {"success_pvalues": [0.001, 0.4], "success_better": [True, True], "guardrails": ["safe"], "quality_ok": True}
    assert ship_rule(**good).ship
    assert ship_rule(**good).superior == (True, False)
    for change, reason in (
        ({"quality_ok": False}, "trustworthy"),
        ({"guardrails": ["safe", "inconclusive"]}, "guardrail"),
        ({"guardrails": ["unknown"]}, "guardrail"),
        ({"success_pvalues": [0.04, 0.03]}, "no success metric"),
        ({"success_pvalues": [None, None]}, "no success metric"),
        ({"success_better": [False, True]}, "worse"),
    ):
        found = ship_rule(**{**good, **change})
        assert not found.ship
        assert reason in found.reason


def test_planned_power():
    assert planned_power(0.8, 0) == pytest.approx(0.8)
    assert planned_power(0.8, 3) == pytest.approx(0.95)


@pytest.mark.parametrize(
    "call",
    [
        lambda: holm([1.2]),
        lambda: holm([float("nan")]),
        lambda: adjust([0.1], method="tukey"),
        lambda: e_bh([float("nan")]),
        lambda: split_budget(0.01, {"a": 0.0}),
        lambda: split_budget(0.0, {"a": 1.0}),
        lambda: planned_power(0.8, -1),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(InvalidInputError):
        call()
