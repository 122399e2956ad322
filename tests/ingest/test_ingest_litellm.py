"""LiteLLM payloads: genuine ones, and small changes to them."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from abtest.ingest import Ignored, Reject, get
from abtest.records import Interaction

FIXTURES = Path(__file__).parent / "fixtures" / "litellm"
PAYLOADS = [json.loads(line) for line in (FIXTURES / "standard_logging_payload.jsonl").read_bytes().splitlines()]
SPEND = json.loads((FIXTURES / "standard_logging_payload.spend_logs_metadata.jsonl").read_bytes())


def read(payload: dict[str, Any]) -> Any:
    (item,) = get("litellm").read(json.dumps(payload).encode(), 1, 0)
    return item


def changed(payload: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**deepcopy(payload), **fields}


CALLS: list[Interaction] = [read(payload) for payload in PAYLOADS]


def test_ids_units_and_arms() -> None:
    assert [call.interaction_id for call in CALLS] == [payload["litellm_call_id"] for payload in PAYLOADS]
    assert [call.unit_id for call in CALLS] == ["u1", "u2", "u3", "u4", "u5", None]
    assert {call.experiment_id for call in CALLS} == {"support_prompt_v7"}
    assert [call.variant for call in CALLS] == ["control", "treatment", "treatment", "control", "treatment", None]
    assert [call.operation for call in CALLS] == ["chat"] * 5 + ["embeddings"]


def test_success_in_full() -> None:
    call = CALLS[0]
    assert call.ts.isoformat() == "2026-11-23T01:59:03.914443+00:00"
    assert call.latency_ms == pytest.approx(1570.9900856018066)
    assert (call.model, call.model_version, call.provider) == ("gpt-4o", "gpt-4o-2024-08-06", "openai")
    assert (call.input_tokens, call.cached_input_tokens) == (14, 4)
    assert (call.output_tokens, call.reasoning_tokens) == (8, 2)
    assert call.cost_usd == 0.00011
    assert call.provider_response_id == "chatcmpl-fake000024"
    assert (call.finish_reason, call.refused, call.is_error) == ("stop", False, False)
    assert call.response_text == "Paris is the capital of France."
    assert call.prompt_text == "You are a support bot.\nWhat is the capital of France?"
    assert (call.stream, call.ttft_ms, call.cache_hit, call.session_id) == (None, None, None, None)


def test_refusal() -> None:
    assert [call.refused for call in CALLS] == [False, True, False, None, False, None]


def test_failure() -> None:
    call = CALLS[3]
    assert (call.is_error, call.error_type, call.http_status) == (True, "RateLimitError", 429)
    assert call.provider_response_id is None
    assert (call.input_tokens, call.output_tokens) == (None, None)
    assert call.cost_usd == 0
    assert read(changed(PAYLOADS[3], response_cost=None)).cost_usd is None


def test_streaming_duration_is_end_minus_start() -> None:
    """`response_time` is the time to the first token here: 0.27 s of 0.35 s."""
    call = CALLS[4]
    assert call.stream is True
    assert call.latency_ms == pytest.approx(348.055)
    assert call.ttft_ms == pytest.approx(265.82)
    assert PAYLOADS[4]["response_time"] * 1000 == pytest.approx(call.ttft_ms, abs=0.01)


def test_spend_logs_metadata() -> None:
    call = read(SPEND)
    assert (call.experiment_id, call.variant, call.unit_id) == ("e1", "control", "u1")
    assert call.attributes == {"k": "v"}


def test_tags() -> None:
    tags = ["experiment:e2", "variant: b", "prompt_version:v3", "surface:mail", "team-a", "color:red", 5]
    call = read(changed(PAYLOADS[0], request_tags=tags))
    assert (call.experiment_id, call.variant, call.prompt_version, call.surface) == ("e2", "b", "v3", "mail")
    assert call.attributes == {"request_tags": ["team-a", "color:red"]}


def test_unit_in_order_of_trust() -> None:
    payload = changed(SPEND, end_user="end", model_parameters={"user": "parameter"})
    assert read(payload).unit_id == "end"
    assert read(changed(payload, end_user="")).unit_id == "parameter"
    assert read(changed(payload, end_user=None, model_parameters={})).unit_id == "u1"


def test_requester_metadata() -> None:
    payload = deepcopy(PAYLOADS[0])
    payload["request_tags"] = []
    payload["metadata"]["requester_metadata"] = {"experiment_id": "e", "variant": "b", "prompt_version": 4}
    call = read(payload)
    assert (call.experiment_id, call.variant, call.prompt_version) == ("e", "b", "4")


def test_refusal_in_the_message_and_content_filter() -> None:
    payload = deepcopy(PAYLOADS[0])
    message = payload["response"]["choices"][0]["message"]
    message["provider_specific_fields"] = None
    message["refusal"] = "I cannot."
    assert read(payload).refused is True
    message["refusal"] = None
    payload["response"]["choices"][0]["finish_reason"] = "content_filter"
    assert read(payload).refused is None
    payload["response"]["choices"][0]["finish_reason"] = "tool_calls"
    message.update(content=None, tool_calls=[{"id": "t"}])
    assert (read(payload).refused, read(payload).finish_reason) == (False, "tool")


def test_redacted_content_is_unknown() -> None:
    payload = deepcopy(PAYLOADS[0])
    payload["messages"] = "redacted-by-litellm"
    payload["response"]["choices"][0]["message"]["content"] = "redacted-by-litellm"
    call = read(payload)
    assert (call.prompt_text, call.response_text, call.refused) == (None, None, None)


def test_response_that_is_no_object() -> None:
    for response in (None, "text", [], {"choices": []}, {"choices": [None]}):
        call = read(changed(PAYLOADS[0], response=response))
        assert (call.model_version, call.finish_reason, call.refused) == (None, None, None)


@pytest.mark.parametrize(
    ("call_type", "operation"),
    [("acompletion", "chat"), ("aresponses", "chat"), ("atext_completion", "text_completion"), ("", "chat")],
)
def test_call_types(call_type: str, operation: str) -> None:
    assert read(changed(PAYLOADS[0], call_type=call_type)).operation == operation


def test_calls_of_other_kinds_are_ignored() -> None:
    assert read(changed(PAYLOADS[0], call_type="acreate_file")) == Ignored()


def test_iso_times_are_taken_too() -> None:
    call = read(changed(PAYLOADS[0], startTime="2026-11-23T01:59:03Z"))
    assert call.ts.isoformat() == "2026-11-23T01:59:03+00:00"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"litellm_call_id": None}, "missing: interaction_id (litellm_call_id)"),
        ({"startTime": None}, "missing: ts"),
        ({"startTime": 1e30}, "bad_value: startTime: time outside the years 1 to 9999"),
        ({"prompt_tokens": -1}, "bad_value: input_tokens: Input should be greater than or equal to 0"),
        ({"response_cost": "free"}, "bad_value: cost_usd: Input should be a valid number"),
        ({"stream": "yes"}, "bad_value: stream: Input should be a valid boolean"),
    ],
)
def test_reasons(fields: dict[str, Any], reason: str) -> None:
    item = read(changed(PAYLOADS[0], **fields))
    assert isinstance(item, Reject)
    assert item.reason == reason


def test_the_price_table_in_every_payload_is_dropped() -> None:
    assert all("model_map_information" in payload for payload in PAYLOADS)
    assert all(len(call.model_dump_json()) < 2500 for call in CALLS)
