"""What ran: the versions of each arm, and when they changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abtest.display import Column, Table, format_time, shorten
from abtest.report.context import Context
from abtest.report.model import Block, Item, Listing, Paragraph, Section

_ROWS = 12


def build(context: Context) -> Sequence[Block]:
    """Return the table of versions by arm and the changes; nothing where the report was made without them."""
    found = context.versions
    if found is None:
        return []
    if not found["versions"]:
        return [Paragraph(found["note"], "note")] if found["note"] else []
    heads = [
        "Arm, surface", "Version", Column("Calls", "right"), Column("Share", "right"), "First call", "Last call", "Labels",
    ]  # fmt: skip
    whole = [v for v in found["versions"] if v["part_of"] is None]
    hidden = len(found["versions"]) - len(whole)
    notes = [f"and {len(whole) - _ROWS} more"] if len(whole) > _ROWS else []
    if hidden:
        calls = sum(v["calls"] for v in found["versions"] if v["part_of"] is not None)
        notes.append(f"{calls:,} calls lack some fields (failed calls have no response model) and are not listed.")
    blocks: list[Block] = [Table(heads, [_row(v) for v in whole[:_ROWS]], notes=notes).without_empty_columns()]
    if found["changes"]:
        blocks.append(
            Listing([Item(format_time(c["at"]), shorten(c["message"], 300), "warn") for c in found["changes"][:_ROWS]])
        )
    else:
        blocks.append(Paragraph("Each arm ran one version from its first call to its last."))
    return blocks


def _row(v: Mapping[str, Any]) -> list[Any]:
    where = v["arm"] if v["surface"] is None else f"{v['arm']}, {v['surface']}"
    return [
        where, f"{shorten(v['words'], 60)} ({v['short_id']})", f"{v['calls']:,}", f"{100 * v['share']:.0f} %",
        format_time(v["first_seen"]), format_time(v["last_seen"]), ", ".join(v["labels"]) or None,
    ]  # fmt: skip


SECTION = Section(key="versions", title="What ran", order=58, build=build)
