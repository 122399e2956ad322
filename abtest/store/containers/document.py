"""JSON that is not one text a line: an array of records, or objects that span lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic_core import from_json

from abtest.errors import LogReadError
from abtest.ingest.base import RAW_LIMIT, Reject, parse_object
from abtest.ingest.elements import ElementReader
from abtest.ingest.lines import BOM
from abtest.store.containers.base import DOCUMENT_LIMIT, Container, Reading, Source, Tail, Text
from abtest.store.containers.lines import first_line, is_whole


class Document(Container):
    """Elements are cut out one by one, so that an array of any size is read in bounded memory.

    A file that grows has to be read from the beginning: what ends an array is not where it goes on.
    """

    name: ClassVar[str] = "document"
    description: ClassVar[str] = "a JSON array, or JSON objects over several lines"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    def claims(self, file: Source) -> bool:
        """A file whose first value is an array with a sound first element, or an object that is no single line."""
        start = file.head().removeprefix(BOM).lstrip()[:1]
        if start not in (b"[", b"{"):
            return False
        if start == b"{" and isinstance(parse_object(first_line(file)), dict):
            return False
        reader = ElementReader(file.chunks(), limit=DOCUMENT_LIMIT)
        for element in reader:
            return reader.whole and _is_json(element)
        return start == b"["

    def texts(self, reading: Reading) -> Iterator[Text | Reject]:
        """Yield each element of arrays at the top, and each object at the top."""
        reader = ElementReader(reading.chunks(), limit=DOCUMENT_LIMIT)
        for element in reader:
            if reader.whole:
                yield _on_one_line(element), reader.number, reader.offset
            elif reader.too_long:
                raise LogReadError(
                    f"a record of more than {DOCUMENT_LIMIT} bytes begins on line {reader.number}",
                    file=reading.file.name,
                    hint="write one object a line",
                )
            else:
                text = _on_one_line(element) if is_whole(element) else None
                reading.tail = Tail(element[:RAW_LIMIT], reader.number, reader.offset, text)
        reading.finish_all(reader.lines)


def _is_json(data: bytes) -> bool:
    try:
        from_json(data)
    except ValueError:
        return False
    return True


def _on_one_line(element: bytes) -> bytes:
    """Drop line ends between the tokens; inside strings JSON allows none, so what is broken stays broken."""
    if (b"\n" in element or b"\r" in element) and _is_json(element):
        return element.replace(b"\r", b" ").replace(b"\n", b" ")
    return element


CONTAINER = Document()
