"""Everything worth saying, the worst first."""

from __future__ import annotations

from collections.abc import Sequence

from abtest.report.context import Context
from abtest.report.model import Block, Item, Listing, Section

_SEVERITIES = {
    "critical": ("Critical", "bad"),
    "error": ("Error", "bad"),
    "warning": ("Warning", "warn"),
    "info": ("Note", "muted"),
}


def build(context: Context) -> Sequence[Block]:
    """Return the decision's findings as a list; nothing when there are none."""
    ranks = list(_SEVERITIES)
    known = [f for f in context.findings if f["severity"] in ranks]
    ordered = sorted(known, key=lambda f: ranks.index(f["severity"]))
    items = [Item(_SEVERITIES[f["severity"]][0], f["message"], _SEVERITIES[f["severity"]][1]) for f in ordered]
    return [Listing(items)] if items else []


SECTION = Section(key="findings", title="Findings", order=20, build=build)
