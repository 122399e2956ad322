"""OTLP protobuf to OTLP/JSON: against protobuf's own converter, in every framing; what is no such payload is refused."""

from __future__ import annotations

import base64
import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
import zstandard
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from abtest.ingest import Ignored, get
from abtest.ingest.otlp_protobuf import to_json_texts
from abtest.records import Interaction

WIRE = Path(__file__).parent / "fixtures" / "otel_wire"
PAYLOADS = {path.name: path.read_bytes() for path in sorted(WIRE.glob("*.pb"))}
TRACES = PAYLOADS["otel_traces.pb"]
CLASSES = {"logs": ExportLogsServiceRequest, "metrics": ExportMetricsServiceRequest}


def one(data: bytes) -> dict[str, Any]:
    """Return the one OTLP/JSON text of a payload, parsed."""
    texts = to_json_texts(data)
    assert texts is not None
    (text,) = texts
    assert b"\n" not in text
    return json.loads(text)


def official(name: str) -> Any:
    """Return the request by protobuf's own JSON converter, with ids as OTLP/JSON writes them."""
    request = next((kind for word, kind in CLASSES.items() if word in name), ExportTraceServiceRequest)()
    request.ParseFromString(PAYLOADS[name])
    return tidy(MessageToDict(request, use_integers_for_enums=True))


def tidy(value: Any) -> Any:
    """Turn base64 ids into hexadecimal, and drop what is empty: both writers may leave out defaults."""
    if isinstance(value, list):
        return [tidy(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, each in value.items():
        if key in ("traceId", "spanId", "parentSpanId") and len(each) in (12, 24):
            found[key] = base64.b64decode(each).hex()
        elif (kept := tidy(each)) not in ({}, [], "") or key == "stringValue":
            found[key] = kept
    return found


@pytest.mark.parametrize("name", PAYLOADS)
def test_the_text_is_what_the_official_classes_say(name: str) -> None:
    assert tidy(one(PAYLOADS[name])) == official(name)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("otel_traces.pb", "resourceSpans"),
        ("otel_logs.pb", "resourceLogs"),
        ("otel_metrics.pb", "resourceMetrics"),
        ("langfuse_traces.pb", "resourceSpans"),
        ("openinference.pb", "resourceSpans"),
    ],
)
def test_the_kind_of_request_is_told_by_its_records(name: str, key: str) -> None:
    assert list(one(PAYLOADS[name])) == [key]


def test_the_reader_takes_the_texts() -> None:
    calls = 0
    for name, data in PAYLOADS.items():
        items = [item for text in to_json_texts(data) or [] for item in get("otel").read(text, 1, 0)]
        calls += sum(isinstance(item, Interaction) for item in items)
        if "metrics" in name:
            assert items == [Ignored()]
    assert calls >= 60


def varint(size: int) -> bytes:
    found = b""
    while size > 0x7F:
        found += bytes([size & 0x7F | 0x80])
        size >>= 7
    return found + bytes([size])


FRAMINGS = {
    "big-endian length": lambda data: struct.pack(">I", len(data)) + data,
    "varint length": lambda data: varint(len(data)) + data,
    "big-endian length, zstd": lambda data: FRAMINGS["big-endian length"](zstandard.compress(data)),
}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("count", [1, 2, 6])
def test_sequences(framing: str, count: int) -> None:
    chosen = list(PAYLOADS.values())[:count]
    texts = to_json_texts(b"".join(map(FRAMINGS[framing], chosen)))
    assert texts == [text for data in chosen for text in to_json_texts(data) or []]
    assert len(texts) == count


def test_requests_one_after_the_other_are_one_request() -> None:
    """Protobuf merges: repeated fields are appended. Nothing is lost without any framing."""
    twice = one(TRACES + PAYLOADS["langfuse_traces.pb"])
    assert len(twice["resourceSpans"]) == 2


def test_packed_json_of_the_collector_is_passed_on() -> None:
    text = b'{"resourceSpans": []}'
    assert to_json_texts(FRAMINGS["big-endian length, zstd"](text)) == [text]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x00" * 100,
        b"hello world",
        b'{"resourceSpans": [}',
        b"PAR1" + bytes(range(256)),
        bytes(range(256)) * 20,
        b"\x0a\x00",
        struct.pack(">I", 5) + b"hello",
        FRAMINGS["big-endian length"](TRACES)[:-1],
        FRAMINGS["big-endian length"](TRACES) + b"\x00",
        FRAMINGS["varint length"](TRACES)[:-1],
        TRACES[:-1],
        b"\x28\xb5\x2f\xfd" + b"\x00" * 50,
        b"\xff" * 50,
    ],
    ids=lambda data: repr(data[:10]),
)
def test_what_is_no_payload(data: bytes) -> None:
    assert to_json_texts(data) is None


def test_a_resource_without_records_is_a_request() -> None:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().resource.attributes.add(key="service.name").value.string_value = "bot"
    assert list(one(request.SerializeToString())) == ["resourceSpans"]


def test_one_broken_span_does_not_hide_the_others() -> None:
    request = ExportTraceServiceRequest()
    request.ParseFromString(TRACES)
    request.resource_spans[0].scope_spans[0].spans[0].trace_id = b"short"
    items = get("otel").read(to_json_texts(request.SerializeToString())[0], 1, 0)
    whole = get("otel").read(to_json_texts(TRACES)[0], 1, 0)
    assert [type(item).__name__ for item in items].count("Reject") == 1
    assert len(items) == len(whole)


def test_every_kind_of_value() -> None:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.start_time_unix_nano = b"\x01" * 16, b"\x02" * 8, 2**63
    nested = AnyValue()
    nested.kvlist_value.values.append(KeyValue(key="k", value=AnyValue(int_value=-(2**63))))
    values = {
        "text": AnyValue(string_value='a"\n\u2028é'),
        "empty": AnyValue(string_value=""),
        "true": AnyValue(bool_value=True),
        "double": AnyValue(double_value=0.1),
        "nan": AnyValue(double_value=math.nan),
        "inf": AnyValue(double_value=-math.inf),
        "bytes": AnyValue(bytes_value=b"\xff\x00"),
        "nested": nested,
        "unset": AnyValue(),
    }
    for key, value in values.items():
        span.attributes.append(KeyValue(key=key, value=value))
    found = one(request.SerializeToString())["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert found["startTimeUnixNano"] == str(2**63)
    assert {pair["key"]: pair["value"] for pair in found["attributes"]} == {
        "text": {"stringValue": 'a"\n\u2028é'},
        "empty": {"stringValue": ""},
        "true": {"boolValue": True},
        "double": {"doubleValue": 0.1},
        "nan": {"doubleValue": "NaN"},
        "inf": {"doubleValue": "-Infinity"},
        "bytes": {"bytesValue": "/wA="},
        "nested": {"kvlistValue": {"values": [{"key": "k", "value": {"intValue": str(-(2**63))}}]}},
        "unset": {},
    }


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_bytes_never_raise(data: st.DataObject) -> None:
    payload = bytearray(data.draw(st.sampled_from(list(PAYLOADS.values()))))
    for _ in range(data.draw(st.integers(1, 5))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))
    for text in to_json_texts(bytes(payload[:cut])) or []:
        for item in get("otel").read(text, 1, 0):
            assert item is not None


@given(st.binary(max_size=300))
def test_random_bytes_never_raise(data: bytes) -> None:
    texts = to_json_texts(data)
    assert texts is None or all(isinstance(json.loads(text), dict) for text in texts)
