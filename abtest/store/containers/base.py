"""What a log file is made of: codecs unpack bytes, containers cut them into JSON texts, a reading is one pass over it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO, ClassVar, Protocol

from abtest.ingest.base import Reject

CHUNK = 1 << 20
HEAD_BYTES = 1 << 16
"""How much of a file's beginning may be looked at to tell what it is."""

EDGE_BYTES = 4096
"""Bytes at the beginning and at the end of a piece whose digest is kept, to tell files apart without a whole pass."""

DOCUMENT_LIMIT = 64 * 1024 * 1024
"""What has to be in memory at once (one JSON object, one protobuf message) may have so many bytes."""

Text = tuple[bytes, int, int]
"""One JSON text on one line, its number in the file (from 1), its byte offset in the unpacked file."""


class DamagedError(Exception):
    """The packed bytes cannot be unpacked; the text says why."""


@dataclass(frozen=True, slots=True)
class Tail:
    """A record at the end of the file that may go on.

    Attributes:
        raw: Its bytes so far.
        number: Its number in the file.
        offset: Its byte offset.
        text: What it says if nothing more comes; None when it is not whole.
    """

    raw: bytes
    number: int
    offset: int
    text: bytes | None = None


class Codec(ABC):
    """One way to pack bytes.

    Attributes:
        name: For messages.
        magic: The first bytes of a packed file.
        suffixes: Endings of file names.
    """

    name: ClassVar[str]
    magic: ClassVar[bytes]
    suffixes: ClassVar[tuple[str, ...]]

    @abstractmethod
    def chunks(self, raw: BinaryIO) -> Iterator[bytes]:
        """Yield the unpacked bytes, in bounded memory whatever the file.

        Raises:
            DamagedError: wrong checksum, cut off, not packed like this; found at the latest at the end.
        """


class Source(Protocol):
    """What a container sees of a file."""

    @property
    def name(self) -> str:
        """The file as the user named it, for messages."""
        ...

    @property
    def stem(self) -> str:
        """The file's name in lower case, without the codec's suffix and without the number of a rotation."""
        ...

    @property
    def path(self) -> Path:
        """Where it lies."""
        ...

    @property
    def size(self) -> int:
        """Bytes on disk when it was looked at."""
        ...

    @property
    def codec(self) -> Codec | None:
        """How it is packed; None for a plain file."""
        ...

    def head(self) -> bytes:
        """Return the first `HEAD_BYTES` of the content."""
        ...

    def chunks(self, start: int = 0, *, report: bool = False) -> Iterator[bytes]:
        """Yield the content from a byte offset; `report` moves the progress bar."""
        ...

    def whole(self) -> bytes | None:
        """Return the content; None when it has more than `DOCUMENT_LIMIT` bytes."""
        ...

    def produced(self, size: int) -> None:
        """Check what a self-packed container (Parquet) has unpacked so far; raises LogReadError for a bomb."""
        ...


