"""What the team's own logs tell about a metric before a release: its level, its noise, its clustering, and its traffic.

The noise is that of the score the product tests with: residuals of units (or of whatever is randomised), added up over their
calls before squaring. As days pass the denominators grow and the clusters grow with them (users come back), so both are
kept hour by hour; beyond the end of the log the pace of its last half is taken to go on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abtest.analysis.resample import Baseline, Ints
from abtest.analysis.resample_sums import running
from abtest.metrics.base import MetricSpec

Floats = NDArray[np.float64]
HOURS = 24.0


@dataclass(frozen=True)
class Traffic:
    """How many units come: by hour of the log, scaled to all traffic of the experiment.

    Attributes:
        units: (H,) distinct units by the end of each hour.
        calls: (H,) calls by then.
        scale: All traffic over what was read (the control arm sees a part of it).
    """

    units: Floats
    calls: Floats
    scale: float

    @property
    def days(self) -> float:
        """Return the length of the log."""
        return len(self.units) / HOURS

    def units_by(self, days: float) -> float:
        """Return the distinct units after so many days."""
        return self.scale * grown(self.units, days)

    def to_dict(self) -> dict[str, float]:
        """Return it for people: units and calls a day, and the share of a day's units that had been there before."""
        half = len(self.units) // 2
        late = (
            (self.units[-1] - self.units[half - 1]) / max(self.days / 2, 1e-9) if half else self.units[-1] / self.days
        )
        return {
            "log_days": self.days, "units": self.scale * float(self.units[-1]), "calls_per_day": self.scale * float(self.calls[-1]) / self.days,
            "new_units_per_day": self.scale * float(late),
        }  # fmt: skip


@dataclass(frozen=True)
class Noise:
    """One metric on the baseline, by hour of the log.

    Attributes:
        level: Control's ratio X/Y.
        moved: Treatment's ratio where nothing changes; another one than `level` for quantiles, whose limits differ by arm.
        harmed: The same under a harm of two margins; None where that cannot be.
        y: (H,) denominators by the end of each hour.
        control, treatment: (H,) Σ over units of squared residuals, with the numerators of each arm.
        proportion: A floor of the variance applies at a margin in points.
        reduction: Share of the variance that the units' own history explains (CUPED), measured.
        events: (H,) units that had their first bad event by the end of each hour; None for what is no rate.
    """

    level: float
    moved: float
    harmed: float | None
    y: Floats
    control: Floats
    treatment: Floats
    proportion: bool
    reduction: float | None
    events: Floats | None = None

    @property
    def variance(self) -> float:
        """Return the clustered variance a unit of denominator, over the whole log."""
        return float(self.control[-1] / self.y[-1]) if self.y[-1] > 0 else 0.0

    @property
    def design_effect(self) -> float | None:
        """Return clustered over binomial variance; None for what is no proportion."""
        binomial = self.level * (1 - self.level)
        return self.variance / binomial if self.proportion and binomial > 0 else None

    def calmer(self, reduction: float) -> Noise:
        """Return the metric with a part of its variance gone."""
        left = 1 - reduction
        return replace(self, control=self.control * left, treatment=self.treatment * left)

    def information(self, share: float, contrast: float, worst: float | None, louder: float = 1.0) -> Floats:
        """Return (H,) one over the variance of the difference, at this share of the treatment, by hours.

        Args:
            share: q.
            contrast: c of r_T - c·r_C: 1 plus a relative margin, else 1.
            worst: The level at the margin, for the floor of a proportion with a margin in points; None: no floor.
            louder: The treatment's variance over control's, where a harm changes it.
        """
        y = np.where(self.y > 0, self.y, np.nan)
        plain = (louder * self.treatment * (1 - share) + contrast * contrast * self.control * share) / (y * y)
        if worst is not None:
            own = self.level * (1 - self.level)
            effect = np.maximum(self.control / (y * own), 1.0) if own > 0 else np.ones_like(y)
            plain = np.maximum(plain, effect * (worst * (1 - worst) * (1 - share) + own * share) / y)
        found = np.where(plain > 0, share * (1 - share) / np.where(plain > 0, plain, 1.0), 0.0)
        return np.maximum.accumulate(np.nan_to_num(found))


def grown(values: Floats, days: float) -> float:
    """Return a cumulative number after so many days: from the log, then at the pace of its last half."""
    hours, end = days * HOURS, len(values)
    if hours <= end:
        return float(np.interp(hours, np.arange(end + 1), np.r_[0.0, values]))
    return float(values[-1] + pace(values) * (hours - end))


def pace(values: Floats) -> float:
    """Return by how much a cumulative number grew an hour in the last half of the log."""
    half = len(values) // 2
    before = float(values[half - 1]) if half else 0.0
    return max(float(values[-1]) - before, 0.0) / (len(values) - half)


def days_until(values: Floats, wanted: float, scale: float = 1.0) -> float | None:
    """Return the days until a cumulative number reaches what is wanted; None when it never will."""
    if wanted <= 0:
        return 0.0
    reached = np.flatnonzero(scale * values >= wanted)
    if len(reached):
        i = int(reached[0])
        before = scale * float(values[i - 1]) if i else 0.0
        step = scale * float(values[i]) - before
        return (i + (wanted - before) / step) / HOURS
    rate = scale * pace(values)
    return None if rate <= 0 else (len(values) + (wanted - scale * float(values[-1])) / rate) / HOURS


