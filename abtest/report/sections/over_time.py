"""How the effect of each guardrail and success metric developed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abtest.charts import effect_over_time, has_series, to_svg
from abtest.display import format_effect, format_margin
from abtest.errors import InvalidInputError
from abtest.report.context import Context
from abtest.report.model import Block, Paragraph, Picture, Pictures, Section

_NOTE = (
    "The line is the difference as it was known at each time (UTC), the band its interval. The dashed line is the "
    "margin (a relative one at the control's level now), dotted lines are the starts of stages."
)


def build(context: Context) -> Sequence[Block]:
    """Return one picture a metric; a metric without a series has none, one that cannot be drawn is named."""
    pictures: list[Picture] = []
    problems: list[Block] = []
    for metric in (*context.guardrails, *context.successes):
        if not has_series(metric):
            continue
        try:
            svg = to_svg(effect_over_time(metric, titled=False))
        except InvalidInputError as error:
            problems.append(Paragraph(f"{context.label(metric)} cannot be drawn: {error.message}.", "note"))
        else:
            pictures.append(Picture(svg, _caption(context, metric)))
    return [Pictures(pictures, _NOTE), *problems] if pictures else problems


def _caption(context: Context, metric: Mapping[str, Any]) -> str:
    margin = "" if metric["margin"] is None else f", margin {format_margin(metric)}"
    return f"{context.label(metric)}: {format_effect(metric)}{margin}"


SECTION = Section(key="over-time", title="Effect over time", order=50, build=build)
