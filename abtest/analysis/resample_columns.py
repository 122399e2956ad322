"""The SQL of the baseline's columns: what each metric reads off an hour of a unit, and under an injected harm.

Metrics are read in groups that are late in the same way: most are known when the call is, scores when they arrive, and a
metric with `mature_after` when the call is old enough.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from abtest.metrics.base import MetricSpec
from abtest.metrics.distribution import DistributionMetric
from abtest.metrics.quantile import QuantileMetric
from abtest.spec import Experiment
from abtest.store.moments import more
from abtest.store.query import HOUR_US, RESOLUTION, Params, Query, Scan, fill, query
from abtest.store.rows import REQUEST, Tally

if TYPE_CHECKING:
    from abtest.analysis.resample import Rows

Delay = tuple[int | None, int]
"""The metric whose scores are waited for (None: no scores), and how old a call must be, in microseconds."""


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of one contrast.

    Attributes:
        control, treatment: What a value is compared with, by arm.
        harmed: multiple -> treatment's threshold that counts what the values, scaled by the harm, would count.
        scale: multiple -> that scale of the values.
    """

    control: float
    treatment: float
    harmed: Mapping[float, float]
    scale: Mapping[float, float]


@dataclass(frozen=True)
class MeasureColumns:
    """Where the numbers of a measure stand.

    Attributes:
        table: Which table.
        x, y: Columns of numerator and denominator; "" counts nothing (a numerator that is always zero).
        treated: Numerator in the treatment arm, where it is another column.
        harmed: multiple -> numerator in the treatment arm under that harm.
        cap_x, cap_y: A unit counts at most once.
        x_scale, y_scale: Fixed-point scales.
    """

    table: int
    x: str
    y: str
    treated: str
    harmed: Mapping[float, str]
    cap_x: bool
    cap_y: bool
    x_scale: int
    y_scale: int


class Columns:
    """The columns of a scan, with those that an injected harm needs."""

    def __init__(self, scan: Scan, thresholds: Mapping[int, Thresholds]) -> None:
        self.scan = scan
        self.params = scan.params()
        self._names: dict[Tally, str] = {}
        self._x: dict[int, str] = {}
        self._y: dict[int, str] = {}
        self._extra: dict[int, dict[float, str]] = {}
        self._thresholds = thresholds
        if not thresholds and not scan.active:
            return
        for k in scan.active:
            row = scan.row(k, self.params, any_age=True)
            self._x[k], self._y[k] = self._name(row.x), self._name(row.y)
            self._extra[k] = {}
            found = thresholds.get(k)
            if found:
                for limit in {found.control, found.treatment, *found.harmed.values()}:
                    one = scan.at(limits={k: (limit, limit)}).row(k, self.params, any_age=True)
                    self._extra[k][limit] = self._name(one.x)
                self._x[k] = self._extra[k][found.control]

    def _name(self, tally: Tally) -> str:
        return self._names.setdefault(tally, f"t{len(self._names)}")

    def groups(self) -> list[tuple[Delay, list[int]]]:
        """Return the measures by how late they are known."""
        found: dict[Delay, list[int]] = {}
        for k in self.scan.active:
            measure = self.scan.measures[k]
            late = k if measure.score and self.scan.facts.scores else None
            found.setdefault((late, measure.mature_us or 0), []).append(k)
        return list(found.items())

    def names(self, k: int, table: int) -> MeasureColumns:
        """Return where the numbers of measure `k` stand."""
        measure, limits = self.scan.measures[k], self._thresholds.get(k)
        extra = self._extra[k]
        return MeasureColumns(
            table=table, x=self._x[k], y=self._y[k],
            treated=extra[limits.treatment] if limits else self._x[k],
            harmed={m: extra[limit] for m, limit in limits.harmed.items()} if limits else {},
            cap_x=measure.cap_at_one, cap_y=measure.per_unit_total,
            x_scale=1 if measure.event or measure.quantile else measure.scale, y_scale=measure.denominator_scale,
        )  # fmt: skip

    def hours(self, delay: Delay | None, members: Sequence[int] = ()) -> Query:
        """Return the query of these measures' numbers by unit and hour; without members: of the calls alone."""
        params = Params(self.params)
        wanted = {n for k in members for n in (self._x[k], self._y[k], *self._extra[k].values())}
        tallies = {name: tally for tally, name in self._names.items() if name in wanted}
        totals = [f"{tally.total(f'r.{name}')} as {name}" for name, tally in tallies.items()]
        seen, arrival = self._seen(delay or (None, 0), params)
        calls = self.scan.calls(params, {**tallies, **arrival})
        params["grid"] = HOUR_US
        params["control"] = self.scan.arms[0]
        return query(fill("calibrate_hour", seen=seen, totals=more(totals), calls=calls), params)

    def values(self, j: int) -> Query:
        """Return the query of the histogram of a value by unit and hour."""
        params = Params(self.scan.params())
        value = self.scan.row(j, params, any_age=True).value
        assert value is not None
        seen, arrival = self._seen((None, self.scan.measures[j].mature_us or 0), params)
        calls = self.scan.calls(params, {"value": value, **arrival})
        params.update(grid=HOUR_US, resolution=RESOLUTION, control=self.scan.arms[0])
        return query(fill("calibrate_value", seen=seen, calls=calls), params)

    def arrivals(self) -> Query:
        """Return the query of the scores with the moment at which the last of them came; it reads `calibrate_scored`."""
        scan, params = self.scan, Params(max_file=self.scan.max_file, as_of=self.scan.as_of_us)
        latest: list[str] = []
        for j in scan.scored:
            measure = scan.measures[j]
            match = f"s.name = {params.bind('score', measure.score)}"
            if measure.scorer_kind:
                match += f" and s.scorer_kind = {params.bind('scorer', measure.scorer_kind)}"
            latest.append(f"max(case when {match} then coalesce(s.updated_us, s.ts_us) end) as at{j}")
        names = params.bind_all("score", sorted({str(scan.measures[j].score) for j in scan.scored}))
        return query(fill(
            "calibrate_arrival", arrivals="".join(f", a.at{j}" for j in scan.scored), latest=more(latest), names=names,
            score_target=scan.score_target(),
        ), params)  # fmt: skip

    def _seen(self, delay: Delay, params: Params) -> tuple[str, dict[str, Tally]]:
        """Return the expression of the moment at which a row is known, and what it reads besides."""
        scored, age = delay
        moment = "r.head_us" if not age else f"r.head_us + {params.bind('age', age)}"
        if scored is None:
            return moment, {}
        over = f"max(s.at{scored}) {REQUEST}" if self.scan.measures[scored].event else f"s.at{scored}"
        tally = Tally(f"s.at{scored}", over, "whole", scored=True)
        return f"greatest({moment}, coalesce(r.arrived, r.head_us))", {"arrived": tally}


