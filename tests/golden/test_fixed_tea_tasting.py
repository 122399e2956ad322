"""tea-tasting 1.14.0: Welch with log-delta lift, ratio, proportion tests, sample sizes."""

import math

import numpy as np
import pytest
from golden_fixed import close, load

from abtest.stats.lift import relative_lift
from abtest.stats.means import mean_difference
from abtest.stats.moments import Columns, Moments, level
from abtest.stats.planning import sample_size
from abtest.stats.proportion_tests import proportion_test
from abtest.stats.proportions import proportion_difference


def moments(arm, *columns):
    def covariance(a, b):
        if a == b:
            return arm["var"][a]
        return arm["cov"].get(f"{a}|{b}", arm["cov"].get(f"{b}|{a}"))

    n = arm["n"]
    table = np.array([[covariance(a, b) for b in columns] for a in columns]) * (n - 1)
    return Moments(n, np.array([arm["mean"][c] for c in columns]), table, np.zeros(len(columns)))


def check(difference, lift, expected, rtol):
    close(difference.value, expected["effect_size"], rtol)
    close(difference.pvalue, expected["pvalue"], rtol)
    close(difference.details["statistic"], expected["statistic"], rtol)
    close(
        [difference.lower, difference.upper], [expected["effect_size_ci_lower"], expected["effect_size_ci_upper"]], rtol
    )
    close(lift.value, expected["rel_effect_size"], rtol)
    close([lift.lower, lift.upper], [expected["rel_effect_size_ci_lower"], expected["rel_effect_size_ci_upper"]], rtol)


@pytest.mark.parametrize("case", load("tea_tasting", "welch"))
def test_mean(case):
    x = case["inputs"]
    arms = [moments(x[a], "y") for a in ("control", "treatment")]
    equal, alpha = x["kwargs"].get("equal_var", False), 1 - x["kwargs"].get("confidence_level", 0.95)
    check(
        mean_difference(*arms, equal_var=equal, alpha=alpha),
        relative_lift(*[level(m) for m in arms], equal_var=equal, alpha=alpha),
        case["outputs"],
        case["rtol"],
    )


@pytest.mark.parametrize("case", load("tea_tasting", "ratio metric"))
def test_ratio(case):
    arms = [moments(case["inputs"][a], "num", "den") for a in ("control", "treatment")]
    columns = Columns(0, 1)
    check(
        mean_difference(*arms, columns),
        relative_lift(*[level(m, columns) for m in arms]),
        case["outputs"],
        case["rtol"],
    )


def test_ratio_with_a_ratio_covariate_reduces_the_variance():
    x = load("tea_tasting", "ratio metric")[0].values[0]["inputs"]
    arms = [moments(x[a], "num", "den", "cn", "cd") for a in ("control", "treatment")]
    plain = mean_difference(*arms, Columns(0, 1))
    pooled = mean_difference(*arms, Columns(0, 1, 2, 3))
    per_arm = mean_difference(*arms, Columns(0, 1, 2, 3), adjustment="per_arm")
    assert pooled.std_error < plain.std_error
    assert per_arm.std_error <= pooled.std_error * 1.001
    assert pooled.method == "cuped_delta_welch"


@pytest.mark.parametrize("case", load("tea_tasting", "two-proportion test"))
def test_proportion(case):
    _, _, method, correction, size = case["id"].split("_")
    x, expected, rtol = case["inputs"], case["outputs"], case["rtol"]
    a, b, continuity = (x["xA"], x["nA"]), (x["xB"], x["nB"]), correction == "True"
    if method == "norm" or (method == "auto" and size == "1000"):
        found = proportion_difference(a, b, method="pooled", continuity=continuity)
        close([found.lower, found.upper], [expected["effect_size_ci_lower"], expected["effect_size_ci_upper"]], rtol)
    else:
        name = "barnard" if method == "auto" else method.replace("-", "_")
        found = proportion_test(a, b, method=name, continuity=continuity)
    close(found.value, expected["effect_size"], rtol)
    close(found.pvalue, expected["pvalue"], rtol)


@pytest.mark.parametrize("case", load("tea_tasting", "power"))
def test_sample_size(case):
    sample, wanted = case["inputs"]["sample"], case["outputs"][0]
    found = sample_size(wanted["effect_size"], sample["var"]["y"], power=wanted["power"], distribution="t")
    assert math.ceil(found.total) == wanted["n_obs"]


def test_defect_sample_size_where_the_noncentral_t_fails():
    found = sample_size(0.1, 3.8, alpha=0.01, power=0.9, distribution="t")
    normal = sample_size(0.1, 3.8, alpha=0.01, power=0.9)
    assert found.total == pytest.approx(normal.total, rel=1e-3)
