"""The table of a paired comparison, from the dicts of `abtest.shadow/1`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abtest.display import (
    Cell,
    Column,
    Table,
    format_effect,
    format_harm,
    format_margin,
    format_value,
    metric_label,
    verdict_tone,
    verdict_words,
)


def shadow_table(metrics: Sequence[Mapping[str, Any]], *, title: str = "") -> Table:
    """Return the table: both arms, the paired change, the same without pairing, what pairing was worth, harm and verdict."""
    columns = ["Metric", Column("Control", "right"), Column("Candidate", "right"), Column("Change (paired)", "right")]
    columns += [
        Column("Unpaired", "right"),
        Column("Gain", "right"),
        Column("Margin", "right"),
        Column("Harm", "right"),
        "Verdict",
    ]
    rows = [
        [
            metric_label(m), format_value(m, m["control_value"]), format_value(m, m["treatment_value"]), format_effect(m), unpaired(m),
            None if m["gain"] is None else f"{m['gain']:.3g} x", format_margin(m), format_harm(m), Cell(verdict_words(m), verdict_tone(m)),
        ]
        for m in metrics
    ]  # fmt: skip
    return Table(columns, rows, title=title, data=list(metrics)).without_empty_columns()


def unpaired(metric: Mapping[str, Any]) -> str:
    """Return the unpaired interval as a picture of what pairing saved; a quantile's is in another unit and is left out."""
    other = metric["unpaired"]
    if not other or other.get("unit") or metric["ci_lower"] is None:
        return ""
    interval = {**metric, "ci_lower": other["ci_lower"], "ci_upper": other["ci_upper"]}
    text = format_effect(interval)
    return text[text.find("[") :] if "[" in text else ""
