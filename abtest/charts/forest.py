"""The harm of all guardrails against their margins, in one picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from abtest.charts.base import (
    INK,
    MUTED,
    REASONS,
    SHAPES,
    TONES,
    WIDTH,
    WORDS,
    Frame,
    as_is,
    finish,
    layer,
    number,
    plain_text,
    text_layer,
)
from abtest.errors import InvalidInputError

_REACH = (-3.0, 5.0)
"""The picture goes no further than this many margins; longer intervals end in an arrow."""
_ROW = 38
_WORDS_OF_AXIS = "datum.value == 0 ? 'no change' : datum.value == 1 ? 'margin' : datum.value + ' \u00d7 margin'"


def interval_forest(metrics: Sequence[Mapping[str, Any]]) -> Any:
    """Return the harm interval of each guardrail divided by its margin (an `altair.LayerChart`).

    0 is no change, 1 is the margin, right is worse: metrics of different units can be compared. An interval that goes
    on past the picture, or has no bound on that side, ends in an arrow. A metric without bounds has a name and words.

    Args:
        metrics: `MetricResult` dicts with `margin`, `harm_lower`, `harm_upper` and `verdict`.

    Raises:
        InvalidInputError: When no metric is given.
    """
    if not metrics:
        raise InvalidInputError("no metric to draw", hint="pass the guardrails of an analysis")
    rows = [_row(metric, i) for i, metric in enumerate(metrics)]
    low, high = _reach(rows)
    frame = Frame(width=WIDTH - 24, height=_ROW * len(rows), left=12, top=6, right=12, bottom=22)
    bars = [_bar(r, low, high) for r in rows if r["lower"] is not None or r["upper"] is not None]
    dots = [r for r in rows if r["estimate"] is not None and low <= r["estimate"] <= high]
    layers = [*_ground(low, high, frame.height), *_marks(bars, dots, (low, high), frame.height)]
    layers += [text_layer(_words(rows, "label", 0)), text_layer(_words(rows, "words", frame.width), "right")]
    description = " ".join(_sentence(r) for r in rows)
    return finish(layers, frame, "Harm of each guardrail against its margin", description)


def _row(metric: Mapping[str, Any], index: int) -> dict[str, Any]:
    margin = number(metric.get("margin"))
    relative = metric.get("margin_kind") == "relative"
    effect = number(metric.get("relative_estimate" if relative else "estimate"))
    if effect is not None and metric.get("better") == "higher":
        effect = -effect
    verdict = str(metric.get("verdict"))
    verdict = verdict if verdict in TONES else "unknown"
    segment = f" ({plain_text(metric['segment'], 14)})" if metric.get("segment") else ""

    def in_margins(value: float | None) -> float | None:
        return None if value is None or margin is None or margin <= 0 else float(f"{value / margin:.6g}")

    return {
        "y": _ROW * index + 27,
        "label": plain_text(metric.get("metric"), 18 if segment else 32) + segment,
        "words": REASONS.get(str(metric.get("status")), WORDS[verdict]) if verdict == "unknown" else WORDS[verdict],
        "colour": TONES[verdict],
        "shape": SHAPES[verdict],
        "lower": in_margins(number(metric.get("harm_lower"))),
        "upper": in_margins(number(metric.get("harm_upper"))),
        "estimate": in_margins(effect),
    }


def _reach(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    bounds = [r[name] for r in rows for name in ("lower", "upper", "estimate") if r[name] is not None]
    low = max(min([-0.5, *bounds]), _REACH[0])
    high = min(max([1.5, *bounds]), _REACH[1])
    pad = 0.04 * (high - low)
    return low - pad, high + pad


def _bar(row: Mapping[str, Any], low: float, high: float) -> dict[str, Any]:
    lower, upper = row["lower"], row["upper"]
    return {
        "y": row["y"],
        "colour": row["colour"],
        "lower": low if lower is None else min(max(lower, low), high),
        "upper": high if upper is None else min(max(upper, low), high),
        "cut_low": lower is None or lower < low,
        "cut_high": upper is None or upper > high,
    }


def _axes(low: float, high: float, height: int) -> tuple[Any, Any]:
    """Return x (in margins) and y (in pixels from the top), each a function of the field's name."""
    import altair

    room = 0.09 * (high - low)  # half of the longest word: a word at the very edge would be cut
    ticks = [0, 1, *(v for v in range(math.ceil(low + room), math.floor(high - room) + 1) if v not in (0, 1))]
    # Neighbouring words must not touch: with a long axis only every second tick is named.
    ticks = [v for v in sorted(ticks) if v in (0, 1) or high - low < 4 or (v % 2 == 1 and v > 1)]
    axis = altair.Axis(title=None, values=ticks, grid=False, labelExpr=_WORDS_OF_AXIS, labelOverlap=False)
    x_scale = altair.Scale(domain=[low, high], nice=False, zero=False)
    y_scale = altair.Scale(domain=[height, 0], nice=False, zero=False)
    return (
        lambda name: altair.X(f"{name}:Q", scale=x_scale, axis=axis),
        lambda name: altair.Y(f"{name}:Q", scale=y_scale, axis=None),
    )


def _ground(low: float, high: float, height: int) -> list[Any]:
    """Return the area past the margin and, beside each bar, the lines of no change and of the margin."""
    x, y = _axes(low, high, height)
    area = [{"x": 1.0, "x2": high, "y": 0, "y2": height}]
    # One short line a row: a long one would run through the names.
    pieces = [(top + 21, top + _ROW - 3) for top in range(0, height, _ROW)]
    zero, margin = ([{"x": at, "y": a, "y2": b} for a, b in pieces] for at in (0.0, 1.0))
    return [
        layer(area).mark_rect(color=TONES["harm"], opacity=0.1).encode(x=x("x"), x2="x2:Q", y=y("y"), y2="y2:Q"),
        layer(zero).mark_rule(color=MUTED).encode(x=x("x"), y=y("y"), y2="y2:Q"),
        layer(margin).mark_rule(color=TONES["harm"], strokeDash=[4, 2]).encode(x=x("x"), y=y("y"), y2="y2:Q"),
    ]


def _marks(
    bars: list[dict[str, Any]], dots: list[dict[str, Any]], reach: tuple[float, float], height: int
) -> list[Any]:
    x, y = _axes(*reach, height)
    arrows = [
        {"y": bar["y"], "x": edge, "shape": f"triangle-{side}", "colour": bar["colour"]}
        for bar in bars
        for edge, side, cut in ((reach[0], "left", bar["cut_low"]), (reach[1], "right", bar["cut_high"]))
        if cut
    ]
    layers = [layer(bars).mark_rule(strokeWidth=3).encode(x=x("lower"), x2="upper:Q", y=y("y"), color=as_is("colour"))]
    for points, at in ((arrows, "x"), (dots, "estimate")):
        marks = layer(points).mark_point(filled=True, size=64, opacity=1)
        layers.append(marks.encode(x=x(at), y=y("y"), shape=as_is("shape"), color=as_is("colour")))
    return layers


def _words(rows: Sequence[Mapping[str, Any]], field: str, px: int) -> list[dict[str, Any]]:
    return [
        {"px": px, "py": r["y"] - 14, "text": r[field], "colour": INK if field == "label" else r["colour"]}
        for r in rows
    ]


def _sentence(row: Mapping[str, Any]) -> str:
    lower, upper = ("unknown" if row[k] is None else f"{row[k]:.2g}" for k in ("lower", "upper"))
    return f"{row['label']}: {row['words'][2:]}, {lower} to {upper} times its margin."
