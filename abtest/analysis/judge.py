"""Judges one metric: one treatment against control, from the evidence, by the methods of `abtest.stats`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from abtest.analysis.constants import MIN_TAIL, fractions_of, tunings
from abtest.analysis.covariate import adjust
from abtest.analysis.evidence import Evidence, shares_of
from abtest.analysis.quantile import judge_quantile
from abtest.analysis.rare import RareEvents, rare_events, rare_harm, takes_rate_ratio
from abtest.analysis.row_notes import never_seen, with_row_notes
from abtest.analysis.shape import Shape, judge_shape, shape_of
from abtest.analysis.times import to_text
from abtest.metrics.base import MetricSpec
from abtest.metrics.distribution import GRID, DistributionMetric
from abtest.metrics.quantile import QuantileMetric
from abtest.results import MetricResult, Status, VerdictName, finite
from abtest.stats.mixture import log_e_one_sided, log_e_two_sided
from abtest.stats.numerics import anytime_pvalue
from abtest.stats.score import PairSums, StratifiedScore, joined, stratified_score
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
    estimate: Array
    std_error: Array

    def at(self, look: int) -> Bounds:
        """Return what they say at one look."""
        return Bounds(**{f.name: getattr(self, f.name)[look : look + 1] for f in fields(self)})


def judge(evidence: Evidence, j: int, treatment: str) -> MetricResult:
    """Return the result of metric number `j` for one treatment."""
    return judge_all([evidence], j, treatment)[0]


def judge_all(evidences: Sequence[Evidence], j: int, treatment: str) -> list[MetricResult]:
    """Return the results of metric number `j` for one treatment, one for each evidence.

    Args:
        evidences: All traffic, or levels of a segment: the same experiment, looks and constants, other sums.
        j: The metric's number.
        treatment: Against control.
    """
    first = evidences[0]
    why = _nothing_to_judge(first, j)
    if why:
        return [with_row_notes(e, j, replace(_blank(e, j, treatment), status=why[0], note=why[1])) for e in evidences]
    if isinstance(first.experiment.metrics[j], DistributionMetric):
        shape = shape_of(evidences, j, treatment)
        return [with_row_notes(e, j, _judged_shape(e, j, treatment, shape, i)) for i, e in enumerate(evidences)]
    spec = first.experiment.metrics[j]
    adjusted = [adjust(e, j, treatment) for e in evidences]
    sums = [a.sums if a else e.pair_sums(j, treatment) for a, e in zip(adjusted, evidences, strict=True)]
    shares = shares_of(first, sums)
    score = _score(spec, joined(sums), shares, groups=len(sums))
    kind, tested = tested_margin(spec)
    curve = margin_curve(score, kind, tested)
    plain = curve if kind == "absolute" else margin_curve(score, "absolute", 0.0)
    bounds = bounds_of(first, spec, curve, plain, first.segment is None and takes_rate_ratio(spec))
    results: list[MetricResult] = []
    for i, (e, adjustment) in enumerate(zip(evidences, adjusted, strict=True)):
        own = score if len(sums) == 1 else _score(spec, sums[i], shares)
        result = _judged(e, j, treatment, own, bounds.at((i + 1) * len(first.looks) - 1))
        if adjustment:
            note = "; ".join(filter(None, (result.note, adjustment.note)))
            result = replace(result, note=note, details={**result.details, "cuped": adjustment.details})
        results.append(with_row_notes(e, j, result))
    return results


def _nothing_to_judge(evidence: Evidence, j: int) -> tuple[Status, str] | None:
    """Return why there is not even a sum."""
    spec = evidence.experiment.metrics[j]
    if not evidence.looks:
        return "no_data", "no rows"
    if j in evidence.active:
        return None
    if not evidence.histograms.get(j):
        return "no_data", f"no value of {spec.name}: every row is NULL"
    return "insufficient", "the threshold is not frozen yet: too few calls in control's warm-up"


def _score(spec: MetricSpec, sums: PairSums, shares: Sequence[float | None], groups: int = 1) -> StratifiedScore:
    proportion = spec.kind in ("proportion", "quantile")
    return stratified_score(sums, shares, better=spec.better, proportion=proportion, groups=groups)


def tested_margin(spec: MetricSpec) -> tuple[Kind, float]:
    """Return the margin at which the score of a metric is tested, and its kind; a quantile's is in its thresholds."""
    if isinstance(spec, QuantileMetric):
        return "absolute", 0.0
    value, kind = margin_of(spec)
    return "relative" if kind == "relative" else "absolute", value or 0.0


