"""When will it be decided? From the width of today's bounds and the pace at which units arrive in this stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from abtest.results import Analysis, MetricResult


def eta_hours(analysis: Analysis, stage_hours: float) -> float | None:
    """Return the hours until every guardrail is decided if the estimates stay; None when that cannot be said.

    A bound shrinks like one over the root of the data: it reaches the margin after ((upper - estimate)/(margin - estimate))²
    times the data of today. Data are counted in the treatment's units, which arrive as fast as they did in this stage.
    """
    open_ones = [m for m in analysis.metrics if m.role == "guardrail" and m.verdict in ("inconclusive", "unknown")]
    if not open_ones or stage_hours <= 0:
        return None
    hours = [_hours(m, stage_hours) for m in open_ones]
    return None if any(h is None for h in hours) else max(h for h in hours if h is not None)


def _hours(m: MetricResult, stage_hours: float) -> float | None:
    stages: Sequence[Any] = m.stages
    if m.status != "ok" or m.harm_upper is None or m.margin is None or not stages:
        return None
    estimate = _harm_estimate(m)
    pace = stages[-1]["n_treatment"] / stage_hours
    if estimate is None or estimate >= m.margin or pace <= 0:
        return None
    factor = ((m.harm_upper - estimate) / (m.margin - estimate)) ** 2
    return max(factor - 1.0, 0.0) * m.n_treatment / pace


def _harm_estimate(m: MetricResult) -> float | None:
    value = m.relative_estimate if m.margin_kind == "relative" else m.estimate
    return None if value is None else value if m.better == "lower" else -value
