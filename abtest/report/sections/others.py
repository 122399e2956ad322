"""Metrics for information: they decide nothing."""

from __future__ import annotations

from collections.abc import Sequence

from abtest.report.context import Context
from abtest.report.model import Block, Section
from abtest.report.sections.success import effect_table


def build(context: Context) -> Sequence[Block]:
    """Return the table of all metrics that are neither guardrail nor success metric."""
    return effect_table(context, context.others)


SECTION = Section(key="others", title="Other metrics, for information", order=45, build=build)
