"""One transaction: spooled records into the tables, what is bad into quarantine, the files into the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import duckdb

from abtest.ingest.base import Reject
from abtest.store.files import load_sql
from abtest.store.load_report import TABLES, FileCount, Totals
from abtest.store.load_spool import Source, Spool
from abtest.store.settle import settle
from abtest.store.targets import waiting

SLACK = 1024
MINIMUM_OBJECT = 16 * 1024 * 1024
TEMPORARY = (
    *(f"load_{table}" for table in TABLES),
    "load_match",
    "load_known",
)


class Waiting(Protocol):
    """Rows that wait on disk for a transaction: the spool, or a piece of a large file."""

    def source(self, table: str) -> Source:
        """Return the rows of a table."""
        ...

    def rejected(self, table: str, row: int, known: tuple[int, int, int, int] | None, reason: str) -> Reject:
        """Return a row of a table as a reject; `known` are line, offset, place and size where the rows say them."""
        ...


def merge(
    con: duckdb.DuckDBPyConnection,
    spool: Spool,
    files: Sequence[FileCount],
    totals: Totals,
    *,
    keep_text: bool,
    at: int,
    begun: Counter[str] | None = None,
) -> None:
    """Take the spool into the store, all or nothing, and complete the counts of `files` and `totals`.

    Args:
        con: A read-write connection outside any transaction, unless `begun`.
        spool: What waits; every record in it belongs to one of `files`.
        files: The files of this batch, in order; their ids follow the newest one in the ledger.
        totals: The sums of the ingest; changed only when the transaction holds.
        keep_text: Whether prompts and answers are stored.
        at: The time of the ingest, epoch microseconds.
        begun: The rows by table that were added already, in the transaction that is open.
    """
    if begun is None:
        con.begin()
    try:
        by_table = add(con, spool, spool, files, keep_text=keep_text)
        by_table.update(begun or {})
        scores = finish(con, spool, files, at, by_table)
        for name in TEMPORARY:
            con.execute(f"DROP TABLE IF EXISTS {name}")
        con.commit()
    except BaseException:
        con.rollback()
        raise
    totals.loaded.extend(files)
    totals.by_table.update(by_table)
    totals.scores.update(scores)


def add(
    con: duckdb.DuckDBPyConnection, waiting: Waiting, spool: Spool, files: Sequence[FileCount], *, keep_text: bool
) -> Counter[str]:
    """Within a transaction, insert what is new of what waits; conflicts go to `spool`. Returns the rows by table."""
    spool.flush()
    return Counter({table: _merge_table(con, table, waiting, spool, files, keep_text=keep_text) for table in TABLES})


def finish(
    con: duckdb.DuckDBPyConnection, spool: Spool, files: Sequence[FileCount], at: int, by_table: Counter[str]
) -> Counter[str]:
    """Within a transaction, after the rows: what must stay out, quarantine, twins, scores, ledger; returns the counts."""
    _quarantine(con, spool, files, at)
    counts = settle(con, files, by_table)
    _write_ledger(con, files, at)
    return counts


def _merge_table(
    con: duckdb.DuckDBPyConnection,
    table: str,
    waiting: Waiting,
    spool: Spool,
    files: Sequence[FileCount],
    *,
    keep_text: bool,
) -> int:
    """Insert what is new; count duplicates; send conflicts to the reject spool. Returns the rows inserted."""
    source = waiting.source(table)
    if not source.rows:
        return 0
    stage: dict[str, Any] = {
        "spool": source.paths,
        "longest": max(source.longest + SLACK, MINIMUM_OBJECT),
        "file_id": source.file_id,
        "source": source.name,
    }
    if table == "interaction":
        stage["keep_text"] = keep_text
    con.execute(load_sql(f"load/stage_{table}"), stage)
    con.execute(load_sql(f"load/match_{table}"))
    con.execute(load_sql(f"load/known_{table}"))
    staged = dict(con.table(f"load_{table}").aggregate("file_id, COUNT(*)", "file_id").fetchall())
    if sum(staged.values()) != source.rows:
        raise duckdb.InvalidInputException(f"{source.rows} {table} rows were spooled, {sum(staged.values())} came in")
    same = _by_file(con, "SELECT file_id, COUNT(*) FROM load_known WHERE differs = '' GROUP BY file_id")
    other = _by_file(con, "SELECT file_id, COUNT(*) FROM load_known WHERE differs <> '' GROUP BY file_id")
    con.execute(load_sql(f"load/insert_{table}"))
    if table == "interaction" and keep_text:
        con.execute(load_sql("load/insert_text"))
    for file in files:
        file.duplicates += same.get(file.file_id, 0)
        file.conflicts += other.get(file.file_id, 0)
        file.inserted += staged.get(file.file_id, 0) - same.get(file.file_id, 0) - other.get(file.file_id, 0)
    if other:
        _spool_conflicts(con, table, waiting, spool, files)
    return sum(staged.values()) - sum(same.values()) - sum(other.values())


def _by_file(con: duckdb.DuckDBPyConnection, query: str) -> dict[int, int]:
    return dict(con.execute(query).fetchall())


def _spool_conflicts(
    con: duckdb.DuckDBPyConnection, table: str, waiting: Waiting, spool: Spool, files: Sequence[FileCount]
) -> None:
    """Quarantine the records whose id is taken, in their native form, with the names of the columns that differ."""
    paths = {file.file_id: file.path for file in files}
    late = TABLES.index(table) + 1
    first = _first_row(con, table)
    cursor = con.execute(
        "SELECT pos, place, size, file_id, line, byte_offset, source, differs FROM load_known "
        "WHERE differs <> '' ORDER BY pos"
    )
    while rows := cursor.fetchmany(1000):
        for row, place, size, file_id, line, offset, source, differs in rows:
            reason = f"conflict: the {table} with this id differs in {differs}"
            known = None if place is None else (line, offset, place, size)
            spool.quarantine(
                file_id, paths[file_id], source, waiting.rejected(table, row - first, known, reason), late=late
            )


def _first_row(con: duckdb.DuckDBPyConnection, table: str) -> int:
    """Return the rowid of the first staged row; the others follow it one by one (inside a transaction it is not 0)."""
    row = con.execute(f"SELECT MIN(rowid), MAX(rowid) + 1 - COUNT(*) FROM load_{table}").fetchone()  # noqa: S608 - a name of ours
    if not row or row[0] != row[1]:
        raise duckdb.InvalidInputException(f"the staged rows of {table} are not in the order of their lines")
    return int(row[0])


def _quarantine(con: duckdb.DuckDBPyConnection, spool: Spool, files: Sequence[FileCount], at: int) -> None:
    rejects = spool.tables["reject"]
    if rejects.rows:
        rejects.stream.flush()
        longest = max(rejects.longest + SLACK, MINIMUM_OBJECT)
        con.execute(load_sql("load/insert_quarantine"), {"spool": str(rejects.path), "longest": longest, "at_us": at})
    # After the rejects: a copy of a file may complete what was truncated in a file of the same load.
    for completed in (each for file in files for each in file.completed):
        con.execute(
            "DELETE FROM quarantine WHERE path = ? AND byte_offset = ? AND raw = ? AND reason = 'truncated'", completed
        )


def waiting_scores(con: duckdb.DuckDBPyConnection) -> int:
    """Return how many scores of the store have no interaction yet."""
    return waiting(con)


def _write_ledger(con: duckdb.DuckDBPyConnection, files: Sequence[FileCount], at: int) -> None:
    rows = [
        (
            file.file_id,
            file.path,
            file.sha256,
            file.bytes,
            file.source,
            file.lines,
            file.records,
            file.inserted,
            file.duplicates,
            file.conflicts,
            file.quarantined,
            file.ignored,
            at,
            file.parent,
            file.root or file.file_id,
            file.start_byte,
            file.end_number,
            file.head,
            file.tail,
            file.container,
        )
        for file in files
    ]
    # By column: a statement a row would take longer than all the rest of a load of small files.
    con.execute(load_sql("load/insert_ledger"), [list(column) for column in zip(*rows, strict=True)])
