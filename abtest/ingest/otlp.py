"""The OTLP/JSON envelope (opentelemetry-proto, JSON mapping): lists of key and value into plain dicts.

Any format that travels in OTLP reads it through this module. Unknown fields are tolerated, 64-bit integers may be
strings or numbers, as the specification demands of receivers. What naive exporters write (`MessageToJson` of protobuf)
is read on purpose: base64 instead of hexadecimal ids, names instead of numbers of enums, snake_case keys.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from abtest.ingest.base import items, mapping, rfc3339, text_or_none, whole_or_none

ERROR_CODES = (2, "2", "STATUS_CODE_ERROR", "ERROR")
TRACE_ID_BYTES, SPAN_ID_BYTES = 16, 8
ID_CHARS = 64
"""Longer text is no id, and is not remembered."""

LISTS = {
    "resourceSpans": ("scopeSpans", "spans"),
    "resourceLogs": ("scopeLogs", "logRecords"),
    "resourceMetrics": ("scopeMetrics", "metrics"),
}
"""Key of an export request: the keys of the two lists inside it."""

_HEX = re.compile(r"[0-9a-f]+")
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True, slots=True)
class Part:
    """A span or a log record with its attributes and those of its resource, unpacked.

    Attributes:
        body: The JSON object as it stands in the file.
        attributes: Its own attributes.
        resource: The attributes of its resource.
        facts: The attributes that have a value, with what was read out of those that hold JSON; names of facts have a
            colon, like "meta:variant". None until somebody looked.
    """

    body: dict[str, Any]
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    resource: dict[str, Any] = field(default_factory=dict[str, Any])
    facts: dict[str, Any] | None = None

    @property
    def trace_id(self) -> str | None:
        """The trace id in lower-case hexadecimal, None when absent."""
        return hex_id(self.body.get("traceId"), TRACE_ID_BYTES)

    @property
    def span_id(self) -> str | None:
        """The span id in lower-case hexadecimal, None when absent."""
        return hex_id(self.body.get("spanId"), SPAN_ID_BYTES)

    @property
    def parent_id(self) -> str | None:
        """The span id of the parent, None for a root."""
        return hex_id(self.body.get("parentSpanId"), SPAN_ID_BYTES)

    def first(self, *names: str) -> Any:
        """Return the first attribute or fact of these names that has a value; empty text counts as none."""
        known = self.attributes if self.facts is None else self.facts
        for name in names:
            value = known.get(name)
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


def hex_id(value: object, size: int) -> str | None:
    """Return an id of `size` bytes in lower-case hexadecimal; None when empty or all zero (OTLP: absent).

    A leading 0x (console exporters) and base64 (`MessageToJson`) are understood. The two cannot be mixed up: base64 of
    16 and 8 bytes has 22 to 24 and 11 or 12 characters. Anything else is returned as it is, for the check to refuse.
    """
    text = text_or_none(value)
    if text is None:
        return None
    return _hex_id(text, size) if len(text) <= ID_CHARS else text.lower()


@lru_cache(maxsize=4096)
def _hex_id(text: str, size: int) -> str | None:
    found = text.lower().removeprefix("0x")
    if not is_hex(found, 2 * size):
        found = _from_base64(text, size) or text.lower()
    return found if found.strip("0") else None


def _from_base64(text: str, size: int) -> str | None:
    body = text.rstrip("=")
    if len(body) != math.ceil(size * 4 / 3):
        return None
    try:
        raw = base64.b64decode(body.translate(str.maketrans("-_", "+/")) + "=" * (-len(body) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw.hex() if len(raw) == size else None


def is_hex(value: str | None, digits: int) -> bool:
    """Tell whether an id is hexadecimal with that many digits."""
    return value is not None and len(value) == digits and _HEX.fullmatch(value) is not None


def envelope(value: dict[str, Any]) -> dict[str, Any]:
    """Return an export request in the official spelling; what is none is returned as it is.

    Undone here: snake_case keys, and one resource's group without the list around it (Java's logging exporters).
    """
    if any(key in value for key in ("resource_spans", "resource_logs", "scope_spans", "scope_logs")):
        value = _camel(value)
    for outer, (inner, _) in LISTS.items():
        if inner in value and outer not in value:
            return {outer: [value]}
    return value


def _camel(value: Any) -> Any:
    """Rename the keys of the envelope; names of attributes are values in OTLP and stay."""
    if isinstance(value, list):
        return [_camel(each) for each in items(value)]
    if not isinstance(value, dict):
        return value
    return {_camel_key(key): _camel(each) for key, each in mapping(value).items()}


def _camel_key(key: str) -> str:
    head, *rest = key.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest)


def parts(request: dict[str, Any], resources: str) -> Iterator[Part]:
    """Yield the spans ("resourceSpans") or log records ("resourceLogs") of one export request.

    What is not of the expected JSON type is passed over: an empty list has no records.
    """
    scopes, leaves = LISTS[resources]
    for group in items(request.get(resources)):
        resource = unpack(mapping(mapping(group).get("resource")).get("attributes"))
        for scope in items(mapping(group).get(scopes)):
            for leaf in items(mapping(scope).get(leaves)):
                body = mapping(leaf)
                yield Part(body, unpack(body.get("attributes")), resource)


def unpack(pairs: object) -> dict[str, Any]:
    """Turn a list of {key, value} into a dict; of a key that comes twice the last counts. A dict is returned as is."""
    if isinstance(pairs, dict):
        return mapping(pairs)  # pyright: ignore[reportUnknownArgumentType]
    found: dict[str, Any] = {}
    for each in items(pairs):
        pair = mapping(each)
        key = pair.get("key")
        if isinstance(key, str) and key:
            found[key] = any_value(mapping(pair.get("value")))
    return found


def any_value(wrapped: dict[str, Any]) -> Any:
    """Return the content of an AnyValue."""
    if "stringValue" in wrapped:  # nearly all of them
        return wrapped["stringValue"]
    kind, content = next(iter(wrapped.items()), ("", None))
    match kind:
        case "intValue":
            whole = whole_or_none(content)
            return content if whole is None else whole  # what is no integer is for validation to refuse
        case "doubleValue":
            return _NOT_FINITE.get(content, content) if isinstance(content, str) else content
        case "arrayValue":
            return [any_value(mapping(each)) for each in items(mapping(content).get("values"))]
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
    return elapsed(body.get("startTimeUnixNano"), body.get("endTimeUnixNano"))


def elapsed(first: object, last: object, *, per: int = 1_000_000) -> float | None:
    """Return the milliseconds between two times; None when one is missing or they run backwards.

    Args:
        first: The earlier one, counted from 1970.
        last: The later one.
        per: Counts in a millisecond: a million for UnixNano.
    """
    start, end = whole_or_none(first), whole_or_none(last)
    if not start or not end or end < start:
        return None
    try:
        return (end - start) / per
    except OverflowError:
        return None


def failed(body: dict[str, Any]) -> bool:
    """Tell whether the status of a span is an error."""
    code = mapping(body.get("status")).get("code")
    return isinstance(code, (int, str)) and code in ERROR_CODES
