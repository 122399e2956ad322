"""Evidence from a kept state and what is new: the cost of tonight's analysis is tonight's data.

A unit is the atom. Everything in the evidence is a sum over units (or over the calls of units), in whole numbers, so what
touched units contributed before can be taken away and what they contribute now be added, exactly. Most touched units only
went on: their new calls are added to their totals. The others (a late or corrected row, a retry, a second arm) are read
again whole, so late data, corrections and contamination need no rules of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from abtest.analysis.evidence import Evidence, Row
from abtest.analysis.tables import (
    Looked,
    calls_of,
    has_rows,
    most_calls,
    named_histograms,
    prepare,
    row_tables,
    unit_tables,
)
from abtest.store import state
from abtest.store.engines.base import Engine
from abtest.store.moments import Layout, in_order
from abtest.store.query import MANIFEST_FIELDS
from abtest.store.rows import EXACT
from abtest.store.state import State

COUNTS_OF: Mapping[str, tuple[str, ...]] = {
    "calls": ("calls",), "cells": ("units",), "pairs": ("units",), "history": ("units",), "units": ("units",),
    "arm_units": ("units",), "assignment": ("new_units", "returning_units"), "contamination": ("units",), "histogram": ("n",),
}  # fmt: skip
"""What a row of each table counts; a row that counts nothing is not there."""
KEYS = {
    "arm", "stage", "look", "arm_a", "stage_a", "arm_b", "stage_b", "bucket", "value_bucket", "not_randomised", "no_unit",
    *MANIFEST_FIELDS,
}  # fmt: skip
ENDS = {"first_us": min, "last_us": max}


class UnsureError(Exception):
    """The first or last call of a group was taken away: only reading everything tells the new one."""


def tables_of(evidence: Evidence) -> dict[str, list[Row]]:
    """Return the tables of an evidence by name."""
    names = ("calls", "cells", "pairs", "first_events", "history", "units", "arm_units", "assignment", "contamination")
    return {**{name: list(getattr(evidence, name)) for name in names}, **named_histograms(evidence.histograms)}


def with_tables(evidence: Evidence, tables: Mapping[str, Sequence[Row]], *, sort: bool = True) -> Evidence:
    """Return the evidence with these tables; those of a state are in order already."""
    ordered = {name: in_order(rows) if sort else rows for name, rows in tables.items()}
    plain = {name: rows for name, rows in ordered.items() if not name.startswith("histogram")}
    found = {int(j): rows for name, rows in ordered.items() if name not in plain for j in name.split()[1:]}
    looks = tuple(sorted({row["look"] for row in tables["cells"]}))
    return replace(evidence, **plain, histograms=found, looks=looks)  # type: ignore[arg-type]


def add(
    tables: Mapping[str, Sequence[Row]],
    less: Sequence[Mapping[str, Sequence[Row]]],
    plus: Sequence[Mapping[str, Sequence[Row]]],
) -> dict[str, list[dict[str, Any]]]:
    """Return tables + plus - less, row by row.

    Raises:
        UnsureError: a first or last moment was taken away and not given back.
    """
    return {
        name: _add(name, rows, [t.get(name, ()) for t in less], [t.get(name, ()) for t in plus])
        for name, rows in tables.items()
    }


def _add(
    name: str, rows: Sequence[Row], less: Sequence[Sequence[Row]], plus: Sequence[Sequence[Row]]
) -> list[dict[str, Any]]:
    out: dict[tuple[Any, ...], dict[str, Any]] = {}
    gone: dict[tuple[tuple[Any, ...], str], int] = {}
    keys: tuple[str, ...] = ()
    for sign, group in ((1, [rows]), (-1, less), (1, plus)):
        for table in filter(None, group):
            keys = keys or tuple(column for column in table[0] if column in KEYS)
            ends = [column for column in ENDS if column in table[0]]
            sums = [column for column in table[0] if column not in KEYS and column not in ENDS]
            for row in table:
                key = tuple(row[column] for column in keys)
                mine = out.setdefault(key, dict(zip(keys, key, strict=True)))
                for column in sums:
                    mine[column] = mine.get(column, 0) + sign * row[column]
                for column in ends:
                    value = row[column]
                    if sign < 0:
                        gone[key, column] = ENDS[column](value, gone.get((key, column), value))
                    else:
                        mine[column] = ENDS[column](value, mine.get(column, value))
    counts = COUNTS_OF.get(name.split(maxsplit=1)[0])
    kept = {
        key: row for key, row in out.items() if any(row.get(c) for c in (counts or [c for c in row if c not in KEYS]))
    }
    for (key, column), moment in gone.items():
        # The end of a group may have been a row that is gone: fine when what came instead lies as far out.
        if key in kept and kept[key][column] == moment and not _given_back(plus, keys, key, column, moment):
            raise UnsureError(f"{name}: {column}")
    return [dict(row) for row in kept.values()]


def _given_back(
    plus: Sequence[Sequence[Row]], keys: tuple[str, ...], key: tuple[Any, ...], column: str, moment: int
) -> bool:
    return any(row[column] == moment and tuple(row[k] for k in keys) == key for table in plus for row in table)


@dataclass(frozen=True)
class Advanced:
    """The evidence of now, the layout it was read with (none where nothing was read), and the first look at the numbers."""

    evidence: Evidence
    layout: Layout | None
    looked: Looked

    def body(self) -> dict[str, Any]:
        """Return what a state keeps of it besides the unit totals."""
        look = self.looked
        return {
            "tables": tables_of(self.evidence), "same": dict(look.same), "largest": look.largest, "most": look.most,
            "wide": self.evidence.scan.wide,
        }  # fmt: skip


def advance(
    engine: Engine, old: State, asked: Layout, evidence: Evidence, source: str | None = None
) -> Advanced | None:
    """Return the evidence of now from a kept state and what is new since; None when everything has to be read.

    Args:
        engine: Where to read.
        old: The kept state.
        asked: What is asked now.
        evidence: An evidence without tables.
        source: A kept table of the calls that are newer (own_calls.py).

    Afterwards the tables `touched` and `unit_total` (their new totals) are kept, for `state.save`.
    """
    had: dict[str, list[Row]] = {name: list(rows) for name, rows in old.body["tables"].items()}
    had["calls"] = [row for row in had["calls"] if not row["no_unit"]]  # no unit says when these change: read again
    scan = asked.scan.at(wide=bool(old.body["wide"]), source=None)
    engine.keep("touched", *state.touched(scan, old))
    some = scan.at(units="touched")
    prepare(engine, some)
    since = scan.at(since=(old.file_id, old.as_of_us), source=source)
    news = Looked.of(engine.rows(*since.population()))
    same = {
        column: count for column, count in old.body["same"].items() if news.same.get(column) == count or not news.calls
    }
    layout = asked.sharing(scan, same)
    engine.keep("unit_delta", *layout.of(since).unit_total())
    engine.keep("unit_merged", state.merged(layout, old))
    engine.keep("recounted", *state.recount(layout, old))

    then = scan.at(as_of_us=old.as_of_us, max_file=old.file_id)
    texts = state.before(layout, old)
    columns = ", ".join(f"{text} as {name}" for name, text in texts.items())
    engine.keep("unit_total", f'select {columns} from "{old.table}" where unit_id in (select unit_id from touched)')
    again = has_rows(engine, "recounted")
    less = [unit_tables(engine, layout.of(then))]
    if again:
        prepare(engine, then.at(units="touched"))
        less.append(row_tables(engine, layout.of(then.at(units="recounted"))))
        prepare(engine, some)

    names = ", ".join(texts)
    fresh = f"select {names} from unit_merged where unit_id not in (select unit_id from recounted)"
    if again:
        engine.keep("unit_again", *layout.of(scan.at(units="recounted")).unit_total())
        fresh += f"\nunion all\nselect {names} from unit_again"
    engine.keep("unit_total", fresh)
    plus = [unit_tables(engine, layout)]
    plus.append(row_tables(engine, layout.of(since.at(without="recounted"))))
    if again:
        plus.append(row_tables(engine, layout.of(scan.at(units="recounted"))))
    prepare(engine, scan.at(nameless=True))
    plus.append({"calls": calls_of(engine.rows(*scan.at(nameless=True).population()))})
    try:
        tables = add(had, less, plus)
    except UnsureError:
        return None
    most = max(int(old.body["most"]), most_calls(engine))
    largest = max(float(old.body["largest"]), news.largest)
    if not scan.wide and largest * max(most, 1) >= EXACT:
        return None
    looked = Looked(calls=[], same=same, largest=largest, most=most)
    return Advanced(with_tables(replace(evidence, scan=scan), tables), layout, looked)
