"""Fixed-horizon comparison of means, ratios, proportions with t degrees of freedom, and all of them with CUPED.

Everything here is for one look at a date fixed beforehand; whatever is looked at twice belongs to a sequential method.
The unit of the moments is the unit of randomisation: rows of one user are first summed to one row (numerator) with its
number of rows (denominator), which is the cluster-robust comparison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from abtest.errors import InvalidInputError
from abtest.results import Estimate
from abtest.stats.moments import TOO_LARGE, Columns, Level, Moments, covariate_level, cuped_theta, level, too_large
from abtest.stats.multiplicity import check_level

Alternative = Literal["two-sided", "larger", "smaller"]
Distribution = Literal["t", "z"]


@dataclass(frozen=True)
class Reference:
    """The distribution a statistic is compared with: Student's t with `df`, or the normal when `df` is None."""

    df: float | None = None

    def upper_tail(self, x: float) -> float:
        """Return P(T > x)."""
        return float(ndtr(-x)) if self.df is None else float(stdtr(self.df, -x))

    def quantile(self, p: float) -> float:
        """Return the p-quantile."""
        return float(ndtri(p)) if self.df is None else float(stdtrit(self.df, p))


def check_alternative(alternative: str) -> None:
    """Raise InvalidInputError for an unknown alternative."""
    if alternative not in ("two-sided", "larger", "smaller"):
        raise InvalidInputError(f"unknown alternative {alternative!r}", hint="two-sided, larger or smaller")


def tail_pvalue(statistic: float, reference: Reference, alternative: str) -> float:
    """Return the p-value of a statistic for the alternative."""
    if alternative == "larger":
        return reference.upper_tail(statistic)
    if alternative == "smaller":
        return reference.upper_tail(-statistic)
    return min(1.0, 2.0 * reference.upper_tail(abs(statistic)))


def wald_interval(
    value: float, se: float, reference: Reference, alternative: str, alpha: float
) -> tuple[float | None, float | None]:
    """Return value ± quantile · se; one-sided alternatives leave the other bound open (None)."""
    q = reference.quantile(1.0 - (alpha / 2.0 if alternative == "two-sided" else alpha))
    lower = value - q * se if alternative != "smaller" else None
    upper = value + q * se if alternative != "larger" else None
    return lower, upper


def welch_df(a: float, n_a: int, b: float, n_b: int) -> float:
    """Return Satterthwaite's degrees of freedom for two squared standard errors a and b."""
    # Shares of the total, because squares of very small or very large variances leave the range of floats.
    if a + b <= 0.0:
        return float(n_a + n_b - 2)
    share = a / (a + b)
    return 1.0 / (share**2 / (n_a - 1) + (1.0 - share) ** 2 / (n_b - 1))


def compare_levels(
    control: Level | None,
    treatment: Level | None,
    *,
    method: str = "welch",
    alpha: float = 0.05,
    alternative: str = "two-sided",
    distribution: Distribution = "t",
    equal_var: bool = False,
    null: float = 0.0,
    weight: float = 1.0,
    extra_variance: float = 0.0,
) -> Estimate:
    """Return treatment - weight · control, tested against `null`.

    se² = V_T / n_T + weight² V_C / n_C; degrees of freedom by Satterthwaite, n_T + n_C - 2 with `equal_var`.

    Args:
        control: The control's level; None when it could not be computed (below two units, zero denominator).
        treatment: The treatment's level.
        method: Name to carry in the result.
        alpha: Error level of the interval.
        alternative: "two-sided", "larger" or "smaller".
        distribution: "t", or "z" for the normal.
        equal_var: Pool the two variances (Student).
        null: Difference under the null hypothesis.
        weight: Factor of the control; 1 + m for a relative margin m.
        extra_variance: Added to the squared standard error.
    """
    check_level(alpha)
    check_alternative(alternative)
    if control is None or treatment is None:
        note = "an arm has fewer than two units, or a denominator of zero"
        return Estimate.unknown("insufficient", method=method, alpha=alpha, note=note)
    value = (treatment.value - weight * control.value) + (treatment.tail - weight * control.tail)
    a, b = treatment.se2, weight * weight * control.se2
    if equal_var:
        n = treatment.n + control.n
        pooled = ((treatment.n - 1) * treatment.variance + (control.n - 1) * control.variance) / (n - 2)
        a, b = pooled / treatment.n, weight * weight * pooled / control.n
    se2 = a + b + extra_variance
    if not (math.isfinite(value) and math.isfinite(se2)):
        return Estimate.unknown("unsupported", method=method, alpha=alpha, note="numbers beyond the range of floats")
    if se2 <= 0.0 or math.sqrt(se2) == 0.0 or not math.isfinite((value - null) / math.sqrt(se2)):
        return Estimate(value, alpha=alpha, method=method, alternative=alternative, status="zero_variance")
    df = None
    if distribution == "t":
        df = float(treatment.n + control.n - 2) if equal_var else welch_df(a, treatment.n, b, control.n)
    reference = Reference(df)
    se = math.sqrt(se2)
    statistic = (value - null) / se
    lower, upper = wald_interval(value, se, reference, alternative, alpha)
    return Estimate(
        value,
        se,
        lower,
        upper,
        tail_pvalue(statistic, reference, alternative),
        None,
        alpha,
        method,
        alternative,
        details={
            "statistic": statistic,
            "df": df,
            "null": null,
            "control": control.value,
            "treatment": treatment.value,
        },
    )


