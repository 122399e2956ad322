"""Ratio: one sum over another (cost per success, tokens per word)."""

from __future__ import annotations

from typing import ClassVar, Literal

from abtest.metrics.base import Cap, Measure, MetricSpec, Per, money_or_default


class RatioMetric(MetricSpec):
    """Sum of `numerator` over sum of `denominator`; a row where either is NULL cannot tell and does not count."""

    kind_name: ClassVar[str] = "ratio"

    kind: Literal["ratio"]
    per: Per = "request"
    numerator: str
    denominator: str
    cap: Cap | None = None

    def measure(self) -> Measure:
        """Return numerator / denominator, both in fixed point of one scale."""
        numerator = self._parse("numerator", self.numerator, "number")
        denominator = self._parse("denominator", self.denominator, "number")
        return Measure(
            numerator=numerator,
            denominator=denominator,
            scale=money_or_default(numerator, denominator),
            per=self.per,
            covariate=self.covariate is not None,
            mature_us=self.mature_us,
            cap=self.cap.value if self.cap else None,
            cap_quantile=self.cap.quantile if self.cap else None,
        )


METRIC = RatioMetric
