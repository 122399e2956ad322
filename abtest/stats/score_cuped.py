"""CUPED for the stratified score: each unit's own history takes away what was different about it before the experiment.

A unit's history is a numerator c and a denominator d, measured like the metric (x, y) but strictly before its first exposure.
With g_k = C_k/D_k, pooled over both arms of stage k, and one coefficient at every look,

    z_uk = c_u - g_k·d_u,    e_uk = x_uk - r_ak·y_uk,    theta = Σ_cells Σ_u e z / Σ_cells Σ_u (z - z̄)²,    x' = x - theta·z,

(cell = arm and stage, r its own rate, z̄ the mean of z in the cell) and x' takes the place of x: contrast, variances and
bounds of `abtest.stats.score` stay as they are. A unit without history has c = d = 0, so z = 0 and x' = x.

Why it is allowed: z is fixed before the arm can act, so it has the same distribution in both arms of a stage, and Σ z = 0 over
the two arms of every stage. What is taken away has mean zero in each arm, whatever theta, also for a relative margin and
where the treatment changes how much units do; with one g for all stages it would not (measured, 5000 users, three stages,
early users unlike late ones, treatment 50 % busier: mean z-score of a true null -0.35, at a relative margin -0.60; with
g_k: 0.10, standard error 0.13). Estimating theta and g costs terms of order 1/n only [Lin 2013].

Why it helps: with one stage and one row a unit the variance falls to 1 - corr(e, z)² of what it was. A metric of few calls a
unit and a short history gain little; nothing is gained for units that are new.

Assumptions: those of `abtest.stats.score`; the covariate is not moved by the treatment, which `balance` tests.
A proportion with a margin in points keeps the binomial floor of its variance, so there CUPED removes clustering only.

Sources: Deng, Xu, Kohavi & Walker (2013), Improving the Sensitivity of Online Controlled Experiments by Utilizing
Pre-Experiment Data (WSDM); Lin (2013), Agnostic notes on regression adjustments to experimental data (Annals of Applied
Statistics 7). Ratios are linearised as in Deng, Knoblich & Lu (2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from abtest.errors import InvalidInputError
from abtest.stats.score import PairSums, pair_sums_from_units, stratified_score

Array = NDArray[np.float64]
LETTERS = "xycd"
"""A unit's columns: numerator and denominator of the metric, numerator and denominator of its history."""
_ACROSS = ("xc", "xd", "yc", "yd", "cx", "cy", "dx", "dy")
_ONE = 1 << 20
_NO_VARIANCE = 1e-9
_MIN_UNITS = 2


@dataclass(frozen=True)
class CovariateSums:
    """Centred sums of a metric and its covariate for two arms, K stages and B looks, in natural units.

    Attributes:
        metric: Sums of the metric (x, y).
        history: Sums of the history: its x is c - centre·d, its y is d.
        across: "xc", "xd", "yc", "yd", "cx", "cy", "dx", "dy": (2, K, 2, K, B) each, Σ over units of the first letter's
            column in the first cell times the second letter's in the second (x and c centred), first stage <= second.
    """

    metric: PairSums
    history: PairSums
    across: Mapping[str, Array]


@dataclass(frozen=True)
class Cuped:
    """The adjusted metric, and how it was adjusted at every look.

    Attributes:
        sums: What takes the place of the metric's `PairSums`.
        theta: (B,) the coefficient; 0 where the covariate does not vary (then nothing is adjusted).
        correlation: (B,) of e and z within cells; 0 where one of them does not vary.
        varies: (B,) whether the covariate varies within the cells.
    """

    sums: PairSums
    theta: Array
    correlation: Array
    varies: NDArray[np.bool_]


