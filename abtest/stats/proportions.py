"""Two independent proportions at a fixed horizon: difference, risk ratio, odds ratio, with intervals.

Works at zero events: the score intervals of Miettinen and Nurminen exist there. Exact tests: `proportion_tests`.
A proportion of clustered rows (refusals per request, users with several requests) is not binomial: use
`means.clustered_difference` or the ratio of unit sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from scipy.special import ndtri

from abtest.errors import InvalidInputError
from abtest.results import Estimate
from abtest.stats.means import Reference, check_alternative, tail_pvalue, wald_interval
from abtest.stats.multiplicity import check_level

DifferenceMethod = Literal["newcombe", "miettinen_nurminen", "mee", "agresti_caffo", "wald", "pooled"]
RatioMethod = Literal["miettinen_nurminen", "koopman", "log", "log_adjusted"]
OddsMethod = Literal["miettinen_nurminen", "logit", "logit_adjusted"]

_NORMAL = Reference()


class Table(NamedTuple):
    """Events and units of treatment (x1 of n1) and control (x0 of n0)."""

    x1: float
    n1: float
    x0: float
    n0: float

    @property
    def p1(self) -> float:
        """Share of events in the treatment."""
        return self.x1 / self.n1

    @property
    def p0(self) -> float:
        """Share of events in the control."""
        return self.x0 / self.n0


def check_table(control: tuple[int, int], treatment: tuple[int, int], alpha: float, alternative: str) -> Table | None:
    """Return the checked counts, (events, units) an arm; None when an arm is empty.

    Raises:
        InvalidInputError: Counts that cannot be, alpha outside (0, 1), an unknown alternative.
    """
    check_level(alpha)
    check_alternative(alternative)
    for events, units in (control, treatment):
        if not 0 <= events <= units:
            raise InvalidInputError(
                f"{events} events in {units} units cannot be", hint="give (events, units) with 0 <= events <= units"
            )
    (x0, n0), (x1, n1) = control, treatment
    return Table(x1, n1, x0, n0) if n0 and n1 else None


def bisect(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a falling function crosses zero between `low` and `high`, to the last bit."""
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if function(middle) > 0.0:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def wilson_interval(events: int, units: int, alpha: float = 0.05) -> tuple[float, float] | None:
    """Return Wilson's score interval of one proportion, two-sided; None without units. Source: Wilson (1927)."""
    check_level(alpha)
    if not 0 <= events <= units:
        raise InvalidInputError(f"{events} events in {units} units cannot be")
    if units == 0:
        return None
    q2 = float(ndtri(1.0 - alpha / 2.0)) ** 2
    p = events / units
    centre = (p + q2 / (2.0 * units)) / (1.0 + q2 / units)
    radius = math.sqrt(q2 * (p * (1.0 - p) / units + q2 / (4.0 * units * units))) / (1.0 + q2 / units)
    low = 0.0 if events == 0 else max(centre - radius, 0.0)
    return low, 1.0 if events == units else min(centre + radius, 1.0)


def _constrained_difference(t: Table, delta: float) -> tuple[float, float]:
    """Return the maximum-likelihood (p1, p0) under p1 - p0 = delta."""
    low, high = max(0.0, -delta), min(1.0, 1.0 - delta)

    def slope(p: float) -> float:
        parts = ((t.x1, p + delta), (-(t.n1 - t.x1), 1.0 - p - delta), (t.x0, p), (-(t.n0 - t.x0), 1.0 - p))
        return sum(k / max(base, 1e-300) for k, base in parts if k)

    # The likelihood is concave; with no events its maximum may sit on the edge, where the bisection ends too.
    p0 = bisect(slope, low, high)
    return min(max(p0 + delta, 0.0), 1.0), p0


def _z(distance: float, variance: float) -> float:
    if variance > 0.0:
        return distance / math.sqrt(variance)
    return 0.0 if distance == 0.0 else math.copysign(math.inf, distance)


def _score_difference(t: Table, delta: float, corrected: bool) -> float:
    p1, p0 = _constrained_difference(t, delta)
    factor = (t.n1 + t.n0) / (t.n1 + t.n0 - 1.0) if corrected else 1.0
    return _z(t.p1 - t.p0 - delta, factor * (p1 * (1.0 - p1) / t.n1 + p0 * (1.0 - p0) / t.n0))


