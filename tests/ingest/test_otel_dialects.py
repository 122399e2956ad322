"""One reader, many dialects: old and new GenAI names, OpenLLMetry, vLLM, Langfuse on the wire, mixed in one request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from otel_build import SPAN, START, TRACE, envelope, event, only, pairs, read, read_log, read_spans, span

from abtest.ingest import Ignored, Reject, get
from abtest.records import Assignment, Interaction, Score

FIXTURES = Path(__file__).parent / "fixtures"
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
LANGFUSE = {"langfuse.observation.type": "generation", "langfuse.observation.model.name": "gpt-4o"}
OPENINFERENCE = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o"}


def test_dialects_mixed_in_one_request() -> None:
    items = read_spans(
        span(CHAT, span_id="1" * 16),
        span({**LANGFUSE, "langfuse.observation.model.name": "lf"}, span_id="2" * 16),
        span({**OPENINFERENCE, "llm.model_name": "oi"}, span_id="3" * 16),
        span({"llm.request.type": "chat", "gen_ai.request.model": "tl"}, span_id="4" * 16),
        span({"http.route": "/"}, span_id="5" * 16),
    )
    assert [item.model for item in items[:4]] == ["gpt-4o", "lf", "oi", "tl"]
    assert items[4] == Ignored()


def test_the_kind_of_the_richer_dialect_decides() -> None:
    """OpenInference and Langfuse mark agents and tools that carry GenAI names too: these are no model calls."""
    assert only({**CHAT, "openinference.span.kind": "AGENT"}) == Ignored()
    assert only({**CHAT, "langfuse.observation.type": "tool"}) == Ignored()
    assert isinstance(only({**CHAT, "langfuse.trace.tags": ["x"]}), Interaction)


def test_openllmetry_with_indexed_prompts() -> None:
    call = only(
        {
            "llm.request.type": "completion",
            "gen_ai.system": "OpenAI",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.model": "gpt-4o-2024",
            "gen_ai.prompt.0.role": "system",
            "gen_ai.prompt.0.content": "be kind",
            "gen_ai.prompt.10.content": "last",
            "gen_ai.prompt.2.content": "two",
            "gen_ai.completion.0.content": "yes",
            "gen_ai.completion.0.finish_reason": "length",
            "gen_ai.usage.cache_read_input_tokens": 3,
            "llm.is_streaming": True,
            "traceloop.association.properties.user_id": "u9",
            "traceloop.association.properties.variant": "b",
        }
    )
    assert (call.operation, call.provider, call.model_version) == ("text_completion", "OpenAI", "gpt-4o-2024")
    assert (call.prompt_text, call.response_text) == ("be kind\ntwo\nlast", "yes")
    assert (call.finish_reason, call.cached_input_tokens, call.stream) == ("length", 3, True)
    assert (call.unit_id, call.variant) == ("u9", "b")
    assert call.attributes == {}


def test_genuine_openllmetry_spans() -> None:
    """opentelemetry-instrumentation-openai 0.62.4: streamed refusals are lost, others are marked."""
    lines = (FIXTURES / "otel_wire/openllmetry-console.jsonl").read_bytes().splitlines()
    found = [item for line in lines for item in get("otel").read(line, 1, 0)]
    assert all(isinstance(item, Interaction) for item in found)
    by_unit = {call.unit_id: call for call in found}
    assert len(by_unit) == len(found) == 19
    assert [unit for unit, call in by_unit.items() if call.refused] == ["u1"]
    assert [unit for unit, call in by_unit.items() if call.is_error] == ["u7", "u8", "u16", "u18"]
    assert [by_unit[unit].http_status for unit in ("u7", "u8", "u16", "u18")] == [429, 500, 429, None]
    assert [unit for unit, call in by_unit.items() if call.stream] == ["u9", "u10", "u11", "u12", "u13"]
    reasons = {unit: call.finish_reason for unit, call in by_unit.items() if call.finish_reason not in ("stop", None)}
    assert reasons == {"u2": "length", "u3": "content_filter", "u4": "tool", "u11": "tool"}
    first = by_unit["u0"]
    assert (first.model, first.model_version) == ("gpt-4o", "gpt-4o-2024-08-06")
    assert (first.input_tokens, first.cached_input_tokens) == (14, 4)
    assert (first.output_tokens, first.reasoning_tokens) == (8, 2)
    assert (first.prompt_text, first.response_text) == (
        "You are a support bot.\nWhat is the capital?",
        "Paris is the capital of France.",
    )
    assert (first.variant, first.prompt_version) == ("control", "v6")


def test_openllmetry_refusal() -> None:
    refusal = {"llm.request.type": "chat", "gen_ai.request.model": "m", "gen_ai.completion.0.refusal": "No."}
    assert only(refusal).refused is True


def test_vllm_server_span_has_no_operation() -> None:
    """vLLM: a request span with usage and model, and its own names for latencies; the operation is not known."""
    call = only(
        {
            "gen_ai.response.model": "llama",
            "gen_ai.request.id": "cmpl-1",
            "gen_ai.usage.prompt_tokens": 7,
            "gen_ai.usage.completion_tokens": 9,
            "gen_ai.latency.time_to_first_token": 0.05,
        }
    )
    assert (call.operation, call.model, call.provider_response_id) == (None, "llama", "cmpl-1")
    assert (call.input_tokens, call.output_tokens, call.ttft_ms) == (7, 9, 50.0)


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.request.model": "m"},
        {"gen_ai.usage.input_tokens": 1},
        {"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 1, "traceloop.span.kind": "workflow"},
        {"llm.request.type": "rerank", "gen_ai.request.model": "m"},
    ],
)
def test_spans_without_an_operation_that_are_no_call(attributes: dict[str, Any]) -> None:
    assert only(attributes) == Ignored()


def test_content_of_the_first_convention_is_on_events() -> None:
    events = [
        event("gen_ai.content.prompt", {"gen_ai.prompt": json.dumps([{"role": "user", "content": "hi"}])}),
        event("gen_ai.content.completion", {"gen_ai.completion": json.dumps([{"role": "assistant", "content": "yo"}])}),
        event("gen_ai.choice", {"finish_reason": "stop", "index": 0}),
    ]
    call = only(CHAT, events=events)
    assert (call.prompt_text, call.response_text, call.finish_reason) == ("hi", "yo", "stop")


def test_prompt_and_completion_as_plain_text() -> None:
    call = only({**CHAT, "gen_ai.prompt": "hi", "gen_ai.completion": "yo"})
    assert (call.prompt_text, call.response_text) == ("hi", "yo")
    assert call.attributes == {}


@pytest.mark.parametrize("name", ["gen_ai.choice", "gen_ai.user.message", "gen_ai.system.message"])
def test_log_events_of_the_older_convention_are_ignored(name: str) -> None:
    assert (
        read_log(name, {"gen_ai.system": "openai"}, body={"kvlistValue": {"values": pairs({"content": "x"})}})
        == Ignored()
    )


def test_a_refusal_part_in_structured_messages() -> None:
    messages = [{"role": "assistant", "parts": [{"type": "refusal", "content": "No."}], "finish_reason": "stop"}]
    as_text = only({**CHAT, "gen_ai.output.messages": json.dumps(messages)})
    as_structure = only({**CHAT, "gen_ai.output.messages": messages})
    for call in (as_text, as_structure):
        assert (call.refused, call.response_text, call.finish_reason) == (True, "No.", "stop")


def test_an_empty_list_of_reasons_falls_back_to_the_messages() -> None:
    messages = [{"role": "assistant", "parts": [], "finish_reason": "tool_calls"}]
    call = only({**CHAT, "gen_ai.response.finish_reasons": [], "gen_ai.output.messages": json.dumps(messages)})
    assert call.finish_reason == "tool"
    assert only({**CHAT, "gen_ai.response.finish_reasons": '["length"]'}).finish_reason == "length"


def test_fields_that_only_abtest_attributes_carry() -> None:
    call = only(
        {
            **CHAT,
            "abtest.exposed": "false",
            "abtest.format_ok": True,
            "abtest.cost_usd": "0.25",
            "abtest.attempt": "2",
            "abtest.turn": 3,
            "abtest.request_id": "r",
            "abtest.note": "mine",
        }
    )
    assert (call.exposed, call.format_ok, call.cost_usd, call.attempt, call.turn) == (False, True, 0.25, 2, 3)
    assert (call.request_id, call.attributes) == ("r", {})


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("abtest.exposed", "perhaps"),
        ("abtest.cost_usd", "cheap"),
        ("abtest.cost_usd", -1.0),
        ("abtest.attempt", "second"),
        ("gen_ai.usage.output_tokens", 2**63),
        ("gen_ai.usage.output_tokens", -1),
        ("gen_ai.usage.output_tokens", 1.5),
        ("gen_ai.response.time_to_first_chunk", "soon"),
        ("http.response.status_code", 12345),
    ],
)
def test_numbers_that_are_none_are_rejected(name: str, bad: Any) -> None:
    item = only({**CHAT, name: bad})
    assert isinstance(item, Reject)
    assert item.code == "bad_value"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_doubles_that_json_cannot_hold(text: str) -> None:
    """As a measure they reject the row; as somebody's own attribute they are dropped."""
    body = span(CHAT)
    body["attributes"].append({"key": "own.number", "value": {"doubleValue": text}})
    (call,) = read_spans(body)
    assert call.attributes == {}
    body["attributes"][-1]["key"] = "gen_ai.response.time_to_first_chunk"
    (item,) = read_spans(body)
    assert isinstance(item, Reject)


