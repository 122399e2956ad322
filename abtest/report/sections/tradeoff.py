"""Was it worth it? Recorded tradeoffs about the release: the verdict, what it hinges on, cost over volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abtest.charts import to_svg
from abtest.charts.tradeoff import cost_over_volume
from abtest.display import Cell, Table, format_time
from abtest.report.context import Context
from abtest.report.model import Block, Item, Listing, Paragraph, Picture, Pictures, Section
from abtest.stats.break_even import BreakEven
from abtest.tradeoff.legs import Interval
from abtest.tradeoff.tables import VERDICTS
from abtest.tradeoff.words import usd_interval, volume

_CAPTION = "Total cost a month over the volume, with the interval of the technique; the bar on the axis is the interval of the break-even."
_TONES = {"switch": "good", "keep": "muted", "undecided": "warn"}


def build(context: Context) -> Sequence[Block]:
    """Return the newest recorded tradeoff of every id; nothing when none was recorded (`abtest tradeoff SPEC --record`)."""
    return [block for found in context.tradeoffs for block in _blocks(found)]


def _blocks(found: Mapping[str, Any]) -> list[Block]:
    verdict = str(found["verdict"])
    words = f"{VERDICTS[verdict]}: {found['reason']} ({found['id']}, {format_time(found['as_of'])})"
    blocks: list[Block] = [Paragraph(words, "warn" if verdict == "not_yet_decidable" else "")]
    if found["hinges_on"]:
        blocks.append(Listing([Item("Hinges on", hinge) for hinge in found["hinges_on"]]))
    columns = ["Technique", "Verdict", "Cost a success", "Saving a task", "Break-even, tasks a month", "Saving a month"]
    rows = [
        [
            c["technique"], Cell(c["verdict"], _TONES[c["verdict"]]), _usd(c["facts"]["cost_per_success"]), _usd(c["saving"]),
            volume(BreakEven(**c["break_even"])), _usd(c["saving_a_month"]),
        ]
        for c in found["comparisons"]
    ]  # fmt: skip
    blocks.append(Table(columns, rows, notes=[f"{found['design']}: {found['confidence']}"]))
    drawn = [c for c in found["comparisons"] if c["saving"]["value"] is not None]
    if drawn:
        pictures = [Picture(to_svg(cost_over_volume(c, tasks_a_month=found["tasks_a_month"])), _CAPTION) for c in drawn]
        blocks.append(Pictures(pictures))
    return blocks


def _usd(found: Mapping[str, Any]) -> str:
    return usd_interval(Interval(**found))


SECTION = Section(key="tradeoff", title="Is it worth it? Cost and quality", order=48, build=build)
