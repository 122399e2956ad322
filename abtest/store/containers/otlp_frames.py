"""OTLP as protobuf: one export request, or many with their lengths in front, as the Collector's file exporter writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from abtest.errors import LogReadError
from abtest.ingest.base import RAW_LIMIT, Reject, reject
from abtest.store.containers.base import DOCUMENT_LIMIT, Container, Reading, Source, Tail, Text

_LENGTH = 4
_TEXT = bytes(range(32, 127)) + b"\t\r\n"


class OtlpProtobuf(Container):
    """Whether bytes are protobuf cannot be seen, so they are parsed. Requests are numbered from 1, and become OTLP/JSON."""

    name: ClassVar[str] = "otlp_protobuf"
    description: ClassVar[str] = "OTLP export requests as protobuf, one or length-delimited"
    suffixes: ClassVar[tuple[str, ...]] = (".pb", ".binpb")
    grows: ClassVar[bool] = True

    def claims(self, file: Source) -> bool:
        """A file with bytes that no text has, whose first request parses."""
        head = file.head()
        if not head[:4096].translate(None, _TEXT) or head.lstrip()[:1] in (b"{", b"["):
            return False
        framed = _first_frame(file)
        if framed is not None and _convert(framed) is not None:
            return True
        data = file.whole()
        return data is not None and _convert(data) is not None

    def texts(self, reading: Reading) -> Iterator[Text | Reject]:
        """Yield one OTLP/JSON text a request."""
        frame = _first_frame(reading.file)
        if frame is None or _convert(frame) is None:
            yield from _single(reading)
            return
        number, offset, buffer = reading.number, reading.start, b""
        for chunk in reading.chunks():
            buffer += chunk
            at = 0
            while (size := _size(buffer, at)) is not None and len(buffer) - at >= _LENGTH + size:
                frame = buffer[at + _LENGTH : at + _LENGTH + size]
                number += 1
                yield from _texts(frame, number, offset)
                at += _LENGTH + size
                offset += _LENGTH + size
            if size is not None and size > DOCUMENT_LIMIT:
                raise LogReadError(
                    f"request {number + 1} claims to have {size} bytes",
                    file=reading.file.name,
                    hint="the file is damaged from there on",
                )
            buffer = buffer[at:]
        reading.finish(offset, number, are_lines=False)
        if buffer:
            reading.tail = Tail(buffer[:RAW_LIMIT], number + 1, offset)


def _single(reading: Reading) -> Iterator[Text | Reject]:
    data = b"".join(reading.chunks())
    if data:
        yield from _texts(data, reading.number + 1, reading.start)
    reading.finish_all(reading.number + 1)


def _texts(data: bytes, number: int, offset: int) -> Iterator[Text | Reject]:
    found = _convert(data)
    if found is None:
        yield reject(data, number, offset, "protobuf: this is no OTLP export request")
        return
    for text in found:
        yield text, number, offset


def _convert(data: bytes) -> list[bytes] | None:
    from abtest.ingest.otlp_protobuf import to_json_texts

    return to_json_texts(data)


def _first_frame(file: Source) -> bytes | None:
    """Return the first request of a length-delimited file; None when the first four bytes are no length."""
    buffer = file.head()
    size = _size(buffer, 0)
    if size is None or not 0 < size <= DOCUMENT_LIMIT:
        return None
    if len(buffer) < _LENGTH + size:
        parts: list[bytes] = []
        have = 0
        for chunk in file.chunks():
            parts.append(chunk)
            have += len(chunk)
            if have >= _LENGTH + size:
                break
        buffer = b"".join(parts)
    return buffer[_LENGTH : _LENGTH + size] if len(buffer) >= _LENGTH + size else None


def _size(buffer: bytes, at: int) -> int | None:
    """Return the length that stands at a place; None when it is not there whole."""
    head = buffer[at : at + _LENGTH]
    return int.from_bytes(head, "big") if len(head) == _LENGTH else None


CONTAINER = OtlpProtobuf()