def test_langfuse_generation() -> None:
    call = only(
        {
            **LANGFUSE,
            "user.id": "u1",
            "session.id": "s1",
            "langfuse.trace.name": "support-flow",
            "langfuse.trace.tags": ["variant:a", "beta"],
            "langfuse.trace.metadata.variant": '"b"',
            "langfuse.trace.metadata.experiment": '"e"',
            "langfuse.observation.metadata.tier": '"gold"',
            "langfuse.observation.prompt.name": "support",
            "langfuse.observation.prompt.version": 7,
            "langfuse.version": "v1",
            "langfuse.environment": "prod",
            "langfuse.release": "r42",
            "langfuse.observation.input": json.dumps([{"role": "user", "content": "hi"}]),
            "langfuse.observation.output": json.dumps({"role": "assistant", "content": "yo"}),
            "langfuse.observation.completion_start_time": '"2026-11-23T01:53:41.716993Z"',
            "langfuse.observation.usage_details": json.dumps({"input": 10, "output": 5, "input_cached_tokens": 4}),
            "langfuse.observation.cost_details": json.dumps({"input": 0.25, "output": 0.5}),
            "langfuse.observation.model.parameters": json.dumps({"temperature": 0.2}),
        },
        name="answer",
    )
    assert call.interaction_id == f"{TRACE}:{SPAN}"
    assert (call.unit_id, call.session_id, call.variant, call.experiment_id) == ("u1", "s1", "b", "e")
    assert (call.prompt_name, call.prompt_version, call.environment) == ("support", "7", "prod")
    assert (call.surface, call.operation) == ("support-flow", "chat")
    assert (call.input_tokens, call.cached_input_tokens, call.output_tokens, call.cost_usd) == (14, 4, 5, 0.75)
    assert (call.ttft_ms, call.stream) == (100.0, True)
    assert (call.prompt_text, call.response_text, call.refused) == ("hi", "yo", None)
    assert call.attributes == {"tier": "gold", "tags": ["beta"], "release": "r42"}
    assert call.params_sha256


