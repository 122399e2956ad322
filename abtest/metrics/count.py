"""Count: how many events a unit has (requests per user, regenerations per session)."""

from __future__ import annotations

from typing import ClassVar, Literal

from abtest.metrics.base import Measure, MetricSpec, Per


class CountMetric(MetricSpec):
    """Events per unit; without `event`, rows per unit. Units without an event count as zero."""

    kind_name: ClassVar[str] = "count"

    kind: Literal["count"]
    per: Per = "request"
    event: str | None = None

    def measure(self) -> Measure:
        """Return number of events / number of units."""
        return Measure(
            numerator=self._parse("event", "TRUE" if self.event is None else self.event, "boolean"),
            event=True,
            per="request" if self.per == "unit" else self.per,
            per_unit_total=True,
            covariate=self.covariate is not None,
            mature_us=self.mature_us,
        )


METRIC = CountMetric
