"""Scores find their calls: by the surest key that means exactly one, as long as it does.

Which call a score means is a function of the rows in the store, not of the order in which they came: a later interaction
may be a surer target, or make the choice ambiguous, and then the target changes; `score_target` keeps since when and until
when it held, for the replay of decisions. Scores that fit several calls wait in `ambiguous_score`, those that fit none
just wait; both are looked at again whenever an interaction with one of their keys arrives.
"""

from __future__ import annotations

import duckdb

from abtest.store.files import load_sql
from abtest.store.twins import OPEN

TEMPORARY = ("load_touched", "load_open", "load_near", "load_candidate", "load_found")


def resolve(con: duckdb.DuckDBPyConnection, *, first: int, last: int) -> dict[str, int]:
    """Join scores to their calls; inside the load's transaction, after the search for twins.

    Args:
        con: A read-write connection inside a transaction.
        first: The first file of the load.
        last: Its last one: a target is known since then.

    Returns:
        resolved: how many scores have a call that had none before; ambiguous: how many of those looked at have several.
    """
    if not _count(con, "SELECT COUNT(*) FROM (SELECT 1 FROM score LIMIT 1)"):
        return {}
    con.execute(load_sql("load/touched_call"), {"first": first})
    if _count(con, "SELECT COUNT(*) FROM duckdb_tables() WHERE temporary AND table_name = 'twin_touched'"):
        con.execute(load_sql("load/touched_twin"))
    con.execute(load_sql("load/open_score"), {"first": first})
    if not _count(con, "SELECT COUNT(*) FROM load_open"):
        return {}
    con.execute(load_sql("load/near_call"), {"open": OPEN})
    con.execute(load_sql("load/match_target"))
    con.execute(load_sql("load/found_target"))
    before = _count(con, load_sql("load/count_settled"), {"open": OPEN})
    con.execute(load_sql("load/close_target"), {"file_id": last, "open": OPEN})
    con.execute(load_sql("load/insert_target"), {"file_id": last, "open": OPEN})
    con.execute("DELETE FROM ambiguous_score WHERE score_id IN (SELECT score_id FROM load_open)")
    con.execute(load_sql("load/insert_ambiguous"))
    found = _count(con, "SELECT COUNT(*) FROM load_found")
    ambiguous = _count(con, "SELECT COUNT(DISTINCT score_id) FROM load_candidate") - found
    return {"resolved": found - before, "ambiguous": ambiguous}


def waiting(con: duckdb.DuckDBPyConnection) -> int:
    """Return how many scores of the store have no call yet."""
    return _count(con, load_sql("load/count_waiting"), {"open": OPEN})


def _count(con: duckdb.DuckDBPyConnection, query: str, params: dict[str, int] | None = None) -> int:
    row = con.execute(query, params or {}).fetchone()
    return int(row[0]) if row else 0
