"""Silent legs of a gateway's mirrored requests that carry no mark: nobody saw their answers, so they count nowhere.

LiteLLM's Router can send a copy of a request to another model group (`silent_model`). The copy is logged like a call of
the user: the same trace, messages, tags and user. Side by side with its primary it can be told: the same was asked of
another group while the primary was under way; a retry or a fallback begins after the failed attempt has ended.

What is a leg is a function of the rows in the store. The raw rows stay; `twins` writes what stands for a leg.
"""

from __future__ import annotations

import duckdb

from abtest.store.files import load_sql

CROWD = 64
"""More rows of one trace with the same messages within the window than attempts and mirrors of one request make."""

TEMPORARY = ("leg_trace", "leg_row", "leg_pair", "leg_decided", "twin_leg")

LEAD_US = 100_000
"""A leg begins at most so long before a synchronous primary: the two run in threads. Seen: 1 ms."""


def look(con: duckdb.DuckDBPyConnection, *, first: int, window_us: int) -> int:
    """Find the silent legs around the gateway's rows of a load; inside the load's transaction.

    Leaves the temporary tables `leg_row` (interaction_id: the rows that were looked at) and `twin_leg` (interaction_id,
    leg_request: the legs among them, and the request that each shares with its primary).

    Args:
        con: A read-write connection inside a transaction.
        first: The first file of the load.
        window_us: How far apart in time a leg and its primary may begin.

    Returns:
        How many rows there are to look at.
    """
    nothing(con)
    low, high = con.execute(load_sql("load/leg_new"), {"first": first}).fetchall()[0]
    if low is None:
        return 0
    span = {"low": low - window_us, "high": high + window_us}
    con.execute(load_sql("load/leg_trace"), {**span, "first": first})
    while True:  # what is in reach of what is in reach, and so on
        con.execute(load_sql("load/leg_row"), {**span, "window": window_us, "crowd": CROWD})
        rows, low, high = con.execute("SELECT COUNT(*), MIN(ts_us), MAX(ts_us) FROM leg_row").fetchall()[0]
        if not rows:
            return 0
        wider = {"low": min(span["low"], low - window_us), "high": max(span["high"], high + window_us)}
        if wider == span:
            break
        span = wider
    _decide(con, window_us)
    return int(rows)


def nothing(con: duckdb.DuckDBPyConnection) -> None:
    """Look at no row: what is known of legs so far stays."""
    forget(con)
    con.execute("CREATE TEMP TABLE leg_row (interaction_id VARCHAR)")
    con.execute("CREATE TEMP TABLE twin_leg (interaction_id VARCHAR, leg_request VARCHAR)")


def forget(con: duckdb.DuckDBPyConnection) -> None:
    """Drop the temporary tables of a search."""
    con.execute("; ".join(f"DROP TABLE IF EXISTS temp.{name}" for name in TEMPORARY))


def _decide(con: duckdb.DuckDBPyConnection, window_us: int) -> None:
    """Tell legs from primaries: what may be a leg of a leg only is user traffic again."""
    con.execute(load_sql("load/leg_pair"), {"window": window_us, "lead": LEAD_US})
    con.execute(
        "CREATE OR REPLACE TEMP TABLE leg_decided AS SELECT DISTINCT primary_id AS interaction_id, FALSE AS is_leg FROM leg_pair"
        " WHERE primary_id NOT IN (SELECT leg_id FROM leg_pair)"
    )
    # Each round decides at least the earliest call that is left: nothing is a leg of what begins after it, but for calls
    # of a synchronous Router, which are never legs.
    open_calls = "SELECT COUNT(*) FROM leg_pair WHERE leg_id NOT IN (SELECT interaction_id FROM leg_decided)"
    while con.execute(open_calls).fetchall()[0][0]:
        con.execute(load_sql("load/leg_decide"))
    con.execute(load_sql("load/leg_found"))
