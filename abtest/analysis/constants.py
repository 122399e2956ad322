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

from abtest.metrics.base import MetricSpec
from abtest.metrics.quantile import QuantileMetric
from abtest.spec import Experiment
from abtest.stats.mixture import tuning
from abtest.stats.quantiles import histogram_quantile
from abtest.store.engines.base import Engine
from abtest.store.query import RESOLUTION, Scan, fill
from abtest.store.store import Store

if TYPE_CHECKING:
    from abtest.analysis.read import Stratum

MIN_TAIL = 20
"""Calls above a quantile before it can be frozen or judged (STATISTICS §6)."""
NO_LOGARITHM = -1_000_000
"""The bucket of values of zero and below in sql/histogram.sql."""
_PLANNED_POWER = 0.8
_TINY = 1e-12

Frozen = dict[str, dict[str, float]]


def freeze(
    store: Store, engine: Engine, experiment: Experiment, scan: Scan
) -> tuple[Frozen, dict[int, tuple[float, float]]]:
    """Return the frozen constants, taking from the warm-up (and writing down) what is missing.

    Returns:
        metric -> name -> value; and, per quantile metric, its thresholds (control's, treatment's).
    """
    known: Frozen = {m.name: _given(m) for m in experiment.metrics}
    for metric, values in store.frozen(
        experiment.id, experiment.revision, as_of_us=scan.as_of_us, max_file=scan.max_file
    ).items():
        known[metric] = {**values, **known.get(metric, {})}
    missing = [m for m in experiment.metrics if not _complete(m, known.get(m.name, {}))]
    if missing:
        _warm_up(store, engine, experiment, scan, missing, known)
    thresholds = {
        j: _thresholds(m, known[m.name]["threshold"])
        for j, m in enumerate(experiment.metrics)
        if isinstance(m, QuantileMetric) and "threshold" in known.get(m.name, {})
    }
    return {k: v for k, v in known.items() if v}, thresholds


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


def _complete(metric: MetricSpec, values: Mapping[str, float]) -> bool:
    return "threshold" in values if isinstance(metric, QuantileMetric) else {"variance", "baseline"} <= set(values)


def _thresholds(metric: MetricSpec, threshold: float) -> tuple[float, float]:
    """Return what control and treatment must exceed: the treatment's is one margin worse."""
    if metric.guardrail is None:
        return threshold, threshold
    margin = metric.guardrail.margin
    if margin.kind == "relative":
        return threshold, threshold * (1 + metric.sign * margin.value)
    return threshold, threshold + metric.sign * margin.value


def _warm_up(
    store: Store, engine: Engine, experiment: Experiment, scan: Scan, missing: Sequence[MetricSpec], known: Frozen
) -> None:
    cutoff = _cutoff(engine, experiment, experiment.warm_up_units)
    if cutoff is None:
        return
    index = {m.name: j for j, m in enumerate(experiment.metrics)}
    moments: Mapping[str, Any] | None = None
    for metric in missing:
        j, units, until = index[metric.name], experiment.warm_up_units, cutoff
        if isinstance(metric, QuantileMetric):
            values = _freeze_quantile(engine, experiment, metric, j, units, until)
            if values is None:
                continue
            values, units, until = values
        else:
            if moments is None:
                moments = engine.rows(scan.warm_up_moments(), {"control": experiment.control, "cutoff": cutoff})[0]
            values = _freeze_moments(moments, scan, j)
            if values is None:
                continue
        known.setdefault(metric.name, {}).update(
            {k: v for k, v in values.items() if k not in known.get(metric.name, {})}
        )
        if not store.read_only:
            source = f"warm-up: the first {units} units of {experiment.control}"
            store.freeze(
                experiment.id,
                experiment.revision,
                metric.name,
                values,
                source=source,
                watermark_us=until,
                file_id=scan.max_file,
            )


def _cutoff(engine: Engine, experiment: Experiment, units: int) -> int | None:
    rows = engine.rows(fill("warm_up_cutoff"), {"control": experiment.control, "units": units})
    return int(rows[0]["first_us"]) if rows else None


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


def _freeze_quantile(
    engine: Engine, experiment: Experiment, metric: QuantileMetric, j: int, units: int, cutoff: int
) -> tuple[dict[str, float], int, int] | None:
    until: int | None = cutoff
    while until is not None:
        rows = engine.rows(
            fill("warm_up_histogram", value=f"v{j}"),
            {"control": experiment.control, "cutoff": until, "resolution": RESOLUTION},
        )
        buckets, counts, below = split_histogram(rows)
        if (sum(counts) + below) * min(metric.q, 1 - metric.q) >= MIN_TAIL:
            threshold = histogram_quantile(np.array(buckets), np.array(counts), metric.q, RESOLUTION, below=below)
            return ({"threshold": float(threshold)}, units, until) if threshold else None
        units *= 2
        until = _cutoff(engine, experiment, units)
    return None


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
