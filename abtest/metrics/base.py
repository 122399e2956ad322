"""What a metric is: what it needs from a row, and how it is judged; one kind a file, found through the registry.

A kind turns its spec fields into a `Measure`: a numerator and a denominator per row, each an SQL expression that becomes a
fixed-point integer. A mean is a ratio whose denominator counts the rows that could tell; a proportion is a mean of 0 and 1.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PrivateAttr, field_validator, model_validator
from sqlglot.expressions.core import Expr as Node

from abtest.metrics.expressions import Expression, parse

Better = Literal["lower", "higher"]
Per = Literal["call", "request", "unit"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$")]
Positive = Annotated[FiniteFloat, Field(gt=0)]
ScoreName = Annotated[str, Field(min_length=1, max_length=4096)]
SegmentLevel = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}=[^\x00-\x1f]{1,200}$")]
Duration = Annotated[str, Field(pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?[smhd]$", description="90s, 30m, 6h, 2d")]

DEFAULT_SCALE = 10**6
MONEY_SCALE = 10**9
"""Fixed point: millionths; money in billionths of a dollar, because one cheap call costs a few millionths."""


def duration_seconds(text: str) -> float:
    """Return a `Duration` in seconds."""
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[text[-1]]


class Strict(BaseModel):
    """Settings of every spec model: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Margin(Strict):
    """How much worse is acceptable (or how much better is worth finding), always with its unit.

    points: difference of proportions (0.01 = one percentage point); absolute: in the metric's unit; relative: of control.
    """

    points: Positive | None = None
    absolute: Positive | None = None
    relative: Positive | None = None

    @model_validator(mode="before")
    @classmethod
    def _has_unit(cls, data: Any) -> Any:
        if isinstance(data, (int, float)) and not isinstance(data, bool):
            shown = f"{data:g}" if 0 < data < 1e9 else "0.01"  # a number of a thousand digits helps nobody
            raise ValueError(
                f"a margin needs a unit: write {{ points = {shown} }}, {{ absolute = {shown} }} or {{ relative = {shown} }}"
            )
        return data

    @model_validator(mode="after")
    def _exactly_one(self) -> Margin:
        if sum(v is not None for v in (self.points, self.absolute, self.relative)) != 1:
            raise ValueError("give exactly one of points, absolute, relative")
        return self

    @property
    def kind(self) -> Literal["points", "absolute", "relative"]:
        """Return which unit was given."""
        return "points" if self.points is not None else "absolute" if self.absolute is not None else "relative"

    @property
    def value(self) -> float:
        """Return the number."""
        return float(next(v for v in (self.points, self.absolute, self.relative) if v is not None))


