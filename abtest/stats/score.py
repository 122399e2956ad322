"""Stage-stratified, unit-clustered score of a contrast, from integer pair moments (STATISTICS §1 and §3).

One score serves means, ratios, proportions, counts, quantile exceedance and CUPED. With stages k, arm totals X and Y, rates
r = X/Y and weights w_k = Y_Tk·Y_Ck/(Y_Tk+Y_Ck), the score of the null "harm = margin" is

    S = s · Σ_k w_k (r_Tk - c·r_Ck) - d·Σ_k w_k,

s = +1 when larger is worse, c = 1 + s·m for a relative margin m (else 1), d an absolute margin (else 0). Its variance is the
largest of the following, and at least what it was at every earlier look that latches (the ends of stages in an analysis):

* the plug-in v_plug = Σ_u (Σ_k w_kψ_uk)²: influence summed over stages before squaring, because a returning unit is one
  cluster [Deng, Knoblich & Lu 2018, arXiv 1803.06336, extended over strata];
* the design variance under the tested null, v_design = Σ_uΣ_kl e_uk e_ul (min(q_k,q_l) - q_k q_l), which knows that sticky
  units with nested hashes stay in treatment while the ramp widens;
* for proportions with a points margin the floor Σ_k w_k²·deff_k·[p̃(1-p̃)/Y_Tk + p_Ck(1-p_Ck)/Y_Ck], because a small arm
  without events has a plug-in variance of nearly zero.

Assumptions: units independent of each other, assignment by hash as configured; a central limit theorem over units (below 30
units in an arm no claim is made by the callers of this module).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from abtest.errors import InvalidInputError

Array = NDArray[np.float64]
CONTROL, TREATMENT = 0, 1
_CENTRE_BITS = 20


@dataclass(frozen=True)
class PairSums:
    """Centred sums of one metric for two arms, K stages and B looks, in natural units.

    Attributes:
        units: (2, K, B) units seen so far.
        x: (2, K, B) sum of x - centre·y.
        y: (2, K, B) sum of y.
        xx: (2, K, 2, K, B) sum over units of products of centred x, first index pair ≤ second in stage; same for
        xy: x of the first cell times y of the second,
        yx: y of the first cell times x of the second,
        yy: y times y.
        centre: What was subtracted, so that no variance is lost to cancellation (exact in integers); one a look in `joined`.
    """

    units: Array
    x: Array
    y: Array
    xx: Array
    xy: Array
    yx: Array
    yy: Array
    centre: float | Array

    @property
    def stages(self) -> int:
        """Return K."""
        return int(self.units.shape[1])

    @property
    def looks(self) -> int:
        """Return B."""
        return int(self.units.shape[2])

    def look(self, index: int) -> PairSums:
        """Return the sums at one look, as a series of length one."""
        pick = slice(index, index + 1) if index != -1 else slice(-1, None)
        parts = {name: getattr(self, name)[..., pick] for name in ("units", "x", "y", "xx", "xy", "yx", "yy")}
        return PairSums(**parts, centre=self.centre)


def joined(parts: Sequence[PairSums]) -> PairSums:
    """Return the sums of several groups (levels of a segment) one after the other along the looks.

    Args:
        parts: Sums with the same stages and looks; see `stratified_score(groups=...)`.

    Raises:
        InvalidInputError: no parts, or parts of different shapes.
    """
    if len({p.units.shape for p in parts}) != 1:
        raise InvalidInputError("groups to be joined must have the same stages and looks, and there must be one")
    if len(parts) == 1:
        return parts[0]
    names = ("units", "x", "y", "xx", "xy", "yx", "yy")
    centre = np.concatenate([np.broadcast_to(np.asarray(p.centre, dtype=float), (p.looks,)) for p in parts])
    return PairSums(
        **{name: np.concatenate([getattr(p, name) for p in parts], axis=-1) for name in names}, centre=centre
    )


def pair_sums(
    cells: Mapping[tuple[int, int], Mapping[str, Sequence[int]]],
    pairs: Mapping[tuple[int, int, int, int], Mapping[str, Sequence[int]]],
    *,
    stages: int,
    looks: int,
    x_scale: int = 1,
    y_scale: int = 1,
) -> PairSums:
    """Build `PairSums` from cumulative integer sums; centring is exact, then everything becomes float.

    Args:
        cells: (arm, stage) -> {"units", "x", "y"}: cumulative integers, one per look.
        pairs: (arm_a, stage_a, arm_b, stage_b), stage_a <= stage_b -> {"xx", "xy", "yx", "yy"}: cumulative integers.
        stages: Number of stages K.
        looks: Number of looks B.
        x_scale: Fixed-point scale of x.
        y_scale: Fixed-point scale of y (1 for counts).

    Raises:
        InvalidInputError: a sequence whose length is not `looks`.
    """
    total_x = sum(int(c["x"][-1]) for c in cells.values()) if looks else 0
    total_y = sum(int(c["y"][-1]) for c in cells.values()) if looks else 0
    # A dyadic rational close to the pooled ratio: integers stay integers, and the residual is small.
    numerator = round((total_x << _CENTRE_BITS) / total_y) if total_y else 0
    one = 1 << _CENTRE_BITS
    out: dict[str, Array] = {name: np.zeros((2, stages, looks)) for name in ("units", "x", "y")}
    for (arm, stage), sums in cells.items():
        n, x, y = (_integers(sums[name], looks) for name in ("units", "x", "y"))
        out["units"][arm, stage] = n.astype(float)
        out["x"][arm, stage] = (x * one - numerator * y).astype(float) / one / x_scale
        out["y"][arm, stage] = y.astype(float) / y_scale
    for name in ("xx", "xy", "yx", "yy"):
        out[name] = np.zeros((2, stages, 2, stages, looks))
    for (arm_a, k, arm_b, m), sums in pairs.items():
        xx, xy, yx, yy = (_integers(sums[name], looks) for name in ("xx", "xy", "yx", "yy"))
        where = (arm_a, k, arm_b, m)
        centred = xx * (one * one) - (xy + yx) * (numerator * one) + yy * (numerator * numerator)
        out["xx"][where] = centred.astype(float) / (one * one) / (x_scale * x_scale)
        out["xy"][where] = (xy * one - yy * numerator).astype(float) / one / (x_scale * y_scale)
        out["yx"][where] = (yx * one - yy * numerator).astype(float) / one / (x_scale * y_scale)
        out["yy"][where] = yy.astype(float) / (y_scale * y_scale)
    return PairSums(**out, centre=numerator / one * y_scale / x_scale)


def _integers(values: Sequence[int], looks: int) -> NDArray[Any]:
    array = np.array([int(v) for v in values], dtype=object)
    if array.shape != (looks,):
        raise InvalidInputError(f"expected {looks} looks, got {array.shape}")
    return array


def pair_sums_from_units(
    arm: NDArray[Any], stage: NDArray[Any], unit: NDArray[Any], x: NDArray[Any], y: NDArray[Any], *, stages: int
) -> PairSums:
    """Build one look of `PairSums` from unit rows (for simulation and tests): one row per unit, arm and stage.

    Args:
        arm: (n,) 0 control, 1 treatment.
        stage: (n,) stage index below `stages`.
        unit: (n,) unit identifier; a unit has at most one row a stage.
        x: (n,) numerator.
        y: (n,) denominator.
        stages: Number of stages K.
    """
    ids, unit_index = np.unique(np.asarray(unit), return_inverse=True)
    arm, stage = np.asarray(arm, dtype=int), np.asarray(stage, dtype=int)
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    centre = float(x.sum() / y.sum()) if y.sum() else 0.0
    x = x - centre * y
    # Dense unit x cell tables: small K, simulation sizes.
    wide_x, wide_y = np.zeros((2 * stages, len(ids))), np.zeros((2 * stages, len(ids)))
    cell = arm * stages + stage
    np.add.at(wide_x, (cell, unit_index), x)
    np.add.at(wide_y, (cell, unit_index), y)
    units = np.bincount(cell, minlength=2 * stages).astype(float)

    def products(a: Array, b: Array) -> Array:
        full = (a @ b.T).reshape(2, stages, 2, stages)
        keep = np.arange(stages)[:, None] <= np.arange(stages)[None, :]
        return (full * keep[None, :, None, :])[..., None]

    shape = (2, stages, 1)
    return PairSums(
        units=units.reshape(shape), x=wide_x.sum(axis=1).reshape(shape), y=wide_y.sum(axis=1).reshape(shape),
        xx=products(wide_x, wide_x), xy=products(wide_x, wide_y), yx=products(wide_y, wide_x),
        yy=products(wide_y, wide_y), centre=centre,
    )  # fmt: skip


@dataclass(frozen=True)
class Contrast:
    """The score of one null at every look.

    Attributes:
        score: (B,) S; positive means worse than the null.
        v: (B,) its variance: max of plug-in, design and floor, running maximum over looks when asked for.
        weight: (B,) Σ w_k; score / weight is the estimate of harm beyond the null.
        v_plug: (B,) plug-in part.
        v_design: (B,) design part.
        v_floor: (B,) floor part (0 where there is none).
    """

    score: Array
    v: Array
    weight: Array
    v_plug: Array
    v_design: Array
    v_floor: Array


@dataclass(frozen=True)
class StratifiedScore:
    """The score as a function of the null; build it with `stratified_score`."""

    sums: PairSums
    shares: Array
    sign: int
    proportion: bool
    used: NDArray[np.bool_]
    latches: NDArray[np.bool_] | None = None
    groups: int = 1

    @cached_property
    def rates(self) -> Array:
        """Return (2, K, B) rates X/Y; 0 where a stage is not used."""
        return self._centred_rates() + self.sums.centre * self.used

    @cached_property
    def weights(self) -> Array:
        """Return (K, B) weights Y_T·Y_C/(Y_T+Y_C); 0 where a stage is not used."""
        y_c, y_t = self.sums.y
        return np.where(self.used, y_t * y_c / np.where(self.used, y_t + y_c, 1.0), 0.0)

    def arm_values(self) -> tuple[Array, Array]:
        """Return (B,) control and treatment rates averaged with the stage weights, so that their difference is D."""
        w = self.weights
        total = w.sum(axis=0)
        safe = np.where(total > 0, total, 1.0)
        r = self.rates
        return tuple(np.where(total > 0, (w * r[a]).sum(axis=0) / safe, np.nan) for a in (CONTROL, TREATMENT))  # type: ignore[return-value]

    def contrast(
        self, margin: float | Array = 0.0, kind: Literal["absolute", "relative"] = "absolute", *, running: bool = True
    ) -> Contrast:
        """Score the null "harm = margin" at every look.

        Args:
            margin: Scalar or (B,); in the metric's unit, or as a fraction of control when `kind` is "relative".
            kind: "absolute" (also for points) or "relative".
            running: Take the running maximum of the variance over looks (the clock never runs backwards).
        """
        margin = np.asarray(margin, dtype=float)
        relative = kind == "relative"
        c = 1.0 + self.sign * margin if relative else np.ones_like(margin)
        d = np.zeros_like(margin) if relative else margin
        w, r = self.weights, self._centred_rates()
        weight = w.sum(axis=0)
        gap = r[TREATMENT] - c * r[CONTROL] + self.sums.centre * (1.0 - c)
        score = self.sign * (w * gap * self.used).sum(axis=0) - d * weight
        v_plug = self._v_plug(c)
        v_design = self._v_design(c, d)
        v_floor = self._v_floor(d) if self.proportion and not relative else np.zeros_like(v_plug)
        v = np.maximum(np.maximum(v_plug, v_design), v_floor)
        if running:
            v = self.held(v)
        return Contrast(score, v, weight, v_plug, v_design, v_floor)

    def variance_floor(self, margin: float | Array) -> Array:
        """Return (B,) the floor of the variance of S for a proportion at a margin in points."""
        return self._v_floor(np.asarray(margin, dtype=float))

    def held(self, v: Array) -> Array:
        """Return (B,) the variance that counts at each look: at least what it was at every earlier look that latches."""
        if not v.size:
            return v
        earlier = v if self.latches is None else np.where(self.latches, v, 0.0)
        held = np.maximum.accumulate(earlier.reshape(self.groups, -1), axis=1)
        return np.maximum(v, held.ravel())

    # -- parts ---------------------------------------------------------------------------------------------------

    def _centred_rates(self) -> Array:
        y = self.sums.y
        return np.where(self.used[None], self.sums.x / np.where(y > 0, y, 1.0), 0.0)

    def _pair_form(self, kappa: Array, rho: Array) -> Array:
        """Return (2, K, 2, K, B): Σ_u (kappa_p x_p - rho_p y_p)(kappa_q x_q - rho_q y_q); both are (2, K, B)."""
        s = self.sums
        kp, kq = kappa[:, :, None, None], kappa[None, None]
        rp, rq = rho[:, :, None, None], rho[None, None]
        return kp * kq * s.xx - kp * rq * s.xy - rp * kq * s.yx + rp * rq * s.yy

    def _double_off_diagonal(self) -> Array:
        """Return (K, K, 1): 1 on the diagonal, 2 above, 0 below (pairs are stored once)."""
        k = np.arange(self.sums.stages)
        return np.where(k[:, None] == k[None, :], 1.0, np.where(k[:, None] < k[None, :], 2.0, 0.0))[:, :, None]

    def _v_plug(self, c: Array) -> Array:
        y_c, y_t = self.sums.y
        f = np.where(self.used, y_t / np.where(self.used, y_t + y_c, 1.0), 0.0)
        coef = np.stack([-c * f, (1.0 - f) * self.used])
        form = self._pair_form(np.ones_like(coef), self._centred_rates())
        mult = self._double_off_diagonal()[None, :, None, :]
        return np.maximum((coef[:, :, None, None] * coef[None, None] * form * mult).sum(axis=(0, 1, 2, 3)), 0.0)

    def _v_design(self, c: Array, d: Array) -> Array:
        s, centre = self.sums, self.sums.centre
        y_c, y_t = s.y
        total = np.where(self.used, y_c + y_t, 1.0)
        # Pooled rate of the outcomes moved back to "no effect", minus the centre, for each arm's own scaling.
        pooled = (s.x[TREATMENT] + c * s.x[CONTROL] + centre * (c - 1.0) * y_c - self.sign * d * y_t) / total
        kappa = np.stack([np.broadcast_to(c, pooled.shape), np.ones_like(pooled)]) * self.used
        rho = np.stack([pooled + centre * (1.0 - c), pooled + self.sign * d]) * self.used
        q = self.shares
        spread = np.minimum(q[:, None], q[None, :]) - q[:, None] * q[None, :]
        form = self._pair_form(kappa, rho)
        mult = (self._double_off_diagonal() * spread[:, :, None])[None, :, None, :]
        return np.maximum((form * mult).sum(axis=(0, 1, 2, 3)), 0.0)

    def _v_floor(self, d: Array) -> Array:
        y_c, y_t = self.sums.y
        w = self.weights
        p = np.clip(self.rates if self.sign > 0 else self.used - self.rates, 0.0, 1.0)
        worst = np.clip(np.maximum(p[TREATMENT], p[CONTROL] + d), 0.0, 1.0)
        ones = np.ones_like(y_t)
        part_t = worst * (1 - worst) / np.where(self.used, y_t, ones)
        part_c = p[CONTROL] * (1 - p[CONTROL]) / np.where(self.used, y_c, ones)
        return (w * w * self._design_effect * (part_t + part_c) * self.used).sum(axis=0)

    @cached_property
    def _design_effect(self) -> Array:
        """Return (B,) control's clustered over binomial variance, pooled over stages; at least 1."""
        form = self._pair_form(np.ones_like(self.sums.x), self._centred_rates())
        k = np.arange(self.sums.stages)
        clustered = (form[CONTROL][k, CONTROL, k] * self.used).sum(axis=0)
        p = np.clip(self.rates[CONTROL], 0.0, 1.0)
        binomial = (self.sums.y[CONTROL] * p * (1 - p) * self.used).sum(axis=0)
        return np.maximum(np.where(binomial > 0, clustered / np.where(binomial > 0, binomial, 1.0), 1.0), 1.0)


