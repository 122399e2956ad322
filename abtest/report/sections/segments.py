"""For whom is it worse? The levels of every segment key, the worst first; exploratory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abtest.charts import interval_forest, to_svg
from abtest.display.segments import segment_table, worst_first
from abtest.report.context import Context
from abtest.report.model import Block, Item, Listing, Picture, Pictures, Section

_ROWS, _BARS = 25, 8
_CAPTION = "Range of harm in the worst levels of {key}, each in multiples of its metric's margin. Exploratory: no level here decides."


def build(context: Context) -> Sequence[Block]:
    """Return a picture, a table and the interactions for each segment key; nothing when there is none."""
    blocks: list[Block] = []
    for segment in context.analysis.get("segments", []):
        bars = [m for m in worst_first(segment["results"]) if m["margin"] is not None and m["harm_upper"] is not None]
        if bars:
            caption = _CAPTION.format(key=segment["key"])
            blocks.append(Pictures([Picture(to_svg(interval_forest([_short(m) for m in bars[:_BARS]])), caption)]))
        blocks.append(segment_table(segment, limit=_ROWS))
        differing = [c for c in segment["interactions"] if c["status"] == "warning"]
        if differing:
            blocks.append(Listing([Item("interaction", c["detail"], "warn") for c in differing]))
    return blocks


def _short(metric: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metric with its level alone: the key is in the caption."""
    return {**metric, "segment": str(metric["segment"]).partition("=")[2]}


SECTION = Section(key="segments", title="For whom is it worse? Segments", order=47, build=build)
