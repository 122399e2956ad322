"""MLflow traces: what the SDK wrote, against the raw files."""

from __future__ import annotations

import base64
import json
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abtest.ingest import Ignored, Reject, get
from abtest.ingest.mlflow_span import hex_id
from abtest.records import Assignment, Interaction, Score

FIXTURES = Path(__file__).parent / "fixtures" / "mlflow"
CALLS = ("LLM", "CHAT_MODEL", "EMBEDDING")


def load(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FIXTURES / name).read_bytes().splitlines()]


TRACES = load("traces.jsonl")
SHARED = load("traces.shared.jsonl")
NESTED = load("nested.jsonl")
ROWS = load("../mlflow_rows/search_traces.jsonl")


def read(document: dict[str, Any]) -> list[Any]:
    return list(get("mlflow").read(json.dumps(document).encode(), 3, 7))


def calls(document: dict[str, Any]) -> list[Interaction]:
    return [item for item in read(document) if isinstance(item, Interaction)]


def scores(document: dict[str, Any]) -> list[Score]:
    return [item for item in read(document) if isinstance(item, Score)]


def named(trace_name: str, key: str = "mlflow.traceName") -> list[dict[str, Any]]:
    return [trace for trace in TRACES if trace["info"]["tags"][key] == trace_name]


def span_type(span: dict[str, Any]) -> str:
    return json.loads(span["attributes"]["mlflow.spanType"])


@pytest.mark.parametrize("trace", [*TRACES, *SHARED], ids=lambda trace: trace["info"]["trace_id"][:8])
def test_every_call_is_an_interaction_and_every_other_span_is_ignored(trace: dict[str, Any]) -> None:
    spans = trace["data"]["spans"]
    wanted = [span for span in spans if span_type(span) in CALLS]
    found = calls(trace)
    assert len(found) == len(wanted)
    ignored = sum(item.count for item in read(trace) if isinstance(item, Ignored))
    expectations = sum("expectation" in each for each in trace["info"].get("assessments", []))
    assert ignored == len(spans) - len(wanted) + expectations
    for call, span in zip(found, wanted, strict=True):
        name = base64.b64decode(span["span_id"]).hex()
        assert call.interaction_id == f"{trace['info']['trace_id']}:{name}"
        assert call.span_id == name
        assert call.trace_id == base64.b64decode(span["trace_id"]).hex()
        assert call.latency_ms == (span["end_time_unix_nano"] - span["start_time_unix_nano"]) / 1e6
        usage = json.loads(span["attributes"].get("mlflow.chat.tokenUsage", "{}"))
        if usage:
            assert (call.input_tokens, call.output_tokens) == (usage["input_tokens"], usage["output_tokens"])
            assert call.cached_input_tokens == usage.get("cache_read_input_tokens")
        cost = json.loads(span["attributes"].get("mlflow.llm.cost", "{}"))
        assert call.cost_usd == cost.get("total_cost")


def test_a_shared_fixture_in_full() -> None:
    (call,) = calls(SHARED[0])
    assert call.ts.isoformat() == "2026-11-23T01:57:28.132120+00:00"
    assert call.interaction_id == "tr-f7ac75528d3b4cd4b5c01a035440bee8:81434bd1f0786398"
    assert (call.unit_id, call.session_id, call.variant) == ("u1", "su1", "control")
    assert (call.prompt_version, call.embedding_model_version) == ("v6", "te3s@2")
    assert (call.model, call.model_version, call.provider) == ("gpt-4o", "gpt-4o-2024-08-06", "openai")
    assert (call.finish_reason, call.refused, call.is_error) == ("stop", False, False)
    assert (call.reasoning_tokens, call.cost_usd) == (2, 0.00011)
    assert (call.request_id, call.provider_response_id) == ("req-u1", "chatcmpl-fake000020")
    assert call.prompt_text == "What is the capital of France?"
    assert call.response_text == "Paris is the capital of France."
    assert "mlflow.source.name" not in call.attributes


