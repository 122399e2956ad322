"""Judges one metric: one treatment against control, from the evidence, by the methods of `abtest.stats`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from abtest.analysis.constants import MIN_TAIL, fractions_of, tunings
from abtest.analysis.covariate import adjust
from abtest.analysis.quantile import judge_quantile
from abtest.analysis.rare import RareEvents, rare_events, rare_harm
from abtest.analysis.read import Evidence
from abtest.analysis.times import to_text
from abtest.metrics.base import MetricSpec
from abtest.metrics.quantile import QuantileMetric
from abtest.results import MetricResult, SeriesPoint, Status, VerdictName, finite
from abtest.stats.mixture import log_e_one_sided, log_e_two_sided
from abtest.stats.numerics import anytime_pvalue
from abtest.stats.score import StratifiedScore, stratified_score
from abtest.stats.score_bounds import Kind, MarginCurve, margin_curve

MIN_UNITS = 30
"""Units an arm below which nothing is called safe (STATISTICS §2)."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bounds:
    """What the sequential (or fixed) test says at every look, in the unit of the margin; NaN where it says nothing."""

    harm_lower: Array
    harm_upper: Array
    lower: Array
    upper: Array
    log_e: Array
    harm_log_e: Array


def judge(evidence: Evidence, j: int, treatment: str) -> MetricResult:
    """Return the result of metric number `j` for one treatment."""
    spec = evidence.experiment.metrics[j]
    base = _blank(evidence, j, treatment)
    if not evidence.buckets:
        return replace(base, status="no_data", note="no rows")
    if j not in evidence.active and not evidence.histograms.get(j):
        return replace(base, status="no_data", note=f"no value of {spec.name}: every row is NULL")
    if j not in evidence.active:
        return replace(
            base, status="insufficient", note="the threshold is not frozen yet: too few calls in control's warm-up"
        )
    adjustment = adjust(evidence, j, treatment)
    sums = adjustment.sums if adjustment else evidence.pair_sums(j, treatment)
    shares = [evidence.pair_share(s) for s in evidence.strata]
    proportion = spec.kind in ("proportion", "quantile")
    score = stratified_score(sums, shares, better=spec.better, proportion=proportion)
    base = replace(base, **_counts(evidence, j, treatment, sums.y))
    rare = rare_events(evidence, j, treatment)
    kind: Kind = "relative" if _margin(spec)[1] == "relative" and not isinstance(spec, QuantileMetric) else "absolute"
    tested = 0.0 if isinstance(spec, QuantileMetric) else _margin(spec)[0] or 0.0
    problem = _problem(evidence, spec, treatment, score, tested, kind)
    if problem and problem[0] in ("no_data", "zero_variance"):
        return _rare_only(base, spec, rare, score, evidence, problem)
    curve = margin_curve(score, kind, tested)
    plain = curve if kind == "absolute" else margin_curve(score, "absolute", 0.0)
    bounds = _bounds(evidence, spec, curve, plain, rare is not None)
    result = _fill(base, spec, score, plain, bounds, evidence, treatment)
    if isinstance(spec, QuantileMetric):
        result = judge_quantile(evidence, j, treatment, result, score, spec)
    if problem:
        # Too little for the central limit theorem: the estimate is shown, nothing that would promise more.
        result = replace(
            result, status=problem[0], note=problem[1], superior=None, std_error=None, ci_lower=None, ci_upper=None,
            relative_ci_lower=None, relative_ci_upper=None, pvalue=None, log_e_value=None, harm_lower=None, harm_upper=None,
            harm_log_e_value=None,
        )  # fmt: skip
    if adjustment:
        note = "; ".join(filter(None, (result.note, adjustment.note)))
        result = replace(result, note=note, details={**result.details, "cuped": adjustment.details})
    return _verdict(result, spec, rare, evidence, score)


# -- parts -------------------------------------------------------------------------------------------------------


def _margin(spec: MetricSpec) -> tuple[float | None, str | None]:
    return (spec.guardrail.margin.value, spec.guardrail.margin.kind) if spec.guardrail else (None, None)


