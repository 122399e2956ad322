"""Two Poisson rates: conditional tests, zero events, inversion."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.errors import InvalidInputError
from abtest.stats.rates import poisson_rate_ratio

METHODS = ["exact", "mid_p", "score", "sqrt", "wald", "log"]
counts = st.tuples(st.integers(0, 200), st.floats(0.1, 1e6))


@settings(max_examples=120, deadline=None)
@given(counts, counts, st.sampled_from(METHODS), st.sampled_from(["two-sided", "larger", "smaller"]))
def test_any_counts_give_numbers_or_a_status(control, treatment, method, alternative):
    found = poisson_rate_ratio(control, treatment, method=method, alternative=alternative)
    for v in (found.value, found.lower, found.upper, found.pvalue):
        assert v is None or math.isfinite(v)
    assert (found.pvalue is None) == (found.status != "ok")
    if found.lower is not None and found.upper is not None:
        assert found.lower <= found.upper


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(["exact", "mid_p", "score", "sqrt", "log"]))
def test_swapping_the_arms_inverts_the_ratio(x0, x1, method):
    one = poisson_rate_ratio((x0, 100.0), (x1, 150.0), method=method)
    two = poisson_rate_ratio((x1, 150.0), (x0, 100.0), method=method)
    assert one.value == pytest.approx(1.0 / two.value)
    assert one.lower == pytest.approx(1.0 / two.upper, rel=1e-6)
    assert one.upper == pytest.approx(1.0 / two.lower, rel=1e-6)
    assert one.pvalue == pytest.approx(two.pvalue, rel=1e-6)


@pytest.mark.parametrize("method", ["score", "sqrt"])
def test_bounds_invert_the_test(method):
    found = poisson_rate_ratio((40, 1050.0), (60, 1000.0), method=method)
    for bound in (found.lower, found.upper):
        edge = poisson_rate_ratio((40, 1050.0), (60, 1000.0), method=method, null=bound)
        assert edge.pvalue == pytest.approx(0.05, rel=1e-6)


def test_one_sided_bounds_invert_the_exact_tail():
    found = poisson_rate_ratio((4, 10.0), (9, 12.0), method="exact", alternative="larger")
    edge = poisson_rate_ratio((4, 10.0), (9, 12.0), method="exact", alternative="larger", null=found.lower)
    assert edge.pvalue == pytest.approx(0.05, rel=1e-9)
    assert found.upper is None


def test_mid_p_lies_inside_exact():
    exact, mid = (poisson_rate_ratio((7, 100.0), (15, 100.0), method=m) for m in ("exact", "mid_p"))
    assert exact.lower < mid.lower < mid.upper < exact.upper
    assert mid.pvalue < exact.pvalue


def test_no_control_events():
    found = poisson_rate_ratio((0, 1000.0), (8, 1000.0), method="exact")
    assert found.value is None
    assert found.pvalue == pytest.approx(2 * 0.5**8)
    assert found.lower > 1.0
    assert found.upper is None
    assert poisson_rate_ratio((0, 10.0), (8, 10.0), method="log").status == "zero_baseline"
    assert poisson_rate_ratio((0, 10.0), (0, 10.0)).status == "zero_baseline"
    assert poisson_rate_ratio((0, 0.0), (0, 10.0)).status == "no_data"


@pytest.mark.parametrize(
    "call",
    [
        lambda: poisson_rate_ratio((-1, 1.0), (1, 1.0)),
        lambda: poisson_rate_ratio((1, -1.0), (1, 1.0)),
        lambda: poisson_rate_ratio((1, 1.0), (1, math.inf)),
        lambda: poisson_rate_ratio((1, 1.0), (1, 1.0), null=0.0),
        lambda: poisson_rate_ratio((1, 1.0), (1, 1.0), method="etest"),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(InvalidInputError):
        call()
