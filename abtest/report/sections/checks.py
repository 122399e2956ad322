"""Can the data be trusted? Checks of the assignment and of the data."""

from __future__ import annotations

from collections.abc import Sequence

from abtest.display import Cell, Column, Table, format_pvalue, status_words
from abtest.report.context import Context
from abtest.report.model import Block, Section

_RESULTS = {"ok": ("passed", "good"), "failed": ("failed", "bad"), "warning": ("warning", "warn")}


def build(context: Context) -> Sequence[Block]:
    """Return the table of checks; one that did not run says why."""
    checks = context.analysis["checks"]
    if not checks:
        return []
    rows = [
        [check["name"].replace("_", " "), _result(check["status"]), format_pvalue(check["pvalue"]), check["detail"]]
        for check in checks
    ]
    table = Table(["Check", "Result", Column("p-value", "right"), "What was found"], rows)
    return [table.without_empty_columns()]


def _result(status: str) -> Cell:
    words, tone = _RESULTS.get(status, (f"not run: {status_words(status)}", "muted"))
    return Cell(words, tone)


SECTION = Section(key="checks", title="Can the data be trusted? Checks", order=60, build=build)
