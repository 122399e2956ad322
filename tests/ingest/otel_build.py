"""Small builders of OTLP/JSON, shared by the tests of the OpenTelemetry formats."""

from __future__ import annotations

import json
from typing import Any

from abtest.ingest import get

START = 1_795_398_821_616_993_539
TRACE, SPAN = "a" * 32, "1" * 16


def value(content: Any) -> dict[str, Any]:
    """Return content as an AnyValue."""
    match content:
        case bool():
            return {"boolValue": content}
        case int():
            return {"intValue": str(content)}
        case float():
            return {"doubleValue": content}
        case list():
            return {"arrayValue": {"values": [value(each) for each in content]}}
        case dict():
            return {"kvlistValue": {"values": pairs(content)}}
        case _:
            return {"stringValue": content}


def pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value(content)} for key, content in attributes.items()]


def span(attributes: dict[str, Any], *, span_id: str = SPAN, **body: Any) -> dict[str, Any]:
    return {
        "traceId": TRACE,
        "spanId": span_id,
        "startTimeUnixNano": str(START),
        "endTimeUnixNano": str(START + 250_000_000),
        "attributes": pairs(attributes),
        "status": {},
        **body,
    }


def event(name: str, attributes: dict[str, Any], **body: Any) -> dict[str, Any]:
    return {"name": name, "timeUnixNano": str(START + 10_000_000), "attributes": pairs(attributes), **body}


def envelope(*spans: Any, resource: dict[str, Any] | None = None) -> dict[str, Any]:
    group = {"resource": {"attributes": pairs(resource or {})}, "scopeSpans": [{"spans": list(spans)}]}
    return {"resourceSpans": [group]}


def read(body: Any) -> list[Any]:
    return list(get("otel").read(json.dumps(body).encode(), 5, 50))


def read_spans(*spans: Any, resource: dict[str, Any] | None = None) -> list[Any]:
    return read(envelope(*spans, resource=resource))


def read_log(name: str, attributes: dict[str, Any], **body: Any) -> Any:
    record = {"timeUnixNano": str(START), "attributes": pairs(attributes), "eventName": name, **body}
    (item,) = read({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]})
    return item


def only(attributes: dict[str, Any], **body: Any) -> Any:
    """Read one span and return its one item."""
    (item,) = read_spans(span(attributes, **body))
    return item
