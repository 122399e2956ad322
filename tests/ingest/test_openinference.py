"""OpenInference: genuine spans of the SDK's console exporter, of OTLP and of naive JSON; annotations; bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from otel_build import SPAN, TRACE, envelope, event, only, pairs, read_spans, span

from abtest.ingest import Ignored, Reject, detect, get
from abtest.ingest.otlp_protobuf import to_json_texts
from abtest.records import Assignment, Interaction, Score

OPENINFERENCE = get("openinference")
FIXTURES = Path(__file__).parent / "fixtures"
FOLDER = FIXTURES / "openinference"
LLM = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o-2024-08-06"}


def lines(name: str) -> list[bytes]:
    return (FOLDER / name).read_bytes().splitlines()


def read_file(name: str) -> list[Any]:
    return [item for number, line in enumerate(lines(name), 1) for item in OPENINFERENCE.read(line, number, 0)]


def calls(items: list[Any]) -> list[Interaction]:
    return [item for item in items if isinstance(item, Interaction)]


def case(name: str) -> Interaction:
    """Return the OpenInference record of one case of the console file, by the `case` in its metadata."""
    (found,) = [call for call in calls(read_file("console-cases.jsonl")) if call.attributes.get("case") == name]
    return found


def test_console_span_in_full() -> None:
    first = read_file("console.jsonl")[0]
    assert first.model_dump(exclude_none=True, exclude={"ts", "params_sha256"}) == {
        "type": "interaction",
        "interaction_id": "4a0dceaf7c7cbb5aed790cdd1fad595e:e1852f368e35ea8a",
        "trace_id": "4a0dceaf7c7cbb5aed790cdd1fad595e",
        "span_id": "e1852f368e35ea8a",
        "model": "gpt-4o",
        "model_version": "gpt-4o-2024-08-06",
        "provider": "openai",
        "provider_response_id": "chatcmpl-fake000010",
        "system_fingerprint": "fp_abc",
        "operation": "chat",
        "surface": "support-bot",
        "unit_id": "u1",
        "session_id": "su1",
        "experiment_id": "support_prompt_v7",
        "variant": "control",
        "prompt_version": "v6",
        "latency_ms": 49.352,
        "input_tokens": 14,
        "cached_input_tokens": 4,
        "output_tokens": 8,
        "reasoning_tokens": 2,
        "finish_reason": "stop",
        "refused": False,
        "is_error": False,
        "exposed": True,
        "turn": 1,
        "prompt_text": "You are a support bot.\nWhat is the capital of France?",
        "response_text": "Paris is the capital of France.",
        "attributes": {},
    }
    assert first.ts.isoformat() == "2026-11-23T01:56:16.038258+00:00"


def test_the_console_file_as_a_whole() -> None:
    items = read_file("console.jsonl")
    assert [call.refused for call in items] == [False, True, None, False, None]
    assert [call.is_error for call in items] == [False, False, True, False, False]
    assert [call.stream for call in items] == [None, None, None, True, None]
    assert [call.variant for call in items] == ["control", "treatment", "control", "treatment", None]
    assert [call.operation for call in items] == ["chat"] * 4 + ["embeddings"]
    assert (items[2].error_type, items[2].http_status) == ("openai.RateLimitError", 429)
    assert items[2].model_version is None
    assert items[3].ttft_ms == pytest.approx(93.977, abs=0.001)
    assert items[4].embedding_model_version == "text-embedding-3-small"
    assert items[4].prompt_text is None


def test_base64_ids_are_the_ids_of_the_console_file() -> None:
    """The two files hold the same spans: what protobuf's own JSON changes must come out the same."""
    console, naive = read_file("console.jsonl"), read_file("base64-ids.jsonl")
    for ours, theirs in zip(console, naive, strict=True):
        rounded = {"ts", "latency_ms", "ttft_ms"}  # the console form has microseconds, rounded by way of a float
        assert ours.model_dump(exclude=rounded) == theirs.model_dump(exclude=rounded)
        assert abs((ours.ts - theirs.ts).total_seconds()) <= 1e-6
        assert ours.latency_ms == pytest.approx(theirs.latency_ms, abs=0.002)


