"""The paired score of one metric, and its bounds: exact integer moments in, one quadratic out.

A unit's contribution at harm h is d_u = W/Y_T (x_Tu - (c r_C + s δ) y_Tu) - c W/Y_C (x_Cu - r_C y_Cu), with W the harmonic mean of
Y_T and Y_C, s the direction that is worse, and (c, δ) = (1, h) for an absolute, (1 + s h, 0) for a relative harm. Where every pair
counts once in both arms (proportions, means) it is the unit's sum of differences less h a pair; a ratio is linearised.

S = s Σ d_u and v = Σ d_u². The squares are not centred: under the null "the unit's difference is symmetric around h" exp(λS - λ²v/2)
is a supermartingale whatever the distribution [de la Peña 1999], and v never runs backwards as units arrive. A proportion's v is
at least what it would be at the harm tested: N deff (|h| + 2 b - h²), b the observed share of pairs that differ the other way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from abtest.results import finite
from abtest.stats.mixture import log_e_one_sided, log_e_two_sided
from abtest.stats.numerics import Array

Kind = Literal["absolute", "relative"]
Evidence = Callable[[Array, Array], Array]
_STRIDES = np.cumsum(1.5 ** np.arange(60.0))
"""How far the walk for a bound looks, in standard errors."""
_PARTS, _ROUNDS, _NEAR = np.linspace(0.0, 1.0, 33)[1:], 20, 1e-13


@dataclass(frozen=True)
class Flags:
    """How pairs of a proportion differ: pairs, and the sums of what the candidate has more (rise) and less (fall).

    `rate` is control's, `deff` how much more it varies between units than between independent pairs.
    """

    pairs: int
    rise: float
    fall: float
    rate: float
    deff: float
    paired: bool = True

    def variance(self, harm: ArrayLike, sign: int) -> Array:
        """Return the variance of S that such pairs have at least when the candidate is worse by `harm` (in points)."""
        h = np.asarray(harm, dtype=np.float64)
        if not self.paired:
            shifted = np.clip(self.rate + sign * h, 0.0, 1.0)
            return np.asarray(self.pairs * self.deff * (shifted * (1 - shifted) + self.rate * (1 - self.rate)))
        size = np.minimum(np.abs(h), 1.0)
        # "More" is what the candidate has more of; a harm of a metric that should be high is less of it.
        other = np.where(h * sign >= 0, self.fall, self.rise)
        differ = np.minimum(other / self.pairs, (1 - size) / 2) if self.pairs else np.zeros_like(size)
        return np.asarray(self.pairs * self.deff * np.maximum(size + 2.0 * differ - size * size, 0.0))


@dataclass(frozen=True)
class PairSums:
    """Exact sums over units of one metric: candidate (a over b) and control (c over d), in fixed point.

    Attributes:
        units: Units with a pair that can tell.
        sums: "a" to "d" -> Σ.
        products: "aa", "ab", ... "dd" (letters in order) -> Σ of products.
        x_scale: Scale of a and c.
        y_scale: Scale of b and d.
    """

    units: int
    sums: Mapping[str, int]
    products: Mapping[str, int]
    x_scale: int
    y_scale: int

    @classmethod
    def of(cls, row: Mapping[str, Any], j: int, x_scale: int, y_scale: int) -> PairSums:
        """Take metric `j` out of the row of `sql/shadow_moments.sql`."""
        letters = "abcd"
        pairs = [p + q for i, p in enumerate(letters) for q in letters[i:]]
        return cls(
            int(row[f"n{j}"]), {c: int(row[f"{c}{j}"]) for c in letters}, {n: int(row[f"{n}{j}"]) for n in pairs}, x_scale, y_scale
        )  # fmt: skip

    def total(self, letter: str) -> Fraction:
        """Return a sum in the metric's unit."""
        return Fraction(self.sums[letter], self._scale(letter))

    def form(self, p: Mapping[str, Fraction], q: Mapping[str, Fraction]) -> Fraction:
        """Return Σ_u (p·z_u)(q·z_u) for two linear combinations of a unit's four numbers, exactly."""
        found = Fraction(0)
        for m, weight in p.items():
            for n, other in q.items():
                found += (
                    weight * other * Fraction(self.products["".join(sorted(m + n))], self._scale(m) * self._scale(n))
                )
        return found

    def _scale(self, letter: str) -> int:
        return self.x_scale if letter in "ac" else self.y_scale


