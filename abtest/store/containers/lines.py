"""One JSON text a line: NDJSON, what most loggers write; also what everything is that nothing else claims."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from abtest.ingest.base import Reject, parse_object, reject
from abtest.ingest.lines import LINE_LIMIT, LineReader
from abtest.store.containers.base import Container, Reading, Source, Tail, Text


class Lines(Container):
    """Lines end with a newline.

    A last one without it counts when it is a whole JSON object or array: nothing that may follow could belong to it.
    """

    name: ClassVar[str] = "lines"
    description: ClassVar[str] = "one JSON text a line (NDJSON)"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json")
    grows: ClassVar[bool] = True

    def claims(self, file: Source) -> bool:
        """A file that begins with a whole JSON object on its first line."""
        return isinstance(parse_object(first_line(file)), dict)

    def texts(self, reading: Reading) -> Iterator[Text | Reject]:
        """Yield each line that is not blank, without its white space."""
        reader = LineReader(reading.chunks(), number=reading.number, offset=reading.start)
        end: int | None = None
        for line in reader:
            text = line.strip()
            if reader.terminated:
                if reader.too_long:
                    reason = f"too_long: more than {LINE_LIMIT} bytes in a line"
                    yield reject(text, reader.number, reader.offset, reason)
                elif text:
                    yield text, reader.number, reader.offset
            elif is_whole(text):
                yield text, reader.number, reader.offset
            else:
                end = reader.offset
                if text:
                    reading.tail = Tail(text, reader.number, reader.offset)
        reading.finish(reader.end if end is None else end, reader.number - (not reader.terminated))
        if end is None and not reader.terminated:
            reading.lines += 1


def first_line(file: Source) -> bytes:
    """Return the first line that is not blank, without its white space."""
    return next((text for line in LineReader(file.chunks()) if (text := line.strip())), b"")


def is_whole(text: bytes) -> bool:
    """Tell whether it is a whole JSON object or array."""
    if text[:1] not in (b"{", b"["):
        return False
    found = parse_object(text, allow_nan=True)
    return isinstance(found, dict) or found.startswith("not_object")


CONTAINER = Lines()