def covariate_sums(
    cells: Mapping[tuple[int, int], Mapping[str, Sequence[int]]],
    pairs: Mapping[tuple[int, int, int, int], Mapping[str, Sequence[int]]],
    *,
    stages: int,
    looks: int,
    x_scale: int = 1,
    y_scale: int = 1,
) -> CovariateSums:
    """Build `CovariateSums` from cumulative integer sums; like `score.pair_sums`, which gives the same `metric`.

    Args:
        cells: (arm, stage) -> {"units", "x", "y", "c", "d"}: cumulative integers, one per look.
        pairs: (arm_a, stage_a, arm_b, stage_b), stage_a <= stage_b -> the 16 products of x, y, c, d ("xx", "xy", ...).
        stages: Number of stages K.
        looks: Number of looks B.
        x_scale: Fixed-point scale of x and c.
        y_scale: Fixed-point scale of y and d.

    Raises:
        InvalidInputError: a sequence whose length is not `looks`.
    """
    slopes = {above: _dyadic_ratio(cells, above, below, looks) for above, below in ("xy", "cd")}
    # A centred column is a sum of columns with whole coefficients: x·2^20 - slope·y. So integers stay integers.
    parts = {
        "x": (("x", _ONE), ("y", -slopes["x"])), "y": (("y", _ONE),),
        "c": (("c", _ONE), ("d", -slopes["c"])), "d": (("d", _ONE),),
    }  # fmt: skip
    scale = {"x": x_scale, "y": y_scale, "c": x_scale, "d": y_scale}
    sums = {name: np.zeros((2, stages, looks)) for name in ("units", *LETTERS)}
    for (arm, stage), row in cells.items():
        sums["units"][arm, stage] = _integers(row["units"], looks).astype(float)
        for a in LETTERS:
            total = sum(w * _integers(row[p], looks) for p, w in parts[a])
            sums[a][arm, stage] = _float(total) / _ONE / scale[a]
    products = {a + b: np.zeros((2, stages, 2, stages, looks)) for a in LETTERS for b in LETTERS}
    for where, row in pairs.items():
        raw = {name: _integers(row[name], looks) for name in products}
        for a, b in products:
            total = sum(v * w * raw[p + q] for p, v in parts[a] for q, w in parts[b])
            products[a + b][where] = _float(total) / (_ONE * _ONE) / (scale[a] * scale[b])
    centres = {above: slope / _ONE * y_scale / x_scale for above, slope in slopes.items()}
    return CovariateSums(
        metric=_block(sums, products, "x", "y", centres["x"]),
        history=_block(sums, products, "c", "d", centres["c"]),
        across={name: products[name] for name in _ACROSS},
    )


def covariate_sums_from_units(
    arm: NDArray[Any], stage: NDArray[Any], unit: NDArray[Any], x: NDArray[Any], y: NDArray[Any],
    c: NDArray[Any], d: NDArray[Any], *, stages: int,
) -> CovariateSums:  # fmt: skip
    """Build one look of `CovariateSums` from unit rows (for simulation and tests): one row per unit, arm and stage.

    Args:
        arm: (n,) 0 control, 1 treatment.
        stage: (n,) stage index below `stages`.
        unit: (n,) unit identifier; a unit has at most one row a stage.
        x: (n,) numerator.
        y: (n,) denominator.
        c: (n,) numerator of the unit's history, the same in every row of the unit; 0 without history.
        d: (n,) denominator of the unit's history; 0 without history.
        stages: Number of stages K.
    """
    metric = pair_sums_from_units(arm, stage, unit, x, y, stages=stages)
    history = pair_sums_from_units(arm, stage, unit, c, d, stages=stages)
    ids, index = np.unique(np.asarray(unit), return_inverse=True)
    cell = np.asarray(arm, dtype=int) * stages + np.asarray(stage, dtype=int)
    columns = {
        "x": np.asarray(x, dtype=float) - metric.centre * np.asarray(y, dtype=float), "y": y,
        "c": np.asarray(c, dtype=float) - history.centre * np.asarray(d, dtype=float), "d": d,
    }  # fmt: skip
    wide = {name: np.zeros((2 * stages, len(ids))) for name in LETTERS}
    for name, table in wide.items():
        np.add.at(table, (cell, index), np.asarray(columns[name], dtype=float))
    keep = np.arange(stages)[:, None] <= np.arange(stages)[None, :]
    across = {
        a + b: ((wide[a] @ wide[b].T).reshape(2, stages, 2, stages) * keep[None, :, None, :])[..., None]
        for a, b in _ACROSS
    }
    return CovariateSums(metric, history, across)


