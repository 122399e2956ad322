"""Non-inferiority and equivalence at a fixed horizon, with margins in points or relative to control.

A relative margin is tested as the contrast T - (1 ± m) C, which is exact: no logarithm, no division by the baseline.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from abtest.errors import InvalidInputError
from abtest.results import Estimate
from abtest.stats.means import Distribution, compare_levels
from abtest.stats.moments import Level
from abtest.stats.multiplicity import check_level
from abtest.stats.proportions import proportion_difference, risk_ratio

MarginKind = Literal["points", "relative"]
Better = Literal["higher", "lower"]


def _check(margin: float, kind: str, better: str) -> None:
    if not (math.isfinite(margin) and margin >= 0.0):
        raise InvalidInputError(f"a margin must be a number not below zero, not {margin}")
    if kind not in ("points", "relative"):
        raise InvalidInputError(f"unknown kind of margin {kind!r}", hint="points or relative")
    if better not in ("higher", "lower"):
        raise InvalidInputError(f"unknown direction {better!r}", hint="higher or lower")


def _at_margin(
    control: Level | None,
    treatment: Level | None,
    bound: float,
    kind: str,
    alternative: str,
    alpha: float,
    distribution: Distribution,
) -> Estimate:
    """Test the difference against `bound` (points), or treatment against control + bound · |control| (relative)."""
    method = f"margin_{kind}"
    if kind == "points" or control is None:
        return compare_levels(
            control,
            treatment,
            method=method,
            alpha=alpha,
            alternative=alternative,
            distribution=distribution,
            null=bound,
        )
    weight = 1.0 + math.copysign(bound, bound * control.value)
    return compare_levels(
        control,
        treatment,
        method=method,
        alpha=alpha,
        alternative=alternative,
        distribution=distribution,
        weight=weight,
    )


def non_inferiority(
    control: Level | None,
    treatment: Level | None,
    margin: float,
    *,
    kind: MarginKind = "points",
    better: Better = "higher",
    alpha: float = 0.05,
    distribution: Distribution = "t",
) -> Estimate:
    """Return the one-sided test that the treatment is not worse than control by more than the margin.

    Args:
        control: Control's level, from `moments.level` or `means.arm_levels`.
        treatment: Treatment's level.
        margin: The largest loss that is accepted, not negative: in the unit of the metric, or as a share of |control|.
        kind: "points" (absolute) or "relative".
        better: Which direction is good.
        alpha: One-sided error level.
        distribution: "t" or "z".

    Returns:
        `pvalue` below alpha says "not worse". In points, `value` is the difference and its one-sided bound is compared
        with the margin; relative, `value` is the contrast T - (1 ± m) C and its bound is compared with zero.
    """
    check_level(alpha)
    _check(margin, kind, better)
    bound, alternative = (-margin, "larger") if better == "higher" else (margin, "smaller")
    result = _at_margin(control, treatment, bound, kind, alternative, alpha, distribution)
    return replace(result, details={**result.details, "margin": margin, "kind": kind, "better": better})


def equivalence(
    control: Level | None,
    treatment: Level | None,
    margin: float,
    *,
    kind: MarginKind = "points",
    alpha: float = 0.05,
    distribution: Distribution = "t",
) -> Estimate:
    """Return the two one-sided tests (TOST) that the arms differ by less than the margin either way.

    Args:
        control: Control's level.
        treatment: Treatment's level.
        margin: Positive, in the unit of the metric or as a share of |control|.
        kind: "points" or "relative".
        alpha: Error level of each of the two tests; the whole procedure has the same level.
        distribution: "t" or "z".

    Returns:
        `pvalue` is the larger of the two; the interval is the one of the difference at 1 - 2 alpha.

    Source: Schuirmann (1987).
    """
    check_level(alpha)
    _check(margin, kind, "higher")
    if alpha >= 0.5:
        raise InvalidInputError("TOST needs alpha below 0.5")
    low = _at_margin(control, treatment, -margin, kind, "larger", alpha, distribution)
    high = _at_margin(control, treatment, margin, kind, "smaller", alpha, distribution)
    plain = compare_levels(control, treatment, method=f"tost_{kind}", alpha=2.0 * alpha, distribution=distribution)
    if low.pvalue is None or high.pvalue is None:
        return replace(plain, alpha=alpha, pvalue=None)
    details = {**plain.details, "p_lower": low.pvalue, "p_upper": high.pvalue, "margin": margin, "kind": kind}
    return replace(plain, alpha=alpha, pvalue=max(low.pvalue, high.pvalue), details=details)


def proportion_non_inferiority(
    control: tuple[int, int],
    treatment: tuple[int, int],
    margin: float,
    *,
    kind: MarginKind = "points",
    better: Better = "lower",
    alpha: float = 0.05,
) -> Estimate:
    """Return the score test that a share of events is not worse by more than the margin; sound at zero events.

    Farrington and Manning (1990), with the variance under the margin and the factor N / (N - 1).

    Args:
        control: (events, units).
        treatment: (events, units).
        margin: The largest loss that is accepted: in points (0.01 is one point), or as a share of control's.
        kind: "points" or "relative".
        better: Which direction is good; refusals and errors are better lower.
        alpha: One-sided error level.

    Returns:
        In points the difference, relative the risk ratio, with its one-sided bound; `pvalue` below alpha says "not
        worse".
    """
    check_level(alpha)
    _check(margin, kind, better)
    sign, alternative = (1.0, "smaller") if better == "lower" else (-1.0, "larger")
    if margin >= 1.0 and (kind == "points" or better == "higher"):
        raise InvalidInputError(f"a margin of {margin} is all of the scale", hint="0.01 is one point, or one per cent")
    if kind == "points":
        return proportion_difference(
            control, treatment, method="miettinen_nurminen", alpha=alpha, alternative=alternative, null=sign * margin
        )
    return risk_ratio(control, treatment, alpha=alpha, alternative=alternative, null=1.0 + sign * margin)