def _judged(evidence: Evidence, j: int, treatment: str, score: StratifiedScore, bounds: Bounds) -> MetricResult:
    """Return the result of one evidence from its score and what the tests say at its last look."""
    spec = evidence.experiment.metrics[j]
    base = replace(_blank(evidence, j, treatment), **_counts(evidence, j, treatment, score.sums.y))
    kind, tested = tested_margin(spec)
    rare = rare_events(evidence, j, treatment)
    problem = _problem(evidence, j, treatment, score, tested, kind)
    if problem and problem[0] in ("no_data", "zero_variance"):
        return _rare_only(base, spec, rare, score, evidence, problem)
    result = _fill(base, spec, score, bounds, evidence)
    if isinstance(spec, QuantileMetric):
        result = judge_quantile(evidence, j, treatment, result, score, spec)
    return _verdict(_held_back(result, problem), spec, rare, evidence, score)


def _judged_shape(evidence: Evidence, j: int, treatment: str, shape: Shape, group: int) -> MetricResult:
    spec = evidence.experiment.metrics[j]
    assert isinstance(spec, DistributionMetric)
    sums = evidence.pair_sums(j, treatment)
    score = _score(spec, sums, shares_of(evidence, [sums]))
    base = replace(
        _blank(evidence, j, treatment), **_counts(evidence, j, treatment, sums.y), stages=_stages(evidence, score)
    )
    problem = _problem(evidence, j, treatment, score, 0.0, "absolute")
    if problem and problem[0] == "no_data":
        return replace(base, status=problem[0], note=problem[1])
    result = judge_shape(evidence, j, treatment, base, shape, group)
    return _verdict(_held_back(result, problem), spec, None, evidence, score)


def _held_back(result: MetricResult, problem: tuple[Status, str] | None) -> MetricResult:
    """Too little for the central limit theorem: the estimate is shown, nothing that would promise more."""
    if problem is None:
        return result
    return replace(
        result, status=problem[0], note=problem[1], superior=None, std_error=None, ci_lower=None, ci_upper=None,
        relative_ci_lower=None, relative_ci_upper=None, pvalue=None, log_e_value=None, harm_lower=None, harm_upper=None,
        harm_log_e_value=None,
    )  # fmt: skip


# -- parts -------------------------------------------------------------------------------------------------------


def margin_of(spec: MetricSpec) -> tuple[float | None, str | None]:
    """Return the margin of a guardrail and its unit; nothing for other roles."""
    return (spec.guardrail.margin.value, spec.guardrail.margin.kind) if spec.guardrail else (None, None)


def _blank(evidence: Evidence, j: int, treatment: str) -> MetricResult:
    spec, experiment = evidence.experiment.metrics[j], evidence.experiment
    margin, margin_kind = margin_of(spec)
    return MetricResult(
        metric=spec.name, kind=spec.kind, role=spec.role, better=spec.better, unit=spec.unit or unit_of(spec),
        control=experiment.control, treatment=treatment, alpha=experiment.alpha, margin=margin, margin_kind=margin_kind,
        harm_alpha=experiment.halt_alpha(spec) if spec.guardrail else None,
        action=spec.guardrail.action if spec.guardrail else None,
        method="normal_mixture" if experiment.sequential.method == "anytime" else "fixed_z", segment=evidence.segment,
    )  # fmt: skip


def unit_of(spec: MetricSpec) -> str:
    """Return the unit for display, guessed from the column that is measured."""
    columns = spec.measure().columns
    if spec.kind in ("proportion", "distribution"):
        return "proportion" if spec.kind == "proportion" else "points"
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
    control, other = (evidence.units_of(a) for a in (evidence.experiment.control, treatment))
    return {"rows": rows, "rows_missing": rows - counted, "n_control": control, "n_treatment": other}


