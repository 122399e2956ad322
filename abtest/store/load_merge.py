"""One transaction: spooled records into the tables, what is bad into quarantine, the files into the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

from abtest.ingest.base import Reject
from abtest.store.files import load_sql
from abtest.store.load_report import TABLES, FileCount, Totals
from abtest.store.load_spool import Spool

SLACK = 1024
MINIMUM_OBJECT = 16 * 1024 * 1024
TEMPORARY = (
    *(f"load_{table}" for table in TABLES),
    "load_match",
    "load_known",
    "load_unresolved",
    "load_open",
    "load_candidate",
)


def merge(
    con: duckdb.DuckDBPyConnection,
    spool: Spool,
    files: Sequence[FileCount],
    totals: Totals,
    *,
    keep_text: bool,
    at: int,
) -> None:
    """Take the spool into the store, all or nothing, and complete the counts of `files` and `totals`.

    Args:
        con: A read-write connection outside any transaction.
        spool: What waits; every record in it belongs to one of `files`.
        files: The files of this batch, in order; their ids follow the newest one in the ledger.
        totals: The sums of the ingest; changed only when the transaction holds.
        keep_text: Whether prompts and answers are stored.
        at: The time of the ingest, epoch microseconds.
    """
    spool.flush()
    by_table: dict[str, int] = {}
    con.begin()
    try:
        for table in TABLES:
            by_table[table] = _merge_table(con, table, spool, files, keep_text=keep_text)
        _quarantine(con, spool, files, at)
        scores = _resolve_scores(con, files)
        _write_ledger(con, files, at)
        for name in TEMPORARY:
            con.execute(f"DROP TABLE IF EXISTS {name}")
        con.commit()
    except BaseException:
        con.rollback()
        raise
    totals.loaded.extend(files)
    totals.by_table.update(by_table)
    totals.scores.update(scores)


def _merge_table(
    con: duckdb.DuckDBPyConnection, table: str, spool: Spool, files: Sequence[FileCount], *, keep_text: bool
) -> int:
    """Insert what is new; count duplicates; send conflicts to the reject spool. Returns the rows inserted."""
    waiting = spool.tables[table]
    if not waiting.rows:
        return 0
    stage: dict[str, Any] = {"spool": str(waiting.path), "longest": max(waiting.longest + SLACK, MINIMUM_OBJECT)}
    if table == "interaction":
        stage["keep_text"] = keep_text
    con.execute(load_sql(f"load/stage_{table}"), stage)
    con.execute(load_sql(f"load/match_{table}"))
    con.execute(load_sql(f"load/known_{table}"))
    staged = dict(con.table(f"load_{table}").aggregate("file_id, COUNT(*)", "file_id").fetchall())
    if sum(staged.values()) != waiting.rows:
        raise duckdb.InvalidInputException(f"{waiting.rows} {table} rows were spooled, {sum(staged.values())} came in")
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
        _spool_conflicts(con, table, spool, files)
    return sum(staged.values()) - sum(same.values()) - sum(other.values())


def _by_file(con: duckdb.DuckDBPyConnection, query: str) -> dict[int, int]:
    return dict(con.execute(query).fetchall())


def _spool_conflicts(con: duckdb.DuckDBPyConnection, table: str, spool: Spool, files: Sequence[FileCount]) -> None:
    """Quarantine the records whose id is taken, in their native form, with the names of the columns that differ."""
    paths = {file.file_id: file.path for file in files}
    cursor = con.execute(
        "SELECT pos, size, file_id, line, byte_offset, source, differs FROM load_known WHERE differs <> '' ORDER BY pos"
    )
    while rows := cursor.fetchmany(1000):
        for position, size, file_id, line, offset, source, differs in rows:
            raw = spool.payload(table, position, size)
            reason = f"conflict: the {table} with this id differs in {differs}"
            spool.quarantine(file_id, paths[file_id], source, Reject(line, offset, raw, reason))


def _quarantine(con: duckdb.DuckDBPyConnection, spool: Spool, files: Sequence[FileCount], at: int) -> None:
    for file in files:
        for offset in file.completed:
            con.execute(
                "DELETE FROM quarantine WHERE path = ? AND byte_offset = ? AND reason = 'truncated'",
                [file.path, offset],
            )
    rejects = spool.tables["reject"]
    if not rejects.rows:
        return
    rejects.stream.flush()
    longest = max(rejects.longest + SLACK, MINIMUM_OBJECT)
    con.execute(load_sql("load/insert_quarantine"), {"spool": str(rejects.path), "longest": longest, "at_us": at})


def _resolve_scores(con: duckdb.DuckDBPyConnection, files: Sequence[FileCount]) -> dict[str, int]:
    """Join scores to their interactions; returns how many found theirs, and how many have several to choose from."""
    con.execute(load_sql("load/unresolved_score"))
    if not _count(con, "SELECT COUNT(*) FROM load_unresolved"):
        return {}
    con.execute(load_sql("load/open_score"), {"first": files[0].file_id})
    if not _count(con, "SELECT COUNT(*) FROM load_open"):
        return {}
    con.execute(load_sql("load/match_target"))
    con.execute(load_sql("load/insert_target"), {"file_id": files[-1].file_id})
    resolved = _count(con, "SELECT COUNT(DISTINCT score_id) FROM load_candidate WHERE n = 1")
    found = _count(con, "SELECT COUNT(DISTINCT score_id) FROM load_candidate")
    return {"resolved": resolved, "ambiguous": found - resolved}


def waiting_scores(con: duckdb.DuckDBPyConnection) -> int:
    """Return how many scores of the store have no interaction yet."""
    return _count(con, load_sql("load/count_waiting"))


def _count(con: duckdb.DuckDBPyConnection, query: str) -> int:
    row = con.execute(query).fetchone()
    return int(row[0]) if row else 0


def _write_ledger(con: duckdb.DuckDBPyConnection, files: Sequence[FileCount], at: int) -> None:
    con.executemany(
        load_sql("load/insert_ledger"),
        [
            [
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
            ]
            for file in files
        ],
    )