@dataclass(frozen=True)
class Curve:
    """S(h) and v(h) for any harm h, around the estimate at which S is zero.

    Attributes:
        estimate: The harm that was observed (larger is worse), in the unit of `kind`.
        slope: S falls by it for every unit of harm.
        v0, v1, v2: v(estimate + t) = v0 + v1 t + v2 t², before the floor of a proportion.
    """

    kind: Kind
    estimate: float
    slope: float
    v0: float
    v1: float
    v2: float
    sign: int
    flags: Flags | None

    @property
    def std_error(self) -> float:
        """Return the plug-in standard error of the estimate."""
        return math.sqrt(max(self.v0, 0.0)) / self.slope if self.slope > 0 else math.nan

    def at(self, harm: ArrayLike) -> tuple[Array, Array]:
        """Return (S, v) at harms of any shape; positive S is worse than the harm."""
        h = np.asarray(harm, dtype=np.float64)
        t = h - self.estimate
        v = np.maximum(self.v0 + t * (self.v1 + t * self.v2), 0.0)
        if self.flags is not None and self.kind == "absolute":
            v = np.maximum(v, self.flags.variance(h, self.sign))
        return np.asarray(-t * self.slope), np.asarray(v)

    def lower(self, evidence: Evidence, level: float) -> float | None:
        """Return the largest harm that the observed one is shown to exceed; None when there is none."""
        return self._walk(evidence, level, -1)

    def upper(self, evidence: Evidence, level: float) -> float | None:
        """Return the smallest harm that the observed one is shown to stay below; None when there is none."""
        return self._walk(evidence, level, +1)

    def _walk(self, evidence: Evidence, level: float, side: int) -> float | None:
        """Walk from the estimate until the evidence against a harm reaches the level, then close in; the reached end is the answer."""
        step = self.std_error
        if not (math.isfinite(step) and self.slope > 0):
            return None
        step = step or abs(self.estimate) * 1e-3 or 1e-6
        ahead = self.estimate + side * step * _STRIDES
        reached = evidence(*self.at(ahead)) >= level
        if not reached.any():
            return None
        k = int(np.argmax(reached))
        near, far = (self.estimate if k == 0 else float(ahead[k - 1])), float(ahead[k])
        for _ in range(_ROUNDS):
            if abs(far - near) <= _NEAR * max(abs(far), abs(near)):
                break
            between = near + (far - near) * _PARTS
            k = int(np.argmax(evidence(*self.at(between)) >= level))  # the last one is reached
            near, far = (near if k == 0 else float(between[k - 1])), float(between[k])
        return finite(far)


