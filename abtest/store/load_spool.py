"""The spool: validated records wait on disk, as native NDJSON, until one transaction takes them.

Disk instead of memory, so that a file of any size loads in bounded memory; and DuckDB reads NDJSON faster than
anything that Python could hand it row by row.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import to_json

from abtest.ingest.base import RAW_LIMIT, Reject, epoch_micros
from abtest.records import AnyRecord
from abtest.store.load_report import TABLES


def canonical(attributes: dict[str, Any]) -> bytes:
    """Return JSON with sorted keys, so that their order in a log is no difference."""
    if any(isinstance(value, (dict, list)) for value in attributes.values()):
        return json.dumps(attributes, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return to_json(dict(sorted(attributes.items())))


def loader_keys(record: AnyRecord) -> bytes:
    """Return what DuckDB is not left to work out itself, as the first keys of a spooled line: "_t" and the like."""
    keys = b'"_t":%d' % epoch_micros(record.ts)
    if record.type == "interaction":
        if record.attributes:
            keys += b',"_a":%b' % canonical(record.attributes)
    elif record.type == "score" and record.updated_at:
        keys += b',"_u":%d' % epoch_micros(record.updated_at)
    return keys


@dataclass
class Table:
    """One spool file.

    Attributes:
        path: Where it is.
        stream: The open file.
        position: Bytes written.
        rows: Lines written.
        longest: Length of the longest line.
    """

    path: Path
    stream: BinaryIO
    position: int = 0
    rows: int = 0
    longest: int = 0

    def write(self, line: bytes) -> None:
        """Append one line, newline included."""
        self.stream.write(line)
        self.position += len(line)
        self.rows += 1
        if len(line) > self.longest:
            self.longest = len(line)

    def rewind(self, position: int, rows: int) -> None:
        """Forget what was written after a mark."""
        if position != self.position:
            self.stream.seek(position)
            self.stream.truncate()
            self.position, self.rows = position, rows


@dataclass(frozen=True)
class Source:
    """Validated rows of one table on disk.

    Attributes:
        paths: NDJSON files, in the order of their rows.
        rows: How many rows they hold.
        longest: Bytes of the longest line.
        file_id: The log file of rows that do not say theirs.
        name: The source (format) of rows that do not say theirs.
    """

    paths: list[str]
    rows: int
    longest: int
    file_id: int | None = None
    name: str | None = None


@dataclass
class Spool:
    """One spool file a table and one for rejects, in a folder of its own that the caller removes."""

    folder: Path
    tables: dict[str, Table] = field(default_factory=dict[str, Table])
    _head: bytes = b""
    _path: str = ""
    _source: str = ""
    _file_id: int = 0

    def __post_init__(self) -> None:
        """Open the files."""
        for name in (*TABLES, "reject"):
            path = self.folder / f"{name}.ndjson"
            self.tables[name] = Table(path, path.open("w+b", buffering=1 << 20))

    def close(self) -> None:
        """Close the files."""
        for table in self.tables.values():
            table.stream.close()

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return sum(table.position for table in self.tables.values())

    @property
    def rows_size(self) -> int:
        """Bytes of records that wait, rejects left out."""
        return sum(self.tables[name].position for name in TABLES)

    def begin(self, file_id: int, path: str, source: str) -> None:
        """Start a file: what is added from now on belongs to it."""
        self._file_id, self._path, self._source = file_id, path, source
        self._head = b'{"_f":%d,"_x":%b' % (file_id, json.dumps(source).encode())

    def mark(self) -> dict[str, tuple[int, int]]:
        """Return where the spool is now, for `rewind`."""
        return {name: (table.position, table.rows) for name, table in self.tables.items()}

    def rewind(self, mark: dict[str, tuple[int, int]]) -> None:
        """Forget what was added after the mark."""
        for name, (position, rows) in mark.items():
            self.tables[name].rewind(position, rows)

    def clear(self) -> None:
        """Forget everything."""
        self.clear_rows()
        self.rewind({"reject": (0, 0)})
        self.tables["reject"].longest = 0

    def clear_rows(self) -> None:
        """Forget the records; rejects stay."""
        self.rewind(dict.fromkeys(TABLES, (0, 0)))
        for name in TABLES:
            self.tables[name].longest = 0

    def add(self, record: AnyRecord, number: int, offset: int, line: bytes | None) -> None:
        """Add a record; `line` is its native JSON when the log has it, else it is written anew."""
        payload = record.model_dump_json(exclude_unset=True).encode() if line is None else line
        table = self.tables[record.type]
        head = b'%b,"_l":%d,"_o":%d,%b,' % (self._head, number, offset, loader_keys(record))
        body = payload[1:-1]
        table.write(b'%b%b,"_s":%d,"_n":%d}\n' % (head, body, table.position + len(head), len(body)))

    def reject(self, reject: Reject) -> None:
        """Add a reject of the file under way."""
        self.quarantine(self._file_id, self._path, self._source, reject)

    def quarantine(self, file_id: int, path: str, source: str, reject: Reject, *, late: int = 0) -> None:
        """Add a reject of any file; its bytes travel as base64, because they may be no text.

        Those with a higher `late` are numbered after the others, whenever they come.
        """
        table = self.tables["reject"]
        row = {
            "nth": table.rows + (late << 40),
            "file_id": file_id,
            "path": path,
            "line": reject.line,
            "byte_offset": reject.offset,
            "raw": base64.b64encode(reject.raw).decode(),
            "reason": reject.code,
            "detail": reject.detail or None,
            "source": source,
        }
        table.write(json.dumps(row).encode("utf-8", "replace") + b"\n")

    def source(self, table: str) -> Source:
        """Return what waits of a table; `flush` first."""
        rows = self.tables[table]
        return Source([str(rows.path)], rows.rows, rows.longest)

    def rejected(self, table: str, row: int, known: tuple[int, int, int, int] | None, reason: str) -> Reject:  # noqa: ARG002
        """Return a spooled record as a reject, in its native form; the write position is restored."""
        assert known, "a spooled record says where it is"
        line, offset, position, size = known
        stream = self.tables[table].stream
        stream.seek(position)
        raw = b"{" + stream.read(min(size, RAW_LIMIT)) + b"}"
        stream.seek(self.tables[table].position)
        return Reject(line, offset, raw[:RAW_LIMIT], reason)

    def flush(self) -> None:
        """Write buffers out, so that DuckDB sees everything."""
        for table in self.tables.values():
            table.stream.flush()
