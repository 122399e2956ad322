"""What a tradeoff answers: frozen dataclasses, `abtest.tradeoff/1` as JSON, a table for people, a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from abtest.results import Check, ToDict
from abtest.stats.break_even import BreakEven
from abtest.tradeoff.economics import Scenario
from abtest.tradeoff.legs import Interval, Leg

if TYPE_CHECKING:
    import polars

    from abtest.display import Table

VerdictName = Literal["prompt", "fine_tune", "not_yet_decidable"]
ArmVerdict = Literal["switch", "keep", "undecided"]


@dataclass(frozen=True)
class ArmFacts(ToDict):
    """One technique as the logs show it.

    Attributes:
        name, technique: The arm, and what it is.
        units, tasks: Units and tasks seen; `attempts` calls a task, retries included.
        no_cost: Share of tasks of which some call has no cost.
        cached_share: Share of input tokens read from the prompt cache; None where none were logged.
        cost_per_task, success_rate, cost_per_success: With intervals; tasks whose cost and outcome are both known.
        fixed_a_month: Fixed cost a month over the horizon.
    """

    name: str
    technique: str
    units: int
    tasks: int
    attempts: float | None
    no_cost: float | None
    cached_share: float | None
    cost_per_task: Interval
    success_rate: Interval
    cost_per_success: Interval
    fixed_a_month: float


@dataclass(frozen=True)
class Flip(ToDict):
    """An input that decides: at `at` (now `now`) the verdict on the technique becomes `verdict`; `factor` = at / now."""

    input: str
    now: float | None
    at: float
    factor: float | None
    verdict: ArmVerdict


@dataclass(frozen=True)
class MetricRow(ToDict):
    """A metric beside: both levels, and the difference (technique minus baseline) with its interval."""

    metric: str
    kind: str
    better: str
    unit: str
    baseline: float | None
    technique: float | None
    difference: Interval
    segment: str | None = None


@dataclass(frozen=True)
class Comparison(ToDict):
    """One technique against the baseline.

    Attributes:
        technique: The arm.
        design: paired, randomised, or why it is neither.
        facts: The technique; `baseline` the baseline on the same tasks.
        quality: Difference of the quality metric, technique minus baseline.
        saving: Saving a task at equal success, c_B - c_T p_B/p_T, fixed costs left out.
        legs: The conditions that must all hold: quality, cost, latency.
        break_even: Volume from which on the technique pays.
        saving_a_month: At the volume, fixed costs included.
        payback_months: Until the first training is paid back.
        pvalue_switch, pvalue_keep: Adjusted (Holm) over the techniques.
        verdict: switch, keep (the baseline) or undecided.
        reason: Why, in a sentence.
        needs_tasks: Further tasks of each side that would decide it; None when it is not known (or decided).
        hinges_on: The inputs that turn the verdict within a factor of 2, in words.
        flips: All that turn it within a factor of 1000.
        without_cache: The verdict if cached tokens cost what others do.
        scenarios: How the break-even moves.
        metrics, segments: Beside; they decide nothing.
    """

    technique: str
    design: str
    facts: ArmFacts
    baseline: ArmFacts
    quality: Interval
    saving: Interval
    legs: tuple[Leg, ...]
    break_even: BreakEven
    saving_a_month: Interval
    payback_months: float | None
    pvalue_switch: float | None
    pvalue_keep: float | None
    verdict: ArmVerdict
    reason: str
    needs_tasks: int | None
    hinges_on: tuple[str, ...] = ()
    flips: tuple[Flip, ...] = ()
    without_cache: ArmVerdict | None = None
    scenarios: tuple[Scenario, ...] = ()
    metrics: tuple[MetricRow, ...] = ()
    segments: tuple[MetricRow, ...] = ()

    def leg(self, name: str) -> Leg | None:
        """Return one condition, None where it is not asked."""
        return next((leg for leg in self.legs if leg.name == name), None)


@dataclass(frozen=True)
class Ceiling(ToDict):
    """Whether prompting has hit its ceiling: the same kind of error leads in every prompt variant, and none has fewer of it.

    status: hit (no variant can have a quarter fewer of it), suspected (none is proven to have fewer), no, or one_prompt.
    """

    status: str
    category: str | None
    changes: Mapping[str, Interval] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Drift(ToDict):
    """Answers in the asked-for format by turn of the conversation; `change`: later turns minus the first."""

    arm: str
    turns: tuple[Mapping[str, Any], ...]
    change: Interval


@dataclass(frozen=True)
class Tradeoff(ToDict):
    """Fine-tune or prompt: the whole answer, `abtest.tradeoff/1`."""

    id: str
    revision: int
    experiment: str
    as_of: str | None
    alpha: float
    method: str
    baseline: str
    verdict: VerdictName
    choice: str | None
    reason: str
    needs_tasks: int | None
    hinges_on: tuple[str, ...]
    design: str
    confidence: str
    tasks_a_month: float | None
    volume_from: str
    horizon_months: float
    comparisons: tuple[Comparison, ...]
    checks: tuple[Check, ...] = ()
    errors: tuple[Mapping[str, Any], ...] = ()
    ceiling: Ceiling | None = None
    drift: tuple[Drift, ...] = ()
    notes: tuple[str, ...] = ()
    policy_sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract `abtest.tradeoff/1`."""
        return {"schema": "abtest.tradeoff/1", **super().to_dict()}

    def comparison(self, technique: str) -> Comparison:
        """Return one technique's comparison; raises KeyError for an unknown name."""
        for found in self.comparisons:
            if found.technique == technique:
                return found
        raise KeyError(technique)

    def plot(self, technique: str | None = None) -> Any:
        """Return an Altair picture: total cost a month over the volume with its band, break-even and the volume now."""
        from abtest.charts.tradeoff import cost_over_volume

        data = (self.comparison(technique) if technique else self.comparisons[0]).to_dict()
        return cost_over_volume(data, tasks_a_month=self.tasks_a_month)

    def __repr__(self) -> str:
        from abtest.tradeoff.tables import to_text

        return to_text(self)

    def _repr_html_(self) -> str:
        """Show the verdict and the tables in a notebook."""
        from abtest.tradeoff.tables import to_html

        return to_html(self)

    def table(self) -> Table:
        """Return the table of techniques."""
        from abtest.tradeoff.tables import techniques_table

        return techniques_table(self)

    def to_polars(self) -> polars.DataFrame:
        """Return a polars frame, a row a technique."""
        return self.table().to_polars()
