"""Large files, in one transaction and in bounded memory: rows go into the store while the file is being read.

Native lines take the fast way: cut into pieces, checked by other processes (`load_gate`), read by DuckDB as they are.
Anything else fills the spool as small files do. Either way DuckDB takes what is there in rounds, inside one transaction
that `merge` ends. The outcome is that of the general way: rows, counts, quarantine.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Collection, Generator, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import duckdb
import numpy as np

from abtest.errors import StoreError
from abtest.ingest import lines
from abtest.ingest.base import RAW_LIMIT, Reject
from abtest.ingest.lines import BOM
from abtest.store.containers.base import Reading, Tail
from abtest.store.containers.lines import is_whole
from abtest.store.load_files import LogFile
from abtest.store.load_gate import Passed, Piece, Rows
from abtest.store.load_merge import add
from abtest.store.load_report import TABLES, FileCount
from abtest.store.load_spool import Source, Spool
from abtest.store.load_workers import Workers

LARGE_BYTES = 4 * 1024 * 1024
"""A file with so many bytes to read has a transaction of its own."""

WORKERS_BYTES = 32 * 1024 * 1024
"""Starting processes pays from here on."""

PACKING = 8
"""By how much logs shrink when they are packed, about."""

PREFIX = "piece-"
PIECE_BYTES = 8 * 1024 * 1024
AHEAD = 12
"""Pieces that are checked, or wait for it, while DuckDB takes a round."""

ROUND_BYTES = 128 * 1024 * 1024
ROUND_ROWS = 2 * 122_880
"""A round ends with whichever comes first; two row groups of DuckDB keep two threads busy."""

_NEWLINE = 10


class UnusualFileError(Exception):
    """Something that only the general way can do (an endless line, a byte order mark), or DuckDB reads otherwise."""


@dataclass
class Round:
    """Checked pieces that DuckDB takes together; a `Waiting` of `load_merge`."""

    file_id: int
    name: str
    pieces: list[Passed] = field(default_factory=list[Passed])

    @property
    def is_full(self) -> bool:
        """Whether it is time for DuckDB."""
        rows = sum(len(rows.lines) for passed in self.pieces for rows in passed.tables.values())
        return rows >= ROUND_ROWS or len(self.pieces) * PIECE_BYTES >= ROUND_BYTES

    def source(self, table: str) -> Source:
        """Return the rows of a table."""
        found = self._rows(table)
        return Source(
            [rows.path for _, rows in found],
            sum(len(rows.lines) for _, rows in found),
            max((rows.longest for _, rows in found), default=0),
            self.file_id,
            self.name,
        )

    def rejected(self, table: str, row: int, known: tuple[int, int, int, int] | None, reason: str) -> Reject:  # noqa: ARG002
        """Return a row as a reject: its line of the log, found by its place among the rows."""
        found = self._rows(table)
        firsts = list(accumulate((len(rows.lines) for _, rows in found), initial=0))
        nth = bisect_right(firsts, row) - 1
        piece, rows = found[nth]
        index = row - firsts[nth]
        offset = int(rows.offsets[index])
        with Path(piece.path).open("rb") as stream:
            stream.seek(offset - piece.offset)
            line = stream.readline().strip()
        return Reject(int(rows.lines[index]), offset, line[:RAW_LIMIT], reason)

    def clear(self) -> None:
        """Remove the files that were written for it."""
        for passed in self.pieces:
            for rows in passed.tables.values():
                if rows.path != passed.piece.path:
                    Path(rows.path).unlink()
        self.pieces.clear()

    def _rows(self, table: str) -> list[tuple[Piece, Rows]]:
        return [(passed.piece, passed.tables[table]) for passed in self.pieces if table in passed.tables]


@dataclass
class Rounds:
    """The rows of one large file on their way into the store.

    Attributes:
        con: A read-write connection.
        spool: Takes the rejects; pieces lie in its folder.
        workers: Who checks the pieces.
        keep_text: Whether prompts and answers are stored.
        by_table: Rows inserted; None outside a transaction.
    """

    con: duckdb.DuckDBPyConnection
    spool: Spool
    workers: Workers
    keep_text: bool
    by_table: Counter[str] | None = None

    def spooled(self, count: FileCount) -> None:
        """Take what is in the spool, if that is worth a round; nothing but this file may be in it."""
        if self.spool.rows_size >= ROUND_BYTES:
            self._add(self.spool, count)
            self.spool.clear_rows()

    @property
    def began(self) -> bool:
        """Whether a transaction is open."""
        return self.by_table is not None

    def lines(self, file: LogFile, reading: Reading, count: FileCount, wanted: Collection[int]) -> dict[int, bytes]:
        """Take a file of native lines; what `Lines.texts` says about its end is said here.

        Args:
            file: The file.
            reading: A pass over it, not begun.
            count: The file; `begin` was called for it on the spool.
            wanted: Offsets of lines that the caller wants to see.

        Returns:
            The wanted lines, without white space.

        Raises:
            UnusualFileError: The general way will do; call `abandon` first.
        """
        here = expected_bytes(file, reading.start) < WORKERS_BYTES
        cutter = _Cutter(self.spool.folder, reading, wanted)
        pieces = cutter.pieces()
        ahead: deque[Future[Passed]] = deque()
        waiting = Round(count.file_id, count.source)
        more = True
        try:
            while more or ahead:
                while more and len(ahead) < AHEAD:
                    piece = next(pieces, None)
                    more = piece is not None
                    if piece:
                        ahead.append(self.workers.submit(piece, here=here))
                if ahead:
                    passed = ahead.popleft().result()
                    waiting.pieces.append(passed)
                    for reject in passed.rejects:
                        self.spool.reject(reject)
                        count.reasons[reject.code] += 1
                if waiting.is_full or (waiting.pieces and not (more or ahead)):
                    self._add(waiting, count)
                    cutter.free += [Path(passed.piece.path) for passed in waiting.pieces]
                    waiting.clear()
        finally:
            pieces.close()
            wait([future for future in ahead if not future.cancel()])
            for path in self.spool.folder.glob(f"{PREFIX}*"):
                path.unlink(missing_ok=True)
        return cutter.seen

    def hand_over(self) -> Counter[str] | None:
        """Return the rows inserted, to who ends the transaction; None when none is open."""
        by_table, self.by_table = self.by_table, None
        return by_table

    def abandon(self) -> None:
        """Undo what was taken, if anything was."""
        if self.hand_over() is not None:
            self.con.rollback()

    def _add(self, waiting: Round | Spool, count: FileCount) -> None:
        if not any(waiting.source(table).rows for table in TABLES):
            return
        if self.by_table is None:
            self.con.begin()
            self.by_table = Counter()
        try:
            self.by_table.update(add(self.con, waiting, self.spool, [count], keep_text=self.keep_text))
        except (duckdb.DataError, duckdb.InvalidInputException) as error:
            raise UnusualFileError from error
        except duckdb.Error as error:
            raise StoreError(f"nothing was stored: {error}", hint="free disk or memory, then run it again") from error


def expected_bytes(file: LogFile, start: int = 0) -> int:
    """Return how many bytes of content there are from an offset on; of a packed file, about how many."""
    return max(0, file.size - start if file.codec is None else file.size * PACKING - start)


class _Cutter:
    """Cuts a file into pieces of whole lines, and tells its reading where it ends.

    Attributes:
        seen: The wanted lines, by offset.
        free: Files of pieces that are done with: written over, because new ones cost the machine fresh memory.
    """

    def __init__(self, folder: Path, reading: Reading, wanted: Collection[int]) -> None:
        self.seen: dict[int, bytes] = {}
        self.free: list[Path] = []
        self._folder = folder
        self._reading = reading
        self._wanted = wanted
        self._files = 0
        self._piece = Piece("", reading.number, reading.start)
        self._lines = 0

    def pieces(self) -> Generator[Piece]:
        """Yield the pieces; the reading is finished after the last one."""
        rest: list[bytes] = []  # what follows the last newline
        stream = self._open()
        try:
            for chunk in self._reading.chunks():
                at = stream.tell()
                if not at and not self._piece.offset and chunk.startswith(BOM):
                    raise UnusualFileError
                end = chunk.rfind(b"\n") + 1
                self._lines += int(np.count_nonzero(np.frombuffer(chunk, np.uint8) == _NEWLINE))
                rest = [chunk[end:]] if end else [*rest, chunk]
                if sum(map(len, rest)) > lines.LINE_LIMIT or at + len(chunk) > lines.LINE_LIMIT:
                    raise UnusualFileError  # a line that is too long; pieces are much smaller
                if end and at + len(chunk) >= PIECE_BYTES:
                    stream.write(memoryview(chunk)[:end])
                    yield self._done(stream)
                    stream = self._open()
                    stream.write(rest[0])
                else:
                    stream.write(chunk)
            yield from self._last(stream, b"".join(rest))
        finally:
            stream.close()

    def _open(self) -> BinaryIO:
        if self.free:
            path = self.free.pop()
            stream = path.open("r+b")
        else:
            path = self._folder / f"{PREFIX}{self._files}"
            stream = path.open("wb")
            self._files += 1
        self._piece = replace(self._piece, path=str(path))
        return stream

    def _done(self, stream: BinaryIO) -> Piece:
        """Close a piece; the next one begins where it ends."""
        piece, size = self._piece, stream.tell()
        stream.truncate()
        stream.close()
        if near := [offset for offset in self._wanted if piece.offset <= offset < piece.offset + size]:
            with Path(piece.path).open("rb") as content:
                for offset in near:
                    content.seek(offset - piece.offset)
                    self.seen[offset] = content.readline().strip()
        self._piece = Piece("", piece.line + self._lines, piece.offset + size)
        self._lines = 0
        return piece

    def _last(self, stream: BinaryIO, rest: bytes) -> Iterator[Piece]:
        """Yield the last piece; `rest`, the last line without a newline, belongs to it if it is whole."""
        reading = self._reading
        text = rest.strip()
        is_taken = is_whole(text)
        if is_taken:
            stream.write(b"\n")
        else:
            stream.seek(-len(rest), 1)
        if stream.tell():
            yield self._done(stream)
        end, number = self._piece.offset, self._piece.line
        if text and not is_taken:
            reading.tail = Tail(text, number + 1, end)
        reading.finish(end - is_taken, number)
        reading.lines += is_taken
