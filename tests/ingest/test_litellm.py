"""LiteLLM payloads of Router, proxy and SDK: mirrored legs, retries, streams, other APIs; against the raw files."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abtest.ingest import Ignored, Reject, detect, get
from abtest.records import Interaction

FIXTURES = Path(__file__).parent / "fixtures" / "litellm"


def load(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FIXTURES / name).read_bytes().splitlines()]


TAGGED = load("router.silent_tagged.jsonl")
MARKED = load("router.silent_marked.jsonl")
ROUTER = load("router.calls.jsonl")
SDK = load("sdk.calls.jsonl")
PROXY = load("proxy.jsonl")


def read(payload: dict[str, Any]) -> Any:
    (item,) = get("litellm").read(json.dumps(payload).encode(), 1, 0)
    return item


def only(payloads: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    return [payload for payload in payloads if all(payload.get(key) == value for key, value in wanted.items())]


def test_silent_legs_marked_by_a_tag_of_their_deployment() -> None:
    calls = [read(payload) for payload in TAGGED]
    assert [call.exposed for call in calls] == [payload["model_group"] != "shadow" for payload in TAGGED]
    assert {(call.exposed, call.variant) for call in calls} == {(True, "control"), (False, "candidate")}
    assert {call.experiment_id for call in calls} == {"e1"}
    assert {call.unit_id for call in calls} == {"u1"}


def test_a_silent_leg_shares_the_request_of_its_primary() -> None:
    pairs: dict[str, list[Interaction]] = {}
    for payload in TAGGED:
        pairs.setdefault(payload["trace_id"], []).append(read(payload))
    assert len(pairs) == 2
    for trace, legs in pairs.items():
        assert {leg.request_id for leg in legs} == {trace}
        assert sorted(leg.exposed for leg in legs) == [False, True]
        assert {leg.attributes["model_group"] for leg in legs} == {"prod", "shadow"}
        assert len({leg.interaction_id for leg in legs}) == 2


def test_silent_legs_marked_by_a_callback() -> None:
    """The group is no tell-tale here; the caller's tag says control on every leg, so the arm is the group."""
    calls = [(payload, read(payload)) for payload in MARKED]
    for payload, call in calls:
        silent = payload["metadata"].get("is_silent_experiment") is True
        assert "variant:control" in payload["request_tags"]
        assert call.exposed is not silent
        assert call.variant == (payload["model_group"] if silent else "control")
    assert [call.exposed for _, call in calls].count(False) == 3
    assert {call.request_id for payload, call in calls if payload["metadata"]["spend_logs_metadata"]} == {"r-9"}


@pytest.mark.parametrize(
    ("change", "variant"),
    [
        ({"request_tags": ["variant:control", "shadow:candidate"]}, "candidate"),
        ({"request_tags": ["variant:control", "abtest.shadow:candidate"]}, "candidate"),
        ({"request_tags": ["variant:control", "exposed:false"]}, "g"),
        ({"request_tags": ["variant:control", "abtest.exposed:false", "variant:b"]}, "b"),
        ({"is_silent_experiment": True}, "g"),
        ({"is_silent_experiment": True, "request_tags": ["variant:control", "variant:b"]}, "b"),
        ({"model_group": "gpt-4o-shadow"}, "gpt-4o-shadow"),
        ({"model_group": "silent2"}, "silent2"),
    ],
)
def test_marks_of_a_shadow(change: dict[str, Any], variant: str) -> None:
    payload = {**deepcopy(SDK[0]), "model_group": "g", "request_tags": ["variant:control"], **change}
    call = read(payload)
    assert (call.exposed, call.variant) == (False, variant)
    assert "request_tags" not in call.attributes


@pytest.mark.parametrize("group", ["foreshadowing", "silently-good", "gpt-4o", ""])
def test_other_groups_are_user_traffic(group: str) -> None:
    assert read({**deepcopy(SDK[0]), "model_group": group}).exposed is True


def test_a_callback_that_writes_all_its_arguments() -> None:
    payload = deepcopy(MARKED[0])
    payload["metadata"].pop("is_silent_experiment", None)
    whole = {"standard_logging_object": payload, "litellm_params": {"metadata": {"is_silent_experiment": True}}}
    assert read(whole).exposed is False
    assert detect([whole], file="kwargs.jsonl") is get("litellm")
    whole["litellm_params"] = {"metadata": {}}
    assert read(whole) == read(payload)


