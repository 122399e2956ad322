"""OpenTelemetry GenAI in OTLP/JSON: spans of model calls, flag evaluations, evaluation results; old and new names.

Source of the names: open-telemetry/semantic-conventions-genai (spans, events, registry) and
open-telemetry/semantic-conventions (feature flags). No convention has a variant, an experiment, a unit or a prompt
version, so these come from `abtest.*` attributes (baggage copied to spans), from the feature-flag attributes, or from
`user.id`.

A record depends on its own line only. What its trace holds on other lines (the embeddings span, the parent with the
user) is looked up only on the same line: a file that grew is read again, and a row must then come out the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from abtest.ingest import otel_span
from abtest.ingest.base import Format, Ignored, Item, digest, number_or_none, parse_object, reject
from abtest.ingest.otlp import Part, as_text, is_hex, parts, timestamp
from abtest.ingest.validate import from_fields

FLAG_EVENTS = ("feature_flag.evaluation", "feature_flag")
SCORE_EVENTS = ("gen_ai.evaluation.result",)


class OTel(Format):
    """OTLP/JSON: one export request of traces, logs or metrics a line."""

    name: ClassVar[str] = "otel"
    description: ClassVar[str] = "OpenTelemetry GenAI spans and events as OTLP/JSON, one export request a line"

    def sniff(self, objects: Sequence[Mapping[str, Any]]) -> float:
        """0.9 for an OTLP envelope: a format that recognises what is in the envelope may be surer."""
        known = sum(bool(ENVELOPES.intersection(value)) for value in objects)
        return 0.9 * known / len(objects)

    def read(self, line: bytes, number: int, offset: int) -> Sequence[Item]:
        """Read one export request; a bad span or event is rejected alone, its neighbours go in."""
        envelope = parse_object(line)
        if isinstance(envelope, str):
            return (reject(line, number, offset, envelope),)
        if "resourceSpans" in envelope:
            found = _spans(list(parts(envelope, "resourceSpans", "scopeSpans", "spans")))
        elif "resourceLogs" in envelope:
            found = [(part, _log(part)) for part in parts(envelope, "resourceLogs", "scopeLogs", "logRecords")]
        elif "resourceMetrics" in envelope or not envelope:
            return (Ignored(),)  # aggregated: cannot be split by unit
        else:
            return (reject(line, number, offset, f"not_otlp: its keys are {', '.join(list(envelope)[:5])}"[:300]),)
        return [_placed(item, part, number, offset) for part, item in found]


ENVELOPES = frozenset({"resourceSpans", "resourceLogs", "resourceMetrics"})


def _placed(item: Item | str, part: Part, number: int, offset: int) -> Item:
    """Turn a reason into a reject that carries the span or log record alone, not its whole batch."""
    if isinstance(item, str):
        raw = json.dumps(part.body, separators=(",", ":")).encode()
        return reject(raw, number, offset, item)
    return item


def _spans(line: list[Part]) -> list[tuple[Part, Item | str]]:
    """Read the spans of one line, and the events on them."""
    trace = otel_span.Siblings(line)
    found: list[tuple[Part, Item | str]] = []
    for part in line:
        found.append((part, otel_span.interaction(part, trace)))
        for event in otel_span.events(part):
            item = _event(event, str(event.body.get("name", "")))
            if not isinstance(item, Ignored):  # other span events belong to their span
                found.append((event, item))
    return found


def _log(part: Part) -> Item | str:
    name = part.body.get("eventName") or part.attributes.get("event.name")
    return _event(part, str(name))


def _event(part: Part, name: str) -> Item | str:
    if name in FLAG_EVENTS:
        return _assignment(part)
    if name in SCORE_EVENTS:
        return _score(part)
    return Ignored()


def _assignment(part: Part) -> Item | str:
    """A flag evaluation gives a unit its variant; one that failed before it had a variant gives nothing."""
    reason = part.text("feature_flag.result.reason", "feature_flag.evaluation.reason", "feature_flag.reason")
    variant = part.text("feature_flag.result.variant", "feature_flag.variant", "feature_flag.result.value")
    if variant is None and (part.attributes.get("error.type") or (reason or "").lower() == "error"):
        return Ignored()
    try:
        at = _time(part)
    except ValueError as error:
        return f"bad_value: timeUnixNano: {error}"
    return _named(
        from_fields(
            "assignment",
            {
                "experiment_id": part.text("feature_flag.key"),
                "unit_id": part.text("feature_flag.context.id", "abtest.unit_id", "user.id", "enduser.id"),
                "variant": variant,
                "ts": at,
                "reason": reason.lower() if reason else None,
                "ruleset_version": part.text("feature_flag.version"),
                "provider": part.text("feature_flag.provider.name", "feature_flag.provider_name"),
            },
        ),
        {"unit_id": "feature_flag.context.id", "variant": "feature_flag.result.variant", "ts": "timeUnixNano"},
    )


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
        "value": number_or_none(value),
        "label": part.text("gen_ai.evaluation.score.label"),
        "explanation": part.text("gen_ai.evaluation.explanation"),
        "error_type": part.text("error.type"),
        "trace_id": part.trace_id if is_hex(part.trace_id, 32) else None,
        "span_id": part.span_id if is_hex(part.span_id, 16) else None,
        "provider_response_id": part.text("gen_ai.response.id"),
    }
    if value is not None and fields["value"] is None:
        return f"bad_value: gen_ai.evaluation.score.value: {as_text(value) or 'not text'} is no number"[:300]
    return _named(
        from_fields("score", {**fields, "score_id": digest(fields), "scorer_kind": "judge"}),
        {"name": "gen_ai.evaluation.name", "ts": "timeUnixNano"},
    )


def _time(part: Part) -> str | None:
    """Return when it happened; the GenAI log records of the Python SDK have only the observed time."""
    return timestamp(part.body, "timeUnixNano", "observedTimeUnixNano")


def _named(item: Item | str, names: Mapping[str, str]) -> Item | str:
    """Say in a `missing` reason which OTel attribute was looked for."""
    if not isinstance(item, str) or not item.startswith("missing: "):
        return item
    keys = item.removeprefix("missing: ")
    asked = [names[key] for key in keys.split(", ") if key in names]
    return f"missing: {keys} ({', '.join(asked)})" if asked else item


FORMAT = OTel()
