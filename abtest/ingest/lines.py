"""Splits bytes into lines, with their numbers and offsets, and reads whole-file JSON; memory stays bounded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from abtest.ingest.base import RAW_LIMIT

LINE_LIMIT = 64 * 1024 * 1024
"""A longer line is no log line: only its first `RAW_LIMIT` bytes are kept, as a reject."""

BOM = b"\xef\xbb\xbf"

_BLANK = re.compile(r"[ \t\r\n]*")


class LineReader:
    """Iterates over the lines of a stream of chunks; the attributes describe the line last given.

    Attributes:
        number: Line number, from 1; after the loop, the number of lines.
        offset: Byte offset of the line in the stream.
        terminated: False for a last line without a newline.
        too_long: True when the line exceeds `LINE_LIMIT`; what was given is then only its beginning.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        """Take any iterable of chunks; nothing is read before the loop."""
        self._chunks = chunks
        self._next = 0
        self.number = 0
        self.offset = 0
        self.terminated = True
        self.too_long = False

    def __iter__(self) -> Iterator[bytes]:
        """Yield each line without its newline; a byte order mark before the first line is dropped."""
        parts: list[bytes] = []
        size = 0
        for chunk in self._chunks:
            end = chunk.rfind(b"\n")
            if end < 0:
                parts, size = _grow(parts, size, chunk)
                continue
            first, *others = chunk[:end].split(b"\n")
            parts, size = _grow(parts, size, first)
            yield self._step(b"".join(parts), size)
            for line in others:
                yield self._step(line, len(line))
            parts, size = _grow([], 0, chunk[end + 1 :])
        if size:
            self.terminated = False
            yield self._step(b"".join(parts), size)

    def _step(self, line: bytes, size: int) -> bytes:
        self.number += 1
        self.offset = self._next
        self._next += size + 1
        self.too_long = size > LINE_LIMIT
        return line[3:] if self.number == 1 and line.startswith(BOM) else line


def _grow(parts: list[bytes], size: int, piece: bytes) -> tuple[list[bytes], int]:
    """Add a piece to the line under way; past the limit only the beginning of the line is kept."""
    size += len(piece)
    if size <= LINE_LIMIT:
        parts.append(piece)
    elif len(parts) != 1 or len(parts[0]) > RAW_LIMIT:
        parts = [b"".join([*parts, piece])[:RAW_LIMIT]]
    return parts, size


def document(data: bytes) -> list[tuple[bytes, int, int]] | None:
    """Read a file that is one JSON array, or one object over several lines.

    Returns:
        (compact JSON, line number, byte offset) of each element (of the array) or of the object; None when the file
        is neither, and so has to be read line by line.
    """
    body = data.removeprefix(BOM)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return None
    shift = len(data) - len(body)
    found = _elements(text)
    if found is None:
        return None
    placed: list[tuple[bytes, int, int]] = []
    line, offset, last = 1, shift, 0
    for start, end in found:
        line += text.count("\n", last, start)
        offset += len(text[last:start].encode())
        last = start
        placed.append((_one_line(text[start:end]), line, offset))
    return placed


def _one_line(text: str) -> bytes:
    """Drop newlines between the tokens; inside strings JSON allows none, so nothing else is touched."""
    return text.replace("\r", " ").replace("\n", " ").encode()


def _elements(text: str) -> list[tuple[int, int]] | None:
    """Return start and end of each element of a JSON array, or of the one object; None for anything else."""
    decoder = json.JSONDecoder()
    at = _skip(text, 0)
    if text[at : at + 1] not in ("[", "{"):
        return None
    is_array = text[at] == "["
    found: list[tuple[int, int]] = []
    try:
        if not is_array:
            _, end = decoder.raw_decode(text, at)
            return [(at, end)] if _skip(text, end) == len(text) else None
        at = _skip(text, at + 1)
        while text[at : at + 1] != "]" or found:
            _, end = decoder.raw_decode(text, at)
            found.append((at, end))
            at = _skip(text, end)
            if text[at : at + 1] != ",":
                break
            at = _skip(text, at + 1)
    except (ValueError, RecursionError):
        return None
    closed = text[at : at + 1] == "]" and _skip(text, at + 1) == len(text)
    return found if closed else None


def _skip(text: str, at: int) -> int:
    """Return the next position that is not white space."""
    match = _BLANK.match(text, at)
    return match.end() if match else at
