"""Proportion: how often something happens (refusals, errors, valid formats)."""

from __future__ import annotations

from typing import ClassVar, Literal

from abtest.metrics.base import Measure, MetricSpec, Per


class ProportionMetric(MetricSpec):
    """Share of requests (or calls, or units) for which `event` is true; rows where it is NULL cannot tell and do not count."""

    kind_name: ClassVar[str] = "proportion"
    margin_units: ClassVar[tuple[str, ...]] = ("points", "relative")

    kind: Literal["proportion"]
    per: Per = "request"
    event: str

    def measure(self) -> Measure:
        """Return event / rows that could tell."""
        return Measure(
            numerator=self._parse("event", self.event, "boolean"),
            event=True,
            per=self.per,
            per_unit_total=self.per == "unit",
            cap_at_one=self.per == "unit",
            covariate=self.covariate is not None,
        )


METRIC = ProportionMetric
