"""Retention: everything before a time goes (`prune`), or everything of one unit (`forget`), and does not come back.

Both are one transaction, with an entry in the decision ledger that names no id. The ledger of files stays, and what went is
remembered (a watermark; salted hashes), so that a later load of the same records ignores them. Derived rows of calls that
were logged twice are found anew. Afterwards `compact` rewrites the file: DuckDB alone would leave deleted bytes in it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from abtest.errors import UsageError
from abtest.store import ledger, twins
from abtest.store.files import load_sql
from abtest.store.keepout import forgotten_hash, raise_watermark, salt

COUNTED = ("interaction", "interaction_text", "assignment", "score", "quarantine", "merged_interaction")
_TEMPORARY = ("gone_call", "gone_score", "gone_quarantine", "gone_near")
_KEPT_TOTALS = "scan_units_"
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Removed:
    """What was removed, or would be.

    Attributes:
        rows: Rows by table.
        in_use: Assignments among them that later calls still rely on for their arm (`prune` only).
    """

    rows: dict[str, int]
    in_use: int = 0

    @property
    def total(self) -> int:
        """All rows together."""
        return sum(self.rows.values())


def prune(con: duckdb.DuckDBPyConnection, before_us: int, *, dry_run: bool = False) -> Removed:
    """Remove calls, texts, scores, assignments and rejected lines from before a time.

    A score goes with its call. A rejected line goes when it was loaded before that time, or states an earlier one in the
    native form.

    Args:
        con: A read-write connection outside any transaction.
        before_us: Microseconds since 1970; what happened at that time or later stays.
        dry_run: Only count.
    """
    con.begin()
    try:
        _clear(con)
        con.execute(load_sql("load/gone_before_call"), {"before": before_us})
        con.execute(load_sql("load/gone_before_score"), {"before": before_us})
        con.execute(load_sql("load/gone_before_quarantine"), {"before": before_us})
        in_use = _one(con, load_sql("load/gone_in_use"), {"before": before_us})
        assignments = "ts_us < $value"
        near = _ids(con, load_sql("load/gone_near_time"), {"before": before_us, "window": twins.WINDOW_US})
        removed = Removed(_count(con, assignments, before_us), in_use)
        if not dry_run:
            _remove(con, assignments, before_us, near)
            raise_watermark(con, before_us)
            body = {"before_us": before_us, "rows": removed.rows, "assignments_in_use": in_use}
            ledger.append(con, "prune", "", 0, body)
        _clear(con)
    except BaseException:
        con.rollback()
        raise
    con.commit()
    return removed


def forget(
    con: duckdb.DuckDBPyConnection, unit_id: str, *, stored: str | None = None, dry_run: bool = False
) -> Removed:
    """Remove everything of one unit: calls, texts, assignments, scores, rejected lines that name it.

    Its calls are the rows that carry its id, the rows without a unit whose session it is, and what other sources have
    logged of the same calls. Later loads ignore it: its id, and the ids of its calls, are remembered as salted hashes.

    Args:
        con: A read-write connection outside any transaction.
        unit_id: The id as the logs write it.
        stored: The id as the store holds it, where unit ids are hashed.
        dry_run: Only count.

    Raises:
        UsageError: An empty id.
    """
    if not unit_id:
        raise UsageError("an empty id is no unit", key="--unit")
    inside = stored or unit_id
    con.begin()
    try:
        _clear(con)
        con.execute(load_sql("load/gone_unit_call"), {"unit": inside, "plain": unit_id})
        con.execute(load_sql("load/gone_unit_score"))
        _find_rejected(con, {unit_id, inside})
        near = _ids(con, load_sql("load/gone_near_key"), {"window": twins.WINDOW_US})
        removed = Removed(_count(con, "unit_id = $value", inside))
        if not dry_run:
            salted = salt(con, make=True)
            assert salted is not None
            now = time.time_ns() // 1000
            con.execute(load_sql("load/gone_remember"), {"salt": salted, "at_us": now})
            hashed = forgotten_hash(salted, "unit", inside)
            for name in {inside, unit_id}:
                known = forgotten_hash(salted, "unit", name)
                con.execute("INSERT INTO forgotten SELECT 'unit', $hash, $now", {"hash": known, "now": now})
            con.execute(load_sql("load/gone_distinct"))
            _remove(con, "unit_id = $value", inside, near)
            ledger.append(con, "forget", "", 0, {"unit_hash": hashed, "rows": removed.rows})
        _clear(con)
    except BaseException:
        con.rollback()
        raise
    con.commit()
    return removed


def _count(con: duckdb.DuckDBPyConnection, assignments: str, value: str | int) -> dict[str, int]:
    """Count what is going to be removed, by table."""
    queries = {
        "interaction": "SELECT COUNT(*) FROM gone_call",
        "interaction_text": "SELECT COUNT(*) FROM interaction_text WHERE interaction_id IN (SELECT interaction_id FROM gone_call)",
        "score": "SELECT COUNT(*) FROM gone_score",
        "quarantine": "SELECT COUNT(*) FROM gone_quarantine",
        "merged_interaction": "SELECT COUNT(DISTINCT merged_id) FROM twin WHERE interaction_id IN (SELECT interaction_id FROM gone_call)",
    }
    rows = {name: _one(con, query) for name, query in queries.items()}
    rows["assignment"] = _one(con, f"SELECT COUNT(*) FROM assignment WHERE {assignments}", {"value": value})  # noqa: S608 - a constant
    return {name: rows[name] for name in COUNTED}


def _remove(con: duckdb.DuckDBPyConnection, assignments: str, value: str | int, near: Sequence[str]) -> None:
    """Remove what the tables gone_* list, and everything that was derived from it."""
    con.execute(f"DELETE FROM assignment WHERE {assignments}", {"value": value})  # noqa: S608 - a constant
    con.execute("DELETE FROM quarantine WHERE quarantine_id IN (SELECT quarantine_id FROM gone_quarantine)")
    for statement in load_sql("load/gone_delete").split(";"):
        con.execute(statement)
    kept = "SELECT table_name FROM duckdb_tables() WHERE NOT temporary AND starts_with(table_name, $prefix)"
    for (table,) in con.execute(kept, {"prefix": _KEPT_TOTALS}).fetchall():  # totals of units, made anew when needed
        con.execute(f'DROP TABLE "{table}"')
    row = con.execute("SELECT COALESCE(MAX(file_id), 0) FROM file_ledger").fetchone()
    twins.refresh(con, near, file_id=int(row[0]) if row else 0)


def _find_rejected(con: duckdb.DuckDBPyConnection, names: set[str]) -> None:
    """List the rejected lines that name the unit, or one of its calls as a JSON text."""
    calls = {str(row[0]) for row in con.execute("SELECT interaction_id FROM gone_call").fetchall()}
    wanted = [re.compile(rf"(?<![\w-]){re.escape(form)}(?![\w-])") for name in names for form in _forms(name)]
    found: list[int] = []
    cursor = con.cursor()
    try:
        cursor.execute("SELECT quarantine_id, raw, detail FROM quarantine WHERE raw IS NOT NULL")
        while rows := cursor.fetchmany(500):
            for number, raw, detail in rows:
                text = bytes(raw).decode("utf-8", "replace") + "\n" + (detail or "")
                if any(each.search(text) for each in wanted) or not calls.isdisjoint(_QUOTED.findall(text)):
                    found.append(int(number))
    finally:
        cursor.close()
    con.execute("CREATE OR REPLACE TEMP TABLE gone_quarantine (quarantine_id BIGINT)")
    con.execute("INSERT INTO gone_quarantine SELECT UNNEST($ids)", {"ids": found})


def _forms(name: str) -> set[str]:
    """Return how an id may be written in JSON."""
    escaped = name.encode("ascii", "backslashreplace").decode("ascii")
    return {name, escaped, name.replace("\\", "\\\\").replace('"', '\\"').replace("/", "\\/")}


def _clear(con: duckdb.DuckDBPyConnection) -> None:
    for name in _TEMPORARY:
        con.execute(f"DROP TABLE IF EXISTS temp.{name}")


def _ids(con: duckdb.DuckDBPyConnection, query: str, params: dict[str, int]) -> list[str]:
    return [str(row[0]) for row in con.execute(query, params).fetchall()]


def _one(
    con: duckdb.DuckDBPyConnection, query: str, params: dict[str, int] | dict[str, str | int] | None = None
) -> int:
    row = con.execute(query, params or {}).fetchone()
    return int(row[0]) if row and row[0] is not None else 0
