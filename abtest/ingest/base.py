"""The contract of a log format: what goes in, what comes out, and the small tools that every format needs."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from pydantic_core import from_json

from abtest.records import AnyRecord

RAW_LIMIT = 64 * 1024
"""Bytes of a rejected line that are kept."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

FINISH_REASONS = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "complete": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "tool": "tool",
    "tool_call": "tool",
    "tool_calls": "tool",
    "tool_use": "tool",
    "function_call": "tool",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "safety": "content_filter",
    "refusal": "refusal",
    "error": "error",
}


@dataclass(frozen=True, slots=True)
class Reject:
    """A line, or one record of a line, that cannot be taken.

    Attributes:
        line: Line number in the file, from 1.
        offset: Byte offset of the line in the (decompressed) file.
        raw: The bytes that were rejected, cut at `RAW_LIMIT`.
        reason: A short stable code, then a colon and what is wrong: "missing: interaction_id".
    """

    line: int
    offset: int
    raw: bytes
    reason: str

    @property
    def code(self) -> str:
        """The stable part of the reason; reports count by it."""
        return self.reason.partition(":")[0]

    @property
    def detail(self) -> str:
        """What follows the code; empty when the code says it all."""
        return self.reason.partition(":")[2].strip()


@dataclass(frozen=True, slots=True)
class Ignored:
    """Records that are no model call, assignment or score: counted, not kept."""

    count: int = 1


Item = AnyRecord | Reject | Ignored


class Format(ABC):
    """One log format.

    Attributes:
        name: The name for `--source`, and the value of the `source` column.
        description: One line for people.
        is_native: True when a line that yields a record is that record in the native format, byte for byte.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    is_native: ClassVar[bool] = False

    @abstractmethod
    def sniff(self, objects: Sequence[Mapping[str, Any]]) -> float:
        """Return how sure it is, from 0 to 1, that these objects (the first of a file) are of this format."""

    @abstractmethod
    def read(self, line: bytes, number: int, offset: int) -> Sequence[Item]:
        """Turn one line into records, rejects and ignored counts. Must not raise, whatever the bytes are.

        Args:
            line: One JSON text without the newline and without surrounding white space; never empty.
            number: Its line number, from 1.
            offset: Its byte offset in the decompressed file.
        """


def reject(line: bytes, number: int, offset: int, reason: str) -> Reject:
    """Return a Reject whose raw bytes are cut at `RAW_LIMIT`."""
    return Reject(number, offset, line[:RAW_LIMIT], reason)


def parse_object(line: bytes, *, allow_nan: bool = False) -> dict[str, Any] | str:
    """Parse one JSON object; returns the reason as text when it is none.

    Stricter than `json.loads`: no NaN or Infinity (unless allowed), no lone surrogates, no invalid UTF-8, at most
    200 levels.
    """
    try:
        value = from_json(line, allow_inf_nan=allow_nan)
    except ValueError as error:
        return f"json: {error}"
    if isinstance(value, dict):
        return value  # pyright: ignore[reportUnknownVariableType]
    return f"not_object: one JSON object a line is needed, this is {json_type(value)}"


def json_type(value: object) -> str:
    """Return the JSON name of a parsed value's type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"


def rfc3339(micros: int) -> str:
    """Return epoch microseconds as RFC 3339 text; raises ValueError outside the years 1 to 9999."""
    try:
        return (EPOCH + timedelta(microseconds=micros)).isoformat()
    except OverflowError as error:
        raise ValueError("time outside the years 1 to 9999") from error


def epoch_micros(moment: datetime) -> int:
    """Return an aware datetime as whole microseconds since 1970, without going through a float."""
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def finish_reason(raw: object) -> str | None:
    """Normalise a provider's finish reason: stop, length, tool, content_filter, refusal, error or other."""
    if not isinstance(raw, str) or not raw:
        return None
    return FINISH_REASONS.get(raw.lower().replace("-", "_"), "other")


def digest(value: object) -> str | None:
    """Return the SHA-256 of a JSON value in canonical form; None for nothing (null, empty)."""
    if value is None or value in ({}, [], ""):
        return None
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def text_or_none(value: object) -> str | None:
    """Return a non-empty string as it is; everything else (null, empty, other types) is not known."""
    return value if isinstance(value, str) and value else None


def whole_or_none(value: object) -> int | None:
    """Return an integer, also from digits in a string (OTLP/JSON writes int64 so); booleans and the rest are None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.lstrip("-").isascii() and value.lstrip("-").isdigit() and len(value) <= 20:
        return int(value)
    return None


def number_or_none(value: object) -> float | None:
    """Return a number as a float; booleans, strings and the rest are None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def mapping(value: object) -> dict[str, Any]:
    """Return `value` when it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def items(value: object) -> list[Any]:
    """Return `value` when it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]
