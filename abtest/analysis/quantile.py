"""Adds to a quantile's verdict (made on exceedance over users) what people read: the quantiles and their difference.

The verdict itself comes from the score of "share of calls above the limit" (STATISTICS §6). Here the quantiles of both arms
are read off histograms, averaged over stages with the score's weights so that a drifting base does not leak into the
difference, and the interval is the set of relative differences that the same score, moved along the histogram, would not
reject. At the margin itself it is the verdict's own test; elsewhere its variance is scaled by p(1 - p).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from abtest.analysis.constants import fractions_of, split_histogram, tunings
from abtest.metrics.quantile import QuantileMetric
from abtest.results import MetricResult, finite
from abtest.stats.mixture import log_e_one_sided, log_e_two_sided
from abtest.stats.numerics import anytime_pvalue
from abtest.stats.quantiles import histogram_quantile
from abtest.stats.score import StratifiedScore
from abtest.store.query import RESOLUTION

if TYPE_CHECKING:
    from abtest.analysis.evidence import Evidence

Array = NDArray[np.float64]
_WEIGHT = 10**9  # weighted histograms are kept as integers


class Tail:
    """Share of an arm's calls above a value, averaged over stages; log-linear inside a bucket."""

    histogram: dict[int, float]

    def __init__(self, histogram: dict[int, float]) -> None:
        keys = sorted(histogram)
        counts = np.array([histogram[k] for k in keys])
        # Both edges of every bucket: between two of them lies a gap of empty buckets, where the share stays.
        lower, upper = np.array(keys, dtype=float), np.array(keys, dtype=float) + 1
        self._at = np.empty(2 * len(keys))
        self._at[0::2], self._at[1::2] = lower, upper
        self._cdf = np.empty(2 * len(keys))
        done = np.concatenate([[0.0], np.cumsum(counts)])
        total = done[-1] if keys else 1.0
        self._cdf[0::2], self._cdf[1::2] = done[:-1] / total, done[1:] / total
        self.histogram = histogram

    def above(self, value: Array) -> Array:
        """Return the share of calls above each value."""
        position = np.log(np.maximum(value, 1e-300)) * RESOLUTION
        return np.asarray(1.0 - np.interp(position, self._at, self._cdf))

    def quantile(self, q: float) -> float | None:
        """Return the q-quantile."""
        keys = sorted(self.histogram)
        counts = [round(self.histogram[k] * _WEIGHT) for k in keys]
        return histogram_quantile(np.array(keys), np.array(counts), q, RESOLUTION) if keys else None


def judge_quantile(
    evidence: Evidence, j: int, treatment: str, result: MetricResult, score: StratifiedScore, spec: QuantileMetric
) -> MetricResult:
    """Return the result with quantiles, their difference and the interval by inversion; the exceedance goes to details."""
    control, other = (tail_of(evidence, j, arm, score) for arm in (evidence.experiment.control, treatment))
    details = {
        **result.details, "series_unit": "exceedance", "threshold": evidence.frozen[spec.name]["threshold"],
        "exceedance_control": result.control_value, "exceedance_treatment": result.treatment_value,
        "exceedance_estimate": result.estimate, "exceedance_ci_lower": result.ci_lower, "exceedance_ci_upper": result.ci_upper,
        "exceedance_std_error": result.std_error,
    }  # fmt: skip
    blank = replace(
        result, details=details, method="quantile_exceedance", estimate=None, std_error=None, ci_lower=None, ci_upper=None,
        control_value=None, treatment_value=None, relative_estimate=None, relative_ci_lower=None, relative_ci_upper=None,
        harm_lower=None, harm_upper=None, superior=None, pvalue=None, log_e_value=None,
    )  # fmt: skip
    if control is None or other is None:
        return blank
    low, high = control.quantile(spec.q), other.quantile(spec.q)
    if not low or high is None:
        return blank
    bounds = _invert(evidence, spec, score, control, other)
    relative = high / low - 1.0
    scale = low if spec.guardrail and spec.guardrail.margin.kind == "absolute" else 1.0
    ci, log_e = (bounds["lower"], bounds["upper"]), bounds["log_e"]
    superior = None if None in ci else bool((ci[1] if spec.sign > 0 else -(ci[0] or 0.0)) < 0)  # type: ignore[operator]
    return replace(
        blank, control_value=low, treatment_value=high, estimate=high - low, relative_estimate=relative,
        relative_ci_lower=ci[0], relative_ci_upper=ci[1],
        ci_lower=None if ci[0] is None else ci[0] * low, ci_upper=None if ci[1] is None else ci[1] * low,
        harm_lower=None if bounds["harm_lower"] is None else bounds["harm_lower"] * scale,
        harm_upper=None if bounds["harm_upper"] is None else bounds["harm_upper"] * scale,
        superior=superior, log_e_value=log_e, pvalue=None if log_e is None else float(anytime_pvalue(log_e)),
    )  # fmt: skip


