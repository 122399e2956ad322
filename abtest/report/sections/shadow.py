"""Was it safe before anybody saw it? The newest decision of the shadow stage, from the ledger; nothing is read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abtest.charts import interval_forest, to_svg
from abtest.display import (
    Cell,
    Column,
    Table,
    format_effect,
    format_harm,
    format_margin,
    format_time,
    format_value,
    metric_label,
    verdict_tone,
    verdict_words,
)
from abtest.report.context import Context
from abtest.report.model import Block, Paragraph, Picture, Pictures, Section

_CAPTION = "Range of harm on the same requests, each in multiples of its own margin. In the shaded part the candidate does too much harm."
_NOTE = (
    "Gain: how many times more answers two separate groups would need for the same certainty. Later stages compare users who saw "
    "the answers; this one compared answers that nobody saw."
)


def build(context: Context) -> Sequence[Block]:
    """Return what the shadow stage found; nothing when there were no pairs."""
    record = _newest(context)
    if record is None:
        return []
    found: Mapping[str, Any] = record["shadow"]
    metrics: list[dict[str, Any]] = [dict(m) for m in found["metrics"]]
    tone = {"promote": "", "halt": "bad"}.get(str(record["decision"]), "warn")
    blocks: list[Block] = [
        Paragraph(f"{record['summary']} ({format_time(record['as_of'])})", tone),
        Paragraph(_mirrored(found)),
    ]
    drawn = [
        m for m in metrics if m["role"] == "guardrail" and (m["harm_lower"] is not None or m["harm_upper"] is not None)
    ]
    if drawn:
        blocks.append(Pictures([Picture(to_svg(interval_forest(drawn)), _CAPTION)]))
    columns = ["Metric", Column("Control", "right"), Column("Candidate", "right"), Column("Change (paired)", "right")]
    columns += [Column("Gain", "right"), Column("Margin", "right"), Column("Harm", "right"), "Verdict"]
    table = Table(columns, [_row(m) for m in metrics], notes=[_NOTE])
    return [*blocks, table.without_empty_columns()]


def _newest(context: Context) -> dict[str, Any] | None:
    """Return the last shadow decision with pairs in the history of this revision."""
    for record in reversed(context.history):
        found: Any = record.get("shadow")
        if isinstance(found, Mapping) and found.get("pairs"):  # pyright: ignore[reportUnknownMemberType]
            return record
    return None


def _mirrored(found: Mapping[str, Any]) -> str:
    """Return how many answers were compared, and how traffic was mirrored."""
    how: Mapping[str, Any] = found["sampled"]
    text = f"{found['pairs']:,} requests of {found['units']:,} units were answered by both arms"
    if how.get("share") is not None:
        text += (
            f"; {how['sessions_mirrored']:,} of {how['sessions']:,} sessions ({how['share'] * 100:.3g} %) were mirrored"
        )
    return text + (", in part only: single requests were sampled." if how.get("by") == "request" else ".")


def _row(metric: Mapping[str, Any]) -> list[Any]:
    return [
        metric_label(metric),
        format_value(metric, metric["control_value"]),
        format_value(metric, metric["treatment_value"]),
        format_effect(metric),
        None if metric["gain"] is None else f"{metric['gain']:.3g} x",
        format_margin(metric),
        format_harm(metric),
        Cell(verdict_words(metric), verdict_tone(metric)),
    ]


SECTION = Section(key="shadow", title="Was it safe before anybody saw it? Shadow", order=55, build=build)
