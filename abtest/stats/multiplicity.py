"""Many tests at once: adjusted p-values, e-BH, weighted budgets, and the rule for shipping.

A p-value that could not be computed is None: it counts as one of the tests and is never rejected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from abtest.errors import InvalidInputError
from abtest.results import ToDict, VerdictName

Adjustment = Literal["bonferroni", "holm", "bh", "by", "hochberg", "hommel", "holm_sidak", "two_stage_bh"]

# How statsmodels names the procedures that are called there.
_STATSMODELS = {
    "hochberg": "simes-hochberg",
    "hommel": "hommel",
    "holm_sidak": "holm-sidak",
    "two_stage_bh": "fdr_tsbh",
}


@dataclass(frozen=True)
class Adjusted(ToDict):
    """What a multiplicity procedure says, in the order of the input.

    Attributes:
        rejected: Whether each hypothesis is rejected at `alpha`.
        adjusted: Adjusted p-values; None where the p-value is unknown.
        alpha: The level of the family.
        method: Name of the procedure.
    """

    rejected: tuple[bool, ...]
    adjusted: tuple[float | None, ...]
    alpha: float
    method: str


def check_level(alpha: float, name: str = "alpha") -> float:
    """Return `alpha` when it is strictly between 0 and 1; raises InvalidInputError otherwise."""
    if not 0.0 < alpha < 1.0:
        raise InvalidInputError(f"{name} must be between 0 and 1, not {alpha}", hint="for example 0.05")
    return float(alpha)


def _known(pvalues: Sequence[float | None]) -> NDArray[np.float64]:
    array = np.array([1.0 if p is None else p for p in pvalues], dtype=np.float64)
    if np.any(~((array >= 0.0) & (array <= 1.0))):
        raise InvalidInputError("a p-value is outside [0, 1]", hint="use None for a p-value that is not known")
    return array


def _bh(p: NDArray[np.float64], factor: float = 1.0) -> NDArray[np.float64]:
    order = np.argsort(p, kind="stable")
    scaled = p[order] * factor * p.size / np.arange(1, p.size + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def _holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(p.size, 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def _from_statsmodels(p: NDArray[np.float64], method: str, alpha: float) -> NDArray[np.float64]:
    from statsmodels.stats.multitest import multipletests

    return np.asarray(multipletests(p, alpha=alpha, method=_STATSMODELS[method])[1], dtype=np.float64)


def adjust(pvalues: Sequence[float | None], *, method: Adjustment = "holm", alpha: float = 0.05) -> Adjusted:
    """Return adjusted p-values and decisions for a family of tests.

    Args:
        pvalues: One a hypothesis; None where it cannot be computed. Anytime p-values stay anytime-valid.
        method: "bonferroni" and "holm" hold the chance of any false claim under every dependence; "bh" holds the share
            of false claims when the tests are independent or positively dependent, "by" always; "hochberg" and
            "hommel" need positive dependence, "holm_sidak" independence; "two_stage_bh" estimates the share of nulls.
        alpha: Level of the family.

    Source: Holm (1979); Benjamini and Hochberg (1995); Benjamini and Yekutieli (2001).
    """
    check_level(alpha)
    p = _known(pvalues)
    if not p.size:
        return Adjusted((), (), alpha, method)
    if method == "bonferroni":
        adjusted = np.minimum(p * p.size, 1.0)
    elif method == "holm":
        adjusted = _holm(p)
    elif method == "bh":
        adjusted = _bh(p)
    elif method == "by":
        adjusted = _bh(p, float(np.sum(1.0 / np.arange(1, p.size + 1))))
    elif method in _STATSMODELS:
        adjusted = _from_statsmodels(p, method, alpha)
    else:
        known = ["bonferroni", "holm", "bh", "by", *_STATSMODELS]
        raise InvalidInputError(f"unknown adjustment {method!r}", hint=f"known: {', '.join(known)}")
    unknown = [q is None for q in pvalues]
    return Adjusted(
        tuple(bool(a <= alpha) and not u for a, u in zip(adjusted, unknown, strict=True)),
        tuple(None if u else float(a) for a, u in zip(adjusted, unknown, strict=True)),
        alpha,
        method,
    )


def holm(pvalues: Sequence[float | None], alpha: float = 0.05) -> Adjusted:
    """Return Holm's step-down adjustment: at most `alpha` chance of any false claim, whatever the dependence."""
    return adjust(pvalues, method="holm", alpha=alpha)


