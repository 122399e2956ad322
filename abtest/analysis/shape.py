"""Judges whether a distribution has moved: shares above control's frozen quantiles, compared between the arms.

Each threshold of the grid is a proportion (the share of calls above it) with the score, clusters and stages of every other
metric. "No share differs" is tested at alpha / 5 each, so the largest difference has an interval at 1 - alpha. A guardrail asks
whether some share differs by more than its margin, up or down: harm at its alpha / 10 each; safe when all ten one-sided bounds
at alpha lie below the margin (intersection-union, not divided).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from abtest.analysis.constants import fractions_of, tuning_for
from abtest.analysis.evidence import Evidence, shares_of
from abtest.analysis.quantile import Tail, tail_of
from abtest.metrics.base import MetricSpec
from abtest.metrics.distribution import GRID, threshold_name
from abtest.results import MetricResult, finite
from abtest.stats.mixture import log_e_one_sided, log_e_two_sided
from abtest.stats.numerics import anytime_pvalue
from abtest.stats.score import StratifiedScore, joined, stratified_score
from abtest.stats.score_bounds import MarginCurve, margin_curve

Array = NDArray[np.float64]
_WORTH = 0.1
"""Difference of shares worth finding where there is no margin; it only tunes."""
_CLUSTERED = 1.5
"""A usual design effect of calls within users; it only tunes."""
_COLLAPSE_SHARE, _COLLAPSE_TIMES, _COLLAPSE_SPREAD = 0.05, 2.0, 0.5
"""Said to be a collapse: one value is 5 points and twice as frequent as in control, or the spread is half of control's."""


@dataclass(frozen=True)
class Shape:
    """What the tests say, by look; rows of `shares` and `differences` are the thresholds of `GRID`.

    Attributes:
        shares: (2, 5, B) share of calls above each threshold, by arm.
        differences: (5, B) treatment minus control.
        estimate: (B,) the largest of them, without its sign.
        lower, upper: (B,) its interval at 1 - alpha.
        harm_lower, harm_upper: (B,) one-sided bounds at the guardrail's share of the halt budget, and at alpha.
        log_e: (B,) log E of "the same distribution"; harm_log_e: of "no share differs by more than the margin".
        pvalue: (B,) fixed-horizon p-value; NaN for sequential tests.
    """

    shares: Array
    differences: Array
    estimate: Array
    lower: Array
    upper: Array
    harm_lower: Array
    harm_upper: Array
    log_e: Array
    harm_log_e: Array
    pvalue: Array


def shape_of(evidences: Sequence[Evidence], j: int, treatment: str, latches: NDArray[np.bool_] | None = None) -> Shape:
    """Return what the tests say at every look of every evidence, one after the other.

    Args:
        evidences: All traffic, or levels of a segment.
        j: The metric's number.
        treatment: Against control.
        latches: Looks whose variance holds at later ones (`stratified_score`).
    """
    first = evidences[0]
    spec = first.experiment.metrics[j]
    found = [
        _contrast(evidences, spec, q, k, treatment, latches)
        for q, k in zip(GRID, (j, *first.experiment.parts_of(j)), strict=True)
    ]
    parts = {name: np.stack([c[name] for c in found]) for name in found[0]}
    differences, both = parts["difference"], 2 * len(GRID)
    # A bound that is not known cannot rule anything out: NaN stays where it would promise, and is skipped where it would accuse.
    return Shape(
        shares=np.stack([parts["control"], parts["treatment"]]),
        differences=differences,
        estimate=np.max(np.abs(differences), axis=0),
        lower=np.max(np.nan_to_num(np.maximum(parts["low"], -parts["high"]), nan=0.0).clip(min=0.0), axis=0),
        upper=np.max(np.maximum(-parts["low"], parts["high"]), axis=0),
        harm_lower=np.max(np.nan_to_num(parts["harm_lower"], nan=0.0).clip(min=0.0), axis=0),
        harm_upper=np.max(parts["harm_upper"], axis=0),
        log_e=np.max(parts["log_e"], axis=0) - math.log(len(GRID)),
        harm_log_e=np.max(parts["harm_log_e"], axis=0) - math.log(both),
        pvalue=np.minimum(np.min(parts["pvalue"], axis=0) * len(GRID), 1.0),
    )