def _blank(evidence: Evidence, j: int, treatment: str) -> MetricResult:
    spec, experiment = evidence.experiment.metrics[j], evidence.experiment
    margin, margin_kind = _margin(spec)
    return MetricResult(
        metric=spec.name, kind=spec.kind, role=spec.role, better=spec.better, unit=spec.unit or unit_of(spec),
        control=experiment.control, treatment=treatment, alpha=experiment.alpha, margin=margin, margin_kind=margin_kind,
        harm_alpha=experiment.halt_alpha(spec) if spec.guardrail else None,
        action=spec.guardrail.action if spec.guardrail else None,
        method="normal_mixture" if experiment.sequential.method == "anytime" else "fixed_z",
    )  # fmt: skip


def unit_of(spec: MetricSpec) -> str:
    """Return the unit for display, guessed from the column that is measured."""
    columns = spec.measure().columns
    if spec.kind == "proportion":
        return "proportion"
    if spec.kind == "ratio":
        return "USD" if "cost_usd" in columns else ""
    if columns & {"latency_ms", "ttft_ms"}:
        return "ms"
    if "cost_usd" in columns:
        return "USD"
    return "tokens" if any(c.endswith("_tokens") for c in columns) else ""


def _counts(evidence: Evidence, j: int, treatment: str, y: Array) -> dict[str, int]:
    measure, arms = evidence.scan.measures[j], {evidence.experiment.control, treatment}
    rows = sum(int(c["calls" if measure.per == "call" else "requests"]) for c in evidence.cells if c["arm"] in arms)
    counted = rows if measure.denominator is not None or measure.per_unit_total else int(y[..., -1].sum())
    if measure.score:
        counted = min(counted, rows)
    control, other = (evidence.units_over_time(a)[-1] for a in (evidence.experiment.control, treatment))
    return {"rows": rows, "rows_missing": rows - counted, "n_control": control, "n_treatment": other}


def _problem(
    evidence: Evidence, spec: MetricSpec, treatment: str, score: StratifiedScore, tested: float, kind: Kind
) -> tuple[Status, str] | None:
    """Return why the normal mixture can say nothing, or nothing yet."""
    y = score.sums.y[..., -1].sum(axis=1)
    if y[0] == 0 or y[1] == 0:
        who = [a for a, n in zip((evidence.experiment.control, treatment), y, strict=True) if n == 0]
        return "no_data", f"no value of {spec.name} in {' and '.join(who)}: every row is NULL or there is none"
    units = _units_used(score)
    if min(units) < MIN_UNITS:
        return "insufficient", f"{int(min(units))} units in the smaller arm, {MIN_UNITS} are needed"
    if isinstance(spec, QuantileMetric) and min(y) * min(spec.q, 1 - spec.q) < MIN_TAIL:
        return "insufficient", f"{int(min(y))} calls in the smaller arm are too few for a {spec.q:g} quantile"
    if tunings(spec, evidence.frozen.get(spec.name, {}), 0.05, [1.0], one_sided=True) is None:
        n = evidence.experiment.warm_up_units
        return "insufficient", f"constants are frozen when control has {n} units"
    if score.contrast(tested, kind).v[-1] <= 0:
        return "zero_variance", "the metric does not vary"
    return None


def _units_used(score: StratifiedScore) -> Array:
    """Return units of control and treatment in the stages that count (the largest single stage, where units return)."""
    units = score.sums.units[..., -1] * score.used[:, -1]
    return units.max(axis=1)


def harm_alpha(evidence: Evidence, spec: MetricSpec, *, shared: bool) -> float:
    """Return alpha of one harm test: the guardrail's share, halved where the rate-ratio test has the other half."""
    alpha = evidence.experiment.halt_alpha(spec)
    return alpha / 2 if shared else alpha


