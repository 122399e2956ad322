"""The body of LangSmith's `POST /runs/multipart` as runs and feedback, one JSON text each.

Parts are named `post.<run>` and `patch.<run>`, their large fields `post.<run>.inputs`, `.outputs`, `.extra`,
`.events`, `.error`, `.serialized`; feedback is `feedback.<id>`. A patch is what changed after the post, so both become
one run when they are in one body. (Source: langsmith 0.15, and bodies that it sent.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from abtest.ingest.base import mapping

_NAME = re.compile(rb'name="([^"\r\n]{1,1000})"', re.IGNORECASE)
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,12})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_FIELDS = frozenset({"inputs", "outputs", "extra", "events", "error", "serialized"})
_BOUNDARY = 200


class _Broken:
    """A run of which one part cannot be read: that part, to be rejected in the run's stead."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw


def multipart_to_texts(body: bytes) -> list[bytes] | None:
    """Turn a captured upload into one JSON text a run or feedback, in the order of first appearance.

    A run one part of which is broken or cut off comes out as that part's bytes, so that it is rejected with its
    reason and not taken half. Attachments are dropped. Several bodies in one file are read one after the other.

    Args:
        body: The body, decompressed; the boundary is taken from its first line.

    Returns:
        The texts; None when the bytes are no multipart body.
    """
    boundary = multipart_boundary(body)
    if boundary is None:
        return None
    found: dict[str, dict[str, Any] | _Broken] = {}
    for name, content in _parts(body, boundary):
        _add(found, name, content)
    return [_text(item) for item in found.values()]


def merge(post: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Return a run with what a patch says of it; null says nothing."""
    return {**post, **{name: value for name, value in patch.items() if value is not None}}


def multipart_boundary(body: bytes) -> bytes | None:
    """Return the first line of a body (`--` and the boundary) when a part's header follows; None for any other bytes."""
    line, _, rest = body[: _BOUNDARY + 2].partition(b"\n")
    line = line.rstrip(b"\r")
    starts = rest[:20].lower().startswith(b"content-disposition:")
    return line if 2 < len(line) <= _BOUNDARY and line.startswith(b"--") and starts else None


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each part."""
    at = 0
    while body.startswith(boundary, at):
        at += len(boundary)
        if body.startswith(b"--", at):  # the end of this body; another may follow
            at += len(body[at + 2 :]) - len(body[at + 2 :].lstrip()) + 2
            boundary = multipart_boundary(body[at : at + 2 * _BOUNDARY]) or boundary
            continue
        newline = b"\r\n" if body.startswith(b"\r\n", at) else b"\n"
        at += len(newline)
        head_end = body.find(newline * 2, at)
        head = body[at : head_end if head_end >= 0 else len(body)]
        start = head_end + 2 * len(newline) if head_end >= 0 else len(body)
        end = _end(body, start, head, newline + boundary)
        name = _NAME.search(head)
        yield name.group(1).decode("utf-8", "replace") if name else "", body[start:end]
        at = end + len(newline)


def _end(body: bytes, start: int, head: bytes, mark: bytes) -> int:
    """Return where a part ends: by its length when the boundary is there, else at the next boundary."""
    length = _LENGTH.search(head)
    if length and body.startswith(mark, stop := start + int(length.group(1))):
        return stop
    found = body.find(mark, start)
    return found if found >= 0 else len(body)


def _add(found: dict[str, dict[str, Any] | _Broken], name: str, content: bytes) -> None:
    verb, _, tail = name.partition(".")
    identifier, _, field = tail.partition(".")
    if verb == "attachment" or (verb in ("post", "patch") and field and field not in _FIELDS):
        return
    key = f"{'feedback' if verb == 'feedback' else 'run'}.{identifier}"
    known = found.get(key)
    if isinstance(known, _Broken):
        return
    try:
        value = from_json(content, allow_inf_nan=False)
    except ValueError:
        found[key] = _Broken(content)
        return
    if verb in ("post", "patch") and identifier:
        told: Any = {field: value} if field else value
        found[key] = merge(known or {}, mapping(told)) if isinstance(told, dict) else _Broken(content)
    elif verb == "feedback" and isinstance(value, dict):
        found[key] = mapping(value)  # pyright: ignore[reportUnknownArgumentType]
    else:
        found[f"{name}#{len(found)}"] = _Broken(content)  # a part of no known kind: rejected, not lost


def _text(item: dict[str, Any] | _Broken) -> bytes:
    """Return compact JSON of a run; of a broken part its bytes on one line, and never nothing."""
    if isinstance(item, _Broken):
        return item.raw.replace(b"\r", b" ").replace(b"\n", b" ").strip() or b'"empty part"'
    return json.dumps(item, separators=(",", ":"), ensure_ascii=False).encode()
