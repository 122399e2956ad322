"""What `abtest tradeoff` is asked: techniques with their costs, one quality that must hold, a latency budget, a volume.

A file of its own kind (TOML); `abtest tradeoff --example` prints one with comments. Metrics, prices, population, arms and
segments read as in an experiment file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, FiniteFloat, PrivateAttr, ValidationError, field_validator, model_validator
from sqlglot.expressions.core import Expr as Node

from abtest.errors import SpecError, did_you_mean
from abtest.metrics.base import Margin, MetricSpec, Name, Positive, Strict, quoted
from abtest.metrics.catalog import resolved
from abtest.metrics.expressions import Expression, parse
from abtest.metrics.prices import Prices, cost_tree, read_book
from abtest.metrics.segments import Segment
from abtest.spec import Alpha, AnyMetric, ArmManifest, Identifier, canonical_sha256
from abtest.spec_errors import spec_error
from abtest.spec_file import read_toml

Technique = Literal["prompt", "many_shot", "rag", "fine_tune"]
Money = Annotated[FiniteFloat, Field(ge=0, le=1e12, description="USD")]
CATEGORY = (
    "CASE WHEN is_error THEN COALESCE(error_type, 'error') WHEN refused THEN 'refused' "
    "WHEN NOT format_ok THEN 'format' WHEN finish_reason = 'length' THEN 'cut off' END"
)
"""How a failed task is named when the spec does not say."""


class TechniqueArm(ArmManifest):
    """One technique: what it is, and what its calls ran (tells arms apart where logs carry no variant)."""

    technique: Annotated[Technique, Field(description="prompt, many_shot, rag or fine_tune")] = "prompt"

    @property
    def declared(self) -> dict[str, str]:
        """Return the fields of the manifest that were given."""
        return {k: v for k, v in super().declared.items() if k != "technique"}


class Quality(Strict):
    """The metric that must not get worse by more than the margin."""

    metric: Name
    margin: Margin


class Success(Strict):
    """What a successful task is: a proportion metric for which higher is better."""

    metric: Name


class Latency(Strict):
    """The budget: a quantile metric must stay at or below it (share of tasks above it at most 1 - q), or a mean."""

    metric: Name
    budget: Positive


class Costs(Strict):
    """What a technique costs besides its calls. Labels, training and evaluation are paid again at each retraining."""

    training: Money = 0.0
    evaluation: Money = 0.0
    labels: Annotated[FiniteFloat, Field(ge=0, le=1e12, description="labelled examples for one training")] = 0.0
    usd_per_label: Money = 0.0
    hosting_a_month: Money = 0.0
    months_until_retraining: Annotated[
        Positive | None, Field(description="task stability; left out: never again within the horizon")
    ] = None


class Volume(Strict):
    """Tasks a month; left out, the rate in the logs stands in (live logs over a day or more)."""

    tasks_a_month: Positive | None = None


class Horizon(Strict):
    """Over which time fixed costs are spread."""

    months: Positive = 12.0


class Comparison(Strict):
    """How the techniques were compared; "auto" finds it in the logs."""

    design: Literal["auto", "paired", "randomised"] = "auto"
    shares: Annotated[
        Mapping[str, Annotated[float, Field(gt=0, lt=1)]],
        Field(description="the split, for the sample-ratio check of a randomised design"),
    ] = Field(default_factory=dict)
    max_contamination: Annotated[float, Field(ge=0, le=1)] = 0.01


class Rows(Strict):
    """Which rows count."""

    where: str | None = None
    failed_calls: Annotated[
        Literal["unknown", "free"], Field(description="what a failed call without cost and tokens did cost")
    ] = "unknown"


class Errors(Strict):
    """How a failed task is named."""

    by: str = CATEGORY


class Looks(Strict):
    """Error guarantee: anytime (any number of looks), or fixed (one look at a declared time)."""

    method: Literal["anytime", "fixed"] = "anytime"
    planned_units: Annotated[
        Positive, Field(description="units of the comparison at which the anytime intervals are tightest")
    ] = 1000.0


class TradeoffSpec(Strict):
    """Everything that is asked. `TradeoffSpec.from_toml(path)` reads it."""

    id: Identifier
    revision: Annotated[int, Field(ge=1, lt=2**31)] = 1
    experiment: Annotated[Identifier | None, Field(description="experiment_id in the logs; default: id")] = None
    description: str = ""
    unit: Literal["user", "session", "request"] = "user"
    baseline: Name
    alpha: Alpha = 0.05
    start: AwareDatetime | None = None
    end: AwareDatetime | None = None
    arms: Annotated[Mapping[str, TechniqueArm], Field(min_length=2, max_length=20)]
    metrics: Annotated[list[AnyMetric], Field(min_length=1)]  # type: ignore[valid-type]
    quality: Quality
    success: Success | None = None
    latency: Latency | None = None
    costs: Mapping[str, Costs] = Field(default_factory=dict)
    prices: Prices = Prices()
    volume: Volume = Volume()
    horizon: Horizon = Horizon()
    comparison: Comparison = Comparison()
    population: Rows = Rows()
    errors: Errors = Errors()
    segments: Annotated[Sequence[Segment], Field(max_length=20)] = ()
    sequential: Looks = Looks()

    _derived: Mapping[str, Node] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_catalogue(cls, data: Any) -> Any:
        metrics = data.get("metrics") if isinstance(data, Mapping) else None
        if not isinstance(metrics, (list, tuple)):
            return data
        return {**data, "metrics": [resolved(metric, i) for i, metric in enumerate(metrics)]}

    @field_validator("arms")
    @classmethod
    def _names(cls, arms: Mapping[str, TechniqueArm]) -> Mapping[str, TechniqueArm]:
        for name in arms:
            if not name.strip() or len(name) > 100:
                raise ValueError(f"{quoted(name)} is no name of an arm")
        return arms

    @model_validator(mode="after")
    def _consistent(self) -> TradeoffSpec:
        names = [m.name for m in self.metrics]
        for name in names:
            if names.count(name) > 1:
                raise SpecError(f"{quoted(name)} is there twice", key="metrics")
        if self.baseline not in self.arms:
            raise SpecError(
                f"no such arm: {quoted(self.baseline)}", key="baseline", hint=did_you_mean(self.baseline, self.arms)
            )
        for key, keys in (("costs", self.costs), ("comparison.shares", self.comparison.shares)):
            for arm in keys:
                if arm not in self.arms:
                    raise SpecError(f"no such arm: {quoted(arm)}", key=key, hint=did_you_mean(arm[:100], self.arms))
        if self.start and self.end and self.end <= self.start:
            raise SpecError("it must come after start", key="end")
        self._check_roles()
        self._derived = {"cost": cost_tree(self.prices)}
        for metric in self.metrics:
            metric.bind(self._derived)
        self.where()
        self.category()
        self.cost()
        for segment in self.segments:
            segment.expression(self._derived)
        return self

    def _check_roles(self) -> None:
        quality = self.metric(self.quality.metric, "quality.metric")
        if quality.kind == "quantile":
            raise SpecError("a quantile is no quality", key="quality.metric", hint="give it a [latency] budget")
        if self.quality.margin.kind not in quality.margin_units:
            units = " or ".join(quality.margin_units)
            raise SpecError(f"a {quality.kind} takes {units}, not {self.quality.margin.kind}", key="quality.margin")
        success = self.success_metric
        if success.kind != "proportion" or success.better != "higher":
            hint = 'name a proportion with better = "higher" in [success] metric'
            raise SpecError(f"{success.name} does not say which tasks succeeded", key="success.metric", hint=hint)
        if self.latency and self.metric(self.latency.metric, "latency.metric").better != "lower":
            raise SpecError("a budget is for a metric of which less is better", key="latency.metric")
        for metric in self.metrics:
            _check_metric(metric, self.latency is not None and metric.name == self.latency.metric)

    # -- derived -------------------------------------------------------------------------------------------------

    def metric(self, name: str, key: str) -> MetricSpec:
        """Return a metric by its name; raises SpecError that names the key which asked for it."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise SpecError(
            f"no metric is called {quoted(name)}", key=key, hint=did_you_mean(name, [m.name for m in self.metrics])
        )

    @property
    def success_metric(self) -> MetricSpec:
        """Return the metric of success: the one that is named, else the quality."""
        name, key = (self.success.metric, "success.metric") if self.success else (self.quality.metric, "quality.metric")
        return self.metric(name, key)

    @property
    def logged_as(self) -> str:
        """Return `experiment_id` of the logs."""
        return self.experiment or self.id

    @property
    def techniques(self) -> list[str]:
        """Return the arms that are compared with the baseline."""
        return [name for name in self.arms if name != self.baseline]

    def costs_of(self, arm: str) -> Costs:
        """Return the fixed costs of an arm; nothing given is nothing."""
        return self.costs.get(arm, Costs())

    def where(self) -> Expression | None:
        """Return the population filter, checked."""
        text = self.population.where
        return None if text is None else parse(text, key="population.where", want="boolean", derived=self._derived)

    def category(self) -> Expression:
        """Return the name of what went wrong."""
        return parse(self.errors.by, key="errors.by", derived=self._derived)

    def cost(self, *, cached: bool = True) -> Expression:
        """Return the cost of a call in USD; without `cached` as if cached tokens cost what others do."""
        prices = self.prices
        if not cached:
            rows = tuple(row.model_copy(update={"cached_input": row.input}) for row in prices.model)
            prices = prices.model_copy(update={"model": rows})
        text = "cost"
        if self.population.failed_calls == "free":
            text = "COALESCE(cost, CASE WHEN is_error THEN 0 END)"
        return parse(text, key="prices", want="number", derived={"cost": cost_tree(prices)})

    def level_sql(self, segment: Segment) -> str:
        """Return the expression (over `i`) of a call's level of a segment."""
        return segment.level_sql(derived=self._derived)

    def policy_sha256(self) -> str:
        """Return the hash of everything that decides."""
        data = self.model_dump(
            mode="json",
            exclude={"description": True, "prices": {"file": True, "sha256": True, "model": {"__all__": {"source"}}}},
        )
        return canonical_sha256(data)

    # -- reading -------------------------------------------------------------------------------------------------

    @classmethod
    def from_toml(cls, path: str | Path) -> TradeoffSpec:
        """Read a tradeoff file; raises SpecError with file, key and hint."""
        data = read_toml(path, kind="a tradeoff file", hint="`abtest tradeoff --example` prints one")
        return cls._checked(data, str(path), Path(path).parent)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TradeoffSpec:
        """Check a mapping with the keys of the TOML file; a price book is read from the current folder."""
        return cls._checked(data, None, Path())

    @classmethod
    def _checked(cls, data: Mapping[str, Any], file: str | None, folder: Path) -> TradeoffSpec:
        if not isinstance(data, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - whoever calls may pass anything
            raise SpecError("a mapping with the keys of a tradeoff file is needed", file=file)
        try:
            complete = dict(data)
            if isinstance(complete.get("prices"), Mapping):
                complete["prices"] = read_book(complete["prices"], folder, reread=file is not None)
            return cls.model_validate(complete)
        except ValidationError as error:
            raise spec_error(error, data, file, cls) from None
        except SpecError as error:
            error.file = error.file or file
            raise


def _check_metric(metric: MetricSpec, budget: bool) -> None:
    """Refuse what a request cannot carry: totals of a unit, histories, quantiles without a budget."""
    key = f"metrics.{metric.name}"
    if metric.kind not in ("proportion", "mean", "ratio") and not (metric.kind == "quantile" and budget):
        hint = "a quantile belongs to [latency]" if metric.kind == "quantile" else "use proportion, mean or ratio"
        raise SpecError(f"a {metric.kind} is not compared task by task", key=f"{key}.kind", hint=hint)
    if metric.per != "request":
        raise SpecError("a task is a request", key=f"{key}.per", hint='per = "request"')
    if metric.guardrail or metric.success:
        raise SpecError("quality, latency and cost decide here", key=key, hint="leave guardrail and success out")
    if metric.covariate or metric.mature_after or metric.measure().cap_quantile is not None:
        raise SpecError("covariate, mature_after and caps by quantile are for experiment files", key=key)


def example() -> str:
    """Return the text of the example, with comments."""
    return files("abtest.tradeoff").joinpath("example.toml").read_text(encoding="utf-8")
