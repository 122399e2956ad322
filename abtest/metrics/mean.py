"""Mean: the average of a logged number or of a score."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, FiniteFloat, model_validator

from abtest.metrics.base import Cap, Measure, MetricSpec, Per, ScoreName, money_or_default


class MeanMetric(MetricSpec):
    """Mean of `value` (a number in the log) or of the score called `score`, per request, call or unit."""

    kind_name: ClassVar[str] = "mean"

    kind: Literal["mean"]
    per: Per = "request"
    value: str | None = None
    score: ScoreName | None = None
    scorer_kind: Literal["human", "judge", "user", "code"] | None = None
    bounds: Annotated[tuple[FiniteFloat, FiniteFloat] | None, Field(description="smallest and largest value")] = None

    cap: Cap | None = None

    @model_validator(mode="after")
    def _one_source(self) -> MeanMetric:
        if (self.value is None) == (self.score is None):
            raise ValueError("give exactly one of value (a log column) and score (a name in the score table)")
        if self.scorer_kind and self.score is None:
            raise ValueError("scorer_kind goes with score")
        if self.cap and self.value is None:
            raise ValueError("cap goes with value; a score has bounds of its own")
        if self.bounds and self.bounds[0] >= self.bounds[1]:
            raise ValueError("bounds must be [smallest, largest]")
        return self

    def measure(self) -> Measure:
        """Return sum of values / number of values."""
        value = self._parse("value", self.value, "number") if self.value is not None else None
        return Measure(
            numerator=value,
            score=self.score,
            scorer_kind=self.scorer_kind,
            scale=money_or_default(value),
            per=self.per,
            per_unit_total=self.per == "unit",
            covariate=self.covariate is not None,
            mature_us=self.mature_us,
            cap=self.cap.value if self.cap else None,
            cap_quantile=self.cap.quantile if self.cap else None,
        )


METRIC = MeanMetric
