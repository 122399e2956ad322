"""Cuts JSON that spans lines into its elements without parsing it; memory stays bounded by the largest element."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from abtest.ingest.lines import BOM

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb")*+([\[\]{}])", re.DOTALL)
_BRACKET_OR_COMMA = re.compile(rb'(?:[^"\[\]{},]++|' + _STRING + rb")*+([\[\]{},])", re.DOTALL)
_BLANK = b" \t\r\n"
_OPEN = b"[{"


class ElementReader:
    """Iterates over the elements of top-level arrays and over top-level objects; the attributes describe the last one.

    Elements are found by counting brackets outside of strings, so that a broken element does not hide the next ones.
    Whether an element is valid JSON is for the caller to see.

    Attributes:
        number: Line on which the element begins, from 1.
        offset: Byte offset of its first byte.
        whole: False when the input ended, or the limit was reached, inside the element or its array.
        too_long: True when that was the limit; nothing follows then.
        lines: After the loop, the number of lines.
    """

    def __init__(self, chunks: Iterable[bytes], *, limit: int) -> None:
        """Take any iterable of chunks; `limit` is the largest element, in bytes."""
        self._chunks = iter(chunks)
        self._limit = limit
        self._buffer = b""
        self._base = 0
        self._at = 0
        self._counted = 0
        self._newlines = 0
        self._ends_blank = True
        self.number = 1
        self.offset = 0
        self.whole = True
        self.too_long = False

    @property
    def lines(self) -> int:
        """Lines so far."""
        return self._newlines + (not self._ends_blank)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes of each element without surrounding white space."""
        self._fill(len(BOM))
        if self._buffer.startswith(BOM):
            self._at = len(BOM)
        in_array = False
        while self._skip_blank():
            byte = self._buffer[self._at : self._at + 1]
            if in_array and byte in b",]":
                in_array = byte != b"]"
                self._at += 1
            elif not in_array and byte == b"[":
                in_array = True
                self._at += 1
            else:
                yield self._element(in_array=in_array)
                if not self.whole:
                    break
        else:
            if in_array:  # the closing bracket is missing: the last element may not be the last
                self._place()
                self.whole = False
                yield b""
        self._count_rest()

    def _element(self, *, in_array: bool) -> bytes:
        """Take the element that begins here, up to the comma or bracket after it."""
        self._drop()
        self._place()
        if not in_array and self._buffer[self._at : self._at + 1] != b"{":
            return self._until_newline()
        at, depth = self._at, 0
        while True:
            pattern = _BRACKET_OR_COMMA if depth == 0 and in_array else _BRACKET
            match = pattern.match(self._buffer, at)
            if match is None:
                if len(self._buffer) - self._at > self._limit:
                    self.too_long = True
                elif self._fill(2 * len(self._buffer)):
                    continue
                self.whole = False
                return self._cut(len(self._buffer))
            at = match.end()
            token = match[1]
            if token in _OPEN:
                depth += 1
            elif depth == 0:
                return self._cut(at - 1)
            elif token != b",":
                depth -= 1
                if depth == 0 and not in_array:
                    return self._cut(at)

    def _until_newline(self) -> bytes:
        """Take what is no JSON value between top-level ones: a line of it."""
        while (end := self._buffer.find(b"\n", self._at)) < 0:
            if len(self._buffer) - self._at > self._limit or not self._fill(2 * len(self._buffer)):
                end = len(self._buffer)
                break
        return self._cut(end)

    def _cut(self, end: int) -> bytes:
        element = self._buffer[self._at : end].strip()
        self._at = end
        return element

    def _place(self) -> None:
        self._newlines += self._buffer.count(b"\n", self._counted, self._at)
        self._counted = self._at
        self.number = self._newlines + 1
        self.offset = self._base + self._at

    def _skip_blank(self) -> bool:
        """Go to the next byte that is not white space; False at the end."""
        while True:
            rest = self._buffer[self._at : self._at + 64].lstrip(_BLANK)
            if rest:
                self._at += len(self._buffer[self._at : self._at + 64]) - len(rest)
                return True
            self._at = min(self._at + 64, len(self._buffer))
            if self._at == len(self._buffer):
                self._drop()
                if not self._fill(1):
                    return False

    def _drop(self) -> None:
        """Forget what lies before the current place, when that is worth a copy."""
        if self._at > len(self._buffer) // 2:
            self._newlines += self._buffer.count(b"\n", self._counted, self._at)
            self._base += self._at
            self._buffer = self._buffer[self._at :]
            self._at = self._counted = 0

    def _fill(self, size: int) -> bool:
        """Read until the buffer holds `size` bytes; False when nothing more came."""
        parts = [self._buffer]
        have = len(self._buffer)
        for chunk in self._chunks:
            parts.append(chunk)
            have += len(chunk)
            if chunk:
                self._ends_blank = chunk.endswith(b"\n")
            if have >= size:
                break
        more = have > len(self._buffer)
        self._buffer = b"".join(parts)
        return more

    def _count_rest(self) -> None:
        self._newlines += self._buffer.count(b"\n", self._counted)
        self._counted = len(self._buffer)
        for chunk in self._chunks:
            self._newlines += chunk.count(b"\n")
