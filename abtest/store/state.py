"""Aggregates that stay from one analysis to the next, so that the cost of tonight's report is tonight's data.

What is kept of an experiment: its unit totals (a table of its own) and the evidence that follows from them (one row of
`scan_state`). All of it is derived: it can be dropped at any time, and is, when what it means (its shape) or what it was
read from (retention, a forgotten unit) has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from duckdb import DuckDBPyConnection

from abtest.metrics.expressions import Expression
from abtest.store import settle
from abtest.store.files import load_sql
from abtest.store.moments import Layout, more
from abtest.store.query import HOUR_US, Facts, Params, Query, Scan, fill, query
from abtest.store.store import Store

WORTH_IT = 20_000
"""Calls from which on keeping a state pays: below, reading everything takes some hundredths of a second."""
POINTS = 144
"""Earlier watermarks whose sums are kept."""


@dataclass(frozen=True)
class State:
    """What was kept: as of which event time and load, in which table, and the evidence as JSON objects."""

    table: str
    as_of_us: int
    file_id: int
    body: Mapping[str, Any]


def shape_of(layout: Layout, as_of_us: int) -> str:
    """Return the hash of everything that decides what the kept numbers mean up to a moment.

    The text of the query says who is in it and what is read off a row; the measures and events say what becomes of that (a
    unit may count once, metrics have numbers, first events are wanted). Stages that begin later change nothing about what was
    read; nor does what the store happens to hold.
    """
    scan = layout.scan.at(
        stage_starts_us=tuple(at for at in layout.scan.stage_starts_us if at <= as_of_us),
        as_of_us=0, max_file=0, facts=Facts(), units=None, without=None, nameless=False, since=None, wide=False, source=None,
    )  # fmt: skip
    plain = layout.sharing(scan, None)
    sql, params = plain.unit_total()
    past = plain.history()[0] if scan.has_covariates else ""
    measures = [
        {f.name: v.text if isinstance(v := getattr(m, f.name), Expression) else v for f in fields(m)}
        for m in scan.measures
    ]
    parts = [sql, past, params, scan.unit, measures, layout.metrics, layout.events, sorted(layout.absence)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def known_until(store: Store, experiment: str, revision: int) -> tuple[int, int] | None:
    """Return (file, as_of) of the kept state of an experiment, whatever it was kept for; None when there is none."""
    row = store.connection.execute(
        "select file_id, as_of_us from scan_state where experiment = $e and revision = $r",
        {"e": experiment, "r": revision},
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else None


def load(store: Store, experiment: str, revision: int, layout: Layout) -> State | None:
    """Return the kept state when it is one of an earlier moment of this very layout; None when there is none to build on."""
    row = store.connection.execute(
        "select shape, tables, as_of_us, file_id, ledger_seq, body from scan_state where experiment = $e and revision = $r",
        {"e": experiment, "r": revision},
    ).fetchone()
    if row is None:
        return None
    shape, table, as_of_us, file_id, seq, body = row
    if (
        as_of_us > layout.scan.as_of_us
        or file_id > layout.scan.max_file
        or seq != _erased(store)
        or shape != shape_of(layout, as_of_us)
    ):
        return None
    return State(str(table), int(as_of_us), int(file_id), json.loads(body))


def save(
    store: Store,
    experiment: str,
    revision: int,
    layout: Layout,
    body: Mapping[str, Any],
    *,
    old: State | None,
) -> None:
    """Keep the state of a scan, in one transaction; the kept tables `unit_total` (and `touched`) hold what is new.

    Args:
        store: A store that is open for writing.
        experiment: Whose state.
        revision: Its revision.
        layout: What was read, and the columns of `unit_total`.
        body: The evidence, as JSON objects.
        old: The state that was built on; None when everything was read.
    """
    con, scan = store.connection, layout.scan
    table = old.table if old else f"scan_units_{hashlib.sha256(f'{experiment}/{revision}'.encode()).hexdigest()[:16]}"
    columns = ", ".join(unit_columns(layout))
    con.execute("begin")
    try:
        if old is None:
            con.execute(f'create or replace table "{table}" as select {columns} from unit_total')
        elif set(old.body["columns"]) == set(unit_columns(layout)):
            con.execute(f'delete from "{table}" where unit_id in (select unit_id from touched)')
            con.execute(f'insert into "{table}" ({columns}) select {columns} from unit_total')
        else:
            kept = ", ".join(f"{text} as {name}" for name, text in before(layout, old).items())
            con.execute(
                f'create or replace table "{table}" as select {kept} from "{table}"'
                f" where unit_id not in (select unit_id from touched) union all select {columns} from unit_total"
            )
        con.execute("delete from scan_state where experiment = $e and revision = $r", {"e": experiment, "r": revision})
        text = json.dumps({**body, "columns": unit_columns(layout)}, separators=(",", ":"))
        shape = shape_of(layout, scan.as_of_us)
        con.execute(
            "insert into scan_state values (?, ?, ?, ?, ?, ?, ?, ?)",
            [experiment, revision, shape, table, scan.as_of_us, scan.max_file, _erased(store), text],
        )
        _add_point(con, experiment, revision, layout, body)
        con.execute("commit")
    except BaseException:
        con.execute("rollback")
        raise


def points(store: Store, experiment: str, revision: int, layout: Layout) -> list[tuple[int, dict[str, Any]]]:
    """Return the sums at earlier watermarks of this layout, in the order of time: (epoch microseconds, tables)."""
    rows = store.connection.execute(
        "select as_of_us, body from scan_point where experiment = $e and revision = $r and shape = $s and as_of_us <= $t order by as_of_us",
        {"e": experiment, "r": revision, "s": shape_of(layout, 0), "t": layout.scan.as_of_us},
    ).fetchall()
    return [(int(as_of_us), json.loads(body)) for as_of_us, body in rows]


def _add_point(
    con: DuckDBPyConnection, experiment: str, revision: int, layout: Layout, body: Mapping[str, Any]
) -> None:
    """Keep the sums of this watermark in place of those of the same hour; of many points every second is dropped."""
    who, as_of_us = {"e": experiment, "r": revision}, layout.scan.as_of_us
    hour = as_of_us // HOUR_US * HOUR_US
    con.execute(
        "delete from scan_point where experiment = $e and revision = $r and as_of_us >= $a and as_of_us < $b",
        {**who, "a": hour, "b": hour + HOUR_US},
    )
    tables = {name: body["tables"][name] for name in ("cells", "pairs", "arm_units")}
    text = json.dumps(tables, separators=(",", ":"))
    con.execute(
        "insert into scan_point values (?, ?, ?, ?, ?)", [experiment, revision, shape_of(layout, 0), as_of_us, text]
    )
    kept = [
        t
        for (t,) in con.execute(
            "select as_of_us from scan_point where experiment = $e and revision = $r order by 1", who
        ).fetchall()
    ]
    if len(kept) > POINTS:
        con.execute(
            "delete from scan_point where experiment = $e and revision = $r and as_of_us in (select unnest($t))",
            {**who, "t": kept[:-1:2]},
        )


def drop(store: Store, experiments: Iterable[str] | None = None) -> int:
    """Throw kept states away (all of them, or of some experiments); returns how many there were."""
    con = store.connection
    wanted = None if experiments is None else set(experiments)
    rows = [
        (e, t)
        for e, t in con.execute("select experiment, tables from scan_state").fetchall()
        if wanted is None or e in wanted
    ]
    con.execute("begin")
    try:
        for experiment, table in rows:
            con.execute(f'drop table if exists "{table}"')
            con.execute("delete from scan_state where experiment = $e and tables = $t", {"e": experiment, "t": table})
        con.execute("commit")
    except BaseException:
        con.execute("rollback")
        raise
    return len(rows)


def rebuild(store: Store) -> dict[str, int]:
    """Drop all states and points, and find the requests of several calls, twins and targets of scores anew.

    Returns:
        states: how many states there were; repeated_requests: how many such requests there are; and what of twins, silent
        legs and scores is different now (`settle.rebuild`).
    """
    states = drop(store)
    con = store.connection
    con.execute("begin")
    try:
        con.execute("delete from scan_point")
        con.execute("delete from version_hour")
        con.execute("delete from version_state")
        con.execute("delete from repeated_request")
        con.execute(load_sql("load/rebuild_repeated"))
        row = con.execute("select count(*) from repeated_request").fetchone()
        found = settle.find_again(con)
        con.execute("commit")
    except BaseException:
        con.execute("rollback")
        raise
    return {"states": states, "repeated_requests": int(row[0]) if row else 0, **found}


def _erased(store: Store) -> int:
    """Return the newest ledger entry after which raw rows were gone; 0 when there is none."""
    row = store.connection.execute(
        "select coalesce(max(seq), 0) from ledger where kind in ('prune', 'forget')"
    ).fetchone()
    return int(row[0]) if row else 0


# -- queries ---------------------------------------------------------------------------------------------------------

_KEYS = ("unit_id", "arm", "stage", "not_randomised")
_SUMS = ("calls", "requests")
_ENDS = ("first_us", "last_us", "arrived_us", "last_head_us")


def unit_columns(layout: Layout) -> list[str]:
    """Return the columns of unit totals."""
    return [*_KEYS, *_SUMS, *_ENDS, *layout.tallies, *(f"f{j}" for j in layout.events)]


def before(layout: Layout, old: State) -> dict[str, str]:
    """Return the columns of the new layout as expressions over the old table: a column may have stood for another."""
    had = set(old.body["columns"])
    return {name: name if name in had else str(old.body["same"][name]) for name in unit_columns(layout)}


def touched(scan: Scan, old: State) -> Query:
    """Return the query of units with news; kept as `touched`."""
    params = Params(
        experiment=scan.experiment,
        max_file=scan.max_file,
        as_of=scan.as_of_us,
        since_file=old.file_id,
        since_us=old.as_of_us,
    )
    return query(fill("touched", unit=scan.unit_key), params)


def merged(layout: Layout, old: State) -> str:
    """Return the query of the totals of touched units, the old ones and `unit_delta` added up; kept as `unit_merged`."""
    texts = before(layout, old)
    totals = [f"cast(sum({name}) as bigint) as {name}" for name in layout.tallies]
    totals += [f"min(f{j}) as f{j}" for j in layout.events]
    names = [*layout.tallies, *(f"f{j}" for j in layout.events)]
    return fill(
        "unit_merge", totals=more(totals), before=more(f"{texts[n]} as {n}" for n in names), since=more(names), state=f'"{old.table}"'
    )  # fmt: skip


def recount(layout: Layout, old: State) -> Query:
    """Return the query of units whose old rows must be read again; kept as `recounted`.

    Where first events are counted, a row that comes late may change who was still at risk when.
    """
    params = Params()
    late = "min(d.arrived_us) <= max(s.last_head_us)" if layout.events else "1 = 0"
    text = fill("unit_recount", state=f'"{old.table}"', late=late, arms=params.bind_all("arm", layout.scan.arms))
    return query(text, params)