def test_attempts_of_one_request_share_it() -> None:
    requests: dict[str, list[Interaction]] = {}
    for payload in ROUTER:
        call = read(payload)
        requests.setdefault(payload["trace_id"], []).append(call)
        assert call.request_id == payload["trace_id"]
    sizes = sorted(len(attempts) for attempts in requests.values())
    assert sizes == sorted(sum(p["trace_id"] == trace for p in ROUTER) for trace in requests)
    assert max(sizes) == 4  # two tries of two groups
    retried = [call for call in (read(payload) for payload in ROUTER) if call.attempt == 2]
    assert [call.is_error for call in retried] == [False]
    (fallen,) = [call for call in (read(payload) for payload in ROUTER) if "attempted_fallbacks" in call.attributes]
    assert (fallen.attributes["attempted_fallbacks"], fallen.attributes["model_group"]) == (1, "fb")


@pytest.mark.parametrize(
    ("change", "request_id"),
    [
        ({}, "trace"),
        ({"trace_id": "conversation-7"}, None),  # a session id took the place of the trace id
        ({"session_id": "s"}, "trace"),
        ({"model_group": ""}, None),  # no Router, no attempts
        ({"messages": [{"role": "user"}, {"role": "assistant"}, {"role": "user"}]}, None),
        ({"messages": [{"role": "user"}, {"role": "assistant"}], "session_id": "s"}, "trace"),
    ],
)
def test_when_a_trace_is_one_request(change: dict[str, Any], request_id: str | None) -> None:
    payload = {**deepcopy(TAGGED[0]), **change}
    assert read(payload).request_id == (payload["trace_id"] if request_id else None)


def test_a_trace_id_that_the_caller_sent_is_no_request() -> None:
    payload = deepcopy(PROXY[0])
    payload["metadata"]["spend_logs_metadata"] = None
    assert read(payload).request_id == payload["trace_id"]
    payload["metadata"]["requester_metadata"]["session_id"] = payload["trace_id"]
    assert read(payload).request_id is None


def test_the_proxy_keeps_one_call_id_over_all_attempts() -> None:
    calls = [read(payload) for payload in PROXY]
    ids = [payload["litellm_call_id"] for payload in PROXY]
    assert len(set(ids)) < len(ids)
    assert len({call.interaction_id for call in calls}) == len(calls)
    for payload, call in zip(PROXY, calls, strict=True):
        failed = payload["status"] == "failure"
        assert call.interaction_id == payload["litellm_call_id"] + (":failed" if failed else "")


def test_proxy_carriers() -> None:
    calls = [read(payload) for payload in PROXY]
    assert [call.unit_id for call in calls] == [payload["end_user"] for payload in PROXY]
    retried = [call for call in calls if call.unit_id == "u2"]
    assert {(call.variant, call.experiment_id) for call in retried} == {("b", "e1")}
    for call in calls:
        assert not any("User-Agent" in str(tag) for tag in call.attributes.get("request_tags", []))
    header = deepcopy(PROXY[-1])
    header["metadata"]["requester_metadata"] = {}
    header["metadata"]["requester_custom_headers"] = {"X-Abtest-Variant": "h", "x-abtest-unit-id": "u0", "x-other": "1"}
    header["end_user"] = header["model_parameters"]["user"] = None
    header["metadata"]["user_api_key_end_user_id"] = None
    call = read(header)
    assert (call.variant, call.unit_id) == ("h", "u0")
    assert "x-other" not in call.attributes


def test_the_name_of_the_group_is_no_model_version() -> None:
    renamed = [payload for payload in PROXY if payload["status"] == "success"]
    assert any(payload["response"]["model"] == payload["model_group"] for payload in renamed)
    assert all(read(payload).model_version != payload["model_group"] for payload in renamed)


def test_a_stream_without_usage_has_no_counts_and_no_cost() -> None:
    streams = [payload for payload in ROUTER if payload["stream"] is True]
    assert len(streams) == 4
    for payload in streams:
        call = read(payload)
        if payload["total_tokens"]:
            assert (call.input_tokens, call.output_tokens, call.cached_input_tokens) == (14, 8, 4)
            assert call.cost_usd == payload["response_cost"] > 0
        else:
            assert payload["response_cost"] == 0
            assert (call.input_tokens, call.output_tokens, call.reasoning_tokens, call.cost_usd) == (None,) * 4