def test_langfuse_usage_of_openai_counts_cached_tokens_once() -> None:
    usage = {"prompt_tokens": 14, "completion_tokens": 8, "prompt_tokens_details": {"cached_tokens": 4}}
    usage["completion_tokens_details"] = {"reasoning_tokens": 2}
    call = only({**LANGFUSE, "langfuse.observation.usage_details": json.dumps(usage)})
    assert (call.input_tokens, call.cached_input_tokens) == (14, 4)
    assert (call.output_tokens, call.reasoning_tokens) == (8, 2)


def test_langfuse_error() -> None:
    call = only(
        {
            **LANGFUSE,
            "langfuse.observation.level": "ERROR",
            "langfuse.observation.status_message": "RateLimitError: Error code: 429 - slow down",
        }
    )
    assert (call.is_error, call.error_type, call.http_status) == (True, "RateLimitError", 429)


def test_langfuse_answer_without_text() -> None:
    call = only({**LANGFUSE, "langfuse.observation.output": '{"role": "assistant", "content": null}'})
    assert (call.response_text, call.refused) == ("", None)
    masked = only({**LANGFUSE, "langfuse.observation.output": "<fully masked due to failed mask function>"})
    assert masked.response_text is None


def test_langfuse_embedding_is_the_embedding_model_of_its_trace() -> None:
    embedding = {"langfuse.observation.type": "embedding", "langfuse.observation.model.name": "te-3"}
    call, embed = read_spans(span(LANGFUSE), span(embedding, span_id="2" * 16))
    assert call.embedding_model_version == embed.embedding_model_version == "te-3"
    assert embed.operation == "embeddings"


