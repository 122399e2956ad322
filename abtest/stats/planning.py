"""How much is needed: sample sizes and power, fixed, group sequential and always valid. Days: `planning_ramp`.

Numbers of units are not rounded; round up where people are counted. The unit is the unit of randomisation: feed the
variance of the unit's mean (or of its ratio influence), which already holds the clustering, or multiply by
`design_effect`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import nctdtr, ndtr, ndtri, stdtrit

from abtest.errors import InvalidInputError
from abtest.results import ToDict
from abtest.stats.group_sequential import Spending, operating, spending_design
from abtest.stats.mixture import boundary, boundary_informed, tuning
from abtest.stats.multiplicity import check_level
from abtest.stats.recursion import crossings

Distribution = Literal["z", "t"]
SequentialMethod = Literal["anytime", "informed"]

_LOOKS = 100  # looks at which the anytime factor is computed; 200 change it by less than one per cent


@dataclass(frozen=True)
class SampleSize(ToDict):
    """Units needed, not rounded: in control, in treatment, together."""

    control: float
    treatment: float

    @property
    def total(self) -> float:
        """Units in both arms."""
        return self.control + self.treatment


def check_positive(name: str, value: float) -> float:
    """Return `value` when it is finite and above zero; raises InvalidInputError otherwise."""
    if not (math.isfinite(value) and value > 0.0):
        raise InvalidInputError(f"{name} must be positive, not {value}")
    return float(value)


def check_sides(sides: int) -> None:
    """Raise InvalidInputError unless `sides` is 1 or 2."""
    if sides not in (1, 2):
        raise InvalidInputError(f"sides must be 1 or 2, not {sides}")


def check_effect(effect: float) -> float:
    """Return the size of an effect; raises InvalidInputError when it is zero or not finite."""
    if not math.isfinite(effect) or effect == 0.0:
        raise InvalidInputError("the effect to find must be a number that is not zero")
    return abs(effect)


def mean_power(
    effect: float,
    n_control: float,
    n_treatment: float,
    variance_control: float,
    variance_treatment: float | None = None,
    *,
    alpha: float = 0.05,
    sides: int = 2,
    distribution: Distribution = "z",
) -> float:
    """Return the power to find a difference of two means at a fixed horizon.

    Args:
        effect: Difference to find, in the unit of the metric.
        n_control: Units in control.
        n_treatment: Units in treatment.
        variance_control: Variance of one unit.
        variance_treatment: The same in treatment; default: as in control.
        alpha: Error level over both sides, or of the one side.
        sides: 1 or 2.
        distribution: "z", or "t" (noncentral t with n_C + n_T - 2 degrees of freedom; the normal where it overflows).
    """
    check_level(alpha)
    check_sides(sides)
    d = check_effect(effect)
    vt = variance_control if variance_treatment is None else variance_treatment
    se = math.sqrt(check_positive("a variance", variance_control) / check_positive("n", n_control) + vt / n_treatment)
    shift = d / se
    if distribution == "t":
        df = n_control + n_treatment - 2.0
        q = float(stdtrit(df, 1.0 - alpha / sides))
        power = 1.0 - float(nctdtr(df, shift, q))
        power += float(nctdtr(df, shift, -q)) if sides == 2 else 0.0
        if math.isfinite(power):
            return power
    q = float(-ndtri(alpha / sides))
    power = float(ndtr(shift - q))
    return power + (float(ndtr(-shift - q)) if sides == 2 else 0.0)


def sample_size(
    effect: float,
    variance_control: float,
    variance_treatment: float | None = None,
    *,
    ratio: float = 1.0,
    alpha: float = 0.05,
    power: float = 0.8,
    sides: int = 2,
    distribution: Distribution = "z",
) -> SampleSize:
    """Return the units needed to find a difference of two means at a fixed horizon.

    n_C = (z_{1-alpha/sides} + z_power)² (s_C² + s_T² / ratio) / effect², refined until `mean_power` gives the wanted
    power (two-sided power counts the far side too, which changes the sixth digit); "t" solves the noncentral t.

    Args:
        effect: Difference to find, in the unit of the metric.
        variance_control: Variance of one unit.
        variance_treatment: The same in treatment; default: as in control.
        ratio: Treatment units per control unit: q / (1 - q) for a treatment share q.
        alpha: Error level over both sides, or of the one side.
        power: Wanted power.
        sides: 1 or 2.
        distribution: "z" or "t".
    """
    check_level(alpha)
    check_level(power, "power")
    check_sides(sides)
    d, r = check_effect(effect), check_positive("ratio", ratio)
    vc = check_positive("a variance", variance_control)
    vt = vc if variance_treatment is None else check_positive("a variance", variance_treatment)
    z = float(-ndtri(alpha / sides) + ndtri(power))
    if z <= 0.0:
        raise InvalidInputError(f"a power of {power} is reached without data at alpha {alpha}")
    n = z * z * (vc + vt / r) / (d * d)
    if distribution == "z" and sides == 1:
        return SampleSize(n, n * r)

    def excess(units: float) -> float:
        return mean_power(d, units, units * r, vc, vt, alpha=alpha, sides=sides, distribution=distribution) - power

    low = max(0.5 * n, 2.0 / (1.0 + r) + 1e-6) if distribution == "t" else 0.5 * n
    n = low if excess(low) >= 0.0 else _rising_root(excess, low, 2.0 * n + 20.0)
    return SampleSize(n, n * r)


def detectable_effect(
    n_control: float,
    n_treatment: float,
    variance_control: float,
    variance_treatment: float | None = None,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    sides: int = 2,
) -> float:
    """Return the smallest difference of means found with the wanted power at a fixed horizon (normal)."""
    check_level(alpha)
    check_level(power, "power")
    check_sides(sides)
    vt = variance_control if variance_treatment is None else variance_treatment
    se2 = check_positive("a variance", variance_control) / check_positive("n", n_control) + vt / check_positive(
        "n", n_treatment
    )
    return float(-ndtri(alpha / sides) + ndtri(power)) * math.sqrt(se2)


def _proportion_errors(p_control: float, difference: float, ratio: float) -> tuple[float, float]:
    """Return √n times the standard errors under the null (pooled) and under the alternative."""
    p1 = p_control + difference
    if not (0.0 <= p_control <= 1.0 and 0.0 <= p1 <= 1.0) or difference == 0.0:
        raise InvalidInputError("both proportions must be in [0, 1] and differ")
    pooled = (p_control * ratio + p1) / (1.0 + ratio)
    null = (1.0 + 1.0 / ratio) * pooled * (1.0 - pooled)
    return math.sqrt(null), math.sqrt(p_control * (1.0 - p_control) / ratio + p1 * (1.0 - p1))


def proportion_sample_size(
    p_control: float, difference: float, *, ratio: float = 1.0, alpha: float = 0.05, power: float = 0.8, sides: int = 2
) -> SampleSize:
    """Return the units needed to find a difference of two proportions: pooled variance under the null, unpooled beside.

    n_T = (z_{1-alpha/sides} s_0 + z_power s_1)² / difference² [Fleiss, Tytun, Ury 1980, without continuity].

    Args:
        p_control: Share of events in control.
        difference: Treatment minus control, in points (0.01 is one point).
        ratio: Control units per treatment unit.
        alpha: Error level over both sides, or of the one side.
        power: Wanted power.
        sides: 1 or 2.
    """
    check_level(alpha)
    check_level(power, "power")
    check_sides(sides)
    null, alternative = _proportion_errors(p_control, difference, check_positive("ratio", ratio))
    z = float(-ndtri(alpha / sides)) * null + float(ndtri(power)) * alternative
    n = (z / difference) ** 2
    return SampleSize(n * ratio, n)


def proportion_power(
    p_control: float, difference: float, n_treatment: float, *, ratio: float = 1.0, alpha: float = 0.05, sides: int = 2
) -> float:
    """Return the power to find a difference of two proportions; `ratio` is control units per treatment unit."""
    check_level(alpha)
    check_sides(sides)
    null, alternative = _proportion_errors(p_control, difference, check_positive("ratio", ratio))
    if alternative == 0.0:
        return 1.0
    q = float(-ndtri(alpha / sides)) * null / alternative
    shift = abs(difference) * math.sqrt(check_positive("n", n_treatment)) / alternative
    return float(ndtr(shift - q)) + (float(ndtr(-shift - q)) if sides == 2 else 0.0)


def design_effect(rows_per_unit: float, correlation: float, variation: float = 0.0) -> float:
    """Return by how much clustering inflates the variance of a row mean: 1 + ((1 + cv²) m - 1) ICC.

    Args:
        rows_per_unit: Mean rows of a unit, m.
        correlation: Intra-class correlation, in [0, 1].
        variation: Coefficient of variation of the rows per unit.

    Source: Kish (1965); Eldridge, Ashby and Kerry (2006) for unequal units.
    """
    if rows_per_unit < 1.0 or not 0.0 <= correlation <= 1.0 or variation < 0.0:
        raise InvalidInputError("rows per unit must be at least 1 and the correlation in [0, 1]")
    return 1.0 + ((1.0 + variation**2) * rows_per_unit - 1.0) * correlation


def anytime_factor(
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    sides: int = 2,
    method: SequentialMethod = "anytime",
    tuned_at: float = 1.0,
    looks: int = _LOOKS,
) -> float:
    """Return how many times the fixed-horizon sample an always-valid test needs for `power`.

    The fixed-horizon sample is the *two-sided* one at 80 % power and the same alpha, for one-sided tests too, so that
    the numbers compare. Computed by the crossing recursion at equally spaced looks. This is the *largest* sample at
    which the power is reached; the mean stop is far earlier.

    Args:
        power: Wanted power.
        alpha: Error level of the sequence.
        sides: 1 (harm only) or 2.
        method: "anytime" (normal mixture) or "informed" (mixture around the effect, a third of it wide).
        tuned_at: Where the mixture is tuned, in fixed-horizon samples.
        looks: Number of looks.
    """
    check_level(alpha)
    check_level(power, "power")
    check_sides(sides)
    check_positive("tuned_at", tuned_at)
    if looks < 1 or method not in ("anytime", "informed"):
        raise InvalidInputError("at least one look is needed, and method anytime or informed")
    drift = float(-ndtri(alpha / 2.0) + ndtri(0.8))

    def reached(factor: float) -> float:
        t = np.linspace(factor / looks, factor, looks)
        if method == "anytime":
            edge = boundary(t, tuning(tuned_at, alpha, one_sided=sides == 1), alpha, one_sided=sides == 1)
        else:
            edge = boundary_informed(t, drift, drift / 3.0, alpha, alternative="two-sided" if sides == 2 else "larger")
        z = edge / np.sqrt(t)
        return float(crossings(t, z, -z if sides == 2 else None, drift=drift).upper.sum())

    return _rising_root(lambda f: reached(f) - power, 0.05, 64.0)


def _rising_root(function: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq

    return float(np.asarray(brentq(function, low, high, xtol=1e-9)))


@dataclass(frozen=True)
class SequentialSize(ToDict):
    """Group sequential sample sizes: the largest, and the mean with and without the effect (units of both arms)."""

    maximum: float
    mean_under_effect: float
    mean_under_null: float
    inflation: float


def group_sequential_size(
    effect: float,
    variance_control: float,
    variance_treatment: float | None = None,
    *,
    times: Sequence[float] = (0.2, 0.4, 0.6, 0.8, 1.0),
    ratio: float = 1.0,
    alpha: float = 0.05,
    power: float = 0.8,
    sides: int = 2,
    spending: Spending = "obrien_fleming",
) -> SequentialSize:
    """Return the sample of a group sequential design, as fixed-horizon sample times its inflation factor.

    Args:
        effect: Difference to find.
        variance_control: Variance of one unit.
        variance_treatment: The same in treatment; default: as in control.
        times: Shares of the information at the looks.
        ratio: Treatment units per control unit.
        alpha: Total error level.
        power: Wanted power.
        sides: 1 or 2.
        spending: Error-spending function.
    """
    design = spending_design(times, alpha=alpha, sides=sides, spending=spending, power=power)
    fixed = sample_size(
        effect, variance_control, variance_treatment, ratio=ratio, alpha=alpha, power=power, sides=sides
    ).total
    inflation, drift = float(design.inflation or 1.0), float(design.drift or 0.0)
    largest, last = fixed * inflation, design.times[-1]
    with_effect, without = operating(design, drift), operating(design, 0.0)
    return SequentialSize(
        largest, largest * with_effect.mean_information / last, largest * without.mean_information / last, inflation
    )
