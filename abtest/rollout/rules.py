"""What to do with a release, from its analysis: the precedence of RELEASES §2. Pure: no store, no clock, no actuator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from abtest.analysis.checks import blocking
from abtest.display import format_effect, format_margin, format_share, metric_label
from abtest.results import Analysis, DecisionName, Finding, MetricResult, Severity, Stage
from abtest.spec import Experiment, RampStage
from abtest.stats.multiplicity import holm

EXIT = {"promote": 0, "ship": 0, "hold": 10, "halt": 20}
NOT_TRUSTWORTHY, NO_DATA = 30, 40
_LOUD = 3.0
"""Harm this many margins large is the same test, said louder."""

CHECK_CODES = {
    "sample_ratio": "sample_ratio_mismatch",
    "returning_ratio": "returning_ratio_mismatch",
    "contamination": "contaminated",
    "missing_arm": "missing_arm",
    "mixed_versions": "mixed_versions",
    "randomised": "not_randomised",
    "unresolved_rows": "unresolved_rows",
}
FINDING_CODES = (
    "harm", "harm_hold", "safe", "inconclusive", "insufficient", "no_data", "cannot_compute", "superior", "not_superior",
    "deterioration", "baking", "timeout", "stale", "latched", "override", "no_guardrails", "all_safe", "halt_not_effective",
    *CHECK_CODES.values(),
)  # fmt: skip
"""The closed list of finding codes and reasons."""


@dataclass(frozen=True)
class Facts:
    """What the rules know besides the analysis.

    Attributes:
        stage_hours: Hours since the treatment's first exposure in the current stage.
        stage_units: Units of the smaller arm in the current stage.
        age_seconds: Age of the newest row by the clock; None where staleness is not judged.
        latched: Summary of the halt that still stands.
        override: A human decision in force: decision, reason, actor, expires.
    """

    stage_hours: float = 0.0
    stage_units: int = 0
    age_seconds: float | None = None
    latched: str | None = None
    override: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """The decision before it is recorded."""

    decision: DecisionName
    reason: str
    summary: str
    exit_code: int
    findings: tuple[Finding, ...]
    needs: tuple[str, ...] = ()


def conclude(experiment: Experiment, analysis: Analysis, facts: Facts, extra: Sequence[Finding] = ()) -> Outcome:
    """Return the decision: the first rule that matches decides, all findings are reported.

    The results of a segment's levels are none of its business, except levels that are guardrails themselves.
    """
    deciding = tuple(m for m in analysis.metrics if m.segment is None or m.role == "guardrail")
    analysis = replace(analysis, metrics=deciding)
    findings = [*_metric_findings(analysis), *_check_findings(analysis), *extra]
    outcome = _by_evidence(experiment, analysis, facts, findings)
    if facts.latched and outcome.decision != "halt":
        findings.append(Finding("latched", "error", None, f"an earlier halt stands: {facts.latched}"))
        summary = f"HALT stands at {analysis.stage.label}: {facts.latched}"
        outcome = Outcome("halt", "latched", summary, EXIT["halt"], (), ("a new revision of the spec, or an override",))
    if facts.override:
        outcome = _overridden(facts.override, outcome, findings)
    order: dict[Severity, int] = {"critical": 0, "error": 1, "warning": 2, "info": 3}
    return Outcome(
        outcome.decision, outcome.reason, outcome.summary, outcome.exit_code,
        tuple(sorted(findings, key=lambda f: order[f.severity])), outcome.needs,
    )  # fmt: skip


def current_stage(experiment: Experiment, analysis: Analysis) -> RampStage | None:
    """Return the ramp's entry for the stage that runs, if the spec has one."""
    index = analysis.stage.index
    if index < len(experiment.ramp) and experiment.ramp[index].share == analysis.stage.share:
        return experiment.ramp[index]
    return None


def next_stage(experiment: Experiment, stage: Stage) -> RampStage | None:
    """Return the stage after the current one; None at the end of the ramp."""
    share = stage.share or 0.0
    return next((s for s in experiment.ramp if s.share is not None and s.share > share), None)


# -- the rules, in order -----------------------------------------------------------------------------------------


def _by_evidence(experiment: Experiment, analysis: Analysis, facts: Facts, findings: list[Finding]) -> Outcome:
    label = analysis.stage.label
    guardrails = [m for m in analysis.metrics if m.role == "guardrail"]
    harmed = [m for m in guardrails if m.verdict == "harm"]
    for metric in (m for m in harmed if m.action == "halt"):
        return _outcome("halt", "harm", f"HALT at {label}: {harm_words(metric)}", EXIT["halt"])
    broken = [c for c in analysis.checks if c.status == "failed" and c.name in blocking()]
    if broken:
        summary = f"HOLD at {label}: the comparison cannot be trusted, {broken[0].detail}"
        return _outcome(
            "hold",
            CHECK_CODES[broken[0].name],
            summary,
            NOT_TRUSTWORTHY,
            "the cause found and mended, then a new revision",
        )
    if any(f.code == "stale" for f in findings) or _is_stale(experiment, facts, findings):
        stale = next(f for f in findings if f.code == "stale")
        return _outcome("hold", "stale", f"HOLD at {label}: {stale.message}", NO_DATA, "new rows in the logs")
    silent = [m for m in guardrails if m.status == "no_data"]
    if not any(a.units for a in analysis.arms) or silent:
        what = (
            f"{metric_label(silent[0].to_dict())}: {silent[0].note}"
            if silent
            else f"the logs hold no call of experiment {experiment.id!r}"
        )
        return _outcome("hold", "no_data", f"HOLD at {label}: no data, {what}", NO_DATA, "rows that carry these values")
    baking = _baking(experiment, analysis, facts)
    if baking:
        findings.append(Finding("baking", "info", None, baking))
        return _outcome("hold", "baking", f"HOLD at {label}: {baking}", EXIT["hold"], baking)
    return _judged(experiment, analysis, facts, findings, guardrails, harmed)


