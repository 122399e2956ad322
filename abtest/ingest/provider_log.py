"""Logs of raw provider objects: bare answers, batch output lines, and wrapped lines; OpenAI and Anthropic alike.

A **wrapped** line is how to log an answer yourself: what the provider does not say stands beside its object.

    {"ts": "2026-11-20T10:00:00Z", "latency_ms": 812, "unit_id": "u1", "experiment_id": "e", "variant": "b",
     "request": {...what was sent...}, "response": {...what came back, or a batch line...}}

Any field of a native interaction may stand there; it wins over what the object says. A call that failed has `error`
(the error body) instead of `response`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from abtest.errors import nearest
from abtest.ingest import labels
from abtest.ingest.base import (
    Ignored,
    Item,
    digest,
    items,
    mapping,
    number_or_none,
    parse_object,
    reject,
    rfc3339,
    text_or_none,
)
from abtest.ingest.cells import count, flag, number
from abtest.ingest.names import ALIASES
from abtest.ingest.provider import UNFINISHED, answer_fields, request_fields, shape
from abtest.ingest.validate import from_fields
from abtest.records import Interaction

WRAPPER = frozenset({*Interaction.model_fields, "request", "response", "error", "metadata"})
SEPARATORS = (";", "|", "&", ",")
POSITIONS = ("experiment_id", "variant", "unit_id", "request_id")
KEYS = {
    **{name: field for field, names in ALIASES.items() for name in names},
    "unit": "unit_id",
    "request": "request_id",
    "model": "model",
    "ts": "ts",
}
COUNTS = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "turn", "attempt", "http_status")
NUMBERS = ("latency_ms", "ttft_ms", "cost_usd")
FLAGS = ("exposed", "refused", "format_ok", "is_error", "stream", "cache_hit")


def is_wrapped(value: object) -> bool:
    """Tell whether a line is a wrapped one: a time beside an answer or an error, or only our own keys beside an answer."""
    body = mapping(value)
    if "custom_id" in body:
        return False
    if "ts" in body and ("response" in body or "error" in body):
        return True
    inner = mapping(body.get("response"))
    return (shape(inner) is not None or "custom_id" in inner) and body.keys() <= WRAPPER


def read(line: bytes, number: int, offset: int) -> Sequence[Item]:
    """Read one line; a page of stored answers gives one record each."""
    body = parse_object(line)
    if isinstance(body, str):
        return (reject(line, number, offset, body),)
    page = items(body.get("data")) if body.get("object") == "list" and shape(body) is None else []
    found = [_record(mapping(each)) for each in page] if page else [_record(body)]
    return [reject(line, number, offset, item) if isinstance(item, str) else item for item in found]


def custom_id(text: str) -> dict[str, str]:
    """Read what a `custom_id` carries; empty when it is of no form that is known.

    Forms: `experiment=e;variant=b;unit=u1;request=r1` (any order; also with | & or , between; every part has to be a
    pair with a name that is known), and by position `e|b|u1` or `e|b|u1|r1`. Anthropic allows only letters, digits,
    `_` and `-`, so `e--b--u1--r1` is the same. A line that failed has neither time nor model: `ts=...;model=...` say them.
    """
    if "=" in text:
        mark = next((mark for mark in SEPARATORS if mark in text), SEPARATORS[0])
        named = [part.partition("=") for part in text.split(mark) if part.strip()]
        if any(name.strip().lower() not in KEYS or not value.strip() for name, _, value in named):
            return {}
        return {KEYS[name.strip().lower()]: value.strip() for name, _, value in named}
    parts = [part.strip() for part in text.split("|" if "|" in text else "--")]
    if len(parts) not in (3, 4) or not all(parts):
        return {}
    return dict(zip(POSITIONS, parts, strict=False))


def _record(body: dict[str, Any]) -> Item | str:
    if is_wrapped(body):
        return _wrapped(body)
    fields = _object(body)
    return fields if isinstance(fields, (str, Ignored)) else _finish(fields)


def _finish(fields: dict[str, Any]) -> Item | str:
    item = from_fields("interaction", fields)
    if isinstance(item, str) and item.startswith("missing: "):
        missing = item.removeprefix("missing: ").split(", ")
        beside = "".join(f'"{name}": ..., ' for name in ("ts", "model") if name in missing)
        return f'{item} (log {{{beside}"response": <this object>}} instead)' if beside else item
    return item


def _wrapped(body: dict[str, Any]) -> Item | str:
    unknown = next((key for key in body if key not in WRAPPER), None)
    if unknown is not None:
        best = nearest(unknown, WRAPPER)
        hint = f"did you mean {best}?" if best else "put it under attributes"
        return f"unknown_key: {unknown[:100]} ({hint})"
    request, response = mapping(body.get("request")), mapping(body.get("response"))
    sent = {key: value for key, value in request_fields(request).items() if value is not None}
    said = _object(response) if response else {}
    if isinstance(said, (str, Ignored)):
        return said
    known = {key: value for key, value in said.items() if value is not None}
    own = {key: _cell(key, value) for key, value in body.items() if key in Interaction.model_fields and value != ""}
    carried, kept = _metadata(mapping(body.get("metadata")), request)
    fields = {**carried, **known, **sent, **{key: value for key, value in own.items() if value is not None}}
    if body.get("error"):
        fields = {**_failure(mapping(body["error"]) or {"code": text_or_none(body["error"])}), **fields}
        fields["is_error"] = own.get("is_error", True)
    fields["attributes"] = {**kept, **mapping(said.get("attributes")), **mapping(own.get("attributes"))}
    if fields.get("interaction_id") is None:
        fields["interaction_id"] = fields.get("provider_response_id") or f"line:{digest(body)}"
    return _finish(fields)


def _cell(key: str, value: Any) -> Any:
    """Return a field of a wrapped line; in CSV it is text."""
    if key in COUNTS:
        return count(value)
    if key in NUMBERS:
        return number(value)
    return flag(value) if key in FLAGS else value


def _object(body: dict[str, Any]) -> dict[str, Any] | Ignored | str:
    """Return the native fields of an answer, a batch line or an error body."""
    if "custom_id" in body:
        return _batched(body)
    if shape(body) is not None:
        return _answer(body)
    if mapping(body.get("error")):
        return _failure(mapping(body["error"]))
    if body.get("object") == "chat.completion.chunk":
        return "not_an_answer: a piece of a stream; log the whole answer"
    return f"not_an_answer: its keys are {', '.join(list(body)[:5])}"[:300]


def _answer(body: dict[str, Any]) -> dict[str, Any] | Ignored | str:
    if body.get("status") in UNFINISHED:
        return Ignored()
    try:
        at = _epoch(body.get("created", body.get("created_at")))
    except ValueError as error:
        return f"bad_value: created: {error}"
    model = text_or_none(body.get("model"))
    template = mapping(body.get("prompt"))
    carried, kept = _metadata({}, body)
    if tier := text_or_none(body.get("service_tier")):
        kept["service_tier"] = tier
    return {
        "interaction_id": text_or_none(body.get("id")),
        "ts": at,
        "model": model,
        "prompt_name": text_or_none(template.get("id")),
        "prompt_version": text_or_none(template.get("version")),
        "session_id": text_or_none(mapping(body.get("conversation")).get("id")),
        **answer_fields(body),
        **carried,
        "attributes": kept,
    }


def _metadata(own: dict[str, Any], body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return fields and the rest of the metadata of a body; `user` is the unit where nothing better is known."""
    metadata = {**mapping(body.get("metadata")), **own}
    user = text_or_none(body.get("user")) or text_or_none(body.get("safety_identifier"))
    found = labels.context(metadata, [])
    if user:
        found.setdefault("unit_id", user)
    return found, labels.rest(metadata, [])


