"""Planning without logs: what must be said instead, and a clear list of what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from abtest.errors import UsageError
from abtest.metrics.base import MetricSpec
from abtest.metrics.distribution import DistributionMetric
from abtest.metrics.quantile import QuantileMetric
from abtest.rollout.plan_noise import HOURS, Noise, Traffic, assumed, even_traffic
from abtest.spec import Experiment

NAMES = ("baseline", "variance", "beyond")
"""What can be assumed of a metric: its level in control, its clustered variance a call, the share of calls beyond its limit."""


@dataclass(frozen=True)
class Assumptions:
    """What is assumed where there are no logs.

    Attributes:
        units_per_day: New units a day, of all traffic; none of them is taken to come back.
        calls_per_unit: Calls of a unit.
        correlation: Intra-class correlation of a unit's calls; needed when a unit has several.
        metrics: metric -> "baseline", "variance", "beyond" -> value. "beyond" is for quantiles: the share of calls past the
            limit (control's quantile plus the margin) when nothing changes.
    """

    units_per_day: float | None = None
    calls_per_unit: float = 1.0
    correlation: float | None = None
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def from_assumptions(experiment: Experiment, given: Assumptions) -> tuple[Traffic, dict[int, Noise]]:
    """Return traffic and noise from what is assumed; the spec's `frozen` constants count as assumptions too.

    Raises:
        UsageError: something is missing (the message lists all of it), or out of range.
    """
    missing: list[str] = []
    if given.units_per_day is None:
        missing.append("--units-per-day N")
    if given.calls_per_unit > 1 and given.correlation is None:
        missing.append("--correlation R (intra-class correlation of a user's calls, 0.02 to 0.2 is usual)")
    if (given.units_per_day is not None and given.units_per_day <= 0) or given.calls_per_unit < 1:
        raise UsageError(
            "traffic must be positive", key="--units-per-day", hint="--units-per-day 2000 --calls-per-unit 5"
        )
    if given.correlation is not None and not 0 <= given.correlation <= 1:
        raise UsageError(f"a correlation of {given.correlation:g}", key="--correlation", hint="between 0 and 1")
    effect = 1 + (given.calls_per_unit - 1) * (given.correlation or 0.0)
    calls = (given.units_per_day or 0.0) * given.calls_per_unit
    noise: dict[int, Noise] = {}
    for j, spec in enumerate(experiment.metrics):
        if spec.role == "info":
            continue
        known = {k: float(v) for k, v in spec.frozen.model_dump().items() if v is not None} | dict(
            given.metrics.get(spec.name, {})
        )
        lacks = _lacks(spec, known)
        missing += [f"--assume {spec.name}.{name}={_EXAMPLES[name]}" for name in lacks]
        if not lacks:
            counted = spec.measure().per_unit_total
            noise[j] = _noise(
                spec, known, 1.0 if counted else effect, (calls if not counted else given.units_per_day or 0.0) / HOURS
            )
    if missing:
        raise UsageError(
            f"without logs a plan needs: {', '.join(missing)}", key="--assume",
            hint="or `abtest ingest` some days of the baseline's logs and leave them out",
        )  # fmt: skip
    return even_traffic(given.units_per_day or 0.0, given.calls_per_unit), noise


_EXAMPLES = {"baseline": "0.02", "variance": "0.05", "beyond": "0.004"}


def _lacks(spec: MetricSpec, known: Mapping[str, float]) -> list[str]:
    if isinstance(spec, DistributionMetric):
        return []
    if isinstance(spec, QuantileMetric):
        return [name for name in ("beyond",) if name not in known]
    if spec.kind == "proportion":
        return [name for name in ("baseline",) if name not in known]
    return [name for name in ("baseline", "variance") if name not in known]


def _noise(spec: MetricSpec, known: Mapping[str, float], effect: float, y_per_hour: float) -> Noise:
    if isinstance(spec, QuantileMetric):
        level = 1 - spec.q
        moved = known["beyond"]
        # A harm of two margins: past the limit as much further as nothing changed is before it, on the log scale.
        harmed = min(level * level / moved, 1.0) if 0 < moved < level else None
        if harmed is None:
            raise UsageError(f"{spec.name}.beyond must lie between 0 and {level:g}", key="--assume")
        return assumed(level, effect * level * (1 - level), moved, harmed, proportion=True, y_per_hour=y_per_hour)
    if isinstance(spec, DistributionMetric):
        return assumed(0.5, effect * 0.25, 0.5, None, proportion=True, y_per_hour=y_per_hour)
    level = known["baseline"]
    proportion = spec.kind == "proportion"
    if proportion and not 0 < level < 1:
        raise UsageError(
            f"{spec.name}.baseline must lie between 0 and 1", key="--assume", hint=f"{spec.name}.baseline=0.02"
        )
    variance = known.get("variance", effect * level * (1 - level)) if proportion else known["variance"]
    if variance <= 0:
        raise UsageError(f"{spec.name}.variance must be positive", key="--assume")
    return assumed(level, variance, level, None, proportion=proportion, y_per_hour=y_per_hour)
