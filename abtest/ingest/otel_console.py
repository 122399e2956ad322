"""What the console exporters of the OpenTelemetry SDK write: one object a span or log record (`span.to_json`).

Ids are written 0x..., times are ISO text, attributes are a plain object. It is turned into the body that OTLP/JSON
would have, so that one reader serves both. Source: opentelemetry-sdk 1.45 (`ReadableSpan.to_json`,
`ReadableLogRecord.to_json`) and its output; before 1.15 `resource` was the attributes themselves. Phoenix exports spans
in nearly this form (arize-phoenix-client 3.5, type `Span`): kind and status stand beside the attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from abtest.ingest.base import epoch_micros, items, mapping
from abtest.ingest.otel_span import KIND_OPENINFERENCE
from abtest.ingest.otlp import Part

SPAN_KEYS = ("name", "context", "start_time")
LOG_KEYS = ("severity_number", "trace_id", "span_id", "attributes", "resource")
METRIC_KEY = "resource_metrics"


def is_span(value: Mapping[str, Any]) -> bool:
    """Tell whether this is a span as the console exporter writes it."""
    known = all(key in value for key in SPAN_KEYS) and ("parent_id" in value or "span_kind" in value)
    return known and "trace_id" in mapping(value.get("context"))


def is_log(value: Mapping[str, Any]) -> bool:
    """Tell whether this is a log record as the console exporter writes it."""
    return all(key in value for key in LOG_KEYS) and ("body" in value or "event_name" in value)


def span(value: Mapping[str, Any]) -> Part:
    """Return the span as a part."""
    context = mapping(value.get("context"))
    status = mapping(value.get("status"))
    attributes = mapping(value.get("attributes"))
    if "span_kind" in value:
        attributes = {KIND_OPENINFERENCE: value["span_kind"], **attributes}
    body = {
        "traceId": context.get("trace_id"),
        "spanId": context.get("span_id"),
        "parentSpanId": value.get("parent_id"),
        "name": value.get("name"),
        "startTimeUnixNano": nanos(value.get("start_time")),
        "endTimeUnixNano": nanos(value.get("end_time")),
        "attributes": attributes,
        "events": [_event(mapping(each)) for each in items(value.get("events"))],
        "status": {
            "code": status.get("status_code", value.get("status_code")),
            "message": status.get("description", value.get("status_message")),
        },
    }
    return Part(body, attributes, _resource(value))


def log(value: Mapping[str, Any]) -> Part:
    """Return the log record as a part."""
    body = {
        "traceId": value.get("trace_id"),
        "spanId": value.get("span_id"),
        "timeUnixNano": nanos(value.get("timestamp")),
        "observedTimeUnixNano": nanos(value.get("observed_timestamp")),
        "eventName": value.get("event_name"),
        "attributes": mapping(value.get("attributes")),
    }
    return Part(body, mapping(value.get("attributes")), _resource(value))


def _event(event: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": event.get("name"),
        "timeUnixNano": nanos(event.get("timestamp")),
        "attributes": mapping(event.get("attributes")),
    }


def _resource(value: Mapping[str, Any]) -> dict[str, Any]:
    resource = mapping(value.get("resource"))
    return mapping(resource["attributes"]) if "attributes" in resource else resource


def nanos(text: object) -> int | None:
    """Return ISO text as nanoseconds since 1970 (UTC when it has no zone); None when it is no time."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return epoch_micros(moment.replace(tzinfo=moment.tzinfo or UTC)) * 1000
    except (ValueError, OverflowError):
        return None
