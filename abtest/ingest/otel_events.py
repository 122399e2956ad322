"""Flag evaluations and judgements that travel in OpenTelemetry: log records, events on spans, attributes of spans."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from abtest.ingest.base import Ignored, Item, digest, mapping, number_or_none
from abtest.ingest.otlp import Part, any_value, as_text, is_hex, timestamp
from abtest.ingest.validate import from_fields

FLAG_EVENTS = ("feature_flag.evaluation", "feature_flag")
SCORE_EVENTS = ("gen_ai.evaluation.result",)

KINDS = {"HUMAN": "human", "LLM": "judge", "CODE": "code", "USER": "user"}
"""OpenInference's annotator kinds; the specification allows others, which judge as a model does."""

_ANNOTATION = re.compile(
    r"(?:(trace|session)\.)?(?:(annotations|evaluations)\.(\d{1,6})\.)?(annotation|evaluation)\."
    r"(name|score|label|explanation|annotator_kind|identifier)"
)


def event(part: Part, name: str) -> Item | str:
    """Read one log record or span event; one that is neither assignment nor score is ignored."""
    if name in FLAG_EVENTS:
        return _assignment(part)
    if name in SCORE_EVENTS:
        return _score(part)
    return Ignored()


def _assignment(part: Part) -> Item | str:
    """A flag evaluation gives a unit its variant; one that failed before it had a variant gives nothing."""
    reason = part.text("feature_flag.result.reason", "feature_flag.evaluation.reason", "feature_flag.reason")
    variant = part.text("feature_flag.result.variant", "feature_flag.variant", "feature_flag.result.value")
    variant = variant or _value_in_body(part)
    if variant is None and (part.attributes.get("error.type") or (reason or "").lower() == "error"):
        return Ignored()
    try:
        at = _time(part)
    except ValueError as error:
        return f"bad_value: timeUnixNano: {error}"
    return named(
        from_fields(
            "assignment",
            {
                "experiment_id": part.text("feature_flag.key"),
                "unit_id": part.text(
                    "feature_flag.context.id", "feature_flag.context.key", "abtest.unit_id", "user.id", "enduser.id"
                ),
                "variant": variant,
                "ts": at,
                "reason": reason.lower() if reason else None,
                "ruleset_version": part.text("feature_flag.version"),
                "provider": part.text("feature_flag.provider.name", "feature_flag.provider_name"),
            },
        ),
        {
            "experiment_id": "feature_flag.key",
            "unit_id": "feature_flag.context.id",
            "variant": "feature_flag.result.variant",
            "ts": "timeUnixNano",
        },
    )


def _value_in_body(part: Part) -> str | None:
    """Return the flag's value out of the body of the event, where an earlier version of the convention had it."""
    body = any_value(mapping(part.body.get("body")))
    return as_text(mapping(body).get("value"))


def _score(part: Part) -> Item | str:
    """An evaluation result; its id is the digest of what it says, so that the same event is the same score."""
    try:
        at = _time(part)
    except ValueError as error:
        return f"bad_value: timeUnixNano: {error}"
    value = part.first("gen_ai.evaluation.score.value")
    fields = {
        "ts": at,
        "name": part.text("gen_ai.evaluation.name"),
        "value": _number(value),
        "label": part.text("gen_ai.evaluation.score.label"),
        "explanation": part.text("gen_ai.evaluation.explanation"),
        "error_type": part.text("error.type"),
        **_target(part),
        "provider_response_id": part.text("gen_ai.response.id"),
    }
    if value is not None and fields["value"] is None:
        return f"bad_value: gen_ai.evaluation.score.value: {as_text(value) or 'not text'} is no number"[:300]
    return named(
        from_fields("score", {**fields, "score_id": digest(fields), "scorer_kind": "judge"}),
        {"name": "gen_ai.evaluation.name", "ts": "timeUnixNano"},
    )


def judgements(part: Part) -> Iterator[Item | str]:
    """Yield the annotations and evaluations that OpenInference keeps in attributes of the span that they judge.

    Those of a whole session name no call and are ignored; a result that is there in both forms is one score.
    """
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for name, value in part.attributes.items():
        if name.startswith(("annotation", "evaluation", "trace.", "session.")) and (
            match := _ANNOTATION.fullmatch(name)
        ):
            scope, form, at, _, field = match.groups()
            found.setdefault((scope or "", form or "", at or ""), {})[field] = value
    seen: set[str] = set()
    for (scope, _, _), fields in sorted(found.items()):
        if scope == "session":
            yield Ignored()
            continue
        item = _annotation(part, scope, fields)
        if not isinstance(item, str) and not isinstance(item, Ignored):
            key = str(getattr(item, "score_id", ""))
            if key in seen:
                continue
            seen.add(key)
        yield item


def _annotation(part: Part, scope: str, said: Mapping[str, Any]) -> Item | str:
    try:
        at = timestamp(part.body, "endTimeUnixNano", "startTimeUnixNano")
    except ValueError as error:
        return f"bad_value: endTimeUnixNano: {error}"
    value, kind = said.get("score"), said.get("annotator_kind")
    fields: dict[str, Any] = {
        "ts": at,
        "name": as_text(said.get("name")),
        "value": _number(value),
        "label": as_text(said.get("label")),
        "explanation": as_text(said.get("explanation")),
        "scorer_id": as_text(said.get("identifier")),
        "scorer_kind": KINDS.get(kind.upper(), "judge") if isinstance(kind, str) else "judge",
        **_target(part),
    }
    if scope == "trace":
        fields["span_id"] = None
    if value is not None and fields["value"] is None:
        return f"bad_value: annotation.score: {as_text(value) or 'not text'} is no number"[:300]
    return named(
        from_fields("score", {**fields, "score_id": digest(fields)}),
        {"name": "annotation.name", "ts": "endTimeUnixNano"},
    )


def _target(part: Part) -> dict[str, Any]:
    return {
        "trace_id": part.trace_id if is_hex(part.trace_id, 32) else None,
        "span_id": part.span_id if is_hex(part.span_id, 16) else None,
    }


def _number(value: Any) -> float | None:
    """Return a number, a boolean as 0 or 1; None for the rest."""
    return float(value) if isinstance(value, bool) else number_or_none(value)


def _time(part: Part) -> str | None:
    """Return when it happened; the GenAI log records of the Python SDK have only the observed time."""
    return timestamp(part.body, "timeUnixNano", "observedTimeUnixNano")


def named(item: Item | str, names: Mapping[str, str]) -> Item | str:
    """Say in a `missing` reason which OTel attribute was looked for."""
    if not isinstance(item, str) or not item.startswith("missing: "):
        return item
    missing, semicolon, others = item.partition("; ")
    asked = [names[key] for key in missing.removeprefix("missing: ").split(", ") if key in names]
    return f"{missing} ({', '.join(asked)}){semicolon}{others}" if asked else item
