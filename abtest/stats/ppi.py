"""A judge on all rows and a few human labels: prediction-powered estimates of what the humans would say.

`ppi_mean` is for one fixed look and a random subset of labelled rows. `centred_scores` gives one unbiased number a row
when each row's chance of a label is known; sum those by user and feed them to the sequential methods. A new judge model
or prompt is a new stratum: freeze new constants.

Sources: Angelopoulos et al. 2023 (arXiv 2301.09633); Angelopoulos, Duchi, Zrnic 2023 (PPI++, arXiv 2311.01453).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from abtest.errors import InvalidInputError
from abtest.results import Estimate, ToDict
from abtest.stats.means import Reference, check_alternative, tail_pvalue, wald_interval
from abtest.stats.moments import TOO_LARGE, Moments, too_large
from abtest.stats.multiplicity import check_level

Floats = NDArray[np.float64]


def _finite(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64).ravel()
    if not np.all(np.isfinite(array)):
        raise InvalidInputError(f"{name}: a value is NaN or infinite", hint="drop or count missing values before")
    return array


def ppi_weight(labels: ArrayLike, judged: ArrayLike, unlabelled: ArrayLike) -> float | None:
    """Return PPI++'s weight of the judge, λ = Cov(Y, f) / ((1 + n/N) Var f), kept in [0, 1].

    Args:
        labels: Human labels Y; shape (n,).
        judged: The judge's scores f of the same rows; shape (n,).
        unlabelled: The judge's scores of the other rows; shape (N,).

    Returns:
        None below two labelled rows; 0 when the judge does not vary, there are no other rows, or numbers are beyond 1e100.
    """
    y, f, rest = _finite("labels", labels), _finite("judged", judged), _finite("unlabelled", unlabelled)
    if y.size != f.size:
        raise InvalidInputError("labels and the judge's scores of them must have the same length")
    if y.size < 2:
        return None
    spread = float(np.var(np.concatenate([f, rest]))) if rest.size and not too_large(y, f, rest) else 0.0
    if spread <= 0.0:
        return 0.0
    covariance = float((y - y.mean()) @ (f - f.mean())) / y.size
    return min(max(covariance / ((1.0 + y.size / rest.size) * spread), 0.0), 1.0)


def ppi_mean(
    labels: ArrayLike,
    judged: ArrayLike,
    unlabelled: ArrayLike,
    *,
    weight: float | None = None,
    alpha: float = 0.05,
    alternative: str = "two-sided",
) -> Estimate:
    """Return one arm's mean human score: λ mean_N(f) + mean_n(Y - λ f), se² = λ² Var(f) / N + Var(Y - λ f) / n.

    Args:
        labels: Human labels Y of a random subset; shape (n,).
        judged: The judge's scores f of the same rows; shape (n,).
        unlabelled: The judge's scores of the other rows; shape (N,).
        weight: λ; 0 uses the labels alone, 1 is plain PPI, None estimates the best one (PPI++).
        alpha: Error level of the interval.
        alternative: Which sides the interval has.

    Assumes independent rows and labels missing at random; variances divide by n, as the paper's package does. One row
    a user, or average by user first.
    """
    check_level(alpha)
    check_alternative(alternative)
    y, f, rest = _finite("labels", labels), _finite("judged", judged), _finite("unlabelled", unlabelled)
    if y.size != f.size:
        raise InvalidInputError("labels and the judge's scores of them must have the same length")
    if y.size < 2 or rest.size < 1:
        return Estimate.unknown("insufficient", method="ppi", alpha=alpha, note="fewer than two labelled rows")
    if too_large(y, f, rest):
        return Estimate.unknown("unsupported", method="ppi", alpha=alpha, note=TOO_LARGE)
    estimated = ppi_weight(y, f, rest) if weight is None else weight
    lam = 0.0 if estimated is None else float(estimated)
    rectifier = y - lam * f
    value = lam * float(rest.mean()) + float(rectifier.mean())
    se2 = lam * lam * float(np.var(rest)) / rest.size + float(np.var(rectifier)) / y.size
    if not se2 > 0.0:
        return Estimate(value, alpha=alpha, method="ppi", alternative=alternative, status="zero_variance")
    se = math.sqrt(se2)
    lower, upper = wald_interval(value, se, Reference(), alternative, alpha)
    details = {"lambda": lam, "n_labelled": y.size, "n_judged": rest.size, "labels_only": float(y.mean())}
    return Estimate(value, se, lower, upper, None, None, alpha, "ppi", alternative, details=details)


def ppi_difference(
    control: Estimate, treatment: Estimate, *, alpha: float = 0.05, alternative: str = "two-sided", null: float = 0.0
) -> Estimate:
    """Return treatment minus control for two arms estimated by `ppi_mean`, independent of each other; normal test."""
    check_level(alpha)
    check_alternative(alternative)
    for arm in (control, treatment):
        if arm.value is None or arm.std_error is None:
            return Estimate.unknown(arm.status, method="ppi_difference", alpha=alpha, note=arm.note)
    assert control.value is not None
    assert treatment.value is not None
    value = treatment.value - control.value
    se = math.hypot(control.std_error or 0.0, treatment.std_error or 0.0)
    lower, upper = wald_interval(value, se, Reference(), alternative, alpha)
    z = (value - null) / se
    pvalue = tail_pvalue(z, Reference(), alternative)
    return Estimate(
        value, se, lower, upper, pvalue, None, alpha, "ppi_difference", alternative, details={"statistic": z}
    )


@dataclass(frozen=True)
class Centring(ToDict):
    """Constants of the centred sequential estimate; frozen before the batch they are used on.

    Attributes:
        mean_label: μ₀, about the mean of the labels.
        mean_judged: f₀, about the mean of the judge's scores.
        slope: λ = Cov(Y, f) / Var f.
    """

    mean_label: float
    mean_judged: float
    slope: float


def freeze_centring(labels: ArrayLike, judged: ArrayLike) -> Centring | None:
    """Return the constants from labelled rows of the past; None below two rows, slope 0 for a constant judge.

    Any constants keep the estimate unbiased; good ones make it tight (variance at a label share of 0.05: uncentred
    2.05, labels alone 0.38, centred 0.18).

    Args:
        labels: Human labels of past rows; shape (n,).
        judged: The judge's scores of the same rows; shape (n,).
    """
    y, f = _finite("labels", labels), _finite("judged", judged)
    if y.size != f.size:
        raise InvalidInputError("labels and the judge's scores of them must have the same length")
    if y.size < 2 or too_large(y, f):
        return None
    m = Moments.from_arrays(y, f)
    spread = float(m.comoment[1, 1])
    slope = float(m.comoment[0, 1]) / spread if spread > 0.0 else 0.0
    return Centring(float(m.mean[0]), float(m.mean[1]), slope)


def centred_scores(
    labels: ArrayLike, labelled: ArrayLike, probability: ArrayLike, judged: ArrayLike, constants: Centring
) -> Floats:
    """Return one unbiased number per row for the human mean, whatever the constants and the judge.

    φ_i = μ₀ + λ(f_i - f₀) + ξ_i (Y_i - μ₀ - λ(f_i - f₀)) / π_i, with ξ_i = 1 for a labelled row. E[φ_i] = E[Y_i],
    because the chance π_i of a label is known. For the sequential ratio sum φ by user, with the user's rows below.

    Args:
        labels: Human labels; ignored (may be NaN) where there is none; shape (n,).
        labelled: Whether each row has a label; shape (n,).
        probability: The known chance of each row to be labelled, in (0, 1]; shape (n,) or one number.
        judged: The judge's scores; shape (n,).
        constants: Frozen before this batch.

    Returns:
        Shape (n,).
    """
    f = _finite("judged", judged)
    has = np.broadcast_to(np.asarray(labelled, dtype=bool), f.shape)
    pi = np.broadcast_to(np.asarray(probability, dtype=np.float64), f.shape)
    raw = np.broadcast_to(np.asarray(labels, dtype=np.float64), f.shape)
    if not np.all((pi > 0.0) & (pi <= 1.0)):
        raise InvalidInputError("the chance of a label must be in (0, 1]")
    if not np.all(np.isfinite(raw[has])):
        raise InvalidInputError("a labelled row has no finite label")
    guess = constants.mean_label + constants.slope * (f - constants.mean_judged)
    residual = np.where(has, np.where(has, raw, 0.0) - guess, 0.0)
    return guess + residual / pi
