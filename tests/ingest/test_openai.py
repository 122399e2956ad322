"""OpenAI objects: bare answers, batch lines, wrapped lines."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abtest.ingest import Ignored, Reject, detect, get
from abtest.ingest.provider_log import custom_id
from abtest.records import Interaction

FIXTURES = Path(__file__).parent / "fixtures" / "openai"
ERROR = {"message": "Rate limit reached", "type": "requests", "param": None, "code": "rate_limit_exceeded"}
FAILED = {
    "id": "batch_req_9",
    "custom_id": "swap|control|u9",
    "response": {"status_code": 429, "request_id": "req_9", "body": {"error": ERROR}},
    "error": None,
}
EXPIRED = {
    "id": "batch_req_10",
    "custom_id": "swap|control|u10",
    "response": None,
    "error": {"code": "batch_expired", "message": "This request could not be executed in time."},
}


def load(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FIXTURES / name).read_bytes().splitlines()]


BARE = load("bare.jsonl")
BATCH = load("batch_output.jsonl")
WRAPPED = load("wrapped.jsonl")


def read(body: Any) -> Any:
    (item,) = get("openai").read(json.dumps(body).encode(), 2, 5)
    return item


def test_bare_answers() -> None:
    calls = [read(body) for body in BARE]
    assert [call.interaction_id for call in calls] == [body["id"] for body in BARE]
    assert [call.provider_response_id for call in calls] == [body["id"] for body in BARE]
    assert [call.ts.timestamp() for call in calls] == [body.get("created", body.get("created_at")) for body in BARE]
    assert [call.refused for call in calls] == [False, True, None, False]
    assert [call.finish_reason for call in calls] == ["stop", "stop", "content_filter", "stop"]
    assert {(call.input_tokens, call.cached_input_tokens) for call in calls} == {(14, 4)}
    assert {(call.output_tokens, call.reasoning_tokens) for call in calls} == {(8, 2)}
    assert {(call.model, call.model_version) for call in calls} == {("gpt-4o-2024-08-06",) * 2}
    assert {call.latency_ms for call in calls} == {None}
    assert {call.cost_usd for call in calls} == {None}


def test_metadata_of_a_response_carries_the_experiment() -> None:
    call = read(BARE[3])
    assert BARE[3]["object"] == "response"
    assert (call.experiment_id, call.variant, call.unit_id) == ("e1", "b", "u9")


def test_stored_answers_come_in_pages() -> None:
    page = {
        "object": "list",
        "data": [{**BARE[0], "metadata": {"variant": "b", "plan": "pro"}}, BARE[1]],
        "has_more": False,
    }
    items = list(get("openai").read(json.dumps(page).encode(), 1, 0))
    assert [item.variant for item in items] == ["b", None]
    assert items[0].attributes == {"plan": "pro", "service_tier": "default"}
    assert detect([page], file="page.json").name == "openai"


def test_batch_lines() -> None:
    calls = [read(line) for line in BATCH]
    for line, call in zip(BATCH, calls, strict=True):
        experiment, variant, unit = line["custom_id"].split("|")
        assert (call.experiment_id, call.variant, call.unit_id) == (experiment, variant, unit)
        assert call.interaction_id == line["custom_id"]
        assert call.provider_response_id == line["response"]["body"]["id"]
        assert call.http_status == 200
    assert [call.refused for call in calls] == [False, True, False, None]
    assert [call.finish_reason for call in calls] == ["stop", "stop", "length", "content_filter"]


def test_a_plain_custom_id_is_the_request() -> None:
    call = read({**BATCH[0], "custom_id": "request-1"})
    assert (call.interaction_id, call.request_id) == ("request-1", "request-1")
    assert (call.experiment_id, call.variant, call.unit_id) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("e|b|u1", {"experiment_id": "e", "variant": "b", "unit_id": "u1"}),
        ("e|b|u1|r1", {"experiment_id": "e", "variant": "b", "unit_id": "u1", "request_id": "r1"}),
        ("e--b--u-1--r1", {"experiment_id": "e", "variant": "b", "unit_id": "u-1", "request_id": "r1"}),
        (
            "experiment=e;variant=b;unit=u1;request=r1",
            {"experiment_id": "e", "variant": "b", "unit_id": "u1", "request_id": "r1"},
        ),
        ("exp=e, variant=b, user_id=u1", {"experiment_id": "e", "variant": "b", "unit_id": "u1"}),
        ("Variant=b & prompt_version=v7", {"variant": "b", "prompt_version": "v7"}),
        ("variant=b;ts=2026-11-01T10:00:00Z;model=m", {"variant": "b", "ts": "2026-11-01T10:00:00Z", "model": "m"}),
        ("request-1", {}),
        ("a|b", {}),
        ("a||c", {}),
        ("a|b|c|d|e", {}),
        ("colour=red;variant=b", {}),
        ("variant=", {}),
        ("", {}),
    ],
)
def test_what_a_custom_id_carries(text: str, fields: dict[str, str]) -> None:
    assert custom_id(text) == fields


@pytest.mark.parametrize("line", [FAILED, EXPIRED])
def test_a_failed_batch_line_has_no_time_and_the_reason_says_what_to_log(line: dict[str, Any]) -> None:
    item = read(line)
    assert isinstance(item, Reject)
    assert item.reason == 'missing: ts, model (log {"ts": ..., "model": ..., "response": <this object>} instead)'
    assert (item.line, item.offset) == (2, 5)


@pytest.mark.parametrize(
    ("line", "error", "status"), [(FAILED, "rate_limit_exceeded", 429), (EXPIRED, "batch_expired", None)]
)
def test_a_failed_batch_line_in_a_wrapper(line: dict[str, Any], error: str, status: int | None) -> None:
    call = read({"ts": "2026-11-20T10:00:00Z", "model": "gpt-4o", "response": line})
    assert (call.is_error, call.error_type, call.http_status) == (True, error, status)
    assert (call.experiment_id, call.variant) == ("swap", "control")
    assert call.interaction_id == line["custom_id"]


def test_a_failed_batch_line_whose_custom_id_says_all() -> None:
    name = "experiment=e;variant=b;unit=u;ts=2026-11-01T10:00:00Z;model=gpt-4o"
    call = read({**EXPIRED, "custom_id": name})
    assert (call.is_error, call.model, call.variant) == (True, "gpt-4o", "b")
    assert call.ts.isoformat() == "2026-11-01T10:00:00+00:00"


def test_wrapped_lines() -> None:
    calls = [read(line) for line in WRAPPED]
    for line, call in zip(WRAPPED, calls, strict=True):
        assert call.ts.isoformat() == line["ts"]
        assert call.latency_ms == line["latency_ms"]
        assert (call.unit_id, call.variant, call.prompt_version) == (line["unit_id"], line["variant"], "v6")
        assert call.model == line["request"]["model"]
        assert call.is_error is ("error" in line)
        if line.get("response", {}).get("id"):
            assert call.interaction_id == line["response"]["id"]
    assert [call.operation for call in calls] == ["chat"] * 3 + [None] + ["chat"] * 3 + [
        "embeddings",
        "text_completion",
    ]
    assert [call.refused for call in calls] == [False, True, False, None, False, True, False, None, None]
    assert [call.finish_reason for call in calls] == [
        "stop",
        "stop",
        "tool",
        None,
        "stop",
        "stop",
        "length",
        None,
        "stop",
    ]
    assert calls[0].prompt_text == "You are brief.\nhi"
    assert calls[0].request_id == "r1"
    assert calls[0].params_sha256 is not None
    assert (calls[1].params_sha256, calls[1].tools_sha256) == (None, None)
    assert calls[2].tools_sha256 is not None
    assert (calls[3].error_type, calls[3].http_status) == ("rate_limit_exceeded", 429)
    assert calls[4].prompt_text == "Be brief.\nhi"
    assert calls[4].attributes["tier"] == "gold"
    assert calls[7].embedding_model_version == "text-embedding-3-small"
    assert calls[7].input_tokens == 5


def test_a_wrapped_failure_keeps_its_id_when_read_again() -> None:
    failure = WRAPPED[3]
    assert read(failure).interaction_id.startswith("line:")
    assert read(failure) == read(deepcopy(failure))
    assert read({**failure, "unit_id": "other"}).interaction_id != read(failure).interaction_id
    assert read({**failure, "interaction_id": "i1"}).interaction_id == "i1"


def test_what_stands_beside_wins() -> None:
    line = {
        "ts": "2026-11-20T10:00:00Z",
        "model": "alias",
        "cost_usd": 0.5,
        "refused": True,
        "attributes": {"country": "ch"},
        "metadata": {"variant": "from-metadata", "plan": "pro"},
        "variant": "beside",
        "response": BARE[0],
    }
    call = read(line)
    assert (call.model, call.cost_usd, call.refused, call.variant) == ("alias", 0.5, True, "beside")
    assert call.attributes == {"country": "ch", "plan": "pro", "service_tier": "default"}
    assert call.ts.isoformat() == "2026-11-20T10:00:00+00:00"


def test_the_time_of_the_answer_counts_where_none_stands_beside() -> None:
    line = {"unit_id": "u1", "variant": "b", "response": BARE[0]}
    call = read(line)
    assert (call.ts.timestamp(), call.unit_id) == (BARE[0]["created"], "u1")
    assert detect([line], file="x").name == "openai"


def test_an_unknown_key_beside_the_answer_is_named() -> None:
    item = read({"ts": "2026-11-20T10:00:00Z", "latency": 5, "response": BARE[0]})
    assert isinstance(item, Reject)
    assert item.reason == "unknown_key: latency (did you mean latency_ms?)"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": ERROR}, "missing: interaction_id, ts, model (log"),
        ({**BARE[0], "created": "soon"}, "bad_value: created: epoch seconds"),
        ({**BARE[0], "created": 1e15}, "bad_value: created: time outside"),
        ({**BARE[0], "created": None}, "missing: ts (log"),
        ({**BARE[0], "id": None}, "missing: interaction_id"),
        ({**BARE[0], "object": "chat.completion.chunk"}, "not_an_answer: a piece of a stream"),
        ({"hello": 1}, "not_an_answer: its keys are hello"),
        ({**BATCH[0], "custom_id": 5}, "bad_value: custom_id"),
        ({**BATCH[0], "response": {"status_code": 200}}, "missing: response.body"),
        ({"ts": "yesterday", "response": BARE[0]}, "bad_value: ts"),
        ({"ts": "2026-11-20T10:00:00Z", "latency_ms": -1, "response": BARE[0]}, "bad_value: latency_ms"),
        ({"ts": "2026-11-20T10:00:00Z", "latency_ms": "fast", "response": BARE[0]}, "bad_value: latency_ms"),
    ],
)
def test_reasons(body: dict[str, Any], reason: str) -> None:
    item = read(body)
    assert isinstance(item, Reject)
    assert item.reason.startswith(reason)


def test_counts_out_of_range_are_rejected() -> None:
    for usage in (
        {"prompt_tokens": -1},
        {"completion_tokens": 2**70},
        {"prompt_tokens": "many"},
        {"prompt_tokens": 1.5},
    ):
        item = read({**BARE[0], "usage": usage})
        assert isinstance(item, Reject)
        assert item.code == "bad_value"


def test_an_answer_under_way_is_no_record() -> None:
    assert read({**BARE[3], "status": "in_progress"}) == Ignored()


def test_a_failed_response() -> None:
    call = read({**BARE[3], "status": "failed", "output": [], "error": {"code": "server_error", "message": "x"}})
    assert (call.is_error, call.error_type, call.finish_reason, call.refused) == (True, "server_error", None, None)


def test_detection() -> None:
    for body in (*BARE, *BATCH, *WRAPPED, FAILED, EXPIRED, {"error": ERROR}):
        assert detect([body], file="x").name == "openai"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(value=JSON, data=st.data())
def test_any_value_anywhere_never_raises(value: Any, data: st.DataObject) -> None:
    root = deepcopy(data.draw(st.sampled_from([BARE[0], BARE[3], BATCH[0], WRAPPED[0], WRAPPED[4], FAILED])))
    node: Any = root
    while True:
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else list(range(len(node)))))
        if not (isinstance(node[key], (dict, list)) and node[key]) or not data.draw(st.integers(0, 5)):
            break
        node = node[key]
    node[key] = value
    assert isinstance(read(root), (Interaction, Reject, Ignored))
