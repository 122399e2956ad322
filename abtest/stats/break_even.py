"""Break-even volume: how many tasks a month pay for a fixed cost, with an interval (Fieller 1954).

    V = F / s,   F fixed cost a month, s saving a task

is a ratio whose denominator may be near zero or of either sign, so its interval is found by inversion, never by a delta method:
all V >= 0 with (F - V s)² <= q² (Var F - 2 V Cov + V² Var s). That set may be an interval, a half line, two pieces or nothing;
each has its own status, because "no finite volume" is an answer and not a missing number.

Assumptions: F and s normal (a central limit theorem over units). `critical` is the number of standard errors of the interval of
s: 1.96 for one look, the radius of a confidence sequence in standard errors for any number of looks.
Source: Fieller (1954), J. R. Stat. Soc. B 16; Franz (2007), arXiv 0710.2024, for the unbounded cases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scipy.special import ndtri

from abtest.errors import InvalidInputError
from abtest.results import ToDict, finite
from abtest.stats.multiplicity import check_level

BreakEvenStatus = Literal["ok", "unbounded", "never", "always", "below", "unknown"]


@dataclass(frozen=True)
class BreakEven(ToDict):
    """The volume from which on (status "below": up to which) the fixed cost is worth its saving.

    Attributes:
        value: F / s in tasks a month; None where that is no volume (s of the wrong sign).
        lower: Lower bound; None where nothing is ruled out, or no volume pays.
        upper: Upper bound; None where it is unbounded.
        status: "ok": pays above a volume that lies between the bounds; "unbounded": it may never pay, and if it does, above
            `lower` (None: even that is open); "never": no volume pays; "always": every volume pays; "below": pays up to a volume
            that lies between the bounds (lower fixed cost, dearer task), `upper` None: perhaps always; "unknown": no numbers.
        fixed: F, USD a month.
        saving: s, USD a task.
        critical: Number of standard errors of the interval.
        alpha: Error level, two-sided; None where only `critical` was given.
        note: One sentence for people.
    """

    value: float | None
    lower: float | None
    upper: float | None
    status: BreakEvenStatus
    fixed: float | None
    saving: float | None
    critical: float | None = None
    alpha: float | None = None
    note: str = ""

    def pays_at(self, volume: float) -> bool | None:
        """Return whether a volume pays: True or False where the interval says so, None where it is open."""
        if self.status in ("always", "never"):
            return self.status == "always"
        if self.status in ("ok", "unbounded"):
            if self.upper is not None and volume > self.upper:
                return True
            return False if self.lower is not None and volume < self.lower else None
        if self.status == "below":
            if self.lower is not None and volume < self.lower:
                return True
            return False if self.upper is not None and volume > self.upper else None
        return None


def break_even(
    fixed: float,
    saving: float | None,
    saving_error: float | None,
    *,
    fixed_error: float = 0.0,
    covariance: float = 0.0,
    alpha: float = 0.05,
    critical: float | None = None,
) -> BreakEven:
    """Return the break-even volume of a fixed cost and a saving a task, with Fieller's interval.

    Args:
        fixed: Further fixed cost a month of the technique, USD; negative when it has less of it.
        saving: Saving a task, USD; None when it could not be computed.
        saving_error: Its standard error.
        fixed_error: Standard error of `fixed`; 0 for a number that is known.
        covariance: Covariance of the two.
        alpha: Two-sided error level of the interval.
        critical: Number of standard errors instead of the normal quantile (a confidence sequence: its radius over the
            standard error).

    Raises:
        InvalidInputError: a negative standard error, a covariance beyond what the errors allow, a number that is not finite.
    """
    check_level(alpha)
    if saving is None or saving_error is None:
        return BreakEven(None, None, None, "unknown", finite(fixed), None, alpha=alpha, note="no saving is known")
    q = float(-ndtri(alpha / 2)) if critical is None else float(critical)
    _check(fixed, saving, saving_error, fixed_error, covariance, q)
    # In units of the fixed cost and of the saving, so that squares stay within the range of floats.
    unit_f = max(abs(fixed), fixed_error) or 1.0
    unit_s = max(abs(saving), saving_error) or 1.0
    scaled = (fixed / unit_f, saving / unit_s, fixed_error / unit_f, saving_error / unit_s)
    region = _region(*scaled, covariance / unit_f / unit_s, q)
    bounds = [None if v is None or not math.isfinite(v) else v * unit_f / unit_s for v in region[1:]]
    value = finite(fixed / saving) if saving != 0.0 and fixed / saving >= 0.0 else None
    if region[0] in ("never", "always", "unknown"):
        value = None
    return BreakEven(value, bounds[0], bounds[1], region[0], fixed, saving, q, alpha, _NOTES[region[0]])


_NOTES: dict[str, str] = {
    "ok": "",
    "unbounded": "no saving a task is proven yet: the interval of the break-even volume has no upper end",
    "never": "a task costs more, and so do the fixed costs: no volume pays",
    "always": "a task costs less, and the fixed costs are no higher: every volume pays",
    "below": "lower fixed costs and a dearer task: it pays up to this volume",
    "unknown": "neither the saving nor the fixed cost has a sign yet",
}


def _check(fixed: float, saving: float, saving_error: float, fixed_error: float, covariance: float, q: float) -> None:
    if not all(map(math.isfinite, (fixed, saving, saving_error, fixed_error, covariance, q))):
        raise InvalidInputError("break-even needs finite numbers")
    if saving_error < 0 or fixed_error < 0 or q <= 0:
        raise InvalidInputError("standard errors must not be negative, and the critical value must be positive")
    if abs(covariance) > saving_error * fixed_error * (1 + 1e-9):
        raise InvalidInputError("the covariance is larger than the two standard errors allow")


def _region(
    f: float, s: float, f_error: float, s_error: float, covariance: float, q: float
) -> tuple[BreakEvenStatus, float | None, float | None]:
    """Return the status and the ends of Fieller's set on V >= 0."""
    dearer, cheaper = s + q * s_error < 0, s - q * s_error > 0
    more, less = f - q * f_error > 0, f + q * f_error < 0
    if (more or f == f_error == 0) and (dearer or s == s_error == 0):
        return ("unknown" if f == s == 0 and f_error == s_error == 0 else "never"), None, None
    if (less or f == f_error == 0) and (cheaper or s == s_error == 0):
        return "always", None, None
    a, b, c = s * s - (q * s_error) ** 2, f * s - q * q * covariance, f * f - (q * f_error) ** 2
    root = math.sqrt(max(b * b - a * c, 0.0))
    ends = sorted(_roots(a, b, c, root))
    positive = [v for v in ends if v >= 0]
    if cheaper:
        # A half line of costs with a saving for sure: both ends are there, those below zero mean "any volume".
        return "ok", max(ends[0], 0.0) or None, max(ends[-1], 0.0)
    if dearer:
        return "below", max(ends[0], 0.0) or None, max(ends[-1], 0.0)
    if more:
        return "unbounded", (min(positive) if positive else None), None
    if less:
        return "below", (min(positive) if positive else None), None
    return "unknown", None, None


def _roots(a: float, b: float, c: float, root: float) -> list[float]:
    """Return the real roots of a V² - 2 b V + c, the stable way."""
    if a == 0:
        return [c / (2 * b)] if b else []
    large = b + math.copysign(root, b)
    return [large / a, c / large if large else 0.0]
