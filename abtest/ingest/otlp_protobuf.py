"""OTLP as protobuf bytes into OTLP/JSON texts, which the OpenTelemetry reader takes.

The mapping is the official one of OTLP (hexadecimal trace and span ids, enums as numbers, 64-bit integers as strings),
not protobuf's own JSON. Understood are one export request (what `/v1/traces` receives), requests with four big-endian
bytes of length in front (the Collector's file exporter, `format: proto`; with `compression: zstd` it packs each request
alone), and requests with a varint in front (the file exporter of the OTLP specification).
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

LENGTH = 4
MESSAGE_LIMIT = 64 * 1024 * 1024
"""A request that unpacks to more is none."""

ZSTD = b"\x28\xb5\x2f\xfd"
KINDS = ("traces", "logs", "metrics")

_IDS = ("trace_id", "span_id", "parent_span_id")
_SIZES = {"trace_id": (16,), "span_id": (8,), "parent_span_id": (0, 8)}


def to_json_texts(data: bytes) -> list[bytes] | None:
    """Return one OTLP/JSON text for each export request in `data`; None when the bytes are no such payload.

    The three kinds of request look alike on the wire, so the kind is told by which reading gives sane records: ids of
    16 and 8 bytes and a start time for spans, a time for log records, a name and data points for metrics. A sequence
    is taken whole or not at all: one that is cut off in the middle of a request is no payload.
    """
    if not data:
        return None
    for frames in ([data], _fixed(data), _varint(data)):
        texts = [text for frame in frames if (text := _text(frame)) is not None] if frames else []
        if texts and len(texts) == len(frames or ()):
            return texts
    return None


def _fixed(data: bytes) -> list[bytes] | None:
    """Split at four-byte big-endian lengths; None when they do not end where the data does."""
    frames: list[bytes] = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + LENGTH], "big")
        at += LENGTH + size
        if not size or at > len(data):
            return None
        frames.append(data[at - size : at])
    return frames


def _varint(data: bytes) -> list[bytes] | None:
    """Split at varint lengths; None when they do not end where the data does."""
    frames: list[bytes] = []
    at = 0
    while at < len(data):
        size = shift = 0
        while True:
            if at >= len(data) or shift > 28:
                return None
            byte = data[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        at += size
        if not size or at > len(data):
            return None
        frames.append(data[at - size : at])
    return frames


def _text(frame: bytes) -> bytes | None:
    """Return one request as OTLP/JSON; one that is JSON already (`format: json` with compression) as it is."""
    if frame.startswith(ZSTD):
        frame = _unpacked(frame)
    if frame[:1] == b"{":
        return frame if _is_json(frame) else None
    for kind in KINDS:
        message = _parse(kind, frame)
        if message is not None:
            return json.dumps(_CONVERT[kind](message), ensure_ascii=False, separators=(",", ":")).encode()
    return None


def _unpacked(frame: bytes) -> bytes:
    """Return the content of a zstd frame; nothing when it is damaged or too large."""
    import zstandard

    try:
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=MESSAGE_LIMIT)
    except zstandard.ZstdError:
        return b""


def _is_json(frame: bytes) -> bool:
    try:
        return isinstance(json.loads(frame), dict)
    except (ValueError, RecursionError):
        return False


@cache
def _request_class(kind: str) -> Any:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    classes: dict[str, Any] = {
        "traces": ExportTraceServiceRequest,
        "logs": ExportLogsServiceRequest,
        "metrics": ExportMetricsServiceRequest,
    }
    return classes[kind]


def _parse(kind: str, frame: bytes) -> Any:
    """Return the request when the bytes read as one of this kind give sane records, else None.

    Half of them is enough: of another kind hardly one is, and a broken span among good ones is for the reader to reject.
    """
    from google.protobuf.message import DecodeError

    request = _request_class(kind)()
    try:
        request.ParseFromString(frame)
    except (DecodeError, RuntimeError, ValueError):
        return None
    groups = getattr(request, f"resource_{_WORDS[kind][0]}")
    leaves = [leaf for group in groups for leaf in _leaves(kind, group)]
    if not leaves:  # a resource without any record: all kinds agree, and all have nothing to tell
        return request if any(group.resource.attributes for group in groups) else None
    return request if 2 * sum(map(_SANE[kind], leaves)) >= len(leaves) else None


_WORDS = {"traces": ("spans", "spans"), "logs": ("logs", "log_records"), "metrics": ("metrics", "metrics")}
"""Kind: the word in the names of its two lists, and the name of its list of records."""


def _leaves(kind: str, group: Any) -> Iterator[Any]:
    word, records = _WORDS[kind]
    for scope in getattr(group, f"scope_{word}"):
        yield from getattr(scope, records)


def _is_span(span: Any) -> bool:
    sizes = all(len(getattr(span, name)) in allowed for name, allowed in _SIZES.items())
    return sizes and span.start_time_unix_nano > 0


def _is_log(log: Any) -> bool:
    sizes = len(log.trace_id) in (0, 16) and len(log.span_id) in (0, 8)
    return sizes and (log.time_unix_nano > 0 or log.observed_time_unix_nano > 0)


def _is_metric(metric: Any) -> bool:
    return bool(metric.name) and metric.WhichOneof("data") is not None


_SANE: dict[str, Callable[[Any], bool]] = {"traces": _is_span, "logs": _is_log, "metrics": _is_metric}


def _traces(request: Any) -> dict[str, Any]:
    return {
        "resourceSpans": [_group(group, "scopeSpans", group.scope_spans, _span) for group in request.resource_spans]
    }


def _logs(request: Any) -> dict[str, Any]:
    return {"resourceLogs": [_group(group, "scopeLogs", group.scope_logs, _log) for group in request.resource_logs]}


def _metrics(request: Any) -> dict[str, Any]:
    """Metrics hold many kinds of points and are only counted: protobuf's own converter, with the ids of exemplars."""
    from google.protobuf.json_format import MessageToDict

    return _with_hex_ids(MessageToDict(request, use_integers_for_enums=True))


