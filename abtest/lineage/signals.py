"""What the calls of an hour looked like: yes-or-no signals, by unit and by stretch of time.

A signal is an event (an error, a refusal, an answer that does not parse) or a high value: above what 95 % of the baseline
had, so that a number is judged without an assumption about its tail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from abtest.lineage.seen import calls_of
from abtest.metrics.expressions import Expression, parse
from abtest.spec import Experiment
from abtest.store.query import HOUR_US, RESOLUTION, Query, fill, query
from abtest.store.store import Store

HIGH = 0.95
MINUTE_US = 60_000_000
Whole = npt.NDArray[np.int64]
_COLUMNS = ("unit_id", "interaction_id", "exposed", "operation", "surface", "experiment_id", "variant")


@dataclass(frozen=True)
class Signal:
    """One signal.

    Attributes:
        name: The metric's name.
        expression: An event, or the number of which high values are the event.
        level: The expression is a number.
        threshold: Above it a number is high; taken from the baseline, None before.
    """

    name: str
    expression: Expression
    level: bool = False
    threshold: float | None = None

    @property
    def words(self) -> str:
        """Return what the share is of, in words."""
        if not self.level:
            return self.name
        return f"share of {self.name} above {self.threshold:.4g}" if self.threshold is not None else self.name

    def sql(self, parameter: str) -> str:
        """Return the expression that is 1, 0 or NULL for a call."""
        text = self.expression.sql("i")
        if self.level:
            return f"case when ({text}) > {parameter} then 1 when ({text}) is not null then 0 end"
        return f"case when ({text}) then 1 when not ({text}) then 0 end"


@dataclass(frozen=True)
class Span:
    """Which calls: from and to (microseconds since 1970), up to which load, and where."""

    start_us: int
    as_of_us: int
    max_file: int
    surface: str | None = None
    experiment: str | None = None
    variant: str | None = None
    where: Expression | None = None

    def more(self) -> tuple[str, dict[str, Any]]:
        """Return the conditions on places, and their values."""
        wanted = {"surface": self.surface, "experiment_id": self.experiment, "variant": self.variant}
        given = {name: value for name, value in wanted.items() if value is not None}
        text = "".join(f'\n  and i."{name}" = ${name}' for name in given)
        return text + (f"\n  and ({self.where.sql('i')})" if self.where else ""), given


@dataclass(frozen=True)
class Hourly:
    """Signals by hour; index 0 is the hour of `first`.

    Attributes:
        first: Hours since 1970 of the first hour.
        signals: The signals.
        cells: For each signal: hour index, known calls, events and units, shape (4, cells); a unit is in one hour only.
        calls: Calls that can tell, shape (signals, hours).
        events: Calls with the event, shape (signals, hours).
    """

    first: int
    signals: tuple[Signal, ...]
    cells: tuple[Whole, ...]
    calls: Whole = field(repr=False)
    events: Whole = field(repr=False)

    @property
    def hours(self) -> int:
        """Return how many hours there are."""
        return int(self.calls.shape[1])


def usual_signals() -> tuple[Signal, ...]:
    """Return what is watched where no experiment says otherwise."""
    events = {"error_rate": "is_error", "refusal_rate": "refused", "format_errors": "NOT format_ok"}
    levels = {"latency_ms": "latency_ms", "output_tokens": "output_tokens", "cost_usd": "cost_usd"}
    return (
        *(Signal(name, parse(text, key=name, want="boolean")) for name, text in events.items()),
        *(Signal(name, parse(text, key=name, want="number"), level=True) for name, text in levels.items()),
    )


def signals_of(experiment: Experiment) -> tuple[Signal, ...]:
    """Return the metrics of an experiment that are read off calls: events, and high values of numbers."""
    found: list[Signal] = []
    for metric in experiment.metrics:
        measure = metric.measure()
        value = measure.numerator if measure.denominator is None and measure.score is None else None
        if value is not None and (measure.event or not measure.per_unit_total):
            found.append(Signal(metric.name, value, level=not measure.event))
    return tuple(found)


def with_thresholds(store: Store, signals: Sequence[Signal], baseline: Span) -> tuple[Signal, ...]:
    """Return the signals with thresholds from a baseline; numbers that it does not have are left out."""
    found: list[Signal] = []
    for s in signals:
        if not s.level:
            found.append(s)
            continue
        rows = store.engine.rows(*level_query(s, baseline, _calls(store, [s], baseline)))
        threshold = _quantile({int(r["step"]): int(r["calls"]) for r in rows})
        if threshold is not None:
            found.append(replace(s, threshold=threshold))
    return tuple(found)


def hourly(store: Store, signals: Sequence[Signal], span: Span) -> Hourly:
    """Read the signals of a span hour by hour."""
    store.engine.keep("version_unit_hour", *unit_hour_query(signals, span, _calls(store, signals, span)))
    first = span.start_us // HOUR_US
    cells: list[Whole] = []
    for j in range(len(signals)):
        rows = store.engine.rows(*unit_cell_query(j))
        order = sorted((int(r["hour"]) - first, int(r["n"]), int(r["k"]), int(r["units"])) for r in rows)
        cells.append(np.array(order, dtype=np.int64).reshape(-1, 4).T)
    rows = store.engine.rows(*hours_query(len(signals)))
    calls, events = _laid_out(rows, len(signals), first, span.as_of_us // HOUR_US - first + 1)
    return Hourly(first, tuple(signals), tuple(cells), calls, events)


def minutes(store: Store, signal: Signal, span: Span, *, first: int, count: int) -> tuple[Whole, Whole]:
    """Return calls that can tell and events, minute by minute from the minute `first` since 1970."""
    rows = store.engine.rows(*series_query(signal, span, _calls(store, [signal], span)))
    calls, events = _laid_out(rows, 1, first, count)
    return calls[0], events[0]


def _laid_out(rows: Sequence[dict[str, Any]], signals: int, first: int, count: int) -> tuple[Whole, Whole]:
    """Return calls and events by signal and stretch of time, shape (signals, count); stretches without calls are zero."""
    calls = np.zeros((signals, count), dtype=np.int64)
    events = np.zeros_like(calls)
    for r in rows:
        at = int(r["bucket"]) - first
        if 0 <= at < count:
            for j in range(signals):
                calls[j, at], events[j, at] = int(r[f"n{j}"]), int(r[f"k{j}"])
    return calls, events


# -- queries -------------------------------------------------------------------------------------------------------------


def level_query(signal: Signal, baseline: Span, calls: str) -> Query:
    """Return the query of how large a number is."""
    more, values = baseline.more()
    text = fill("versions_level", value=signal.expression.sql("i"), interaction=calls, more=more)
    return query(text, {**_limits(baseline), **values})


def unit_hour_query(signals: Sequence[Signal], span: Span, calls: str) -> Query:
    """Return the query of units by hour; kept as `version_unit_hour`."""
    sql, values = _signals(signals, span, calls)
    sums = "".join(f", count(s.e{j}) as n{j}, coalesce(sum(s.e{j}), 0) as k{j}" for j in range(len(signals)))
    return query(fill("versions_unit_hour", sums=sums, signals=sql), {**values, "grid": HOUR_US})


def unit_cell_query(j: int) -> Query:
    """Return the query of units in the hour of their first call, by signal `j`."""
    return query(fill("versions_unit_cell", j=str(j)), {})


def hours_query(signals: int) -> Query:
    """Return the query of all calls by hour."""
    sums = "".join(f", cast(sum(n{j}) as bigint) as n{j}, cast(sum(k{j}) as bigint) as k{j}" for j in range(signals))
    return query(fill("versions_hours", sums=sums), {})


def series_query(signal: Signal, span: Span, calls: str) -> Query:
    """Return the query of one signal minute by minute."""
    sql, values = _signals([signal], span, calls)
    text = fill("versions_series", sums=", count(s.e0) as n0, coalesce(sum(s.e0), 0) as k0", signals=sql)
    return query(text, {**values, "grid": MINUTE_US})


def _signals(signals: Sequence[Signal], span: Span, calls: str) -> tuple[str, dict[str, Any]]:
    more, values = span.more()
    columns = "".join(f", {s.sql(f'$level_{j}')} as e{j}" for j, s in enumerate(signals))
    levels = {f"level_{j}": s.threshold for j, s in enumerate(signals) if s.level}
    text = fill("versions_signals", signals=columns, interaction=calls, more=more)
    return text, {**_limits(span), **values, **levels}


def _calls(store: Store, signals: Sequence[Signal], span: Span) -> str:
    columns = {*_COLUMNS, *(c for s in signals for c in s.expression.columns)}
    columns |= span.where.columns if span.where else frozenset[str]()
    return calls_of(store, sorted(columns))


def _limits(span: Span) -> dict[str, int]:
    return {"start": span.start_us, "as_of": span.as_of_us, "max_file": span.max_file}


def _quantile(steps: dict[int, int]) -> float | None:
    """Return the upper edge of the step in which the high values begin; None without numbers."""
    total, below = sum(steps.values()), 0
    for step in sorted(steps):
        below += steps[step]
        if below >= HIGH * total:
            return math.exp((step + 1) / RESOLUTION)
    return None
