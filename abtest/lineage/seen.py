"""What ran when: exact counts of calls by manifest, at any past moment and any earlier load.

The newest hour is read from the calls themselves (they lie in the order of time, so DuckDB skips all the others); whole hours
come from `version_hour`, a small table that is brought up to date with what was loaded since. It is derived: it is made anew
after a prune or a forget (their ledger entry tells), and a crash in the middle leaves the old one. A replay up to an earlier
load, and a store that is open for reading with an old table, count the calls themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from abtest.errors import TooManyVersionsError
from abtest.lineage.manifest import FIELDS, Manifest
from abtest.metrics.expressions import Expression
from abtest.store.query import HOUR_US, Query, fill, query
from abtest.store.store import Store

WORTH_IT = 20_000
"""Calls from which on keeping counts pays; below, counting takes some milliseconds."""
PLACES = ("surface", "experiment_id", "variant")
MOST = 100_000
"""Rows that are told apart; with more, some field changes from call to call and is no version of anything."""
_KEYS = (*PLACES, *FIELDS, "exposed")
COLUMNS = frozenset(_KEYS)
"""What can be asked of the kept counts."""
_SLACK = 10_000
_STRETCHES = 20
"""How many times more rows may be told apart by time, too."""
_FOREVER = 2**62
_HOUR = "cast(floor((i.ts_us - $origin) / $grid) as bigint)"


@dataclass(frozen=True)
class Seen:
    """Calls of one manifest in one place.

    Attributes:
        surface: Feature or route; None where the log has none.
        experiment, variant: As logged; None where not asked for, too.
        manifest: What they ran.
        exposed: Whether users saw the answers (False: shadow traffic).
        calls: How many.
        first_us, last_us: Times of the first and the last, microseconds since 1970.
        hour: Hours since 1970 of all of them; None when hours are added up.
    """

    surface: str | None
    experiment: str | None
    variant: str | None
    manifest: Manifest
    exposed: bool
    calls: int
    first_us: int
    last_us: int
    hour: int | None = None


@dataclass(frozen=True)
class Asked:
    """What to count.

    Attributes:
        as_of_us: Calls up to this moment.
        max_file: Rows up to this load.
        start_us: Calls from this moment on.
        by: Which of `PLACES` to tell apart.
        hours: Tell hours apart, too (or other stretches of time: `grid_us`).
        surface: Only this surface.
        experiment: Only calls that name this experiment.
        where: Only calls for which this holds; it may use the columns that are told apart (`COLUMNS`).
        grid_us, origin_us: Length of the stretches, and where one begins; `history` knows whole hours only.
    """

    as_of_us: int
    max_file: int
    start_us: int = 0
    by: tuple[str, ...] = ("surface",)
    hours: bool = False
    surface: str | None = None
    experiment: str | None = None
    where: Expression | None = None
    grid_us: int = HOUR_US
    origin_us: int = 0

    @property
    def keys(self) -> list[str]:
        """Return the columns to group by."""
        return [*self.by, *FIELDS, "exposed"]

    def more(self, alias: str) -> tuple[str, dict[str, Any]]:
        """Return the conditions on places, and their values."""
        wanted = {"surface": self.surface, "experiment_id": self.experiment}
        given = {name: value for name, value in wanted.items() if value is not None}
        conditions = [f"{alias}.{name} = ${name}" for name in given]
        if self.where is not None:
            conditions.append(f"({self.where.sql(alias)})")
        return "".join(f"\n  and {condition}" for condition in conditions), given


def newest_call(store: Store) -> int | None:
    """Return the time of the newest call; None when there is none."""
    row = store.connection.execute("select max(ts_us) from interaction").fetchone()
    return None if row is None or row[0] is None else int(row[0])


def window(store: Store, asked: Asked) -> list[Seen]:
    """Count the calls themselves: exact to the microsecond, and fast for a short time."""
    return _rows(asked, *_execute(store.connection, *count_query(asked, calls_of(store)), hours=asked.hours))


def history(store: Store, asked: Asked) -> list[Seen]:
    """Count everything up to a moment: whole hours from the kept table where it can tell, the rest from the calls.

    `start_us` is taken down to the beginning of its hour.
    """
    refresh(store)
    kept = _state(store.connection)
    last = _last_file(store)
    start = asked.start_us // HOUR_US * HOUR_US
    if kept is None or kept[0] != last or asked.max_file < last or kept[1] != _erased(store.connection):
        return window(store, replace(asked, start_us=start))
    hour = asked.as_of_us // HOUR_US
    rest = replace(asked, start_us=max(start, hour * HOUR_US))
    past = _execute(store.connection, *past_query(asked, start // HOUR_US, hour), hours=asked.hours)
    return _added([*_rows(asked, *past), *window(store, rest)])


def refresh(store: Store) -> None:
    """Bring the kept counts up to date with the newest load, in one transaction; small and read-only stores keep none."""
    con = store.connection
    last, erased = _last_file(store), _erased(con)
    kept = _state(con)
    if store.read_only or kept == (last, erased) or _calls(con) < WORTH_IT:
        return
    con.begin()
    try:
        if kept is None or kept[1] != erased or kept[0] > last:
            forget(con)
            kept = None
        _take(store, -1 if kept is None else kept[0], last)
        total, together = _one(con, "select count(*) from version_hour"), _kept_rows(con)
        if kept is None or total > 2 * together + _SLACK:
            total = together = _put_together(con)
        con.execute("delete from version_state")
        con.execute("insert into version_state values (?, ?, ?)", [last, erased, together])
        con.commit()
    except BaseException:
        con.rollback()
        raise


def forget(con: duckdb.DuckDBPyConnection) -> None:
    """Throw the kept counts away: the next look makes them anew. Inside the caller's transaction, if there is one."""
    con.execute(
        "delete from version_state"
    )  # first: rows without a state are not believed, a state without rows would be
    con.execute("delete from version_hour")


