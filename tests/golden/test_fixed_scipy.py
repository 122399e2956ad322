"""scipy 1.17.1: Welch from statistics, sign test, Wilcoxon, order-statistic interval."""

import numpy as np
import pytest
from golden_fixed import close, load

from abtest.stats.means import compare_levels
from abtest.stats.moments import Level
from abtest.stats.paired import sign_test, wilcoxon
from abtest.stats.quantiles import quantile_interval_exact


@pytest.mark.parametrize("case", load("scipy", "welch"))
def test_welch(case):
    x, expected = case["inputs"], case["outputs"]
    control, treatment = (Level(n, m, v) for n, m, v in zip(x["n"], x["m"], x["var"], strict=True))
    found = compare_levels(control, treatment)
    close(abs(found.details["statistic"]), expected["t"], case["rtol"])
    close(found.pvalue, expected["p"], case["rtol"])


@pytest.mark.parametrize("case", load("scipy", "sign"))
def test_sign(case):
    wins, n = case["inputs"]["wins"], case["inputs"]["n"]
    wilson = sign_test(wins, n - wins)
    exact = sign_test(wins, n - wins, interval="exact")
    close(wilson.pvalue, case["outputs"]["p"], case["rtol"])
    close([wilson.lower, wilson.upper], case["outputs"]["ci_wilson"], case["rtol"])
    close([exact.lower, exact.upper], case["outputs"]["ci_exact"], case["rtol"])


@pytest.mark.parametrize("case", load("scipy", "Wilcoxon"))
def test_wilcoxon(case):
    x = case["inputs"]
    found = wilcoxon(np.array(x["b"]) - np.array(x["a"]), method="exact")
    close(found.details["statistic"], case["outputs"]["w"], case["rtol"])
    close(found.pvalue, case["outputs"]["p"], case["rtol"])


@pytest.mark.parametrize("case", load("scipy", "order-statistic"))
def test_quantile_interval(case):
    found = quantile_interval_exact(case["inputs"]["x"], case["inputs"]["p"])
    close([found.lower, found.upper], case["outputs"]["ci"], case["rtol"])
