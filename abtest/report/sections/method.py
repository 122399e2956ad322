"""How it was computed: method, error level and adjustments of each metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abtest.display import Column, Table, format_share, status_words
from abtest.report.context import Context
from abtest.report.model import Block, Item, Listing, Paragraph, Section


def build(context: Context) -> Sequence[Block]:
    """Return error levels, one row a metric, and the notes of the analysis."""
    analysis = context.analysis
    blocks: list[Block] = [
        Paragraph(
            f"Error levels: {format_share(analysis['alpha'])} for intervals and for calling a guardrail safe, "
            f"{format_share(analysis['halt_budget'])} for stopping, shared by all guardrails that can stop the release."
        )
    ]
    if context.metrics:
        columns = ["Metric", "Method", Column("\u03b1 of the interval", "right"), Column("\u03b1 of the stop", "right")]
        columns += [Column("Units", "right"), Column("Rows", "right"), Column("Rows without a value", "right"), "Notes"]
        blocks.append(Table(columns, [_row(context, m) for m in context.metrics]).without_empty_columns())
    if analysis["notes"]:
        blocks.append(Listing([Item("", note) for note in analysis["notes"]]))
    return blocks


def _row(context: Context, metric: Mapping[str, Any]) -> list[Any]:
    remarks = [metric["note"]] if metric["note"] else []
    if metric["status"] != "ok" and not remarks:
        remarks.append(status_words(metric["status"]))
    return [
        context.label(metric),
        metric["method"].replace("_", " "),
        None if metric["alpha"] is None else format_share(metric["alpha"]),
        None if metric["harm_alpha"] is None else format_share(metric["harm_alpha"]),
        f"{metric['n_control']:,} + {metric['n_treatment']:,}",
        metric["rows"] or None,
        metric["rows_missing"] or None,
        " ".join(remarks),
    ]


SECTION = Section(key="method", title="How it was computed", order=70, build=build)
