"""What the SDK's console exporters write, against the same run's OTLP file; cut out of the file by the real reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from otel_build import SPAN as SPAN_ID
from otel_build import TRACE

from abtest.ingest import Ignored, Reject, detect, get
from abtest.ingest.elements import ElementReader
from abtest.records import Assignment, Interaction, Score
from abtest.store.load import load

FIXTURES = Path(__file__).parent / "fixtures"
OTEL = get("otel")


def console(name: str) -> list[Any]:
    """Read a console file as it is: pretty-printed objects one after the other, no array around them."""
    reader = ElementReader([(FIXTURES / "otel_wire" / name).read_bytes()], limit=1 << 20)
    texts = [element.replace(b"\n", b" ") for element in reader]
    assert len(texts) > 1 or "metrics" in name
    assert OTEL.sniff([json.loads(text) for text in texts]) == 0.9
    return [item for number, text in enumerate(texts, 1) for item in OTEL.read(text, number, 0)]


def otlp(name: str) -> list[Any]:
    lines = (FIXTURES / "otel_wire" / name).read_bytes().splitlines()
    return [item for number, line in enumerate(lines, 1) for item in OTEL.read(line, number, 0)]


def test_spans_tell_the_same_as_in_otlp() -> None:
    ours = {item.interaction_id: item for item in console("console_spans.json") if isinstance(item, Interaction)}
    theirs = {item.interaction_id: item for item in otlp("span-only-traces.jsonl") if isinstance(item, Interaction)}
    assert ours.keys() == theirs.keys()
    assert len(ours) == 18
    for key, call in ours.items():
        other = theirs[key]
        apart = {"ts", "latency_ms", "session_id"}  # the session is on the span above: another object here
        assert call.model_dump(exclude=apart) == other.model_dump(exclude=apart)
        assert abs((call.ts - other.ts).total_seconds()) <= 1e-6
        assert call.latency_ms == pytest.approx(other.latency_ms, abs=0.003)


def test_events_on_console_spans() -> None:
    scores = [item for item in console("console_spans.json") if isinstance(item, Score)]
    assert len(scores) == 15
    assert {(score.name, score.value, score.scorer_kind) for score in scores} == {("on_span", 1.0, "judge")}


def test_log_records() -> None:
    items = console("console_logs.json")
    assigned = [item for item in items if isinstance(item, Assignment)]
    scores = [item for item in items if isinstance(item, Score)]
    assert len(assigned) == 19
    assert [each.unit_id for each in assigned] == [f"u{n}" for n in range(19)]
    assert {each.reason for each in assigned} == {"split"}
    assert len(scores) == 9
    assert all(score.trace_id and score.span_id and score.provider_response_id for score in scores)
    assert len(items) == 28


def test_metrics_are_ignored() -> None:
    assert console("console_metrics.json") == [Ignored()]


SPAN: dict[str, Any] = {
    "name": "chat",
    "context": {"trace_id": "0x" + "a" * 32, "span_id": "0x" + "1" * 16, "trace_state": "[]"},
    "kind": "SpanKind.CLIENT",
    "parent_id": None,
    "start_time": "2026-11-23T01:56:16.038258Z",
    "end_time": "2026-11-23T01:56:16.087610Z",
    "status": {"status_code": "UNSET"},
    "attributes": {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"},
    "events": [],
    "links": [],
    "resource": {"attributes": {"service.name": "bot"}, "schema_url": ""},
}


def read(body: dict[str, Any]) -> Any:
    (item,) = OTEL.read(json.dumps(body).encode(), 1, 0)
    return item


def test_the_resource_of_older_sdks() -> None:
    assert read(SPAN).surface == "bot"
    assert read({**SPAN, "resource": {"service.name": "old"}}).surface == "old"
    assert read({**SPAN, "resource": None}).surface is None


def test_a_span_outside_of_a_trace() -> None:
    item = read({**SPAN, "context": {"trace_id": "0x" + "0" * 32, "span_id": "0x1"}})
    assert isinstance(item, Reject)
    assert item.reason.startswith("bad_value: traceId")


@pytest.mark.parametrize("key", list(SPAN))
@pytest.mark.parametrize("value", [None, 1, "x", [], {}, [1], {"trace_id": 3}])
def test_wrong_types_never_raise(key: str, value: Any) -> None:
    for item in OTEL.read(json.dumps({**SPAN, key: value}).encode(), 1, 0):
        assert isinstance(item, (Interaction, Reject, Ignored))


def test_a_time_without_a_zone_is_utc() -> None:
    assert read({**SPAN, "start_time": "2026-11-23 01:56:16.038258"}).ts == read(SPAN).ts


def test_an_object_that_only_looks_like_it() -> None:
    assert OTEL.sniff([{"name": "x", "context": "y", "start_time": "z"}]) == 0.0
    assert read({"name": "x", "start_time": "z"}).code == "not_otlp"


def test_a_span_as_phoenix_exports_it() -> None:
    """Written by hand from the types of arize-phoenix-client 3.5: kind and status beside the attributes."""
    body = {
        "id": "U3BhbjoxMg==",
        "name": "ChatCompletion",
        "context": {"trace_id": TRACE, "span_id": SPAN_ID},
        "span_kind": "LLM",
        "start_time": "2026-11-23T01:56:16.038258+00:00",
        "end_time": "2026-11-23T01:56:16.138258+00:00",
        "status_code": "ERROR",
        "status_message": "RateLimitError: Error code: 429 - slow",
        "attributes": {"llm.model_name": "gpt-4o", "user.id": "u"},
        "events": [],
    }
    assert detect([body], file="spans.jsonl") is get("openinference")
    (call,) = get("openinference").read(json.dumps(body).encode(), 1, 0)
    assert (call.interaction_id, call.model, call.unit_id) == (f"{TRACE}:{SPAN_ID}", "gpt-4o", "u")
    assert (call.is_error, call.http_status, call.error_type, call.latency_ms) == (True, 429, "RateLimitError", 100.0)


def test_files_as_the_exporters_leave_them_load(con: duckdb.DuckDBPyConnection) -> None:
    """Pretty-printed objects one after the other, and protobuf: through the containers into the store, once."""
    files = [
        FIXTURES / "otel_wire" / name for name in ("console_spans.json", "console_logs.json", "console_metrics.json")
    ]
    first = load(con, files)
    assert (first.quarantined, first.failed_files) == (0, ())
    assert first.by_table == {"interaction": 18, "assignment": 19, "score": 24}
    assert load(con, files).skipped_files == 3
    wire = load(con, [FIXTURES / "otel_wire" / "langfuse_traces.pb", FIXTURES / "otel_wire" / "openinference.pb"])
    assert (wire.quarantined, wire.failed_files) == (0, ())
    assert wire.by_table["interaction"] == 6 + 27
