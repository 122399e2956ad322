"""Frozen constants: what tunes the tests, fixed once per revision so that looking often cannot move the goal posts.

From the spec (`frozen = {...}` of a metric), else from the warm-up: control's calls up to the moment its n-th unit arrived
(n = 200 by default; for a quantile q doubled until 20 calls lie above it). They are a function of the logs alone, not of
when somebody looked, and enter the policy hash.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from abtest.analysis.tables import prepare
from abtest.metrics.base import MetricSpec
from abtest.metrics.distribution import GRID, DistributionMetric, threshold_name
from abtest.metrics.quantile import QuantileMetric
from abtest.spec import Experiment
from abtest.stats.mixture import tuning
from abtest.stats.quantiles import histogram_quantile
from abtest.store.engines.base import Engine
from abtest.store.moments import Layout
from abtest.store.query import HOUR_US, RESOLUTION, Scan
from abtest.store.store import Store

if TYPE_CHECKING:
    from abtest.analysis.evidence import Stratum

MIN_TAIL = 20
"""Calls above a quantile before it can be frozen or judged (STATISTICS §6)."""
DAY_US = 24 * HOUR_US
NO_LOGARITHM = -1_000_000
"""The bucket of values of zero and below in sql/histogram.sql."""
_PLANNED_POWER = 0.8
_TINY = 1e-12

Frozen = dict[str, dict[str, float]]


def freeze(
    store: Store, engine: Engine, experiment: Experiment, scan: Scan
) -> tuple[Frozen, dict[int, tuple[float, float]], dict[int, float]]:
    """Return the frozen constants, taking from the warm-up (and writing down) what is missing.

    Returns:
        metric -> name -> value; per quantile metric (and contrast of a distribution), its thresholds (control's, treatment's);
        per metric with a cap that is a quantile, the cap.
    """
    known: Frozen = {m.name: _given(m) for m in experiment.metrics}
    for metric, values in store.frozen(
        experiment.id, experiment.revision, as_of_us=scan.as_of_us, max_file=scan.max_file
    ).items():
        known[metric] = {**values, **known.get(metric, {})}
    missing = [m for m in experiment.metrics if not _complete(m, known.get(m.name, {}))]
    if missing:
        _WarmUp(store, engine, experiment, scan, known).freeze(missing)
    limits: dict[int, tuple[float, float]] = {}
    for j, m in enumerate(experiment.metrics):
        values = known.get(m.name, {})
        if isinstance(m, QuantileMetric) and _complete(m, values):
            limits[j] = _thresholds(m, values["threshold"])
        if isinstance(m, DistributionMetric) and _complete(m, values):
            for k, q in zip((j, *experiment.parts_of(j)), GRID, strict=True):
                limits[k] = (values[threshold_name(q)], values[threshold_name(q)])
    return {k: v for k, v in known.items() if v}, limits, _caps(experiment, scan, known)


def _caps(experiment: Experiment, scan: Scan, known: Frozen) -> dict[int, float]:
    return {
        j: known[m.name]["cap"]
        for j, m in enumerate(experiment.metrics)
        if scan.measures[j].cap_quantile is not None and "cap" in known.get(m.name, {})
    }


def tunings(
    metric: MetricSpec, frozen: Mapping[str, float], alpha: float, fractions: Sequence[float], *, one_sided: bool
) -> np.ndarray | None:
    """Return rho^2 for each planned stage end (STATISTICS §2), or None while the constants are not frozen.

    The planned clock at the end is where a harm (or an improvement) of one margin is found with power 0.8 by a fixed test:
    v* = sigma^4 (z_alpha + z_beta)^2 / d^2, sigma^2 the variance a unit of weight; earlier stages have their fraction of it.
    """
    if not _complete(metric, frozen):
        return None
    variance, distance = _variance(metric, frozen), _distance(metric, frozen)
    return tuning_for(variance, distance, alpha, fractions, one_sided=one_sided)


def tuning_for(
    variance: float, distance: float, alpha: float, fractions: Sequence[float], *, one_sided: bool
) -> np.ndarray:
    """Return rho^2 for each planned stage end from the variance a unit of weight and the difference worth finding."""
    z = float(special.ndtri(1 - (alpha if one_sided else alpha / 2)) + special.ndtri(_PLANNED_POWER))
    v_star = max(variance * variance * z * z / (distance * distance), _TINY * _TINY)
    return tuning([v_star * f for f in fractions], alpha, one_sided=one_sided)


def fractions_of(experiment: Experiment, strata: Sequence[Stratum]) -> list[float]:
    """Return how far the clock has come at the end of each planned stage, as a share of the end of the last.

    Stages are taken to last as long as their `min_hours` say (else equally long): information grows like share·(1 - share).
    """
    shares = [(s.share, s.min_hours or 24.0) for s in experiment.ramp if s.share is not None] or [
        (s.share, 24.0) for s in strata if s.share is not None
    ]
    gains = list(np.cumsum([q * (1 - q) * hours for q, hours in shares])) or [1.0]
    return [max(float(g / gains[-1]), 1e-3) for g in gains]


def _given(metric: MetricSpec) -> dict[str, float]:
    return {k: float(v) for k, v in metric.frozen.model_dump().items() if v is not None}


def _cap_quantile(metric: MetricSpec) -> float | None:
    cap = getattr(metric, "cap", None)
    return cap.quantile if cap else None


def _complete(metric: MetricSpec, values: Mapping[str, float]) -> bool:
    if isinstance(metric, QuantileMetric):
        return "threshold" in values
    if isinstance(metric, DistributionMetric):
        return all(threshold_name(q) in values for q in GRID)
    needed = {"variance", "baseline"} | ({"cap"} if _cap_quantile(metric) is not None else set[str]())
    return needed <= set(values)


def _thresholds(metric: MetricSpec, threshold: float) -> tuple[float, float]:
    """Return what control and treatment must exceed: the treatment's is one margin worse."""
    if metric.guardrail is None:
        return threshold, threshold
    margin = metric.guardrail.margin
    if margin.kind == "relative":
        return threshold, threshold * (1 + metric.sign * margin.value)
    return threshold, threshold + metric.sign * margin.value