def _bounds(evidence: Evidence, spec: MetricSpec, curve: MarginCurve, plain: MarginCurve, shared: bool) -> Bounds:
    harm_level, alpha = harm_alpha(evidence, spec, shared=shared), float(evidence.experiment.alpha)
    frozen = evidence.frozen.get(spec.name, {})
    fractions = fractions_of(evidence.experiment, evidence.strata)
    harm_rho2 = tunings(spec, frozen, harm_level, fractions, one_sided=True)
    safe_rho2 = tunings(spec, frozen, alpha, fractions, one_sided=True)
    rho2 = tunings(spec, frozen, alpha, fractions, one_sided=False)
    nothing = np.full(curve.estimate.shape, np.nan)
    if evidence.experiment.sequential.method == "fixed":
        return _fixed_bounds(curve, plain, harm_level, alpha)
    if harm_rho2 is None or safe_rho2 is None or rho2 is None:
        return Bounds(nothing, nothing, nothing, nothing, nothing, nothing)
    lower, upper = plain.interval(rho2, alpha)
    tested_s, tested_v = curve.at(curve.tested)
    zero_s, zero_v = plain.at(0.0)
    return Bounds(
        harm_lower=curve.lower(harm_rho2, harm_level),
        harm_upper=curve.upper(safe_rho2, alpha),
        lower=lower,
        upper=upper,
        log_e=log_e_two_sided(zero_s, zero_v, rho2),
        harm_log_e=log_e_one_sided(tested_s, tested_v, harm_rho2),
    )


def _fixed_bounds(curve: MarginCurve, plain: MarginCurve, harm_level: float, alpha: float) -> Bounds:
    """Fixed horizon: right for one look at a declared time, and for nothing else; the result says so."""
    z_harm, z_one, z_two = (float(special.ndtri(1 - a)) for a in (harm_level, alpha, alpha / 2))
    nothing = np.full(curve.estimate.shape, np.nan)
    return Bounds(
        curve.fixed_bound(-1, z_harm), curve.fixed_bound(+1, z_one),
        plain.fixed_bound(-1, z_two), plain.fixed_bound(+1, z_two), nothing, nothing,
    )  # fmt: skip


def _fill(
    base: MetricResult, spec: MetricSpec, score: StratifiedScore, plain: MarginCurve, bounds: Bounds,
    evidence: Evidence, treatment: str,
) -> MetricResult:  # fmt: skip
    sign = spec.sign
    control, other = (finite(float(v[-1])) for v in score.arm_values())
    estimate = sign * plain.estimate
    low, high = (bounds.lower, bounds.upper) if sign > 0 else (-bounds.upper, -bounds.lower)
    relative = [None, None, None]
    if control:
        relative = [finite(float(v)) for v in (estimate[-1] / control, low[-1] / control, high[-1] / control)]
        if control < 0:
            relative[1], relative[2] = relative[2], relative[1]
    log_e = finite(float(bounds.log_e[-1]))
    fixed = evidence.experiment.sequential.method == "fixed"
    pvalue = _fixed_pvalue(plain) if fixed else None if log_e is None else float(anytime_pvalue(log_e))
    note = "fixed horizon: valid for one decision at a declared time, not for repeated looks" if fixed else ""
    ok = bool(np.isfinite(low[-1]) and np.isfinite(high[-1]))
    return replace(
        base, status="ok" if ok else "insufficient", note=note,
        control_value=control, treatment_value=other,
        estimate=finite(float(estimate[-1])), std_error=finite(float(plain.std_error[-1])),
        ci_lower=finite(float(low[-1])), ci_upper=finite(float(high[-1])),
        relative_estimate=relative[0], relative_ci_lower=relative[1], relative_ci_upper=relative[2],
        pvalue=finite(pvalue), log_e_value=log_e,
        harm_lower=finite(float(bounds.harm_lower[-1])), harm_upper=finite(float(bounds.harm_upper[-1])),
        harm_log_e_value=finite(float(bounds.harm_log_e[-1])),
        superior=bool((-high[-1] if sign > 0 else low[-1]) > 0) if ok else None,
        stages=_stages(evidence, score), series=_series(evidence, treatment, estimate, low, high, bounds),
        details={"tuned_stages": len(fractions_of(evidence.experiment, evidence.strata))},
    )  # fmt: skip