def test_refusals_errors_and_ends() -> None:
    assert [calls(trace)[0].refused for trace in SHARED] == [False, True, None]
    failed = calls(SHARED[2])[0]
    assert (failed.is_error, failed.error_type, failed.http_status) == (True, "RateLimitError", 429)
    assert (failed.model, failed.model_version, failed.input_tokens) == ("gpt-4o", None, None)
    anthropic = [call for trace in named("anth") for call in calls(trace)]
    assert [call.refused for call in anthropic] == [False, True, None]
    assert [call.finish_reason for call in anthropic] == ["stop", "refusal", None]
    assert [call.input_tokens for call in anthropic] == [1114, 1114, None]  # 14 fresh, 100 written, 1000 read
    assert [call.http_status for call in anthropic] == [None, None, 429]
    ends = Counter(call.finish_reason for trace in TRACES for call in calls(trace) if call.operation == "chat")
    assert ends["length"] == 1
    assert ends["content_filter"] == 1
    assert ends["tool"] == 1


def test_responses_api() -> None:
    found = [call for trace in named("resp") for call in calls(trace)]
    assert [call.refused for call in found] == [False, True]
    assert {call.provider_response_id[:5] for call in found if call.provider_response_id} == {"resp_"}
    assert [call.reasoning_tokens for call in found] == [2, 2]


def test_streaming_has_the_time_of_its_first_piece() -> None:
    (trace,) = named("stream")
    (call,) = calls(trace)
    span = trace["data"]["spans"][1]
    first = span["events"][0]["time_unix_nano"]
    assert call.stream is True
    assert call.ttft_ms == (first - span["start_time_unix_nano"]) / 1e6


def test_streamed_refusals_are_found_in_the_pieces() -> None:
    """MLflow's joined answer has refusal null for every stream of Chat Completions."""
    streams = [trace for trace in NESTED if len(trace["data"]["spans"]) == 1]
    assert [calls(trace)[0].refused for trace in streams] == [True, True]


def test_a_retrieval_gives_the_embedding_model() -> None:
    (trace,) = named("rag")
    embedding, chat = calls(trace)
    assert (embedding.operation, chat.operation) == ("embeddings", "chat")
    assert embedding.embedding_model_version == chat.embedding_model_version == "text-embedding-3-small"
    assert embedding.prompt_text is None


def test_a_wrapper_around_a_call_is_not_a_second_call() -> None:
    """LangChain and OpenAI autologging write the same call twice, one inside the other."""
    for trace in NESTED:
        kinds = [span_type(span) for span in trace["data"]["spans"]]
        if len(kinds) == 2:
            assert set(kinds) <= set(CALLS)
            (call,) = calls(trace)
            inner = trace["data"]["spans"][1]
            assert call.span_id == base64.b64decode(inner["span_id"]).hex()


def test_span_attributes_win_over_tags() -> None:
    (trace,) = named("manual")
    (call,) = calls(trace)
    assert trace["info"]["tags"]["variant"] == "control"
    assert (call.variant, call.model, call.response_text) == ("b", "my-model", "hello")
    assert (call.provider, call.refused) == (None, None)


def test_registered_prompts() -> None:
    (trace,) = named("outer")
    (call,) = calls(trace)
    assert (call.prompt_name, call.prompt_version) == ("qa", "v6")  # the tag says v6, which wins over version 1
    del trace["info"]["tags"]["prompt_version"]
    assert calls(trace)[0].prompt_version == "1"


def test_the_user_parameter_is_the_unit_of_last_resort() -> None:
    bare = [trace for trace in TRACES if "mlflow.trace.user" not in trace["info"]["trace_metadata"]]
    assert [call.unit_id for trace in bare for call in calls(trace)] == ["u-param", None, None, None]


def test_client_request_id_is_the_request_only_where_one_call_answers_it() -> None:
    (agent,) = named("agent")
    agent = deepcopy(agent)
    agent["info"]["client_request_id"] = "r1"
    assert [call.request_id for call in calls(agent)] == [None, None]
    assert {call.attributes["client_request_id"] for call in calls(agent)} == {"r1"}