def _score_ratio(t: Table, ratio: float, corrected: bool) -> float:
    a, c = (t.n1 + t.n0) * ratio, t.x1 + t.x0
    b = t.n1 * ratio + t.x1 + t.n0 + t.x0 * ratio
    p0 = 2.0 * c / (b + math.sqrt(max(b * b - 4.0 * a * c, 0.0)))
    p1 = min(ratio * p0, 1.0)
    factor = (t.n1 + t.n0) / (t.n1 + t.n0 - 1.0) if corrected else 1.0
    return _z(t.p1 - ratio * t.p0, factor * (p1 * (1.0 - p1) / t.n1 + ratio**2 * p0 * (1.0 - p0) / t.n0))


def _score_odds(t: Table, odds: float) -> float:
    events = t.x1 + t.x0
    b = t.n1 * odds + t.n0 - events * (odds - 1.0)
    p0 = 2.0 * events / (b + math.sqrt(max(b * b + 4.0 * t.n0 * (odds - 1.0) * events, 0.0)))
    below = 1.0 + p0 * (odds - 1.0)
    # At the edge (p0 rounds to one, odds to nothing) the margins still say how many events are left for the other arm.
    p1 = p0 * odds / below if below > 0.0 else min(max((events - t.n0 * p0) / t.n1, 0.0), 1.0)
    v1, v0 = t.n1 * p1 * (1.0 - p1), t.n0 * p0 * (1.0 - p0)
    total = t.n1 + t.n0
    if v1 <= 0.0 or v0 <= 0.0:
        return _z(t.x1 - t.n1 * p1, 0.0)
    return (t.x1 - t.n1 * p1) * math.sqrt((1.0 / v1 + 1.0 / v0) * (total - 1.0) / total)


def _invert(
    score: Callable[[float], float], low: float, centre: float, high: float, alternative: str, alpha: float
) -> tuple[float | None, float | None]:
    """Return where a falling score crosses ± the normal quantile; the end itself when it never does."""
    q = float(ndtri(1.0 - (alpha / 2.0 if alternative == "two-sided" else alpha)))
    lower = None if alternative == "smaller" else bisect(lambda v: score(v) - q, low, centre)
    upper = None if alternative == "larger" else bisect(lambda v: score(v) + q, centre, high)
    return lower, upper


def _newcombe(t: Table, alternative: str, alpha: float) -> tuple[float | None, float | None]:
    level = alpha if alternative == "two-sided" else 2.0 * alpha
    if level >= 1.0:
        raise InvalidInputError("a one-sided Newcombe interval needs alpha below 0.5")
    one, zero = wilson_interval(int(t.x1), int(t.n1), level), wilson_interval(int(t.x0), int(t.n0), level)
    assert one is not None
    assert zero is not None
    d = t.p1 - t.p0
    lower = d - math.hypot(t.p1 - one[0], zero[1] - t.p0)
    upper = d + math.hypot(one[1] - t.p1, t.p0 - zero[0])
    return (None if alternative == "smaller" else lower), (None if alternative == "larger" else upper)


def _plain_difference(t: Table, null: float, pooled: bool) -> tuple[float, float]:
    """Return the statistic and the standard error it is made with."""
    se2 = t.p1 * (1.0 - t.p1) / t.n1 + t.p0 * (1.0 - t.p0) / t.n0
    if pooled:
        share = (t.x1 + t.x0) / (t.n1 + t.n0)
        se2 = share * (1.0 - share) * (1.0 / t.n1 + 1.0 / t.n0)
    return _z(t.p1 - t.p0 - null, se2), math.sqrt(se2)