def _problem(
    evidence: Evidence, j: int, treatment: str, score: StratifiedScore, tested: float, kind: Kind
) -> tuple[Status, str] | None:
    """Return why the normal mixture can say nothing, or nothing yet."""
    spec = evidence.experiment.metrics[j]
    y = score.sums.y[..., -1].sum(axis=1)
    if y[0] == 0 or y[1] == 0:
        who = [a for a, n in zip((evidence.experiment.control, treatment), y, strict=True) if n == 0]
        return "no_data", f"no value of {spec.name} in {' and '.join(who)}: every row is NULL or there is none"
    unseen = never_seen(evidence, j, treatment)
    if unseen:
        return "no_data", unseen
    units = _units_used(score)
    if min(units) < MIN_UNITS:
        return "insufficient", f"{int(min(units))} units in the smaller arm, {MIN_UNITS} are needed"
    if isinstance(spec, QuantileMetric) and min(y) * min(spec.q, 1 - spec.q) < MIN_TAIL:
        return "insufficient", f"{int(min(y))} calls in the smaller arm are too few for a {spec.q:g} quantile"
    if isinstance(spec, DistributionMetric):
        tail = min(GRID)
        few = f"{int(min(y))} calls in the smaller arm are too few for a {tail:g} quantile"
        return ("insufficient", few) if min(y) * tail < MIN_TAIL else None
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


def bounds_of(evidence: Evidence, spec: MetricSpec, curve: MarginCurve, plain: MarginCurve, shared: bool) -> Bounds:
    """Return what the tests say at every look; `shared`: the rate-ratio test has the other half of the error."""
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
        return Bounds(nothing, nothing, nothing, nothing, nothing, nothing, plain.estimate, plain.std_error)
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
        estimate=plain.estimate,
        std_error=plain.std_error,
    )


def _fixed_bounds(curve: MarginCurve, plain: MarginCurve, harm_level: float, alpha: float) -> Bounds:
    """Fixed horizon: right for one look at a declared time, and for nothing else; the result says so."""
    z_harm, z_one, z_two = (float(special.ndtri(1 - a)) for a in (harm_level, alpha, alpha / 2))
    nothing = np.full(curve.estimate.shape, np.nan)
    return Bounds(
        curve.fixed_bound(-1, z_harm), curve.fixed_bound(+1, z_one),
        plain.fixed_bound(-1, z_two), plain.fixed_bound(+1, z_two), nothing, nothing, plain.estimate, plain.std_error,
    )  # fmt: skip


def _fill(
    base: MetricResult, spec: MetricSpec, score: StratifiedScore, bounds: Bounds, evidence: Evidence
) -> MetricResult:
    sign = spec.sign
    control, other = (finite(float(v[-1])) for v in score.arm_values())
    estimate = sign * bounds.estimate
    low, high = (bounds.lower, bounds.upper) if sign > 0 else (-bounds.upper, -bounds.lower)
    relative = [None, None, None]
    if control:
        relative = [finite(float(v)) for v in (estimate[-1] / control, low[-1] / control, high[-1] / control)]
        if control < 0:
            relative[1], relative[2] = relative[2], relative[1]
    log_e = finite(float(bounds.log_e[-1]))
    fixed = evidence.experiment.sequential.method == "fixed"
    pvalue = _fixed_pvalue(bounds) if fixed else None if log_e is None else float(anytime_pvalue(log_e))
    note = "fixed horizon: valid for one decision at a declared time, not for repeated looks" if fixed else ""
    ok = bool(np.isfinite(low[-1]) and np.isfinite(high[-1]))
    return replace(
        base, status="ok" if ok else "insufficient", note=note,
        control_value=control, treatment_value=other,
        estimate=finite(float(estimate[-1])), std_error=finite(float(bounds.std_error[-1])),
        ci_lower=finite(float(low[-1])), ci_upper=finite(float(high[-1])),
        relative_estimate=relative[0], relative_ci_lower=relative[1], relative_ci_upper=relative[2],
        pvalue=finite(pvalue), log_e_value=log_e,
        harm_lower=finite(float(bounds.harm_lower[-1])), harm_upper=finite(float(bounds.harm_upper[-1])),
        harm_log_e_value=finite(float(bounds.harm_log_e[-1])),
        superior=bool((-high[-1] if sign > 0 else low[-1]) > 0) if ok else None,
        stages=_stages(evidence, score),
        details={"tuned_stages": len(fractions_of(evidence.experiment, evidence.strata))},
    )  # fmt: skip


def _fixed_pvalue(bounds: Bounds) -> float | None:
    value, error = float(bounds.estimate[-1]), float(bounds.std_error[-1])
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
    if problem[0] == "no_data":
        control = other = None
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