def test_assessments_become_scores() -> None:
    trace = TRACES[0]
    found = {(score.score_id, score.updated_at is None): score for score in scores(trace)}
    told = trace["info"]["assessments"]
    assert len(found) == sum("feedback" in each for each in told) == 7
    by_name = {score.name: score for score in scores(trace)}
    assert (by_name["tone"].label, by_name["tone"].value, by_name["tone"].scorer_kind) == ("polite", None, "judge")
    assert (by_name["len_ok"].value, by_name["len_ok"].scorer_kind) == (0.0, "code")
    assert (by_name["judge_fail"].error_type, by_name["judge_fail"].value) == ("RATE_LIMIT", None)
    assert by_name["spanlevel"].span_id == calls(trace)[0].span_id
    assert {score.trace_id for score in found.values()} == {calls(trace)[0].trace_id}
    thumbs = by_name["thumbs"]
    assert (thumbs.value, thumbs.scorer_kind, thumbs.scorer_id) == (0.0, "human", "u1")
    assert thumbs.updated_at is not None  # it was True, then updated
    assert thumbs.updated_at > thumbs.ts


def test_an_override_is_a_correction_of_the_first_feedback() -> None:
    told = {each["assessment_id"]: each for each in TRACES[0]["info"]["assessments"]}
    (override,) = [each for each in told.values() if "overrides" in each]
    first, second = [score for score in scores(TRACES[0]) if score.name == "helpful"]
    assert first.score_id == second.score_id == override["overrides"]
    assert (first.value, first.updated_at, first.scorer_kind) == (4.0, None, "judge")
    assert (second.value, second.scorer_kind) == (2.0, "human")
    assert second.updated_at == second.ts


def test_a_chain_of_overrides_keeps_the_first_id() -> None:
    trace = deepcopy(TRACES[0])
    (override,) = [each for each in trace["info"]["assessments"] if "overrides" in each]
    third = {**override, "assessment_id": "a-3", "overrides": override["assessment_id"], "feedback": {"value": 5}}
    third["create_time"] = third["last_update_time"] = "2026-11-24T00:00:00Z"
    trace["info"]["assessments"].append(third)
    found = [score for score in scores(trace) if score.name == "helpful"]
    assert {score.score_id for score in found} == {override["overrides"]}
    assert [score.value for score in found] == [4.0, 2.0, 5.0]
    assert [score.updated_at is None for score in found] == [True, False, False]


def test_a_withdrawn_feedback_is_a_score_without_value() -> None:
    trace = deepcopy(SHARED[0])
    trace["info"]["assessments"][0]["valid"] = False
    withdrawn = scores(trace)[0]
    assert (withdrawn.value, withdrawn.error_type) == (None, "invalidated")
    assert withdrawn.score_id == scores(SHARED[0])[0].score_id
    assert withdrawn.updated_at is not None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"feedback": {"value": {"a": 1}}}, "bad_value: feedback.value"),
        ({"feedback": {"value": [1]}}, "bad_value: feedback.value"),
        ({"feedback": None}, "missing: feedback"),
        ({"source": {"source_type": "ROBOT"}}, "bad_value: source.source_type"),
        ({"source": None}, "bad_value: source.source_type"),
        ({"create_time": 5}, "bad_value: create_time"),
        ({"assessment_id": None}, "missing: score_id (assessment_id)"),
        ({"assessment_name": ""}, "missing: name"),
    ],
)
def test_reasons_of_scores(change: dict[str, Any], reason: str) -> None:
    trace = deepcopy(SHARED[0])
    trace["info"]["assessments"][0] |= change
    (bad,) = [item for item in read(trace) if isinstance(item, Reject)]
    assert bad.reason.startswith(reason)
    assert (bad.line, bad.offset) == (3, 7)
    assert len(calls(trace)) == 1
    assert len(scores(trace)) == 1  # its neighbour goes in


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"span_id": "abc"}, "bad_value: span_id"),
        ({"start_time_unix_nano": 10**30}, "bad_value: start_time_unix_nano"),
        ({"start_time_unix_nano": None}, "missing: ts"),
    ],
)
def test_reasons_of_spans(change: dict[str, Any], reason: str) -> None:
    trace = deepcopy(SHARED[0])
    trace["data"]["spans"][1] |= change
    (bad,) = [item for item in read(trace) if isinstance(item, Reject)]
    assert bad.reason.startswith(reason)