def proportion_difference(
    control: tuple[int, int],
    treatment: tuple[int, int],
    *,
    method: DifferenceMethod = "newcombe",
    alpha: float = 0.05,
    alternative: str = "two-sided",
    null: float = 0.0,
    continuity: bool = False,
) -> Estimate:
    """Return the difference of two independent proportions, treatment minus control.

    * "newcombe": interval from the two Wilson intervals [Newcombe 1998, method 10]; its p-value is the score test's;
    * "miettinen_nurminen": score test and its inversion, variance times N / (N - 1) [Miettinen, Nurminen 1985];
    * "mee": the same without the factor;
    * "agresti_caffo": one event and one non-event added to each arm, then Wald [Agresti, Caffo 2000];
    * "wald", "pooled": plain normal with each arm's variance or the pooled one, for test and interval alike; only for
      comparison with other tools.

    Args:
        control: (events, units).
        treatment: (events, units).
        method: See above.
        alpha: Error level of the interval.
        alternative: "two-sided", "larger" or "smaller".
        null: Difference under the null; a margin in points for non-inferiority.
        continuity: Yates' correction for "wald" and "pooled".
    """
    t = check_table(control, treatment, alpha, alternative)
    if not -1.0 < null < 1.0:
        raise InvalidInputError("a difference of proportions under the null must be between -1 and 1")
    if t is None:
        return Estimate.unknown("no_data", method=method, alpha=alpha, note="an arm is empty")
    value = t.p1 - t.p0
    if method in ("newcombe", "miettinen_nurminen", "mee"):
        corrected = method != "mee"
        statistic = _score_difference(t, null, corrected)
        if method == "newcombe":
            ends = _newcombe(t, alternative, alpha)
        else:
            ends = _invert(lambda d: _score_difference(t, d, corrected), -1.0, value, 1.0, alternative, alpha)
        return _estimate(value, None, ends, statistic, alpha, method, alternative, null)
    if method == "agresti_caffo":
        u = Table(t.x1 + 1.0, t.n1 + 2.0, t.x0 + 1.0, t.n0 + 2.0)
        statistic, se = _plain_difference(u, null, False)
        ends = wald_interval(u.p1 - u.p0, se, _NORMAL, alternative, alpha)
        return _estimate(value, se, ends, statistic, alpha, method, alternative, null)
    if method not in ("wald", "pooled"):
        raise InvalidInputError(f"unknown method {method!r}", hint="newcombe, miettinen_nurminen, agresti_caffo, ...")
    return _normal_difference(t, method, alpha, alternative, null, continuity)


def _normal_difference(
    t: Table, method: str, alpha: float, alternative: str, null: float, continuity: bool
) -> Estimate:
    value = t.p1 - t.p0
    statistic, se = _plain_difference(t, null, method == "pooled")
    if se == 0.0:
        return Estimate(value, alpha=alpha, method=method, alternative=alternative, status="zero_variance")
    step = 0.5 * (1.0 / t.n1 + 1.0 / t.n0) if continuity else 0.0
    distance = abs(value - null)
    statistic *= max(distance - step, 0.0) / distance if distance else 1.0
    lower, upper = wald_interval(value, se, _NORMAL, alternative, alpha)
    ends = (None if lower is None else lower - step, None if upper is None else upper + step)
    return _estimate(value, se, ends, statistic, alpha, method, alternative, null)


def _estimate(
    value: float | None,
    se: float | None,
    ends: tuple[float | None, float | None],
    statistic: float,
    alpha: float,
    method: str,
    alternative: str,
    null: float,
) -> Estimate:
    pvalue = tail_pvalue(statistic, _NORMAL, alternative)
    details = {"statistic": statistic if math.isfinite(statistic) else None, "null": null}
    return Estimate(value, se, ends[0], ends[1], pvalue, None, alpha, method, alternative, details=details)


def _log_scale(t: Table, odds: bool, half: bool, null: float, alpha: float, alternative: str, method: str) -> Estimate:
    """Wald on the log scale, with half an event added to each cell when `half`."""
    add = 0.5 if half else 0.0
    u = Table(t.x1 + add, t.n1 + (2.0 * add if odds else add), t.x0 + add, t.n0 + (2.0 * add if odds else add))
    misses = ((u.n1 - u.x1) * (u.n0 - u.x0)) if odds else 1.0
    point = _ratio_point(t, odds)
    if u.x1 <= 0.0 or u.x0 <= 0.0 or misses <= 0.0:
        note = "an arm has no events (or only events): use the score method"
        return Estimate(point, alpha=alpha, method=method, status="zero_baseline", note=note)
    if odds:
        centre = math.log(u.x1 * (u.n0 - u.x0)) - math.log(u.x0 * (u.n1 - u.x1))
        se = math.sqrt(1.0 / u.x1 + 1.0 / (u.n1 - u.x1) + 1.0 / u.x0 + 1.0 / (u.n0 - u.x0))
    else:
        centre = math.log(u.p1) - math.log(u.p0)
        se = math.sqrt(max(1.0 / u.x1 - 1.0 / u.n1 + 1.0 / u.x0 - 1.0 / u.n0, 0.0))
    if se == 0.0:
        return Estimate(point, alpha=alpha, method=method, status="zero_variance")
    lower, upper = wald_interval(centre, se, _NORMAL, alternative, alpha)
    ends = (None if lower is None else math.exp(lower), None if upper is None else math.exp(upper))
    return _estimate(point, se, ends, (centre - math.log(null)) / se, alpha, method, alternative, null)


