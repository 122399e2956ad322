"""OTLP/JSON GenAI spans and events: genuine SDK output, and the old names by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from abtest.ingest import Ignored, Reject, get
from abtest.records import Assignment, Interaction, Score

OTEL = get("otel")
FIXTURES = Path(__file__).parent / "fixtures" / "otel"
START = 1_795_398_821_616_993_539


def read_file(name: str) -> list[Any]:
    return [
        item
        for number, line in enumerate((FIXTURES / name).read_bytes().splitlines(), 1)
        for item in OTEL.read(line, number, 0)
    ]


def value(content: Any) -> dict[str, Any]:
    match content:
        case bool():
            return {"boolValue": content}
        case int():
            return {"intValue": str(content)}
        case float():
            return {"doubleValue": content}
        case list():
            return {"arrayValue": {"values": [value(each) for each in content]}}
        case _:
            return {"stringValue": content}


def pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value(content)} for key, content in attributes.items()]


def span(attributes: dict[str, Any], *, span_id: str = "1" * 16, **body: Any) -> dict[str, Any]:
    return {
        "traceId": "a" * 32,
        "spanId": span_id,
        "startTimeUnixNano": str(START),
        "endTimeUnixNano": str(START + 250_000_000),
        "attributes": pairs(attributes),
        "status": {},
        **body,
    }


def read_spans(*spans: Any, resource: dict[str, Any] | None = None) -> list[Any]:
    group = {"resource": {"attributes": pairs(resource or {})}, "scopeSpans": [{"spans": list(spans)}]}
    return list(OTEL.read(json.dumps({"resourceSpans": [group]}).encode(), 5, 50))


def read_log(event: str, attributes: dict[str, Any], **body: Any) -> Any:
    record = {"timeUnixNano": str(START), "attributes": pairs(attributes), "eventName": event, **body}
    line = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]})
    (item,) = OTEL.read(line.encode(), 5, 50)
    return item


CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}


@pytest.mark.parametrize("era", ["latest", "legacy"])
def test_genuine_spans(era: str) -> None:
    items = read_file(f"{era}-traces.jsonl")
    calls = [item for item in items if isinstance(item, Interaction)]
    assert len(items) == 11
    assert len(calls) == 6
    assert [call.operation for call in calls] == ["chat"] * 5 + ["embeddings"]
    assert [call.unit_id for call in calls] == ["u1", "u2", "u3", "u4", "u5", None]
    assert [call.variant for call in calls][:5] == ["control", "treatment", "treatment", "control", "treatment"]
    assert {call.experiment_id for call in calls[:5]} == {"support_prompt_v7"}
    assert [call.prompt_version for call in calls][:5] == ["v6", "v7", "v7", "v6", "v7"]
    assert [call.is_error for call in calls] == [False, False, False, True, False, False]
    assert {call.surface for call in calls} == {"support-bot"}
    assert {call.environment for call in calls} == {"prod"}
    assert {call.provider for call in calls} == {"openai"}
    assert all(call.cost_usd is None and call.refused is None and call.format_ok is None for call in calls)
    assert all(call.interaction_id == f"{call.trace_id}:{call.span_id}" for call in calls)


def test_genuine_span_in_full() -> None:
    first = read_file("latest-traces.jsonl")[0]
    assert first.interaction_id == "94d2f856f92f602f923465c053a61a15:800c1a64c5c130f2"
    assert first.ts.isoformat() == "2026-11-23T01:53:41.616993+00:00"
    assert first.latency_ms == pytest.approx((1795398821680621895 - 1795398821616993539) / 1e6, abs=1e-9)
    assert (first.input_tokens, first.output_tokens) == (14, 8)
    assert (first.model, first.model_version) == ("gpt-4o", "gpt-4o-2024-08-06")
    assert first.provider_response_id == "chatcmpl-fake000006"
    assert first.finish_reason == "stop"
    assert first.system_fingerprint == "fp_abc"
    assert first.prompt_text == "You are a support bot.\nWhat is the capital of France?"
    assert first.response_text == "Paris is the capital of France."
    assert first.attributes["service.version"] == "1.4.2"
    assert not any("message" in key for key in first.attributes)


def test_genuine_error_span_has_no_response_id() -> None:
    error = read_file("latest-traces.jsonl")[6]
    assert error.is_error
    assert error.error_type == "<class 'openai.RateLimitError'>"
    assert error.provider_response_id is None
    assert error.output_tokens is None


def test_genuine_streaming_span_takes_the_finish_reason_from_the_answer() -> None:
    assert read_file("latest-traces.jsonl")[8].finish_reason == "stop"
    assert read_file("legacy-traces.jsonl")[8].finish_reason is None


def test_genuine_refusal_cannot_be_told_from_an_answer() -> None:
    refusal = read_file("latest-traces.jsonl")[2]
    assert refusal.refused is None
    assert refusal.response_text == ""


@pytest.mark.parametrize(("era", "ignored"), [("latest", 5), ("legacy", 0)])
def test_genuine_logs(era: str, ignored: int) -> None:
    items = read_file(f"{era}-logs.jsonl")
    assigned = [item for item in items if isinstance(item, Assignment)]
    scores = [item for item in items if isinstance(item, Score)]
    assert (len(assigned), len(scores)) == (5, 4)
    assert sum(item.count for item in items if isinstance(item, Ignored)) == ignored == len(items) - 9
    assert [a.variant for a in assigned] == ["control", "treatment", "treatment", "control", "treatment"]
    assert {(a.experiment_id, a.reason, a.ruleset_version, a.provider) for a in assigned} == {
        ("support_prompt_v7", "split", "12", "flagd")
    }
    assert {(s.name, s.value, s.label, s.scorer_kind) for s in scores} == {("helpfulness", 4.0, "pass", "judge")}
    assert all(s.provider_response_id and s.trace_id and s.span_id and s.explanation for s in scores)
    assert len({s.score_id for s in scores}) == 4


def test_metrics_are_ignored() -> None:
    assert read_file("latest-metrics.jsonl") == [Ignored(), Ignored()]


def test_old_names() -> None:
    (call,) = read_spans(
        span(
            {
                **CHAT,
                "gen_ai.system": "openai",
                "gen_ai.usage.prompt_tokens": 11,
                "gen_ai.usage.completion_tokens": 3,
                "gen_ai.openai.response.system_fingerprint": "fp",
                "gen_ai.prompt.version": 7,
                "feature_flag.key": "exp",
                "feature_flag.variant": "b",
                "enduser.id": "u",
            }
        ),
        resource={"deployment.environment": "staging", "service.name": "bot"},
    )
    assert (call.provider, call.input_tokens, call.output_tokens) == ("openai", 11, 3)
    assert (call.system_fingerprint, call.prompt_version) == ("fp", "7")
    assert (call.experiment_id, call.variant, call.unit_id) == ("exp", "b", "u")
    assert (call.environment, call.surface) == ("staging", "bot")


def test_new_names() -> None:
    (call,) = read_spans(
        span(
            {
                **CHAT,
                "gen_ai.provider.name": "anthropic",
                "gen_ai.system": "old",
                "gen_ai.request.stream": True,
                "gen_ai.response.time_to_first_chunk": 0.25,
                "gen_ai.usage.input_tokens": 10,
                "gen_ai.usage.cache_read.input_tokens": 4,
                "gen_ai.usage.output_tokens": 5,
                "gen_ai.usage.reasoning.output_tokens": 2,
                "gen_ai.response.finish_reasons": ["tool_calls"],
                "gen_ai.conversation.id": "c",
                "gen_ai.prompt.name": "support",
                "gen_ai.prompt.0.content": "secret",
                "user.tier": "gold",
                "long": "x" * 1000,
            }
        )
    )
    assert (call.provider, call.stream, call.ttft_ms) == ("anthropic", True, 250.0)
    assert (call.input_tokens, call.cached_input_tokens, call.output_tokens, call.reasoning_tokens) == (10, 4, 5, 2)
    assert (call.finish_reason, call.session_id, call.prompt_name) == ("tool", "c", "support")
    assert call.latency_ms == 250.0
    assert call.attributes == {"user.tier": "gold"}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("stop", "stop"),
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("tool_use", "tool"),
        ("content-filter", "content_filter"),
        ("SAFETY", "content_filter"),
        ("refusal", "refusal"),
        ("whatever", "other"),
    ],
)
def test_finish_reasons_are_normalised(raw: str, expected: str) -> None:
    (call,) = read_spans(span({**CHAT, "gen_ai.response.finish_reasons": [raw]}))
    assert call.finish_reason == expected
    assert call.refused is (True if expected == "refusal" else None)


def test_integers_may_be_numbers_and_status_may_be_a_name() -> None:
    body = span({**CHAT, "gen_ai.usage.input_tokens": 5}, status={"code": "STATUS_CODE_ERROR"}, unknown={"x": 1})
    body["attributes"][2]["value"]["intValue"] = 5
    body["startTimeUnixNano"] = START
    (call,) = read_spans(body)
    assert (call.input_tokens, call.is_error) == (5, True)


def test_other_spans_are_ignored() -> None:
    others = ["invoke_agent", "execute_tool", "retrieval", None, 7]
    items = read_spans(*(span({"gen_ai.operation.name": name} if name else {}) for name in others))
    assert items == [Ignored()] * len(others)


def test_parents_and_embeddings_of_the_same_line_are_used() -> None:
    root = span({"user.id": "u", "session.id": "s"}, span_id="2" * 16)
    middle = span({"abtest.variant": "b", "abtest.experiment": "e"}, span_id="3" * 16, parentSpanId="2" * 16)
    embed = span({"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "emb-3"}, span_id="4" * 16)
    call = read_spans(span(CHAT, parentSpanId="3" * 16), middle, root, embed)[0]
    assert (call.unit_id, call.session_id, call.variant, call.experiment_id) == ("u", "s", "b", "e")
    assert call.embedding_model_version == "emb-3"
    alone = read_spans(span(CHAT, parentSpanId="3" * 16))[0]
    assert (alone.unit_id, alone.variant, alone.embedding_model_version) == (None, None, None)


def test_two_embedding_models_are_no_answer() -> None:
    spans = [
        span({"gen_ai.operation.name": "embeddings", "gen_ai.request.model": name}, span_id=str(n) * 16)
        for n, name in ((4, "a"), (5, "b"))
    ]
    assert read_spans(span(CHAT), *spans)[0].embedding_model_version is None


def test_a_circle_of_parents_ends() -> None:
    a = span(CHAT, span_id="1" * 16, parentSpanId="2" * 16)
    b = span({"user.id": "u"}, span_id="2" * 16, parentSpanId="1" * 16)
    assert read_spans(a, b)[0].unit_id == "u"


def test_a_bad_span_is_rejected_alone() -> None:
    bad = span({**CHAT, "gen_ai.usage.input_tokens": "many"}, span_id="2" * 16)
    good, rejected, also_good = read_spans(span(CHAT), bad, span(CHAT, span_id="3" * 16))
    assert isinstance(good, Interaction)
    assert isinstance(also_good, Interaction)
    assert isinstance(rejected, Reject)
    assert rejected.reason.startswith("bad_value: input_tokens")
    group = json.loads(rejected.raw)["resourceSpans"][0]
    assert [each["spanId"] for each in group["scopeSpans"][0]["spans"]] == ["2" * 16]
    assert (rejected.line, rejected.offset) == (5, 50)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"traceId": "not hex"}, "bad_value"),
        ({"traceId": "lNL4VvkvYC+SNGXAU6Ya"}, "bad_value"),
        ({"spanId": "lNL4VvkvYC+SNGXAU6YaFQ=="}, "bad_value"),
        ({"spanId": ""}, "bad_value"),
        ({"startTimeUnixNano": "0"}, "missing"),
        ({"startTimeUnixNano": 10**30}, "bad_value"),
        ({"attributes": pairs({"gen_ai.operation.name": "chat"})}, "missing"),
    ],
)
def test_spans_that_cannot_be_taken(change: dict[str, Any], code: str) -> None:
    (item,) = read_spans({**span(CHAT), **change})
    assert isinstance(item, Reject)
    assert item.code == code


def test_not_otlp() -> None:
    (item,) = OTEL.read(b'{"hello": 1}', 1, 0)
    assert item == Reject(1, 0, b'{"hello": 1}', "not_otlp: its keys are hello")
    assert OTEL.read(b"{}", 1, 0) == (Ignored(),)


def test_flag_evaluation_with_old_names() -> None:
    old = read_log(
        "feature_flag.evaluation",
        {
            "feature_flag.key": "exp",
            "feature_flag.variant": "b",
            "feature_flag.context.id": "u",
            "feature_flag.evaluation.reason": "SPLIT",
            "feature_flag.provider_name": "flagd",
        },
    )
    assert isinstance(old, Assignment)
    assert (old.experiment_id, old.unit_id, old.variant, old.reason, old.provider) == (
        "exp",
        "u",
        "b",
        "split",
        "flagd",
    )


def test_flag_evaluation_without_variant_has_its_value() -> None:
    item = read_log(
        "feature_flag.evaluation", {"feature_flag.key": "k", "feature_flag.result.value": True, "user.id": "u"}
    )
    assert (item.variant, item.unit_id) == ("true", "u")


def test_flag_evaluation_that_failed_assigns_nothing() -> None:
    attributes = {"feature_flag.key": "k", "feature_flag.context.id": "u", "error.type": "flag_not_found"}
    assert read_log("feature_flag.evaluation", attributes) == Ignored()


def test_flag_evaluation_without_unit_says_what_is_missing() -> None:
    item = read_log("feature_flag.evaluation", {"feature_flag.key": "k", "feature_flag.result.variant": "b"})
    assert item.reason == "missing: unit_id (feature_flag.context.id)"


def test_flag_evaluation_as_span_event() -> None:
    event = {
        "name": "feature_flag",
        "timeUnixNano": str(START),
        "attributes": pairs({"feature_flag.key": "exp", "feature_flag.variant": "b"}),
    }
    other = {"name": "gen_ai.content.prompt", "timeUnixNano": str(START)}
    items = read_spans(span({**CHAT, "user.id": "u"}, events=[event, other]))
    assert isinstance(items[0], Interaction)
    assert len(items) == 2
    assert (items[1].experiment_id, items[1].unit_id, items[1].variant) == ("exp", "u", "b")


def test_observed_time_when_there_is_no_other() -> None:
    attributes = {"feature_flag.key": "k", "feature_flag.result.variant": "b", "feature_flag.context.id": "u"}
    item = read_log("feature_flag.evaluation", attributes, timeUnixNano="0", observedTimeUnixNano=START)
    assert item.ts.isoformat() == "2026-11-23T01:53:41.616993+00:00"


def test_event_name_as_attribute() -> None:
    item = read_log(
        "", {"event.name": "gen_ai.evaluation.result", "gen_ai.evaluation.name": "x", "error.type": "ParseError"}
    )
    assert isinstance(item, Reject)
    assert "a score needs a target" in item.reason


def test_a_judge_failure_is_a_row() -> None:
    item = read_log(
        "gen_ai.evaluation.result",
        {"gen_ai.evaluation.name": "x", "error.type": "ParseError", "gen_ai.response.id": "p"},
    )
    assert isinstance(item, Score)
    assert (item.value, item.error_type, item.provider_response_id) == (None, "ParseError", "p")


def test_a_score_id_is_its_content() -> None:
    base = {"gen_ai.evaluation.name": "x", "gen_ai.evaluation.score.value": 1.0, "gen_ai.response.id": "p"}
    same, again = (read_log("gen_ai.evaluation.result", base) for _ in range(2))
    other = read_log("gen_ai.evaluation.result", {**base, "gen_ai.evaluation.score.value": 2.0})
    assert same.score_id == again.score_id != other.score_id
    assert len(same.score_id) == 64


def test_a_score_that_is_no_number() -> None:
    item = read_log(
        "gen_ai.evaluation.result",
        {"gen_ai.evaluation.name": "x", "gen_ai.evaluation.score.value": "high", "gen_ai.response.id": "p"},
    )
    assert item.reason == "bad_value: gen_ai.evaluation.score.value: high is no number"
