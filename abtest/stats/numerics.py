"""Shared numerics of the sequential tests: checks, log-space means, log Phi, and roots of convex functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from abtest.errors import InvalidInputError

Array = npt.NDArray[np.float64]
Alternative = Literal["two-sided", "larger", "smaller"]

LOG2 = math.log(2.0)
_SQRT2 = math.sqrt(2.0)
_NEWTON_STEPS = 80


def check_alpha(alpha: float, *, one_sided: bool = False) -> float:
    """Return `alpha`, or raise InvalidInputError unless it lies in (0, 1); in (0, 1/2) for a one-sided tuning."""
    top = 0.5 if one_sided else 1.0
    if not 0.0 < alpha < top:
        raise InvalidInputError(f"alpha must lie between 0 and {top:g}, got {alpha!r}", hint="for example 0.05")
    return float(alpha)


def anytime_pvalue(log_e: npt.ArrayLike) -> Array:
    """Return min(1, 1/E), a p-value that stays valid under continuous looking (Ville's inequality)."""
    return np.exp(-np.maximum(np.asarray(log_e, dtype=np.float64), 0.0))


def check_score(score: npt.ArrayLike, v: npt.ArrayLike) -> tuple[Array, Array]:
    """Return score and variance as float arrays; raise InvalidInputError for a number no test can take."""
    s, clock = np.asarray(score, dtype=np.float64), check_variance(v)
    if not np.isfinite(s).all():
        raise InvalidInputError("the score must be finite")
    return s, clock


def check_variance(v: npt.ArrayLike) -> Array:
    """Return `v` as a float array; raise InvalidInputError unless it is finite and not negative."""
    clock = np.asarray(v, dtype=np.float64)
    # One pass finds negative numbers and NaN; `initial` allows empty arrays.
    if not np.min(clock, initial=0.0) >= 0.0 or not np.max(clock, initial=0.0) < np.inf:
        raise InvalidInputError("the variance v of the score must be finite and not negative")
    return clock


def check_tunings(value: npt.ArrayLike, name: str) -> Array:
    """Return tunings as a 1-D array; raise InvalidInputError unless they are positive."""
    tunings = np.atleast_1d(np.asarray(value, dtype=np.float64))
    if tunings.ndim != 1 or tunings.size == 0 or not (np.isfinite(tunings) & (tunings > 0)).all():
        raise InvalidInputError(f"{name} must be one positive number or a list of them", hint="see mixture.tuning")
    return tunings


def half_plane(x: Array) -> Array:
    """Return h(x) = x^2/2 + log Phi(x), without cancellation for very negative x."""
    x = np.asarray(x, dtype=np.float64)
    positive = x > 0
    out = np.empty_like(x)
    right, left = x[positive], x[~positive]
    out[positive] = 0.5 * right * right + special.log_ndtr(right)
    out[~positive] = np.log(special.erfcx(-left / _SQRT2)) - LOG2  # Phi(x) exp(x^2/2) = erfcx(-x/sqrt 2)/2
    return out


def half_plane_slope(x: Array) -> Array:
    """Return h'(x) = x + phi(x)/Phi(x)."""
    with np.errstate(over="ignore"):  # erfcx overflows to infinity for large x: the Mills ratio is then zero, rightly
        mills = math.sqrt(2.0 / math.pi) / special.erfcx(-np.maximum(x, -1e150) / _SQRT2)
    # The sum cancels for very negative x, where h'(x) ~ 1/|x|; the floor keeps Newton's steps sane there.
    return np.maximum(x + mills, 0.5 / (1.0 + np.abs(x)))


def newton(start: Array, residual: Callable[[Array], tuple[Array, Array]]) -> Array:
    """Solve residual = 0 for a convex increasing function from a start at or right of the root (monotone descent)."""
    x = start
    for _ in range(_NEWTON_STEPS):
        value, slope = residual(x)
        step = value / slope
        x = x - step
        # Convergence is quadratic: after a step this small the error is rounding only.
        if np.all(np.abs(step) <= 1e-11 * np.abs(x)):
            break
    return x


def half_plane_inverse(level: Array) -> Array:
    """Return x with h(x) = level."""
    start = np.sqrt(2.0 * np.maximum(level + LOG2, 0.0))  # log Phi(x) >= -log 2 for x >= 0
    return newton(start, lambda x: (half_plane(x) - level, half_plane_slope(x)))


def mean_log(logs: list[Array]) -> Array:
    """Return the log of the mean of exp(logs): the e-values of several tunings averaged."""
    total = logs[0]
    for one in logs[1:]:
        total = np.logaddexp(total, one)
    return total - math.log(len(logs))


def log_beta_tail(a: Array, b: Array, x: Array) -> Array:
    """Return log P(Beta(a, b) > x); a lower bound, tight to a small factor, where the probability underflows.

    The tail is x^a (1-x)^b F/(b B(a, b)) with F = 2F1(a+b, 1; b+1; 1-x), a series whose terms fall by
    (a+b+n)(1-x)/(b+1+n): between its first and its last value, 1-x. The smaller of the two bounds F from below, which
    keeps an e-value built on it valid.
    """
    tail = special.betaincc(a, b, x)
    ratio = np.minimum((a + b) * (1.0 - x) / (b + 1.0), 1.0 - x)
    bound = a * np.log(x) + b * np.log1p(-x) - np.log(b) - special.betaln(a, b) - np.log1p(-ratio)
    return np.where(tail > 1e-290, np.log(np.maximum(tail, 1e-290)), np.minimum(bound, 0.0))
