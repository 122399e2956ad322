"""What all pictures share: colours and words of verdicts, the fixed layout, numbers and text of a metric."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WIDTH = 380
"""Width of every picture in pixels: a phone shows it nearly unscaled."""

INK = "#010203"
"""Stands for the colour of the page's text; `to_svg` replaces it with currentColor."""
# Mid-tones: at least 3 to 1 against white and against a dark page (a test computes it).
MUTED = "#7d828b"
BLUE = "#4b83d6"
TONES = {"harm": "#d5504c", "safe": "#2f9968", "inconclusive": BLUE, "unknown": MUTED}
WORDS = {
    "harm": "\u2715 harm proven",
    "safe": "\u2713 safe",
    "inconclusive": "\u25c7 not decided yet",
    "unknown": "? not known",
}
REASONS = {
    "no_data": "? no data",
    "insufficient": "? too little data yet",
    "no_share": "? traffic share not known",
    "zero_variance": "? no variation",
    "zero_baseline": "? baseline is zero",
    "unsupported": "? cannot be computed",
}
"""What stands in place of an unknown verdict, by status."""
SHAPES = {"harm": "square", "safe": "circle", "inconclusive": "diamond", "unknown": "circle"}


# --- Altair ---------------------------------------------------------------------------------------------------------


def layer(data: list[dict[str, Any]]) -> Any:
    """Return a chart over these records; they are written into the chart, so that nothing is ever loaded."""
    import altair

    return altair.Chart(altair.InlineData(values=data))


def as_is(name: str) -> Any:
    """Encode a field that already holds the colour, dash or shape to draw."""
    import altair

    kinds = {"colour": altair.Color, "dash": altair.StrokeDash, "shape": altair.Shape}
    return kinds[name](f"{name}:N", scale=None, legend=None)


def text_layer(words: list[dict[str, Any]], align: str = "left") -> Any:
    """Return a layer of words at pixels: fields px, py, text, colour."""
    import altair

    x, y = altair.X("px:Q", scale=None, axis=None), altair.Y("py:Q", scale=None, axis=None)
    marks = layer(words).mark_text(align=align, baseline="middle", fontSize=11)
    return marks.encode(x=x, y=y, text="text:N", color=as_is("colour"))


@dataclass(frozen=True)
class Frame:
    """Size of the plot and the room around it, in pixels."""

    width: int
    height: int
    left: int
    top: int
    right: int
    bottom: int


def finish(layers: list[Any], frame: Frame, title: str, description: str) -> Any:
    """Return one chart of these layers with our look, the fixed size and the words that stand for it."""
    import altair

    padding = {"left": frame.left, "top": frame.top, "right": frame.right, "bottom": frame.bottom}
    axis = {"labelColor": INK, "labelFontSize": 11, "gridColor": MUTED, "gridOpacity": 0.2}
    chart = altair.layer(*layers).properties(
        width=frame.width,
        height=frame.height,
        autosize="none",
        padding=padding,
        background="transparent",
        usermeta={"abtest": {"title": title, "description": description}},
    )
    return chart.configure(view={"stroke": None}, axis={**axis, "domain": False, "ticks": False}, axisX={"grid": False})


# --- numbers and text of a metric -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """How differences of a metric are drawn: times `factor`, written between `prefix` and `suffix`."""

    factor: float
    prefix: str
    suffix: str


def scale_of(metric: Mapping[str, Any]) -> Scale:
    """Return the unit of the picture: percentage points for a proportion, "$" for a cost, else the metric's own.

    The same rule as `abtest.display.unit_of` (the two modules do not know each other; a test keeps them equal).
    """
    unit = plain_text(metric.get("unit") or "", 24)
    if metric.get("kind") == "proportion" or unit.lower() in ("share", "fraction", "proportion", "points", "pp"):
        return Scale(100.0, "", " pp")
    dollars = re.match(r"(?:\$|usd\b)\s*", unit, re.IGNORECASE)
    if dollars:
        unit = unit[dollars.end() :]
    return Scale(1.0, "$" if dollars else "", f" {unit}" if unit not in ("", "1") else "")


def number(value: Any) -> float | None:
    """Return a finite number as float, anything else as None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def plain_text(value: Any, limit: int) -> str:
    """Return printable text on one line, at most `limit` columns wide (wide characters take two)."""
    text = "".join(c if c.isprintable() else " " if c.isspace() else "" for c in str(value)[: 4 * limit + 4])
    out, used = "", 0
    for c in text:
        used += 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1
        if used > limit:
            return out[:-1] + "…"
        out += c
    return out
