"""spotify-confidence 4.1.0: z and t tests, power-spending bounds, sequential intervals, multiplicity."""

import numpy as np
import pytest
from golden_fixed import close, load
from scipy.special import ndtr

from abtest.stats.group_sequential import spending_design
from abtest.stats.means import mean_difference
from abtest.stats.moments import Moments
from abtest.stats.multiplicity import adjust, split_budget
from abtest.stats.planning import detectable_effect
from abtest.stats.proportions import proportion_difference


def arm(x, k):
    return Moments.from_sums(x["users"][k], [x["y"][k]], [[x["y2"][k]]])


@pytest.mark.parametrize("case", load("spotify_confidence", "power spending"))
def test_bounds(case):
    x = case["inputs"]
    design = spending_design(x["t"], alpha=x["alpha"], sides=x["sides"], spending="power")
    close(list(design.upper), case["outputs"]["bounds"], case["rtol"])


@pytest.mark.parametrize("case", load("spotify_confidence", "mean diff"))
def test_mean(case):
    x, expected, rtol = case["inputs"], case["outputs"][0], case["rtol"]
    control, treatment = arm(x, 0), arm(x, 1)
    student = "ttest" in case["id"]
    found = mean_difference(control, treatment, distribution="t" if student else "z")
    scale = float(control.mean[0]) if case["id"].endswith("False") else 1.0  # its relative difference only divides
    close(found.value / scale, expected["difference"], rtol)
    close(found.std_error, expected["std_err"], rtol)
    close(found.pvalue, expected["p-value"], rtol)
    close([found.lower / scale, found.upper / scale], [expected["ci_lower"], expected["ci_upper"]], rtol)
    if not student:
        close(detectable_effect(1200, 1180, control.variance()), expected["powered_effect"], rtol)


@pytest.mark.parametrize("case", load("spotify_confidence", "two proportions"))
def test_proportions(case):
    x, expected, rtol = case["inputs"], case["outputs"][0], case["rtol"]
    a, b = zip(x["conv"], x["users"], strict=True)
    wald, pooled = (proportion_difference(a, b, method=m) for m in ("wald", "pooled"))
    close(wald.std_error, expected["std_err"], rtol)
    close([wald.lower, wald.upper], [expected["ci_lower"], expected["ci_upper"]], rtol)
    close(pooled.pvalue, expected["p-value"], rtol)


@pytest.mark.parametrize("case", load("spotify_confidence", "ordinal looks"))
def test_sequential(case):
    x, rtol = case["inputs"], case["rtol"]
    seen = np.array(x["users"]).reshape(-1, 2).sum(axis=1)
    design = spending_design(seen / max(seen[-1], x["final"][-1]), alpha=0.05, sides=2, spending="power")
    for k, row in enumerate(case["outputs"]):
        level = 2.0 * float(ndtr(-design.upper[k]))
        close(level, row["adjusted_alpha"], 1e-3)  # spotify's own integration is good to four digits
        found = mean_difference(arm(x, 2 * k), arm(x, 2 * k + 1), distribution="z", alpha=level)
        close(found.value, row["difference"], rtol)
        close(found.std_error, row["std_err"], rtol)
        close([found.lower, found.upper], [row["adjusted ci_lower"], row["adjusted ci_upper"]], 1e-3)


METHODS = {
    "fdr_bh": "bh",
    "holm": "holm",
    "hommel": "hommel",
    "simes-hochberg": "hochberg",
    "spot-1-holm": "bonferroni",
}


@pytest.mark.parametrize("case", load("spotify_confidence", "multiplicity"))
def test_multiplicity(case):
    x, rtol = case["inputs"], case["rtol"]
    name = case["id"].removeprefix("sc_multi_")
    tests = [mean_difference(arm(x, 2 * k), arm(x, 2 * k + 1), distribution="z") for k in range(3)]
    for test, row in zip(tests, case["outputs"], strict=True):
        close(test.pvalue, row["p-value"], rtol)
        close([test.lower, test.upper], [row["ci_lower"], row["ci_upper"]], rtol)
    found = adjust([t.pvalue for t in tests], method=METHODS[name])
    assert list(found.rejected) == [row["is_significant"] for row in case["outputs"]]
    share = split_budget(0.05, {row["metric"]: 1.0 for row in case["outputs"]})
    for k, row in enumerate(case["outputs"]):
        alpha = row["adjusted_alpha"]
        close(detectable_effect(1000, 1000, arm(x, 2 * k).variance(), alpha=alpha), row["powered_effect"], rtol)
        if name == "spot-1-holm":
            close(share[row["metric"]], alpha, rtol)
            own = mean_difference(arm(x, 2 * k), arm(x, 2 * k + 1), distribution="z", alpha=share[row["metric"]])
            close([own.lower, own.upper], [row["adjusted ci_lower"], row["adjusted ci_upper"]], rtol)


def test_defect_any_spending_family_and_bounds_below_the_fixed_one():
    """spotify knows alpha·t² only and raises when the last bound falls below the fixed one; ours just computes it."""
    for family in ("obrien_fleming", "pocock", "hsd", "power"):
        assert len(spending_design([0.3, 0.7, 1.0], spending=family).upper) == 3
    late = spending_design([0.5, 1.2], alpha=0.05, sides=2, spending="power")
    assert all(np.isfinite(late.upper))
