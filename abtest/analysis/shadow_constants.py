"""Constants of the shadow stage: what tunes its tests, frozen once a revision, from the spec or from the first units with pairs.

They are kept beside those of the live stages, under a name of their own that no experiment can have: the two never mix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from abtest.analysis.constants import MIN_TAIL, split_histogram, tuning_for
from abtest.analysis.shadow_plan import Item, Plan
from abtest.analysis.shadow_score import PairSums, paired_score
from abtest.metrics.base import MetricSpec
from abtest.metrics.distribution import GRID, DistributionMetric, threshold_name
from abtest.metrics.quantile import QuantileMetric
from abtest.spec import Experiment
from abtest.stats.numerics import Array
from abtest.stats.quantiles import histogram_quantile
from abtest.store.query import RESOLUTION
from abtest.store.shadow import ShadowQueries
from abtest.store.store import Store

WARM_UP_UNITS = 30
"""Units whose pairs tell how large differences are; nothing else is taken from them, and no bet is made on them."""
Frozen = dict[str, dict[str, float]]
_TINY = 1e-12


class Reader(Protocol):
    """What freezing needs of a reading (`abtest.analysis.shadow_read`)."""

    store: Store
    experiment: Experiment
    max_file: int
    common: int
    frozen: Frozen

    def cutoff(self, queries: ShadowQueries, units: int) -> int | None:
        """Return the moment at which the n-th unit had its first pair; None when there are fewer."""
        ...

    def warm_up(self, queries: ShadowQueries, until_us: int) -> Mapping[str, Any]:
        """Return sums and products over the pairs that were complete by a moment."""
        ...

    def histogram(self, queries: ShadowQueries, j: int, until_us: int) -> list[dict[str, Any]]:
        """Return the histogram of a quantile's value over the pairs that were complete by a moment."""
        ...


def shadow_name(experiment: Experiment) -> str:
    """Return the name under which the constants are kept: the id of no experiment begins with a space."""
    return f" shadow:{experiment.id}"


def freeze(reader: Reader, queries: ShadowQueries, plan: Plan) -> Frozen:
    """Return the constants, taking from the warm-up (and writing down) what is missing.

    Thresholds of quantiles: control's quantile in the first pairs, as many as have 20 beyond it. Of every other metric the rate in
    control and the variance of the paired contrast a pair, over the first 30 units.
    """
    known: Frozen = {k: dict(v) for k, v in reader.frozen.items()}
    first = reader.cutoff(queries, WARM_UP_UNITS)
    if first is None:
        return known
    _keep(reader, known, "", {"warm_up_until": float(first)}, WARM_UP_UNITS, first)
    for item in plan.items:
        if isinstance(item.spec, (QuantileMetric, DistributionMetric)):
            _thresholds(reader, queries, item, known, first)
    missing = [
        (name, at) for item in plan.items for name, at in places(item)
        if plan.measures[at].active and "variance" not in known.get(name, {})
    ]  # fmt: skip
    if missing:
        row = reader.warm_up(queries, first)
        for name, at in missing:
            m = plan.measures[at]
            score = paired_score(PairSums.of(row, at, m.x_scale * reader.common, m.y_scale * reader.common or 1), 1)
            if score is not None:
                curve = score.curve("absolute")
                assert curve is not None
                values = {"baseline": score.control, "variance": curve.v0 / score.weight}
                _keep(reader, known, name, values, WARM_UP_UNITS, first)
    return known


def places(item: Item) -> list[tuple[str, int]]:
    """Return the names and places of the contrasts of a metric: itself, and the parts of a distribution."""
    return [(item.spec.name, item.at), *((f"{item.spec.name} {n}", at) for n, at in enumerate(item.parts, 1))]


def limits_of(plan: Plan, frozen: Mapping[str, Mapping[str, float]]) -> dict[int, tuple[float, float]]:
    """Return the thresholds of quantiles that are known, by place: control's, and the treatment's, which is one margin worse."""
    limits: dict[int, tuple[float, float]] = {}
    for item in plan.items:
        values = frozen.get(item.spec.name, {})
        if isinstance(item.spec, QuantileMetric):
            threshold = item.spec.frozen.threshold or values.get("threshold")
            if threshold is not None:
                limits[item.at] = (threshold, _one_margin_worse(item.spec, threshold))
        elif isinstance(item.spec, DistributionMetric):
            for q, at in zip(GRID, (item.at, *item.parts), strict=True):
                if threshold_name(q) in values:
                    limits[at] = (values[threshold_name(q)], values[threshold_name(q)])
    return limits


