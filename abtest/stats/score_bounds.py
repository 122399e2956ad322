"""Bounds of a stratified score by inversion: which margins a sequential (or fixed) test does not reject.

The score is linear and its plug-in and design variances are quadratic in the margin, so both are evaluated once at three
margins and then solved for all looks at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from abtest.errors import InvalidInputError
from abtest.stats.mixture import log_e_one_sided, log_e_two_sided
from abtest.stats.score import StratifiedScore

Array = NDArray[np.float64]
Kind = Literal["absolute", "relative"]
_DOUBLINGS, _STEPS = 60, 100
_NEAR = 1e-14
"""How close to the crossing a bound is, relative to its size."""


@dataclass(frozen=True)
class MarginCurve:
    """S(m) and v(m) of a score at every look, for any margin m; `tested` is where the running maximum is exact."""

    score: StratifiedScore
    kind: Kind
    tested: float
    estimate: Array
    std_error: Array
    _unit: Array
    _s: Array
    _plug: Array
    _design: Array
    _inflation: Array

    def at(self, margin: ArrayLike) -> tuple[Array, Array]:
        """Return S and v at the margins, one for each look; positive S is worse than the margin."""
        m = np.broadcast_to(np.asarray(margin, dtype=float), self.estimate.shape)
        t = m / self._unit
        s = self._s[0] + t * self._s[1]
        v = np.maximum(_quadratic(self._plug, t), _quadratic(self._design, t))
        if self.score.proportion and self.kind == "absolute":
            v = np.maximum(v, self.score.variance_floor(m))
        return s, np.maximum(v, 0.0) * self._inflation

    def lower(self, rho2: ArrayLike, alpha: float) -> Array:
        """Return (B,) the largest margin that the harm is shown to exceed at level alpha, at any look; NaN when none.

        One-sided normal mixture (STATISTICS §2): sup {m : E(S(m), v(m)) >= 1/alpha}.
        """
        return self._solve(lambda s, v: log_e_one_sided(s, v, rho2), -1, alpha)

    def upper(self, rho2: ArrayLike, alpha: float) -> Array:
        """Return (B,) the smallest margin that the harm is shown to stay below at level alpha; NaN when none."""
        return self._solve(lambda s, v: log_e_one_sided(-s, v, rho2), +1, alpha)

    def interval(self, rho2: ArrayLike, alpha: float) -> tuple[Array, Array]:
        """Return the two-sided confidence sequence of the harm at level 1 - alpha."""

        def log_e(s: Array, v: Array) -> Array:
            return log_e_two_sided(s, v, rho2)

        return self._solve(log_e, -1, alpha), self._solve(log_e, +1, alpha)

    def fixed_bound(self, side: Literal[-1, 1], z: float) -> Array:
        """Return the bound of a fixed-horizon test with critical value z: valid for one look only."""

        def excess(s: Array, v: Array) -> Array:
            return np.where(v > 0, (s / np.sqrt(np.where(v > 0, v, 1.0))) ** 2, 0.0)

        return self._root(excess, side, z * z)

    def _solve(self, log_e: Callable[[Array, Array], Array], side: Literal[-1, 1], alpha: float) -> Array:
        if not 0 < alpha < 1:
            raise InvalidInputError(f"alpha must lie in (0, 1), got {alpha}")
        return self._root(log_e, side, -float(np.log(alpha)))

    def _root(self, evidence: Callable[[Array, Array], Array], side: Literal[-1, 1], level: float) -> Array:
        """Walk from the estimate towards `side` until the evidence against the margin reaches the level, then bisect."""
        near = self.estimate.copy()
        known = np.isfinite(near) & np.isfinite(self.std_error)
        near = np.where(known, near, 0.0)
        step = np.where(known & (self.std_error > 0), self.std_error, self._unit)
        far = near + side * step

        def reached(m: Array) -> NDArray[np.bool_]:
            s, v = self.at(m)
            return np.asarray(evidence(s, v) >= level)

        found = reached(far)
        for _ in range(_DOUBLINGS):
            if found.all():
                break
            step = np.where(found, step, step * 2)
            near = np.where(found, near, far)
            far = np.where(found, far, far + side * step)
            found = reached(far)
        return np.where(found & known, self._between(evidence, near, far, level), np.nan)

    def _between(self, evidence: Callable[[Array, Array], Array], near: Array, far: Array, level: float) -> Array:
        """Close in on the crossing between `near` (not reached) and `far` (reached) by Chandrupatla's method (1997).

        Inverse quadratic steps where they are safe, halves elsewhere; the bracket is kept, and its reached end is the answer.
        """

        def excess(m: Array) -> Array:
            s, v = self.at(m)
            return np.asarray(evidence(s, v) - level)

        x1, x2, t = far, near, np.full(far.shape, 0.5)
        f1, f2 = excess(far), excess(near)
        open_ = np.isfinite(x1) & np.isfinite(x2)
        with np.errstate(all="ignore"):
            for _ in range(_STEPS):
                x = x1 + t * (x2 - x1)
                f = excess(x)
                same = (f >= 0) == (f1 >= 0)
                x3, f3 = np.where(same, x1, x2), np.where(same, f1, f2)
                # Each look stops on its own, so that its bound does not depend on which others are solved with it.
                x2, f2 = np.where(open_ & ~same, x1, x2), np.where(open_ & ~same, f1, f2)
                x1, f1 = np.where(open_, x, x1), np.where(open_, f, f1)
                width = np.abs(x2 - x1)
                least = _NEAR * np.maximum(np.abs(x1), np.abs(x2)) / width
                open_ &= least < 0.5
                if not open_.any():
                    break
                xi, phi = (x1 - x2) / (x3 - x2), (f1 - f2) / (f3 - f2)
                inverse = f1 / (f2 - f1) * f3 / (f2 - f3) + (x3 - x1) / (x2 - x1) * f1 / (f3 - f1) * f2 / (f3 - f2)
                safe = (phi * phi < xi) & ((1 - phi) ** 2 < 1 - xi) & np.isfinite(inverse)
                t = np.clip(np.where(safe, inverse, 0.5), np.minimum(least, 0.5), np.maximum(1 - least, 0.5))
                t = np.where(np.isfinite(t), t, 0.5)
        return np.where(f1 >= 0, x1, x2)


def margin_curve(score: StratifiedScore, kind: Kind, tested: float = 0.0) -> MarginCurve:
    """Prepare the curve of a score.

    Args:
        score: The stratified score of all looks.
        kind: "absolute" (margins in the metric's unit) or "relative" (fractions of control).
        tested: The margin of the guardrail; the running maximum of the variance over looks is taken there.
    """
    base = score.contrast(0.0, kind, running=False)
    weight = np.where(base.weight > 0, base.weight, np.nan)
    control, _ = score.arm_values()
    if kind == "relative":
        scale = np.where(np.abs(control) > 0, np.abs(control), np.nan)
        unit = np.full_like(weight, 0.5)
    else:
        scale = np.ones_like(weight)
        spread = np.sqrt(np.maximum(base.v, 0.0)) / weight
        unit = np.nan_to_num(np.maximum(np.maximum(np.abs(control), spread), abs(tested)), nan=1.0)
        unit = np.where(unit > 0, unit, 1.0)
    up, down = score.contrast(unit, kind, running=False), score.contrast(-unit, kind, running=False)
    tested_raw = score.contrast(tested, kind, running=False).v
    running = score.held(tested_raw)
    inflation = np.where(tested_raw > 0, running / np.where(tested_raw > 0, tested_raw, 1.0), 1.0)
    return MarginCurve(
        score=score, kind=kind, tested=tested,
        estimate=base.score / weight / (scale if kind == "absolute" else _signed(scale, control)),
        std_error=np.sqrt(base.v) / weight / scale,
        _unit=unit,
        _s=np.stack([base.score, (up.score - down.score) / 2]),
        _plug=_fit(base.v_plug, up.v_plug, down.v_plug),
        _design=_fit(base.v_design, up.v_design, down.v_design),
        _inflation=inflation,
    )  # fmt: skip


def _signed(scale: Array, control: Array) -> Array:
    """Relative harm is the contrast over control itself, sign included: S(m) = 0 at m = s(r_T/r_C - 1)."""
    return np.where(control < 0, -scale, scale)


def _fit(middle: Array, up: Array, down: Array) -> Array:
    return np.stack([middle, (up - down) / 2, (up + down) / 2 - middle])


def _quadratic(coefficients: Array, t: Array) -> Array:
    return np.asarray(coefficients[0] + t * (coefficients[1] + t * coefficients[2]))
