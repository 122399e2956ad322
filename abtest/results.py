"""What is answered: frozen dataclasses, None for what is not known.

All results are immutable, carry a `status`, and turn into plain dicts (`to_dict`) whose keys are the JSON contract.
Unknown numbers are None, never NaN or infinity: `finite` guards every float that leaves the house.

Statuses and verdicts are closed lists; docs/reference/codes.md explains each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import polars

    from abtest.display import Table

Status = Literal["ok", "insufficient", "no_data", "no_share", "zero_variance", "zero_baseline", "unsupported"]
VerdictName = Literal["safe", "harm", "inconclusive", "unknown"]
DecisionName = Literal["promote", "hold", "halt", "ship"]
Severity = Literal["info", "warning", "error", "critical"]


def finite(value: float | None) -> float | None:
    """Return `value` as a float, or None when it is None, NaN or infinite."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def plain(value: Any) -> Any:
    """Turn results, mappings and sequences into JSON-ready objects; floats that are not finite become None."""
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    to_dict = getattr(value, "to_dict", None)
    return to_dict() if callable(to_dict) else value


class ToDict:
    """Adds `to_dict()`: every field, nested results included."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready objects."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class Estimate(ToDict):
    """A number with its uncertainty: what every function of `abtest.stats` that tests something returns.

    Attributes:
        value: The estimate, in the unit of the measurement (a difference, a ratio, a rate ratio).
        std_error: Its standard error; None where the method has none.
        lower: Lower bound of the interval at level 1 - alpha; None when unbounded or unknown.
        upper: Upper bound; None when unbounded or unknown.
        pvalue: The p-value (anytime-valid where the method is sequential); None when it cannot be computed.
        log_e_value: Natural log of the e-value; None for methods without one.
        alpha: The error level used for the interval.
        method: Name of the method, e.g. "welch" or "normal_mixture".
        alternative: "two-sided", "larger" or "smaller".
        status: "ok", or why there is no number.
        note: One sentence for people; empty when there is nothing to add.
        details: Further numbers of the method (degrees of freedom, statistic, weights).
    """

    value: float | None
    std_error: float | None = None
    lower: float | None = None
    upper: float | None = None
    pvalue: float | None = None
    log_e_value: float | None = None
    alpha: float | None = None
    method: str = ""
    alternative: str = "two-sided"
    status: Status = "ok"
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def unknown(cls, status: Status, *, method: str = "", alpha: float | None = None, note: str = "") -> Estimate:
        """Return the answer "cannot compute", with its reason."""
        return cls(value=None, alpha=alpha, method=method, status=status, note=note)


@dataclass(frozen=True)
class SeriesPoint(ToDict):
    """The state of a metric at the end of one bucket of the event-time grid (see `MetricResult.series`)."""

    at: str
    stage: int
    n_control: int
    n_treatment: int
    estimate: float | None
    ci_lower: float | None
    ci_upper: float | None
    harm_lower: float | None = None
    harm_upper: float | None = None
    log_e_value: float | None = None


@dataclass(frozen=True)
class MetricResult(ToDict):
    """One metric, one treatment against control; the fields are the contract `abtest.analysis/1`.

    `estimate` and `ci_*` are treatment minus control in the metric's unit (for quantiles: of the quantile itself).
    `harm_lower` and `harm_upper` are one-sided anytime bounds of the harm in the unit of the margin, oriented so that
    larger is worse: at the guardrail's share of the halt budget, and at alpha.
    """

    metric: str
    kind: str
    role: str
    better: str
    unit: str
    control: str
    treatment: str
    control_value: float | None = None
    treatment_value: float | None = None
    method: str = ""
    n_control: int = 0
    n_treatment: int = 0
    estimate: float | None = None
    std_error: float | None = None
    ci_lower: float | None = None
    ci_upper: float | None = None
    relative_estimate: float | None = None
    relative_ci_lower: float | None = None
    relative_ci_upper: float | None = None
    pvalue: float | None = None
    log_e_value: float | None = None
    alpha: float | None = None
    margin: float | None = None
    margin_kind: str | None = None
    harm_lower: float | None = None
    harm_upper: float | None = None
    harm_alpha: float | None = None
    harm_log_e_value: float | None = None
    verdict: VerdictName = "unknown"
    superior: bool | None = None
    action: str | None = None
    status: Status = "no_data"
    note: str = ""
    segment: str | None = None
    rows: int = 0
    rows_missing: int = 0
    stages: tuple[Mapping[str, Any], ...] = ()
    series: tuple[SeriesPoint, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def plot(self) -> Any:
        """Return an Altair picture of the effect over time: confidence sequence, zero, margin and stages."""
        from abtest.charts import effect_over_time

        return effect_over_time(self.to_dict())

    def __repr__(self) -> str:
        from abtest.display import format_effect, metric_label, verdict_words

        data = self.to_dict()
        return f"{metric_label(data)} {format_effect(data, relative=self.margin_kind == 'relative')}: {verdict_words(data)}"


@dataclass(frozen=True)
class Check(ToDict):
    """One assignment or data check. `status`: ok, failed, warning, or a Status that says why it did not run."""

    name: str
    status: str
    pvalue: float | None = None
    detail: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Arm(ToDict):
    """One arm as it was seen in the logs."""

    name: str
    units: int
    interactions: int


@dataclass(frozen=True)
class Stage(ToDict):
    """A stage of the ramp: its index is its key, its label is for people; `share` is the treatment's."""

    index: int
    label: str
    share: float | None = None
    kind: str = "ab"
    since: str | None = None


