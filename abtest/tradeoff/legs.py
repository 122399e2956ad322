"""Tests of one leg of the decision (quality, cost, latency): is a slack above zero, is it below, and what is its interval.

Anytime: the normal mixture in the clock of units [Waudby-Smith et al., arXiv 2103.06476, theorem 2.2]: with z = slack / s.e. and
R = c_alpha · n / n*, log E = log 2 - log(1+R)/2 + z² R/(2(1+R)) + log Φ(z √(R/(1+R))); n* is a constant of the spec, so the clock
only runs forward and nothing has to be frozen. Fixed: the normal test, for one look.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from scipy.special import ndtr, ndtri

from abtest.results import ToDict, finite
from abtest.stats.mixture import boundary, log_e_one_sided, tuning
from abtest.stats.multiplicity import check_level
from abtest.tradeoff.contrasts import Contrast
from abtest.tradeoff_spec import Looks

_POWER = 0.8
_MOST = 1e6


@dataclass(frozen=True)
class Interval(ToDict):
    """An estimate with its interval at 1 - alpha; status ok, insufficient, no_data or zero_variance."""

    value: float | None
    lower: float | None = None
    upper: float | None = None
    std_error: float | None = None
    alpha: float | None = None
    status: str = "ok"
    note: str = ""


@dataclass(frozen=True)
class Leg(ToDict):
    """One condition of the decision: it holds while its slack is above zero.

    Attributes:
        name: quality, cost or latency.
        slack: How far the estimate is from the edge (quality: metric's unit, cost: USD a task, latency: share of tasks or ms).
        std_error: Its standard error.
        pvalue_holds: For "it does not hold": small proves that it does.
        pvalue_fails: For "it holds": small proves that it does not.
        lower, upper: Two-sided interval of the slack.
        status: ok, insufficient, no_data, zero_variance.
        note: What the leg says, in a sentence.
    """

    name: str
    slack: float | None = None
    std_error: float | None = None
    pvalue_holds: float | None = None
    pvalue_fails: float | None = None
    lower: float | None = None
    upper: float | None = None
    status: str = "ok"
    note: str = ""


@dataclass(frozen=True)
class Clock:
    """How much a test may claim: the method, its alpha, and where it is tightest."""

    looks: Looks
    alpha: float

    def critical(self, units: float, alpha: float | None = None) -> float:
        """Return the radius of the two-sided interval in standard errors."""
        level = check_level(self.alpha if alpha is None else alpha)
        if self.looks.method == "fixed":
            return float(-ndtri(level / 2))
        return float(boundary(1.0, self._tuned(units, one_sided=False), level))

    def pvalue(self, z: float, units: float) -> float:
        """Return the one-sided p-value of "the slack is not above zero"."""
        return min(1.0, math.exp(-self._log_e(z, units)))

    def _log_e(self, z: float, units: float) -> float:
        if self.looks.method == "fixed":
            return -math.log(max(float(ndtr(-z)), 1e-300))
        return float(log_e_one_sided(z, 1.0, self._tuned(units, one_sided=True)))

    def _tuned(self, units: float, *, one_sided: bool) -> float:
        return float(tuning(1.0, self.alpha, one_sided=one_sided)) * max(units, 1e-9) / float(self.looks.planned_units)

    def interval(self, contrast: Contrast) -> Interval:
        """Return a contrast with its two-sided interval."""
        if contrast.value is None or contrast.variance is None or contrast.error is None:
            status = "no_data" if contrast.value is None else "insufficient"
            return Interval(finite(contrast.value), alpha=self.alpha, status=status, note=contrast.problem)
        if contrast.variance == 0:
            return Interval(contrast.value, alpha=self.alpha, status="zero_variance", note="it does not vary")
        radius = self.critical(contrast.units) * contrast.error
        return Interval(contrast.value, contrast.value - radius, contrast.value + radius, contrast.error, self.alpha)

    def pvalues(self, contrast: Contrast) -> tuple[float, float] | None:
        """Return the p-values of "it does not hold" and "it holds"; None where they cannot be computed."""
        return _pvalues(self, contrast)

    def leg(self, name: str, contrast: Contrast, note: str) -> Leg:
        """Return the test of a slack."""
        found, pvalues = self.interval(contrast), self.pvalues(contrast)
        if found.status != "ok" or pvalues is None:
            return Leg(name, found.value, found.std_error, status=found.status, note=found.note or note)
        return Leg(name, found.value, found.std_error, *pvalues, found.lower, found.upper, "ok", note)

    def needs(self, contrast: Contrast, level: float) -> float | None:
        """Return by which factor the data must grow until a slack is decided at `level`, the way it points, with power 0.8.

        Today's estimate is taken as true. None: at the edge, or so near to it that a million times today's data would not do.
        """
        if contrast.value is None or not contrast.variance:
            return None
        return self._needs(abs(contrast.value) / math.sqrt(contrast.variance), contrast.units, level)

    def _needs(self, z: float, units: float, level: float) -> float | None:
        if z == 0:
            return None
        target, beta = -math.log(level), float(ndtri(_POWER))

        def decided(factor: float) -> bool:
            return self._log_e(z * math.sqrt(factor) - beta, units * factor) >= target

        if self._log_e(z, units) >= target:
            return 1.0
        low, high = 1.0, 2.0
        while not decided(high):
            low, high = high, high * 2
            if high > _MOST:
                return None
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if decided(middle) else (middle, high)
        return high


@lru_cache(maxsize=4096)
def _pvalues(clock: Clock, contrast: Contrast) -> tuple[float, float] | None:
    """Remembered, because turning one input leaves most legs as they are."""
    if contrast.value is None or not contrast.variance:
        return None
    z = contrast.value / math.sqrt(contrast.variance)
    return clock.pvalue(z, contrast.units), clock.pvalue(-z, contrast.units)
