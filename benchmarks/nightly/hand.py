"""The hand-written side: the bare scan of the 13 columns, and one SQL from the calls to moments by arm.

The SQL is what somebody who knows DuckDB would write: one row a user, then sums, squares and products, in floating point;
equal columns once. It checks nothing: no versions, no users in two arms, no history of looks, no exactness, no histogram,
and the thresholds of the quantiles are given.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import duckdb

from benchmarks.nightly.logs import BEGIN, DAY_US, PAST_DAYS, SCANNED, THRESHOLDS, metrics_of
from benchmarks.peers.workers.measure import peak_mb, timed

TEXTS = ("experiment_id", "unit_id", "variant", "surface")


@cache
def _open(path: str) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(path, read_only=True)


def scan(db: str) -> dict[str, Any]:
    """Time the bare scan of the 13 columns, warm."""
    con = _open(db)
    sql = f"select {', '.join(f'count({c})' if c in TEXTS else f'sum({c})' for c in SCANNED)} from interaction"
    con.execute(sql).fetchall()
    seconds, _ = timed(lambda: con.execute(sql).fetchall())
    return {"seconds": seconds, "peak": peak_mb()}


def hand(db: str, metrics: int = 12, experiments: int = 1) -> dict[str, Any]:
    """Time the hand-written SQL and return the differences of the arms."""
    con = _open(db)
    seconds, rows = timed(lambda: con.execute(one_pass(metrics_of(metrics), experiments)).fetchall())
    return {
        "seconds": seconds,
        "peak": peak_mb(),
        "estimates": _estimates(rows, metrics_of(metrics)) if experiments == 1 else {},
    }


def one_pass(metrics: Sequence[Mapping[str, Any]], experiments: int = 1) -> str:
    """Return the SQL; with several experiments all of them at once."""
    columns: dict[str, str] = {}
    pairs = [tuple(columns.setdefault(text, f"c{len(columns)}") for text in _texts(m)) for m in metrics]
    units = ", ".join(f"{text} as {name}" for text, name in columns.items())
    squares = dict.fromkeys((a, b) for x, y in pairs for a, b in ((x, x), (x, y), (y, y)))
    moments = [f"sum({c})" for c in columns.values()] + [f"sum({a} * {b})" for a, b in squares]
    key, past, joined = ("experiment_id, " if experiments > 1 else ""), "", ""
    if any(m.get("covariate") for m in metrics):
        start = int(BEGIN.timestamp() * 1e6) + PAST_DAYS * DAY_US
        past = (
            "past as (select unit_id, sum(latency_ms)::double as p, count(latency_ms)::double as q from interaction"
            f" where ts_us < {start} group by unit_id), "
        )
        joined = " left join past using (unit_id)"
        x, y = next(pair for pair, m in zip(pairs, metrics, strict=True) if m.get("covariate"))
        names = [x, y, "coalesce(p, 0)", "coalesce(q, 0)"]
        moments += [f"sum({a} * {b})" for a in names for b in names[2:]]
    return (
        f"with {past}unit as (select {key}unit_id, variant, {units} from interaction where experiment_id is not null"
        f" group by {key}unit_id, variant)"
        f" select {key}variant, count(*), {', '.join(moments)} from unit{joined} group by {key}variant"
    )


def _texts(metric: Mapping[str, Any]) -> tuple[str, str]:
    """Return numerator and denominator of a user."""
    if metric["kind"] == "proportion":
        return f"sum(case when {metric['event']} then 1 else 0 end)::double", f"count({metric['event']})::double"
    if metric["kind"] == "quantile":
        limit = THRESHOLDS[(0.5, 0.95, 0.99).index(metric["q"])]
        return (
            f"sum(case when {metric['value']} > {limit} then 1 else 0 end)::double",
            f"count({metric['value']})::double",
        )
    if metric["kind"] == "ratio":
        return f"sum({metric['numerator']})::double", f"sum({metric['denominator']})::double"
    one = metric.get("per") == "unit"
    return f"sum({metric['value']})::double", "1::double" if one else f"count({metric['value']})::double"


def _estimates(rows: Sequence[Sequence[Any]], metrics: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    columns: dict[str, int] = {}
    pairs = [tuple(columns.setdefault(text, len(columns)) for text in _texts(m)) for m in metrics]
    arms = {row[0]: row[2:] for row in rows}
    control = arms.pop("baseline")
    return {
        f"{m['name']} {arm}": sums[x] / sums[y] - control[x] / control[y]
        for arm, sums in arms.items() for m, (x, y) in zip(metrics, pairs, strict=True)
        if m["kind"] != "quantile" and "covariate" not in m
    }  # fmt: skip


TASKS = {"scan": scan, "hand": hand}
