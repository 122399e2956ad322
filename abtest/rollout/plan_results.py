"""What a plan says: the days of each stage, what they wait for, and what would make them fewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abtest.results import Finding, ToDict

if TYPE_CHECKING:
    from abtest.display import Table

REFUSED = 10
"""Exit code of a plan that asks for what cannot be resolved."""
QUESTIONS = {"harm": "harm of 2 margins found", "safe": "safe, if nothing changes", "better": "better by its MDE"}


@dataclass(frozen=True)
class Need(ToDict):
    """One question about one metric in one stage.

    Attributes:
        metric, question: "harm": a harm of twice the margin is proven; "safe": harm up to the margin is ruled out when nothing
            changes; "better": an improvement of the MDE is proven.
        alpha, power: Of the test; one-sided for harm and safety.
        days: From the stage's start at its traffic; None: not within `HORIZON` days.
        resolves: The smallest distance that is resolved with this power at the planned end of the stage, in the metric's unit.
        distance: The distance that is asked for.
    """

    metric: str
    question: str
    alpha: float
    power: float
    days: float | None
    resolves: float | None
    distance: float | None


@dataclass(frozen=True)
class PlannedStage(ToDict):
    """One stage.

    Attributes:
        index, label, kind, share: As in the ramp.
        days: Its planned length: the whole decision has come with the power of the plan; None: not within `HORIZON` days.
        typical: The same with probability one half.
        starts, ends: Days from the start of the ramp; None after a stage that does not end.
        bakes: Days that `min_hours` and `min_units` ask for.
        units_treatment: Units in the treatment by its end.
        waits_for: The question that takes longest, as "metric: question"; empty when only baking is waited for.
        needs: Every question.
        shorten: What would make it shorter: what, and the days of the stage then.
        extrapolated: It is longer than the log that it is planned from.
    """

    index: int
    label: str
    kind: str
    share: float
    days: float | None
    typical: float | None
    starts: float | None
    ends: float | None
    bakes: float | None
    units_treatment: float | None
    waits_for: str
    needs: tuple[Need, ...]
    shorten: tuple[Mapping[str, Any], ...]
    extrapolated: bool


@dataclass(frozen=True)
class Plan(ToDict):
    """The plan of a release: the contract `abtest.plan/1`.

    Attributes:
        experiment, revision, policy_sha256: Which policy.
        source: "logs" or "assumptions".
        traffic: log_days, units, calls_per_day, new_units_per_day.
        metrics: What is known of each: level, variance a unit of denominator, design_effect, cuped_reduction.
        power: Power of the release; guardrails beside it; power_each: what every safety and success is planned with.
        stages: One by one.
        curves: For each safety and success: the smallest distance that is resolved over the days of the ramp, in units of the
            distance that is asked for (1: decided), with the power of the plan; stages side by side, as far as the plan goes.
        days: Until the last decision; None when that does not come within `HORIZON` days.
        noise_floor: Smallest difference that the planned pairs of a shadow stage can tell from the models' own noise, by metric.
        findings: What is worth saying.
        refused: The spec asks for what cannot be resolved.
    """

    experiment: str
    revision: int
    policy_sha256: str
    source: str
    traffic: Mapping[str, float]
    metrics: Sequence[Mapping[str, Any]]
    power: float
    power_each: float
    stages: tuple[PlannedStage, ...]
    curves: Sequence[Mapping[str, Any]]
    days: float | None
    noise_floor: Sequence[Mapping[str, Any]]
    findings: tuple[Finding, ...]
    refused: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract `abtest.plan/1`."""
        return {"schema": "abtest.plan/1", **super().to_dict()}

    @property
    def exit_code(self) -> int:
        """Return 0, or 10 when the plan is refused."""
        return REFUSED if self.refused else 0

    def __repr__(self) -> str:
        return self.to_text()

    def to_text(self) -> str:
        """Return it for a terminal."""
        marks = {"info": "-", "warning": "!", "error": "!!", "critical": "!!"}
        parts = [self._headline(), "", self.table().to_text(), "", self.needs_table().to_text(), ""]
        parts += [f"{s.label}: {_suggestion(s)}" for s in self.stages if s.shorten]
        return "\n".join([*parts, *(f"{marks[f.severity]} {f.message}" for f in self.findings)]).rstrip()

    def _repr_html_(self) -> str:
        """Show the tables and the findings in a notebook."""
        from abtest.display import escape_html

        said = [f"{s.label}: {_suggestion(s)}" for s in self.stages if s.shorten] + [f.message for f in self.findings]
        words = "".join(f"<p>{escape_html(line)}</p>" for line in said)
        tables = self.table().to_html(styled=True) + self.needs_table().to_html(styled=True)
        return f"<p><strong>{escape_html(self._headline())}</strong></p>{tables}{words}"

    def table(self) -> Table:
        """Return the stages as a table."""
        from abtest.display import Column, Table

        heads = [
            "stage",
            *(Column(n, "right") for n in ("typical days", "planned days", "from day", "to day", "units in treatment")),
            "waits for",
        ]
        rows = [
            [s.label, days_text(s.typical), days_text(s.days), days_text(s.starts), days_text(s.ends),
             None if s.units_treatment is None else f"{s.units_treatment:,.0f}", s.waits_for or "its minimum time and units"]
            for s in self.stages
        ]  # fmt: skip
        notes = [
            f"half of the releases that change nothing are decided in the typical days, {self.power:.0%} in the planned ones"
        ]
        return Table(heads, rows, notes=notes, data=[s.to_dict() for s in self.stages])

    def needs_table(self) -> Table:
        """Return the days of every question in every stage as a table."""
        from abtest.display import Column, Table

        keys = list(dict.fromkeys((n.metric, n.question) for s in self.stages for n in s.needs))
        heads = ["metric", "decision", *(Column(s.label, "right") for s in self.stages)]
        found = {(s.index, n.metric, n.question): n.days for s in self.stages for n in s.needs}
        rows = [
            [metric, QUESTIONS[question], *(
                days_text(found[s.index, metric, question]) if (s.index, metric, question) in found else None for s in self.stages
            )]
            for metric, question in keys
        ]  # fmt: skip
        notes = [
            "days from the start of each stage, with what earlier stages have found; 'never' is more than a year",
            f"each alone: harm with power {self.power:.0%}, safety and success with {self.power_each:.1%}, so that all hold at once",
        ]  # fmt: skip
        return Table(heads, rows, notes=notes)

    def to_polars(self) -> Any:
        """Return a polars frame: a row a stage and question."""
        import polars

        rows = [
            {"stage": s.index, "label": s.label, "share": s.share, "stage_days": s.days, **n.to_dict()}
            for s in self.stages for n in s.needs
        ]  # fmt: skip
        return polars.DataFrame(rows, infer_schema_length=None)

    def plot(self) -> Any:
        """Return an Altair picture: what each metric can resolve over the days of the ramp, in margins."""
        from abtest.charts.planning import planning_curve

        return planning_curve(self.to_dict())

    def _headline(self) -> str:
        ends = "no end within a year" if self.days is None else f"{days_text(self.days)} days to the last decision"
        where = f"from {self.traffic['log_days']:.1f} days of logs" if self.source == "logs" else "from assumptions"
        return (
            f"{self.experiment}, revision {self.revision}: {ends}, {where} "
            f"({self.traffic['new_units_per_day']:,.0f} new units and {self.traffic['calls_per_day']:,.0f} calls a day); "
            f"power {self.power:.0%} for the whole decision, {self.power_each:.1%} for each metric"
        )


def days_text(days: float | None) -> str:
    """Return days as people write them."""
    return "never" if days is None else f"{days:.1f}" if days < 10 else f"{days:.0f}"


def _suggestion(stage: PlannedStage) -> str:
    parts = [f"{s['what']}: {days_text(s['days'])} days" for s in stage.shorten]
    return f"{days_text(stage.days)} days, because of {stage.waits_for}; " + "; ".join(parts)