def test_otlp_protobuf_and_console_tell_the_same() -> None:
    texts = to_json_texts((FIXTURES / "otel_wire/openinference.pb").read_bytes()) or []
    wire = {call.interaction_id: call for text in texts for call in calls(list(OPENINFERENCE.read(text, 1, 0)))}
    found = 0
    for call in calls(read_file("console-cases.jsonl")):
        other = wire.get(call.interaction_id)
        if other is None:  # an echo of the Anthropic SDK: without its parent on the line it cannot be told
            assert call.model.startswith("claude")
            continue
        found += 1
        rounded = {"latency_ms", "ttft_ms", "ts", "embedding_model_version"}
        assert call.model_dump(exclude=rounded) == other.model_dump(exclude=rounded)
    assert found >= 20


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", {"finish_reason": "stop", "refused": False, "stream": None}),
        ("refuse", {"finish_reason": "stop", "refused": True, "response_text": "I'm sorry, I can't help with that."}),
        ("length", {"finish_reason": "length", "refused": False}),
        ("filter", {"finish_reason": "content_filter", "refused": None}),
        ("tool", {"finish_reason": "tool", "refused": False}),
        ("multimodal", {"prompt_text": "what is it", "refused": False}),
        ("rate", {"is_error": True, "error_type": "openai.RateLimitError", "http_status": 429, "model": "gpt-4o"}),
        ("stream", {"stream": True, "refused": False, "input_tokens": 14}),
        ("stream_nousage", {"stream": True, "input_tokens": None, "finish_reason": "stop"}),
        ("stream_tool", {"stream": True, "finish_reason": "tool", "refused": False}),
        ("stream_refuse", {"stream": True, "refused": True, "response_text": "I'm sorry, I can't help with that."}),
        ("stream_cut", {"stream": True, "finish_reason": None, "refused": None, "response_text": "Paris"}),
        ("completion", {"operation": "text_completion", "response_text": "Paris.", "prompt_text": "capital?"}),
        ("embed", {"operation": "embeddings", "model": "text-embedding-3-small", "input_tokens": 5}),
        ("embed_err", {"operation": "embeddings", "is_error": True, "model_version": None}),
        ("responses", {"finish_reason": "stop", "refused": False, "provider_response_id": "resp_fake000019"}),
        ("responses_refuse", {"refused": True, "response_text": "I'm sorry."}),
        ("unreachable", {"is_error": True, "error_type": "openai.APIConnectionError", "http_status": None}),
        ("a_plain", {"provider": "anthropic", "input_tokens": 17, "cached_input_tokens": 4, "refused": False}),
        ("a_refuse", {"finish_reason": "refusal", "refused": True}),
        ("a_tool", {"finish_reason": "tool", "refused": False}),
        ("a_rate", {"is_error": True, "error_type": "anthropic.RateLimitError", "http_status": 429}),
        ("a_stream", {"stream": True, "finish_reason": "stop", "refused": False}),
    ],
)
def test_genuine_cases(name: str, expected: dict[str, Any]) -> None:
    call = case(name)
    assert {field: getattr(call, field) for field in expected} == expected
    metadata = call.attributes
    assert (metadata["tier"], metadata["n"], metadata["tags"]) == ("gold", 3, ["beta"])
    assert call.unit_id
    assert call.session_id == f"s{call.unit_id}"
    assert call.experiment_id == "support_prompt_v7"
    assert call.variant in ("control", "treatment")
    assert call.prompt_version == ("v7" if call.variant == "treatment" else "v6")


def test_hidden_content_is_no_text() -> None:
    """OPENINFERENCE_HIDE_INPUTS and _OUTPUTS: the answer is gone, and with it id and refusals."""
    found = calls(read_file("console-hidden.jsonl"))
    assert len(found) == 33
    assert all(call.prompt_text is None and call.response_text is None for call in found)
    spans = [call for call in found if call.attributes.get("case")]
    assert all(call.refused is None for call in spans if call.finish_reason != "refusal")
    assert {call.finish_reason for call in spans} >= {"stop", "tool", "length", "content_filter", "refusal"}
    assert all(call.provider_response_id is None for call in spans)


def test_langchain_and_openai_both_instrumented() -> None:
    items = read_file("langchain-and-openai.jsonl")
    found = calls(items)
    assert len(found) == 12
    assert [call.refused for call in found].count(True) == 2
    assert {call.unit_id for call in found} == {"u0", "u1", "u2", "u3", "u4"}
    assert {call.experiment_id for call in found} == {"e"}
    failed = [call for call in found if call.is_error]
    assert {call.http_status for call in failed} == {429}
    assert all(call.response_text is None for call in failed)


def test_annotations_on_a_chain_become_scores() -> None:
    scores = [item for item in read_file("console-cases.jsonl") if isinstance(item, Score)]
    chains = [json.loads(line) for line in lines("console-cases.jsonl") if b'"CHAIN"' in line]
    assert len(scores) == len(chains) == 23
    for score, chain in zip(scores, chains, strict=True):
        assert (score.name, score.value, score.scorer_kind, score.scorer_id) == ("helpful", 1.0, "human", "reviewer-42")
        assert score.trace_id == chain["context"]["trace_id"].removeprefix("0x")
        assert score.span_id == chain["context"]["span_id"].removeprefix("0x")
        assert score.ts.isoformat().replace("+00:00", "Z") == chain["end_time"]


