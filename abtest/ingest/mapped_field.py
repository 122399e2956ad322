"""One field of a `--map` file: where its value stands in a log record, and how it becomes the native one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from abtest.ingest.base import digest, finish_reason, rfc3339, whole_or_none
from abtest.ingest.cells import array, count, finite, flag, moment, number, text
from abtest.ingest.jsonpath import JsonPath
from abtest.ingest.messages import prompt

EPOCHS = {"epoch_s": 1_000_000, "epoch_ms": 1000, "epoch_us": 1, "epoch_ns": 0}
"""Microseconds in one unit; nanoseconds are divided instead."""

TIMES = frozenset({"ts", "updated_at"})
COUNTS = frozenset(
    {
        "input_tokens",
        "cached_input_tokens",
        "output_tokens",
        "reasoning_tokens",
        "repeat",
        "response_chars",
        "turn",
        "attempt",
        "http_status",
    }
)
NUMBERS = frozenset({"latency_ms", "ttft_ms", "cost_usd", "value", "label_probability"})
FLAGS = frozenset({"exposed", "refused", "format_ok", "is_error", "stream", "cache_hit"})
RAW = frozenset({"prompt_text", "response_text", "explanation"})


class FieldError(ValueError):
    """A value that the map cannot turn into the field."""


@dataclass(frozen=True, slots=True)
class FieldMap:
    """How one native field is filled.

    Attributes:
        field: Its native name.
        paths: Where to look; the first that has a value counts.
        constant: The value where there is no path.
        default: The value where no path has one.
        values: What a logged value means, by its text.
        scale: Factor to the native unit.
        time_format: One of `EPOCHS` or "iso".
        tag_prefix: The path holds tags: the rest of the first one that begins so.
        join: All paths are needed; their texts are joined with this.
        at_least: True where the number is at least this, False where it is less.
        hashed: The SHA-256 of what the paths hold.
    """

    field: str
    paths: tuple[JsonPath, ...] = ()
    constant: Any = None
    default: Any = None
    values: dict[str, Any] | None = None
    scale: float | None = None
    time_format: str = "iso"
    tag_prefix: tuple[str, ...] = ()
    join: str | None = None
    at_least: float | None = None
    hashed: bool = False

    def read(self, body: dict[str, Any], nulls: frozenset[str]) -> Any:
        """Return the native value; None when the record does not say.

        Raises:
            FieldError: There is a value, but not one of this field.
        """
        if not self.paths:
            return self.constant
        value = self._find(body, nulls)
        if value is None:
            return self.default
        if self.values is not None:
            key = _key(value)
            if key in self.values:
                return self.values[key]
            if self.default is not None:
                return self.default
            raise FieldError(f"{self.field}: {key[:60]!r} is none of the values in the map")
        if self.at_least is not None:
            known = finite(value)
            if known is None:
                raise FieldError(f"{self.field}: {_key(value)[:60]!r} is no number")
            return known >= self.at_least
        return self._convert(value)

    def _find(self, body: dict[str, Any], nulls: frozenset[str]) -> Any:
        found = [_known(path.find(body), nulls) for path in self.paths]
        if self.hashed:
            return digest(found) if any(value is not None for value in found) else None
        if self.join is not None:
            texts = [text(value) for value in found]
            return None if None in texts else self.join.join(each for each in texts if each is not None)
        if self.tag_prefix:
            return next((rest for value in found if (rest := self._tag(value))), None)
        return next((value for value in found if value is not None), None)

    def _tag(self, value: Any) -> str | None:
        for tag in array(value):
            for prefix in self.tag_prefix:
                if isinstance(tag, str) and tag.startswith(prefix) and len(tag) > len(prefix):
                    return tag[len(prefix) :].strip()
        return None

    def _convert(self, value: Any) -> Any:
        """Return the value in the type and unit of the field; what cannot be converted is left for validation."""
        if self.field in TIMES:
            return self._time(value)
        if self.field in COUNTS:
            return count(self._scaled(value))
        if self.field in NUMBERS:
            return float(value) if isinstance(value, bool) and self.field == "value" else self._scaled(value)
        if self.field in FLAGS:
            return flag(value)
        if self.field == "finish_reason":
            return finish_reason(value)
        if self.field in RAW:
            return value if isinstance(value, str) else prompt(value)
        return value if isinstance(value, bool) else text(value) or value

    def _scaled(self, value: Any) -> Any:
        known = number(value)
        if self.scale is None or isinstance(known, bool) or not isinstance(known, (int, float)):
            return known
        try:
            return known * self.scale
        except OverflowError as error:
            raise FieldError(f"{self.field}: too large") from error

    def _time(self, value: Any) -> str:
        try:
            if self.time_format == "iso":
                if finite(value) is not None:
                    raise ValueError(f"a number needs from (one of {', '.join(EPOCHS)}) in the map")
                at = moment(value, self.field)
                return at.isoformat() if isinstance(at, datetime) else str(value)
            return rfc3339(_micros(value, self.time_format))
        except ValueError as error:
            raise FieldError(f"{self.field}: {str(error).removeprefix(f'{self.field}: ')}") from error


def _micros(value: Any, unit: str) -> int:
    whole = whole_or_none(value)
    if whole is not None:
        return whole // 1000 if unit == "epoch_ns" else whole * EPOCHS[unit]
    known = finite(value)
    if known is None:
        raise ValueError(f"a number is needed for from = {unit!r}")
    return round(known / 1000) if unit == "epoch_ns" else round(known * EPOCHS[unit])


def _known(value: Any, nulls: frozenset[str]) -> Any:
    """Return the value; None for null, empty text and what the map calls null."""
    return None if isinstance(value, str) and (not value or value in nulls) else value


def _key(value: Any) -> str:
    """Return a JSON value as the text by which `values` and `when` name it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def same(value: Any, wanted: Any) -> bool:
    """Tell whether a logged value is the one that a condition names; 1 and "1" are the same, true and 1 are not."""
    return value is not None and _key(value) == _key(wanted)
