"""Splits bytes into lines, with their numbers and offsets; memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from abtest.ingest.base import RAW_LIMIT

LINE_LIMIT = 64 * 1024 * 1024
"""A longer line is no log line: only its first `RAW_LIMIT` bytes are kept, as a reject."""

BOM = b"\xef\xbb\xbf"


class LineReader:
    """Iterates over the lines of a stream of chunks; the attributes describe the line last given.

    Attributes:
        number: Line number, from 1; after the loop, the number of lines.
        offset: Byte offset of the line in the file.
        end: Byte offset after the line, newline included.
        terminated: False for a last line without a newline.
        too_long: True when the line exceeds `LINE_LIMIT`; what was given is then only its beginning.
    """

    def __init__(self, chunks: Iterable[bytes], *, number: int = 0, offset: int = 0) -> None:
        """Take any iterable of chunks; nothing is read before the loop. `number` and `offset` count what is before."""
        self._chunks = chunks
        self.number = number
        self.offset = offset
        self.end = offset
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
            line = self._step(b"".join(parts), size)
            self.end -= 1
            yield line

    def _step(self, line: bytes, size: int) -> bytes:
        self.number += 1
        self.offset = self.end
        self.end += size + 1
        self.too_long = size > LINE_LIMIT
        return line[3:] if self.offset == 0 and line.startswith(BOM) else line


def _grow(parts: list[bytes], size: int, piece: bytes) -> tuple[list[bytes], int]:
    """Add a piece to the line under way; past the limit only the beginning of the line is kept."""
    size += len(piece)
    if size <= LINE_LIMIT:
        parts.append(piece)
    elif len(parts) != 1 or len(parts[0]) > RAW_LIMIT:
        parts = [b"".join([*parts, piece])[:RAW_LIMIT]]
    return parts, size
