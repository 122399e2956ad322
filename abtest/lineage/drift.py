"""Change points of hourly signals: e-detectors against a frozen baseline, with a declared time between false alarms.

The baseline is the beginning of the series (`BASELINE_HOURS`), or as much of it as has `BASELINE_UNITS` units; a signal with
fewer is not watched. A unit bets once, in the hour of its first call: users who come back would count twice. What is tested is
not one number but a band around the baseline's mean, as wide as the baseline itself is uncertain (`Z` standard errors) and as
it swings from hour to hour (`SWING` standard deviations beyond chance: the daily rhythm). While the mean stays inside the band,
alarms of all signals together come once in `days` days or less often, on average (`abtest.stats.edetector`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from abtest.lineage.signals import Hourly
from abtest.results import ToDict
from abtest.stats.betting import Bets, bet_grid
from abtest.stats.edetector import DriftResult, detect, log_increments
from abtest.stats.numerics import Array

BASELINE_HOURS = 72
BASELINE_UNITS = 200
Z = 3.0
SWING = 2.0
_TUNING = 1e-4
_SPREAD = 1e-9


@dataclass(frozen=True)
class Baseline(ToDict):
    """What a signal was in the beginning: mean of units, the band around it, and how many units a day there were."""

    mean: float
    lower: float
    upper: float
    units: int
    units_a_day: float


@dataclass(frozen=True)
class Shift(ToDict):
    """A change that was found in one signal.

    Attributes:
        signal: Index of the signal.
        hour: Hour of the alarm, an index of the series.
        begin: Hour in which it most likely began.
        before, after: Share of calls before and since, until the alarm.
        detector: What the detector saw.
    """

    signal: int
    hour: int
    begin: int
    before: float
    after: float
    detector: DriftResult


def baseline_of(cells: npt.NDArray[np.int64], first: int, hours: int) -> Baseline | None:
    """Return the baseline of one signal from its cells in the hours first..first+hours-1; None with too few units.

    The swing is the variance of hourly means that chance does not explain (method of moments).
    """
    inside = cells[:, (cells[0] >= first) & (cells[0] < first + hours)]
    values, units = inside[2] / np.maximum(inside[1], 1), inside[3].astype(np.float64)
    n = float(units.sum())
    if n < BASELINE_UNITS:
        return None
    mean = float(values @ units / n)
    # Two made-up units, one with and one without: a signal that never was there still has a variance.
    smoothed = (mean * n + 1.0) / (n + 2.0)
    variance = max(float(units @ (values - mean) ** 2) / (n - 1.0), smoothed * (1.0 - smoothed) / n)
    n_hour = np.bincount(inside[0] - first, units, hours)
    sums = np.bincount(inside[0] - first, units * values, hours)
    there = n_hour > 0
    hourly = sums[there] / n_hour[there]
    freedom = float(there.sum() - 1)
    beyond = float(n_hour[there] @ (hourly - mean) ** 2) - variance * freedom
    weight = n - float((n_hour[there] ** 2).sum()) / n
    # Units explain variance * freedom, give or take sqrt(2 freedom): only what is beyond that is rhythm.
    swing = math.sqrt(max(beyond - Z * variance * math.sqrt(2.0 * freedom), 0.0) / weight) if weight > 0 else 0.0
    width = Z * math.sqrt(variance / n) + SWING * swing
    return Baseline(mean, max(mean - width, 0.0), min(mean + width, 1.0), int(n), n / max(hours / 24.0, 1.0 / 24.0))


def increments(cells: npt.NDArray[np.int64], base: Baseline, first: int, hours: int) -> tuple[Array, Array]:
    """Return log L of every hour and bet, shape (hours, bets), and the log weights: half bet on more, half on less."""
    inside = cells[:, (cells[0] >= first) & (cells[0] < first + hours)]
    values, where = np.unique(inside[2] / np.maximum(inside[1], 1), return_inverse=True)
    counts = np.zeros((hours, max(values.size, 1)))
    np.add.at(counts, (inside[0] - first, where), inside[3])
    values = values if values.size else np.zeros(1)
    parts: list[Array] = []
    weights: list[Array] = []
    for side, edge in (("larger", base.upper), ("smaller", base.lower)):
        bets = _bets(base, side, edge)
        if bets is not None:
            parts.append(log_increments(values, counts, bets, baseline=edge))
            weights.append(bets.log_weights)
    if not parts:  # a band from 0 to 1: nothing could be a change
        return np.zeros((hours, 1)), np.zeros(1)
    return np.concatenate(parts, axis=-1), np.concatenate(weights)


def shifts(series: Hourly, *, days: float, start: int = 0) -> list[Shift]:
    """Return the changes of all signals, in the order of their alarms; after each one the watch begins anew.

    Args:
        series: Signals by hour.
        days: Average number of days between false alarms, of all signals together.
        start: Hour in which the baseline begins.
    """
    found: list[Shift] = []
    for j in range(len(series.signals)):
        begin = start
        while (shift := next_shift(series, j, begin, days=days)) is not None:
            found.append(shift)
            begin = shift.hour + 1
    return sorted(found, key=lambda s: (s.hour, s.signal))


def next_shift(series: Hourly, j: int, start: int, *, days: float) -> Shift | None:
    """Return the first change of a signal after a baseline that begins in hour `start`.

    An alarm while the calls since the change lie inside the band is none (the detector grows a little in silence, too): the
    watch goes on with the same baseline. Leaving alarms out makes them no more frequent than declared.
    """
    base = baseline_of(series.cells[j], start, BASELINE_HOURS)
    watched = start + BASELINE_HOURS
    while base is not None and watched < series.hours:
        steps, weights = increments(series.cells[j], base, watched, series.hours - watched)
        result = detect(steps, days=days * len(series.signals), batches_per_day=24.0, log_weights=weights)
        if not result.alarm or result.batch is None:
            return None
        hour = watched + result.batch
        calls, events = series.calls[j, watched : hour + 1], series.events[j, watched : hour + 1]
        begin = watched + split(calls, events, base.mean)
        after = share(series.calls[j, begin : hour + 1], series.events[j, begin : hour + 1])
        if not base.lower <= after <= base.upper:
            before = share(series.calls[j, start:begin], series.events[j, start:begin])
            return Shift(j, hour, begin, before, after, result)
        watched = hour + 1
    return None


def split(calls: npt.NDArray[np.int64], events: npt.NDArray[np.int64], before: float) -> int:
    """Return where a series most likely left `before` for another share: the split of largest binomial likelihood."""
    return int(np.argmax(_gains(calls, events, before)))


def split_range(calls: npt.NDArray[np.int64], events: npt.NDArray[np.int64], before: float) -> tuple[int, int, int]:
    """Return the most likely split, and the earliest and the latest that are nearly as likely (2 units of log likelihood)."""
    gains = _gains(calls, events, before)
    best = int(np.argmax(gains))
    near = np.flatnonzero(gains >= gains[best] - 2.0)
    return best, int(near[0]), int(near[-1])


def _gains(calls: npt.NDArray[np.int64], events: npt.NDArray[np.int64], before: float) -> Array:
    """Return the log likelihood of a split before each place, above that of none."""
    n, k = calls[::-1].cumsum()[::-1].astype(np.float64), events[::-1].cumsum()[::-1].astype(np.float64)
    p0 = min(max(before, 1.0 / (n[0] + 2.0)), 1.0 - 1.0 / (n[0] + 2.0))
    p1 = np.clip(k / np.maximum(n, 1.0), _SPREAD, 1.0 - _SPREAD)
    return np.asarray(k * np.log(p1 / p0) + (n - k) * np.log((1.0 - p1) / (1.0 - p0)))


def share(calls: npt.NDArray[np.int64] | Sequence[int], events: npt.NDArray[np.int64] | Sequence[int]) -> float:
    """Return events / calls; 0 without calls."""
    n = int(np.sum(calls))
    return int(np.sum(events)) / n if n else 0.0


def _bets(base: Baseline, side: str, edge: float) -> Bets | None:
    """Return bets on one side of the band, tuned to a day's units; None where nothing lies beyond it."""
    if (side == "larger" and edge >= 1.0) or (side == "smaller" and edge <= 0.0):
        return None
    variance = max(edge * (1.0 - edge), _SPREAD)
    bound = max(edge, 1.0 - edge)
    return bet_grid(max(base.units_a_day, 1.0), variance, _TUNING, bound, alternative=side)  # type: ignore[arg-type]
