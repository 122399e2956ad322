"""Ingest: log files into the store, exactly once.

Files are read one after the other into a spool; a spool that is full enough goes into the store in one transaction
(rows, quarantine, ledger), so that a crash at any moment leaves whole files or nothing, and the next run goes on.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import duckdb

from abtest.errors import LogReadError, StoreError
from abtest.ingest import Format, Ignored, Item, Reject, get
from abtest.ingest.base import parse_object
from abtest.ingest.base import reject as reject_line
from abtest.ingest.lines import LINE_LIMIT, LineReader, document
from abtest.store.load_files import LogFile, Progress, expand
from abtest.store.load_merge import merge, waiting_scores
from abtest.store.load_report import FailedFile, FileCount, IngestReport, Totals
from abtest.store.load_scratch import scratch
from abtest.store.load_spool import Spool

BATCH_BYTES = 64 * 1024 * 1024
BATCH_FILES = 500
"""Small files share a transaction; a large one has its own."""

__all__ = ["IngestReport", "load"]


def load(
    con: duckdb.DuckDBPyConnection,
    paths: Sequence[str | Path],
    *,
    source: str = "auto",
    keep_text: bool = False,
    progress: Progress | None = None,
) -> IngestReport:
    """Read log files into the store.

    The same content twice is skipped; the same record twice is counted as a duplicate; a record whose id is taken by
    another one is a conflict and quarantined; a bad line is quarantined with its reason, its neighbours go in.

    Args:
        con: A read-write connection outside any transaction.
        paths: Files, folders (searched for .jsonl, .ndjson, .json and .gz) and globs.
        source: A format's name, or "auto" to look at the first lines of each file.
        keep_text: Store prompts and answers in `interaction_text`. Their length is stored in any case.
        progress: Called with (file, bytes done, bytes in all), on the file as it lies on disk.

    Returns:
        The counts. Files that could not be read whole are in `failed_files`; nothing of them is in the store.

    Raises:
        LogReadError: A path that names no file; raised before anything is read.
        StoreError: The database or the temporary folder cannot be written; what was stored before stays.
        UsageError: A source that does not exist.
    """
    started = time.perf_counter()
    files = expand(paths)
    if source != "auto":
        get(source)
    with scratch() as folder:
        spool = Spool(folder)
        try:
            loader = _Loader(con, spool, source=source, keep_text=keep_text)
            for path in files:
                loader.take(path, progress)
            loader.flush()
        except OSError as error:  # logs that cannot be read are LogReadErrors by now: this is the spool
            raise StoreError(
                f"cannot write to {folder}: {error.strerror}", hint="set TMPDIR to a larger disk"
            ) from error
        finally:
            spool.close()
    loader.totals.scores["waiting"] = waiting_scores(con)
    return loader.totals.report(time.perf_counter() - started)


class _Loader:
    """The state of one ingest: what is known, what waits, what was counted."""

    def __init__(self, con: duckdb.DuckDBPyConnection, spool: Spool, *, source: str, keep_text: bool) -> None:
        self.totals = Totals()
        self._con = con
        self._spool = spool
        self._source = source
        self._keep_text = keep_text
        self._waiting: list[FileCount] = []
        # Length first: a digest takes a pass over the file, and most new files have a length of their own.
        ledger = con.execute("SELECT bytes, sha256, file_id FROM file_ledger").fetchall()
        self._known = {sha256 for _, sha256, _ in ledger}
        self._lengths = {length % 2**32 for length, _, _ in ledger}
        self._next_id = max((file_id for _, _, file_id in ledger), default=0) + 1
        self._truncated = self._truncated_lines()

    def take(self, path: Path, progress: Progress | None) -> None:
        """Read one file into the spool, or note why not; a full spool is stored."""
        mark = self._spool.mark()
        try:
            count = self._read(LogFile(path, progress))
        except LogReadError as error:
            self._spool.rewind(mark)
            message = f"{error.message} ({error.hint})" if error.hint else error.message
            self.totals.failed.append(FailedFile(str(path), message))
            return
        if count is None:
            self._spool.rewind(mark)
            return
        self._known.add(count.sha256)
        self._lengths.add(count.bytes % 2**32)
        self._waiting.append(count)
        self._next_id += 1
        if self._spool.size >= BATCH_BYTES or len(self._waiting) >= BATCH_FILES:
            self.flush()

    def flush(self) -> None:
        """Store what waits. What DuckDB cannot take in spite of validation fails its files, not the whole ingest."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        at = time.time_ns() // 1000
        try:
            merge(self._con, self._spool, waiting, self.totals, keep_text=self._keep_text, at=at)
        except (duckdb.DataError, duckdb.InvalidInputException) as error:
            self._known.difference_update(file.sha256 for file in waiting)
            self._next_id = waiting[0].file_id
            self.totals.failed.extend(FailedFile(file.path, f"the store cannot take it: {error}") for file in waiting)
        except duckdb.Error as error:
            raise StoreError(f"nothing was stored: {error}", hint="free disk or memory, then run it again") from error
        self._spool.clear()

    def _read(self, file: LogFile) -> FileCount | None:
        """Spool one file; None when there is nothing to store (known content, or empty)."""
        if self._is_known(file):
            self.totals.skipped += 1
            return None
        sample = file.sample()
        if not sample:
            self.totals.empty += 1
            self.totals.empty_lines += sum(chunk.count(b"\n") for chunk in file.chunks())
            return None
        fmt, whole = self._open(file, sample)
        count = FileCount(str(file.path.resolve()), self._next_id, source=fmt.name)
        self._spool.begin(count.file_id, count.path, fmt.name)
        if whole is None:
            self._read_lines(file, fmt, count)
        else:
            data, elements = whole
            count.lines = data.count(b"\n") + (not data.endswith(b"\n"))
            count.sha256, count.bytes = hashlib.sha256(data).hexdigest(), len(data)
            for line, number, offset in elements:
                self._take(fmt.read(line, number, offset), fmt, line, number, offset, count)
        if count.sha256 in self._known:
            self.totals.skipped += 1
            return None
        return count

    def _is_known(self, file: LogFile) -> bool:
        """Tell whether the content is in the store, without a pass over files whose length is new.

        A gzip of several members may slip through; its digest after reading decides then.
        """
        return file.length_hint() in self._lengths and file.digest() in self._known

    def _open(
        self, file: LogFile, sample: list[bytes]
    ) -> tuple[Format, tuple[bytes, list[tuple[bytes, int, int]]] | None]:
        """Return the format, and the elements when the file is one JSON value instead of lines."""
        elements = None
        data = None
        if sample[0][:1] in (b"[", b"{") and isinstance(parse_object(sample[0]), str):
            data = file.whole()
            elements = None if data is None else document(data)
            if data is None and sample[0].startswith(b"["):
                raise LogReadError("is one large JSON array", file=file.name, hint="write one object a line")
        if data is None or elements is None:
            return file.choose(sample, self._source), None
        return file.choose([line for line, _, _ in elements[:20]] or sample, self._source), (data, elements)

    def _read_lines(self, file: LogFile, fmt: Format, count: FileCount) -> None:
        sha = hashlib.sha256()

        def hashed() -> Iterator[bytes]:
            for chunk in file.chunks(report=True):
                sha.update(chunk)
                count.bytes += len(chunk)
                yield chunk

        reader = LineReader(hashed())
        truncated = self._truncated.get(count.path, {})
        for line in reader:
            text = line.strip()
            if not text:
                continue
            number, offset = reader.number, reader.offset
            if reader.too_long:
                items = [reject_line(text, number, offset, f"too_long: more than {LINE_LIMIT} bytes in a line")]
            else:
                items = fmt.read(text, number, offset)
            if not reader.terminated:
                items = _mark_truncated(items)
            if offset in truncated and len(text) > len(truncated[offset]) and text.startswith(truncated[offset]):
                count.completed.append(offset)
            self._take(items, fmt, text, number, offset, count)
        count.lines = reader.number
        count.sha256 = sha.hexdigest()

    def _take(
        self, items: Iterable[Item], fmt: Format, line: bytes, number: int, offset: int, count: FileCount
    ) -> None:
        """Sort what a line held: records and rejects into the spool, ignored ones into the count."""
        for item in items:
            if isinstance(item, Reject):
                self._spool.reject(item)
                count.reasons[item.code] += 1
            elif isinstance(item, Ignored):
                count.ignored += item.count
            else:
                self._spool.add(item, number, offset, line if fmt.is_native else None)

    def _truncated_lines(self) -> dict[str, dict[int, bytes]]:
        """Return the unfinished last lines of earlier reads, by file: a file that grew may have completed its own."""
        found: dict[str, dict[int, bytes]] = {}
        query = "SELECT path, byte_offset, raw FROM quarantine WHERE reason = 'truncated'"
        for path, offset, raw in self._con.execute(query).fetchall():
            found.setdefault(path, {})[offset] = raw
        return found


def _mark_truncated(items: Iterable[Item]) -> list[Item]:
    """Rename the reject of a last line without newline: broken JSON there is a line still being written."""
    return [
        Reject(item.line, item.offset, item.raw, "truncated: the last line has no newline and is not whole")
        if isinstance(item, Reject) and item.code == "json"
        else item
        for item in items
    ]
