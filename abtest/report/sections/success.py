"""Is it better? The success metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abtest.display import Cell, Column, Table, format_effect, format_pvalue, format_value, verdict_tone, verdict_words
from abtest.report.context import Context
from abtest.report.model import Block, Section
from abtest.report.sections.guardrails import arm_columns


def build(context: Context) -> Sequence[Block]:
    """Return the table of success metrics; nothing when the experiment has none."""
    return effect_table(context, context.successes)


def effect_table(context: Context, metrics: Sequence[Mapping[str, Any]]) -> Sequence[Block]:
    """Return a table of values, effects and verdicts, or nothing when there is no metric."""
    if not metrics:
        return []
    columns = ["Metric", *arm_columns(context), Column("Change", "right"), Column("Relative change", "right")]
    columns += [Column("p-value", "right"), "Better is", "Verdict"]
    rows = [
        [
            context.label(m),
            format_value(m, m["control_value"]),
            format_value(m, m["treatment_value"]),
            format_effect(m),
            format_effect(m, relative=True),
            format_pvalue(m["pvalue"]),
            m["better"],
            Cell(verdict_words(m), verdict_tone(m)),
        ]
        for m in metrics
    ]
    return [Table(columns, rows)]


SECTION = Section(key="success", title="Is it better? Success metrics", order=40, build=build)
