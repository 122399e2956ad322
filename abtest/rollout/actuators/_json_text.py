"""Change a JSON text so that it parses to a new value, and leave every other character alone.

Flag files live in version control and are read by people at 2 am: a halt that turns `["candidate", 5]` into four lines
and re-spells every number hides the one change that matters. So the new text is built from the pieces of the old one;
only values that differ are written anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_INDENT = re.compile(r"\n([ \t]+)\S")


@dataclass(frozen=True)
class _Part:
    """A member of an object, or an item of an array (then key and key_end are unused)."""

    start: int
    key: str
    key_end: int
    value_start: int
    end: int


def patch(text: str, new: Any) -> str:
    """Return the JSON `text` with the fewest pieces replaced that make it parse to `new`.

    Args:
        text: A JSON document; line ends, indents and escapes are kept.
        new: The value wanted; where it equals the old one, nothing changes.

    Raises:
        json.JSONDecodeError: `text` is not JSON.
    """
    start = _skip(text, 0)
    _, end = _DECODER.raw_decode(text, start)
    return text[:start] + _patched(text, start, new) + text[end:]


def same(a: Any, b: Any) -> bool:
    """Return whether two JSON values are written alike; unlike `==`, 0, 0.0 and false differ."""
    return json.dumps(a) == json.dumps(b)


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _patched(text: str, start: int, new: Any) -> str:
    """Return what replaces the value at `start`."""
    old, end = _DECODER.raw_decode(text, start)
    if same(old, new):
        return text[start:end]
    if isinstance(old, dict) and isinstance(new, dict) and any(key in old for key in new):
        return _patched_object(text, start, end, new)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return _patched_array(text, start, end, new)
    line = text.rfind("\n", 0, start) + 1
    return _dump(text, new, text[line : _skip(text, line)] if "\n" in text[start:end] else None)


def _patched_object(text: str, start: int, end: int, new: dict[str, Any]) -> str:
    members = list(_members(text, start))
    lead = text[start + 1 : members[0].start]
    # Of a key that is written twice the last one counts; the others stay as they are.
    counts = {part.key: part for part in members}
    out = ""
    before = start + 1
    for part in members:
        gap, before = text[before : part.start], part.end
        if part.key not in new:
            continue
        changed = part is counts[part.key]
        value = _patched(text, part.value_start, new[part.key]) if changed else text[part.value_start : part.end]
        out += (gap if out else lead) + text[part.start : part.value_start] + value
    first = members[0]
    colon = text[first.key_end : first.value_start]
    indent = lead.rpartition("\n")[2] if "\n" in lead else None
    space = lead if indent is not None else " " if colon.endswith(" ") else ""
    for key, value in new.items():
        if key not in counts:
            out += "," + space + json.dumps(key, ensure_ascii=text.isascii()) + colon
            out += _dump(text, value, indent, compact=not colon.endswith(" "))
    return "{" + out + text[before:end]


def _patched_array(text: str, start: int, end: int, new: list[Any]) -> str:
    out, before = "", start
    for part, value in zip(_items(text, start), new, strict=True):
        out += text[before : part.start] + _patched(text, part.value_start, value)
        before = part.end
    return out + text[before:end]


def _members(text: str, start: int) -> Iterator[_Part]:
    """Yield the members of the object at `start`."""
    position = _skip(text, start + 1)
    while text[position] != "}":
        key, key_end = _DECODER.raw_decode(text, position)
        value_start = _skip(text, _skip(text, key_end) + 1)
        _, end = _DECODER.raw_decode(text, value_start)
        yield _Part(position, key, key_end, value_start, end)
        position = _next(text, end)


def _items(text: str, start: int) -> Iterator[_Part]:
    """Yield the items of the array at `start`."""
    position = _skip(text, start + 1)
    while text[position] != "]":
        _, end = _DECODER.raw_decode(text, position)
        yield _Part(position, "", position, position, end)
        position = _next(text, end)


def _next(text: str, end: int) -> int:
    position = _skip(text, end)
    return _skip(text, position + 1) if text[position] == "," else position


def _dump(text: str, value: Any, indent: str | None, *, compact: bool = False) -> str:
    """Write `value` as the file around it is written: on one line where `indent` is None, else one member a line."""
    ascii_only = text.isascii()
    if indent is None:
        return json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":") if compact else None)
    unit = _INDENT.search(text)
    lines = json.dumps(value, ensure_ascii=ascii_only, indent=unit.group(1) if unit else 2)
    return lines.replace("\n", ("\r\n" if "\r\n" in text else "\n") + indent)
