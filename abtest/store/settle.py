"""What a load does after its rows are in and before they are committed: keep out, find twins, find the targets of scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import duckdb

from abtest.store import keepout, targets, twins
from abtest.store.files import load_sql
from abtest.store.load_report import FileCount


def settle(con: duckdb.DuckDBPyConnection, files: Sequence[FileCount], by_table: Counter[str]) -> Counter[str]:
    """Complete a load inside its transaction, after its rows were inserted and before its files are in the ledger.

    Args:
        con: A read-write connection inside the load's transaction.
        files: The files of the load, in order; what is kept out moves from `inserted` to `ignored`.
        by_table: The rows inserted, by table; what is kept out is taken off.

    Returns:
        The counts of the load: pruned, forgotten (kept out), twins, twin_conflicts, shadow_legs, resolved, ambiguous (scores).
    """
    first, last = files[0].file_id, files[-1].file_id
    counts = keepout.apply(con, files, by_table)
    if by_table["interaction"]:
        con.execute(load_sql("load/new_request"), {"first": first})
        con.execute(load_sql("load/note_repeated"))
        con.execute("DROP TABLE temp.load_request")
    found = twins.find(con, first=first, last=last)
    counts["twins"] = max(0, found.twins)
    counts["twin_conflicts"] = found.conflicts
    counts["shadow_legs"] = max(0, found.legs)
    counts.update(targets.resolve(con, first=first, last=last))
    _clear(con)
    return counts


def rebuild(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Find all twins, silent legs and targets of scores anew, for a store whose derived tables are old or were emptied.

    Changes nothing where everything is as it should be. What changes is known since the newest load.

    Args:
        con: A read-write connection outside any transaction.

    Returns:
        twins, shadow_legs: by how many calls fewer, and legs more, there are now; twin_conflicts, resolved, ambiguous as
        in a load.
    """
    con.begin()
    try:
        counts = find_again(con)
    except BaseException:
        con.rollback()
        raise
    con.commit()
    return counts


def find_again(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Do what `rebuild` does, inside the caller's transaction."""
    last = int(con.execute("SELECT COALESCE(MAX(file_id), 0) FROM file_ledger").fetchall()[0][0])
    found = twins.find(con, first=0, last=last)
    counts = {
        "twins": found.twins,
        "twin_conflicts": found.conflicts,
        "shadow_legs": found.legs,
        "resolved": 0,
        "ambiguous": 0,
    }
    counts |= targets.resolve(con, first=0, last=last)
    _clear(con)
    return counts


def _clear(con: duckdb.DuckDBPyConnection) -> None:
    for name in targets.TEMPORARY:
        con.execute(f"DROP TABLE IF EXISTS temp.{name}")
    twins.forget_search(con)