def _with_hex_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_hex_ids(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for key, each in value.items():  # pyright: ignore[reportUnknownVariableType]
        is_id = key in ("traceId", "spanId") and isinstance(each, str)
        found[str(key)] = base64.b64decode(each).hex() if is_id else _with_hex_ids(each)  # pyright: ignore[reportUnknownArgumentType]
    return found


_CONVERT: dict[str, Callable[[Any], dict[str, Any]]] = {"traces": _traces, "logs": _logs, "metrics": _metrics}


def _group(group: Any, name: str, scopes: Any, leaf: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {"resource": {"attributes": _pairs(group.resource.attributes)}, name: []}
    _set(found, "schemaUrl", group.schema_url)
    for scope in scopes:
        about: dict[str, Any] = {}
        _set(about, "name", scope.scope.name)
        _set(about, "version", scope.scope.version)
        _set(about, "attributes", _pairs(scope.scope.attributes))
        records = scope.spans if name == "scopeSpans" else scope.log_records
        part = {"scope": about, "spans" if name == "scopeSpans" else "logRecords": [leaf(each) for each in records]}
        _set(part, "schemaUrl", scope.schema_url)
        found[name].append(part)
    return found


def _span(span: Any) -> dict[str, Any]:
    found = _ids(span)
    for key, value in (("traceState", span.trace_state), ("flags", span.flags), ("name", span.name)):
        _set(found, key, value)
    _set(found, "kind", int(span.kind))
    found["startTimeUnixNano"] = str(span.start_time_unix_nano)
    found["endTimeUnixNano"] = str(span.end_time_unix_nano)
    _set(found, "attributes", _pairs(span.attributes))
    _set(found, "events", [_event(event) for event in span.events])
    _set(found, "links", [_link(link) for link in span.links])
    found["status"] = {}
    _set(found["status"], "message", span.status.message)
    _set(found["status"], "code", int(span.status.code))
    for name in ("attributes", "events", "links"):
        _set(found, f"dropped{name.capitalize()}Count", getattr(span, f"dropped_{name}_count"))
    return found


def _event(event: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"timeUnixNano": str(event.time_unix_nano), "name": event.name}
    _set(found, "attributes", _pairs(event.attributes))
    _set(found, "droppedAttributesCount", event.dropped_attributes_count)
    return found


def _link(link: Any) -> dict[str, Any]:
    found = _ids(link)
    _set(found, "traceState", link.trace_state)
    _set(found, "attributes", _pairs(link.attributes))
    _set(found, "droppedAttributesCount", link.dropped_attributes_count)
    _set(found, "flags", link.flags)
    return found


def _log(log: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in (("timeUnixNano", log.time_unix_nano), ("observedTimeUnixNano", log.observed_time_unix_nano)):
        _set(found, key, str(value) if value else "")
    _set(found, "severityNumber", int(log.severity_number))
    _set(found, "severityText", log.severity_text)
    if log.HasField("body"):
        found["body"] = _value(log.body)
    _set(found, "attributes", _pairs(log.attributes))
    _set(found, "droppedAttributesCount", log.dropped_attributes_count)
    _set(found, "flags", log.flags)
    _set(found, "eventName", log.event_name)
    return {**found, **_ids(log)}


def _set(found: dict[str, Any], key: str, value: Any) -> None:
    """Set a field that is there; protobuf has no other sign of absence than the default."""
    if value:
        found[key] = value


def _ids(message: Any) -> dict[str, Any]:
    words = {"trace_id": "traceId", "span_id": "spanId", "parent_span_id": "parentSpanId"}
    return {words[name]: raw.hex() for name in _IDS if (raw := getattr(message, name, b""))}


def _pairs(pairs: Any) -> list[dict[str, Any]]:
    return [{"key": pair.key, "value": _value(pair.value)} for pair in pairs]


def _value(value: Any) -> dict[str, Any]:
    kind = value.WhichOneof("value")
    match kind:
        case None:
            return {}
        case "string_value":
            return {"stringValue": value.string_value}
        case "int_value":
            return {"intValue": str(value.int_value)}
        case "double_value":
            return {"doubleValue": _double(value.double_value)}
        case "bool_value":
            return {"boolValue": value.bool_value}
        case "bytes_value":
            return {"bytesValue": base64.b64encode(value.bytes_value).decode()}
        case "array_value":
            return {"arrayValue": {"values": [_value(each) for each in value.array_value.values]}}
        case "kvlist_value":
            return {"kvlistValue": {"values": _pairs(value.kvlist_value.values)}}
        case _:
            return {}


def _double(value: float) -> float | str:
    """Return a double as JSON can hold it; the mapping writes the three that it cannot as text."""
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