# -- the kept table ----------------------------------------------------------------------------------------------------


def _take(store: Store, since: int, last: int) -> None:
    """Add what was loaded since; hours in which calls turned out to be doubled are counted anew."""
    con = store.connection
    calls, asked = calls_of(store), Asked(_FOREVER, last, start_us=-_FOREVER, by=PLACES, hours=True)
    doubled = since >= 0 and calls != "interaction"
    if doubled:
        sql, values = doubled_query(since, last)
        con.execute(f"create or replace temp table version_doubled as {sql}", values)
        con.execute("delete from version_hour where hour in (select hour from version_doubled)")
        for (hour,) in con.execute("select hour from version_doubled order by hour").fetchall():
            again = replace(asked, start_us=hour * HOUR_US, as_of_us=(hour + 1) * HOUR_US - 1)
            _insert(con, *count_query(again, calls))
    _insert(con, *count_query(asked, calls, since=since, but_doubled=doubled))
    if doubled:
        con.execute("drop table temp.version_doubled")


def _insert(con: duckdb.DuckDBPyConnection, sql: str, values: dict[str, Any]) -> None:
    con.execute(
        f"insert into version_hour ({', '.join((*_KEYS, 'hour', 'calls', 'first_us', 'last_us'))}) {sql}", values
    )


def _put_together(con: duckdb.DuckDBPyConnection) -> int:
    """Add up the rows of one key, so that the table stays small however many loads there were; returns its rows."""
    keys = ", ".join((*_KEYS, "hour"))
    con.execute(
        f"create or replace temp table version_together as select {keys}, cast(sum(calls) as bigint) as calls,"  # noqa: S608 - names of ours
        f" min(first_us) as first_us, max(last_us) as last_us from version_hour group by {keys} order by hour"
    )
    con.execute("delete from version_hour")
    con.execute("insert into version_hour select * from version_together")
    con.execute("drop table temp.version_together")
    return _one(con, "select count(*) from version_hour")


def _state(con: duckdb.DuckDBPyConnection) -> tuple[int, int] | None:
    row = con.execute("select file_id, ledger_seq from version_state").fetchone()
    return (int(row[0]), int(row[1])) if row else None


def _kept_rows(con: duckdb.DuckDBPyConnection) -> int:
    return _one(con, "select coalesce(max(kept_rows), 0) from version_state")


def _erased(con: duckdb.DuckDBPyConnection) -> int:
    """Return the newest ledger entry after which raw rows were gone; 0 when there is none."""
    return _one(con, "select coalesce(max(seq), 0) from ledger where kind in ('prune', 'forget')")


# -- counting ----------------------------------------------------------------------------------------------------------