def test_metadata_says_the_unit_before_the_user_does() -> None:
    """`user.id` is a fact about the user; a unit named by the experimenter is what was randomised."""
    attributes = {**LANGFUSE, "user.id": "u", "langfuse.trace.metadata.unit_id": '"tenant-4"'}
    assert only(attributes).unit_id == "tenant-4"
    assert only({**attributes, "abtest.unit_id": "explicit"}).unit_id == "explicit"


def test_a_service_without_a_name_is_no_surface() -> None:
    (unnamed,) = read_spans(span(CHAT), resource={"service.name": "unknown_service:python"})
    (named,) = read_spans(span(CHAT), resource={"service.name": "bot"})
    assert (unnamed.surface, named.surface) == (None, "bot")


def test_the_same_call_logged_by_two_layers_counts_once() -> None:
    outer = span({**OPENINFERENCE, "metadata": '{"variant": "b"}'}, span_id="2" * 16)
    inner = span({**CHAT, "gen_ai.response.id": "r1"}, span_id="3" * 16, parentSpanId="2" * 16)
    items = read_spans(inner, outer)
    assert items[0] == Ignored()
    assert items[1].variant == "b"


def test_two_answers_below_one_another_are_two_calls() -> None:
    outer = span({**CHAT, "gen_ai.response.id": "r1"}, span_id="2" * 16)
    inner = span({**CHAT, "gen_ai.response.id": "r2"}, span_id="3" * 16, parentSpanId="2" * 16)
    assert [type(item).__name__ for item in read_spans(inner, outer)] == ["LoggedInteraction"] * 2


def test_siblings_with_one_answer_are_one_call() -> None:
    rich = span({**OPENINFERENCE, "output.value": '{"id": "r1", "choices": []}'}, span_id="2" * 16)
    poor = span({**CHAT, "gen_ai.response.id": "r1"}, span_id="3" * 16)
    later = {"startTimeUnixNano": str(START + 10**9), "endTimeUnixNano": str(START + 2 * 10**9)}
    assert [type(item).__name__ for item in read_spans(rich, poor)] == ["LoggedInteraction", "Ignored"]
    assert [type(item).__name__ for item in read_spans(rich, {**poor, **later})] == ["LoggedInteraction"] * 2


def test_two_calls_in_a_circle_are_both_kept() -> None:
    first = span(CHAT, span_id="2" * 16, parentSpanId="3" * 16)
    second = span(CHAT, span_id="3" * 16, parentSpanId="2" * 16)
    assert all(isinstance(item, Interaction) for item in read_spans(first, second))


