"""The tables of an evidence, in two kinds: what follows from unit totals, and what is counted row by row.

Both are sums over units, so tables of two sets of units can be added, and one taken from another (see increment.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from abtest.store.engines.base import Engine
from abtest.store.moments import COUNTS, Layout
from abtest.store.query import Scan, fill

Row = Mapping[str, Any]
Tables = Mapping[str, Sequence[Row]]
_LOOK = re.compile(r"(largest|requests|calls)_(t\d+)")


@dataclass(frozen=True)
class Looked:
    """A first look at the numbers of a scan.

    Attributes:
        calls: The calls by what became of them and what they ran.
        same: Columns that count every request, or every call: these need not be added up.
        largest: The largest number that is added up in a double.
        most: Calls of the unit that has most of them.
    """

    calls: Sequence[Row]
    same: Mapping[str, str]
    largest: float
    most: int = 0

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Looked:
        """Take the answer of `Scan.population` apart."""
        same: dict[str, str] = {}
        for name in rows[0] if rows else ():
            found = _LOOK.fullmatch(name)
            if (
                found
                and found.group(1) in COUNTS
                and sum(int(r[name]) for r in rows) == sum(int(r[found.group(1)]) for r in rows)
            ):
                same[found.group(2)] = found.group(1)
        numbers = [float(v) for row in rows for k, v in row.items() if k.startswith("largest_") and v is not None]
        return cls(calls_of(rows), same, max(numbers, default=0.0))


def calls_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the calls of the answer of `Scan.population` without the look at the numbers."""
    return [{k: v for k, v in row.items() if not _LOOK.fullmatch(k)} for row in rows]


def prepare(engine: Engine, scan: Scan) -> None:
    """Keep the small tables that the calls are joined with."""
    if scan.facts.assignments:
        engine.keep("assigned", *scan.assigned())
    if scan.scored and scan.facts.scores:
        engine.keep("scored", *scan.score_table())


def unit_tables(engine: Engine, layout: Layout) -> dict[str, list[Any]]:
    """Return everything that follows from the kept unit totals; keeps `contaminated`, `cell` and `first_seen` of them."""
    scan = layout.scan
    if scan.has_covariates:
        engine.keep("history", *layout.history())
    engine.keep("contaminated", *layout.contaminated())
    layout.contaminated_units = has_rows(engine, "contaminated")
    engine.keep("cell", *layout.cell())
    cells = layout.expand(engine.rows(layout.cell_sums()))
    events: list[dict[str, Any]] = []
    if layout.events:
        engine.keep("first_seen", layout.first_seen())
        nothing = {f"risk{j}": 0 for j in layout.events}
        events = [{**row, **nothing} for row in engine.rows(*layout.first_event())]
    return {
        "cells": cells,
        "pairs": layout.expand(engine.rows(layout.pair_moments()), products=True),
        "first_events": events,
        "history": engine.rows(*layout.history_moments()) if scan.has_covariates else [],
        "units": engine.rows(layout.unit_counts()),
        "arm_units": engine.rows(layout.arm_units()),
        "assignment": _assignment(engine, layout, cells),
        "contamination": _contamination(engine, cells),
    }


def row_tables(engine: Engine, layout: Layout, calls: Sequence[Row] | None = None) -> dict[str, list[Any]]:
    """Return what is counted row by row: the calls (unless they are known), the denominators at risk, histograms.

    `contaminated` and `first_seen` must be kept for the units that are read.
    """
    layout.contaminated_units = has_rows(engine, "contaminated")
    risk: list[dict[str, Any]] = []
    if layout.events:
        nothing = {f"event{j}": 0 for j in layout.events}
        risk = [{**row, **nothing} for row in engine.rows(*layout.at_risk())]
    return {
        "calls": list(calls) if calls is not None else calls_of(engine.rows(*layout.scan.population())),
        "first_events": risk,
        **named_histograms(histograms(engine, layout)),
    }


def named_histograms(found: Mapping[int, Sequence[Row]]) -> dict[str, list[Any]]:
    """Return histograms as tables; the name lists the metrics, because one table serves all of one value."""
    groups: list[tuple[list[int], Sequence[Row]]] = []
    for j, rows in found.items():
        same = next((metrics for metrics, known in groups if known is rows), None)
        if same is None:
            groups.append(([j], rows))
        else:
            same.append(j)
    return {f"histogram {' '.join(map(str, metrics))}": list(rows) for metrics, rows in groups}


def histograms(engine: Engine, layout: Layout, segment: str | None = None) -> dict[int, list[dict[str, Any]]]:
    """Return the histogram of every quantile metric; metrics of one value share one reading."""
    found: dict[str, list[dict[str, Any]]] = {}
    out: dict[int, list[dict[str, Any]]] = {}
    for j, measure in enumerate(layout.scan.measures):
        if measure.quantile and not measure.part:
            sql, params = layout.histogram(j, segment)
            key = f"{sql} {sorted(params.items())}"
            if key not in found:
                found[key] = engine.rows(sql, params)
            out[j] = found[key]
    return out


def most_calls(engine: Engine) -> int:
    """Return the calls of the unit that has most of them in a cell, from the kept unit totals."""
    return int(engine.rows("select coalesce(max(calls), 0) as n from unit_total")[0]["n"])


def has_rows(engine: Engine, table: str) -> bool:
    """Return whether a kept table has rows."""
    return bool(engine.rows(f'select count(*) as n from "{table}"')[0]["n"])


def _assignment(engine: Engine, layout: Layout, cells: Sequence[Row]) -> list[dict[str, Any]]:
    """Return new and returning units by stage and arm; in a single stage all are new."""
    if layout.scan.stage_starts_us:
        return engine.rows(*layout.named("assignment_counts"))
    return [{"stage": r["stage"], "arm": r["arm"], "new_units": r["units"], "returning_units": 0} for r in cells]


def _contamination(engine: Engine, cells: Sequence[Row]) -> list[dict[str, Any]]:
    """Return units by stage, and how many of them were seen in more than one arm of it."""
    both = {row["stage"]: int(row["contaminated"]) for row in engine.rows(fill("contamination"))}
    clean: Counter[int] = Counter()
    for row in cells:
        clean[row["stage"]] += row["units"]
    return [
        {"stage": k, "units": clean[k] + both.get(k, 0), "contaminated": both.get(k, 0)}
        for k in sorted({*clean, *both})
    ]
