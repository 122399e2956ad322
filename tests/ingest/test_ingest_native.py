"""The native format: what is accepted, and the reason given for what is not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from abtest.ingest import Reject, get
from abtest.ingest.base import epoch_micros
from abtest.ingest.validate import MODELS
from abtest.records import Assignment, Interaction, Score

BASE = {"interaction_id": "i", "ts": "2026-11-01T10:00:00Z", "model": "m"}
SCORE = {
    "type": "score",
    "score_id": "s",
    "ts": "2026-11-01T10:00:00Z",
    "name": "n",
    "scorer_kind": "judge",
    "value": 1,
    "interaction_id": "i",
}


def read(fields: dict[str, Any] | str) -> Any:
    line = fields if isinstance(fields, str) else json.dumps(fields)
    (item,) = get("native").read(line.encode(), 3, 10)
    return item


def reason(fields: dict[str, Any] | str) -> str:
    item = read(fields)
    assert isinstance(item, Reject), item
    assert (item.line, item.offset) == (3, 10)
    return item.reason


def test_three_record_types() -> None:
    assert isinstance(read(BASE), Interaction)
    assert isinstance(read({"type": "interaction", **BASE}), Interaction)
    assert isinstance(read(SCORE), Score)
    fields = {"type": "assignment", "experiment_id": "e", "unit_id": "u", "variant": "v", "ts": BASE["ts"]}
    assert isinstance(read(fields), Assignment)


def test_type_is_found_wherever_it_stands() -> None:
    late = {key: SCORE[key] for key in reversed(SCORE)}
    assert isinstance(read({"explanation": "x" * 200, **late}), Score)
    assert isinstance(read({"response_text": '{"type":"score"} "assignment"', **BASE}), Interaction)
    assert isinstance(read('{"type":"\\u0073core",' + json.dumps(SCORE)[1:].replace('"type": "score", ', "")), Score)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01T10:00:00Z", datetime(2026, 11, 1, 10, tzinfo=UTC)),
        ("2026-11-01t12:00:00.5+02:00", datetime(2026, 11, 1, 10, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-11-01 10:00:00.123456789Z", datetime(2026, 11, 1, 10, 0, 0, 123_456, tzinfo=UTC)),
    ],
)
def test_times(text: str, expected: datetime) -> None:
    assert read({**BASE, "ts": text}).ts == expected


@pytest.mark.parametrize(
    "value",
    [
        1767225600,
        1767225600.5,
        "1767225600",
        "1767225600000",
        "2026-11-01T10:00:00",
        "2026-11-01",
        "2026-11-01T10:00Z",
        "2026-11-01T10:00:00+0200",
        "2026-13-01T10:00:00Z",
        "2026-11-01T24:00:00Z",
        "yesterday",
        None,
        True,
        "",
    ],
)
def test_times_that_would_have_to_be_guessed(value: object) -> None:
    assert reason({**BASE, "ts": value}).startswith("bad_value: ts: ")
    assert reason({**SCORE, "updated_at": value if value is not None else 3}).startswith("bad_value: updated_at: ")


def test_epoch_micros_is_exact() -> None:
    assert epoch_micros(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1
    assert epoch_micros(datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == 253_402_300_799_999_999


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"latency": 1}, "unknown_key: latency (did you mean latency_ms?)"),
        ({"zzz": 1}, "unknown_key: zzz (put it under attributes)"),
        ({"latency_ms": -1}, "bad_value: latency_ms: Input should be greater than or equal to 0"),
        ({"latency_ms": "fast"}, "bad_value: latency_ms: Input should be a valid number"),
        ({"latency_ms": True}, "bad_value: latency_ms: Input should be a valid number"),
        ({"input_tokens": 3.7}, "bad_value: input_tokens: Input should be a valid integer"),
        ({"input_tokens": "12"}, "bad_value: input_tokens: Input should be a valid integer"),
        ({"input_tokens": 2**63}, "bad_value: input_tokens: Input should be less than or equal to 9223372036854775807"),
        ({"exposed": None}, "bad_value: exposed: Input should be a valid boolean"),
        ({"model": ""}, "bad_value: model: String should have at least 1 character"),
        ({"model": "m" * 5000}, "bad_value: model: String should have at most 4096 characters"),
        ({"interaction_id": 7}, "bad_value: interaction_id: Input should be a valid string"),
        ({"type": "span"}, "bad_value: type: 'span' is none of interaction, assignment, score"),
        ({"type": 3}, "bad_value: type: a number is none of interaction, assignment, score"),
    ],
)
def test_reasons(extra: dict[str, Any], expected: str) -> None:
    assert reason({**BASE, **extra}) == expected


def test_reasons_of_broken_lines() -> None:
    assert reason("{").startswith("json: EOF while parsing")
    assert reason("[1]") == "not_object: one JSON object a line is needed, this is an array"
    assert reason("null").endswith("this is null")
    assert reason(json.dumps(BASE) * 2).startswith("json: trailing characters")
    assert reason("{}") == "missing: interaction_id, ts, model"


def test_several_faults_are_all_named_and_counted_under_the_first() -> None:
    item = read({"interaction_id": "i", "ts": "2026-11-01T10:00:00Z", "latency_ms": -1, "id": 3})
    assert item.code == "missing"
    assert "missing: model; bad_value: latency_ms" in item.reason
    assert "unknown_key: id" in item.reason


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have(number: str) -> None:
    line = json.dumps(BASE)[:-1]
    assert reason(f'{line}, "latency_ms": {number}}}').startswith("bad_value: latency_ms: ")
    assert reason(f'{line}, "attributes": {{"a": [{{"b": {number}}}]}}}}') == (
        "bad_value: attributes: numbers must be finite"
    )
    score = json.dumps({**SCORE, "value": 0}).replace('"value": 0', f'"value": {number}')
    assert reason(score).startswith("bad_value: value: ")


@pytest.mark.parametrize(
    "line",
    [
        '{"interaction_id":"i","interaction_id":"j","ts":"2026-11-01T10:00:00Z","model":"m"}',
        '{"interaction_id":"i" , "interaction_id" : "j","ts":"2026-11-01T10:00:00Z","model":"m"}',
        '{"interaction_id":"i","ts":"2026-11-01T10:00:00Z","model":"m","model":"m","response_text":"a: \\"b\\": c"}',
        '{"interaction_id":"i","ts":"2026-11-01T10:00:00Z","model":"m","attributes":{"a":1,"a":2}}',
        '{"interaction_id":"i","interaction_\\u0069d":"j","ts":"2026-11-01T10:00:00+00:00","model":"m"}',
    ],
)
def test_a_key_that_comes_twice(line: str) -> None:
    assert reason(line).startswith("duplicate_key: ")


@pytest.mark.parametrize(
    "text", ["a:b", '"a": 1', 'say \\"x\\": y', "\\", 'ends with quote"', ": : :", '{"a":1,"a":2}', "\t:\t", "è\u2028:"]
)
def test_text_that_looks_like_keys_is_only_text(text: str) -> None:
    for dumped in (json.dumps, lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False)):
        item = read(dumped({**BASE, "response_text": text, "attributes": {"k\\": text, "deep": [{"k": text}]}}))
        assert item.response_text == text


def test_lone_surrogates_and_bad_utf8() -> None:
    assert reason(json.dumps({**BASE, "model": "\ud800"})).startswith("json: ")
    (item,) = get("native").read(json.dumps(BASE).encode().replace(b'"m"', b'"\xff"'), 1, 0)
    assert item.code == "json"


def test_a_score_needs_content_and_target() -> None:
    assert reason({k: v for k, v in SCORE.items() if k != "value"}) == (
        "bad_value: a score needs value, label or error_type"
    )
    assert "a score needs a target" in reason({k: v for k, v in SCORE.items() if k != "interaction_id"})
    assert isinstance(read({k: v for k, v in {**SCORE, "error_type": "ParseError"}.items() if k != "value"}), Score)


def test_models_are_the_public_records_only_narrower() -> None:
    for model, record in zip(MODELS.values(), (Interaction, Assignment, Score), strict=True):
        assert list(model.model_fields) == list(record.model_fields)
