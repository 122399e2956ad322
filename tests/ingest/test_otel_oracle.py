"""Every record of every OpenTelemetry fixture, against values taken out of the official protobuf classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import otel_oracle
import pytest

from abtest.ingest import Ignored, get
from abtest.ingest.base import epoch_micros
from abtest.ingest.otlp_protobuf import to_json_texts
from abtest.records import Assignment, Interaction, Score

FIXTURES = Path(__file__).parent / "fixtures"
TRACES = [
    *sorted((FIXTURES / "otel").glob("*traces.jsonl")),
    FIXTURES / "openinference/base64-ids.jsonl",
    FIXTURES / "openinference/langchain-and-openai.jsonl",
    *sorted((FIXTURES / "otel_wire").glob("*traces.*")),
    FIXTURES / "otel_wire/langfuse_cases.pb",
    FIXTURES / "otel_wire/openinference.pb",
]
LOGS = [
    *sorted((FIXTURES / "otel").glob("*logs.jsonl")),
    *sorted((FIXTURES / "otel_wire").glob("*-logs.jsonl")),
    FIXTURES / "otel_wire/otel_logs.pb",
]


def read(path: Path) -> list[Any]:
    texts = to_json_texts(path.read_bytes()) if path.suffix == ".pb" else path.read_bytes().splitlines()
    assert texts
    return [item for number, text in enumerate(texts, 1) for item in get("otel").read(text, number, 0)]


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


@pytest.mark.parametrize("path", TRACES, ids=named)
def test_every_model_call(path: Path) -> None:
    expected = {call["interaction_id"]: call for call in otel_oracle.calls(path)}
    found = {item.interaction_id: item for item in read(path) if isinstance(item, Interaction)}
    echoes = {key for key in expected if key not in found}
    assert found.keys() <= expected.keys()
    assert echoes == _echoes(path)
    assert len(found) >= 5
    for key, item in found.items():
        call = expected[key]
        assert epoch_micros(item.ts) == call.pop("ts_us")
        assert item.latency_ms == pytest.approx(call.pop("latency_ms"), abs=1e-9)
        assert item.cost_usd == pytest.approx(call.pop("cost_usd", item.cost_usd))
        values = item.model_dump()
        assert {name: values[name] for name in call} == call, key


def _echoes(path: Path) -> set[str]:
    """The Anthropic SDK's own spans of calls that OpenInference logs too, and spans right below a model call."""
    found = [span for request in otel_oracle.requests(path) for span in otel_oracle.spans(request)]
    calls = {span.span_id for span, own, _ in found if own.get("openinference.span.kind") == "LLM"}
    traces = {span.trace_id for span, own, _ in found if own.get("llm.provider") == "anthropic"}
    return {
        f"{span.trace_id.hex()}:{span.span_id.hex()}"
        for span, own, _ in found
        if (span.parent_span_id in calls or span.trace_id in traces) and "gen_ai.request.model" in own
    }


@pytest.mark.parametrize("path", TRACES, ids=named)
def test_every_other_span_is_counted(path: Path) -> None:
    spans = sum(1 for request in otel_oracle.requests(path) for _ in otel_oracle.spans(request))
    items = read(path)
    ignored = sum(item.count for item in items if isinstance(item, Ignored))
    assert sum(isinstance(item, Interaction) for item in items) + ignored == spans
    assert all(isinstance(item, (Interaction, Score, Ignored)) for item in items)


@pytest.mark.parametrize("path", LOGS, ids=named)
def test_every_log_record(path: Path) -> None:
    items = read(path)
    records = [pair for request in otel_oracle.requests(path) for pair in otel_oracle.logs(request)]
    assert len(items) == len(records) >= 5
    for item, (record, own) in zip(items, records, strict=True):
        at = (record.time_unix_nano or record.observed_time_unix_nano) // 1000
        match record.event_name:
            case "feature_flag.evaluation":
                assert isinstance(item, Assignment)
                assert epoch_micros(item.ts) == at
                assert (item.experiment_id, item.variant) == (
                    own["feature_flag.key"],
                    own["feature_flag.result.variant"],
                )
                assert (item.unit_id, item.reason) == (
                    own["feature_flag.context.id"],
                    own["feature_flag.result.reason"],
                )
                assert item.ruleset_version == own["feature_flag.version"]
            case "gen_ai.evaluation.result":
                assert isinstance(item, Score)
                assert epoch_micros(item.ts) == at
                assert (item.trace_id, item.span_id) == (record.trace_id.hex(), record.span_id.hex())
                assert (item.name, item.value) == (own["gen_ai.evaluation.name"], own["gen_ai.evaluation.score.value"])
                assert item.provider_response_id == own["gen_ai.response.id"]
                assert item.label == own.get("gen_ai.evaluation.score.label")
            case _:
                assert item == Ignored()


def test_events_on_spans_are_scores() -> None:
    path = FIXTURES / "otel_wire/span-only-traces.jsonl"
    events = [
        (span, {pair.key: otel_oracle.plain(pair.value) for pair in event.attributes})
        for request in otel_oracle.requests(path)
        for span, _, _ in otel_oracle.spans(request)
        for event in span.events
        if event.name == "gen_ai.evaluation.result"
    ]
    scores = [item for item in read(path) if isinstance(item, Score)]
    assert len(events) == 15
    assert [(s.span_id, s.name, s.value) for s in scores] == [
        (span.span_id.hex(), own["gen_ai.evaluation.name"], own["gen_ai.evaluation.score.value"])
        for span, own in events
    ]