def _judged(
    experiment: Experiment, analysis: Analysis, facts: Facts, findings: list[Finding],
    guardrails: Sequence[MetricResult], harmed: Sequence[MetricResult],
) -> Outcome:  # fmt: skip
    label = analysis.stage.label
    at_ab = analysis.stage.kind == "ab"
    success = [m for m in analysis.metrics if m.role == "success"]
    unsure = [m for m in guardrails if m.verdict in ("inconclusive", "unknown")]
    if not guardrails and not (at_ab and success):
        findings.append(
            Finding("no_guardrails", "warning", None, "no metric has a guardrail: nothing can be called safe")
        )
        return _outcome(
            "hold",
            "no_guardrails",
            f"HOLD at {label}: no metric has a guardrail",
            EXIT["hold"],
            "a guardrail in the spec",
        )
    if unsure:
        late = _timeout(experiment, analysis, facts, findings, harmless=not harmed)
        if late:
            return late
        worst = max(unsure, key=_distance_to_safe)
        reason = "insufficient" if worst.verdict == "unknown" else "inconclusive"
        more = f", and {len(unsure) - 1} more" if len(unsure) > 1 else ""
        return _outcome(
            "hold", reason, f"HOLD at {label}: {unsure_words(worst)}{more}", EXIT["hold"], unsure_words(worst)
        )
    if harmed:
        summary = f"HOLD at {label}: {harm_words(harmed[0])}"
        return _outcome(
            "hold", "harm_hold", summary, EXIT["hold"], f"{metric_label(harmed[0].to_dict())} back below its margin"
        )
    if at_ab and success:
        return _ship(experiment, analysis, facts, findings, success)
    following = next_stage(experiment, analysis.stage)
    goal = f"to {following.label}" if following else "to all traffic"
    many = "the guardrail is" if len(guardrails) == 1 else f"all {len(guardrails)} guardrails are"
    return _outcome("promote", "all_safe", f"PROMOTE from {label} {goal}: {many} safe", EXIT["promote"])


def _ship(
    experiment: Experiment, analysis: Analysis, facts: Facts, findings: list[Finding], success: Sequence[MetricResult]
) -> Outcome:
    label = analysis.stage.label
    worse = [m for m in success if m.verdict == "harm"]
    if worse:
        return _outcome(
            "hold", "deterioration", f"HOLD at {label}: {_effect(worse[0])} is worse than control", EXIT["hold"]
        )
    adjusted = holm([m.pvalue for m in success], float(experiment.alpha))
    better = [m for m, reject in zip(success, adjusted.rejected, strict=True) if reject and m.superior]
    if better:
        return _outcome(
            "ship",
            "superior",
            f"SHIP at {label}: {_effect(better[0])} is better, and every guardrail is safe",
            EXIT["ship"],
        )
    late = _timeout(experiment, analysis, facts, findings, harmless=True)
    if late:
        return late
    first = success[0]
    return _outcome(
        "hold", "not_superior", f"HOLD at {label}: safe, but {_effect(first)} is not shown to be better yet", EXIT["hold"],
        f"more data on {first.metric}",
    )  # fmt: skip


def _timeout(
    experiment: Experiment, analysis: Analysis, facts: Facts, findings: list[Finding], *, harmless: bool
) -> Outcome | None:
    stage = current_stage(experiment, analysis)
    if stage is None or stage.max_days is None or facts.stage_hours < stage.max_days * 24:
        return None
    label, rule = analysis.stage.label, experiment.policy.on_timeout
    findings.append(
        Finding("timeout", "warning", None, f"{label} has run for its {stage.max_days:g} days without a verdict")
    )
    if rule == "halt":
        return _outcome("halt", "timeout", f"HALT at {label}: no verdict within {stage.max_days:g} days", EXIT["halt"])
    estimates = [m for m in analysis.metrics if m.role == "guardrail"]
    if rule == "promote_if_harmless" and harmless and all(m.status == "ok" and m.verdict != "harm" for m in estimates):
        summary = (
            f"PROMOTE from {label}: no harm was shown within {stage.max_days:g} days (on_timeout = promote_if_harmless)"
        )
        return _outcome("promote", "timeout", summary, EXIT["promote"])
    return None


