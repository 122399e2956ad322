"""Normal-mixture e-values, boundaries and confidence sequences: the sequential test behind almost every metric.

Everything here lives in a clock that never runs backwards: a score S with variance v (see `abtest.stats.score`).
Under the null hypothesis S behaves like Brownian motion stopped at v. Mixing exp(lambda*S - lambda^2*v/2) over a prior
of the drift lambda gives an e-value E; reject when E >= 1/alpha, at any look, as often as one likes. log E is kept.

    prior of the drift            function               use
    N(0, rho2)                    log_e_two_sided        intervals, success metrics
    N(0, rho2), only > 0          log_e_one_sided        harm, safe bounds
    +-N(drift, rho^2)             log_e_informed         two-sided, the effect of interest (MDE) is known
    N(drift, rho^2), only > 0     log_e_informed         one-sided ("larger"), the MDE is known
    N(0, rho2), variance unknown  log_e_t, t_radius      a few hundred units (from `abtest.stats.small_sample`)

Sources: Robbins 1970; Howard, Ramdas, McAuliffe, Sekhon 2021 (Annals of Statistics 49); Johari, Koomen, Pekelis, Walsh
2022; Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (arXiv 2103.06476); Lindon, Ham, Tingley, Bojinov (arXiv 2210.08589).
Valid asymptotically (the score must be near normal): below 30 units an arm the callers in `abtest.analysis` refuse.
`abtest.stats.betting` and `rate_ratio` are exact.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from abtest.errors import InvalidInputError
from abtest.results import Estimate, finite
from abtest.stats.numerics import (
    LOG2,
    Alternative,
    Array,
    anytime_pvalue,
    check_alpha,
    check_score,
    check_tunings,
    check_variance,
    half_plane,
    half_plane_inverse,
    half_plane_slope,
    mean_log,
    newton,
)
from abtest.stats.small_sample import log_e_t, satterthwaite, t_radius

__all__ = [
    "anytime_pvalue",
    "boundary",
    "boundary_informed",
    "confidence_sequence",
    "informed_tuning",
    "log_e_informed",
    "log_e_one_sided",
    "log_e_t",
    "log_e_two_sided",
    "mixture_estimate",
    "satterthwaite",
    "shrunken",
    "t_radius",
    "tuning",
]

# --- tuning ----------------------------------------------------------------------------------------------------------


def tuning(v_star: npt.ArrayLike, alpha: float, *, one_sided: bool = False, exact: bool = False) -> Array:
    """Return rho^2 = c_alpha/v*, which makes the boundary tightest at the variance v*.

    c = -2 log(alpha) + log(1 - 2 log(alpha)), with alpha replaced by 2 alpha for one-sided mixtures. `exact` solves
    c = -W_{-1}(-alpha^2/e) - 1 (Lambert W) instead; the two differ by a few per cent and hardly change the boundary.
    Under a ramp pass the v of all planned stage ends: the resulting 1-D rho^2 makes every e-value below the mean over
    the stages, so that strong harm in the 1 % stage is not drowned by a tuning for the last one.

    Args:
        v_star: Planned variance(s) of the score, > 0.
        alpha: Error level; below 1/2 when one-sided.
        one_sided: Tune for a one-sided mixture.
        exact: Use the exact optimum.

    Raises:
        InvalidInputError: alpha or v_star out of range.

    Source: Howard et al. 2021, section 3.5; Waudby-Smith et al. 2103.06476, appendix.
    """
    level = check_alpha(alpha, one_sided=one_sided) * (2.0 if one_sided else 1.0)
    target = np.asarray(v_star, dtype=np.float64)
    if not (np.isfinite(target) & (target > 0)).all():
        raise InvalidInputError("v_star must be positive", hint="the variance of the score at the planned sample size")
    a = -2.0 * math.log(level)
    c = a + math.log1p(a)
    # The Lambert form solves c - log(1 + c) = a; iterating that equation cannot underflow as alpha^2/e can.
    for _ in range(200 if exact else 0):
        c = a + math.log1p(c)
    return np.asarray(c / target)


def informed_tuning(mde: float, weight_star: float, v_star: float) -> tuple[float, float]:
    """Return (drift, rho) of the MDE-informed mixture: drift = MDE * W*/v*, rho = drift/3.

    W* and v* are the weight (S = W*D) and the variance of the score planned for the end of the experiment. W/v hardly
    moves along a ramp, so one tuning serves all its stages.
    """
    if not (mde > 0 and weight_star > 0 and v_star > 0):
        raise InvalidInputError("mde, weight_star and v_star must be positive")
    drift = mde * weight_star / v_star
    return drift, drift / 3.0


# --- e-values --------------------------------------------------------------------------------------------------------


def log_e_two_sided(score: npt.ArrayLike, v: npt.ArrayLike, rho2: npt.ArrayLike) -> Array:
    """Return log E of the two-sided normal mixture: (z^2 R/(1+R) - log(1+R))/2, R = rho2*v, z = S/sqrt(v).

    Args:
        score: Score S, any shape.
        v: Its variance, never decreasing over the looks; broadcasts with `score`. v == 0 gives log E = 0.
        rho2: One tuning, or a 1-D list whose e-values are averaged (see `tuning`).

    Returns:
        log E, in the broadcast shape of score and v.

    Raises:
        InvalidInputError: v negative, rho2 not positive, or a number that is not finite.
    """
    s, clock = check_score(score, v)
    logs = [_two_sided(s, clock, float(one)) for one in check_tunings(rho2, "rho2")]
    return _where_started(clock, mean_log(logs))


def _two_sided(s: Array, v: Array, rho2: float) -> Array:
    r = np.asarray(rho2 * v)
    with np.errstate(over="ignore"):
        log_e = np.asarray(s * s * (rho2 / (1.0 + r)))
        log_e -= np.log1p(r, out=r)  # in place: this is the hot loop of every simulation
    log_e *= 0.5
    return log_e


def _where_started(v: Array, log_e: Array) -> Array:
    return np.asarray(log_e) if v.all() else np.where(v > 0, log_e, 0.0)


def log_e_one_sided(score: npt.ArrayLike, v: npt.ArrayLike, rho2: npt.ArrayLike) -> Array:
    """Return log E of the one-sided mixture; a positive score is evidence (for guardrails: harm).

    log 2 - log(1+R)/2 + z^2 R/(2(1+R)) + log Phi(z sqrt(R/(1+R))). The prior of the drift is the positive half of a
    normal, so the null hypothesis is "drift <= 0" as a whole. Arguments and errors as in `log_e_two_sided`.
    """
    s, clock = check_score(score, v)
    logs = [_one_sided(s, clock, float(one)) for one in check_tunings(rho2, "rho2")]
    return _where_started(clock, mean_log(logs))


def _one_sided(s: Array, v: Array, rho2: float) -> Array:
    r = rho2 * v
    with np.errstate(over="ignore"):
        return LOG2 - 0.5 * np.log1p(r) + half_plane(s * np.sqrt(rho2 / (1.0 + r)))


def log_e_informed(
    score: npt.ArrayLike,
    v: npt.ArrayLike,
    drift: float,
    rho: float,
    *,
    alternative: Literal["two-sided", "larger"] = "two-sided",
) -> Array:
    """Return log E of the mixture informed by the effect of interest: drift ~ N(drift, rho^2).

    Two-sided: the mean over +-drift of exp[-log(1+rho^2 v)/2 + (rho^2 S^2 + 2 drift S - drift^2 v)/(2(1+rho^2 v))].
    "larger": the prior is cut off at zero, which adds log Phi((drift + rho^2 S)/(rho sqrt(1+rho^2 v))) -
    log Phi(drift/rho). Without the cut a candidate better by one MDE is called harmful in 30 % of runs.

    Args:
        score: Score S, any shape.
        v: Its variance; v == 0 gives log E = 0.
        drift: Expected drift of S a unit of v, > 0 (see `informed_tuning`).
        rho: Standard deviation of the drift's prior, > 0.
        alternative: "two-sided" or "larger".

    Raises:
        InvalidInputError: numbers out of range.
    """
    s, clock = check_score(score, v)
    center, spread = _check_informed(drift, rho, alternative)
    a = 1.0 + spread**2 * clock
    with np.errstate(over="ignore"):
        if alternative == "two-sided":
            even = (spread**2 * s * s - center**2 * clock) / (2.0 * a) - 0.5 * np.log(a)
            y = np.abs(center * s / a)
            return _where_started(clock, even + y + np.log1p(np.exp(-2.0 * y)) - LOG2)  # log cosh(y), no overflow
        x = (center + spread**2 * s) / (spread * np.sqrt(a))
        left = half_plane(np.minimum(x, 0.0)) - 0.5 * (center / spread) ** 2
        right = (spread**2 * s * s + 2.0 * center * s - center**2 * clock) / (2.0 * a) + special.log_ndtr(
            np.maximum(x, 0.0)
        )
        log_e = np.where(x > 0, right, left) - 0.5 * np.log(a) - special.log_ndtr(center / spread)
    return _where_started(clock, log_e)


def _check_informed(drift: float, rho: float, alternative: str) -> tuple[float, float]:
    if alternative not in ("two-sided", "larger"):
        raise InvalidInputError(f"unknown alternative {alternative!r}", hint="two-sided or larger")
    if not (math.isfinite(drift) and drift > 0 and math.isfinite(rho) and rho > 0):
        raise InvalidInputError("drift and rho must be positive", hint="see mixture.informed_tuning")
    return float(drift), float(rho)


# --- boundaries and confidence sequences -----------------------------------------------------------------------------


def boundary(
    v: npt.ArrayLike, rho2: npt.ArrayLike, alpha: float, *, one_sided: bool = False, log_threshold: float | None = None
) -> Array:
    """Return the score S at which log E reaches log(1/alpha); infinity at v == 0.

    Closed form for one two-sided tuning, sqrt((1+R)/rho2 * (2 log(1/alpha) + log(1+R))); otherwise Newton's method on a
    convex function, from the right, to machine precision.

    Args:
        v: Variance of the score, any shape.
        rho2: One tuning or a 1-D list (averaged).
        alpha: Error level.
        one_sided: Boundary of `log_e_one_sided`.
        log_threshold: Reject at log E >= this instead of log(1/alpha) (`abtest.stats.horizon`).
    """
    clock, tunings = check_variance(v), check_tunings(rho2, "rho2")
    target = -math.log(check_alpha(alpha)) if log_threshold is None else float(log_threshold)
    started = clock > 0
    safe = np.where(started, clock, 1.0)
    single = _single_boundary(safe, tunings, target, one_sided)
    edge = single[0] if len(single) == 1 else _averaged_boundary(safe, tunings, target, one_sided)
    return np.where(started, edge, np.inf)


def _single_boundary(v: Array, tunings: Array, target: float, one_sided: bool) -> list[Array]:
    edges: list[Array] = []
    for one in tunings:
        r = one * v
        if one_sided:
            x = half_plane_inverse(target - LOG2 + 0.5 * np.log1p(r))
        else:
            x = np.sqrt(np.maximum(2.0 * target + np.log1p(r), 0.0))
        edges.append(x * np.sqrt((1.0 + r) / one))
    return edges


def _averaged_boundary(v: Array, tunings: Array, target: float, one_sided: bool) -> Array:
    # mean(E) >= E_k/K: the smallest single boundary at alpha/K lies at or right of the root.
    count = len(tunings)
    start = np.minimum.reduce(_single_boundary(v, tunings, target + math.log(count), one_sided))

    def residual(s: Array) -> tuple[Array, Array]:
        logs: list[Array] = []
        slopes: list[Array] = []
        for one in tunings:
            scale = one / (1.0 + one * v)
            logs.append(_one_sided(s, v, float(one)) if one_sided else _two_sided(s, v, float(one)))
            root = np.sqrt(scale)
            slopes.append(root * half_plane_slope(s * root) if one_sided else s * scale)
        mean = mean_log(logs)
        slope = np.sum([np.exp(log - mean) * d for log, d in zip(logs, slopes, strict=True)], axis=0) / count
        return mean - target, np.maximum(slope, np.finfo(np.float64).tiny)

    return newton(start, residual)


def boundary_informed(
    v: npt.ArrayLike,
    drift: float,
    rho: float,
    alpha: float,
    *,
    alternative: Literal["two-sided", "larger"] = "two-sided",
) -> Array:
    """Return the score S > 0 at which `log_e_informed` reaches log(1/alpha); infinity at v == 0."""
    clock = check_variance(v)
    center, spread = _check_informed(drift, rho, alternative)
    target = -math.log(check_alpha(alpha))
    started = clock > 0
    clock = np.where(started, clock, 1.0)
    a = 1.0 + spread**2 * clock
    if alternative == "larger":
        level = target + 0.5 * np.log(a) + half_plane(np.asarray(center / spread))
        edge = (half_plane_inverse(level) * spread * np.sqrt(a) - center) / spread**2
        return np.where(started, edge, np.inf)
    # log cosh(y) >= y - log 2 turns the equation into a quadratic whose root lies at or right of the wanted one.
    level = target + 0.5 * np.log(a) + 0.5 * center**2 * clock / a
    start = (np.sqrt(center**2 + 2.0 * a * spread**2 * (level + LOG2)) - center) / spread**2

    def residual(s: Array) -> tuple[Array, Array]:
        y = center * s / a
        value = 0.5 * spread**2 * s * s / a + y + np.log1p(np.exp(-2.0 * y)) - LOG2 - level
        return value, (spread**2 * s + center * np.tanh(y)) / a

    return np.where(started, newton(start, residual), np.inf)


def confidence_sequence(
    estimate: npt.ArrayLike,
    variance: npt.ArrayLike,
    v: npt.ArrayLike,
    rho2: npt.ArrayLike,
    alpha: float,
    *,
    alternative: Alternative = "two-sided",
    log_threshold: float | None = None,
) -> tuple[Array, Array]:
    """Return (lower, upper) that cover the truth at all looks at once with probability 1 - alpha.

    D +- sqrt(V) * boundary(v)/sqrt(v); two-sided with one tuning: D +- sqrt(V (1+1/R) log((1+R)/alpha^2)).

    Args:
        estimate: The estimate D of each look.
        variance: V = Var(D) = v/W^2.
        v: Variance of the score S = W*D: the clock that never runs backwards.
        rho2: One tuning or a 1-D list (averaged).
        alpha: Error level.
        alternative: "larger" gives a lower bound only, "smaller" an upper bound only.
        log_threshold: Used instead of log(1/alpha) (`abtest.stats.horizon`).

    Returns:
        Two arrays; -inf and inf where nothing is known (v or V is zero).
    """
    if alternative not in ("two-sided", "larger", "smaller"):
        raise InvalidInputError(f"unknown alternative {alternative!r}", hint="two-sided, larger or smaller")
    d, clock = check_score(estimate, v)
    spread = check_variance(variance)
    known = (clock > 0) & (spread > 0)
    unit = np.sqrt(np.where(known, spread, 1.0)) / np.sqrt(np.where(known, clock, 1.0))
    one_sided = alternative != "two-sided"
    edge = boundary(np.where(known, clock, 1.0), rho2, alpha, one_sided=one_sided, log_threshold=log_threshold)
    radius = np.where(known, edge * unit, np.inf)
    unbounded = np.full(np.shape(radius), np.inf)
    lower = -unbounded if alternative == "smaller" else d - radius
    upper = unbounded if alternative == "larger" else d + radius
    return lower, upper


def shrunken(estimate: npt.ArrayLike, variance: npt.ArrayLike, v: npt.ArrayLike, rho2: npt.ArrayLike) -> Array:
    """Return D*R/(1+R), the estimate corrected for stopping at an extreme; 0 at v == 0.

    At a stopped test the plain estimate is 1.25-1.3 times the truth, the shrunken one 1.04 times (measured).
    With several tunings their factors are weighted by their e-values: the posterior mean under the mixture.
    """
    d, clock = check_score(estimate, v)
    spread = check_variance(variance)
    z = np.divide(d, np.sqrt(spread), out=np.zeros(np.broadcast(d, spread).shape), where=spread > 0)
    z = np.clip(z, -1e150, 1e150)  # the square must not overflow
    ratios = [one * clock for one in check_tunings(rho2, "rho2")]
    logs = [0.5 * (z * z * (r / (1.0 + r)) - np.log1p(r)) for r in ratios]
    total = mean_log(logs)
    factors = [np.exp(log - total) * r / (1.0 + r) for log, r in zip(logs, ratios, strict=True)]
    return d * np.sum(factors, axis=0) / len(factors)


def mixture_estimate(
    estimate: float,
    std_error: float,
    v: float,
    rho2: npt.ArrayLike,
    alpha: float,
    *,
    null: float = 0.0,
    alternative: Alternative = "two-sided",
) -> Estimate:
    """Return estimate, confidence sequence and anytime p-value of one look as an `Estimate`.

    Args:
        estimate: The estimate D.
        std_error: Its standard error, sqrt(v)/W.
        v: Variance of the score S = W*D.
        rho2: One tuning or a 1-D list (averaged).
        alpha: Error level.
        null: The tested value of D (0, or a margin).
        alternative: "two-sided", "larger" (D > null is the finding) or "smaller".

    Returns:
        An Estimate; status "zero_variance" without numbers when std_error or v is zero. details: the shrunken estimate.
    """
    name = "normal_mixture"
    if not (std_error > 0 and v > 0):
        return Estimate.unknown(
            "zero_variance", method=name, alpha=check_alpha(alpha), note="the score has no variance"
        )
    lower, upper = confidence_sequence(estimate, std_error**2, v, rho2, alpha, alternative=alternative)
    score = (estimate - null) / std_error * math.sqrt(v)
    if alternative == "two-sided":
        log_e = float(log_e_two_sided(score, v, rho2))
    else:
        log_e = float(log_e_one_sided(score if alternative == "larger" else -score, v, rho2))
    return Estimate(
        value=float(estimate),
        std_error=float(std_error),
        lower=finite(float(lower)),
        upper=finite(float(upper)),
        pvalue=float(anytime_pvalue(log_e)),
        log_e_value=log_e,
        alpha=float(alpha),
        method=name,
        alternative=alternative,
        details={"v": float(v), "null": null, "shrunken": float(shrunken(estimate, std_error**2, v, rho2))},
    )