def cuped(sums: CovariateSums) -> Cuped:
    """Return the metric adjusted by its covariate, with theta estimated anew at every look (see the module's formula)."""
    m, h, across = sums.metric, sums.history, sums.across
    # g_k in two steps: the exact dyadic centre is in the sums already, what is left of it per stage and look is small.
    d_stage = h.y.sum(axis=0)
    rest = np.where(d_stage > 0, h.x.sum(axis=0) / np.where(d_stage > 0, d_stage, 1.0), 0.0)
    p, q = rest[None, :, None, None], rest[None, None, None]
    z = h.x - rest * h.y
    xz, yz = across["xc"] - q * across["xd"], across["yc"] - q * across["yd"]
    zx, zy = across["cx"] - p * across["dx"], across["cy"] - p * across["dy"]
    zz = h.xx - q * h.xy - p * h.yx + p * q * h.yy
    theta, correlation, varies = _coefficient(sums, z, xz, yz, zz)
    adjusted = PairSums(
        units=m.units, x=m.x - theta * z, y=m.y,
        xx=m.xx - theta * (xz + zx) + theta * theta * zz, xy=m.xy - theta * zy, yx=m.yx - theta * yz, yy=m.yy,
        centre=m.centre,
    )  # fmt: skip
    return Cuped(adjusted, theta, correlation, varies)


def balance(history: PairSums, shares: Sequence[float | None]) -> Array:
    """Return (B,) the two-sided p-value of "the covariate is the same in both arms"; NaN where it cannot be computed.

    The score of z itself, clustered by unit and stratified by stage: S(C/D)/sqrt(v) against the normal distribution. A small
    value means that the history was moved (late logging, an assignment that depends on behaviour, users lost in one arm).

    Args:
        history: Pair moments of the covariate (`CovariateSums.history`).
        shares: (K,) as for `score.stratified_score`.
    """
    contrast = stratified_score(history, shares, min_units=_MIN_UNITS).contrast(running=False)
    known = contrast.v > 0
    value = np.abs(contrast.score) / np.sqrt(np.where(known, contrast.v, 1.0))
    return np.where(known, 2.0 * special.ndtr(-value), np.nan)


# -- parts -------------------------------------------------------------------------------------------------------


def _coefficient(
    sums: CovariateSums, z: Array, xz: Array, yz: Array, zz: Array
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return theta, the correlation of e and z, and whether z varies, pooled within the cells of stages that count."""
    m = sums.metric
    used = (m.units >= _MIN_UNITS).all(axis=0) & (m.y > 0).all(axis=0)
    rate = np.where(used, m.x / np.where(m.y > 0, m.y, 1.0), 0.0)
    n = np.where(used, m.units, 1.0)
    # Σe = 0 in every cell by the definition of its rate, so only z needs its mean taken away.
    ez = ((_own(xz) - rate * _own(yz)) * used).sum(axis=(0, 1))
    ee = ((_own(m.xx) - 2.0 * rate * _own(m.xy) + rate * rate * _own(m.yy)) * used).sum(axis=(0, 1))
    var_z = ((_own(zz) - z * z / n) * used).sum(axis=(0, 1))
    # A covariate that is the same for everybody leaves the rounding of its sums: that is no variance.
    varies = var_z > _NO_VARIANCE * (_own(sums.history.xx) * used).sum(axis=(0, 1))
    theta = np.where(varies, ez / np.where(varies, var_z, 1.0), 0.0)
    both = varies & (ee > 0)
    size = np.sqrt(np.where(both, ee, 1.0)) * np.sqrt(np.where(both, var_z, 1.0))
    return theta, np.where(both, np.clip(ez / size, -1.0, 1.0), 0.0), varies


def _own(products: Array) -> Array:
    """Return (2, K, B): products of each cell with itself."""
    return np.asarray(np.einsum("akakb->akb", products))


def _block(sums: Mapping[str, Array], products: Mapping[str, Array], x: str, y: str, centre: float) -> PairSums:
    return PairSums(
        units=sums["units"], x=sums[x], y=sums[y],
        xx=products[x + x], xy=products[x + y], yx=products[y + x], yy=products[y + y], centre=centre,
    )  # fmt: skip


def _dyadic_ratio(
    cells: Mapping[tuple[int, int], Mapping[str, Sequence[int]]], above: str, below: str, looks: int
) -> int:
    """Return the pooled ratio at the last look in units of 2^-20: close enough that no variance is lost to cancellation."""
    numerator = sum(int(row[above][-1]) for row in cells.values()) if looks else 0
    denominator = sum(int(row[below][-1]) for row in cells.values()) if looks else 0
    return round((numerator * _ONE) / denominator) if denominator else 0


def _integers(values: Sequence[int], looks: int) -> NDArray[Any]:
    array = np.array([int(v) for v in values], dtype=object)
    if array.shape != (looks,):
        raise InvalidInputError(f"expected {looks} looks, got {array.shape}")
    return array


def _float(total: Any) -> Array:
    return np.asarray(total, dtype=object).astype(float)