def tail_of(evidence: Evidence, j: int, arm: str, score: StratifiedScore) -> Tail | None:
    """Average the arm's histograms over stages with the score's weights."""
    weights = score.weights[:, -1]
    mixed: dict[int, float] = {}
    for k, weight in enumerate(weights):
        if weight <= 0:
            continue
        rows = [r for r in evidence.histograms[j] if r["arm"] == arm and r["stage"] == k]
        buckets, counts, below = split_histogram(rows)
        total = sum(counts) + below
        if below:  # far to the left of every threshold
            mixed[-(10**5)] = mixed.get(-(10**5), 0.0) + weight / weights.sum() * below / total
        for bucket, count in zip(buckets, counts, strict=True):
            mixed[bucket] = mixed.get(bucket, 0.0) + weight / weights.sum() * count / total
    return Tail(mixed) if mixed else None


def _invert(
    evidence: Evidence, spec: QuantileMetric, score: StratifiedScore, control: Tail, other: Tail
) -> dict[str, float | None]:
    """Return bounds of the relative difference (oriented: treatment over control minus 1; harm_*: larger is worse)."""
    experiment, frozen = evidence.experiment, evidence.frozen[spec.name]
    fractions = fractions_of(experiment, evidence.strata)
    harm_alpha, alpha = experiment.halt_alpha(spec), float(experiment.alpha)
    harm_rho2 = tunings(spec, frozen, harm_alpha, fractions, one_sided=True)
    safe_rho2 = tunings(spec, frozen, alpha, fractions, one_sided=True)
    rho2 = tunings(spec, frozen, alpha, fractions, one_sided=False)
    contrast = score.contrast(0.0)
    weight, v_tested = float(contrast.weight[-1]), float(contrast.v[-1])
    if harm_rho2 is None or safe_rho2 is None or rho2 is None or weight <= 0 or v_tested <= 0:
        return dict.fromkeys(("lower", "upper", "harm_lower", "harm_upper", "log_e"))
    threshold = frozen["threshold"]
    above_control = float(control.above(np.array([threshold]))[0])
    y_c, y_t = (float(n) for n in score.sums.y[..., -1].sum(axis=1))

    def spread(p: Array) -> Array:
        return p * (1 - p) / y_t + above_control * (1 - above_control) / y_c

    # One grid of relative differences serves all four bounds; 0.1 % steps near zero, wider far out.
    grid = np.concatenate([np.linspace(-0.99, 1.0, 1991), np.geomspace(1.001, 100.0, 1500)])
    p = other.above(threshold * (1 + grid))
    limit = threshold
    if spec.guardrail:
        margin = spec.guardrail.margin
        limit = (
            threshold * (1 + spec.sign * margin.value)
            if margin.kind == "relative"
            else threshold + spec.sign * margin.value
        )
    at_margin = float(spread(other.above(np.array([limit])))[0])
    v = v_tested * spread(p) / at_margin if at_margin > 0 else np.full(p.shape, v_tested)
    # The exact sums at the margin differ from the histogram's by the width of a bucket: anchor the curve on them.
    rates_gap = float(contrast.score[-1]) / weight - spec.sign * (
        float(other.above(np.array([limit]))[0]) - above_control
    )
    s = weight * (spec.sign * (p - above_control) + rates_gap)
    toward = s if spec.sign > 0 else -s  # positive: treatment's quantile lies above the grid's value
    harm = grid[log_e_one_sided(s, v, harm_rho2) >= -np.log(harm_alpha)]
    safe = grid[log_e_one_sided(-s, v, safe_rho2) >= -np.log(alpha)]
    two = log_e_two_sided(s, v, rho2) >= -np.log(alpha)
    below, beyond = grid[two & (toward > 0)], grid[two & (toward < 0)]
    none = int(np.argmin(np.abs(grid)))
    return {
        "log_e": finite(float(log_e_two_sided(s[none], v[none], rho2))),
        "lower": finite(float(below.max())) if below.size else None,
        "upper": finite(float(beyond.min())) if beyond.size else None,
        "harm_lower": None if not harm.size else finite(float(harm.max() if spec.sign > 0 else -harm.min())),
        "harm_upper": None if not safe.size else finite(float(safe.min() if spec.sign > 0 else -safe.max())),
    }
