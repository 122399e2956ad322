"""Horizon mode: a lower threshold, bought with a declared end and a declared number of looks.

The anytime threshold log(1/alpha) protects against looking for ever. A team that declares a largest variance v_max and
a number of looks may reject at log E >= c instead, where c makes the probability that log E crosses c at any of those
looks exactly alpha. The mixture keeps its shape (its rho^2). Tuned at the fixed sample n, with a horizon of 1.25 n and
50 looks: c = 1.99 two-sided and 2.07 one-sided at alpha 5 % (log 20 = 3.00), and a mean stop of 0.75 n at power 0.78.

Unequal spacing holds (4.4-5.3 %, measured); looking more often than declared does not (200 looks: 5.9 %), and neither
does going on past the horizon. `Horizon.judge` then falls back to the anytime threshold and says so.

Source: the recursion of Armitage, McPherson and Rowe 1969 (`abtest.stats.recursion`) applied to the boundary of Howard
et al. 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from abtest.errors import InvalidInputError
from abtest.results import Estimate, ToDict
from abtest.stats.mixture import boundary, confidence_sequence, log_e_one_sided, log_e_two_sided
from abtest.stats.numerics import Array, check_alpha, check_tunings
from abtest.stats.recursion import crossing_probabilities

_PAST = 1.0 + 1e-9  # rounding of v at the last declared look is not a look past the horizon


@dataclass(frozen=True)
class Horizon(ToDict):
    """A calibrated horizon: freeze it before the first look.

    Attributes:
        v_max: Largest variance of the score at which a claim may be made.
        looks: Declared number of looks.
        rho2: Tuning(s) of the mixture.
        alpha: Error level over all looks.
        one_sided: Positive scores only (harm).
        log_threshold: c: reject at log E >= c.
    """

    v_max: float
    looks: int
    rho2: tuple[float, ...]
    alpha: float
    one_sided: bool
    log_threshold: float

    def judge(self, estimate: float, std_error: float, v: float, looks: int) -> Estimate:
        """Return estimate and interval at one look; `details["rejected"]` is the decision.

        Args:
            estimate: The estimate D (D minus the margin is tested against 0 by the caller).
            std_error: Its standard error.
            v: Variance of the score.
            looks: Looks taken so far, this one included.

        Returns:
            Method "horizon" while looks and v are within what was declared. Otherwise "normal_mixture", at the anytime
            threshold, with a note. Its p-value is the anytime one in both cases (a horizon has none of its own).
        """
        if not (std_error > 0 and v > 0):
            return Estimate.unknown("zero_variance", method="horizon", alpha=self.alpha)
        inside = looks <= self.looks and v <= self.v_max * _PAST
        threshold = self.log_threshold if inside else -math.log(self.alpha)
        score = estimate / std_error * math.sqrt(v)
        tester = log_e_one_sided if self.one_sided else log_e_two_sided
        log_e = float(tester(score, v, self.rho2))
        radius = float(
            boundary(v, self.rho2, self.alpha, one_sided=self.one_sided, log_threshold=threshold)
            * std_error
            / math.sqrt(v)
        )
        note = "" if inside else self._why(looks)
        return Estimate(
            value=float(estimate),
            std_error=float(std_error),
            lower=estimate - radius,
            upper=None if self.one_sided else estimate + radius,
            pvalue=min(1.0, math.exp(-log_e)) if log_e > 0 else 1.0,
            log_e_value=log_e,
            alpha=self.alpha,
            method="horizon" if inside else "normal_mixture",
            alternative="larger" if self.one_sided else "two-sided",
            note=note,
            details={"rejected": log_e >= threshold, "log_threshold": threshold, "looks": looks, "v": float(v)},
        )

    def _why(self, looks: int) -> str:
        if looks > self.looks:
            return f"look {looks} of {self.looks} declared: the anytime threshold applies"
        return "past the declared horizon: the anytime threshold applies"


def calibrate_horizon(
    v_max: float,
    rho2: npt.ArrayLike,
    alpha: float,
    *,
    looks: int,
    one_sided: bool = False,
    fractions: npt.ArrayLike | None = None,
) -> Horizon:
    """Return the horizon whose threshold spends exactly alpha over the declared looks.

    Args:
        v_max: Largest variance of the score (or the one expected at the declared end date).
        rho2: Tuning(s) of the mixture, e.g. `mixture.tuning(v_fixed, alpha)`.
        alpha: Error level over all looks.
        looks: Number of looks, >= 1.
        one_sided: Calibrate the one-sided mixture.
        fractions: Planned looks as ascending shares of v_max in (0, 1]; equally spaced by default.

    Raises:
        InvalidInputError: numbers out of range.
    """
    level = check_alpha(alpha)
    tunings = check_tunings(rho2, "rho2")
    if not (math.isfinite(v_max) and v_max > 0) or looks < 1:
        raise InvalidInputError("v_max must be positive and looks at least 1")
    times = np.arange(1, looks + 1) / looks if fractions is None else np.asarray(fractions, dtype=np.float64)
    if times.shape != (looks,) or not (times > 0).all() or not (times <= 1).all() or not (np.diff(times) > 0).all():
        raise InvalidInputError("fractions must be one ascending number in (0, 1] a look")
    low, high = _least_threshold(tunings, v_max), -math.log(level)
    for _ in range(40):
        middle = 0.5 * (low + high)
        if crossing_rate(times * v_max, tunings, middle, one_sided=one_sided) > level:
            low = middle
        else:
            high = middle
        if high - low < 1e-7:
            break
    return Horizon(float(v_max), int(looks), tuple(float(r) for r in tunings), level, one_sided, high)


def _least_threshold(tunings: Array, v_max: float) -> float:
    # log E of a score of zero is -log(1+R)/2: below that every look rejects.
    return -0.5 * float(np.log1p(tunings.max() * v_max)) - 1.0


def crossing_rate(v: npt.ArrayLike, rho2: npt.ArrayLike, log_threshold: float, *, one_sided: bool = False) -> float:
    """Return the probability under no effect that log E reaches `log_threshold` at one of the looks `v` (ascending)."""
    clock = np.asarray(v, dtype=np.float64)
    edge = boundary(clock, rho2, 0.5, one_sided=one_sided, log_threshold=log_threshold) / np.sqrt(clock)
    return float(crossing_probabilities(clock / clock[-1], edge, None if one_sided else -edge).sum())


def horizon_interval(
    horizon: Horizon, estimate: npt.ArrayLike, variance: npt.ArrayLike, v: npt.ArrayLike
) -> tuple[Array, Array]:
    """Return (lower, upper) of a whole series of looks; looks past v_max get the anytime bounds.

    Arguments as in `mixture.confidence_sequence`; the number of looks is the caller's to keep (`Horizon.judge`).
    One-sided horizons bound from below only.
    """
    clock = np.asarray(v, dtype=np.float64)
    kind = "larger" if horizon.one_sided else "two-sided"
    far = confidence_sequence(estimate, variance, clock, horizon.rho2, horizon.alpha, alternative=kind)
    near = confidence_sequence(
        estimate,
        variance,
        clock,
        horizon.rho2,
        horizon.alpha,
        alternative=kind,
        log_threshold=horizon.log_threshold,
    )
    inside = clock <= horizon.v_max * _PAST
    return np.where(inside, near[0], far[0]), np.where(inside, near[1], far[1])
