"""Proportion: how often something happens (refusals, errors, valid formats, thumbs-down)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from abtest.metrics.base import Measure, MetricSpec, Per, ScoreName


class ProportionMetric(MetricSpec):
    """Share of requests (or calls, or units) for which `event` is true; rows where it is NULL cannot tell and do not count.

    With `score` instead, the event is that the mean of the row's scores of that name is at least 1/2. A row without such a
    score cannot tell, unless `absent = "no"`: then it did not happen (what users click is logged only when they click).
    """

    kind_name: ClassVar[str] = "proportion"
    margin_units: ClassVar[tuple[str, ...]] = ("points", "relative")

    kind: Literal["proportion"]
    per: Per = "request"
    event: str | None = None
    score: ScoreName | None = None
    scorer_kind: Literal["human", "judge", "user", "code"] | None = None
    absent: Annotated[
        Literal["unknown", "no"],
        Field(description="what a row without the score means: cannot tell, or did not happen"),
    ] = "unknown"

    @model_validator(mode="after")
    def _one_source(self) -> ProportionMetric:
        if (self.event is None) == (self.score is None):
            raise ValueError("give exactly one of event (an expression) and score (a name in the score table)")
        if self.score is None and (self.scorer_kind or self.absent == "no"):
            raise ValueError(f"{'scorer_kind' if self.scorer_kind else 'absent'} goes with score")
        return self

    def measure(self) -> Measure:
        """Return event / rows that could tell."""
        return Measure(
            numerator=None if self.event is None else self._parse("event", self.event, "boolean"),
            event=True,
            score=self.score,
            scorer_kind=self.scorer_kind,
            absent_is_zero=self.absent == "no",
            per=self.per,
            per_unit_total=self.per == "unit",
            cap_at_one=self.per == "unit",
            covariate=self.covariate is not None,
            mature_us=self.mature_us,
        )


METRIC = ProportionMetric
