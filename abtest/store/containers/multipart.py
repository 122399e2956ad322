"""A captured upload of the LangSmith SDK: the multipart body of `POST /runs/multipart`, one or several in a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from abtest.errors import LogReadError
from abtest.ingest.base import Reject
from abtest.ingest.langsmith_multipart import multipart_boundary, multipart_to_texts
from abtest.store.containers.base import DOCUMENT_LIMIT, Container, Reading, Source, Text


class Multipart(Container):
    """Parts belong together across the body, so it is read as a whole. Runs are numbered from 1, the offset is 0."""

    name: ClassVar[str] = "multipart"
    description: ClassVar[str] = "a LangSmith upload (multipart/form-data), one record a run"
    suffixes: ClassVar[tuple[str, ...]] = (".body",)

    def claims(self, file: Source) -> bool:
        """A file whose first line is a boundary, followed by the header of a part."""
        return multipart_boundary(file.head()) is not None

    def texts(self, reading: Reading) -> Iterator[Text | Reject]:
        """Yield one JSON text a run or feedback."""
        parts: list[bytes] = []
        size = 0
        for chunk in reading.chunks():
            size += len(chunk)
            if size > DOCUMENT_LIMIT:
                raise LogReadError(
                    f"an upload of more than {DOCUMENT_LIMIT} bytes", file=reading.file.name, hint="split it"
                )
            parts.append(chunk)
        texts = multipart_to_texts(b"".join(parts)) or []
        yield from ((text, number, 0) for number, text in enumerate(texts, 1))
        reading.finish_all(len(texts))


CONTAINER = Multipart()
