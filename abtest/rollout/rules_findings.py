"""What an analysis has to say, finding by finding, and the words for it; which of it decides is the business of rules.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abtest.display import format_effect, format_harm, format_margin, format_share, metric_label
from abtest.results import Analysis, Finding, MetricResult

LOUD = 3.0
"""Harm proven to be this many margins large is the same test, said louder."""

CHECK_CODES = {
    "sample_ratio": "sample_ratio_mismatch",
    "returning_ratio": "returning_ratio_mismatch",
    "contamination": "contaminated",
    "missing_arm": "missing_arm",
    "mixed_versions": "mixed_versions",
    "randomised": "not_randomised",
    "unresolved_rows": "unresolved_rows",
}
_GUARDRAIL_CODES = {"ok": "inconclusive", "no_data": "no_data", "insufficient": "insufficient"}
_SUCCESS_WORDS = {
    "superior": "is better",
    "deterioration": "is worse",
    "not_superior": "is not shown to be better",
}


def metric_findings(analysis: Analysis) -> list[Finding]:
    """Return a finding for every metric that has something to say, whatever decides in the end."""
    return [found for m in analysis.metrics if (found := _finding(m)) is not None]


def check_findings(analysis: Analysis) -> list[Finding]:
    """Return a finding for every check that failed or warns."""
    return [
        Finding(CHECK_CODES.get(c.name, c.name), "error" if c.status == "failed" else "warning", None, c.detail)
        for c in analysis.checks
        if c.status in ("failed", "warning")
    ]


def _finding(m: MetricResult) -> Finding | None:
    if m.role == "guardrail":
        return _guardrail_finding(m)
    if m.role == "success" and m.status == "ok":
        code = "superior" if m.superior else "deterioration" if m.verdict == "harm" else "not_superior"
        severity = "warning" if code == "deterioration" else "info"
        return Finding(code, severity, m.metric, f"{effect_words(m)} {_SUCCESS_WORDS[code]}")
    if m.status == "ok":
        return None
    code = m.status if m.status in ("no_data", "insufficient") else "cannot_compute"
    return Finding(code, "info", m.metric, unsure_words(m))


def _guardrail_finding(m: MetricResult) -> Finding:
    if m.verdict == "harm" and m.action == "halt":
        return Finding("harm", "critical" if is_loud(m) else "error", m.metric, harm_words(m))
    if m.verdict == "harm":
        return Finding("harm_hold", "warning", m.metric, harm_words(m))
    if m.verdict == "safe":
        return Finding("safe", "info", m.metric, safe_words(m))
    code = _GUARDRAIL_CODES.get(m.status, "cannot_compute")
    return Finding(code, "error" if code == "no_data" else "warning", m.metric, unsure_words(m))


# -- words -------------------------------------------------------------------------------------------------------


def harm_in_margins(m: MetricResult) -> float:
    """Return how many margins the harm is at least; 0 where the bound is not known (the exact test on rare events has none)."""
    return m.harm_lower / m.margin if m.harm_lower is not None and m.margin else 0.0


def is_loud(m: MetricResult) -> bool:
    """Return whether the harm is proven to be several times the margin."""
    return harm_in_margins(m) > LOUD


def harm_words(m: MetricResult) -> str:
    """Return why a metric is harm: estimate, interval and margin; for rare events also what was counted."""
    words = f"{effect_words(m)} is past its margin of {format_margin(m.to_dict())}"
    if m.method == "rate_ratio":
        counted: Mapping[str, Any] = m.details.get("rate_ratio", {})
        events = f"{counted.get('first_events_treatment')} units of {m.treatment} had it, {counted.get('first_events_control')} of {m.control}"
        return f"{words} ({events}: more than control, at error level {format_share(m.harm_alpha)})"
    return f"{words} (at least {harm_in_margins(m):.1f} times as much)" if is_loud(m) else words


def safe_words(m: MetricResult) -> str:
    """Return that a guardrail is safe; with the bound that says so where the two-sided interval reaches past the margin."""
    words = f"{effect_words(m)} stays below its margin of {format_margin(m.to_dict())}"
    ends = (m.relative_ci_lower, m.relative_ci_upper) if m.margin_kind == "relative" else (m.ci_lower, m.ci_upper)
    worst = ends[1] if m.better == "lower" else None if ends[0] is None else -ends[0]
    if m.margin is None or m.harm_upper is None or (worst is not None and worst <= m.margin):
        return words
    most = format_harm({**m.to_dict(), "harm_lower": None})
    return f"{words} (the harm is {most}, one-sided at {format_share(m.alpha)}; the interval is two-sided)"


def unsure_words(m: MetricResult) -> str:
    """Return what is missing for a verdict on a metric."""
    if m.status != "ok":
        return f"{label_of(m)}: {m.note or m.status}"
    return f"{effect_words(m)} is not yet shown to stay below its margin of {format_margin(m.to_dict())}"


def effect_words(m: MetricResult) -> str:
    """Return the metric with its effect and interval, in the unit of its margin."""
    data = m.to_dict()
    return f"{metric_label(data)} {format_effect(data, relative=m.margin_kind == 'relative')}"


def label_of(m: MetricResult) -> str:
    """Return the metric's name, with its segment."""
    return metric_label(m.to_dict())
