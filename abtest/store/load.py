"""Ingest: log files into the store, exactly once.

Files are read one after the other into a spool; a spool that is full enough goes into the store in one transaction
(rows, quarantine, ledger), so that a crash at any moment leaves whole files or nothing, and the next run goes on.

What is known of a file is never read twice: an unchanged one costs a stat, one that grew is read on from where it ended,
and a moved, copied or packed one is recognised by its content (`load_state`, `load_pieces`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import duckdb

from abtest.errors import LogReadError, StoreError
from abtest.ingest import Format, Ignored, Item, Reject, get
from abtest.ingest.base import RAW_LIMIT
from abtest.ingest.base import reject as reject_text
from abtest.records import AnyRecord
from abtest.store.containers.base import Container, Reading, Tail
from abtest.store.containers.lines import Lines
from abtest.store.containers.registry import choose
from abtest.store.load_fast import LARGE_BYTES, Rounds, UnusualFileError, expected_bytes
from abtest.store.load_files import MAX_BYTES, MAX_EXPANSION, Found, Limits, LogFile, Progress, expand, spooled
from abtest.store.load_limits import limited
from abtest.store.load_merge import merge
from abtest.store.load_pieces import Piece, Pieces
from abtest.store.load_report import FailedFile, FileCount, IngestReport, Totals
from abtest.store.load_sample import format_of, sample_of
from abtest.store.load_scratch import scratch
from abtest.store.load_spool import Spool
from abtest.store.load_state import States, is_recent
from abtest.store.load_unfinished import End, Ends, Unfinished
from abtest.store.load_workers import Workers
from abtest.store.privacy import check, hidden
from abtest.store.targets import waiting as waiting_scores

BATCH_BYTES = 64 * 1024 * 1024
BATCH_FILES = 500
"""Small files share a transaction; a large one has its own."""

Transform = Callable[[AnyRecord], AnyRecord]

__all__ = ["IngestReport", "load"]


def load(
    con: duckdb.DuckDBPyConnection,
    paths: Sequence[str | Path],
    *,
    source: str = "auto",
    keep_text: bool = False,
    progress: Progress | None = None,
    fmt: Format | None = None,
    transform: Transform | None = None,
    formats: Transform | None = None,
    final: bool = True,
    max_expansion: float = MAX_EXPANSION,
    max_bytes: int = MAX_BYTES,
) -> IngestReport:
    """Read log files into the store.

    The same content twice is skipped; the same record twice is counted as a duplicate; a record whose id is taken by
    another one is a conflict and quarantined; a bad line is quarantined with its reason, its neighbours go in.

    Args:
        con: A read-write connection outside any transaction.
        paths: Files, folders (searched for the endings of the containers, packed and rotated ones too), globs, and "-"
            for stdin.
        source: A format's name, or "auto" to look at the first records of each file.
        keep_text: Store prompts and answers in `interaction_text`. Their length is stored in any case.
        progress: Called with (file, bytes done, bytes in all), on the file as it lies on disk.
        fmt: A format of the caller's own; `source` does not count then.
        transform: Applied to every valid record before it is stored.
        formats: Applied before that, while the answers are there: fills `format_ok` (`abtest.ingest.format_schema`).
        final: The files are finished: a last record that is not whole is quarantined as truncated (and taken later, if
            it is completed after all). False for files that are being written: it waits until the file was not changed
            for five minutes, and so does a file that cannot be read yet.
        max_expansion: A packed file whose content is more times larger than itself is refused as a bomb.
        max_bytes: A packed file with more content is refused.

    Returns:
        The counts. Files that could not be read whole are in `failed_files`; nothing of them is in the store.

    Raises:
        LogReadError: A path that names no file; raised before anything is read.
        StoreError: The database or the temporary folder cannot be written; what was stored before stays.
        UsageError: A source that does not exist; hashed unit ids into a store with plain ones, or the other way.
    """
    started = time.perf_counter()
    files = expand(paths)
    if source != "auto" and fmt is None:
        get(source)
    check(con, transform)
    options = Options(source, fmt, transform, keep_text, final, Limits(max_expansion, max_bytes), progress, formats)
    with limited(con), scratch() as folder, Workers() as workers:
        spool = Spool(folder)
        rounds = Rounds(con, spool, workers, keep_text)
        try:
            loader = _Loader(rounds, folder, options)
            for each in files:
                loader.take(each)
            loader.flush()
        except OSError as error:  # logs that cannot be read are LogReadErrors by now: this is the spool
            raise StoreError(
                f"cannot write to {folder}: {error.strerror}", hint="set TMPDIR to a larger disk"
            ) from error
        finally:
            rounds.abandon()
            spool.close()
    loader.totals.scores["waiting"] = waiting_scores(con)
    return loader.totals.report(time.perf_counter() - started)


@dataclass(frozen=True)
class Options:
    """How to load; see `load`."""

    source: str = "auto"
    fmt: Format | None = None
    transform: Transform | None = None
    keep_text: bool = False
    final: bool = True
    limits: Limits = field(default_factory=Limits)
    progress: Progress | None = None
    formats: Transform | None = None

    @property
    def as_they_are(self) -> bool:
        """Whether records go in as the log has them."""
        return self.transform is None and self.formats is None


class _Loader:
    """The state of one ingest: what is known, what waits, what was counted."""

    def __init__(self, rounds: Rounds, folder: Path, options: Options) -> None:
        self.totals = Totals()
        self._con = con = rounds.con
        self._spool = rounds.spool
        self._rounds = rounds
        self._folder = folder
        self._options = options
        self._waiting: list[FileCount] = []
        self._states = States(con)
        self._next_id = _newest_id(con) + 1

    @cached_property
    def _pieces(self) -> Pieces:
        return Pieces(self._con)

    @cached_property
    def _unfinished(self) -> Unfinished:
        return Unfinished(self._con)

    def take(self, found: Found) -> None:
        """Read what is new of one file into the spool, or note why not; a full spool is stored."""
        mark = self._spool.mark()
        file: LogFile | None = None
        try:
            file = self._open(found)
            if expected_bytes(file) >= LARGE_BYTES:
                self.flush()
                mark = self._spool.mark()
            count = self._read_somehow(file)
        except LogReadError as error:
            self._rounds.abandon()
            self._spool.rewind(mark)
            self._fail(found, file, error)
            return
        if count is None:
            self._rounds.abandon()
            self._spool.rewind(mark)
            return
        self._pieces.add(_piece(count))
        self._waiting.append(count)
        self._next_id += 1
        if self._rounds.began or self._spool.size >= BATCH_BYTES or len(self._waiting) >= BATCH_FILES:
            self.flush()

    def flush(self) -> None:
        """Store what waits. What DuckDB cannot take in spite of validation fails its files, not the whole ingest."""
        waiting, self._waiting = self._waiting, []
        at = time.time_ns() // 1000
        try:
            if waiting:
                begun = self._rounds.hand_over()
                merge(
                    self._con, self._spool, waiting, self.totals, keep_text=self._options.keep_text, at=at, begun=begun
                )
        except (duckdb.DataError, duckdb.InvalidInputException) as error:
            self._undo(waiting)
            self.totals.failed.extend(FailedFile(file.path, f"the store cannot take it: {error}") for file in waiting)
        except duckdb.Error as error:
            raise StoreError(f"nothing was stored: {error}", hint="free disk or memory, then run it again") from error
        self._spool.clear()
        try:
            self._states.save()
        except duckdb.Error as error:
            raise StoreError(
                f"cannot write the store: {error}", hint="free disk or memory, then run it again"
            ) from error

    def _undo(self, counts: Sequence[FileCount]) -> None:
        """Forget what was not stored after all."""
        ids = {count.file_id for count in counts}
        self._pieces.discard(ids)
        self._unfinished.discard(ids)
        self._states.forget({count.path for count in counts})
        self._next_id = min(ids)

    def _fail(self, found: Found, file: LogFile | None, error: LogReadError) -> None:
        """Count a file that cannot be read: it is gone, still being written, or damaged."""
        if file is None and not found.named and isinstance(error.__cause__, FileNotFoundError):
            return  # renamed since the search: the next one finds it under its new name
        if file is not None and not self._options.final and is_recent(file, packed=True):
            self.totals.waiting_files += 1
            return
        message = f"{error.message} ({error.hint})" if error.hint else error.message
        self.totals.failed.append(FailedFile(str(found.path), message))

    def _open(self, found: Found) -> LogFile:
        """Look at a file; what can be read only once (stdin, a pipe) is put into the scratch folder first."""
        file = spooled(found, self._folder) or LogFile(found.path, found.key)
        file.limits, file.progress = self._options.limits, self._options.progress
        return file

    def _read_somehow(self, file: LogFile) -> FileCount | None:
        """Read a file the fast way, or the general one when it has something in it that needs that."""
        try:
            return self._read(file)
        except UnusualFileError:
            self._rounds.abandon()
            self._spool.clear()  # a large file is alone in it
            return self._read(file, is_usual=False)

    def _read(self, file: LogFile, *, is_usual: bool = True) -> FileCount | None:
        """Spool what is new in one file; None when there is nothing to store (known content, or empty)."""
        if self._states.unchanged(file, final=self._options.final):
            self.totals.skipped += 1
            self.totals.waiting_lines += self._states.is_waiting(file)
            return None
        match = self._pieces.match(file, self._states.candidates(file)) if file.head() else None
        if match and match.is_all:
            self.totals.skipped += 1
            self._states.note(file, match.piece.file_id, waiting=False)
            return None
        last = match.piece.file_id if match else None
        if self._states.settled(file, last, final=self._options.final):
            waiting = self._states.is_waiting(file)
            self.totals.skipped += 1
            self.totals.waiting_lines += waiting
            self._states.note(file, last, waiting=waiting)
            return None
        container = choose(file)
        sample, lines = sample_of(container, file)
        if not sample:
            self.totals.empty += 1
            self.totals.empty_lines += lines
            return None
        after = match.piece if match and _continues(match.piece, container) else None
        fmt = self._options.fmt or format_of(file, sample, self._options.source, after)
        reading = Reading(file, after.end, after.end_number or 0, report=True) if after else Reading(file, report=True)
        count = FileCount(file.key, self._next_id, source=fmt.name, container=container.name)
        if after:
            count.parent, count.root, count.start_byte = after.file_id, after.root, after.end
        direct = is_usual and isinstance(container, Lines) and fmt.is_native and self._options.as_they_are
        is_large = expected_bytes(file, reading.start) >= LARGE_BYTES
        return self._take_new(file, container, reading, fmt, count, after, is_fast=direct and is_large)

    def _take_new(
        self,
        file: LogFile,
        container: Container,
        reading: Reading,
        fmt: Format,
        count: FileCount,
        after: Piece | None,
        *,
        is_fast: bool,
    ) -> FileCount | None:
        """Spool everything from `reading.start` on, and complete the count; None when it was nothing."""
        before = self._spool.size
        self._spool.begin(count.file_id, count.path, fmt.name)
        ends = self._unfinished.of(file.key, after, self._pieces)
        if ends.sure:
            ends.keep_what_begins(next(file.chunks(reading.start), b""))
        if is_fast:
            for offset, text in self._rounds.lines(file, reading, count, {*ends.sure, *ends.likely}).items():
                self._complete(ends, offset, text, count)
        else:
            self._take_texts(container, reading, fmt, count, ends)
        waiting = reading.tail is not None and not self._take_tail(file, reading.tail, reading, fmt, count, ends)
        if not container.grows:  # it was read anew from its beginning
            count.completed += [(end.path, end.offset, end.raw) for end in ends.all() if end not in ends.kept]
        known = after.file_id if after else None
        if self._spool.size == before and not count.ignored and not self._rounds.began:
            self.totals.skipped += not waiting or after is not None
            self.totals.waiting_files += waiting and after is None
            self._states.note(file, known, waiting=waiting)
            return None
        count.bytes = reading.end - reading.start
        count.lines += reading.lines
        count.end_number = reading.end_number
        count.sha256, count.head, count.tail = reading.digests()
        self._states.note(file, count.file_id if count.bytes else known, waiting=waiting)
        return count

    def _take_texts(self, container: Container, reading: Reading, fmt: Format, count: FileCount, ends: Ends) -> None:
        for item in container.texts(reading):
            if isinstance(item, Reject):
                self._complete(ends, item.offset, item.raw, count)
                self._take((item,), fmt, b"", item.line, item.offset, count)
                continue
            text, number, offset = item
            if ends:
                self._complete(ends, offset, text, count)
            self._take(fmt.read(text, number, offset), fmt, text, number, offset, count)
            if not self._waiting:
                self._rounds.spooled(count)

    def _take_tail(
        self, file: LogFile, tail: Tail, reading: Reading, fmt: Format, count: FileCount, ends: Ends
    ) -> bool:
        """Decide about a record that may go on: take it, quarantine it, or (False) let it wait."""
        if not self._options.final and is_recent(file):
            self.totals.waiting_lines += 1
            return False
        if tail.text is not None:
            self._complete(ends, tail.offset, tail.raw, count)
            self._take(fmt.read(tail.text, tail.number, tail.offset), fmt, tail.text, tail.number, tail.offset, count)
            reading.take_tail()
            return True
        raw = tail.raw[:RAW_LIMIT]
        if ends.keep(tail.offset, raw):
            return True  # in quarantine already, and no byte longer
        self._complete(ends, tail.offset, raw, count)
        reject = reject_text(raw, tail.number, tail.offset, "truncated: the file ends inside its last record")
        kept = hidden(reject, self._options.transform).raw
        self._unfinished.add(End(file.key, tail.offset, kept, count.file_id))
        self._take((reject,), fmt, raw, tail.number, tail.offset, count)
        count.lines += 1
        return True

    def _complete(self, ends: Ends, offset: int, raw: bytes, count: FileCount) -> None:
        """Note that a whole record takes the place of an unfinished one."""
        for end in ends.completed(offset, raw):
            count.completed.append((end.path, end.offset, end.raw))

    def _take(
        self, items: Iterable[Item], fmt: Format, text: bytes, number: int, offset: int, count: FileCount
    ) -> None:
        """Sort what a text held: records and rejects into the spool, ignored ones into the count."""
        transform, formats = self._options.transform, self._options.formats
        for item in items:
            if isinstance(item, Reject):
                self._spool.reject(hidden(item, transform))
                count.reasons[item.code] += 1
            elif isinstance(item, Ignored):
                count.ignored += item.count
            else:
                record = formats(item) if formats else item
                as_logged = fmt.is_native and transform is None and record is item
                self._spool.add(transform(record) if transform else record, number, offset, text if as_logged else None)


def _newest_id(con: duckdb.DuckDBPyConnection) -> int:
    row = con.execute("SELECT COALESCE(MAX(file_id), 0) FROM file_ledger").fetchone()
    return int(row[0]) if row else 0


def _continues(piece: Piece, container: Container) -> bool:
    """Tell whether a file can be read on after a piece."""
    return container.grows and piece.container == container.name and piece.end_number is not None


def _piece(count: FileCount) -> Piece:
    return Piece(
        file_id=count.file_id,
        parent=count.parent,
        root=count.root or count.file_id,
        start=count.start_byte,
        size=count.bytes,
        end_number=count.end_number,
        sha256=count.sha256,
        head=count.head,
        tail=count.tail,
        container=count.container,
        source=count.source,
    )
