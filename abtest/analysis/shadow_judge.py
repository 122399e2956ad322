"""Judges one metric on pairs: estimate, bounds, verdict, and what the pairing was worth."""

from __future__ import annotations

from dataclasses import replace

from abtest.analysis.constants import MIN_TAIL
from abtest.analysis.judge import MIN_UNITS, margin_of, unit_of
from abtest.analysis.shadow_bounds import Asked, Bounds, betting_bounds, mixture_bounds, side_by_side
from abtest.analysis.shadow_distribution import judge_distribution
from abtest.analysis.shadow_plan import Item
from abtest.analysis.shadow_quantile import judge_quantile
from abtest.analysis.shadow_read import ShadowEvidence, can_bet
from abtest.analysis.shadow_results import ShadowMetric
from abtest.analysis.shadow_score import Curve, PairedScore, paired_score
from abtest.metrics.distribution import GRID, DistributionMetric
from abtest.metrics.missing import missing_gap_note, missing_note
from abtest.metrics.quantile import QuantileMetric
from abtest.results import Status, VerdictName
from abtest.stats.numerics import anytime_pvalue


def judge_item(evidence: ShadowEvidence, item: Item) -> ShadowMetric:
    """Return the result of one metric."""
    result = _judged(evidence, item)
    stage = {
        "index": 0, "label": "shadow", "share": None, "since": None, "n_control": result.units, "n_treatment": result.units,
        "control_value": result.control_value, "treatment_value": result.treatment_value,
    }  # fmt: skip
    if result.role != "guardrail":  # no margin: the harm of nothing in particular
        result = replace(result, harm_lower=None, harm_upper=None, harm_log_e_value=None)
    return replace(result, stages=(stage,))


def _judged(evidence: ShadowEvidence, item: Item) -> ShadowMetric:
    result = _blank(evidence, item)
    if item.excluded:
        return replace(result, role="info", action=None, status="unsupported", note=item.excluded)
    result = _counted(evidence, item, result)
    sums = evidence.sums(item.at)
    score = None if sums is None else paired_score(sums, item.spec.sign, evidence.flags(item.at))
    problem = _no_score(evidence, item, result, score)
    if score is None or problem:
        return result if problem is None else replace(result, status=problem[0], note=problem[1])
    asked = asked_of(evidence, item)
    plain = score.curve("absolute")
    assert plain is not None
    paired, unpaired = side_by_side(asked, score, plain)
    result = replace(
        result, control_value=score.control, treatment_value=score.treatment, estimate=score.treatment - score.control,
        std_error=plain.std_error or None, paired=paired, unpaired=unpaired, correlation=score.correlation, gain=score.gain,
        relative_estimate=score.treatment / score.control - 1 if score.control > 0 else None,
    )  # fmt: skip
    problem = _too_little(item, score, result)
    if isinstance(item.spec, QuantileMetric):
        return _verdict(judge_quantile(evidence, item, asked, score, result, problem))
    if isinstance(item.spec, DistributionMetric):
        return _verdict(judge_distribution(evidence, item, result, problem))
    if evidence.experiment.shadow.method == "betting" and can_bet(evidence.plan, item):
        return _verdict(_by_betting(evidence, item, asked, result))
    return _verdict(_by_mixture(asked, score, plain, result, problem))


def asked_of(evidence: ShadowEvidence, item: Item, at: int | None = None, name: str | None = None) -> Asked:
    """Return how a metric is tested; `at` and `name`: one contrast of several."""
    experiment = evidence.experiment
    frozen = evidence.frozen.get(name or item.spec.name, {})
    flag = evidence.plan.measures[item.at if at is None else at].flag
    return Asked(experiment, item.spec, frozen, flag, experiment.halt_alpha(item.spec))


# -- parts -------------------------------------------------------------------------------------------------------


def _blank(evidence: ShadowEvidence, item: Item) -> ShadowMetric:
    spec, experiment = item.spec, evidence.experiment
    margin, kind = margin_of(spec)
    guardrail = spec.guardrail if item.listed else None
    fixed = experiment.sequential.method == "fixed"
    return ShadowMetric(
        metric=spec.name, kind=spec.kind, role=spec.role, better=spec.better, unit=spec.unit or unit_of(spec),
        control=experiment.control, treatment=experiment.treatments[0], alpha=float(experiment.alpha), margin=margin, margin_kind=kind,
        harm_alpha=experiment.halt_alpha(spec) if guardrail else None, action=guardrail.action if guardrail else None,
        method="paired_z" if fixed else "paired_mixture", listed=item.listed,
        note="fixed horizon: valid for one decision at a declared time, not for repeated looks" if fixed else "",
    )  # fmt: skip


def _counted(evidence: ShadowEvidence, item: Item, result: ShadowMetric) -> ShadowMetric:
    """Add how many pairs can tell, and what the others do to the comparison."""
    facts, pairs = evidence.facts, evidence.pairs
    known, units = pairs, evidence.units
    notes = [result.note]
    if f"known{item.at}" in facts:
        known = int(facts[f"known{item.at}"])
        arms = [(int(facts[f"{name}{item.at}"]), pairs) for name in ("told_c", "told_t")]
        units = int((evidence.moments or {}).get(f"n{item.at}", 0))
        notes += [missing_note(item.spec, known, pairs), missing_gap_note(item.spec, *arms)]
    return replace(
        result, pairs=known, units=units, n_control=units, n_treatment=units, rows=pairs, rows_missing=pairs - known,
        note="; ".join(filter(None, notes)),
    )  # fmt: skip


