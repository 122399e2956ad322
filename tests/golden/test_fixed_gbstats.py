"""gbstats 0.8.0: Welch, ratio, proportions, CUPED, quantiles; and what it gets wrong."""

import math

import pytest
from golden_fixed import close, load

from abtest.stats.lift import relative_lift
from abtest.stats.means import arm_levels, compare_levels, mean_difference
from abtest.stats.moments import Columns, Level, Moments, level
from abtest.stats.proportion_tests import proportion_test
from abtest.stats.proportions import proportion_difference
from abtest.stats.quantiles import QuantileEstimate, clustered_share_variance, quantile_difference

Z = 1.959963984540054


def moments(x):
    if "m" in x:
        return Moments.from_sums(x["n"], [x["m"][0], x["d"][0]], [[x["m"][1], x["md"]], [x["md"], x["d"][1]]])
    if "post" in x:
        return Moments.from_sums(x["n"], [x["post"][0], x["pre"][0]], [[x["post"][1], x["pp"]], [x["pp"], x["pre"][1]]])
    return Moments.from_sums(x["n"], [x["sum"]], [[x["sum_squares"]]])


def check(estimate, outputs, rtol=1e-9):
    close(estimate.value, outputs["point"], rtol)
    close([estimate.lower, estimate.upper], outputs["ci"], rtol)
    close(estimate.pvalue, outputs["p_value"], rtol)
    close(estimate.std_error, outputs["uplift_stddev"], rtol)


@pytest.mark.parametrize("case", load("gbstats", "ratio metric"))
def test_ratio(case):
    arms = [moments(case["inputs"][a]) for a in ("control", "treatment")]
    if case["id"].endswith("absolute"):
        check(mean_difference(*arms, Columns(0, 1)), case["outputs"])
    else:
        check(relative_lift(*[level(m, Columns(0, 1)) for m in arms], method="delta"), case["outputs"])


@pytest.mark.parametrize("case", load("gbstats", "welch"))
def test_small_welch_relative(case):
    arms = [level(moments(case["inputs"][a])) for a in ("control", "treatment")]
    check(relative_lift(*arms, method="delta"), case["outputs"])


@pytest.mark.parametrize("case", load("gbstats", "two proportions"))
def test_proportions_relative(case):
    arms = []
    for name in ("control", "treatment"):
        x = case["inputs"][name]
        p = x["sum"] / x["n"]
        arms.append(Level(x["n"], p, p * (1 - p)))  # gbstats divides a proportion's variance by n, not n - 1
    check(relative_lift(*arms, method="delta"), case["outputs"])


@pytest.mark.parametrize("case", load("gbstats", "CUPED"))
def test_cuped(case):
    """At gbstats' own θ the adjusted difference agrees; its θ weighs the arms' covariances by n, ours by n - 1 ..."""
    columns = Columns(0, None, 1)
    control, treatment = (moments(case["inputs"][a]) for a in ("control", "treatment"))
    theta = case["outputs"]["theta"]
    arms = [level(m, columns, theta=theta) for m in (control, treatment)]
    check(compare_levels(*arms), case["outputs"])
    # ... and ours, the least-squares θ within arms, has the smaller variance, as it must.
    ours = arm_levels(control, treatment, columns)
    assert ours.theta_control == pytest.approx(theta, rel=2e-4)
    pooled = sum(a.variance * (a.n - 1) for a in (ours.control, ours.treatment))
    assert pooled <= sum(a.variance * (a.n - 1) for a in arms)


def quantile(x, factor=1.0):
    # gbstats multiplies the squared error by (n - 1) / n.
    se = (x["quantile_upper"] - x["quantile_lower"]) / (2 * Z) * math.sqrt((x["n"] - 1) / x["n"] * factor)
    return QuantileEstimate(
        x["nu"], x["quantile_hat"], x["quantile_lower"], x["quantile_upper"], se, x["n"], x["n"], 0.05, None
    )


@pytest.mark.parametrize("case", load("gbstats", "quantile difference (CLT"))
def test_quantile_difference(case):
    arms = [quantile(case["inputs"][a]) for a in ("control", "treatment")]
    check(quantile_difference(*arms, relative=case["id"].endswith("relative")), case["outputs"])


@pytest.mark.parametrize("case", load("gbstats", "quantile difference, user-clustered"))
def test_quantile_difference_clustered(case):
    arms = []
    for name, variance in (("control", "var_a"), ("treatment", "var_b")):
        x = case["inputs"][name]
        units = Moments.from_sums(
            x["n_clusters"],
            [x["main_sum"], x["denominator_sum"]],
            [
                [x["main_sum_squares"], x["main_denominator_sum_product"]],
                [x["main_denominator_sum_product"], x["denominator_sum_squares"]],
            ],
        )
        independent = x["nu"] * (1 - x["nu"]) / x["n"]
        arm = quantile(x, clustered_share_variance(units) / independent)
        close(arm.std_error**2 * arm.n, case["outputs"][variance], 1e-9)
        arms.append(arm)
    check(quantile_difference(*arms), case["outputs"])


# --- known_peer_defects.json: what is right where gbstats is not ---


def test_defect_one_sided_interval_lies_on_the_right_side():
    control = Moments.from_sums(1200, [3000.0], [[12000.0]])
    treatment = Moments.from_sums(1180, [3100.0], [[12600.0]])
    found = mean_difference(control, treatment, alternative="smaller")
    assert found.lower is None
    assert found.upper == pytest.approx(0.2580, abs=5e-5)
    assert found.upper > found.value


def test_defect_no_events_in_control_is_evidence_not_silence():
    control, treatment = (0, 100), (30, 100)
    exact = 2 * math.comb(100, 30) / math.comb(200, 30)  # 1.4e-10: both extreme tables, by hand
    assert proportion_test(control, treatment, method="fisher").pvalue == pytest.approx(exact, rel=1e-9)
    assert proportion_test(control, treatment, method="boschloo").pvalue < 1e-9
    found = proportion_difference(control, treatment, method="miettinen_nurminen")
    assert found.pvalue < 1e-8
    assert 0.2 < found.lower < 0.3 < found.upper < 0.4
    assert proportion_difference((0, 9000), (50, 1000)).pvalue < 1e-50


def test_defect_zero_variance_is_a_status():
    same = Moments.from_arrays([2.0] * 50)
    found = mean_difference(same, same)
    assert found.status == "zero_variance"
    assert (found.pvalue, found.lower, found.upper) == (None, None, None)


def test_defect_variance_survives_a_large_mean():
    n, offset = 1000, 10**9
    values = [offset + (1 if i % 2 else -1) for i in range(n)]
    exact = Moments.from_integer_sums(n, [sum(values)], [[sum(v * v for v in values)]])
    assert exact.variance() == pytest.approx(n / (n - 1), rel=1e-15)
    around = Moments.from_sums(n, [0.0], [[float(n)]], offset=[float(offset)])
    assert around.variance() == pytest.approx(n / (n - 1), rel=1e-15)
    assert Moments.from_arrays(values).variance() == pytest.approx(n / (n - 1), rel=1e-12)
