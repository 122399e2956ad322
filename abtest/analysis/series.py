"""How the evidence grew: the cumulative confidence sequence of every metric over time, for pictures and JSON.

A point is the same test at an earlier moment. The grid is a function of the logs alone: hours for three days, quarters of
a day for twelve, days for about two months, weeks beyond; and every stage ends with a point of its own. The last point is
the decision's. Only here the logs are read by unit and stretch of time, which costs more than everything a decision needs;
so decisions leave it out and reports ask for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abtest.analysis.covariate import adjust
from abtest.analysis.evidence import Evidence, Growth
from abtest.analysis.increment import KEYS
from abtest.analysis.judge import MIN_UNITS, bounds_of, tested_margin
from abtest.analysis.rare import takes_rate_ratio
from abtest.analysis.shape import shape_of
from abtest.analysis.times import to_text
from abtest.metrics.distribution import DistributionMetric
from abtest.results import MetricResult, SeriesPoint, finite
from abtest.stats.score import stratified_score
from abtest.stats.score_bounds import margin_curve
from abtest.store.engines.base import Engine
from abtest.store.moments import LOOK, Layout
from abtest.store.query import HOUR_US, fill

Array = NDArray[np.float64]
POINTS = 72
"""About as many points at most; more could not be told apart in a picture."""
STEPS_US = tuple(hours * HOUR_US for hours in (1, 6, 24, 168))
_AT_ONCE = 3
"""Metrics a reading: more windows at once cost DuckDB more than another reading."""


def grow(engine: Engine, layout: Layout, evidence: Evidence) -> Growth | None:
    """Read how the evidence of a decision grew; the tables that the decision kept must still be there.

    Args:
        engine: Where the decision's evidence was read.
        layout: Its layout.
        evidence: What it read.
    """
    if not evidence.looks:
        return None
    grid = grid_of(evidence)
    cells: dict[tuple[object, ...], dict[str, object]] = {}
    pairs: dict[tuple[object, ...], dict[str, object]] = {}
    for metrics in _groups(evidence.active):
        part = Layout(layout.scan, metrics)
        part.contaminated_units = layout.contaminated_units
        engine.keep("unit_step", *part.unit_step(grid))
        for rows, into, keys in (
            (part.expand(engine.rows(part.step_sums())), cells, ("arm", "stage", "look")),
            (part.expand(engine.rows(part.step_moments()), products=True), pairs, ("arm_a", "stage_a", "arm_b", "stage_b", "look")),
        ):  # fmt: skip
            for row in rows:
                into.setdefault(tuple(row[k] for k in keys), {}).update(row)
    looks = tuple(sorted({int(str(row["look"])) for row in cells.values()}))
    arrived = engine.rows(fill("arrivals"), {"grid": grid})
    units: dict[str, list[int]] = {}
    for arm in evidence.experiment.arm_names:
        new = dict.fromkeys(looks, 0)
        for row in arrived:
            if row["arm"] == arm:
                new[row["stage"] * LOOK + row["bucket"]] += row["units"]
        units[arm] = list(accumulate(new[look] for look in looks))
    return Growth(replace(evidence, looks=looks, cells=list(cells.values()), pairs=list(pairs.values())), grid, units)


def grow_from(points: Sequence[tuple[int, Mapping[str, Any]]], evidence: Evidence) -> Growth | None:
    """Return how the evidence grew from the sums of earlier analyses, each as it was known then; None for less than two.

    Args:
        points: (watermark, tables "cells", "pairs" and "arm_units"), in the order of time.
        evidence: The evidence of now.
    """
    now = (evidence.as_of_us or 0, {"cells": evidence.cells, "pairs": evidence.pairs, "arm_units": evidence.arm_units})
    every = [*(p for p in points if p[0] < now[0]), now]
    if len(every) < 2:
        return None
    starts = [s.since_us for s in evidence.strata]
    looks = [
        max((k for k, start in enumerate(starts) if start <= at), default=0) * LOOK + i
        for i, (at, _) in enumerate(every)
    ]
    rows: dict[str, list[dict[str, Any]]] = {"cells": [], "pairs": []}
    for name, kept in rows.items():
        before: dict[tuple[Any, ...], Mapping[str, Any]] = {}
        for look, (_, tables) in zip(looks, every, strict=True):
            for row in tables[name]:
                key = tuple(row[k] for k in ("arm", "stage", "arm_a", "stage_a", "arm_b", "stage_b") if k in row)
                old = before.get(key, {})
                gained = {k: v - old.get(k, 0) if k not in KEYS else v for k, v in row.items()}
                kept.append({**gained, "look": look})
                before[key] = row
    units = {
        arm: [next((int(r["evidence_units"]) for r in t["arm_units"] if r["arm"] == arm), 0) for _, t in every]
        for arm in evidence.experiment.arm_names
    }
    grown = replace(evidence, looks=tuple(looks), **rows)
    return Growth(grown, 0, units, tuple(at for at, _ in every))


def grid_of(evidence: Evidence) -> int:
    """Return the length of a stretch: the shortest of `STEPS_US` that gives at most `POINTS` of them."""
    span = (evidence.as_of_us or 0) - (evidence.population["first_us"] or 0)
    return next((step for step in STEPS_US if span <= POINTS * step), STEPS_US[-1])


def _groups(metrics: Sequence[int]) -> Iterator[Sequence[int]]:
    for k in range(0, len(metrics), _AT_ONCE):
        yield metrics[k : k + _AT_ONCE]


def series_of(growth: Growth, result: MetricResult, j: int) -> tuple[SeriesPoint, ...]:
    """Return the points of one result; none where the result says nothing.

    Args:
        growth: See `grow`.
        result: The result at the watermark.
        j: The metric's number.
    """
    evidence = growth.evidence
    spec, treatment = evidence.experiment.metrics[j], result.treatment
    if j not in evidence.active or result.status in ("no_data", "zero_variance"):
        return ()
    if isinstance(spec, DistributionMetric):
        shape = shape_of([evidence], j, treatment, _stage_ends(evidence.looks))
        harm = (shape.harm_lower, shape.harm_upper) if spec.guardrail else (np.full(shape.estimate.shape, np.nan),) * 2
        return _points(growth, treatment, (shape.estimate, shape.lower, shape.upper, *harm, shape.log_e))
    adjustment = adjust(evidence, j, treatment)
    sums = adjustment.sums if adjustment else evidence.pair_sums(j, treatment)
    shares = [evidence.pair_share(s) for s in evidence.strata]
    score = stratified_score(
        sums,
        shares,
        better=spec.better,
        proportion=spec.kind in ("proportion", "quantile"),
        latches=_stage_ends(evidence.looks),
    )
    kind, tested = tested_margin(spec)
    curve = margin_curve(score, kind, tested)
    plain = curve if kind == "absolute" else margin_curve(score, "absolute", 0.0)
    bounds = bounds_of(evidence, spec, curve, plain, takes_rate_ratio(spec))
    sign = spec.sign
    estimate = sign * plain.estimate
    low, high = (bounds.lower, bounds.upper) if sign > 0 else (-bounds.upper, -bounds.lower)
    return _points(growth, treatment, (estimate, low, high, bounds.harm_lower, bounds.harm_upper, bounds.log_e))


def _points(growth: Growth, treatment: str, arrays: Sequence[Array]) -> tuple[SeriesPoint, ...]:
    """Return the points: estimate, interval, bounds of the harm, and log E, at every look."""
    evidence = growth.evidence
    control, other = growth.units[evidence.experiment.control], growth.units[treatment]
    points: list[SeriesPoint] = []
    for i, (look, at) in enumerate(zip(evidence.looks, growth.ends_us, strict=True)):
        if not np.isfinite(arrays[0][i]) or min(control[i], other[i]) < MIN_UNITS:
            continue  # before this, an interval would promise more than the central limit theorem holds
        point, ci_low, ci_high, harm_low, harm_high, log_e = (finite(float(numbers[i])) for numbers in arrays)
        stage = evidence.strata[look // LOOK].ramp_index
        points.append(SeriesPoint(
            to_text(at) or "", stage, control[i], other[i], point, ci_low, ci_high, harm_low, harm_high, log_e
        ))  # fmt: skip
    return tuple(points)


def _stage_ends(looks: Sequence[int]) -> np.ndarray:
    """Return which looks are the last of their stage."""
    stages = np.array([look // LOOK for look in looks])
    return np.append(stages[1:] != stages[:-1], True)