def count_query(asked: Asked, calls: str, *, since: int = -1, but_doubled: bool = False) -> Query:
    """Return the query that counts calls; `but_doubled`: leave the hours out that `version_doubled` lists."""
    more, values = asked.more("i")
    if but_doubled:
        more += f"\n  and {_HOUR} not in (select hour from version_doubled)"  # noqa: S608 - names of ours
    keys = [f"i.{name}" for name in asked.keys]
    shown = [*keys, *([f"{_HOUR} as hour"] if asked.hours else [])]
    grouped = [*keys, *([_HOUR] if asked.hours else [])]
    text = fill("versions_count", keys=", ".join(shown), keys_of=", ".join(grouped), interaction=calls, more=more)
    limits = {
        "since": since, "max_file": asked.max_file, "start": asked.start_us, "as_of": asked.as_of_us,
        "grid": asked.grid_us, "origin": asked.origin_us,
    }  # fmt: skip
    return query(text, {**limits, **values})


def past_query(asked: Asked, from_hour: int, hour: int) -> Query:
    """Return the query that adds up kept hours, from one up to another one, which is not among them."""
    more, values = asked.more("v")
    names = [*asked.keys, *(["hour"] if asked.hours else [])]
    keys = ", ".join(f"v.{name}" for name in names)
    text = fill("versions_past", keys=keys, keys_of=keys, more=more)
    return query(text, {**values, "hour": hour, "from_hour": from_hour})


def doubled_query(since: int, max_file: int) -> Query:
    """Return the query of hours whose counts are old, because calls in them were found to be doubled since a load."""
    return query(fill("versions_doubled"), {"since": since, "max_file": max_file})


def calls_of(store: Store, columns: Sequence[str] = _KEYS) -> str:
    """Return the relation of the calls, each once however many sources have logged it; it may name $max_file."""
    if not store.connection.execute("select exists (select 1 from twin)").fetchall()[0][0]:
        return "interaction"
    return merged_calls(columns)


def merged_calls(columns: Sequence[str] = _KEYS) -> str:
    """Return the relation of the calls of a store in which some are doubled."""
    return fill("versions_merged", columns=", ".join(dict.fromkeys((*columns, "ts_us", "interaction_id"))))


def _rows(asked: Asked, names: list[str], rows: list[tuple[Any, ...]]) -> list[Seen]:
    at = {name: k for k, name in enumerate(names)}
    where = [at.get(name) for name in PLACES]
    first = at[FIELDS[0]]
    known: dict[tuple[str | None, ...], Manifest] = {}  # the same few over and over: their ids are computed once
    found: list[Seen] = []
    for row in rows:
        values = tuple(row[first : first + len(FIELDS)])
        manifest = known.setdefault(values, Manifest(values))
        surface, experiment, variant = (None if k is None else row[k] for k in where)
        hour = int(row[at["hour"]]) if asked.hours else None
        calls, first_us, last_us = (int(row[at[name]]) for name in ("calls", "first_us", "last_us"))
        found.append(
            Seen(surface, experiment, variant, manifest, bool(row[at["exposed"]]), calls, first_us, last_us, hour)
        )
    return found


def _added(rows: list[Seen]) -> list[Seen]:
    """Add up rows of the same key: a manifest of whole hours and of the hour that runs."""
    sums: dict[tuple[Any, ...], Seen] = {}
    for r in rows:
        key = (r.surface, r.experiment, r.variant, r.manifest.values, r.exposed, r.hour)
        old = sums.get(key)
        sums[key] = (
            r
            if old is None
            else Seen(
                *key[:3],
                r.manifest,
                r.exposed,
                old.calls + r.calls,
                min(old.first_us, r.first_us),
                max(old.last_us, r.last_us),
                r.hour,
            )
        )
    return list(sums.values())


def _execute(
    con: duckdb.DuckDBPyConnection, sql: str, values: dict[str, Any], *, hours: bool
) -> tuple[list[str], list[tuple[Any, ...]]]:
    cursor = con.execute(sql, values)
    most = MOST * (_STRETCHES if hours else 1)
    rows = cursor.fetchmany(most + 1)
    if len(rows) > most:
        raise TooManyVersionsError(
            f"more than {MOST:,} versions: a field changes from call to call",
            hint="prompt_sha256 must be the hash of the template, not of the filled-in prompt; or take a shorter time",
        )
    return [str(c[0]) for c in cursor.description or ()], rows


def _last_file(store: Store) -> int:
    return store.last_file()


def _calls(con: duckdb.DuckDBPyConnection) -> int:
    return _one(con, "select count(*) from interaction")


def _one(con: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = con.execute(sql).fetchone()
    return int(row[0]) if row and row[0] is not None else 0
