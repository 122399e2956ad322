"""Quantile: p50, p95, p99 of a logged number, judged by how often requests exceed a frozen threshold."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from abtest.metrics.base import Measure, MetricSpec


class QuantileMetric(MetricSpec):
    """The q-quantile of `value` over requests (STATISTICS §6: exceedance contrast, clustered by unit)."""

    kind_name: ClassVar[str] = "quantile"

    kind: Literal["quantile"]
    value: str
    q: Annotated[float, Field(gt=0, lt=1)]
    per: Literal["call", "request"] = "request"

    @model_validator(mode="after")
    def _no_covariate(self) -> QuantileMetric:
        if self.covariate is not None:
            raise ValueError(
                "covariate: a quantile takes none; CUPED adjusts sums, so use a mean, or a proportion above a limit"
            )
        return self

    def measure(self) -> Measure:
        """Return the value itself; the scan compares it with the frozen threshold."""
        value = self._parse("value", self.value, "number")
        return Measure(numerator=value, quantile=True, per=self.per, mature_us=self.mature_us)


METRIC = QuantileMetric