def annotated(prefix: str, **fields: Any) -> dict[str, Any]:
    return {"openinference.span.kind": "CHAIN", **{f"{prefix}.{name}": value for name, value in fields.items()}}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("HUMAN", "human"), ("LLM", "judge"), ("CODE", "code"), ("llm", "judge"), ("jury", "judge"), (None, "judge")],
)
def test_annotator_kinds(kind: str | None, expected: str) -> None:
    fields = {"name": "x", "score": 0.5} | ({"annotator_kind": kind} if kind else {})
    _, score = read_spans(span(annotated("annotations.0.annotation", **fields)))
    assert score.scorer_kind == expected


def test_every_form_of_a_result() -> None:
    attributes = {
        **annotated("annotations.0.annotation", name="a", score=1),
        **annotated("annotations.1.annotation", name="b", label="good", explanation="because"),
        **annotated("evaluations.0.evaluation", name="c", score=0.5, identifier="judge-v2"),
        **annotated("annotation", name="d", score=True),
        **annotated("trace.evaluations.0.evaluation", name="e", score=0.25),
        **annotated("session.annotations.0.annotation", name="f", score=1),
    }
    items = read_spans(span(attributes))
    scores = {item.name: item for item in items if isinstance(item, Score)}
    assert {name: (s.value, s.label) for name, s in scores.items()} == {
        "a": (1.0, None),
        "b": (None, "good"),
        "c": (0.5, None),
        "d": (1.0, None),
        "e": (0.25, None),
    }
    assert scores["c"].scorer_id == "judge-v2"
    assert scores["b"].explanation == "because"
    assert (scores["a"].trace_id, scores["a"].span_id) == (TRACE, SPAN)
    assert (scores["e"].trace_id, scores["e"].span_id) == (TRACE, None)
    assert scores["a"].ts.isoformat() == "2026-11-23T01:53:41.866993+00:00"
    assert items.count(Ignored()) == 2  # the chain itself, and the session's result, which names no call


def test_a_result_in_both_forms_is_one_score() -> None:
    same = {"name": "x", "score": 1, "annotator_kind": "LLM"}
    attributes = {**annotated("annotations.0.annotation", **same), **annotated("evaluations.3.evaluation", **same)}
    assert sum(isinstance(item, Score) for item in read_spans(span(attributes))) == 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"score": 1}, "missing: name"),
        ({"name": "x"}, "a score needs value, label or error_type"),
        ({"name": "x", "explanation": "only words"}, "a score needs value, label or error_type"),
        ({"name": "x", "score": "high"}, "annotation.score: high is no number"),
    ],
)
def test_results_that_cannot_be_taken(fields: dict[str, Any], reason: str) -> None:
    _, item = read_spans(span(annotated("annotations.0.annotation", **fields)))
    assert isinstance(item, Reject)
    assert reason in item.reason


def test_an_annotated_model_call_is_both() -> None:
    call, score = read_spans(span({**LLM, **annotated("evaluations.0.evaluation", name="x", score=1), **LLM}))
    assert isinstance(call, Interaction)
    assert (score.trace_id, score.span_id) == (call.trace_id, call.span_id)
    assert call.attributes == {}


@pytest.mark.parametrize(
    "kind", ["CHAIN", "RETRIEVER", "RERANKER", "TOOL", "AGENT", "GUARDRAIL", "EVALUATOR", "PROMPT", "X"]
)
def test_other_kinds_are_ignored(kind: str) -> None:
    assert only({**LLM, "openinference.span.kind": kind}) == Ignored()


def test_costs() -> None:
    assert only({**LLM, "llm.cost.total": 0.5, "llm.cost.prompt": 0.1, "llm.cost.completion": 0.1}).cost_usd == 0.5
    assert only({**LLM, "llm.cost.prompt": 0.25, "llm.cost.completion": 0.5}).cost_usd == 0.75
    assert only({**LLM, "llm.cost.prompt": 0.25}).cost_usd is None


def test_models_asked_and_answered() -> None:
    full = {**LLM, "llm.request.model_name": "opus", "llm.response.model_name": "opus-4"}
    assert (only(full).model, only(full).model_version) == ("opus", "opus-4")
    asked = {**LLM, "llm.invocation_parameters": '{"model": "gpt-4o"}'}
    assert (only(asked).model, only(asked).model_version) == ("gpt-4o", "gpt-4o-2024-08-06")
    assert (only(LLM).model, only(LLM).model_version) == ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06")
    failed = only(asked, status={"code": 2})
    assert (failed.model, failed.model_version) == ("gpt-4o", None)


def test_parameters_and_tools_have_a_digest() -> None:
    def digests(parameters: str, schema: str = "{}") -> tuple[str | None, str | None]:
        call = only({**LLM, "llm.invocation_parameters": parameters, "llm.tools.0.tool.json_schema": schema})
        return call.params_sha256, call.tools_sha256

    base = digests('{"model": "a", "temperature": 0.2}')
    assert base == digests('{"temperature": 0.2, "model": "b", "stream": true}')
    assert base[0] != digests('{"temperature": 0.3}')[0]
    assert base[1] != digests('{"model": "a", "temperature": 0.2}', '{"name": "f"}')[1]
    assert digests("not json")[0] is None