def _ratio_point(t: Table, odds: bool) -> float | None:
    top = t.x1 * (t.n0 - t.x0) if odds else t.x1 * t.n0
    bottom = t.x0 * (t.n1 - t.x1) if odds else t.x0 * t.n1
    return top / bottom if bottom else None


def _score_on_log_scale(
    t: Table, odds: bool, score: Callable[[float], float], null: float, alpha: float, alternative: str, method: str
) -> Estimate:
    """Invert a score over log(ratio); bounds at 0 or infinity are 0 and None."""
    events, units = t.x1 + t.x0, t.n1 + t.n0
    if events == 0 or (odds and events == units):
        note = "no events in either arm" if events == 0 else "only events in both arms"
        return Estimate.unknown("zero_baseline", method=method, alpha=alpha, note=note)
    point = _ratio_point(t, odds)
    lower, upper = _invert(lambda v: score(math.exp(v)), -60.0, _log_start(point), 60.0, alternative, alpha)
    # A bound that ran into the end of the search is no bound: zero events leave that side open.
    bottom = None if lower is None else (0.0 if lower < -59.0 else math.exp(lower))
    top = None if upper is None or upper > 59.0 else math.exp(upper)
    return _estimate(point, None, (bottom, top), score(null), alpha, method, alternative, null)


def _log_start(point: float | None) -> float:
    if point is None:
        return 60.0
    return math.log(point) if point > 0.0 else -60.0


def risk_ratio(
    control: tuple[int, int],
    treatment: tuple[int, int],
    *,
    method: RatioMethod = "miettinen_nurminen",
    alpha: float = 0.05,
    alternative: str = "two-sided",
    null: float = 1.0,
) -> Estimate:
    """Return the ratio of two independent proportions, treatment over control.

    "miettinen_nurminen" and "koopman" (without N / (N - 1)) invert the score test and work at zero events: the upper
    bound is then None (infinite) or the lower one 0. "log" is Wald on the log scale [Katz 1978], "log_adjusted" adds
    half an event to each arm [Walter 1975].

    Args:
        control: (events, units).
        treatment: (events, units).
        method: See above.
        alpha: Error level of the interval.
        alternative: "two-sided", "larger" or "smaller".
        null: Ratio under the null; 1 + m for a relative margin m.
    """
    t = check_table(control, treatment, alpha, alternative)
    if not (math.isfinite(null) and null > 0.0):
        raise InvalidInputError("a ratio under the null must be positive")
    if t is None:
        return Estimate.unknown("no_data", method=method, alpha=alpha, note="an arm is empty")
    if method in ("log", "log_adjusted"):
        return _log_scale(t, False, method == "log_adjusted", null, alpha, alternative, method)
    if method not in ("miettinen_nurminen", "koopman"):
        raise InvalidInputError(f"unknown method {method!r}", hint="miettinen_nurminen, koopman, log, log_adjusted")
    corrected = method == "miettinen_nurminen"
    return _score_on_log_scale(t, False, lambda r: _score_ratio(t, r, corrected), null, alpha, alternative, method)


def odds_ratio(
    control: tuple[int, int],
    treatment: tuple[int, int],
    *,
    method: OddsMethod = "miettinen_nurminen",
    alpha: float = 0.05,
    alternative: str = "two-sided",
    null: float = 1.0,
) -> Estimate:
    """Return the odds ratio of two independent proportions, treatment over control.

    "miettinen_nurminen" inverts the score test and works at zero events; "logit" is Wald on the log scale [Woolf 1955],
    "logit_adjusted" adds half an event to each cell [Haldane 1956, Anscombe 1956].

    Args:
        control: (events, units).
        treatment: (events, units).
        method: See above.
        alpha: Error level of the interval.
        alternative: "two-sided", "larger" or "smaller".
        null: Odds ratio under the null.
    """
    t = check_table(control, treatment, alpha, alternative)
    if not (math.isfinite(null) and null > 0.0):
        raise InvalidInputError("an odds ratio under the null must be positive")
    if t is None:
        return Estimate.unknown("no_data", method=method, alpha=alpha, note="an arm is empty")
    if method in ("logit", "logit_adjusted"):
        return _log_scale(t, True, method == "logit_adjusted", null, alpha, alternative, method)
    if method != "miettinen_nurminen":
        raise InvalidInputError(f"unknown method {method!r}", hint="miettinen_nurminen, logit, logit_adjusted")
    return _score_on_log_scale(t, True, lambda r: _score_odds(t, r), null, alpha, alternative, method)