def tuning_of(
    spec: MetricSpec, frozen: Mapping[str, float], alpha: float, *, one_sided: bool, flag: bool, factor: float = 1.0
) -> Array | None:
    """Return rho² of a metric's mixture, or None while its constants are not known.

    Args:
        spec: The metric; its margin (or MDE, or 5 % of control) is the difference worth finding.
        frozen: "variance" of the contrast a pair and control's "baseline".
        alpha: Error level.
        one_sided: Tune for a one-sided mixture.
        flag: It is a share: its variance is at least what it would be if the candidate were worse by that difference.
        factor: Multiplies the variance (the unpaired comparison has another).
    """
    if "variance" not in frozen or "baseline" not in frozen:
        return None
    variance, baseline = frozen["variance"] * factor, frozen["baseline"]
    distance = difference_worth_finding(spec, variance, baseline)
    if flag:
        distance = min(distance, 0.5)
        variance = max(variance, distance * (1 - distance))
    # Squares are not centred: at a harm of `distance` that is not there, a unit's contribution is that much from zero.
    return tuning_for(variance + distance**2, distance, alpha, [1.0], one_sided=one_sided)


def difference_worth_finding(spec: MetricSpec, variance: float, baseline: float) -> float:
    """Return the margin, the MDE, or 5 % of control, in the metric's unit; a tenth of a standard deviation where that is nothing."""
    if isinstance(spec, QuantileMetric):
        return 0.5 * min(spec.q, 1 - spec.q)
    margin = spec.guardrail.margin if spec.guardrail else spec.success.mde if spec.success else None
    if margin is not None and margin.kind != "relative":
        return margin.value
    distance = (margin.value if margin else 0.05) * abs(baseline)
    return distance if distance > 0 else 0.1 * math.sqrt(max(variance, _TINY))


def _one_margin_worse(spec: QuantileMetric, threshold: float) -> float:
    if spec.guardrail is None:
        return threshold
    margin = spec.guardrail.margin
    return (
        threshold * (1 + spec.sign * margin.value)
        if margin.kind == "relative"
        else threshold + spec.sign * margin.value
    )


def _thresholds(reader: Reader, queries: ShadowQueries, item: Item, known: Frozen, first: int) -> None:
    """Freeze control's quantiles; the first pairs are doubled until enough of them lie beyond each."""
    spec = item.spec
    wanted = {threshold_name(q): q for q in GRID} if isinstance(spec, DistributionMetric) else {"threshold": spec.q}  # type: ignore[attr-defined]
    given = isinstance(spec, QuantileMetric) and spec.frozen.threshold is not None
    if given or set(wanted) <= set(known.get(spec.name, {})):
        return
    tail, units, until = min(min(q, 1 - q) for q in wanted.values()), WARM_UP_UNITS, first
    while True:
        rows = [r for r in reader.histogram(queries, item.at, until) if r["arm"] == queries.control]
        buckets, counts, below = split_histogram(rows)
        if (sum(counts) + below) * tail >= MIN_TAIL:
            found = {
                n: histogram_quantile(np.array(buckets), np.array(counts), q, RESOLUTION, below=below) for n, q in wanted.items()
            }  # fmt: skip
            if all(v is not None and v > 0 for v in found.values()) or isinstance(spec, DistributionMetric):
                _keep(reader, known, spec.name, {n: float(v or 0.0) for n, v in found.items()}, units, until)
            return
        units *= 2
        later = reader.cutoff(queries, units)
        if later is None:
            return
        until = later


def _keep(reader: Reader, known: Frozen, metric: str, values: Mapping[str, float], units: int, until: int) -> None:
    mine = known.setdefault(metric, {})
    new = {k: v for k, v in values.items() if k not in mine}
    mine.update(new)
    if new and not reader.store.read_only:
        experiment = reader.experiment
        reader.store.freeze(
            shadow_name(experiment), experiment.revision, metric, new, watermark_us=until, file_id=reader.max_file,
            source=f"shadow: the first {units} units with pairs",
        )  # fmt: skip
