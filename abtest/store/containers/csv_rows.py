"""CSV with a header: each row becomes one JSON object of strings."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import ClassVar

from pydantic_core import to_json

from abtest.errors import LogReadError
from abtest.ingest.base import Reject, reject
from abtest.ingest.lines import BOM, LINE_LIMIT, LineReader
from abtest.store.containers.base import Container, Reading, Source, Tail, Text

DELIMITERS = ",;\t"
_NAME = re.compile(r"[A-Za-z_][\w .:/-]{0,99}")
_CUT = "unexpected end of data"
"""What the CSV reader says of a file that ends inside quotes."""

_LEAST_COLUMNS = 3
"""So many names in the first line make a CSV of a file whose name does not say so."""


class Csv(Container):
    """The first row names the columns. Cells stay strings, empty ones too: what they mean is for the format to say.

    The delimiter is the comma, semicolon or tab that the header has most of. A row is identified by its first line.
    """

    name: ClassVar[str] = "csv"
    description: ClassVar[str] = "CSV with a header, one record a row"
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")
    grows: ClassVar[bool] = True

    def claims(self, file: Source) -> bool:
        """A file named .csv or .tsv that does not begin like JSON, or one with a header of at least three names."""
        head = file.head()
        begins = head.removeprefix(BOM).lstrip()[:1]
        if not begins or begins in b"{[" or b"\x00" in head:
            return False
        if file.stem.endswith(self.suffixes):
            return True
        line, _, more = head.removeprefix(BOM).partition(b"\n")
        names = _split(line.decode("utf-8", "replace"))
        return (
            len(names) >= _LEAST_COLUMNS
            and len(set(names)) == len(names)
            and all(_NAME.fullmatch(name) for name in names)
            and len(_split(more.partition(b"\n")[0].decode("utf-8", "replace"))) == len(names)
        )

    def texts(self, reading: Reading) -> Iterator[Text | Reject]:
        """Yield one object a row; a row that does not fit the header or is no CSV is a reject."""
        csv.field_size_limit(LINE_LIMIT)
        names, delimiter, size = _header(reading.file)
        feed = _Feed(LineReader(reading.chunks(), number=reading.number, offset=reading.start))
        rows = csv.reader(feed, delimiter=delimiter, strict=True)
        if reading.start == 0:
            _skip_header(feed, rows, size)
        while True:
            feed.begin()
            fault = ""
            row: list[str] = []
            try:
                row = next(rows)
            except StopIteration:
                break
            except csv.Error as error:
                fault = f"csv: {error}"
            if not row and not fault:
                continue
            text = b""
            if not fault:
                text, fault = _to_json(names, row)
            if not feed.terminated or fault.endswith(_CUT):
                raw = feed.raw()
                if raw.strip():
                    reading.tail = Tail(raw, feed.number, feed.offset, text or None)
                break
            yield reject(feed.raw(), feed.number, feed.offset, fault) if fault else (text, feed.number, feed.offset)
        if reading.tail is None:
            reading.finish(feed.end, feed.newlines)
        else:
            reading.finish(reading.tail.offset, reading.tail.number - 1)


class _Feed(Iterator[str]):
    """Gives lines to the CSV reader, and remembers the bytes of the row under way."""

    def __init__(self, lines: LineReader) -> None:
        self._lines = lines
        self._next = iter(lines)
        self._raw: list[bytes] = []
        self.number = lines.number
        self.offset = lines.end

    @property
    def terminated(self) -> bool:
        return self._lines.terminated

    @property
    def end(self) -> int:
        return self._lines.end

    @property
    def newlines(self) -> int:
        return self._lines.number - (not self._lines.terminated)

    def begin(self) -> None:
        """Begin a row with the next line."""
        self._raw = []

    def raw(self) -> bytes:
        return b"\n".join(self._raw)

    def __next__(self) -> str:
        line = next(self._next)
        if not self._raw:
            self.number, self.offset = self._lines.number, self._lines.offset
        self._raw.append(line)
        return line.decode("utf-8", "surrogateescape") + "\n"


def _split(line: str) -> list[str]:
    try:
        row = next(csv.reader(io.StringIO(line.rstrip("\r\n")), delimiter=_delimiter(line), strict=True), [])
    except csv.Error:
        return []
    return [cell.strip() for cell in row]


def _delimiter(line: str) -> str:
    return max(DELIMITERS, key=line.count)


def _header(file: Source) -> tuple[list[str], str, int]:
    """Return the names of the columns, the delimiter, and how many physical lines the header takes."""
    feed = _Feed(LineReader(file.chunks()))
    first = next((line for line in LineReader(file.chunks()) if line.strip()), b"").decode("utf-8", "replace")
    delimiter = _delimiter(first)
    try:
        names = next((row for row in csv.reader(feed, delimiter=delimiter, strict=True) if any(row)), [])
    except csv.Error as error:
        raise LogReadError(f"its header is no CSV: {error}", file=file.name) from error
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LogReadError(f"two columns are called {twice[0]!r}", file=file.name, hint="name every column once")
    return names, delimiter, feed.number


def _skip_header(feed: _Feed, rows: Iterator[list[str]], last: int) -> None:
    """Pass over the lines up to the header's own."""
    while feed.number < last:
        feed.begin()
        if next(rows, None) is None:
            return


def _to_json(names: list[str], row: list[str]) -> tuple[bytes, str]:
    """Return the JSON object of a row, or what is wrong with it."""
    if len(row) != len(names):
        return b"", f"csv: {len(row)} cells, the header has {len(names)}"
    try:
        return to_json(dict(zip(names, row, strict=True))), ""
    except (UnicodeEncodeError, ValueError):
        return b"", "csv: not UTF-8"


CONTAINER = Csv()