def test_a_streamed_refusal_is_lost_by_litellm_and_unknown() -> None:
    empty = [
        payload for payload in only(ROUTER, stream=True) if not payload["response"]["choices"][0]["message"]["content"]
    ]
    assert [read(payload).refused for payload in empty] == [None]


def test_a_stream_that_broke() -> None:
    (payload,) = [payload for payload in ROUTER if payload["status"] == "failure" and payload["completion_tokens"]]
    call = read(payload)
    assert payload["stream"] is None
    assert (call.stream, call.is_error, call.error_type) == (True, True, "APIError")
    assert call.latency_ms == pytest.approx((payload["endTime"] - payload["startTime"]) * 1000, abs=0.001)


def test_timeouts() -> None:
    found = [read(p) for p in ROUTER if p["error_information"]["error_class"] == "Timeout"]
    assert [(call.is_error, call.http_status) for call in found] == [(True, 408), (True, 408)]


def test_other_apis() -> None:
    responses = [read(payload) for payload in only(SDK, call_type="aresponses")]
    assert [call.refused for call in responses] == [False, True, False]
    assert [call.finish_reason for call in responses] == ["stop", "stop", "stop"]
    assert responses[0].response_text == "Paris is the capital of France."
    (text,) = [read(payload) for payload in only(SDK, call_type="atext_completion")]
    assert (text.operation, text.response_text, text.refused) == (
        "text_completion",
        "Paris is the capital of France.",
        False,
    )
    claude = [read(payload) for payload in only(SDK, custom_llm_provider="anthropic")]
    assert [call.refused for call in claude] == [False, True, False]
    assert [call.finish_reason for call in claude] == ["stop", "refusal", "stop"]
    assert [(call.input_tokens, call.cached_input_tokens) for call in claude] == [(1114, 1000)] * 3


def test_cache_hits() -> None:
    (hit,) = [read(payload) for payload in only(SDK, cache_hit=True)]
    assert (hit.cache_hit, hit.cost_usd, hit.input_tokens) == (True, 0, 14)
    assert hit.provider_response_id is not None
    assert "_cache_hit" in hit.provider_response_id


def test_redacted_messages_are_unknown() -> None:
    (payload,) = [p for p in SDK if "redacted-by-litellm" in json.dumps(p["messages"])]
    call = read(payload)
    assert (call.prompt_text, call.response_text, call.refused) == (None, None, None)


def test_prefixed_names_and_what_is_left() -> None:
    (payload,) = [p for p in SDK if p["metadata"]["spend_logs_metadata"]]
    call = read(payload)
    assert (call.experiment_id, call.variant) == ("e1", "b")
    assert call.attributes == {"color": "red", "k": 1}


def test_a_table_gives_the_same_records() -> None:
    """CSV and Parquet: objects as JSON text, numbers as text, empty cells."""
    for payload in [*ROUTER, *SDK]:
        row = {
            key: "" if value is None else json.dumps(value) if isinstance(value, (dict, list)) else str(value)
            for key, value in payload.items()
        }
        assert read(row) == read(payload)


def test_counts_out_of_range_are_rejected() -> None:
    for change in ({"prompt_tokens": -1}, {"completion_tokens": 2**70}, {"response_cost": -0.5}, {"response_time": -1}):
        payload = {**deepcopy(SDK[0]), **change}
        payload["metadata"]["usage_object"] = {}
        assert isinstance(read(payload), Reject), change


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(value=JSON, data=st.data())
def test_any_value_anywhere_never_raises(value: Any, data: st.DataObject) -> None:
    root = deepcopy(data.draw(st.sampled_from([ROUTER[0], PROXY[0], SDK[0], MARKED[0]])))
    node: Any = root
    while True:
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else list(range(len(node)))))
        if not (isinstance(node[key], (dict, list)) and node[key]) or not data.draw(st.integers(0, 5)):
            break
        node = node[key]
    node[key] = data.draw(st.sampled_from([value, json.dumps(value)]))
    assert isinstance(read(root), (Interaction, Reject, Ignored))