@dataclass(frozen=True)
class Arms:
    """Both arms' levels after adjustment; `extra_variance` is what a per-arm covariate coefficient adds."""

    control: Level | None
    treatment: Level | None
    theta_control: float | None = None
    theta_treatment: float | None = None
    extra_variance: float = 0.0


def arm_levels(
    control: Moments, treatment: Moments, columns: Columns, adjustment: Literal["pooled", "per_arm"] = "pooled"
) -> Arms:
    """Return both arms' levels, CUPED-adjusted when `columns` names a covariate.

    Args:
        control: Moments of the control, one row a unit.
        treatment: Moments of the treatment, same columns.
        columns: Which columns make the metric.
        adjustment: "pooled": one θ from both arms [Deng et al. 2013]; "per_arm": Lin (2013), each arm its own, at the
            common covariate level, whose own sampling adds (θ_T - θ_C)² s_x² / n.

    A covariate that does not vary adjusts nothing.
    """
    if adjustment not in ("pooled", "per_arm"):
        raise InvalidInputError(f"unknown adjustment {adjustment!r}", hint="pooled or per_arm")
    if columns.covariate is None or control.n < 2 or treatment.n < 2:
        return Arms(level(control, columns), level(treatment, columns))
    both = control + treatment
    centre = covariate_level(both, columns)
    thetas = [cuped_theta([control, treatment], columns)] * 2
    if adjustment == "per_arm":
        thetas = [cuped_theta([control], columns), cuped_theta([treatment], columns)]
    if centre is None or None in thetas:
        return Arms(level(control, columns), level(treatment, columns))
    c, t = float(thetas[0] or 0.0), float(thetas[1] or 0.0)
    x = level(both, Columns(columns.covariate, columns.covariate_denominator))
    extra = 0.0 if x is None or adjustment == "pooled" else (t - c) * (t - c) * x.se2
    return Arms(
        level(control, columns, theta=c, centre=centre), level(treatment, columns, theta=t, centre=centre), c, t, extra
    )


def mean_difference(
    control: Moments,
    treatment: Moments,
    columns: Columns | None = None,
    *,
    adjustment: Literal["pooled", "per_arm"] = "pooled",
    alpha: float = 0.05,
    alternative: str = "two-sided",
    distribution: Distribution = "t",
    equal_var: bool = False,
    null: float = 0.0,
) -> Estimate:
    """Return the difference of two means, ratios or proportions, with or without CUPED.

    Welch's t by default; a denominator column makes it the delta method for a ratio, a covariate column CUPED.

    Args:
        control: Moments of the control, one row a unit.
        treatment: Moments of the treatment, same columns.
        columns: Which columns make the metric; default: the mean of column 0.
        adjustment: "pooled" (CUPED) or "per_arm" (Lin); only with a covariate.
        alpha: Error level of the interval.
        alternative: "two-sided", "larger" or "smaller" (treatment against control).
        distribution: "t" or "z".
        equal_var: Student's pooled variance.
        null: Difference under the null hypothesis.

    Returns:
        `details` holds statistic, df, both levels, and theta with a covariate.
    """
    c = columns or Columns()
    arms = arm_levels(control, treatment, c, adjustment)
    name = ("student" if equal_var else "welch") if distribution == "t" else "z"
    if c.denominator is not None:
        name = f"delta_{name}"
    if arms.theta_treatment is not None:
        name = f"cuped_{name}" if adjustment == "pooled" else f"lin_{name}"
    result = compare_levels(
        arms.control,
        arms.treatment,
        method=name,
        alpha=alpha,
        alternative=alternative,
        distribution=distribution,
        equal_var=equal_var,
        null=null,
        extra_variance=arms.extra_variance,
    )
    if arms.theta_treatment is None:
        return result
    theta = {"theta_control": arms.theta_control, "theta_treatment": arms.theta_treatment}
    return replace(result, details={**result.details, **theta})


