"""Values as JSON, CSV and Parquet rows carry them: "" for nothing, numbers and JSON as text, times without a zone.

An empty cell is None. What a function cannot read it gives back as it is (`count`, `number`, `flag`), so that validation
rejects the record and names the field, or as nothing (`pairs`, `array`, `finite`, `text`) where the shape decides.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any

from pydantic_core import from_json

from abtest.ingest.base import items, mapping, text_or_none, whole_or_none

TIME = re.compile(r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?(Z|z|[+-]\d\d(:?\d\d)?)?$", re.ASCII)
"""ISO 8601 as exports write it: with a space or T, with or without fraction and offset."""

NUMBER = re.compile(r"^-?\d+(\.\d*)?([eE][+-]?\d{1,3})?$", re.ASCII)


def parsed(value: Any) -> Any:
    """Return the JSON inside a text; what is no text, or no JSON object, array or quoted text, stays as it is."""
    if not isinstance(value, str) or value[:1] not in ("{", "[", '"'):
        return value
    try:
        return from_json(value, allow_inf_nan=False)
    except ValueError:
        return value


def pairs(value: Any) -> dict[str, Any]:
    """Return a JSON object, also from its text or from a Parquet map written as a list of pairs; else an empty one."""
    known = parsed(value)
    if isinstance(known, dict):
        return mapping(known)  # pyright: ignore[reportUnknownArgumentType]
    found: dict[str, Any] = {}
    for each in items(known):
        entry, couple = mapping(each), items(each)
        if isinstance(key := entry.get("key"), str):
            found[key] = entry.get("value")
        elif len(couple) == 2 and isinstance(couple[0], str):
            found[couple[0]] = couple[1]
    return found


def array(value: Any) -> list[Any]:
    """Return a JSON array, also from its text; else an empty one."""
    return items(parsed(value))


def text(value: Any) -> str | None:
    """Return text as it is, a finite number as text (versions are numbers in some exports); else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else None
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    return text_or_none(value)


def number(value: Any) -> Any:
    """Return a number, also from digits in a text; None for an empty cell, anything else as it is."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and NUMBER.match(value):
        return int(value) if value.lstrip("-").isdigit() and len(value) <= 20 else float(value)
    return value


def finite(value: Any) -> float | None:
    """Return a finite number as a float, also from its text; None for the rest."""
    known = number(value)
    if isinstance(known, bool) or not isinstance(known, (int, float)):
        return None
    try:
        return float(known) if math.isfinite(known) else None
    except OverflowError:
        return None


def count(value: Any) -> Any:
    """Return a whole number, also from 14.0 or "14"; None for an empty cell, anything else as it is."""
    known = number(value)
    whole = whole_or_none(known)
    return known if whole is None else whole


def flag(value: Any) -> Any:
    """Return a boolean, also from "true" or "False"; None for an empty cell, anything else as it is."""
    if value is None or value == "":
        return None
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


def moment(value: Any, key: str) -> datetime | None:
    """Return a time in UTC; a time without a zone is UTC, as the exports say. None for an empty cell.

    Raises:
        ValueError: It is no ISO 8601 time, or no calendar has it; the message names the key.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not TIME.match(value):
        raise ValueError(f"{key}: an ISO 8601 time is needed, like 2026-01-31 12:00:00.000000")
    try:
        at = datetime.fromisoformat(value.upper())
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{key}: {error}") from error


def elapsed(start: datetime | None, end: datetime | None) -> float | None:
    """Return the milliseconds between two times, exact to the microsecond; None when one is missing or they cross."""
    if start is None or end is None or end < start:
        return None
    gap = end - start
    return (gap.days * 86_400_000_000 + gap.seconds * 1_000_000 + gap.microseconds) / 1000