@dataclass(frozen=True)
class PairedScore:
    """One metric over pairs. Build it with `paired_score`.

    Attributes:
        control, treatment: r_C and r_T.
        weight: W.
        var_control, var_treatment, covariance: Over units, of the arms' weighted influences: their sum, less twice the last, is v0.
    """

    sums: PairSums
    sign: int
    control: float
    treatment: float
    weight: float
    var_control: float
    var_treatment: float
    covariance: float
    flags: Flags | None
    _rc: Fraction
    _rt: Fraction
    _w: Fraction

    @property
    def correlation(self) -> float | None:
        """Return the correlation of the arms' influences over units."""
        spread = self.var_control * self.var_treatment
        return max(-1.0, min(1.0, self.covariance / math.sqrt(spread))) if spread > 0 else None

    @property
    def gain(self) -> float | None:
        """Return how many times fewer pairs are needed than without pairing: unpaired over paired variance."""
        paired = self.var_control + self.var_treatment - 2 * self.covariance
        return (self.var_control + self.var_treatment) / paired if paired > 0 else None

    def apart(self) -> Curve:
        """Return the curve of the same answers as if the arms had nothing to do with each other."""
        plain = self.curve("absolute")
        assert plain is not None
        flags = None if self.flags is None else replace(self.flags, paired=False)
        return replace(plain, v0=self.var_control + self.var_treatment, v1=0.0, flags=flags)

    def curve(self, kind: Kind) -> Curve | None:
        """Return S and v as functions of the harm; None for a relative harm where control is not positive."""
        s, rc, rt, w = self.sign, self._rc, self._rt, self._w
        y_t, y_c = self.sums.total("b"), self.sums.total("d")
        if kind == "relative" and rc <= 0:
            return None
        estimate = s * (rt - rc) if kind == "absolute" else s * (rt / rc - 1)
        # At the estimate treatment's null rate is its own, r_T; q is how a unit's contribution moves with the harm.
        c = Fraction(1) if kind == "absolute" else rt / rc
        p = {"a": w / y_t, "b": -w * rt / y_t, "c": -c * w / y_c, "d": c * w * rc / y_c}
        if kind == "absolute":
            q = {"b": -s * w / y_t}
            slope = w
        else:
            q = {"b": -s * w * rc / y_t, "c": -s * w / y_c, "d": s * w * rc / y_c}
            slope = w * rc
        form = self.sums.form
        return Curve(
            kind, float(estimate), float(slope), float(form(p, p)), float(2 * form(p, q)), float(form(q, q)), s, self.flags
        )  # fmt: skip


def paired_score(sums: PairSums, sign: int, flags: Flags | None = None) -> PairedScore | None:
    """Return the score of one metric; None when an arm's denominator is zero.

    Args:
        sums: Exact sums over units.
        sign: +1 when larger is worse.
        flags: How pairs of a proportion differ.
    """
    y_t, y_c = sums.total("b"), sums.total("d")
    if y_t <= 0 or y_c <= 0:
        return None
    rt, rc = sums.total("a") / y_t, sums.total("c") / y_c
    w = 2 * y_t * y_c / (y_t + y_c)
    t = {"a": w / y_t, "b": -w * rt / y_t}
    c = {"c": w / y_c, "d": -w * rc / y_c}
    return PairedScore(
        sums, sign, float(rc), float(rt), float(w), float(sums.form(c, c)), float(sums.form(t, t)), float(sums.form(t, c)),
        flags, rc, rt, w,
    )  # fmt: skip


def design_effect(sums: PairSums) -> float:
    """Return how much more control's rate of a flag varies between units than between independent pairs; at least 1."""
    n, rate = sums.total("d"), sums.total("c") / sums.total("d") if sums.total("d") else Fraction(0)
    spread = n * rate * (1 - rate)
    if spread <= 0:
        return 1.0
    e = {"c": Fraction(1), "d": -rate}
    return max(1.0, float(sums.form(e, e) / spread))


def harm_evidence(rho2: Array) -> Evidence:
    """Return log E that the harm is larger than the ones tested (one-sided normal mixture)."""
    return lambda s, v: log_e_one_sided(s, v, rho2)


def safe_evidence(rho2: Array) -> Evidence:
    """Return log E that the harm is smaller than the ones tested."""
    return lambda s, v: log_e_one_sided(-s, v, rho2)


def two_sided_evidence(rho2: Array) -> Evidence:
    """Return log E that the harm is another than the ones tested."""
    return lambda s, v: log_e_two_sided(s, v, rho2)


def fixed_evidence(s: Array, v: Array) -> Array:
    """Return the squared z of a fixed-horizon test: right for one look at a declared time, and for nothing else."""
    return np.where(v > 0, s * s / np.where(v > 0, v, 1.0), 0.0)