def _contrast(
    evidences: Sequence[Evidence], spec: MetricSpec, q: float, k: int, treatment: str, latches: NDArray[np.bool_] | None
) -> dict[str, Array]:
    """Return everything about one threshold; its columns are those of measure `k`."""
    first = evidences[0]
    sums = [e.pair_sums(k, treatment) for e in evidences]
    shares, whole = shares_of(first, sums), joined(sums)

    def score(better: Literal["lower", "higher"]) -> StratifiedScore:
        return stratified_score(whole, shares, better=better, proportion=True, latches=latches, groups=len(sums))

    margin = spec.guardrail.margin.value if spec.guardrail else 0.0
    up, down = (margin_curve(score(side), "absolute", margin) for side in ("lower", "higher"))
    plain = up if margin == 0.0 else margin_curve(score("lower"), "absolute", 0.0)
    tests = _Tests(first, spec, q)
    low, high = tests.interval(plain)
    above = plain.score.arm_values()
    return {
        "difference": plain.estimate, "control": above[0], "treatment": above[1], "low": low, "high": high,
        "log_e": tests.log_e(plain), "pvalue": tests.pvalue(plain),
        "harm_lower": np.fmax(tests.harm_lower(up), tests.harm_lower(down)),
        "harm_upper": np.maximum(tests.harm_upper(up), tests.harm_upper(down)),
        "harm_log_e": np.fmax(tests.harm_log_e(up), tests.harm_log_e(down)),
    }  # fmt: skip


class _Tests:
    """The tests of one threshold: their levels, their tuning, sequential or fixed."""

    def __init__(self, evidence: Evidence, spec: MetricSpec, q: float) -> None:
        experiment = evidence.experiment
        self.fixed = experiment.sequential.method == "fixed"
        self.alpha = float(experiment.alpha)
        self.two, self.harm = self.alpha / len(GRID), experiment.halt_alpha(spec) / (2 * len(GRID))
        distance = spec.guardrail.margin.value if spec.guardrail else _WORTH
        variance, fractions = _CLUSTERED * q * (1 - q), fractions_of(experiment, evidence.strata)

        def rho2(alpha: float, *, one_sided: bool) -> Array:
            return tuning_for(variance, distance, alpha, fractions, one_sided=one_sided)

        self._two = rho2(self.two, one_sided=False)
        self._harm, self._safe = rho2(self.harm, one_sided=True), rho2(self.alpha, one_sided=True)

    def interval(self, curve: MarginCurve) -> tuple[Array, Array]:
        if not self.fixed:
            return curve.interval(self._two, self.two)
        z = float(special.ndtri(1 - self.two / 2))
        return curve.fixed_bound(-1, z), curve.fixed_bound(+1, z)

    def harm_lower(self, curve: MarginCurve) -> Array:
        if self.fixed:
            return curve.fixed_bound(-1, float(special.ndtri(1 - self.harm)))
        return curve.lower(self._harm, self.harm)

    def harm_upper(self, curve: MarginCurve) -> Array:
        if self.fixed:
            return curve.fixed_bound(+1, float(special.ndtri(1 - self.alpha)))
        return curve.upper(self._safe, self.alpha)

    def log_e(self, curve: MarginCurve) -> Array:
        s, v = curve.at(0.0)
        return np.full(s.shape, np.nan) if self.fixed else log_e_two_sided(s, v, self._two)

    def harm_log_e(self, curve: MarginCurve) -> Array:
        s, v = curve.at(curve.tested)
        return np.full(s.shape, np.nan) if self.fixed else log_e_one_sided(s, v, self._harm)

    def pvalue(self, curve: MarginCurve) -> Array:
        z = np.divide(curve.estimate, curve.std_error, out=np.zeros_like(curve.estimate), where=curve.std_error > 0)
        return np.asarray(2 * special.ndtr(-np.abs(z))) if self.fixed else np.full(z.shape, np.nan)


