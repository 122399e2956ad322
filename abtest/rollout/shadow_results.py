"""The answer of the shadow stage: `abtest.shadow/1`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from abtest.analysis.shadow_results import ShadowMetric
from abtest.results import DecisionName, Finding, Stage, ToDict

if TYPE_CHECKING:
    import polars

    from abtest.display import Table


@dataclass(frozen=True)
class ShadowAnalysis(ToDict):
    """What pairs of answers say, and whether the candidate may go on to the canary.

    Attributes:
        pairs: Requests answered by both arms that count.
        units: Units they belong to.
        sampled: How traffic was mirrored.
        decision: promote (to the canary), hold or halt.
        metrics: Those of the spec first, then those that are shown for information.
        agreement: How often both answers say the same.
        mcnemar: Tables of yes-or-no metrics, a row a request.
        noise_floor: What repeated answers of one model tell.
        ppi: What people would say of answers that only a judge has seen, by metric.
        exit_code: 0 promote, 10 hold, 20 halt, 30 not trustworthy, 40 no pairs.
    """

    experiment: str
    revision: int
    stage: Stage
    control: str
    treatment: str
    pairs: int
    units: int
    sampled: Mapping[str, Any]
    decision: DecisionName
    reason: str
    summary: str
    findings: tuple[Finding, ...]
    metrics: tuple[ShadowMetric, ...]
    agreement: Mapping[str, Any]
    mcnemar: tuple[Mapping[str, Any], ...]
    noise_floor: Mapping[str, Any]
    ppi: Mapping[str, Any]
    as_of: str | None
    decision_id: str
    policy_sha256: str
    evidence_sha256: str = ""
    previous_decision_id: str | None = None
    dry_run: bool = False
    needs: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    exit_code: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract `abtest.shadow/1`."""
        return {"schema": "abtest.shadow/1", **super().to_dict()}

    def metric(self, name: str) -> ShadowMetric:
        """Return one metric's result; raises KeyError for an unknown name."""
        for result in self.metrics:
            if result.metric == name:
                return result
        raise KeyError(name)

    def __repr__(self) -> str:
        return f"{self.summary}\n\n{self.table().to_text()}"

    def _repr_html_(self) -> str:
        """Show the sentence and the table in a notebook."""
        from abtest.display import escape_html

        return f"<p><strong>{escape_html(self.summary)}</strong></p>{self.table().to_html(styled=True)}"

    def table(self, *, listed: bool | None = None) -> Table:
        """Return the table of metrics; `listed`: only those of the spec, or only the others."""
        from abtest.rollout.shadow_table import shadow_table

        rows = [m.to_dict() for m in self.metrics if listed is None or m.listed == listed]
        return shadow_table(
            rows, title=f"{self.experiment}, revision {self.revision}: {self.pairs:,} pairs of {self.units:,} units"
        )

    def to_polars(self) -> polars.DataFrame:
        """Return a polars frame: a row a metric, every number of the JSON contract a column."""
        return self.table().to_polars()

    def plot(self) -> Any:
        """Return an Altair picture of all guardrails: the range of harm against each margin."""
        from abtest.charts import interval_forest

        return interval_forest([m.to_dict() for m in self.metrics if m.role == "guardrail"])
