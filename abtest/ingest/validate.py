"""Strict validation: native JSON or native fields in, one record out, or the reason why not.

The models here are those of `abtest.records`, narrowed to what can be stored: times must be RFC 3339 text (pydantic
alone would take "1767225600" for a time), whole numbers must fit 64 bits.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from abtest.errors import nearest
from abtest.ingest.base import json_type, parse_object
from abtest.records import AnyRecord, Assignment, Interaction, Score

RFC3339 = r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$"
DETAILS = 5
"""At most so many faults of a row are spelled out."""


class _Rfc3339:
    """Checks the text first, then parses it; digits beyond microseconds are cut."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.chain_schema(
            [
                core_schema.str_schema(pattern=RFC3339, strict=True),
                core_schema.datetime_schema(strict=False, tz_constraint="aware"),
            ]
        )


Timestamp = Annotated[datetime, _Rfc3339()]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]


class LoggedInteraction(Interaction):
    """An interaction that can be stored."""

    ts: Timestamp
    input_tokens: Count | None = None
    cached_input_tokens: Count | None = None
    output_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    repeat: Count | None = None
    response_chars: Count | None = None


class LoggedAssignment(Assignment):
    """An assignment that can be stored."""

    ts: Timestamp


class LoggedScore(Score):
    """A score that can be stored."""

    ts: Timestamp
    updated_at: Timestamp | None = None


MODELS: dict[str, type[LoggedInteraction | LoggedAssignment | LoggedScore]] = {
    "interaction": LoggedInteraction,
    "assignment": LoggedAssignment,
    "score": LoggedScore,
}

_VALIDATE = {kind: model.__pydantic_validator__.validate_json for kind, model in MODELS.items()}
_HEAD = 48
"""Bytes in which most writers put the type; elsewhere it is found too, only later."""


def from_fields(kind: str, fields: dict[str, Any]) -> AnyRecord | str:
    """Build the record `kind` from native fields (times as RFC 3339 text); None values count as absent.

    Returns the record, or the reason as text.
    """
    model = MODELS[kind]
    try:
        record = model.model_validate({key: value for key, value in fields.items() if value is not None})
    except ValidationError as error:
        return explain(error, model)
    return _fault_of(record) or record


def from_json(line: bytes) -> AnyRecord | str:
    """Validate one line of the native format; returns the record, or the reason as text."""
    head = line[:_HEAD]
    guess = "score" if b'"score"' in head else "assignment" if b'"assignment"' in head else "interaction"
    try:
        record: AnyRecord = _VALIDATE[guess](line)
    except ValidationError:
        return _from_json_with_care(line)
    return _fault_of(record, line) or record


def _from_json_with_care(line: bytes) -> AnyRecord | str:
    """Read `type` first, then validate as that record; slower, for the few and for the bad."""
    fields = parse_object(line, allow_nan=True)  # the model then names the field that holds NaN
    if isinstance(fields, str):
        return fields
    kind = fields.get("type", "interaction")
    if not isinstance(kind, str) or kind not in MODELS:
        shown = repr(kind[:40]) if isinstance(kind, str) else json_type(kind)
        return f"bad_value: type: {shown} is none of {', '.join(MODELS)}"
    try:
        record: AnyRecord = _VALIDATE[kind](line)
    except ValidationError as error:
        return explain(error, MODELS[kind])
    return _fault_of(record, line) or record


def explain(error: ValidationError, model: type[AnyRecord]) -> str:
    """Turn pydantic's error into one line: stable codes (json, missing, unknown_key, bad_value) with their details."""
    faults: dict[str, list[str]] = {}
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        code, detail = _fault(fault["type"], fault["loc"], fault["msg"], model)
        faults.setdefault(code, []).append(detail)
    return "; ".join(f"{code}: {', '.join(details[:DETAILS])}" for code, details in faults.items())[:1000]


def _fault(kind: str, where: tuple[int | str, ...], message: str, model: type[AnyRecord]) -> tuple[str, str]:
    key = ".".join(str(part)[:100] for part in where)
    match kind:
        case "json_invalid":
            return "json", message.removeprefix("Invalid JSON: ")
        case "missing":
            return "missing", key
        case "extra_forbidden":
            best = nearest(key, model.model_fields)
            return "unknown_key", f"{key} ({f'did you mean {best}?' if best else 'put it under attributes'})"
        case "string_pattern_mismatch" if key in ("ts", "updated_at"):
            return "bad_value", f"{key}: RFC 3339 with an offset is needed, like 2026-01-31T12:00:00Z"
        case _:
            message = message.removeprefix("Value error, ")
            return "bad_value", f"{key}: {message}" if key else message


def _fault_of(record: AnyRecord, line: bytes | None = None) -> str | None:
    """Find what pydantic lets pass: numbers in `attributes` that JSON cannot hold, and keys that come twice.

    Of two equal keys pydantic keeps the last one, silently. Two counts that can only be too high prove most lines clean
    without a second parse: all colons (the time has two), and all `":` with an unescaped quote. What they cannot prove
    is parsed again.
    """
    keys = len(record.model_fields_set)
    if record.type == "interaction" and record.attributes:
        inner = _count_keys(record.attributes)
        if inner < 0:
            return "bad_value: attributes: numbers must be finite"
        keys += inner
    if line is None or (b"\\" not in line and line.count(b":") == keys + 2):
        return None
    spaced = b" :" in line or b"\t:" in line or b"\r:" in line
    if not spaced and b'\\\\":' not in line and line.count(b'":') - line.count(b'\\":') == keys:
        return None
    try:
        json.loads(line, object_pairs_hook=_refuse_twice)
    except _TwiceError as error:
        return f"duplicate_key: {error}"
    return None


def _count_keys(value: dict[str, Any] | list[Any]) -> int:
    """Count the keys at every level; -1 when there is a number that is not finite."""
    keys = 0
    if isinstance(value, dict):
        keys, value = len(value), list(value.values())
    for each in value:
        if isinstance(each, float):
            if not math.isfinite(each):
                return -1
        elif isinstance(each, (dict, list)):
            inner = _count_keys(each)  # pyright: ignore[reportUnknownArgumentType]
            if inner < 0:
                return -1
            keys += inner
    return keys


class _TwiceError(Exception):
    """A key came twice."""


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _TwiceError(key[:100])
        seen.add(key)