def _fixed_pvalue(plain: MarginCurve) -> float | None:
    value, error = float(plain.estimate[-1]), float(plain.std_error[-1])
    return float(2 * special.ndtr(-abs(value / error))) if error > 0 else None


def _stages(evidence: Evidence, score: StratifiedScore) -> tuple[dict[str, Any], ...]:
    rates, units = score.rates[..., -1], score.sums.units[..., -1]
    return tuple(
        {
            "index": s.ramp_index, "label": s.label, "share": s.share, "since": to_text(s.since_us) if s.since_us else None,
            "n_control": int(units[0, k]), "n_treatment": int(units[1, k]),
            "control_value": finite(float(rates[0, k])) if score.used[k, -1] else None,
            "treatment_value": finite(float(rates[1, k])) if score.used[k, -1] else None,
        }
        for k, s in enumerate(evidence.strata)
    )  # fmt: skip


def _series(
    evidence: Evidence, treatment: str, estimate: Array, low: Array, high: Array, bounds: Bounds
) -> tuple[SeriesPoint, ...]:
    control, other = evidence.units_over_time(evidence.experiment.control), evidence.units_over_time(treatment)
    starts = [s.since_us for s in evidence.strata]
    points: list[SeriesPoint] = []
    for i, at in enumerate(evidence.looks_us):
        if not np.isfinite(estimate[i]) or min(control[i], other[i]) < MIN_UNITS:
            continue  # before this, an interval would promise more than the central limit theorem holds
        stage = max((k for k, start in enumerate(starts) if start < at), default=0)
        numbers = (estimate[i], low[i], high[i], bounds.harm_lower[i], bounds.harm_upper[i], bounds.log_e[i])
        point, ci_low, ci_high, harm_low, harm_high, log_e = (finite(float(n)) for n in numbers)
        points.append(SeriesPoint(
            to_text(at) or "", evidence.strata[stage].ramp_index, control[i], other[i], point, ci_low, ci_high, harm_low, harm_high, log_e
        ))  # fmt: skip
    return tuple(points)


def _rare_only(
    base: MetricResult,
    spec: MetricSpec,
    rare: RareEvents | None,
    score: StratifiedScore,
    evidence: Evidence,
    problem: tuple[Status, str],
) -> MetricResult:
    """Without variance only the exact test can speak: zero events in control are the case it was made for."""
    control, other = (finite(float(v[-1])) for v in score.arm_values())
    estimate = other - control if control is not None and other is not None else None
    result = replace(
        base, status=problem[0], note=problem[1], control_value=control, treatment_value=other, estimate=estimate
    )
    return _verdict(result, spec, rare, evidence, score)


def _verdict(
    result: MetricResult,
    spec: MetricSpec,
    rare: RareEvents | None,
    evidence: Evidence,
    score: StratifiedScore,
) -> MetricResult:
    details = dict(result.details)
    if rare is not None:
        details["rate_ratio"] = {
            "log_e_value": finite(rare.log_e), "status": rare.status,
            "first_events_control": rare.events_control, "first_events_treatment": rare.events_treatment,
        }  # fmt: skip
        result = replace(result, details=details)
    if not spec.guardrail:
        verdict: VerdictName = "unknown" if result.status != "ok" else "inconclusive"
        if result.status == "ok" and result.superior is not None:
            worse = result.ci_lower if spec.sign > 0 else None if result.ci_upper is None else -result.ci_upper
            verdict = "safe" if result.superior else "harm" if worse is not None and worse > 0 else "inconclusive"
        return replace(result, verdict=verdict)
    margin = spec.guardrail.margin.value
    enough = result.status == "ok"
    if enough and result.harm_lower is not None and result.harm_lower > margin:
        return replace(result, verdict="harm")
    if rare is not None and rare_harm(rare, spec, score, harm_alpha(evidence, spec, shared=True)):
        return replace(result, verdict="harm", method="rate_ratio", harm_log_e_value=finite(rare.log_e))
    if not enough:
        return replace(result, verdict="unknown")
    if result.harm_upper is not None and result.harm_upper < margin:
        return replace(result, verdict="safe")
    return replace(result, verdict="inconclusive")