class _WarmUp:
    """Reads control's first units, once, and freezes what metrics need of them."""

    def __init__(self, store: Store, engine: Engine, experiment: Experiment, scan: Scan, known: Frozen) -> None:
        self._store, self._engine, self._experiment, self._scan, self._known = store, engine, experiment, scan, known
        self._layout = Layout(
            scan, [j for j, m in enumerate(scan.measures) if not m.quantile and m.cap_quantile is None]
        )
        prepare(engine, scan)
        self._arrived: dict[int, list[tuple[int, int]]] = {}
        self._index = {m.name: j for j, m in enumerate(experiment.metrics)}
        self._begin = int(
            engine.rows(
                "select coalesce(min(ts_us), 0) as t from interaction where ts_us >= $start", {"start": scan.start_us}
            )[0]["t"]
        )

    def freeze(self, missing: Sequence[MetricSpec]) -> None:
        """Add the constants of these metrics to what is known; quantiles and caps first, because moments depend on caps."""
        units = self._experiment.warm_up_units
        cutoff = self._cutoff(units)
        if cutoff is None:
            return
        for metric in missing:
            quantiles = _quantiles_of(metric)
            if quantiles:
                self._quantiles(metric, quantiles, units, cutoff)
        rest = [
            self._index[m.name]
            for m in missing
            if not isinstance(m, (QuantileMetric, DistributionMetric)) and self._mature(m, cutoff)
        ]
        caps = _caps(self._experiment, self._scan, self._known)
        layout = Layout(
            self._scan.at(caps=caps, wide=True),
            [j for j in rest if self._scan.measures[j].cap_quantile is None or j in caps],
        )
        if not layout.metrics:
            return
        row = self._engine.rows(*layout.warm_up_moments(cutoff))[0]
        for j in layout.metrics:
            values = _freeze_moments(row, self._scan, j)
            if values is not None:
                self._write(self._experiment.metrics[j], values, units, cutoff)

    def _mature(self, metric: MetricSpec, until: int) -> bool:
        """Return whether all of the warm-up is old enough: constants must not depend on when somebody looked."""
        return until + (metric.mature_us or 0) <= self._scan.as_of_us

    def _quantiles(self, metric: MetricSpec, quantiles: Mapping[str, float], units: int, cutoff: int) -> None:
        """Freeze quantiles of control's values; the warm-up is doubled until enough calls lie beyond each of them."""
        tail = min(min(q, 1 - q) for q in quantiles.values())
        zero_is_fine = isinstance(metric, DistributionMetric)  # "longer than nothing" is a share like any other
        until: int | None = cutoff
        while until is not None and self._mature(metric, until):
            rows = self._engine.rows(*self._layout.warm_up_histogram(self._index[metric.name], until))
            buckets, counts, below = split_histogram(rows)
            if (sum(counts) + below) * tail >= MIN_TAIL:
                found = {
                    name: histogram_quantile(np.array(buckets), np.array(counts), q, RESOLUTION, below=below)
                    for name, q in quantiles.items()
                }
                if all(value is not None and (value or zero_is_fine) for value in found.values()):
                    self._write(metric, {name: float(value or 0.0) for name, value in found.items()}, units, until)
                return
            units *= 2
            until = self._cutoff(units)

    def _cutoff(self, units: int) -> int | None:
        """Return the moment when control's n-th unit was seen for the first time; None when there are fewer.

        The first units come early: the logs are read up to a day after their beginning, then four times as far, and so on.
        """
        span = DAY_US
        while True:
            until = min(self._begin + span, self._scan.as_of_us)
            seen = 0
            for first_us, arrived in self._arrivals(until):
                seen += arrived
                if seen >= units:
                    return first_us
            if until >= self._scan.as_of_us:
                return None
            span *= 4

    def _arrivals(self, until: int) -> list[tuple[int, int]]:
        """Return when control's units were first seen, and how many then, up to a moment; every metric asks, one reads."""
        if until not in self._arrived:
            rows = self._engine.rows(*self._layout.warm_up_cutoff(until))
            self._arrived[until] = sorted((int(row["first_us"]), int(row["units"])) for row in rows)
        return self._arrived[until]

    def _write(self, metric: MetricSpec, values: Mapping[str, float], units: int, until: int) -> None:
        known = self._known.setdefault(metric.name, {})
        new = {k: v for k, v in values.items() if k not in known}
        known.update(new)
        if new and not self._store.read_only:
            self._store.freeze(
                self._experiment.id, self._experiment.revision, metric.name, new,
                watermark_us=until + (metric.mature_us or 0), file_id=self._scan.max_file,
                source=f"warm-up: the first {units} units of {self._experiment.control}",
            )  # fmt: skip


