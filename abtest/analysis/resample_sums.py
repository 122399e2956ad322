"""Sums of pseudo-arms at every look of a stage at once, and what the tests say about them.

This is a screen, fast and exact up to rounding: it finds the looks at which a decision may fall. What is decided there is said
by the product's own judge and rules, on integers (`resample_evidence`). The tests are the judge's: the same score, the same
bounds of the variance, the same tunings and levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from abtest.analysis.constants import MIN_TAIL, fractions_of, tunings
from abtest.analysis.evidence import Evidence, Stratum
from abtest.analysis.judge import MIN_UNITS, harm_alpha, tested_margin
from abtest.analysis.rare import PAST_MARGIN_Z, takes_rate_ratio
from abtest.analysis.resample import Ints, Rows
from abtest.analysis.resample_harm import Bent, Run
from abtest.analysis.shape import shape_of
from abtest.metrics.base import MetricSpec
from abtest.metrics.distribution import DistributionMetric
from abtest.metrics.quantile import QuantileMetric
from abtest.stats.mixture import log_e_one_sided, log_e_two_sided
from abtest.stats.score import PairSums, StratifiedScore, stratified_score
from abtest.stats.score_bounds import MarginCurve, margin_curve

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
SLACK = 1e-6
"""A look is taken up when log E is this close below its threshold: the judge decides, not the screen."""


@dataclass(frozen=True)
class Ramp:
    """The stages so far: the hour in which each began and its share; the last one runs."""

    starts: tuple[int, ...]
    shares: tuple[float, ...]

    @property
    def stages(self) -> int:
        """Return how many there are."""
        return len(self.starts)

    def span(self, stage: int) -> tuple[int, int]:
        """Return the first hour of a stage and the one after its last."""
        return self.starts[stage], self.starts[stage + 1] if stage + 1 < self.stages else 1 << 40


@dataclass(frozen=True)
class Screened:
    """What may be decided about a metric, by look: harm proven, harm possible by first events, safe, better than control."""

    harm: Bools
    rare: Bools
    safe: Bools
    better: Bools


@dataclass(frozen=True)
class _Cell:
    """What units gained in a stage: rows with what each unit had after (a) and before (b) them, centred, natural units."""

    unit: Ints
    seen: Ints
    ax: Floats
    ay: Floats
    bx: Floats
    by: Floats

    def total(self, units: int) -> tuple[Floats, Floats]:
        """Return (units,) what each unit had in the end."""
        x = _summed(self.unit, self.ax - self.bx, units)
        return x, _summed(self.unit, self.ay - self.by, units)


class Screen:
    """The tests of one run in one stage of the ramp, at the given looks.

    Args:
        run: The pseudo-arms.
        ramp: The stages so far.
        looks: (B,) hours at whose end somebody looks, all of them in the last stage; at least one.
        strata: The stages as the evidence has them.
    """

    def __init__(self, run: Run, ramp: Ramp, looks: Ints, strata: Sequence[Stratum]) -> None:
        self.run, self.ramp, self.looks, self.strata = run, ramp, looks, strata
        self._arms = [run.treated(q) for q in ramp.shares]
        # Earlier stages end with a look whose variance holds; then come the looks of the stage that runs.
        self.latches = np.arange(ramp.stages - 1 + len(looks)) < ramp.stages - 1

    def metric(self, j: int) -> Screened:
        """Return what may be decided about metric number `j`."""
        baseline = self.run.baseline
        spec = baseline.experiment.metrics[j]
        never = np.zeros(len(self.looks), dtype=bool)
        if j not in baseline.measures:
            return Screened(never, never, never, never)
        if isinstance(spec, DistributionMetric):
            return self._shape(j, spec)
        shares = self._shares
        score = stratified_score(
            self.sums(j), shares, better=spec.better, proportion=spec.kind in ("proportion", "quantile"), latches=self.latches
        )  # fmt: skip
        kind, tested = tested_margin(spec)
        curve = margin_curve(score, kind, tested)
        enough = self._enough(spec, score)
        harm, safe, better = self._tests(spec, curve, score, enough)
        s, v = curve.at(curve.tested)
        rare = np.zeros_like(harm)
        if takes_rate_ratio(spec) and None not in shares:
            rare = (s > (PAST_MARGIN_Z - SLACK) * np.sqrt(np.maximum(v, 0.0))) & (s > 0)
        last = slice(self.ramp.stages - 1, None)
        return Screened(harm[last], rare[last], safe[last], better[last])

    @property
    def _shares(self) -> list[float | None]:
        return [s.share for s in self.strata]

    def _tests(
        self, spec: MetricSpec, curve: MarginCurve, score: StratifiedScore, enough: Bools
    ) -> tuple[Bools, Bools, Bools]:
        """Return where the tests of harm, of safety and of "better" reach their levels."""
        experiment = self.run.baseline.experiment
        alpha, level = float(experiment.alpha), self._level(spec)
        s, v = curve.at(curve.tested)
        plain = curve if curve.kind == "absolute" else margin_curve(score, "absolute", 0.0)
        s0, v0 = plain.at(0.0)
        if experiment.sequential.method == "fixed" and not isinstance(spec, QuantileMetric):
            z, z0 = (a / np.sqrt(np.where(b > 0, b, np.inf)) for a, b in ((s, v), (s0, v0)))
            limits = [float(special.ndtri(1 - a)) - SLACK for a in (level, alpha, alpha / 2)]
            return enough & (z >= limits[0]), enough & (-z >= limits[1]), enough & (-z0 >= limits[2])
        frozen = self.run.baseline.frozen.get(spec.name, {})
        fractions = fractions_of(experiment, self.strata)
        harm_rho2 = tunings(spec, frozen, level, fractions, one_sided=True)
        safe_rho2 = tunings(spec, frozen, alpha, fractions, one_sided=True)
        rho2 = tunings(spec, frozen, alpha, fractions, one_sided=False)
        if harm_rho2 is None or safe_rho2 is None or rho2 is None:
            never = np.zeros(s.shape, dtype=bool)
            return never, never, never
        one, other = -np.log(level) - SLACK, -np.log(alpha) - SLACK
        return (
            enough & (s > 0) & (log_e_one_sided(s, v, harm_rho2) >= one),
            enough & (s < 0) & (log_e_one_sided(-s, v, safe_rho2) >= other),
            enough & (s0 < 0) & (log_e_two_sided(s0, v0, rho2) >= other),
        )

    def _level(self, spec: MetricSpec) -> float:
        blank = _Lent(self.run.baseline.experiment, self.run.baseline.scan, tuple(self.strata), None, 0, {}, ())
        return harm_alpha(blank, spec, shared=takes_rate_ratio(spec))

    def _enough(self, spec: MetricSpec, score: StratifiedScore) -> Bools:
        """Return the looks at which the judge would not say "insufficient"."""
        units = (score.sums.units * score.used).max(axis=1).min(axis=0)
        enough = units >= MIN_UNITS
        if isinstance(spec, QuantileMetric):
            rows = score.sums.y.sum(axis=1).min(axis=0)
            enough &= rows * min(spec.q, 1 - spec.q) >= MIN_TAIL
        return enough & self._known(spec)

    def _known(self, spec: MetricSpec) -> Bools:
        """Return the looks at which the metric's constants are frozen."""
        since = self.run.baseline.frozen_us.get(spec.name, 0)
        ends = np.array([self.run.baseline.end_us(int(hour)) for hour in self.looks], dtype=np.int64)
        return np.concatenate([np.ones(self.ramp.stages - 1, dtype=bool), ends >= since])

    def _shape(self, j: int, spec: DistributionMetric) -> Screened:
        baseline = self.run.baseline
        lent = _Lent(baseline.experiment, baseline.scan, tuple(self.strata), None, 0, baseline.frozen, ())
        lent.known.update({k: self.sums(k) for k in (j, *baseline.experiment.parts_of(j))})
        shape = shape_of([lent], j, baseline.experiment.treatments[0], self.latches)
        units = lent.known[j].units.max(axis=1).min(axis=0)
        enough = ((units >= MIN_UNITS) & self._known(spec))[self.ramp.stages - 1 :]
        never = np.zeros(len(self.looks), dtype=bool)
        margin = spec.guardrail.margin.value if spec.guardrail else np.inf
        last = slice(self.ramp.stages - 1, None)
        return Screened(
            enough & (shape.harm_lower[last] > margin * (1 - SLACK)), never,
            enough & (shape.harm_upper[last] < margin * (1 + SLACK)), never,
        )  # fmt: skip

    # -- sums ----------------------------------------------------------------------------------------------------

    @cached_property
    def units(self) -> Floats:
        """Return (2, K, B) units seen by each look."""
        calls = self.run.baseline.calls
        out = np.zeros((2, self.ramp.stages, len(self.latches)))
        for k in range(self.ramp.stages):
            low, high = self.ramp.span(k)
            at = np.flatnonzero((calls.hour >= low) & (calls.hour < high))
            unit = calls.unit[at]
            first = at[np.r_[True, unit[1:] != unit[:-1]]] if len(at) else at
            self._spread(
                out, k, self._over_time(calls.hour[first], self._arms[k][calls.unit[first]], np.ones(len(first)))
            )
        return out

    def sums(self, j: int) -> PairSums:
        """Return the sums of measure `j` at the ends of earlier stages and at every look."""
        ramp, n = self.ramp, self.run.baseline.units
        cells = [self._cell(j, k) for k in range(ramp.stages)]
        single = {name: np.zeros((2, ramp.stages, len(self.latches))) for name in "xy"}
        double = {
            name: np.zeros((2, ramp.stages, 2, ramp.stages, len(self.latches))) for name in ("xx", "xy", "yx", "yy")
        }
        for k, cell in enumerate(cells):
            arm = self._arms[k][cell.unit]
            for name, gain in (("x", cell.ax - cell.bx), ("y", cell.ay - cell.by)):
                self._spread(single[name], k, self._over_time(cell.seen, arm, gain))
            for name, gain in (
                ("xx", cell.ax * cell.ax - cell.bx * cell.bx),
                ("xy", cell.ax * cell.ay - cell.bx * cell.by),
                ("yy", cell.ay * cell.ay - cell.by * cell.by),
            ):
                own = np.zeros((2, ramp.stages, len(self.latches)))
                self._spread(own, k, self._over_time(cell.seen, arm, gain))
                for a in (0, 1):
                    double[name][a, k, a, k] = own[a, k]
                    if name == "xy":
                        double["yx"][a, k, a, k] = own[a, k]
        totals = [cell.total(n) for cell in cells[:-1]]
        for m in range(1, ramp.stages):
            for k in range(m):
                self._across(double, k, m, totals[k], cells[m])
        return PairSums(units=self.units, x=single["x"], y=single["y"], **double, centre=self._centre(j))

    def _across(self, double: dict[str, Floats], k: int, m: int, earlier: tuple[Floats, Floats], cell: _Cell) -> None:
        """Add the products of an earlier stage (what its units had in the end) with what they gained in a later one."""
        before, after = self._arms[k][cell.unit], self._arms[m][cell.unit]
        pair = before.astype(np.int64) * 2 + after
        gains = {"x": cell.ax - cell.bx, "y": cell.ay - cell.by}
        for a, past in zip("xy", earlier, strict=True):
            for b, gain in gains.items():
                found = self._over_time(cell.seen, pair, past[cell.unit] * gain, ways=4)
                for way in range(4):
                    spread = np.zeros((1, self.ramp.stages, len(self.latches)))
                    self._spread(spread, m, found[way : way + 1])
                    double[a + b][way // 2, k, way % 2, m] = spread[0, m]

    def _centre(self, j: int) -> float:
        columns = self.run.baseline.measures[j]
        rows = self.run.baseline.tables[columns.table]
        y = int(rows.columns[columns.y].sum())
        return int(rows.columns[columns.x].sum()) / y * columns.y_scale / columns.x_scale if y else 0.0

    def _cell(self, j: int, stage: int) -> _Cell:
        run, columns = self.run, self.run.baseline.measures[j]
        span, bent = self.ramp.span(stage), run.bent.get(j)
        plain = self._grown(j, columns.x, span)
        if bent is None and columns.treated == columns.x:
            return plain
        # In the treatment the numerators are others; the rows and what they are known from are the same.
        rows = run.baseline.tables[columns.table]
        other = self._grown(j, columns.treated, span) if bent is None else self._bent(j, bent, span, rows)
        treated = self._arms[stage][plain.unit]
        return replace(plain, ax=np.where(treated, other.ax, plain.ax), bx=np.where(treated, other.bx, plain.bx))

    def _grown(self, j: int, x: str, span: tuple[int, int]) -> _Cell:
        """Return what every unit gained in a stretch of time; all runs begin alike, so the first stage is kept."""
        baseline = self.run.baseline
        key = (j, x, span)
        if key in baseline.cache:
            return baseline.cache[key]
        columns = baseline.measures[j]
        rows = baseline.tables[columns.table]
        at = np.flatnonzero((rows.hour >= span[0]) & (rows.hour < span[1]))
        unit = rows.unit[at]
        x_now = running(unit, rows.columns[x][at], cap=columns.cap_x)
        y_now = running(unit, rows.columns[columns.y][at], cap=columns.cap_y)
        cell = self._centred(j, unit, rows.seen[at], x_now, y_now)
        if span == (0, Ramp((0,), (0.5,)).span(0)[1]):
            baseline.cache[key] = cell
        return cell

    def _bent(self, j: int, bent: Bent, span: tuple[int, int], rows: Rows) -> _Cell:
        columns = self.run.baseline.measures[j]
        at = np.flatnonzero((rows.hour >= span[0]) & (rows.hour < span[1]))
        unit = rows.unit[at]
        x_now = running(unit, bent.rows[at], cap=columns.cap_x)
        y_now = running(unit, rows.columns[columns.y][at], cap=columns.cap_y)
        harmed = (bent.of(x_now[0], y_now[0]), bent.of(x_now[1], y_now[1]))
        return self._centred(j, unit, rows.seen[at], harmed, y_now)

    def _centred(self, j: int, unit: Ints, seen: Ints, x: tuple[Ints, Ints], y: tuple[Ints, Ints]) -> _Cell:
        columns, centre = self.run.baseline.measures[j], self._centre(j)
        (ax, bx), (ay, by) = ([v / scale for v in pair] for pair, scale in ((x, columns.x_scale), (y, columns.y_scale)))
        return _Cell(unit, seen, ax - centre * ay, ay, bx - centre * by, by)

    def _over_time(self, seen: Ints, arm: NDArray[np.generic], gain: Floats, *, ways: int = 2) -> Floats:
        """Return (ways, 1 + looks): the sum of everything, then what had come together by each look."""
        last = int(self.looks[-1]) + 1
        late = np.minimum(seen, last)
        table = np.bincount(late * ways + arm, weights=gain, minlength=(last + 1) * ways)
        running = table.reshape(last + 1, ways).cumsum(axis=0).T
        return np.concatenate([running[:, -1:], running[:, self.looks]], axis=1)

    def _spread(self, out: Floats, stage: int, found: Floats) -> None:
        """Put what `_over_time` found into (arms, stages, looks): a stage that is over holds its sum at all later looks."""
        ended = self.ramp.stages - 1
        if stage < ended:
            out[:, stage, stage:] = found[:, :1]
        else:
            out[:, stage, ended:] = found[:, 1:]


class _Lent(Evidence):
    """Evidence that knows its sums already; it lends the judge's functions what they ask for."""

    @cached_property
    def known(self) -> dict[int, PairSums]:
        """Return the sums by measure."""
        return {}

    def pair_sums(self, metric: int, treatment: str) -> PairSums:
        """Return the sums of one measure."""
        del treatment
        return self.known[metric]


def _summed(unit: Ints, gain: Floats, units: int) -> Floats:
    return np.asarray(np.bincount(unit, weights=gain, minlength=units), dtype=np.float64)


def running(unit: Ints, own: NDArray[Any], *, cap: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what each unit had after and before each of its rows; rows of a unit stand together, in their order."""
    if not len(unit):
        return own, own
    total = np.cumsum(own)
    first = np.r_[True, unit[1:] != unit[:-1]]
    start = (total - own)[first]
    after = total - start[np.cumsum(first) - 1]
    before = after - own
    return (np.minimum(after, 1), np.minimum(before, 1)) if cap else (after, before)
