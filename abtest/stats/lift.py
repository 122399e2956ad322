"""Relative lift of a mean, ratio or proportion at a fixed horizon: log scale, Fieller, or delta method.

For display. A relative *margin* is tested as a contrast without dividing by the baseline: see `margins`.
Sources: Fieller (1954); Deng, Knoblich and Lu (2018).
"""

from __future__ import annotations

import math
from typing import Literal

from abtest.errors import InvalidInputError
from abtest.results import Estimate
from abtest.stats.means import Distribution, Reference, compare_levels, tail_pvalue, wald_interval, welch_df
from abtest.stats.moments import Level
from abtest.stats.multiplicity import check_level

LiftMethod = Literal["auto", "log", "delta", "fieller"]

_LARGEST = 1e75  # lifts and variances beyond this are a baseline of zero
_SMALLEST = 1e-40  # a squared relative error below what floats can tell
_NEAR_ZERO = 3.0  # standard errors from zero below which a baseline is divided by through Fieller only


def relative_lift(
    control: Level | None,
    treatment: Level | None,
    *,
    method: LiftMethod = "auto",
    alpha: float = 0.05,
    distribution: Distribution = "t",
    equal_var: bool = False,
) -> Estimate:
    """Return the relative difference (T - C) / |C|; its sign is the sign of the difference, negative baselines too.

    * "log": exp(log(T/C) ± q se) - 1 with se² = s_C²/(n_C m_C²) + s_T²/(n_T m_T²);
    * "fieller": exact inversion of T - θ C = 0; unbounded (None) when the baseline is not clearly away from zero;
    * "delta": value ± q se with se² = V_T/C² + V_C T²/C⁴; kept for comparison, poor when C is uncertain;
    * "auto": "log", and "fieller" when C is within 3 standard errors of zero or the arms differ in sign.

    Args:
        control: Control's level.
        treatment: Treatment's level.
        method: Which interval.
        alpha: Error level, two-sided.
        distribution: "t" (Satterthwaite on the scale of the method) or "z".
        equal_var: Student's pooled variance; with "log" that of the logarithms.
    """
    check_level(alpha)
    absolute = compare_levels(control, treatment, alpha=alpha, distribution=distribution, equal_var=equal_var)
    name = f"lift_{method}"
    if control is None or treatment is None or absolute.value is None:
        return Estimate.unknown(absolute.status, method=name, alpha=alpha, note=absolute.note)
    c, t = control.value, treatment.value
    if c == 0.0:
        return Estimate.unknown("zero_baseline", method=name, alpha=alpha, note="control is zero")
    value = absolute.value / abs(c)
    # The lift has no unit: with control as the unit, squares stay within the range of floats.
    control, treatment = _in_units_of(control, abs(c)), _in_units_of(treatment, abs(c))
    if max(abs(treatment.value), control.variance, treatment.variance) > _LARGEST:
        return Estimate.unknown("zero_baseline", method=name, alpha=alpha, note="control is next to zero")
    c, t = control.value, treatment.value
    if absolute.status == "ok" and control.se2 + treatment.se2 < _SMALLEST:
        return Estimate(value, alpha=alpha, method=name, status="zero_variance")
    if absolute.status != "ok":
        return Estimate(value, alpha=alpha, method=name, status=absolute.status)
    if method == "auto":
        sure = c * c > _NEAR_ZERO**2 * control.se2 and t * c > 0.0
        method = "log" if sure else "fieller"
        name = f"lift_{method}"
    reference = Reference(absolute.details["df"])
    if method == "log":
        return _log_lift(value, control, treatment, equal_var, distribution, alpha)
    if method == "fieller":
        return _fieller_lift(value, control, treatment, reference, absolute)
    if method == "delta":
        se = math.sqrt(treatment.se2 + control.se2 * t * t)
        if se * se < _SMALLEST:
            return Estimate(value, alpha=alpha, method=name, status="zero_variance")
        lower, upper = wald_interval(value, se, reference, "two-sided", alpha)
        pvalue = tail_pvalue(value / se, reference, "two-sided")
        return Estimate(value, se, lower, upper, pvalue, None, alpha, name, details={"df": reference.df})
    raise InvalidInputError(f"unknown method {method!r}", hint="auto, log, fieller or delta")


def _in_units_of(arm: Level, unit: float) -> Level:
    deviation = math.sqrt(arm.variance) / unit
    return Level(arm.n, arm.value / unit, deviation * deviation)


def _log_lift(
    value: float,
    control: Level,
    treatment: Level,
    equal_var: bool,
    distribution: Distribution,
    alpha: float,
) -> Estimate:
    c, t = control.value, treatment.value
    if t * c <= 0.0:
        return Estimate(value, alpha=alpha, method="lift_log", status="unsupported", note="arms of different sign")
    sign = math.copysign(1.0, c)
    a, b = _in_units_of(treatment, abs(t)).se2, control.se2
    if not a + b < _LARGEST:
        return Estimate(value, alpha=alpha, method="lift_log", status="unsupported", note="an arm is next to zero")
    if a + b < _SMALLEST:
        return Estimate(value, alpha=alpha, method="lift_log", status="zero_variance")
    df = welch_df(a, treatment.n, b, control.n)
    if equal_var:  # of the logarithms: equal coefficients of variation
        df = float(treatment.n + control.n - 2)
        pooled = (a * treatment.n * (treatment.n - 1) + b * control.n * (control.n - 1)) / df
        a, b = pooled / treatment.n, pooled / control.n
    se = math.sqrt(a + b)
    centre = math.log(t / c)
    reference = Reference(df if distribution == "t" else None)
    q = reference.quantile(1.0 - alpha / 2.0)
    # Beyond e^700 a float ends; such a bound says nothing and is left open.
    ends = [sign * math.expm1(e) if e < 700.0 else None for e in (centre - q * se, centre + q * se)]
    lower, upper = (ends[0], ends[1]) if sign > 0 else (ends[1], ends[0])
    pvalue = tail_pvalue(centre / se, reference, "two-sided")
    return Estimate(value, se, lower, upper, pvalue, None, alpha, "lift_log", details={"df": reference.df})


def _fieller_lift(value: float, control: Level, treatment: Level, reference: Reference, absolute: Estimate) -> Estimate:
    c, t = control.value, treatment.value
    alpha = float(absolute.alpha or 0.05)
    sign = math.copysign(1.0, c)
    q2 = reference.quantile(1.0 - alpha / 2.0) ** 2
    a, b, d = c * c - q2 * control.se2, c * t, t * t - q2 * treatment.se2
    disc = b * b - a * d
    details = {"df": reference.df, "baseline_in_se": abs(c) / math.sqrt(control.se2) if control.se2 > 0 else None}
    if a <= 0.0 or disc < 0.0:
        note = "the interval is unbounded: the baseline is not clearly away from zero"
        return Estimate(
            value, None, None, None, absolute.pvalue, None, alpha, "lift_fieller", note=note, details=details
        )
    ratios = [(b - math.sqrt(disc)) / a, (b + math.sqrt(disc)) / a]
    ends = sorted(sign * (r - 1.0) for r in ratios)
    return Estimate(value, None, ends[0], ends[1], absolute.pvalue, None, alpha, "lift_fieller", details=details)
