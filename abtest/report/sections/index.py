"""Do the indexes fit the release? Recorded looks at them: embedding models, stale documents, and comparisons of indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abtest.charts import to_svg
from abtest.charts.index import recall_differences
from abtest.display import Cell, Column, Table, format_time, shorten
from abtest.report.context import Context
from abtest.report.model import Block, Paragraph, Picture, Pictures, Section

_RESULTS = {
    "healthy": ("healthy", "good"), "drift": ("does not fit", "bad"), "no_data": ("nothing to compare", "muted"),
    "promote": ("may replace it", "good"), "hold": ("not proven yet", "warn"), "halt": ("worse", "bad"),
}  # fmt: skip
_CAPTION = "Change of recall on the golden queries, with its interval. In the shaded part the new index is worse than accepted."


def build(context: Context) -> Sequence[Block]:
    """Return the newest recorded looks; nothing when none was recorded (`--record`)."""
    looks = context.looks
    if not looks:
        return []
    rows = [
        [
            "index drift" if look["kind"] == "drift" else "index comparison", shorten(look.get("index_id") or "all", 40),
            format_time(look.get("recorded_as_of")), Cell(*_RESULTS[look.get("status") or look["decision"]]), look["summary"],
        ]
        for look in looks
    ]  # fmt: skip
    blocks: list[Block] = [Table(["Look", "Index", "As of", "Result", "What was found"], rows)]
    for look in looks:
        blocks += _drift(look) if look["kind"] == "drift" else _compare(look)
    return blocks


def _drift(look: Mapping[str, Any]) -> list[Block]:
    """Return which embedding model made each index, beside that of its queries, and how many documents are old."""
    rows: list[list[Any]] = []
    for index in look["indexes"]:
        name = shorten(index["index_id"] or "not named", 40)
        rows += [[name, "index", _version(v), v["rows"], format_time(v["first_updated"])] for v in index["versions"]]
    rows += [
        [shorten(u["index_id"] or "not named", 40), "queries", _version(u), u["calls"], format_time(u["first_seen"])]
        for u in look["queries"]
    ]
    columns = ["Index", "Of", "Embedding model version", Column("Rows", "right"), "Since"]
    title = f"Embedding models, index {shorten(look['index_id'], 40)}" if look.get("index_id") else "Embedding models"
    blocks: list[Block] = [Table(columns, rows, title=title)] if rows else []
    for part in look["documents"]:
        counts = {kind: part[kind]["count"] for kind in ("stale", "missing", "orphaned")}
        if any(counts.values()):
            words = ", ".join(f"{n:,} {kind}" for kind, n in counts.items())
            blocks.append(Paragraph(f"Documents: {words}, of {part['documents']:,}.", "warn"))
    return blocks


def _compare(look: Mapping[str, Any]) -> list[Block]:
    """Return the picture of the candidates; the table above has the sentence."""
    known = [c for c in look["candidates"] if (c["differences"].get("recall") or {}).get("estimate") is not None]
    if not known:
        return []
    return [Pictures([Picture(to_svg(recall_differences({**look, "candidates": known})), _CAPTION)])]


def _version(row: Mapping[str, Any]) -> str:
    return shorten(row["embedding_model_version"] or "not said", 60)


SECTION = Section(key="index", title="Do index and queries fit?", order=62, build=build)
