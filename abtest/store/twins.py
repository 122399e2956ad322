"""One call that was logged several times is found and counted once; a silent leg without a mark is counted as unseen.

A gateway and the SDK behind it, or two instrumentations of one application, write a row each for the same call. Two rows
of different sources are the same call when they share the provider's response id, or trace and span id, at most
`WINDOW_US` apart; of several that fit, the nearest one, and only when the choice is mutual. Two rows of one source are the
same call when they share the provider's response id and were under way at the same time, in one trace, or (OpenInference,
where each instrumentation may begin a trace) one within the other. Left apart, and listed in `twin_conflict`: rows that
name different variants (two legs of a shadow pair), and rows that would join two calls of one source. A cached answer
repeats the provider's id of the call that made it, so that id does not count there; an id that more than `CROWD` rows of
one source carry within the window is no id of a call.

What is the silent leg of a mirrored request is said by `legs`; it becomes a call of one row that says so.

The raw rows stay as they are. What is found is a function of the rows in the store, not of the order in which they came;
`twin` and `merged_interaction` keep since when and until when it was so, for the replay of decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from abtest.store import legs
from abtest.store.files import load_sql

WINDOW_US = 600_000_000
"""The same call logged twice carries times at most this far apart (10 minutes: clocks, queues, the longest answers)."""

CROWD = 8
"""More rows of one source with one id within the window, and the id is none."""

SLACK_US = 1_000
"""By so much may a span stick out of the one around it: times are rounded."""

OPEN = 2**62
"""`until_file` of what holds now."""

PART_ROWS = 200_000
"""A load is searched in parts of so many rows."""

_TEMPORARY = (
    "area",
    "asked",
    "near",
    "key",
    "pair",
    "edge",
    "component",
    "group",
    "changed",
    "member",
    "repeated",
    "seed",
    "touched",
)


@dataclass(frozen=True)
class Twins:
    """What a search found.

    Attributes:
        twins: By how many the calls are fewer than their rows, compared with before; negative when a call fell apart.
        conflicts: Pairs around the new rows that share an id and are left apart.
        legs: How many more rows are known to be silent legs; negative when some ceased to be.
    """

    twins: int = 0
    conflicts: int = 0
    legs: int = 0


def find(con: duckdb.DuckDBPyConnection, *, first: int, last: int) -> Twins:
    """Find the calls of the loads `first` to `last` that were logged twice; inside the load's transaction.

    Looks only at the narrow columns, only at the ids of the new rows, and only around their times; a large load in parts.
    Leaves the temporary table `twin_touched` (interaction_id), when some rows are another call than they were.

    Args:
        con: A read-write connection inside a transaction.
        first: The first file of the load.
        last: Its last one: what is found is known since then.
    """
    forget_search(con)
    mirrored = legs.look(con, first=first, window_us=WINDOW_US)
    more_legs = _one(con, load_sql("load/leg_count"), {"open": OPEN}) if mirrored else 0
    alone = _one(con, load_sql("load/twin_sources"), {"first": first}) < 2
    saved, searches = 0, 0
    if not alone or _repeated(con, first):
        for low, high in con.execute(load_sql("load/twin_slices"), {"first": first, "size": PART_ROWS}).fetchall():
            con.execute(load_sql("load/twin_seed"), {"first": first, "low": low, "high": high})
            if alone:
                con.execute(load_sql("load/twin_narrow"))
            saved += _search(con, first=first, file_id=last)
            searches += 1
    if mirrored:
        saved += _settle_legs(con, last)
        searches += 1
    if searches > 1:
        _drop_unseen(con)
    if not searches or not _one(con, "SELECT COUNT(*) FROM (SELECT 1 FROM twin_conflict LIMIT 1)"):
        return Twins(saved, legs=more_legs)
    return Twins(saved, _one(con, load_sql("load/twin_apart"), {"first": first}), more_legs)


def _repeated(con: duckdb.DuckDBPyConnection, first: int) -> int:
    """List the provider's ids of this load that several rows carry; returns how many there are."""
    low, high = con.execute(load_sql("load/twin_new"), {"first": first}).fetchall()[0]
    if low is None:
        return 0
    con.execute(load_sql("load/twin_repeated"), {"first": first, "low": low - WINDOW_US, "high": high + WINDOW_US})
    return _one(con, "SELECT COUNT(*) FROM twin_repeated")


def _settle_legs(con: duckdb.DuckDBPyConnection, file_id: int) -> int:
    """Settle the silent legs that no search for the ids of this load has met: without an id, or logged before."""
    con.execute(load_sql("load/leg_changed"), {"open": OPEN})
    con.execute(load_sql("load/twin_seed_ids"))
    return _search(con, first=OPEN, file_id=file_id)


