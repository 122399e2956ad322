"""Dicts in, Altair charts out; `to_svg` makes a small static picture of one, byte-identical on every run.

The pictures have no background and draw text in `currentColor`, so they are legible on a light and on a dark page.
Nothing is told by colour alone. The layout is fixed (no automatic sizing), so it does not depend on installed fonts.
Every chart carries a title and a description in words (`usermeta`), which `to_svg` writes into the picture.

    over_time.py   effect_over_time: one metric's confidence sequence
    series.py      has_series, harm_proven_at: reading the series
    forest.py      interval_forest: harm of all guardrails against their margins
    svg.py         to_svg: chart -> small static picture
    base.py        what the pictures share: colours, layout, numbers and text of a metric
"""

from abtest.charts.forest import interval_forest
from abtest.charts.over_time import effect_over_time
from abtest.charts.series import harm_proven_at, has_series
from abtest.charts.svg import to_svg

__all__ = ["effect_over_time", "harm_proven_at", "has_series", "interval_forest", "to_svg"]