def _batched(line: dict[str, Any]) -> dict[str, Any] | Ignored | str:
    """A line of a batch's results. `custom_id` is the caller's own id of the request, and its only carrier."""
    name = text_or_none(line.get("custom_id"))
    if name is None:
        return "bad_value: custom_id: text is needed"
    result = _anthropic_result(line) if "result" in line else _openai_result(line)
    if isinstance(result, (str, Ignored)):
        return result
    carried = custom_id(name) or {"request_id": name}
    return {**result, **carried, "interaction_id": name}


def _openai_result(line: dict[str, Any]) -> dict[str, Any] | Ignored | str:
    response = mapping(line.get("response"))
    body = mapping(response.get("body"))
    status = {"http_status": count(response.get("status_code"))}
    if line.get("error"):
        return {**_failure(mapping(line["error"])), **status}
    if not body:
        return "missing: response.body: the batch line has neither an answer nor an error"
    said = _object(body) if "custom_id" not in body else "not_an_answer: a batch line in a batch line"
    return said if isinstance(said, (str, Ignored)) else {**said, **status}


def _anthropic_result(line: dict[str, Any]) -> dict[str, Any] | Ignored | str:
    result = mapping(line.get("result"))
    match result.get("type"):
        case "succeeded":
            return _answer(mapping(result.get("message")))
        case "canceled":
            return Ignored()  # it was never sent
        case "errored":
            return _failure(mapping(result.get("error")))
        case "expired":
            return {"is_error": True, "error_type": "expired"}
        case _:
            return "bad_value: result.type: succeeded, errored, canceled or expired is needed"


def _failure(error: dict[str, Any]) -> dict[str, Any]:
    """Read an error body: {"error": {...}} or what is in it; Anthropic nests it once more."""
    inner = mapping(error.get("error")) or error
    kind = next((text for key in ("code", "type") if (text := text_or_none(inner.get(key)))), None)
    return {
        "is_error": True,
        "error_type": kind or "unknown",
        "http_status": count(inner.get("status_code", error.get("status_code"))),
    }


def _epoch(value: Any) -> str | None:
    """Return epoch seconds as RFC 3339 text."""
    seconds = number_or_none(count(value)) if isinstance(value, str) else number_or_none(value)
    if value is not None and seconds is None:
        raise ValueError("epoch seconds are needed")
    return None if seconds is None else rfc3339(round(seconds * 1_000_000))