def clustered_difference(
    control: tuple[ArrayLike, ArrayLike],
    treatment: tuple[ArrayLike, ArrayLike],
    *,
    alpha: float = 0.05,
    alternative: str = "two-sided",
    distribution: Distribution = "t",
) -> Estimate:
    """Return the difference of row means when rows come in clusters (users with several requests).

    Equal to least squares with cluster-robust errors up to K / (K - 1) per arm: the ratio of the clusters' sums to
    their numbers of rows, by the delta method.

    Args:
        control: Values and cluster keys of the control's rows; two arrays of shape (n,).
        treatment: The same for the treatment.
        alpha: Error level of the interval.
        alternative: "two-sided", "larger" or "smaller".
        distribution: "t" with degrees of freedom from the clusters, or "z".
    """
    c, t = cluster_moments(*control), cluster_moments(*treatment)
    return mean_difference(c, t, Columns(0, 1), alpha=alpha, alternative=alternative, distribution=distribution)


def cluster_moments(values: ArrayLike, clusters: ArrayLike) -> Moments:
    """Return moments over clusters of two columns: the sum of the cluster's values, and its number of rows."""
    x = np.asarray(values, dtype=np.float64).ravel()
    keys = np.asarray(clusters).ravel()
    if x.size != keys.size:
        raise InvalidInputError("values and clusters must have the same length")
    _, index = np.unique(keys, return_inverse=True)
    return Moments.from_arrays(np.bincount(index, weights=x), np.bincount(index).astype(np.float64))


def lin_difference(
    control: tuple[ArrayLike, ArrayLike], treatment: tuple[ArrayLike, ArrayLike], *, alpha: float = 0.05
) -> Estimate:
    """Return Lin's regression-adjusted difference from rows, with leverage-corrected (HC2) errors and the normal.

    Equal to the treatment coefficient of least squares on treatment, covariate and their product, covariate centred at
    its common mean. For small arms, where the moments of `mean_difference` would be a little too sure.

    Args:
        control: Outcome and covariate of the control's units; two arrays of shape (n,).
        treatment: The same for the treatment.
        alpha: Error level of the interval, two-sided.

    Source: Lin (2013), Agnostic notes on regression adjustments; MacKinnon and White (1985) for HC2.
    """
    arms = [tuple(np.asarray(v, dtype=np.float64).ravel() for v in arm) for arm in (control, treatment)]
    for y, x in arms:
        if y.size != x.size or not (np.all(np.isfinite(y)) and np.all(np.isfinite(x))):
            raise InvalidInputError("outcome and covariate must be finite and of the same length")
    check_level(alpha)
    if min(y.size for y, _ in arms) < 3:
        return Estimate.unknown("insufficient", method="lin_hc2", alpha=alpha, note="an arm has fewer than three units")
    if too_large(*(column for arm in arms for column in arm)):
        return Estimate.unknown("unsupported", method="lin_hc2", alpha=alpha, note=TOO_LARGE)
    centre = float(np.mean(np.concatenate([x for _, x in arms])))
    fitted: list[Level] = []
    for y, x in arms:
        dx, dy = x - x.mean(), y - y.mean()
        sxx = float(dx @ dx)
        if sxx <= 0.0:
            return Estimate.unknown("zero_variance", method="lin_hc2", alpha=alpha, note="the covariate does not vary")
        theta = float(dx @ dy) / sxx
        leverage = 1.0 / y.size + dx * dx / sxx
        weight = 1.0 / y.size + (centre - x.mean()) * dx / sxx
        # A unit alone at its covariate value is fitted exactly: leverage 1, residual 0, no information on the variance.
        inner = leverage < 1.0 - 1e-12
        residual = (dy - theta * dx)[inner]
        with np.errstate(over="ignore", invalid="ignore"):
            se2 = float(np.sum((weight[inner] * residual) ** 2 / (1.0 - leverage[inner])))
        fitted.append(Level(y.size, float(y.mean()) + theta * (centre - float(x.mean())), se2 * y.size))
    return compare_levels(fitted[0], fitted[1], method="lin_hc2", alpha=alpha, distribution="z")
