"""What the tests of the shadow stage say of one curve: bounds of the harm and of the effect, sequential or fixed, and by bets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from abtest.analysis.shadow_constants import difference_worth_finding, tuning_of
from abtest.analysis.shadow_score import (
    Curve,
    PairedScore,
    fixed_evidence,
    harm_evidence,
    safe_evidence,
    two_sided_evidence,
)
from abtest.metrics.base import MetricSpec
from abtest.results import finite
from abtest.spec import Experiment
from abtest.stats.betting import bet_grid, betting_interval, log_wealth
from abtest.stats.numerics import Alternative


@dataclass(frozen=True)
class Bounds:
    """Bounds of the harm (larger is worse): one-sided at the share of the halt budget, one-sided and two-sided at alpha."""

    harm_lower: float | None = None
    harm_upper: float | None = None
    lower: float | None = None
    upper: float | None = None
    log_e: float | None = None
    harm_log_e: float | None = None


@dataclass(frozen=True)
class Asked:
    """What decides how a metric is tested.

    Attributes:
        experiment: Its alpha, halt budget and kind of test.
        spec: The metric.
        frozen: Its constants.
        flag: Whether it is a share of answers.
        harm_alpha: Its share of the halt budget.
    """

    experiment: Experiment
    spec: MetricSpec
    frozen: Mapping[str, float]
    flag: bool
    harm_alpha: float

    @property
    def alpha(self) -> float:
        """Return the level of intervals and of calling a guardrail safe."""
        return float(self.experiment.alpha)

    @property
    def margin(self) -> float:
        """Return the guardrail's margin, 0 without one."""
        return self.spec.guardrail.margin.value if self.spec.guardrail else 0.0


def mixture_bounds(asked: Asked, curve: Curve, plain: Curve) -> Bounds | None:
    """Return the bounds of the normal mixture (or of the fixed test); None while the constants are not known.

    Args:
        asked: How the metric is tested.
        curve: In the unit of the margin.
        plain: In the metric's unit.
    """
    if asked.experiment.sequential.method == "fixed":
        z_harm, z_safe, z_two = (float(special.ndtri(1 - a)) for a in (asked.harm_alpha, asked.alpha, asked.alpha / 2))
        return Bounds(
            curve.lower(fixed_evidence, z_harm**2), curve.upper(fixed_evidence, z_safe**2),
            plain.lower(fixed_evidence, z_two**2), plain.upper(fixed_evidence, z_two**2),
        )  # fmt: skip
    spec, frozen, flag = asked.spec, asked.frozen, asked.flag
    harm = tuning_of(spec, frozen, asked.harm_alpha, one_sided=True, flag=flag)
    safe = tuning_of(spec, frozen, asked.alpha, one_sided=True, flag=flag)
    both = tuning_of(spec, frozen, asked.alpha, one_sided=False, flag=flag)
    if harm is None or safe is None or both is None:
        return None
    level, two_sided = -math.log(asked.alpha), two_sided_evidence(both)
    return Bounds(
        curve.lower(harm_evidence(harm), -math.log(asked.harm_alpha)), curve.upper(safe_evidence(safe), level),
        plain.lower(two_sided, level), plain.upper(two_sided, level),
        finite(float(two_sided(*plain.at(0.0)))), finite(float(harm_evidence(harm)(*curve.at(asked.margin)))),
    )  # fmt: skip