def refresh(con: duckdb.DuckDBPyConnection, ids: Sequence[str], *, file_id: int) -> None:
    """Find again what holds for these interactions and what is tied to them, after rows around them were removed."""
    forget_search(con)
    legs.nothing(con)
    con.execute("CREATE OR REPLACE TEMP TABLE twin_seed (interaction_id VARCHAR)")
    con.execute("INSERT INTO twin_seed SELECT UNNEST($ids)", {"ids": list(ids)})
    con.execute(load_sql("load/twin_seed_ids"))
    _search(con, first=OPEN, file_id=file_id)
    _drop_unseen(con)
    forget_search(con)


def _drop_unseen(con: duckdb.DuckDBPyConnection) -> None:
    """Drop what was found and lost within one load: nobody has ever seen it."""
    con.execute("DELETE FROM twin WHERE until_file <= file_id")
    con.execute("DELETE FROM merged_interaction WHERE until_file <= file_id")


def forget_search(con: duckdb.DuckDBPyConnection) -> None:
    """Drop the temporary tables of a search."""
    con.execute("; ".join(f"DROP TABLE IF EXISTS temp.twin_{name}" for name in _TEMPORARY))
    legs.forget(con)


def _search(con: duckdb.DuckDBPyConnection, *, first: int, file_id: int) -> int:
    """Settle the area and what is tied to it; returns by how many the calls are fewer than before."""
    span = _grow(con, first)
    if span is None:
        return 0
    con.execute(load_sql("load/twin_pair"), {"window": WINDOW_US, "crowd": CROWD, "slack": SLACK_US})
    if not _one(con, "SELECT COUNT(*) FROM twin_pair") and not _one(con, load_sql("load/twin_known"), {"open": OPEN}):
        return 0  # nobody has logged these calls twice: the usual end
    con.execute(load_sql("load/twin_edge"))
    con.execute(load_sql("load/twin_component"))
    con.execute(load_sql("load/twin_group"), {"open": OPEN})
    con.execute(load_sql("load/twin_changed"), {"open": OPEN})
    saved = _one(con, load_sql("load/twin_saved"), {"open": OPEN})
    if _one(con, "SELECT COUNT(*) FROM twin_changed"):
        _replace(con, span, file_id)
    con.execute(
        "DELETE FROM twin_conflict WHERE id_a IN (SELECT interaction_id FROM twin_area)"
        " OR id_b IN (SELECT interaction_id FROM twin_area)"
    )
    con.execute(load_sql("load/twin_conflict"))
    return saved


def _replace(con: duckdb.DuckDBPyConnection, span: tuple[int, int], file_id: int) -> None:
    """Put the new form of the calls that changed in the place of the old one."""
    now = {"file_id": file_id, "open": OPEN}
    con.execute(load_sql("load/twin_close"), now)
    con.execute(load_sql("load/twin_close_merged"), now)
    con.execute(load_sql("load/twin_insert"), now)
    con.execute(load_sql("load/twin_member"), {"low": span[0], "high": span[1]})
    con.execute(load_sql("load/twin_merge"), now)
    con.execute("CREATE TEMP TABLE IF NOT EXISTS twin_touched (interaction_id VARCHAR)")
    # All members: what the call says may have changed for each of them.
    con.execute(
        "INSERT INTO twin_touched SELECT interaction_id FROM twin_changed UNION SELECT interaction_id FROM twin_member"
    )


def _grow(con: duckdb.DuckDBPyConnection, first: int) -> tuple[int, int] | None:
    """Widen the area until nothing more is tied to it; returns its time span, None for an empty one."""
    rows = _one(con, "SELECT COUNT(*) FROM twin_area")
    if not rows:
        return None
    while True:
        con.execute(load_sql("load/twin_asked"))
        response, by_span, member, low, high = con.execute(load_sql("load/twin_kinds")).fetchall()[0]
        params = {"low": low - WINDOW_US, "high": high + WINDOW_US, "first": first}
        con.execute("CREATE OR REPLACE TEMP TABLE twin_near AS SELECT * FROM twin_area")
        if response:
            con.execute(load_sql("load/twin_near_response"), params)
        if by_span:
            con.execute(load_sql("load/twin_near_span"), params)
        if member:
            con.execute(load_sql("load/twin_near_member"), {**params, "open": OPEN})
        if _one(con, "SELECT COUNT(*) FROM twin_near") == rows:  # nothing around but the area itself
            con.execute(load_sql("load/twin_key"), {"window": WINDOW_US})
            return int(low), int(high)
        con.execute(load_sql("load/twin_key"), {"window": WINDOW_US})
        con.execute(load_sql("load/twin_grow"), {"window": WINDOW_US, "crowd": CROWD, "open": OPEN})
        grown = _one(con, "SELECT COUNT(*) FROM twin_area")
        if grown == rows:
            return int(low), int(high)
        rows = grown


def _one(con: duckdb.DuckDBPyConnection, query: str, params: dict[str, Any] | None = None) -> int:
    row = con.execute(query, params or {}).fetchone()
    return int(row[0]) if row and row[0] is not None else 0