class Guardrail(Strict):
    """A metric that may stop or hold the release when it is worse than control by more than the margin."""

    margin: Margin
    action: Literal["halt", "hold"] = "halt"
    weight: Positive = 1.0
    segments: Annotated[
        tuple[SegmentLevel, ...],
        Field(max_length=100, description='levels that are guardrails of their own: "surface=support"'),
    ] = ()

    @field_validator("segments")
    @classmethod
    def _named_once(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        for level in levels:
            if levels.count(level) > 1:
                raise ValueError(f"{quoted(level)} is there twice")
        return levels

    @property
    def tests(self) -> int:
        """Return how many tests for harm there are: on all traffic, and on every level of its own."""
        return 1 + len(self.segments)

    @model_validator(mode="before")
    @classmethod
    def _says_how_much(cls, data: Any) -> Any:
        if data is True:
            raise ValueError(
                "true takes the default margin of the catalogue, and this metric is not from there; "
                "write guardrail = { margin = { relative = 0.1 } }"
            )
        return data


class Success(Strict):
    """A metric that the release is meant to improve; `mde` is the smallest improvement worth finding."""

    mde: Margin


class Cap(Strict):
    """Winsorising: a value of the numerator above the cap counts as the cap. Short: `cap = 1000` is `cap = { value = 1000 }`.

    value: in the metric's unit; quantile: the cap is this quantile of control's values in the warm-up, frozen.
    """

    value: Positive | None = None
    quantile: Annotated[FiniteFloat | None, Field(gt=0.5, lt=1)] = None

    @model_validator(mode="before")
    @classmethod
    def _a_number_is_a_value(cls, data: Any) -> Any:
        return {"value": data} if isinstance(data, (int, float)) and not isinstance(data, bool) else data

    @model_validator(mode="after")
    def _exactly_one(self) -> Cap:
        if (self.value is None) == (self.quantile is None):
            raise ValueError("give exactly one of value and quantile")
        return self


class FromCatalogue(Strict):
    """Where a metric came from. Written by abtest, so that no default is hidden."""

    entry: Annotated[str, Field(description="its name in the catalogue")]
    defaults: Annotated[tuple[str, ...], Field(description="the keys that the spec left to the catalogue")] = ()


class Frozen(Strict):
    """Constants given by hand instead of being taken from the warm-up."""

    variance: Positive | None = None
    baseline: FiniteFloat | None = None
    threshold: Positive | None = None


@dataclass(frozen=True)
class Measure:
    """What a metric needs from the scan, per row of the request table.

    Attributes:
        numerator: Boolean expression (event) or number; None when `score` is given.
        denominator: Number; None where rows (or units, or scores) are counted.
        event: Numerator is a boolean.
        score: Name of the score whose value is averaged; None for log columns.
        quantile: The value is kept as it is, for exceedance over a frozen threshold.
        scale: Fixed-point scale of the numerator (and of the denominator, when it is an expression).
        per: What is counted.
        per_unit_total: Denominator is one per unit (counts, and everything with per = "unit").
        cap_at_one: A unit counts at most once (proportion per unit).
        covariate: The same sums over the unit's calls before its first exposure are needed too (CUPED).
        absent_is_zero: A row without the score did not have the event (a click that would have been logged); else it cannot
            tell. With `event` and `score`, a row with the score had the event when the mean of its scores is at least 1/2.
        cap: A value of the numerator above it counts as the cap.
        cap_quantile: The cap is this quantile of control's values in the warm-up.
        mature_us: A call counts only when it is at least this old: its outcome had the time to happen and to be logged.
        part: It is a further contrast of the metric before it, which has the values already.
    """

    numerator: Expression | None
    denominator: Expression | None = None
    event: bool = False
    score: str | None = None
    scorer_kind: str | None = None
    quantile: bool = False
    scale: int = DEFAULT_SCALE
    per: Per = "request"
    per_unit_total: bool = False
    cap_at_one: bool = False
    covariate: bool = False
    absent_is_zero: bool = False
    cap: float | None = None
    cap_quantile: float | None = None
    mature_us: int | None = None
    part: bool = False

    @property
    def columns(self) -> frozenset[str]:
        """Return the interaction columns it reads."""
        parts = [e.columns for e in (self.numerator, self.denominator) if e is not None]
        return frozenset().union(*parts)

    @property
    def denominator_scale(self) -> int:
        """Return the fixed-point scale of the denominator (1 for counts)."""
        return self.scale if self.denominator is not None else 1


class MetricSpec(Strict):
    """The keys every metric has. A kind adds its own and implements `measure`."""

    kind_name: ClassVar[str]
    margin_units: ClassVar[tuple[str, ...]] = ("absolute", "relative")

    name: Name
    kind: Any
    better: Better
    per: Any = "request"
    guardrail: Guardrail | None = None
    success: Success | None = None
    description: str = ""
    unit: str = ""
    frozen: Frozen = Frozen()
    covariate: Annotated[
        Literal["pre"] | None, Field(description="CUPED: the unit's own calls before its first exposure")
    ] = None
    mature_after: Annotated[
        Duration | None, Field(description="a call counts only when it is this old (24h): outcomes come late")
    ] = None
    catalogue: Annotated[
        FromCatalogue | None, Field(description="written by abtest: which keys are defaults of the catalogue")
    ] = None

    _derived: Mapping[str, Node] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _margin_fits_kind(self) -> MetricSpec:
        for role, margin in (
            ("guardrail.margin", self.guardrail and self.guardrail.margin),
            ("success.mde", self.success and self.success.mde),
        ):
            if margin is not None and margin.kind not in self.margin_units:
                raise ValueError(f"{role}: a {self.kind} takes {' or '.join(self.margin_units)}, not {margin.kind}")
        self.measure()
        return self

    @property
    def role(self) -> Literal["guardrail", "success", "info"]:
        """Return what the metric is for; a metric that is both counts as a guardrail."""
        return "guardrail" if self.guardrail else "success" if self.success else "info"

    @property
    def sign(self) -> int:
        """Return +1 when larger is worse, -1 when smaller is worse."""
        return 1 if self.better == "lower" else -1

    @property
    def mature_us(self) -> int | None:
        """Return the age from which on a call counts, in microseconds; None: at once."""
        return None if self.mature_after is None else round(duration_seconds(self.mature_after) * 1_000_000)

    def measure(self) -> Measure:
        """Return what the metric needs from the scan; raises SpecError for a bad expression."""
        raise TypeError(f"{type(self).__name__} does not say what it measures")

    def parts(self) -> tuple[Measure, ...]:
        """Return further contrasts of the same values that the scan adds up with it; most kinds have none."""
        return ()

    def bind(self, derived: Mapping[str, Node]) -> None:
        """Say what the derived names in expressions stand for (`cost`: the experiment's price book)."""
        self._derived = dict(derived)

    def _parse(self, field: str, text: str, want: Literal["number", "boolean"]) -> Expression:
        return parse(text, key=f"metrics.{self.name}.{field}", want=want, derived=self._derived)


def quoted(value: object) -> str:
    """Return a value of the spec as an error message quotes it: short, on one line."""
    if isinstance(value, int) and value.bit_length() > 1000:
        return "a very large number"  # Python refuses to write out more than a few thousand digits
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # the same inside a list, or lists without end
        return f"a {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:100]}..."


def money_or_default(*expressions: Expression | None) -> int:
    """Return the fixed-point scale for these expressions: money is finer."""
    return MONEY_SCALE if any(e is not None and "cost_usd" in e.columns for e in expressions) else DEFAULT_SCALE


@cache
def kinds() -> dict[str, type[MetricSpec]]:
    """Return every metric kind by its name: each module of this package that defines `METRIC` is one."""
    package = importlib.import_module("abtest.metrics")
    found: dict[str, type[MetricSpec]] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        metric = getattr(importlib.import_module(f"abtest.metrics.{module}"), "METRIC", None)
        if metric is not None:
            found[metric.kind_name] = metric
    return found
