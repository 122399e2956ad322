"""The assessments of an MLflow trace as scores.

Feedback is a score, an expectation (what the answer should have been) is none. An overridden feedback and those that
override it are one score with corrections: they share the first one's id, and the later time of update counts.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from abtest.ingest.base import Ignored, Item, mapping, number_or_none, text_or_none
from abtest.ingest.cells import array, moment, pairs
from abtest.ingest.mlflow_span import Trace, hex_id
from abtest.ingest.validate import from_fields

SCORERS = {"HUMAN": "human", "LLM_JUDGE": "judge", "AI_JUDGE": "judge", "CODE": "code"}
VERSION = "mlflow.assessment.scorerVersion"
INVALID = "invalidated"
"""Error type of a feedback that was withdrawn without another one in its place."""


def scores(trace: Trace) -> list[tuple[dict[str, Any], Item | str]]:
    """Return each assessment with its score, or the reason why it is none."""
    entries = [mapping(each) for each in array(trace.info.get("assessments"))]
    roots = _roots(entries)
    overridden = {text_or_none(each.get("overrides")) for each in entries}
    return [
        (entry, _score(entry, roots, trace, text_or_none(entry.get("assessment_id")) in overridden))
        for entry in entries
    ]


def _roots(entries: list[dict[str, Any]]) -> dict[str, str]:
    """Return the id of the first feedback of each chain, by the id of every feedback that overrides it."""
    above: dict[str, str] = {}
    for each in entries:
        name, parent = text_or_none(each.get("assessment_id")), text_or_none(each.get("overrides"))
        if name and parent:
            above[name] = parent
    roots: dict[str, str] = {}
    for name in above:
        root, seen = name, {name}
        while (parent := above.get(root)) is not None and parent not in seen:
            seen.add(parent)
            root = parent
        roots[name] = root
    return roots


def _score(entry: dict[str, Any], roots: dict[str, str], trace: Trace, has_successor: bool) -> Item | str:
    name = text_or_none(entry.get("assessment_id"))
    feedback = pairs(entry.get("feedback"))
    if not feedback:
        return Ignored() if "expectation" in entry else "missing: feedback"
    source = pairs(entry.get("source"))
    kind = SCORERS.get(str(source.get("source_type")))
    if kind is None:
        return f"bad_value: source.source_type: one of {', '.join(SCORERS)} is needed"
    try:
        made, changed = moment(entry.get("create_time"), "create_time"), _changed(entry)
    except ValueError as error:
        return f"bad_value: {error}"
    overrides = roots.get(name) if name else None
    result = _result(feedback)
    if isinstance(result, str):
        return result
    if entry.get("valid") is False and not (name and has_successor):
        result, changed = {"error_type": INVALID}, changed or made
    if overrides:
        changed = changed or made
    elif name and has_successor:
        changed = None  # its invalidation is an update too, and must not win over the one that overrides it
    fields: dict[str, Any] = {
        "score_id": overrides or name,
        "ts": made.isoformat() if made else None,
        "updated_at": changed.isoformat() if changed else None,
        "name": text_or_none(entry.get("assessment_name")),
        "scorer_kind": kind,
        "scorer_id": _scorer(entry, source),
        "trace_id": trace.trace_id,
        "span_id": hex_id(entry.get("span_id"), 8),
        "explanation": text_or_none(entry.get("rationale")),
        **result,
    }
    item = from_fields("score", fields)
    return item.replace("missing: score_id", "missing: score_id (assessment_id)", 1) if isinstance(item, str) else item


def _changed(entry: dict[str, Any]) -> datetime | None:
    """Return the time of the last update, when it is not that of creation."""
    made = moment(entry.get("create_time"), "create_time")
    changed = moment(entry.get("last_update_time"), "last_update_time")
    return changed if changed is not None and (made is None or changed > made) else None


def _scorer(entry: dict[str, Any], source: dict[str, Any]) -> str | None:
    """Return who scored; a registered scorer with its version."""
    name = text_or_none(source.get("source_id"))
    version = text_or_none(pairs(entry.get("metadata")).get(VERSION))
    return f"{name}@{version}" if name and version else name


def _result(feedback: dict[str, Any]) -> dict[str, Any] | str:
    """Return value, label or error_type; a judge that failed is a score without a value."""
    error = pairs(feedback.get("error"))
    if error:
        return {"error_type": text_or_none(error.get("error_code")) or "unknown"}
    value = feedback.get("value")
    if isinstance(value, bool):
        return {"value": 1.0 if value else 0.0}
    if isinstance(value, str):
        return {"label": value} if value else "missing: feedback.value"
    known = number_or_none(value)
    if known is None:
        return "bad_value: feedback.value: a boolean, a number or a text is needed; log one assessment per number"
    return {"value": known}