def _quantiles_of(metric: MetricSpec) -> dict[str, float]:
    """Return the quantiles of control that a metric needs, by the name of the constant."""
    if isinstance(metric, DistributionMetric):
        return {threshold_name(q): q for q in GRID}
    if isinstance(metric, QuantileMetric):
        return {"threshold": metric.q}
    q = _cap_quantile(metric)
    return {} if q is None else {"cap": q}


def _freeze_moments(row: Mapping[str, Any], scan: Scan, j: int) -> dict[str, float] | None:
    """Return baseline X/Y and the clustered variance per unit of denominator, Σ(x - ry)²/Y, from exact integers."""
    x, y = int(row[f"x{j}"]), int(row[f"y{j}"])
    if y == 0:
        return None
    measure = scan.measures[j]
    x_scale, y_scale = (1 if measure.event else measure.scale), measure.denominator_scale
    xx, xy, yy = (int(row[f"{c}{j}"]) for c in ("xx", "xy", "yy"))
    squares = (xx * y * y - 2 * x * y * xy + x * x * yy) / (y * y)
    return {"baseline": x / y * y_scale / x_scale, "variance": squares / y * y_scale / (x_scale * x_scale)}


def split_histogram(rows: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[int], int]:
    """Return buckets, counts, and how many values were zero or below (they have no logarithm)."""
    above = [(int(r["value_bucket"]), int(r["n"])) for r in rows if int(r["value_bucket"]) > NO_LOGARITHM]
    below = sum(int(r["n"]) for r in rows if int(r["value_bucket"]) <= NO_LOGARITHM)
    return [b for b, _ in above], [n for _, n in above], below


def _variance(metric: MetricSpec, frozen: Mapping[str, float]) -> float:
    if isinstance(metric, QuantileMetric):
        return 1.5 * metric.q * (1 - metric.q)  # 1.5: a usual design effect of calls within users; only tunes
    variance, baseline = frozen["variance"], frozen["baseline"]
    if metric.kind == "proportion":
        # The rare event may not have happened in the warm-up at all: at least what it would be at the margin.
        event = baseline if metric.sign > 0 else 1 - baseline
        rate = min(max(event, 0.0) + _distance(metric, frozen), 0.5)
        return max(variance, rate * (1 - rate))
    # What did not vary in the warm-up may still vary: tuned as if one standard deviation were worth finding.
    return variance if variance > 0 else max(_distance(metric, frozen) ** 2, _TINY)


def _distance(metric: MetricSpec, frozen: Mapping[str, float]) -> float:
    """Return the difference worth finding, in the metric's unit: the margin, the MDE, or 5 % of the baseline."""
    if isinstance(metric, QuantileMetric):
        return 0.5 * min(metric.q, 1 - metric.q)
    margin = metric.guardrail.margin if metric.guardrail else metric.success.mde if metric.success else None
    baseline = abs(frozen["baseline"])
    if margin is not None and margin.kind != "relative":
        return margin.value
    distance = (margin.value if margin else 0.05) * baseline
    return distance if distance > 0 else 0.1 * math.sqrt(max(frozen["variance"], _TINY))
