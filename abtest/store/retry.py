"""Trying rejected lines again with the rules of today: after a new version of abtest, or with a better map.

A line that passes goes into the store under a ledger entry of its own and leaves the quarantine, in one transaction; one
that does not stays, with the reason of today. What the store already has of a line is a duplicate, as in any load.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import duckdb

from abtest.errors import StoreError, UsageError
from abtest.ingest import Format, Ignored, Item, Reject, formats
from abtest.ingest.base import RAW_LIMIT
from abtest.records import AnyRecord
from abtest.store.files import load_sql
from abtest.store.load_merge import merge
from abtest.store.load_report import FileCount, Totals
from abtest.store.load_scratch import scratch
from abtest.store.load_spool import Spool
from abtest.store.privacy import OUTLINE, check, hidden

HOPELESS = ("conflict", "truncated", "too_long")
"""Reasons that no rule changes: two records claim one id, and lines that are not there whole."""


@dataclass
class Retried:
    """What became of the rejected lines that were tried.

    Attributes:
        tried: Rows of the quarantine that were read again.
        taken: Rows of the quarantine that are gone from it.
        kept: Rows that were tried and stay.
        inserted: Records that are new in the store.
        duplicates: Records that the store had already.
        conflicts: Records whose id is taken by another one: back in quarantine, as a conflict.
        ignored: Records that are no model call, assignment or score, or were pruned or forgotten.
        skipped: Rows that cannot be tried, by why: cut (only the first 64 KB are there), outline (stored without its
            text), unknown_format (of a map; name it with --map), or the reason itself (conflict, truncated, too_long).
        reasons: Rows that were tried and stay, by reason.
    """

    tried: int = 0
    taken: int = 0
    kept: int = 0
    inserted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    ignored: int = 0
    skipped: Counter[str] = field(default_factory=Counter[str])
    reasons: Counter[str] = field(default_factory=Counter[str])

    def to_dict(self) -> dict[str, Any]:
        """Return the `abtest.quarantine_retry/1` object."""
        return {
            "schema": "abtest.quarantine_retry/1",
            "tried": self.tried,
            "taken": self.taken,
            "kept": self.kept,
            "inserted": self.inserted,
            "duplicates": self.duplicates,
            "conflicts": self.conflicts,
            "ignored": self.ignored,
            "skipped": dict(sorted(self.skipped.items())),
            "reasons": dict(sorted(self.reasons.items())),
        }


@dataclass(frozen=True)
class _Row:
    """A row of the quarantine."""

    number: int
    path: str
    line: int
    offset: int
    raw: bytes
    reason: str
    detail: str | None
    source: str


def retry(
    con: duckdb.DuckDBPyConnection,
    *,
    number: int | None = None,
    source: str | None = None,
    fmt: Format | None = None,
    transform: Callable[[AnyRecord], AnyRecord] | None = None,
    keep_text: bool = False,
) -> Retried:
    """Read rejected lines again and take what passes; all or nothing, and a second run finds nothing more to do.

    Args:
        con: A read-write connection outside any transaction.
        number: Only this row.
        source: Only rows of this format.
        fmt: Read them in this format (a map) instead of the one they came in.
        transform: What happens to each record, as in `load`.
        keep_text: Store prompts and answers, as in `load`.

    Raises:
        UsageError: There is no such row; or plain unit ids into a store with hashed ones.
        StoreError: The store cannot be written; nothing has changed.
    """
    check(con, transform)
    rows = _rows(con, number, source)
    if number is not None and not rows:
        raise UsageError(f"there is no rejected row {number}", hint="`abtest quarantine list` shows the ids")
    result = Retried()
    lines: dict[tuple[str, str, int, bytes], list[_Row]] = {}
    for row in rows:
        why = _why_not(row, fmt)
        if why:
            result.skipped[why] += 1
        else:
            lines.setdefault((row.source, row.path, row.offset, row.raw), []).append(row)
            result.tried += 1
    if not lines:
        return result
    with scratch() as folder:
        spool = Spool(folder)
        try:
            _take(con, spool, list(lines.values()), result, fmt=fmt, transform=transform, keep_text=keep_text)
        except duckdb.Error as error:
            raise StoreError(f"nothing was stored: {error}", hint="free disk or memory, then run it again") from error
        except OSError as error:
            raise StoreError(
                f"cannot write to {folder}: {error.strerror}", hint="set TMPDIR to a larger disk"
            ) from error
        finally:
            spool.close()
    return result


def _take(
    con: duckdb.DuckDBPyConnection,
    spool: Spool,
    lines: list[list[_Row]],
    result: Retried,
    *,
    fmt: Format | None,
    transform: Callable[[AnyRecord], AnyRecord] | None,
    keep_text: bool,
) -> None:
    """Spool what passes, one ledger entry a format, and settle it with the quarantine in one transaction."""
    next_id = int(con.execute("SELECT COALESCE(MAX(file_id), 0) + 1 FROM file_ledger").fetchall()[0][0])
    at = time.time_ns() // 1000
    files: dict[str, FileCount] = {}
    gone: list[int] = []
    renamed: list[tuple[str, str | None, int]] = []
    for same in sorted(lines, key=lambda rows: rows[0].source):  # one format after the other, as the spool wants it
        first = same[0]
        chosen = fmt or formats()[first.source]
        count = files.get(chosen.name)
        if count is None:
            count = FileCount("(quarantine retry)", next_id + len(files), source=chosen.name)
            files[chosen.name] = count
            spool.begin(count.file_id, count.path, chosen.name)
        items = chosen.read(first.raw, first.line, first.offset)
        rejects = [hidden(item, transform) for item in items if isinstance(item, Reject)]
        if len(rejects) < len(items):
            _spool(spool, items, count, first, transform)
        stay = _settle(same, rejects, renamed)
        gone += [row.number for row in same if row.number not in stay]
        result.kept += len(stay)
        result.reasons.update(stay.values())
    result.taken = len(gone)
    counts = [count for count in files.values() if count.lines]
    for count in counts:
        count.sha256 = hashlib.sha256(f"quarantine retry {at} {count.source}".encode()).hexdigest()
    con.begin()
    try:
        con.execute("DELETE FROM quarantine WHERE quarantine_id IN (SELECT UNNEST($ids))", {"ids": gone})
        for reason, detail, number in renamed:
            con.execute(
                "UPDATE quarantine SET reason = ?, detail = ? WHERE quarantine_id = ?", [reason, detail, number]
            )
    except BaseException:
        con.rollback()
        raise
    if counts:  # goes on in the transaction that is open, and commits it
        merge(con, spool, counts, Totals(), keep_text=keep_text, at=at, begun=Counter())
    else:
        con.commit()
    for count in counts:
        result.inserted += count.inserted
        result.duplicates += count.duplicates
        result.conflicts += count.conflicts
        result.ignored += count.ignored


def _spool(
    spool: Spool, items: Any, count: FileCount, row: _Row, transform: Callable[[AnyRecord], AnyRecord] | None
) -> None:
    count.lines += 1
    count.bytes += len(row.raw)
    item: Item
    for item in items:
        if isinstance(item, Ignored):
            count.ignored += item.count
        elif not isinstance(item, Reject):
            spool.add(item if transform is None else transform(item), row.line, row.offset, None)


def _settle(same: list[_Row], rejects: list[Reject], renamed: list[tuple[str, str | None, int]]) -> dict[int, str]:
    """Return which rows of a line stay, with their reason: as many as it has rejects today, equal ones first.

    A line never gets more rows than it had: what else is wrong in it today shows when these are mended.
    """
    stay: dict[int, str] = {}
    left = list(same)
    open_rejects: list[Reject] = []
    for reject in rejects:
        equal = next((row for row in left if (row.reason, row.detail) == (reject.code, reject.detail or None)), None)
        if equal is None:
            open_rejects.append(reject)
            continue
        left.remove(equal)
        stay[equal.number] = equal.reason
    for reject, row in zip(open_rejects, left, strict=False):
        renamed.append((reject.code, reject.detail or None, row.number))
        stay[row.number] = reject.code
    return stay


def _why_not(row: _Row, fmt: Format | None) -> str | None:
    if row.reason in HOPELESS:
        return row.reason
    if not row.raw or row.raw.startswith(OUTLINE):
        return "outline"
    if len(row.raw) >= RAW_LIMIT:
        return "cut"
    return None if fmt is not None or row.source in formats() else "unknown_format"


def _rows(con: duckdb.DuckDBPyConnection, number: int | None, source: str | None) -> list[_Row]:
    found = con.execute(load_sql("load/retry_rows"), {"number": number, "source": source}).fetchall()
    return [
        _Row(number, path, line, offset, bytes(raw or b""), reason, detail, name)
        for number, path, line, offset, raw, reason, detail, name in found
    ]
