"""Reads the evidence of every level of a segment key: one more pass over the logs a key, and the same sums as for all traffic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import duckdb

from abtest.analysis.evidence import Evidence, Levels
from abtest.analysis.tables import histograms, prepare
from abtest.errors import SpecError
from abtest.metrics.segments import OTHER, Segment
from abtest.store.engines.base import Engine
from abtest.store.moments import Layout, in_order, more
from abtest.store.query import Params, Query, fill, query

Which = Literal["guardrails", "all"]
Row = Mapping[str, Any]


def read_segments(
    engine: Engine, evidence: Evidence, which: Which, say: Callable[[str], None], *, past: bool = False
) -> Evidence:
    """Return the evidence with that of the levels of its segment keys.

    Args:
        engine: Where to read. The tables that are kept there for all traffic are replaced, so this comes last.
        evidence: The evidence of all traffic.
        which: "guardrails": the levels that are guardrails, and no others; "all": every level of every key.
        say: Called with a word before each slow step.
        past: The table `history` is that of all units.

    Raises:
        SpecError: an expression that does not fit its columns.
    """
    experiment = evidence.experiment
    wanted = [s for s in experiment.segments if which == "all" or experiment.guarded_levels(s.key)]
    if not wanted or not evidence.looks:
        return evidence
    prepare(engine, evidence.scan)
    layout = Layout(evidence.scan)
    found: dict[str, Levels] = {}
    for segment in wanted:
        say(f"segment {segment.key}")
        try:
            found[segment.key] = _levels(engine, layout, evidence, segment, which, past=past)
            past = True
        except duckdb.Error as error:
            text = f"the expression does not fit its columns: {str(error).splitlines()[0]}"
            raise SpecError(text, key=f"segments.{segment.key}") from error
    return replace(evidence, segments=found)


def _levels(
    engine: Engine, layout: Layout, evidence: Evidence, segment: Segment, which: Which, *, past: bool
) -> Levels:
    experiment = evidence.experiment
    guarded = experiment.guarded_levels(segment.key)
    expression = experiment.level_sql(segment, None if which == "all" else guarded)
    engine.keep("unit_total", *layout.unit_total(segment=expression))
    if layout.scan.has_covariates and not past:
        engine.keep("history", *layout.history())
    engine.keep("contaminated", *layout.contaminated())
    engine.keep("cell", *layout.cell(segment=True))
    units = {str(row["segment"]): int(row["units"]) for row in engine.rows(fill("segment_levels"))}
    order = sorted(units, key=lambda level: (-units[level], level))
    kept = guarded if which == "guardrails" else _kept(order, guarded, segment.max_levels)
    if which == "all" and not set(order) <= set(kept):
        engine.keep("unit_merged", *_merged(layout, kept))
        engine.keep("cell", *layout.cell(totals="unit_merged", segment=True))
    tables = _tables(engine, layout, expression, kept)
    shown = [*kept, *([OTHER] if OTHER not in kept and which == "all" and OTHER in tables["cells"] else [])]
    return Levels(
        key=segment.key, by=segment.by, guarded=frozenset(guarded), found=len(units),
        evidence={level: _evidence_of(evidence, f"{segment.key}={level}", level, tables) for level in shown},
        shared_units=int(engine.rows(fill("segment_shared"))[0]["units"]) if which == "all" else 0,
        complete=which == "all",
    )  # fmt: skip


def _kept(order: Sequence[str], guarded: Sequence[str], most: int) -> list[str]:
    """Return the levels that stand alone: guardrails, and of the others those with most units, up to `most` in all."""
    others = [level for level in order if level not in guarded][: max(most - len(guarded), 0)]
    chosen = {*guarded, *others}
    return [level for level in order if level in chosen] + [level for level in guarded if level not in order]


def _merged(layout: Layout, kept: Sequence[str]) -> Query:
    """Return the query of unit totals with the rare levels put together; kept as `unit_merged`."""
    params = Params()
    totals = [f"cast(sum(u.{name}) as bigint) as {name}" for name in layout.tallies]
    return query(
        fill(
            "segment_merged",
            levels=params.bind_all("level", kept),
            other=params.bind("other", OTHER),
            totals=more(totals),
        ),
        params,
    )


Tables = dict[str, dict[str, list[dict[str, Any]]]]


def _tables(engine: Engine, layout: Layout, expression: str, kept: Sequence[str]) -> Tables:
    """Return table -> level -> rows; rare levels are one here too."""
    tables: Tables = {
        "cells": _by_level(layout.expand(engine.rows(layout.cell_sums(segment=True))), kept),
        "pairs": _by_level(layout.expand(engine.rows(layout.pair_moments(segment=True)), products=True), kept),
        "arm_units": _by_level(engine.rows(fill("segment_units")), kept),
    }
    for j, rows in histograms(engine, layout, expression).items():
        tables[f"histogram {j}"] = {level: _added(mine) for level, mine in _by_level(rows, kept).items()}
    return tables


def _by_level(rows: Sequence[Row], kept: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    known = set(kept)
    out: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        level = row["segment"] if row["segment"] in known else OTHER
        out.setdefault(level, []).append({k: v for k, v in row.items() if k != "segment"})
    return out


def _added(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return histogram rows with equal buckets added up: the rare levels come one by one."""
    counts: dict[tuple[Any, ...], int] = {}
    for row in rows:
        key = (row["arm"], row["stage"], row["value_bucket"])
        counts[key] = counts.get(key, 0) + int(row["n"])
    return [{"arm": arm, "stage": stage, "value_bucket": b, "n": n} for (arm, stage, b), n in counts.items()]


def _evidence_of(whole: Evidence, name: str, level: str, tables: Tables) -> Evidence:
    prefix = "histogram "
    return replace(
        whole, segment=name, segments={}, growth=None, calls=(), first_events=(), history=(), units=(), assignment=(), contamination=(),
        cells=in_order(tables["cells"].get(level, [])), pairs=in_order(tables["pairs"].get(level, [])),
        arm_units=in_order(tables["arm_units"].get(level, [])),
        histograms={int(t.removeprefix(prefix)): in_order(rows.get(level, [])) for t, rows in tables.items() if t.startswith(prefix)},
    )  # fmt: skip