@dataclass(frozen=True)
class Finding(ToDict):
    """One thing worth saying, for machines and people; codes are a closed list."""

    code: str
    severity: Severity
    metric: str | None
    message: str


@dataclass(frozen=True)
class SegmentAnalysis(ToDict):
    """What there is to see by the levels of one segment key; exploratory, it decides nothing.

    Attributes:
        key: Its name ("surface").
        by: The expression that tells a call's level.
        levels: Levels that are shown, those with most units first; "(other)" has the rest, "(none)" is NULL.
        levels_found: Levels there are in the logs.
        shared_units: Units that were in several levels: what is said of those is not independent.
        results: One a level, metric and treatment, with `segment` "surface=support"; `details` has `bh_rejected` and
            `bh_pvalue`, adjusted over all of them.
        interactions: One check a metric and treatment: does the effect differ between levels?
    """

    key: str
    by: str
    levels: tuple[str, ...]
    levels_found: int
    shared_units: int
    results: tuple[MetricResult, ...]
    interactions: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Analysis(ToDict):
    """All metrics, arms and checks of one experiment at one watermark: `abtest.analysis/1`."""

    experiment: str
    revision: int
    stage: Stage
    as_of: str | None
    control: str
    arms: tuple[Arm, ...]
    metrics: tuple[MetricResult, ...]
    checks: tuple[Check, ...]
    alpha: float = 0.05
    halt_budget: float = 0.01
    evidence_sha256: str = ""
    policy_sha256: str = ""
    notes: tuple[str, ...] = ()
    segments: tuple[SegmentAnalysis, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract `abtest.analysis/1`."""
        return {"schema": "abtest.analysis/1", **super().to_dict()}

    def __repr__(self) -> str:
        return self._table().to_text()

    def _repr_html_(self) -> str:
        """Show the table of metrics in a notebook."""
        return self._table().to_html(styled=True)

    def _table(self) -> Table:
        from abtest.display import metrics_table

        title = f"{self.experiment}, revision {self.revision}, {self.stage.label}"
        return metrics_table([m.to_dict() for m in self.metrics], title=title)

    def to_polars(self) -> polars.DataFrame:
        """Return a polars frame: a row a metric and treatment, every number of the JSON contract a column."""
        return self._table().to_polars()

    def plot(self) -> Any:
        """Return an Altair picture of all guardrails: the range of harm against each margin."""
        from abtest.charts import interval_forest

        return interval_forest([m.to_dict() for m in self.metrics if m.role == "guardrail"])

    def metric(self, name: str, treatment: str | None = None) -> MetricResult:
        """Return one metric's result; raises KeyError for an unknown name."""
        for result in self.metrics:
            if result.metric == name and treatment in (None, result.treatment):
                return result
        raise KeyError(name)

    def check(self, name: str) -> Check:
        """Return one check; raises KeyError for an unknown name."""
        for result in self.checks:
            if result.name == name:
                return result
        raise KeyError(name)


@dataclass(frozen=True)
class Action(ToDict):
    """What an actuator did: status is done, dry_run, already_done or failed."""

    actuator: str
    status: str
    detail: str = ""


@dataclass(frozen=True)
class Decision(ToDict):
    """What to do with the release, and why: `abtest.decision/1`."""

    experiment: str
    revision: int
    stage: Stage
    decision: DecisionName
    reason: str
    summary: str
    findings: tuple[Finding, ...]
    metrics: tuple[MetricResult, ...]
    as_of: str | None
    decision_id: str
    policy_sha256: str
    previous_decision_id: str | None = None
    dry_run: bool = False
    actions: tuple[Action, ...] = ()
    next: Mapping[str, Any] = field(default_factory=lambda: {"eta_hours": None, "needs": []})
    checks: tuple[Check, ...] = ()
    exit_code: int = 0

    def __repr__(self) -> str:
        return self.summary

    def _repr_html_(self) -> str:
        """Show the sentence and the findings in a notebook."""
        from abtest.display import Table, escape_html

        rows = [[f.severity, f.code, f.message] for f in self.findings]
        table = Table(("severity", "code", "finding"), rows)
        return f"<p><strong>{escape_html(self.summary)}</strong></p>{table.to_html(styled=True)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract `abtest.decision/1`."""
        return {"schema": "abtest.decision/1", **super().to_dict()}