def judge_shape(
    evidence: Evidence, j: int, treatment: str, base: MetricResult, shape: Shape, group: int
) -> MetricResult:
    """Return the result of one evidence at its last look; `group`: its place among those that `shape` was made of."""
    look = (group + 1) * len(evidence.looks) - 1
    spec = evidence.experiment.metrics[j]
    differences = shape.differences[:, look]
    numbers = (
        shape.estimate,
        shape.lower,
        shape.upper,
        shape.harm_lower,
        shape.harm_upper,
        shape.log_e,
        shape.harm_log_e,
    )
    estimate, low, high, harm_low, harm_high, log_e, harm_log_e = (finite(float(n[look])) for n in numbers)
    ok = estimate is not None and high is not None
    if not spec.guardrail:
        harm_low = harm_high = harm_log_e = None
    at = int(np.argmax(np.abs(differences))) if estimate is not None else 0
    fixed = evidence.experiment.sequential.method == "fixed"
    shares = shape.shares[:, :, look]
    collapse = _collapse(evidence, j, treatment)
    notes = ["fixed horizon: valid for one decision at a declared time, not for repeated looks"] if fixed else []
    notes += [_words(spec, at, shares)] if ok else []
    return replace(
        base, method="fixed_z" if fixed else "distribution_exceedance", status="ok" if ok else "insufficient",
        control_value=finite(float(shares[0, at])), treatment_value=finite(float(shares[1, at])),
        estimate=estimate, ci_lower=low, ci_upper=high, harm_lower=harm_low, harm_upper=harm_high,
        pvalue=finite(float(shape.pvalue[look])) if fixed else None if log_e is None else float(anytime_pvalue(log_e)),
        log_e_value=log_e, harm_log_e_value=harm_log_e, note="; ".join([*notes, *collapse.pop("notes", [])]),
        details={"grid": _grid(evidence, spec, shares), "largest_at": GRID[at], "shape": collapse},
    )  # fmt: skip


def _grid(evidence: Evidence, spec: MetricSpec, shares: Array) -> list[dict[str, Any]]:
    frozen = evidence.frozen[spec.name]
    rows = [
        {
            "quantile": q, "threshold": frozen[threshold_name(q)],
            "control_above": finite(float(shares[0, i])), "treatment_above": finite(float(shares[1, i])),
        }
        for i, q in enumerate(GRID)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: row["quantile"])


def _words(spec: MetricSpec, at: int, shares: Array) -> str:
    """Return where the arms differ most, and in which direction: "longer: 62 % above control's median (control 50 %)"."""
    length = bool(spec.measure().columns & {"response_chars", "output_tokens"})
    longer, shorter = ("longer", "shorter") if length else ("larger", "smaller")
    control, other = (float(shares[arm, at]) for arm in (0, 1))
    if control == other:
        return "no share differs"
    where = "median" if GRID[at] == 0.5 else f"p{round(GRID[at] * 100)}"
    percent = [f"{100 * share:.3g} %" for share in (other, control)]
    return f"{longer if other > control else shorter}: {percent[0]} above control's {where} (control {percent[1]})"


# -- mode collapse -----------------------------------------------------------------------------------------------


def _collapse(evidence: Evidence, j: int, treatment: str) -> dict[str, Any]:
    """Return how alike the values of each arm are, and a sentence when the treatment's are much more alike; exploratory."""
    sums = evidence.pair_sums(j, treatment)
    score = stratified_score(sums, shares_of(evidence, [sums]), proportion=True)
    tails = [tail_of(evidence, j, arm, score) for arm in (evidence.experiment.control, treatment)]
    found = [_alike(tail) if tail else (None, None) for tail in tails]
    (top_c, spread_c), (top_t, spread_t) = found
    notes: list[str] = []
    if top_c is not None and top_t is not None and top_t > top_c + _COLLAPSE_SHARE and top_t > _COLLAPSE_TIMES * top_c:
        notes.append(
            f"mode collapse? {100 * top_t:.3g} % of the treatment's values are the same (control {100 * top_c:.3g} %)"
        )
    elif spread_c and spread_t is not None and spread_t < _COLLAPSE_SPREAD * spread_c:
        ratios = [f"{math.exp(s):.3g}" for s in (spread_t, spread_c)]
        notes.append(f"mode collapse? the treatment's p90 is {ratios[0]} times its p10 (control {ratios[1]})")
    names = ("top_share", "log_spread")
    return {
        "control": dict(zip(names, found[0], strict=True)), "treatment": dict(zip(names, found[1], strict=True)), "notes": notes,
    }  # fmt: skip


def _alike(tail: Tail) -> tuple[float | None, float | None]:
    """Return the share of the most frequent bucket (0.5 % wide), and ln(p90 / p10)."""
    total = sum(tail.histogram.values())
    low, high = tail.quantile(0.1), tail.quantile(0.9)
    spread = math.log(high / low) if low and high and high > 0 and low > 0 else None
    return (max(tail.histogram.values()) / total if total else None), spread
