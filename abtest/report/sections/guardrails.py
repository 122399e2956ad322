"""Is it safe? Each guardrail's harm against its margin, as a picture and as a table."""

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
    format_value,
    shorten,
    verdict_tone,
    verdict_words,
)
from abtest.report.context import Context
from abtest.report.model import Block, Picture, Pictures, Section

_NOTE = (
    "Harm is the range that the data still allows; larger is worse. When all of it is past the margin, harm is proven; "
    "when all of it is below the margin, the guardrail is safe."
)
_CAPTION = "Range of harm, each in multiples of its own margin. In the shaded part the release does too much harm."


def build(context: Context) -> Sequence[Block]:
    """Return the picture and the table; nothing when the experiment has no guardrail."""
    metrics = context.guardrails
    if not metrics:
        return []
    blocks: list[Block] = []
    if any(m["harm_lower"] is not None or m["harm_upper"] is not None for m in metrics):
        blocks.append(Pictures([Picture(to_svg(interval_forest(metrics)), _CAPTION)]))
    columns = ["Metric", *arm_columns(context), Column("Change", "right"), Column("Margin", "right")]
    columns += [Column("Harm", "right"), "If harmful", "Verdict"]
    table = Table(columns, [_row(context, m) for m in metrics], notes=[_NOTE])
    return [*blocks, table]


def arm_columns(context: Context) -> list[Column]:
    """Return the headings of the two value columns: the names of the arms."""
    several = context.several_treatments
    treatment = "Treatment" if several else context.treatment
    return [Column(shorten(context.analysis["control"], 24), "right"), Column(shorten(treatment, 24), "right")]


def _row(context: Context, metric: Mapping[str, Any]) -> list[Any]:
    return [
        context.label(metric),
        format_value(metric, metric["control_value"]),
        format_value(metric, metric["treatment_value"]),
        format_effect(metric),
        format_margin(metric),
        format_harm(metric),
        None if metric["action"] is None else shorten(metric["action"], 20),
        Cell(verdict_words(metric), verdict_tone(metric)),
    ]


SECTION = Section(key="guardrails", title="Is it safe? Guardrails", order=30, build=build)
