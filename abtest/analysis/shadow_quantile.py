"""A quantile on pairs: judged by how often answers exceed control's frozen quantile, shown as the quantiles themselves.

The verdict is that of the exceedance contrast 1(candidate > one margin worse) - 1(control > threshold), summed by unit (STATISTICS §6).
The bounds that people read come from the same score, moved along the candidate's histogram: at the margin they are the test's
own, elsewhere its variance is scaled by p(1 - p).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from abtest.analysis.constants import split_histogram
from abtest.analysis.quantile import Tail
from abtest.analysis.shadow_bounds import Asked
from abtest.analysis.shadow_constants import tuning_of
from abtest.analysis.shadow_plan import Item
from abtest.analysis.shadow_read import ShadowEvidence
from abtest.analysis.shadow_results import ShadowMetric
from abtest.analysis.shadow_score import PairedScore
from abtest.metrics.quantile import QuantileMetric
from abtest.results import Status, finite
from abtest.stats.mixture import log_e_one_sided, log_e_two_sided
from abtest.stats.numerics import Array, anytime_pvalue

_LOWEST_BUCKET = -(10**5)


def judge_quantile(
    evidence: ShadowEvidence,
    item: Item,
    asked: Asked,
    score: PairedScore,
    result: ShadowMetric,
    problem: tuple[Status, str] | None,
) -> ShadowMetric:
    """Return the result with the quantiles, their difference and its bounds; the exceedance goes to details."""
    spec, limits = item.spec, evidence.plan.measures[item.at].limits
    assert isinstance(spec, QuantileMetric)
    assert limits is not None
    details = {
        **result.details, "threshold": limits[0], "exceedance_control": result.control_value,
        "exceedance_treatment": result.treatment_value, "exceedance_estimate": result.estimate,
        "exceedance_std_error": result.std_error,
    }  # fmt: skip
    tails = [_tail(evidence, item, arm) for arm in (result.control, result.treatment)]
    low, high = (None if t is None else t.quantile(spec.q) for t in tails)
    if not low or high is None or tails[0] is None or tails[1] is None:
        return replace(result, status="no_data", note=f"no quantile of {spec.name}", details=details)
    result = replace(
        result, details=details, control_value=low, treatment_value=high, estimate=high - low, relative_estimate=high / low - 1,
        std_error=None, method="paired_exceedance", paired={**result.paired, "unit": "exceedance"},
        unpaired={**result.unpaired, "unit": "exceedance"},
    )  # fmt: skip
    if problem:
        return replace(result, status=problem[0], note="; ".join(filter(None, (problem[1], result.note))))
    return _inverted(asked, spec, score, tails[0], tails[1], limits, result)


def _tail(evidence: ShadowEvidence, item: Item, arm: str) -> Tail | None:
    rows = [r for r in evidence.values.get(item.at, ()) if r["arm"] == arm]
    if not rows:
        return None
    buckets, counts, below = split_histogram(rows)
    mixed = {b: float(n) for b, n in zip(buckets, counts, strict=True)}
    return Tail({_LOWEST_BUCKET: float(below), **mixed} if below else mixed)


def _inverted(
    asked: Asked, spec: QuantileMetric, score: PairedScore, control: Tail, other: Tail, limits: tuple[float, float], result: ShadowMetric
) -> ShadowMetric:  # fmt: skip
    curve = score.curve("absolute")
    assert curve is not None
    tested_s, tested_v = curve.at(0.0)
    rho2 = {
        name: tuning_of(spec, asked.frozen, alpha, one_sided=side, flag=True)
        for name, alpha, side in (("harm", asked.harm_alpha, True), ("safe", asked.alpha, True), ("both", asked.alpha, False))
    }  # fmt: skip
    harm, safe, both = rho2["harm"], rho2["safe"], rho2["both"]
    if harm is None or safe is None or both is None or tested_v <= 0:
        return replace(result, status="insufficient", note="the exceedances do not vary yet")
    # One grid of relative differences serves all bounds; 0.1 % steps near zero, wider far out.
    grid = np.concatenate([np.linspace(-0.99, 1.0, 1991), np.geomspace(1.001, 100.0, 1500)])
    sign, base = spec.sign, float(control.above(np.array([limits[0]]))[0])
    p, at_margin = other.above(limits[0] * (1 + grid)), other.above(np.array([limits[1]]))

    def spread(share: Array) -> Array:
        return share * (1 - share) + base * (1 - base)

    v = tested_v * spread(p) / max(float(spread(at_margin)[0]), 1e-12)
    v = np.maximum(v, tested_v * 1e-6)
    # The exact sums at the margin differ from the histogram's by the width of a bucket: the curve is anchored on them.
    gap = tested_s - score.weight * sign * (float(at_margin[0]) - base)
    s = score.weight * sign * (p - base) + gap
    level, harm_level = -math.log(asked.alpha), -math.log(asked.harm_alpha)
    proven = grid[log_e_one_sided(s, v, harm) >= harm_level]
    ruled_out = grid[log_e_one_sided(-s, v, safe) >= level]
    differs = log_e_two_sided(s, v, both) >= level
    toward = s if sign > 0 else -s  # positive: the candidate's quantile lies above the grid's value
    above, below = grid[differs & (toward > 0)], grid[differs & (toward < 0)]
    ci = _end(above, np.max), _end(below, np.min)
    absolute = spec.guardrail is not None and spec.guardrail.margin.kind == "absolute"
    low = result.control_value or 0.0
    scale = low if absolute else 1.0
    bounds = (
        (_end(proven, np.max), _end(ruled_out, np.min))
        if sign > 0
        else (_end(-proven, np.max), _end(-ruled_out, np.min))
    )
    none = int(np.argmin(np.abs(grid)))
    log_e = finite(float(log_e_two_sided(s[none], v[none], both)))
    better = ci[1] if sign > 0 else None if ci[0] is None else -ci[0]
    return replace(
        result, status="ok", relative_ci_lower=ci[0], relative_ci_upper=ci[1],
        ci_lower=None if ci[0] is None else ci[0] * low, ci_upper=None if ci[1] is None else ci[1] * low,
        harm_lower=None if bounds[0] is None else bounds[0] * scale, harm_upper=None if bounds[1] is None else bounds[1] * scale,
        harm_log_e_value=finite(float(log_e_one_sided(tested_s, tested_v, harm))), log_e_value=log_e,
        pvalue=None if log_e is None else float(anytime_pvalue(log_e)), superior=None if better is None else better < 0,
    )  # fmt: skip


def _end(values: Array, which: Callable[[Array], float]) -> float | None:
    return finite(float(which(values))) if values.size else None