def test_counts_out_of_range_are_rejected() -> None:
    for usage in ('{"input_tokens": -1}', '{"input_tokens": "many"}', f'{{"output_tokens": {2**70}}}'):
        trace = deepcopy(SHARED[0])
        trace["data"]["spans"][1]["attributes"]["mlflow.chat.tokenUsage"] = usage
        (bad,) = [item for item in read(trace) if isinstance(item, Reject)]
        assert bad.code == "bad_value"


def test_a_call_without_a_model_names_where_it_was_looked_for() -> None:
    trace = deepcopy(SHARED[0])
    attributes = trace["data"]["spans"][1]["attributes"]
    for key in ("model", "mlflow.llm.model", "mlflow.spanInputs", "mlflow.spanOutputs"):
        del attributes[key]
    (bad,) = [item for item in read(trace) if isinstance(item, Reject)]
    assert bad.reason == "missing: model (span attribute model)"


def test_a_trace_under_way_waits() -> None:
    trace = deepcopy(SHARED[0])
    trace["info"]["state"] = "IN_PROGRESS"
    trace["data"]["spans"][1]["end_time_unix_nano"] = None
    assert calls(trace) == []


def test_rows_of_search_traces() -> None:
    for row in ROWS:
        whole = json.loads(row["trace"])
        assert [call.interaction_id for call in calls(row)] == [call.interaction_id for call in calls(whole)]
        columns = {key: value for key, value in row.items() if key != "trace"}
        assert calls(columns) == calls(whole)
        text = {
            key: value if isinstance(value, str) or value is None else json.dumps(value)
            for key, value in columns.items()
        }
        assert calls(text) == calls(whole)  # CSV, Parquet: objects are text
    assert sum(len(calls(row)) for row in ROWS) == len(ROWS) == 3


def test_a_trace_without_spans_is_ignored() -> None:
    assert read({"info": {"trace_id": "tr-1"}, "data": {"spans": []}}) == [Ignored()]
    assert isinstance(read({"info": {}, "data": {}})[0], Reject)


def test_ids_in_hex_and_base64() -> None:
    assert hex_id("gUNL0fB4Y5g=", 8) == "81434bd1f0786398"
    assert hex_id("81434bd1f0786398", 8) == "81434bd1f0786398"
    assert hex_id("0x81434BD1F0786398", 8) == "81434bd1f0786398"
    assert hex_id("gUNL0fB4Y5g=", 16) is None
    for value in (None, "", 5, "é", "a", "====", "x" * 100):
        assert hex_id(value, 8) is None


def test_a_span_that_is_its_own_parent_ends() -> None:
    trace = deepcopy(NESTED[-1])
    for span in trace["data"]["spans"]:
        span["parent_span_id"] = span["span_id"]
    assert len(calls(trace)) == len(trace["data"]["spans"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(value=JSON, data=st.data())
def test_any_value_anywhere_never_raises(value: Any, data: st.DataObject) -> None:
    root = deepcopy(data.draw(st.sampled_from([*SHARED, TRACES[0], NESTED[0]])))
    node: Any = root
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        if not (isinstance(node[key], (dict, list)) and node[key]) or not data.draw(st.integers(0, 5)):
            break
        node = node[key]
    node[key] = data.draw(st.sampled_from([value, json.dumps(value)]))
    items = read(root)
    assert items
    assert all(isinstance(item, (Interaction, Assignment, Score, Reject, Ignored)) for item in items)
