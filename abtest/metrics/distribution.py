"""Distribution: has the shape of a logged number changed (answers that grow longer, or all look the same)?"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import model_validator

from abtest.metrics.base import Measure, MetricSpec

GRID = (0.5, 0.1, 0.25, 0.75, 0.9)
"""Control's quantiles at which the shares above are compared. The median is the metric's own measure, the others are parts."""


class DistributionMetric(MetricSpec):
    """How far the distribution of `value` has moved between the arms, in points (Kolmogorov's distance on a grid).

    It is the largest difference of the share of requests above control's frozen p10, p25, p50, p75 and p90. Null hypothesis:
    the same distribution in both arms. A guardrail's margin is in points: no such share may differ by more, up or down.
    """

    kind_name: ClassVar[str] = "distribution"
    margin_units: ClassVar[tuple[str, ...]] = ("points",)

    kind: Literal["distribution"]
    value: str
    per: Literal["call", "request"] = "request"

    @model_validator(mode="after")
    def _measures_a_distance(self) -> DistributionMetric:
        if self.better != "lower":
            raise ValueError('better: write "lower"; a distribution is judged by how far it moved, up or down')
        if self.success is not None:
            raise ValueError(
                "success: a distribution that moved is neither better nor worse; use a mean or a quantile, or a guardrail"
            )
        if self.covariate is not None:
            raise ValueError("covariate: a distribution takes none; CUPED adjusts sums")
        if any(v is not None for v in self.frozen.model_dump().values()):
            raise ValueError("frozen: the thresholds of a distribution come from control's warm-up")
        return self

    def measure(self) -> Measure:
        """Return the value itself; the scan compares it with control's frozen median."""
        value = self._parse("value", self.value, "number")
        return Measure(numerator=value, quantile=True, per=self.per, mature_us=self.mature_us)

    def parts(self) -> tuple[Measure, ...]:
        """Return the same value for the other thresholds of the grid."""
        part = replace(self.measure(), part=True)
        return (part,) * (len(GRID) - 1)


def threshold_name(q: float) -> str:
    """Return the name of the frozen constant for a quantile of control: 0.1 is "threshold_10"."""
    return f"threshold_{round(q * 100)}"


METRIC = DistributionMetric
