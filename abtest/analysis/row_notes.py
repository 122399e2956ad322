"""What a result says about its rows: those that cannot tell, that are too young, that were capped, that have no price."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from abtest.metrics.base import MetricSpec
from abtest.metrics.missing import missing_gap_note, missing_note, unseen_note
from abtest.results import MetricResult

if TYPE_CHECKING:
    from abtest.analysis.evidence import Evidence


@dataclass(frozen=True)
class RowCounts:
    """Rows (requests or calls) of one metric in one arm.

    Attributes:
        rows: All of them.
        known: Those that can tell; young ones cannot.
        young: Those that are too young for their outcome to be known (`mature_after`).
        touched: Those whose value was cut at the cap.
    """

    rows: int
    known: int
    young: int
    touched: int

    @property
    def mature(self) -> int:
        """Return the rows that are old enough."""
        return self.rows - self.young


def row_counts(evidence: Evidence, j: int, arm: str) -> RowCounts:
    """Return the counts of metric `j` in an arm, from what sql/population.sql said; calls that were randomised count."""
    mine = [r for r in evidence.calls if r["arm"] == arm and not r["not_randomised"] and not r["no_unit"]]

    def total(name: str) -> int:
        return sum(int(row.get(name, 0)) for row in mine)

    counted = total("calls" if evidence.scan.measures[j].per == "call" else "requests")
    young = total(f"young_{j}")
    # Several attempts of one request may each have a score (or a part of a sum): it is one request that can tell.
    return RowCounts(counted, min(total(f"known_{j}"), counted - young), young, total(f"touched_{j}"))


def with_row_notes(evidence: Evidence, j: int, result: MetricResult) -> MetricResult:
    """Return the result with what is to be said about its rows in the note, and the counts in the details.

    Levels of a segment get no such note: rows are counted for all traffic.
    """
    if j not in evidence.active or evidence.segment is not None:
        return result
    spec = evidence.experiment.metrics[j]
    control, other = (row_counts(evidence, j, arm) for arm in (evidence.experiment.control, result.treatment))
    details: dict[str, Any] = dict(result.details)
    notes = [result.note, *_missing(spec, control, other)]
    young, rows = control.young + other.young, control.rows + other.rows
    if spec.mature_after is not None:
        details["immature"] = {"after": spec.mature_after, "rows": young, "share": young / rows if rows else None}
        share = f" ({100 * young / rows:.3g} %)" if young else ""
        notes.append(f"{young:,} of {rows:,} rows{share} are younger than {spec.mature_after} and do not count yet")
    cap = evidence.scan.all_caps.get(j)
    if cap is not None:
        touched = control.touched + other.touched
        details["cap"] = {"value": cap, "rows_touched": touched}
        if touched:
            notes.append(f"{touched:,} rows above the cap of {cap:g} count as {cap:g}")
    note = "; ".join(filter(None, notes))
    return replace(result, note=note, details=details, rows_missing=max(result.rows_missing - young, 0))


def _missing(spec: MetricSpec, control: RowCounts, other: RowCounts) -> list[str]:
    known, mature = control.known + other.known, control.mature + other.mature
    said = missing_note(spec, known, mature)
    if said is None and known < mature and "cost_usd" in spec.measure().columns:
        said = f"{mature - known:,} of {mature:,} rows have no cost"
    gap = missing_gap_note(spec, (control.known, control.mature), (other.known, other.mature))
    return [text for text in (said, gap) if text]


def never_seen(evidence: Evidence, j: int, treatment: str) -> str | None:
    """Return why a metric of clicks cannot be judged while nobody clicked in either arm: it may not be logged."""
    arms = {evidence.experiment.control, treatment}
    events = sum(int(row[f"x{j}"]) for row in evidence.cells if row["arm"] in arms)
    return unseen_note(evidence.experiment.metrics[j], events)