# -- thresholds --------------------------------------------------------------------------------------------------


def thresholds_of(
    experiment: Experiment,
    scan: Scan,
    frozen: Mapping[str, Mapping[str, float]],
    values: Mapping[int, Rows],
    multiples: Sequence[float],
) -> dict[int, Thresholds]:
    """Return the thresholds of every contrast, with those that count what harmed values would count.

    A value scaled by f is above the threshold t exactly when the value is above t / f, so an injected harm needs no other rows.
    """
    out: dict[int, Thresholds] = {}
    for j, spec in enumerate(experiment.metrics):
        if j not in scan.limits:
            continue
        scale = {m: f for m in multiples if (f := harm_scale(spec, frozen, values.get(j), m)) is not None}
        for k in (j, *experiment.parts_of(j)):
            control, treatment = scan.limits[k]
            out[k] = Thresholds(control, treatment, {m: treatment / f for m, f in scale.items()}, scale)
    return out


def harm_scale(
    spec: MetricSpec, frozen: Mapping[str, Mapping[str, float]], values: Rows | None, multiple: float
) -> float | None:
    """Return what values are multiplied by for a harm of so many margins; None where there is no such number."""
    if spec.guardrail is None:
        return None
    margin = spec.guardrail.margin
    if isinstance(spec, QuantileMetric):
        relative = margin.value if margin.kind == "relative" else margin.value / frozen[spec.name]["threshold"]
        factor = 1 + spec.sign * multiple * relative
        return factor if factor > 0 else None
    if isinstance(spec, DistributionMetric) and values is not None:
        return _shifted(frozen[spec.name], values, multiple * margin.value)
    return None


def _shifted(frozen: Mapping[str, float], values: Rows, distance: float) -> float | None:
    """Return the factor that moves the share above some threshold of the distribution by `distance`, by bisection."""
    buckets, counts = values.columns["value_bucket"], values.columns["n"]
    order = np.argsort(buckets, kind="stable")
    at, share = buckets[order], np.cumsum(counts[order]) / max(int(counts.sum()), 1)
    limits = np.array([v for name, v in frozen.items() if name.startswith("threshold") and v > 0])

    def moved(log_factor: float) -> float:
        def below(shift: float) -> Any:
            found = np.searchsorted(at, np.log(limits) * RESOLUTION - shift * RESOLUTION, side="right")
            return np.where(found > 0, share[np.maximum(found - 1, 0)], 0.0)

        return float(np.max(np.abs(below(log_factor) - below(0.0)))) if limits.size else 0.0

    low, high = 0.0, math.log(1000.0)
    if moved(high) < distance:
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if moved(middle) >= distance else (middle, high)
    return math.exp(high)