def _baking(experiment: Experiment, analysis: Analysis, facts: Facts) -> str | None:
    stage = current_stage(experiment, analysis)
    if stage is None:
        return None
    missing = []
    if facts.stage_hours < stage.min_hours:
        missing.append(f"{facts.stage_hours:.0f} of {stage.min_hours:g} hours")
    if facts.stage_units < stage.min_units:
        missing.append(f"{facts.stage_units} of {stage.min_units} units in the smaller arm")
    return f"the stage has {' and '.join(missing)}" if missing else None


def _is_stale(experiment: Experiment, facts: Facts, findings: list[Finding]) -> bool:
    if experiment.freshness is None or facts.age_seconds is None or facts.age_seconds <= experiment.freshness.seconds:
        return False
    hours = facts.age_seconds / 3600
    findings.append(
        Finding(
            "stale",
            "error",
            None,
            f"the newest row is {hours:.1f} hours old, {experiment.freshness.max_age} are allowed",
        )
    )
    return True


def _overridden(override: Mapping[str, Any], outcome: Outcome, findings: list[Finding]) -> Outcome:
    decision: DecisionName = override["decision"]
    message = f"{override['actor']} overrides until {override['expires']}: {override['reason']}"
    findings.append(Finding("override", "warning", None, f"{message}; the evidence says: {outcome.summary}"))
    return Outcome(
        decision,
        "override",
        f"{decision.upper()} by override: {message}; the evidence says: {outcome.summary}",
        EXIT[decision],
        (),
    )


def _outcome(decision: DecisionName, reason: str, summary: str, exit_code: int, *needs: str) -> Outcome:
    return Outcome(decision, reason, summary, exit_code, (), tuple(needs))


# -- findings and words ------------------------------------------------------------------------------------------


def _metric_findings(analysis: Analysis) -> list[Finding]:
    found: list[Finding] = []
    for m in analysis.metrics:
        if m.verdict == "harm" and m.role == "guardrail":
            loud = m.harm_lower is not None and m.margin is not None and m.harm_lower > _LOUD * m.margin
            code, severity = (
                ("harm", "critical" if loud else "error") if m.action == "halt" else ("harm_hold", "warning")
            )
            found.append(Finding(code, severity, m.metric, harm_words(m)))  # type: ignore[arg-type]
        elif m.role == "guardrail" and m.verdict == "safe":
            found.append(
                Finding(
                    "safe", "info", m.metric, f"{_effect(m)} stays below its margin of {format_margin(m.to_dict())}"
                )
            )
        elif m.role == "guardrail":
            code = {"ok": "inconclusive", "no_data": "no_data", "insufficient": "insufficient"}.get(
                m.status, "cannot_compute"
            )
            found.append(Finding(code, "error" if code == "no_data" else "warning", m.metric, unsure_words(m)))
        elif m.role == "success" and m.status == "ok":
            code = "superior" if m.superior else "deterioration" if m.verdict == "harm" else "not_superior"
            words = {"superior": "is better", "deterioration": "is worse", "not_superior": "is not shown to be better"}[
                code
            ]
            found.append(
                Finding(code, "warning" if code == "deterioration" else "info", m.metric, f"{_effect(m)} {words}")
            )
        elif m.status != "ok":
            code = m.status if m.status in ("no_data", "insufficient") else "cannot_compute"
            found.append(Finding(code, "info", m.metric, f"{metric_label(m.to_dict())}: {m.note or m.status}"))
    return found


def _check_findings(analysis: Analysis) -> list[Finding]:
    return [
        Finding(CHECK_CODES[c.name], "error" if c.status == "failed" else "warning", None, c.detail)
        for c in analysis.checks
        if c.status in ("failed", "warning") and c.name in CHECK_CODES
    ]


def harm_words(m: MetricResult) -> str:
    """Return why a metric is harm: estimate, interval and margin; for rare events also what was counted."""
    margin = format_margin(m.to_dict())
    if m.method == "rate_ratio":
        counted: Mapping[str, Any] = m.details.get("rate_ratio", {})
        events = f"{counted.get('first_events_treatment')} units of {m.treatment} had it, {counted.get('first_events_control')} of {m.control}"
        level = format_share(m.harm_alpha)
        return f"{_effect(m)} is past its margin of {margin} ({events}: more than control, at error level {level})"
    return f"{_effect(m)} is past its margin of {margin}"


def unsure_words(m: MetricResult) -> str:
    """Return what is missing for a verdict on a guardrail."""
    if m.status != "ok":
        return f"{metric_label(m.to_dict())}: {m.note or m.status}"
    return f"{_effect(m)} is not yet shown to stay below its margin of {format_margin(m.to_dict())}"


def _effect(m: MetricResult) -> str:
    data = m.to_dict()
    return f"{metric_label(data)} {format_effect(data, relative=m.margin_kind == 'relative')}"


def _distance_to_safe(m: MetricResult) -> float:
    if m.status != "ok" or m.harm_upper is None or not m.margin:
        return float("inf")
    return m.harm_upper / m.margin