def test_first_token_event() -> None:
    first = event("First Token Stream Event", {})
    call = only(LLM, events=[first])
    assert (call.ttft_ms, call.stream) == (10.0, True)


def test_confidence() -> None:
    """0.95 times the share of OpenTelemetry objects when a span has its kind; GenAI spans alone are OTel's."""
    ours, theirs = envelope(span(LLM)), envelope(span({"gen_ai.operation.name": "chat"}))
    assert OPENINFERENCE.sniff([ours]) == 0.95
    assert OPENINFERENCE.sniff([ours, theirs]) == 0.95
    assert OPENINFERENCE.sniff([ours, {"x": 1}]) == pytest.approx(0.475)
    assert OPENINFERENCE.sniff([theirs]) == 0.0
    assert get("otel").sniff([theirs]) == get("otel").sniff([ours]) == 0.9


@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.iterdir()))
def test_every_fixture_is_recognised(file: str) -> None:
    objects = [json.loads(line) for line in lines(file)[:20]]
    assert detect(objects, file=file) is OPENINFERENCE


def test_metadata_that_is_no_json_object() -> None:
    for broken in ("{", "[1]", '"x"', "null", "", "NaN"):
        call = only({**LLM, "metadata": broken, "tag.tags": ["variant:b"]})
        assert (call.variant, call.attributes) == ("b", {})


@pytest.mark.parametrize(
    "text", ["x" * 1_000_000, "'; DROP TABLE interaction; --", "<script>alert(1)</script>", "\x00"]
)
def test_hostile_text_is_only_text(text: str) -> None:
    call = only({**LLM, "output.value": text, "user.id": "u", "metadata": json.dumps({"own": text})})
    assert call.response_text == text
    assert call.attributes == ({"own": text} if len(text) <= 256 else {})


def test_a_label_that_is_too_long_rejects_the_row() -> None:
    item = only({**LLM, "user.id": "u" * 5000})
    assert isinstance(item, Reject)
    assert item.reason.startswith("bad_value: unit_id")


GENUINE = [line for name in ("console.jsonl", "base64-ids.jsonl") for line in lines(name)]
VALUES = st.sampled_from(
    [None, True, -1, 1.5, "", "x", "9" * 30, [], {}, [[]], {"a": 1}, 2**70, "\ud800"[:0], "0x", "é"]
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_mutated_span_is_read_rejected_or_ignored(data: st.DataObject) -> None:
    root = [json.loads(data.draw(st.sampled_from(GENUINE)))]
    for _ in range(data.draw(st.integers(1, 4))):
        node: Any = root
        key: Any = 0
        while isinstance(node[key], (dict, list)) and node[key] and data.draw(st.integers(0, 9)):
            node = node[key]
            key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else list(range(len(node)))))
        node[key] = data.draw(VALUES)
    for item in OPENINFERENCE.read(json.dumps(root[0]).encode(), 1, 0):
        assert isinstance(item, (Interaction, Assignment, Score, Reject, Ignored))


@given(
    count=st.one_of(
        st.integers(max_value=-1), st.integers(min_value=2**63), st.floats(allow_nan=False), st.text(min_size=1)
    )
)
@pytest.mark.parametrize("kind", ["doubleValue", "intValue"])
def test_counts_out_of_range_are_rejects_not_nulls(kind: str, count: Any) -> None:
    body = span(LLM)
    body["attributes"].append({"key": "llm.token_count.prompt", "value": {kind: count}})
    (item,) = read_spans(body)
    whole = isinstance(count, float) and count.is_integer() and 0 <= count < 2**63
    digits = isinstance(count, str) and count.isascii() and count.isdigit() and int(count) < 2**63
    assert isinstance(item, Interaction if whole or digits else Reject)


def test_the_same_attribute_twice_the_last_counts() -> None:
    body = span({**LLM, "user.id": "first"})
    body["attributes"] += pairs({"user.id": "second"})
    assert read_spans(body)[0].unit_id == "second"


def test_times_that_are_none() -> None:
    console = json.loads(lines("console.jsonl")[0])
    for bad in (None, "", "yesterday", 5, "9999-99-99T00:00:00Z"):
        (item,) = OPENINFERENCE.read(json.dumps({**console, "start_time": bad}).encode(), 1, 0)
        assert isinstance(item, Reject)
        assert item.reason.startswith("missing: ts")
    (item,) = OPENINFERENCE.read(json.dumps({**console, "end_time": "soon"}).encode(), 1, 0)
    assert item.latency_ms is None
