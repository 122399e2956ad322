"""Tests that two independent proportions are equal, without an interval: exact ones and chi-square.

All give a p-value at zero events in one arm. Sources: Fisher (1935), Barnard (1945), Boschloo (1970), Pearson (1900).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy.special import chdtrc

from abtest.errors import InvalidInputError
from abtest.results import Estimate
from abtest.stats.proportions import Table, check_table

ExactMethod = Literal["fisher", "boschloo", "barnard", "pearson", "log_likelihood"]


def proportion_test(
    control: tuple[int, int],
    treatment: tuple[int, int],
    *,
    method: ExactMethod = "boschloo",
    alternative: str = "two-sided",
    alpha: float = 0.05,
    continuity: bool = False,
) -> Estimate:
    """Return the p-value of "the two proportions are equal" by an exact or a chi-square test; no interval.

    "fisher" is exact and conservative; "boschloo" is exact and uniformly stronger, for up to a few hundred units;
    "barnard" is exact with the pooled statistic; "pearson" and "log_likelihood" are chi-square with one degree of
    freedom, two-sided only, `continuity` with Yates' correction.

    Sources: Fisher (1935), Boschloo (1970), Barnard (1945), through scipy.stats.
    """
    t = check_table(control, treatment, alpha, alternative)
    if t is None:
        return Estimate.unknown("no_data", method=method, alpha=alpha, note="an arm is empty")
    value = t.p1 - t.p0
    events, units = t.x1 + t.x0, t.n1 + t.n0
    if events in (0, units):
        note = "all outcomes are the same: nothing to test"
        return Estimate(value, alpha=alpha, method=method, status="zero_variance", note=note)
    if method in ("pearson", "log_likelihood"):
        if alternative != "two-sided":
            raise InvalidInputError(f"{method} is two-sided", hint="use proportion_difference for one side")
        pvalue = _chi_square(t, method == "log_likelihood", continuity)
    else:
        pvalue = _exact_pvalue(t, method, alternative)
    return Estimate(value, pvalue=pvalue, alpha=alpha, method=method, alternative=alternative)


def _chi_square(t: Table, likelihood: bool, continuity: bool) -> float:
    share = (t.x1 + t.x0) / (t.n1 + t.n0)
    seen = [t.x1, t.n1 - t.x1, t.x0, t.n0 - t.x0]
    expected = [t.n1 * share, t.n1 * (1.0 - share), t.n0 * share, t.n0 * (1.0 - share)]
    if continuity:
        seen = [s + math.copysign(min(0.5, abs(e - s)), e - s) for s, e in zip(seen, expected, strict=True)]
    if likelihood:
        statistic = 2.0 * math.fsum(s * math.log(s / e) for s, e in zip(seen, expected, strict=True) if s > 0.0)
    else:
        statistic = math.fsum((s - e) ** 2 / e for s, e in zip(seen, expected, strict=True))
    return float(chdtrc(1, max(statistic, 0.0)))


def _exact_pvalue(t: Table, method: str, alternative: str) -> float:
    from scipy import stats

    side = {"two-sided": "two-sided", "larger": "greater", "smaller": "less"}[alternative]
    table = [[int(t.x1), int(t.x0)], [int(t.n1 - t.x1), int(t.n0 - t.x0)]]
    if method == "fisher":
        return float(np.asarray(stats.fisher_exact(table, alternative=side))[1])
    if method == "boschloo":
        return float(stats.boschloo_exact(table, alternative=side).pvalue)
    if method == "barnard":
        return float(stats.barnard_exact(table, alternative=side).pvalue)
    raise InvalidInputError(f"unknown method {method!r}", hint="fisher, boschloo, barnard, pearson, log_likelihood")