def benjamini_hochberg(pvalues: Sequence[float | None], alpha: float = 0.05) -> Adjusted:
    """Return the Benjamini-Hochberg adjustment: expected share of false claims at most `alpha`; for exploration."""
    return adjust(pvalues, method="bh", alpha=alpha)


def e_bh(log_e_values: Sequence[float | None], alpha: float = 0.05) -> Adjusted:
    """Return the e-BH procedure [Wang and Ramdas 2022]: reject the k largest e-values while E_(k) ≥ m / (k alpha).

    Valid under every dependence, but only for true e-values (E[E] ≤ 1 at the time they are read): not for the
    mixtures of returning users, whose crossing probability alone is bounded. The adjusted number of hypothesis i is the
    smallest level at which it is rejected.

    Args:
        log_e_values: Natural logs of the e-values; None where unknown.
        alpha: Level for the false discovery rate.
    """
    check_level(alpha)
    logs = [-math.inf if v is None else float(v) for v in log_e_values]
    if any(math.isnan(v) for v in logs):
        raise InvalidInputError("a log e-value is NaN", hint="use None for an e-value that is not known")
    if not logs:
        return Adjusted((), (), alpha, "e_bh")
    inverse = _bh(np.array([math.exp(-max(v, 0.0)) for v in logs]))
    return Adjusted(
        tuple(bool(a <= alpha) and v is not None for a, v in zip(inverse, log_e_values, strict=True)),
        tuple(None if v is None else float(a) for a, v in zip(inverse, log_e_values, strict=True)),
        alpha,
        "e_bh",
    )


def split_budget(total: float, weights: Mapping[str, float]) -> dict[str, float]:
    """Return each test's share of an error budget, in proportion to its weight (a weighted Bonferroni).

    Args:
        total: The whole budget, e.g. 0.01 for all halts of an experiment.
        weights: Positive weight a test; the keys name treatment and guardrail, or stage.

    The shares add up to `total`, never to more than it by rounding.
    """
    check_level(total, "the budget")
    if any(not (math.isfinite(w) and w > 0) for w in weights.values()):
        raise InvalidInputError("a weight of an error budget must be positive", hint="leave out what may not spend")
    whole = math.fsum(weights.values())
    shares = {name: total * (w / whole) for name, w in weights.items()}
    while shares and math.fsum(shares.values()) > total:
        shares = {name: math.nextafter(share, 0.0) for name, share in shares.items()}
    return shares


@dataclass(frozen=True)
class ShipRule(ToDict):
    """The ship rule's answer and its parts; `superior` is in the order of the p-values."""

    ship: bool
    superior: tuple[bool, ...]
    all_safe: bool
    no_deterioration: bool
    quality_ok: bool
    reason: str


def ship_rule(
    success_pvalues: Sequence[float | None],
    success_better: Sequence[bool],
    guardrails: Sequence[VerdictName],
    *,
    quality_ok: bool,
    alpha: float = 0.05,
) -> ShipRule:
    """Return whether a release may ship [Schultzberg, Ankargren, Frånberg, arXiv 2402.11609].

    Ship when at least one success metric is superior (Holm over the success metrics at `alpha`) and all guardrails are
    safe (each at `alpha`, intersection-union, not divided) and no success metric is significantly worse (each at
    `alpha`) and the quality checks pass.

    Args:
        success_pvalues: Two-sided p-values of the success metrics; None when unknown.
        success_better: Whether each estimate points in the good direction.
        guardrails: The verdicts of the guardrails.
        quality_ok: Whether the sample ratio and the other checks allow trust.
        alpha: Level of the success family.
    """
    decisions = holm(success_pvalues, alpha).rejected
    superior = tuple(hit and good for hit, good in zip(decisions, success_better, strict=True))
    # A sign of harm is not divided by the number of metrics: that would only hide it.
    worse = any(p is not None and p <= alpha and not g for p, g in zip(success_pvalues, success_better, strict=True))
    safe = all(v == "safe" for v in guardrails)
    parts = [
        (quality_ok, "the data are not trustworthy"),
        (safe, "not every guardrail is safe"),
        (not worse, "a success metric is worse"),
        (any(superior), "no success metric is better yet"),
    ]
    reason = next((text for good, text in parts if not good), "better on a success metric and safe on every guardrail")
    return ShipRule(all(good for good, _ in parts), superior, safe, not worse, quality_ok, reason)


def planned_power(power: float, guardrails: int) -> float:
    """Return the power each metric needs so that the whole ship rule has `power`: 1 - β / (G + 1)."""
    check_level(power, "power")
    if guardrails < 0:
        raise InvalidInputError("the number of guardrails cannot be negative")
    return 1.0 - (1.0 - power) / (guardrails + 1)
