"""What was decided and done before, the newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abtest.display import Table, clean, format_time, shorten
from abtest.report.context import Context, stage_label
from abtest.report.model import Block, Section

_SHOWN = 12
_STATUS = {"done": "done", "already_done": "was done before", "dry_run": "dry run, nothing changed", "failed": "FAILED"}


def build(context: Context) -> Sequence[Block]:
    """Return what the actuators did for this decision and the changes of decision in this revision."""
    blocks: list[Block] = []
    actions = (context.decision or {}).get("actions") or []
    if actions:
        rows = [[a["actuator"], _STATUS.get(a["status"], a["status"]), a["detail"]] for a in actions]
        blocks.append(Table(["Action", "Result", "Detail"], rows, title="What was done"))
    runs = _runs([*context.history, *([context.decision] if context.decision else [])])
    if len(runs) > 1:
        rows = [
            [format_time(first.get("as_of")), first.get("decision"), stage_label(first), count, _summary(first)]
            for first, count in runs[::-1][:_SHOWN]
        ]
        notes = [f"{len(runs) - _SHOWN} earlier changes are not shown."] if len(runs) > _SHOWN else []
        blocks.append(Table(["From", "Decision", "Stage", "Times", "Why"], rows, title="Decisions", notes=notes))
    if context.older:
        last = context.older[-1]
        row = [last.get("revision"), format_time(last.get("as_of")), last.get("decision"), _summary(last)]
        blocks.append(Table(["Revision", "At", "Last decision", "Why"], [row], title="Before this revision"))
    return blocks


def _runs(records: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], int]]:
    """Join equal decisions in one stage that follow each other: the first of them, and how many they are."""
    runs: list[tuple[Mapping[str, Any], int]] = []
    for record in records:
        key = (record.get("decision"), stage_label(record))
        if runs and (runs[-1][0].get("decision"), stage_label(runs[-1][0])) == key:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((record, 1))
    return runs


def _summary(record: Mapping[str, Any]) -> str:
    return shorten(clean(record.get("summary") or record.get("reason") or ""), 200)


SECTION = Section(key="history", title="What happened", order=65, build=build)
