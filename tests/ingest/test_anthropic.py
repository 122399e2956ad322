"""Anthropic objects: Messages, batch results, wrapped lines."""

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

FIXTURES = Path(__file__).parent / "fixtures" / "anthropic"
WRAPPED = [json.loads(line) for line in (FIXTURES / "wrapped.jsonl").read_bytes().splitlines()]
MESSAGE: dict[str, Any] = WRAPPED[0]["response"]
BATCH = [line["response"] for line in WRAPPED if "custom_id" in line.get("response", {})]
AT = "2026-11-20T10:00:00Z"


def read(body: Any) -> Any:
    (item,) = get("anthropic").read(json.dumps(body).encode(), 2, 5)
    return item


def wrap(response: dict[str, Any], **beside: Any) -> Any:
    return read({"ts": AT, **beside, "response": response})


def test_a_bare_message_has_no_time_and_the_reason_says_what_to_log() -> None:
    item = read(MESSAGE)
    assert isinstance(item, Reject)
    assert item.reason == 'missing: ts (log {"ts": ..., "response": <this object>} instead)'


def test_wrapped_messages() -> None:
    lines = [line for line in WRAPPED if "custom_id" not in line.get("response", {})]
    calls = [read(line) for line in lines]
    assert [call.finish_reason for call in calls] == ["stop", "refusal", "length", "tool", None]
    assert [call.refused for call in calls] == [False, True, False, False, None]
    assert [call.is_error for call in calls] == [False, False, False, False, True]
    assert [call.unit_id for call in calls] == ["u1", "u2", "u3", "u4", "u5"]  # u1 from metadata.user_id
    assert [call.variant for call in calls] == [line["variant"] for line in lines]
    assert [call.latency_ms for call in calls] == [line["latency_ms"] for line in lines]
    assert (calls[4].error_type, calls[4].http_status) == ("rate_limit_error", 429)
    assert calls[0].prompt_text == "Be brief.\nhi"
    assert calls[0].response_text == "Paris is the capital of France."
    assert calls[3].tools_sha256 is not None
    assert calls[0].interaction_id == calls[0].provider_response_id == MESSAGE["id"]


def test_input_is_fresh_plus_both_kinds_of_cache() -> None:
    usage = MESSAGE["usage"]
    call = wrap(MESSAGE)
    parts = (usage["input_tokens"], usage["cache_creation_input_tokens"], usage["cache_read_input_tokens"])
    assert parts == (14, 100, 1000)
    assert (call.input_tokens, call.cached_input_tokens, call.output_tokens) == (1114, 1000, 8)
    plain = wrap({**MESSAGE, "usage": {"input_tokens": 14, "output_tokens": 8}})
    assert (plain.input_tokens, plain.cached_input_tokens) == (14, None)
    nulls = wrap({**MESSAGE, "usage": {**usage, "cache_creation_input_tokens": None, "cache_read_input_tokens": None}})
    assert (nulls.input_tokens, nulls.cached_input_tokens) == (14, None)
    thinking = wrap({**MESSAGE, "usage": {**usage, "output_tokens_details": {"thinking_tokens": 5}}})
    assert thinking.reasoning_tokens == 5


@pytest.mark.parametrize("part", ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"])
@pytest.mark.parametrize("value", [-1, "many", 1.5, 2**70])
def test_counts_out_of_range_are_rejected(part: str, value: Any) -> None:
    item = wrap({**MESSAGE, "usage": {**MESSAGE["usage"], part: value}})
    assert isinstance(item, Reject)
    assert item.code == "bad_value"


@pytest.mark.parametrize(
    ("stop", "reason", "refused"),
    [
        ("end_turn", "stop", False),
        ("max_tokens", "length", False),
        ("stop_sequence", "stop", False),
        ("model_context_window_exceeded", "length", False),
        ("pause_turn", "other", False),
        ("refusal", "refusal", True),
    ],
)
def test_stop_reasons(stop: str, reason: str, refused: bool) -> None:
    call = wrap({**MESSAGE, "stop_reason": stop})
    assert (call.finish_reason, call.refused) == (reason, refused)


def test_batch_results() -> None:
    kinds = [line["result"]["type"] for line in BATCH]
    assert kinds == ["succeeded", "errored", "expired", "canceled"]
    done, failed, expired, cancelled = [wrap(line, model="claude-sonnet-4-5") for line in BATCH]
    assert (done.experiment_id, done.variant, done.unit_id, done.request_id) == ("e1", "treatment", "u6", "r6")
    assert (done.interaction_id, done.input_tokens, done.is_error) == (BATCH[0]["custom_id"], 1114, False)
    assert (failed.is_error, failed.error_type, failed.unit_id) == (True, "invalid_request_error", "u7")
    assert (expired.is_error, expired.error_type, expired.request_id) == (True, "expired", "plain-8")
    assert cancelled == Ignored()


def test_a_bare_batch_result_has_no_time() -> None:
    assert read(BATCH[0]).reason.startswith("missing: ts (log")
    assert read(BATCH[1]).reason.startswith("missing: ts, model (log")
    assert read({**BATCH[0], "result": {"type": "odd"}}).reason.startswith("bad_value: result.type")


def test_detection() -> None:
    for body in (MESSAGE, *BATCH, *WRAPPED[:4], *WRAPPED[5:]):
        assert detect([body], file="x").name == "anthropic"
    assert detect(WRAPPED, file="x").name == "anthropic"
    assert (
        detect([{"type": "error", "error": {"type": "overloaded_error", "message": "x"}}], file="x").name == "anthropic"
    )


def test_a_file_of_both_providers_is_read() -> None:
    answer = {"id": "c1", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": [], "usage": {}}
    mixed = [{"ts": AT, "response": answer}, {"ts": AT, "response": MESSAGE}]
    fmt = detect(mixed, file="mixed.jsonl")
    calls = [fmt.read(json.dumps(line).encode(), 1, 0)[0] for line in mixed]
    assert [call.model for call in calls if isinstance(call, Interaction)] == ["gpt-4o", MESSAGE["model"]]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(value=JSON, data=st.data())
def test_any_value_anywhere_never_raises(value: Any, data: st.DataObject) -> None:
    root = deepcopy(data.draw(st.sampled_from(WRAPPED)))
    node: Any = root
    while True:
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else list(range(len(node)))))
        if not (isinstance(node[key], (dict, list)) and node[key]) or not data.draw(st.integers(0, 5)):
            break
        node = node[key]
    node[key] = value
    assert isinstance(read(root), (Interaction, Reject, Ignored))
