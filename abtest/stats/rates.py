"""Two Poisson rates (events per unit of exposure) at a fixed horizon.

Sound at zero events in one arm: given the total, the treatment's events are binomial, which needs no variance.
Events must be independent: count a unit's first event, or use the clustered ratio of `means`.
Sources: Przyborowski and Wilenski (1940) for the conditional test; Gu, Ng, Tang and Schucany (2008) for the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from scipy.special import bdtr, bdtrc, betaincinv, ndtri

from abtest.errors import InvalidInputError
from abtest.results import Estimate
from abtest.stats.means import Reference, check_alternative, tail_pvalue, wald_interval
from abtest.stats.multiplicity import check_level
from abtest.stats.proportions import bisect

RateMethod = Literal["exact", "mid_p", "score", "sqrt", "wald", "log"]

_METHODS = ("exact", "mid_p", "score", "sqrt", "wald", "log")


def _tails(events: int, total: int, share: float, mid: bool) -> tuple[float, float]:
    """Return P(X <= events) and P(X >= events) of a binomial; mid-p counts half of the observed value."""
    below, above = float(bdtr(events, total, share)), float(bdtrc(events - 1, total, share)) if events else 1.0
    if mid:
        here = max(below + above - 1.0, 0.0)
        below, above = below - 0.5 * here, above - 0.5 * here
    return below, above


def _two_sided(events: int, total: int, share: float, mid: bool) -> float:
    """Return the probability of all counts no more likely than the one seen, half of the latter when `mid`."""
    from scipy.stats import binom, binomtest

    whole = float(binomtest(events, total, share).pvalue)
    return max(whole - 0.5 * float(binom.pmf(events, total, share)), 0.0) if mid else whole


def _conditional(
    x1: int, x0: int, exposure_ratio: float, null: float, mid: bool, alternative: str, alpha: float
) -> tuple[float, float | None, float | None]:
    """Return p-value and bounds of the rate ratio, given the total number of events."""
    total = x1 + x0
    share = null * exposure_ratio / (1.0 + null * exposure_ratio)
    below, above = _tails(x1, total, share, mid)
    pvalue = {"larger": above, "smaller": below}.get(alternative)
    if pvalue is None:
        pvalue = _two_sided(x1, total, share, mid)
    side = alpha / 2.0 if alternative == "two-sided" else alpha
    low = high = None
    if alternative != "smaller":
        low = 0.0 if x1 == 0 else _bound(x1, total, side, mid, lower=True)
    if alternative != "larger":
        high = 1.0 if x0 == 0 else _bound(x1, total, side, mid, lower=False)
    lower = None if low is None else low / (1.0 - low) / exposure_ratio
    upper = None if high is None or high >= 1.0 else high / (1.0 - high) / exposure_ratio
    return pvalue, lower, upper


def _bound(x1: int, total: int, side: float, mid: bool, *, lower: bool) -> float:
    """Return the share at which the tail has probability `side`: Clopper-Pearson, or its mid-p version."""
    if not mid:
        return float(betaincinv(x1, total - x1 + 1, side) if lower else betaincinv(x1 + 1, total - x1, 1.0 - side))
    if lower:
        return bisect(lambda p: side - _tails(x1, total, p, True)[1], 0.0, 1.0)
    return bisect(lambda p: _tails(x1, total, p, True)[0] - side, 0.0, 1.0)


def poisson_rate_ratio(
    control: tuple[int, float],
    treatment: tuple[int, float],
    *,
    method: RateMethod = "mid_p",
    alpha: float = 0.05,
    alternative: str = "two-sided",
    null: float = 1.0,
) -> Estimate:
    """Return the ratio of two Poisson rates, treatment over control, and its test.

    * "exact": binomial given the total; two-sided p over all counts no more likely than the one seen; interval of
      Clopper and Pearson (equal tails, so the two can differ a little at the edge);
    * "mid_p": the same with half of the observed probability; closest to the nominal level at small counts;
    * "score": (x_T - r d x_C) / √((x_T + x_C) r d), d = exposure ratio;
    * "sqrt": on the square-root scale with 3/8 added, steadies the variance;
    * "wald": on the difference of rates; p-value only;
    * "log": Wald on the log ratio.

    Args:
        control: (events, exposure).
        treatment: (events, exposure).
        method: See above; "score" and "sqrt" give bounds by inversion.
        alpha: Error level of the interval.
        alternative: "two-sided", "larger" or "smaller".
        null: Rate ratio under the null.

    Returns:
        The ratio; None (with a p-value from the conditional methods) when control has no events. An infinite upper
        bound is None. No events at all: status "zero_baseline".
    """
    check_level(alpha)
    check_alternative(alternative)
    (x0, e0), (x1, e1) = control, treatment
    if min(x0, x1) < 0 or not all(math.isfinite(e) and e >= 0.0 for e in (e0, e1)) or not 0.0 < null < math.inf:
        raise InvalidInputError("events and exposures must not be negative, and the ratio under the null positive")
    if method not in _METHODS:
        raise InvalidInputError(f"unknown method {method!r}", hint=", ".join(_METHODS))
    if e0 == 0.0 or e1 == 0.0:
        return Estimate.unknown("no_data", method=method, alpha=alpha, note="an arm has no exposure")
    if x0 + x1 == 0:
        return Estimate.unknown("zero_baseline", method=method, alpha=alpha, note="no events in either arm")
    d = e1 / e0
    value = x1 / x0 / d if x0 else None
    if method in ("exact", "mid_p"):
        pvalue, lower, upper = _conditional(x1, x0, d, null, method == "mid_p", alternative, alpha)
        return Estimate(value, None, lower, upper, pvalue, None, alpha, method, alternative, details={"null": null})
    if method == "log":
        return _log_ratio(x1, x0, value, null, alpha, alternative)

    def statistic(ratio: float) -> float:
        if method == "score":
            return (x1 - ratio * d * x0) / math.sqrt((x1 + x0) * ratio * d)
        if method == "sqrt":
            return 2.0 * (math.sqrt(x1 + 0.375) - math.sqrt((x0 + 0.375) * ratio * d)) / math.sqrt(1.0 + ratio * d)
        return (x1 / e1 - ratio * x0 / e0) / math.sqrt(x1 / e1**2 + ratio**2 * x0 / e0**2)

    z = statistic(null)
    lower, upper = (None, None) if method == "wald" else _inverted(statistic, alternative, alpha)
    pvalue = tail_pvalue(z, Reference(), alternative)
    return Estimate(
        value, None, lower, upper, pvalue, None, alpha, method, alternative, details={"statistic": z, "null": null}
    )


def _inverted(statistic: Callable[[float], float], alternative: str, alpha: float) -> tuple[float | None, float | None]:
    q = float(ndtri(1.0 - (alpha / 2.0 if alternative == "two-sided" else alpha)))
    ends: list[float | None] = []
    for sign, skipped in ((-1.0, "smaller"), (1.0, "larger")):
        if alternative == skipped:
            ends.append(None)
            continue
        root = bisect(lambda v, s=sign: statistic(math.exp(v)) + s * q, -60.0, 60.0)
        ends.append(None if root > 59.0 else (0.0 if root < -59.0 else math.exp(root)))
    return ends[0], ends[1]


def _log_ratio(x1: int, x0: int, value: float | None, null: float, alpha: float, alternative: str) -> Estimate:
    if not (x1 and x0) or value is None:
        note = "an arm has no events: use mid_p or exact"
        return Estimate(value, alpha=alpha, method="log", status="zero_baseline", note=note)
    se = math.sqrt(1.0 / x1 + 1.0 / x0)
    lower, upper = wald_interval(math.log(value), se, Reference(), alternative, alpha)
    z = (math.log(value) - math.log(null)) / se
    return Estimate(
        value,
        se,
        None if lower is None else math.exp(lower),
        None if upper is None else math.exp(upper),
        tail_pvalue(z, Reference(), alternative),
        None,
        alpha,
        "log",
        alternative,
        details={"statistic": z, "null": null},
    )