def stratified_score(
    sums: PairSums,
    shares: Sequence[float | None],
    *,
    better: Literal["lower", "higher"] = "lower",
    proportion: bool = False,
    min_units: int = 2,
    latches: NDArray[np.bool_] | None = None,
    groups: int = 1,
) -> StratifiedScore:
    """Prepare the score of treatment against control.

    Args:
        sums: Pair moments of the two arms.
        shares: (K,) the treatment's configured share of the two arms' traffic in each stage; None where unknown
            (then the observed share of units at the last look stands in).
        better: Whether smaller or larger values are better; the score is positive for harm.
        proportion: Numerators are 0/1 per denominator unit: the variance floor applies.
        min_units: A stage counts only while both arms have this many units.
        latches: (B,) looks whose variance holds at all later looks; default: every look.
        groups: The looks are those of so many groups, one after the other (`joined`); each has a clock of its own.

    Raises:
        InvalidInputError: shares of another length, or outside (0, 1); looks that are no multiple of the groups.
    """
    if groups < 1 or sums.looks % groups:
        raise InvalidInputError(f"{sums.looks} looks are not those of {groups} groups")
    if len(shares) != sums.stages:
        raise InvalidInputError(f"{sums.stages} stages need {sums.stages} shares, got {len(shares)}")
    if any(q is not None and not 0 < q < 1 for q in shares):
        raise InvalidInputError(f"shares must lie in (0, 1), got {list(shares)}")
    last = sums.units[:, :, -1] if sums.looks else np.zeros((2, sums.stages))
    observed = last[TREATMENT] / np.maximum(last.sum(axis=0), 1.0)
    q = np.array([o if s is None else s for s, o in zip(shares, observed, strict=True)], dtype=float)
    used = (sums.units >= min_units).all(axis=0) & (sums.y > 0).all(axis=0)
    return StratifiedScore(sums, q, 1 if better == "lower" else -1, proportion, np.asarray(used), latches, groups)