def _no_score(
    evidence: ShadowEvidence, item: Item, result: ShadowMetric, score: PairedScore | None
) -> tuple[Status, str] | None:
    if evidence.pairs == 0:
        return "no_data", "no request was answered by both arms"
    if evidence.sums(item.at) is None:
        return "insufficient", f"control's quantile is frozen when {MIN_TAIL} of its answers lie beyond it"
    if score is None or result.pairs == 0:
        return "no_data", result.note or f"no pair can tell of {item.spec.name}"
    return None


def _too_little(item: Item, score: PairedScore, result: ShadowMetric) -> tuple[Status, str] | None:
    """Return why the normal mixture can say nothing, or nothing yet."""
    if result.units < MIN_UNITS:
        return "insufficient", f"{result.units} units with pairs, {MIN_UNITS} are needed"
    spec = item.spec
    tail = (
        min(spec.q, 1 - spec.q)
        if isinstance(spec, QuantileMetric)
        else min(GRID)
        if isinstance(spec, DistributionMetric)
        else 1.0
    )
    if result.pairs * tail < MIN_TAIL:
        return (
            "insufficient",
            f"{result.pairs} pairs are too few for a {spec.q if isinstance(spec, QuantileMetric) else tail:g} quantile",
        )
    relative = result.margin_kind == "relative" and not isinstance(spec, QuantileMetric)
    if relative and score.control <= 0:
        return "zero_baseline", "a relative margin needs a control above zero"
    differs = score.var_control + score.var_treatment - 2 * score.covariance > 0
    if not differs and (score.flags is None or relative):
        return "zero_variance", "both arms' answers are the same in every pair"
    return None


def _by_mixture(
    asked: Asked, score: PairedScore, plain: Curve, result: ShadowMetric, problem: tuple[Status, str] | None
) -> ShadowMetric:
    kind = "relative" if result.margin_kind == "relative" else "absolute"
    curve = plain if kind == "absolute" else score.curve(kind)
    bounds = None if problem or curve is None else mixture_bounds(asked, curve, plain)
    if bounds is None:
        status, note = problem or ("insufficient", f"constants are frozen when {MIN_UNITS} units have pairs")
        return replace(result, status=status, note="; ".join(filter(None, (note, result.note))))
    return with_bounds(result, bounds, asked.spec.sign)


def _by_betting(evidence: ShadowEvidence, item: Item, asked: Asked, result: ShadowMetric) -> ShadowMetric:
    """Bets need no central limit theorem; below 30 units they may prove harm, and nothing is called safe."""
    bounds = getattr(item.spec, "bounds", None) or (0.0, 1.0)
    scale = evidence.plan.measures[item.at].x_scale * evidence.common
    found = betting_bounds(asked, evidence.firsts.get(item.at, ()), scale, bounds)
    if found is None:
        note = f"bets begin after {MIN_UNITS} units, and need every value within {bounds[0]:g} to {bounds[1]:g}"
        return replace(result, status="insufficient", method="paired_betting", note=note)
    limits, mean, units = found
    enough = units >= MIN_UNITS
    note = (
        f"bets on the first pair of each of {units} units that came after the first {MIN_UNITS}: their mean difference is"
        f" {asked.spec.sign * mean:.4g}"
    )
    result = with_bounds(result, limits if enough else replace(limits, harm_upper=None), asked.spec.sign)
    return replace(
        result, method="paired_betting", status="ok" if enough else "insufficient", note="; ".join(filter(None, (note, result.note))),
    )  # fmt: skip


def with_bounds(result: ShadowMetric, bounds: Bounds, sign: int) -> ShadowMetric:
    """Return the result with its bounds; the effect's are treatment minus control, whichever direction is worse."""
    low, high = bounds.lower, bounds.upper
    if sign < 0:
        low, high = (None if high is None else -high), (None if low is None else -low)
    control = result.control_value
    relative = [None if b is None or not control or control < 0 else b / control for b in (low, high)]
    log_e = bounds.log_e
    return replace(
        result, status="ok", ci_lower=low, ci_upper=high, relative_ci_lower=relative[0], relative_ci_upper=relative[1],
        harm_lower=bounds.harm_lower, harm_upper=bounds.harm_upper, log_e_value=log_e, harm_log_e_value=bounds.harm_log_e,
        pvalue=None if log_e is None else float(anytime_pvalue(log_e)),
        superior=None if bounds.upper is None or bounds.lower is None else bounds.upper < 0,
    )  # fmt: skip


def _verdict(result: ShadowMetric) -> ShadowMetric:
    """Return the result with its verdict: harm at the share of the halt budget, safe at alpha, the margin between them."""
    if result.role == "guardrail" and result.margin is not None:
        if result.harm_lower is not None and result.harm_lower > result.margin:
            return replace(result, verdict="harm")
        if result.status != "ok":
            return replace(result, verdict="unknown")
        safe = result.harm_upper is not None and result.harm_upper < result.margin
        return replace(result, verdict="safe" if safe else "inconclusive")
    verdict: VerdictName = "unknown"
    if result.status == "ok" and result.superior is not None:
        worse = (result.ci_lower or 0.0) > 0 if result.better == "lower" else (result.ci_upper or 0.0) < 0
        verdict = "safe" if result.superior else "harm" if worse else "inconclusive"
    return replace(result, verdict=verdict)