def betting_bounds(
    asked: Asked, rows: Sequence[Mapping[str, Any]], scale: int, bounds: tuple[float, float]
) -> tuple[Bounds, float, int] | None:
    """Return bounds by bets on each unit's first pair, the mean harm of those pairs, and how many units there are.

    Exact at any look and any number of units: the mean of bounded differences, no central limit theorem.

    Args:
        asked: How the metric is tested.
        rows: Units by the difference of their first pair, in fixed point.
        scale: Of the differences.
        bounds: Smallest and largest value of one answer.

    Returns:
        None while the constants are not known, no unit came after the warm-up, or a value lies outside the bounds.
    """
    width = bounds[1] - bounds[0]
    values = np.array([asked.spec.sign * int(r["difference"]) / scale for r in rows])
    counts = np.array([int(r["units"]) for r in rows], dtype=float)
    if "variance" not in asked.frozen or not counts.size or float(np.abs(values).max()) > width * (1 + 1e-12):
        return None
    values = np.clip(values, -width, width)  # what rounding to fixed point may have added
    distance = difference_worth_finding(asked.spec, asked.frozen["variance"], asked.frozen["baseline"])
    share = min(distance / width, 0.5)
    variance = max(asked.frozen["variance"], width * width * share * (1 - share))

    def interval(alpha: float, alternative: Alternative) -> tuple[float | None, float | None]:
        z = float(special.ndtri(1 - alpha) + special.ndtri(0.8))
        low, high = betting_interval(
            values, counts, alpha, lower=-width, upper=width, n_star=variance * z * z / (distance * distance), variance=variance,
            alternative=alternative,
        )  # fmt: skip
        return (low if low > -width else None), (high if high < width else None)

    harm, safe, both = (
        interval(asked.harm_alpha, "larger"),
        interval(asked.alpha, "smaller"),
        interval(asked.alpha, "two-sided"),
    )
    z = float(special.ndtri(1 - asked.harm_alpha) + special.ndtri(0.8))
    bets = bet_grid(variance * z * z / distance**2, variance, asked.harm_alpha, 2 * width, alternative="larger")
    log_e = float(bets.log_e(log_wealth(values, counts, bets, shift=min(asked.margin, width))))
    mean = float(values @ counts / counts.sum())
    return Bounds(harm[0], safe[1], both[0], both[1], None, finite(log_e)), mean, int(counts.sum())


def side_by_side(asked: Asked, score: PairedScore, plain: Curve) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the paired and the unpaired comparison of the same answers: treatment minus control, in the metric's unit."""
    n, difference, sign = score.sums.units, score.treatment - score.control, asked.spec.sign
    found: list[dict[str, Any]] = []
    for curve, factor, df in (
        (plain, 1.0, float(n - 1)),
        (score.apart(), score.gain or 1.0, _satterthwaite(score.var_control, score.var_treatment, n)),
    ):
        se = curve.std_error
        row: dict[str, Any] = {"estimate": difference, "std_error": se or None, "ci_lower": None, "ci_upper": None}
        rho2 = tuning_of(asked.spec, asked.frozen, asked.alpha, one_sided=False, flag=asked.flag, factor=factor)
        if rho2 is not None and (se > 0 or asked.flag) and asked.experiment.sequential.method == "anytime":
            evidence, level = two_sided_evidence(rho2), -math.log(asked.alpha)
            low, high = curve.lower(evidence, level), curve.upper(evidence, level)
            if sign < 0:
                low, high = (None if high is None else -high), (None if low is None else -low)
            row["ci_lower"], row["ci_upper"] = low, high
        found.append({**row, **_fixed(difference, se, n, df, asked.alpha)})
    return found[0], found[1]


def _satterthwaite(a: float, b: float, n: int) -> float:
    spread = a * a + b * b
    return (a + b) ** 2 / spread * (n - 1) if spread > 0 else float(n - 1)


def _fixed(difference: float, se: float, n: int, df: float, alpha: float) -> dict[str, Any]:
    """Return the t interval and p-value of one look at a declared time; variances divide by n - 1 there."""
    blank: dict[str, Any] = {"fixed_lower": None, "fixed_upper": None, "pvalue": None, "df": finite(df)}
    if n < 2 or se <= 0:
        return blank
    se *= math.sqrt(n / (n - 1))
    t = float(special.stdtrit(df, 1 - alpha / 2))
    pvalue = float(2 * special.stdtr(df, -abs(difference) / se))
    return {**blank, "fixed_lower": difference - t * se, "fixed_upper": difference + t * se, "pvalue": pvalue}