class Reading:
    """One pass over a file, from where an earlier one ended. The container says how far it came.

    Attributes:
        file: The file.
        start: Byte offset of the beginning.
        number: How many numbered texts (lines) are before it.
        end: Byte offset up to which everything was taken; set by the container.
        end_number: How many numbered texts are before `end`; set by the container.
        lines: How many of them this pass has seen.
        tail: What follows `end`, if it may go on.
    """

    def __init__(self, file: Source, start: int = 0, number: int = 0, *, report: bool = False) -> None:
        """Begin; nothing is read yet."""
        self.file = file
        self.start = start
        self.number = number
        self.end = start
        self.end_number = number
        self.lines = 0
        self.tail: Tail | None = None
        self._report = report
        self._is_rest = False
        self._at = start
        self._sha = hashlib.sha256()
        self._first = b""
        self._last = b""
        # The state at the newest newline: the piece usually ends there, or with the file.
        self._newline = (start, hashlib.sha256(), b"")

    def chunks(self) -> Iterator[bytes]:
        """Yield the content from `start` on, and keep what the digests need."""
        for chunk in self._new():
            if len(self._first) < EDGE_BYTES:
                self._first += chunk[: EDGE_BYTES - len(self._first)]
            cut = chunk.rfind(b"\n") + 1
            if cut:
                self._sha.update(memoryview(chunk)[:cut])
                last = (self._last + chunk[max(0, cut - EDGE_BYTES) : cut])[-EDGE_BYTES:]
                self._newline = (self._at + cut, self._sha.copy(), last)
            self._sha.update(memoryview(chunk)[cut:])
            self._last = (self._last + chunk[-EDGE_BYTES:])[-EDGE_BYTES:]
            self._at += len(chunk)
            yield chunk

    def _new(self) -> Iterator[bytes]:
        """Yield the content from `start` on; the byte before it tells whether the first line is the rest of one."""
        chunks = self.file.chunks(max(0, self.start - 1), report=self._report)
        if self.start:
            first = next(chunks, b"")
            self._is_rest = not first.startswith(b"\n")
            chunks = chain([first[1:]], chunks)
        return filter(None, chunks)

    def finish(self, end: int, number: int, *, are_lines: bool = True) -> None:
        """Say that everything before `end` was taken, and how many texts (usually lines) that are in the whole file."""
        self.end, self.end_number = end, number
        self.lines = number - self.number
        if are_lines and self._is_rest and self.lines:
            self.lines -= 1  # counted when its beginning was taken

    def finish_all(self, number: int) -> None:
        """Say that everything that was read was taken."""
        self.finish(self._at, number)

    def take_tail(self) -> None:
        """Count the unfinished end as taken."""
        self.end = self._at
        self.tail = None

    def digests(self) -> tuple[str, str, str]:
        """Return the SHA-256 of what was taken, and `edge_digest`s of its first and last bytes, at most `EDGE_BYTES`."""
        if self.end == self._at:
            sha, last = self._sha, self._last
        elif self.end == self._newline[0]:
            _, sha, last = self._newline
        else:
            self._read_again()
            sha, last = self._sha, self._last
        size = self.end - self.start
        # A power of two: with a dozen lengths in all, few digests tell whether a new file begins like a known one.
        first = self._first[: 1 << (min(size, EDGE_BYTES).bit_length() - 1)] if size else b""
        return sha.hexdigest(), edge_digest(first), edge_digest(last[-size:] if size < len(last) else last)

    def _read_again(self) -> None:
        """Digest up to `end`: for a piece that ends at no newline, and for containers that do not read chunks."""
        self._sha, self._first, self._last, self._at = hashlib.sha256(), b"", b"", self.start
        for chunk in self.file.chunks(self.start):
            part = chunk[: self.end - self._at]
            self._sha.update(part)
            self._first += part[: max(0, EDGE_BYTES - len(self._first))]
            self._last = (self._last + part[-EDGE_BYTES:])[-EDGE_BYTES:]
            self._at += len(part)
            if self._at == self.end:
                break


def edge_digest(data: bytes) -> str:
    """Return the digest of a piece's first or last bytes, with their number in front."""
    return f"{len(data)}:{hashlib.sha256(data).hexdigest()[:32]}"


class Container(ABC):
    """One way in which a file holds JSON texts.

    Attributes:
        name: A short name, kept in the ledger.
        description: One line for people.
        suffixes: Endings of file names, for the search of folders.
        grows: True when a longer file with the same beginning can be read on from where it ended.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    grows: ClassVar[bool] = False

    @abstractmethod
    def claims(self, file: Source) -> bool:
        """Tell whether the file is of this kind; at most one container may say so of a file."""

    @abstractmethod
    def texts(self, reading: Reading) -> Iterator[Text | Reject]:
        """Yield the JSON texts from `reading.start` on, and rejects; call `reading.finish` at the end.

        Raises:
            LogReadError: the file cannot be read whole; nothing of it is taken then.
        """