def test_base64_ids_enum_names_and_snake_case() -> None:
    body = {
        "trace_id": "qqqqqqqqqqqqqqqqqqqqqg==",
        "span_id": "EREREREREREREQ"[:11] + "=",
        "start_time_unix_nano": START,
        "end_time_unix_nano": str(START + 10**6),
        "status": {"code": "STATUS_CODE_ERROR"},
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"string_value": "chat"}},
            {"key": "gen_ai.request.model", "value": {"string_value": "m"}},
            {"key": "gen_ai.usage.input_tokens", "value": {"int_value": "5"}},
            {"key": "my_own_key", "value": {"string_value": "kept"}},
        ],
    }
    request = {"resource_spans": [{"scope_spans": [{"spans": [body]}]}]}
    assert get("otel").sniff([request]) == 0.9
    (call,) = read(request)
    assert call.interaction_id == f"{TRACE}:{SPAN}"
    assert (call.is_error, call.input_tokens, call.latency_ms) == (True, 5, 1.0)
    assert call.attributes == {"my_own_key": "kept"}


def test_a_group_without_the_list_around_it() -> None:
    """Java's logging exporters write one resource's group a line."""
    group = envelope(span(CHAT))["resourceSpans"][0]
    assert get("otel").sniff([group]) == 0.9
    assert isinstance(read(group)[0], Interaction)


def test_flag_value_in_the_body_of_the_event() -> None:
    item = read_log(
        "feature_flag.evaluation",
        {"feature_flag.key": "k", "feature_flag.context.id": "u"},
        body={"kvlistValue": {"values": pairs({"value": "b"})}},
    )
    assert isinstance(item, Assignment)
    assert item.variant == "b"


def test_evaluation_event_on_a_span_judges_that_span() -> None:
    judged = event("gen_ai.evaluation.result", {"gen_ai.evaluation.name": "x", "gen_ai.evaluation.score.value": 1})
    _, score = read_spans(span(CHAT, events=[judged]))
    assert isinstance(score, Score)
    assert (score.trace_id, score.span_id, score.value) == (TRACE, SPAN, 1.0)
    assert score.ts.isoformat() == "2026-11-23T01:53:41.626993+00:00"


def test_a_reject_can_be_read_again_without_its_batch() -> None:
    """`quarantine retry` reads the bytes of a reject: the span with its resource and the context above it."""
    root = span({"abtest.variant": "b", "user.id": "u"}, span_id="2" * 16)
    bad = span({**CHAT, "gen_ai.usage.input_tokens": "many"}, span_id="3" * 16, parentSpanId="2" * 16)
    other = span(CHAT, span_id="4" * 16)
    _, rejected, _ = read_spans(root, bad, other, resource={"service.name": "bot"})
    again = get("otel").read(rejected.raw, 5, 50)
    assert [item for item in again if isinstance(item, Reject)] == [rejected]
    mended = rejected.raw.replace(b'"many"', b'"12"')
    (call,) = [item for item in get("otel").read(mended, 5, 50) if isinstance(item, Interaction)]
    assert (call.variant, call.unit_id, call.surface, call.input_tokens) == ("b", "u", "bot", 12)


def test_a_rejected_log_record_can_be_read_again() -> None:
    rejected = read_log("feature_flag.evaluation", {"feature_flag.key": "k", "feature_flag.result.variant": "b"})
    assert list(get("otel").read(rejected.raw, 5, 50)) == [rejected]


def test_a_rejected_console_span_is_its_own_line() -> None:
    line = (FIXTURES / "otel_wire/openllmetry-console.jsonl").read_bytes().splitlines()[0]
    broken = line.replace(b'"gen_ai.usage.input_tokens":14', b'"gen_ai.usage.input_tokens":-14')
    assert broken != line
    (item,) = get("otel").read(broken, 1, 0)
    assert item.raw == broken


def test_reasons_name_the_attributes_that_were_looked_for() -> None:
    assert only({"openinference.span.kind": "LLM"}).reason.startswith(
        "missing: model (gen_ai.request.model, llm.model_name"
    )
    assert only(CHAT, startTimeUnixNano=None).reason == "missing: ts (startTimeUnixNano)"
    flag = read_log("feature_flag.evaluation", {"feature_flag.result.variant": "b", "feature_flag.context.id": "u"})
    assert flag.reason == "missing: experiment_id (feature_flag.key)"
