"""The levels of a segment as one small table, the worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abtest.display.numbers import format_effect, format_pvalue, format_value
from abtest.display.table import Cell, Column, Table
from abtest.display.text import shorten
from abtest.display.words import verdict_tone, verdict_words

_NOTE = "Exploratory: nothing here decides. The p-value is adjusted for all levels and metrics of this key (BH, at this moment)."


def worst_first(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the results of levels that say something, sorted by how far to the bad side their interval lies."""
    known = [
        r
        for r in results
        if r.get("status") == "ok" and r.get("ci_lower") is not None and r.get("ci_upper") is not None
    ]
    return sorted(known, key=lambda r: (-_badness(r), str(r.get("metric")), str(r.get("segment"))))


def _badness(result: Mapping[str, Any]) -> float:
    """Return the harm in half widths of its interval: 1 is an interval that just leaves zero out."""
    low, high, estimate = float(result["ci_lower"]), float(result["ci_upper"]), float(result.get("estimate") or 0.0)
    if result.get("kind") == "distribution":  # a distance has no good side, and its interval stops at zero
        return low / (high - low) if high > low else 0.0
    radius = (high - low) / 2
    return (estimate if result.get("better") == "lower" else -estimate) / radius if radius > 0 else 0.0


def segment_table(segment: Mapping[str, Any], *, limit: int) -> Table:
    """Return the table of a segment key (a dict of `SegmentAnalysis`).

    Args:
        segment: The key with its results.
        limit: Rows at most; the note says how many there are.
    """
    results: Sequence[Mapping[str, Any]] = segment["results"]
    known = worst_first(results)
    several = len({r.get("treatment") for r in results}) > 1
    columns = [
        str(segment["key"]),
        "Metric",
        *(["Treatment"] if several else []),
        Column("Units", "right"),
        Column("Control", "right"),
    ]
    columns += [
        Column("Treatment's" if several else "Treatment", "right"),
        Column("Change", "right"),
        Column("p (BH)", "right"),
        "Verdict",
    ]
    rows = [
        [
            shorten(str(r["segment"]).partition("=")[2], 40), shorten(r["metric"], 40), *([shorten(r["treatment"], 24)] if several else []),
            f"{r['n_control']:,} + {r['n_treatment']:,}", format_value(r, r["control_value"]), format_value(r, r["treatment_value"]),
            format_effect(r), format_pvalue(r["details"].get("bh_pvalue")), Cell(_words(r), verdict_tone(r)),
        ]
        for r in known[:limit]
    ]  # fmt: skip
    left = len(known) - len(rows)
    silent = len(results) - len(known)
    notes = [_NOTE]
    notes += [f"{left} more rows are in the JSON."] if left else []
    notes += [f"{silent} rows say nothing yet (too few units, no value, or no variation)."] if silent else []
    return Table(columns, rows, title=f"by {segment['key']}: {level_words(segment)}", notes=notes)


def level_words(segment: Mapping[str, Any]) -> str:
    """Return how many levels there are, and whether their users are the same."""
    found, shown = int(segment["levels_found"]), len(segment["levels"])
    words = f"{found} level{'' if found == 1 else 's'}"
    if shown < found:
        words += f", the {shown - 1} with most units and (other)"
    shared = int(segment["shared_units"])
    return f"{words}; {shared:,} units were in several of them" if shared else words


def _words(result: Mapping[str, Any]) -> str:
    if result.get("kind") == "distribution" and result.get("verdict") == "harm":
        return "moved"
    return "better" if result.get("superior") else verdict_words(result)
