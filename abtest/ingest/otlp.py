"""The OTLP/JSON envelope (opentelemetry-proto, JSON mapping): lists of key and value into plain dicts.

Any format that travels in OTLP reads it through this module. Unknown fields are tolerated, 64-bit integers may be
strings or numbers, as the specification demands of receivers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from abtest.ingest.base import items, mapping, rfc3339, text_or_none, whole_or_none

ERROR_CODES = (2, "2", "STATUS_CODE_ERROR")


@dataclass(frozen=True, slots=True)
class Part:
    """A span or a log record with its attributes and those of its resource, unpacked.

    Attributes:
        body: The JSON object as it stands in the file.
        attributes: Its own attributes.
        resource: The attributes of its resource.
    """

    body: dict[str, Any]
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    resource: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def trace_id(self) -> str | None:
        """The trace id in lower case, None when absent."""
        return hex_id(self.body.get("traceId"))

    @property
    def span_id(self) -> str | None:
        """The span id in lower case, None when absent."""
        return hex_id(self.body.get("spanId"))

    def first(self, *names: str) -> Any:
        """Return the first attribute of these names that has a value; empty text counts as none."""
        for name in names:
            value = self.attributes.get(name)
            if value is not None and value != "":
                return value
        return None

    def text(self, *names: str) -> str | None:
        """Return the first attribute of these names that is text; numbers and booleans are written out."""
        return as_text(self.first(*names))


def as_text(value: Any) -> str | None:
    """Return text as it is, a number or a boolean as JSON writes it, None for the rest."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    return text_or_none(value)


def hex_id(value: object) -> str | None:
    """Return an id in lower case; None when empty or all zero, which OTLP defines as absent."""
    text = text_or_none(value)
    return text.lower() if text and text.strip("0") else None


def is_hex(value: str | None, digits: int) -> bool:
    """Tell whether an id is hexadecimal with that many digits (naive exporters write base64)."""
    return value is not None and len(value) == digits and all(c in "0123456789abcdef" for c in value)


def parts(envelope: dict[str, Any], resources: str, scopes: str, leaves: str) -> Iterator[Part]:
    """Yield the spans ("resourceSpans", "scopeSpans", "spans") or log records of one export request.

    What is not of the expected JSON type is passed over: an empty list has no records.
    """
    for group in items(envelope.get(resources)):
        resource = unpack(mapping(mapping(group).get("resource")).get("attributes"))
        for scope in items(mapping(group).get(scopes)):
            for leaf in items(mapping(scope).get(leaves)):
                body = mapping(leaf)
                yield Part(body, unpack(body.get("attributes")), resource)


def unpack(pairs: object) -> dict[str, Any]:
    """Turn a list of {key, value} into a dict; of a key that comes twice the last counts."""
    found: dict[str, Any] = {}
    for each in items(pairs):
        pair = mapping(each)
        key = pair.get("key")
        if isinstance(key, str) and key:
            found[key] = _value(mapping(pair.get("value")))
    return found


def _value(wrapped: dict[str, Any]) -> Any:
    if "stringValue" in wrapped:  # nearly all of them
        return wrapped["stringValue"]
    kind, content = next(iter(wrapped.items()), ("", None))
    match kind:
        case "intValue":
            return whole_or_none(content)
        case "arrayValue":
            return [_value(mapping(each)) for each in items(mapping(content).get("values"))]
        case "kvlistValue":
            return unpack(mapping(content).get("values"))
        case _:
            return content


def micros(body: dict[str, Any], *names: str) -> int | None:
    """Return the first of these UnixNano fields that is set, in whole microseconds; 0 means unknown in OTLP."""
    nanos = next((n for name in names if (n := whole_or_none(body.get(name)))), None)
    return None if nanos is None else nanos // 1000


def timestamp(body: dict[str, Any], *names: str) -> str | None:
    """Return the first of these UnixNano fields as RFC 3339 text; raises ValueError when no calendar has it."""
    at = micros(body, *names)
    return None if at is None else rfc3339(at)


def milliseconds(body: dict[str, Any]) -> float | None:
    """Return the duration of a span in milliseconds; None when an end is missing or before the start."""
    start = whole_or_none(body.get("startTimeUnixNano"))
    end = whole_or_none(body.get("endTimeUnixNano"))
    return (end - start) / 1e6 if start and end and end >= start else None


def failed(body: dict[str, Any]) -> bool:
    """Tell whether the status of a span is an error."""
    return mapping(body.get("status")).get("code") in ERROR_CODES