def traffic_of(baseline: Baseline, scale: float) -> Traffic:
    """Return how units and calls came in the baseline."""
    calls = baseline.calls
    cluster = baseline.cluster[calls.unit]
    order = np.lexsort((calls.hour, cluster))
    first = np.r_[True, cluster[order][1:] != cluster[order][:-1]]
    return Traffic(
        _by_hour(calls.hour[order][first], np.ones(int(first.sum())), baseline.hours),
        _by_hour(calls.hour, calls.columns["calls"].astype(float), baseline.hours), scale,
    )  # fmt: skip


def noise_of(baseline: Baseline, j: int) -> Noise | None:
    """Return a metric's noise on the baseline; None where it could not be read."""
    columns = baseline.measures.get(j)
    if columns is None:
        return None
    spec: MetricSpec = baseline.experiment.metrics[j]
    rows = baseline.tables[columns.table]
    numbers = rows.columns
    y = numbers[columns.y].astype(float) / columns.y_scale
    if not y.sum():
        return None
    unit = baseline.cluster[rows.unit] if not (columns.cap_x or columns.cap_y) else rows.unit
    order = np.lexsort((rows.seen, unit))
    unit, seen, y = unit[order], rows.seen[order], y[order]

    def read(name: str) -> tuple[float, Floats, Floats]:
        x = numbers[name].astype(float)[order] / columns.x_scale
        return _squares(unit, seen, x, y, baseline.hours, cap_x=columns.cap_x, cap_y=columns.cap_y)

    level, totals, control = read(columns.x)
    moved, _, treatment = (level, totals, control) if columns.treated == columns.x else read(columns.treated)
    harmed = None
    if 2.0 in columns.harmed:
        harmed = read(columns.harmed[2.0])[0]
    return Noise(
        level, moved, harmed, totals, control, treatment, proportion=spec.kind in ("proportion", "quantile", "distribution"),
        reduction=_reduction(baseline, j, unit, seen, numbers[columns.x].astype(float)[order] / columns.x_scale, y, level),
        events=_first_events(baseline, j),
    )  # fmt: skip


def _first_events(baseline: Baseline, j: int) -> Floats | None:
    spec, columns = baseline.experiment.metrics[j], baseline.measures[j]
    if spec.kind != "proportion":
        return None
    rows = baseline.tables[columns.table]
    x, y = rows.columns[columns.x], rows.columns[columns.y]
    bad = y > x if spec.better == "higher" else x > 0
    first = np.full(baseline.units, baseline.hours, dtype=np.int64)
    np.minimum.at(first, rows.unit[bad], rows.seen[bad])
    return _by_hour(first, np.ones(baseline.units), baseline.hours)


def _squares(
    unit: Ints, seen: Ints, x: Floats, y: Floats, hours: int, *, cap_x: bool, cap_y: bool
) -> tuple[float, Floats, Floats]:
    """Return the ratio, and by hour: the denominators, and the sum of the units' squared residuals."""
    ax, bx = running(unit, x, cap=cap_x)
    ay, by = running(unit, y, cap=cap_y)
    gained = float((ay - by).sum())
    level = float((ax - bx).sum()) / gained if gained else 0.0
    after, before = ax - level * ay, bx - level * by
    return level, _by_hour(seen, ay - by, hours), _by_hour(seen, after * after - before * before, hours)


def _by_hour(hour: Ints, gain: Floats, hours: int) -> Floats:
    """Return (hours,) what had come together by the end of each hour; what is known only after the log is left out."""
    return np.bincount(np.minimum(hour, hours), weights=gain, minlength=hours + 1)[:hours].cumsum()


def _reduction(baseline: Baseline, j: int, unit: Ints, seen: Ints, x: Floats, y: Floats, level: float) -> float | None:
    """Return the share of the variance that history explains: the units' past, else the log's first half for its second."""
    spec = baseline.experiment.metrics[j]
    if spec.kind in ("quantile", "distribution"):
        return None
    units = int(unit.max()) + 1
    e = np.where(y > 0, x - level * y, 0.0)
    if j in baseline.past and baseline.past[j][1].any():
        c, d = (v.astype(float) for v in baseline.past[j])
        now = np.bincount(unit, weights=e, minlength=baseline.units)
        before = c - c.sum() / d.sum() * d
        here = np.bincount(unit, minlength=baseline.units) > 0
        return _explained(before[here], now[here])
    late = seen >= baseline.hours // 2
    now = np.bincount(unit[late], weights=e[late], minlength=units)
    before = np.bincount(unit[~late], weights=e[~late], minlength=units)
    here = np.bincount(unit[late], minlength=units) > 0
    return _explained(before[here], now[here])


def _explained(before: NDArray[Any], now: NDArray[Any]) -> float | None:
    if len(now) < 100 or not before.any() or now.std() == 0 or before.std() == 0:
        return None
    return float(np.corrcoef(before, now)[0, 1] ** 2)


def assumed(
    level: float, variance: float, moved: float, harmed: float | None, *, proportion: bool, y_per_hour: float
) -> Noise:
    """Return a metric's noise where there are no logs: two hours of even traffic, which then goes on.

    Args:
        level: Control's ratio.
        variance: Clustered variance a unit of denominator.
        moved: See `Noise`.
        harmed: See `Noise`.
        proportion: See `Noise`.
        y_per_hour: Denominators an hour.
    """
    y = y_per_hour * np.array([1.0, 2.0])
    return Noise(level, moved, harmed, y, variance * y, variance * y, proportion=proportion, reduction=None)


def even_traffic(units_per_day: float, calls_per_unit: float) -> Traffic:
    """Return traffic without logs: so many new units every day, none of which comes back."""
    hours = np.array([1.0, 2.0]) * units_per_day / HOURS
    return Traffic(hours, hours * calls_per_unit, 1.0)
