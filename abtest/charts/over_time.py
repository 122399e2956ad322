"""The confidence sequence of one metric over time, with its margin and the stages of the ramp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from abtest.charts.base import BLUE, INK, MUTED, TONES, WIDTH, Frame, as_is, finish, layer, plain_text, text_layer
from abtest.charts.series import Series, read

_FRAME = Frame(width=WIDTH - 46 - 66, height=150, left=46, top=42, right=66, bottom=22)
_WORDS_OF_AXIS = "utcFormat(datum.value, utchours(datum.value) == 0 ? '%-d %b' : '%H:%M')"
_CHARACTER = 6.0
"""Width of a character in pixels, about: enough to keep labels apart."""


def effect_over_time(metric: Mapping[str, Any], *, titled: bool = True) -> Any:
    """Return the confidence sequence of one metric over time (an `altair.LayerChart`).

    The band is the interval, the line the estimate, both as they were known at each time (UTC). Marked are zero, the
    margin (a relative margin is drawn at the control's level at the end), the start of each stage and the first time
    at which the bound of the harm was past the margin. The first, very wide part of the band may go on off the picture.
    A quantile is drawn as it is judged: the difference in the share of calls past the limit, 0 being its margin.

    Args:
        metric: A `MetricResult` as a dict, with its `series`.
        titled: Write the metric's name into the picture; a page with its own caption says False.

    Raises:
        InvalidInputError: When the series has no estimate at all, or a time that is no ISO time.
    """
    series = read(metric)
    times = (series.points[0]["t"], series.points[-1]["t"])
    if times[0] == times[1]:
        times = (times[0] - 1_800_000, times[1] + 1_800_000)
    values = _value_range(series)
    layers = [*_marks(series, times, values), text_layer(_words(metric, series, titled, times, values))]
    title = f"{plain_text(metric.get('metric'), 60)}: effect over time"
    return finish(layers, _FRAME, title, _description(metric, series))


# --- drawing --------------------------------------------------------------------------------------------------------


def _value_range(series: Series) -> tuple[float, float]:
    """Return the range of the axis: zero, the margin and the band without its first quarter, where it is very wide."""
    known = [p for p in series.points if p["estimate"] is not None]
    shown = known[len(known) // 4 :]
    values = [p[name] for p in shown for name in ("lower", "estimate", "upper") if p[name] is not None]
    values += [line.value for line in series.lines]
    pad = 0.08 * ((max(values) - min(values)) or 1.0)
    return min(values) - pad, max(values) + pad


def _marks(series: Series, times: tuple[int, int], values: tuple[float, float]) -> list[Any]:
    import altair

    x = altair.X(
        "t:T",
        scale=altair.Scale(type="utc", domain=list(times), nice=False),
        axis=altair.Axis(title=None, values=_ticks(*times), labelExpr=_WORDS_OF_AXIS),
    )
    y_scale = altair.Scale(domain=list(values), nice=False, zero=False)
    y_axis = altair.Axis(title=None, tickCount=4, format="~s" if max(map(abs, values)) >= 10_000 else ",~f")

    def y(name: str) -> Any:
        return altair.Y(f"{name}:Q", scale=y_scale, axis=y_axis)

    points = [_clipped(p, *values) for p in series.points]
    end = [p for p in points if p["estimate"] is not None][-1:]
    lines = [{"y": line.value, "colour": line.colour, "dash": list(line.dash)} for line in series.lines]
    proof = [] if series.proven_at is None else [{"t": series.proven_at}]
    return [
        layer(points).mark_area(color=BLUE, opacity=0.22).encode(x=x, y=y("lower"), y2="upper:Q"),
        layer(lines).mark_rule().encode(y=y("y"), color=as_is("colour"), strokeDash=as_is("dash")),
        layer([{"t": at} for at, _ in series.stages]).mark_rule(color=MUTED, strokeDash=[2, 3]).encode(x=x),
        layer(proof).mark_rule(color=TONES["harm"], strokeWidth=1.5).encode(x=x),
        layer(points).mark_line(color=BLUE, strokeWidth=1.8).encode(x=x, y=y("estimate")),
        layer(end).mark_rule(color=BLUE, strokeWidth=1.8).encode(x=x, y=y("lower"), y2="upper:Q"),
        layer(end).mark_point(color=BLUE, filled=True, size=36, opacity=1).encode(x=x, y=y("estimate")),
    ]


def _ticks(start: int, end: int) -> list[int]:
    """Return at most five round times (UTC): hours for up to a day and a half, else days."""
    hour = 3_600_000
    steps = (1, 2, 3, 6, 12) if end - start <= 36 * hour else (24, 48, 96, 168, 336, 720, 1440, 4320, 8760)
    step = hour * next((s for s in steps if (end - start) / (hour * s) <= 4), steps[-1])
    first = -(-start // step) * step
    return list(range(first, end + 1, step))[:40]


def _clipped(point: Mapping[str, Any], low: float, high: float) -> dict[str, Any]:
    """Return the point within the axis; an unknown bound goes to the edge, an unknown estimate breaks the line."""
    if point["estimate"] is None:
        return {"t": point["t"], "estimate": None, "lower": None, "upper": None}
    ends = {"estimate": point["estimate"], "lower": point["lower"], "upper": point["upper"]}
    ends = {name: (low if name == "lower" else high) if value is None else value for name, value in ends.items()}
    return {"t": point["t"], **{name: float(f"{min(max(v, low), high):.6g}") for name, v in ends.items()}}


# --- words ----------------------------------------------------------------------------------------------------------


def _words(
    metric: Mapping[str, Any], series: Series, titled: bool, times: tuple[int, int], values: tuple[float, float]
) -> list[dict[str, Any]]:
    """Return the words at their pixels: a heading, the stages, and what each line is at its right end."""
    heading = _what(metric, series, 18 if len(series.what) == 0 else 14)
    if titled:
        heading = f"{plain_text(metric.get('metric'), 20 if series.what else 24)}: {heading}"
    words: list[dict[str, Any]] = [
        {"px": 6 - _FRAME.left, "py": 10 - _FRAME.top, "text": heading, "colour": INK if titled else MUTED}
    ]

    def across(at: int) -> float:
        return _FRAME.width * (at - times[0]) / (times[1] - times[0])

    words += _stage_words([(across(at), label) for at, label in series.stages])
    if series.proven_at is not None:
        px = min(across(series.proven_at) + 4, _FRAME.width - 11 * _CHARACTER)
        words.append({"px": px, "py": 9, "text": "harm proven", "colour": TONES["harm"]})
    estimate = series.last["estimate"]
    ends = [(estimate, series.words(estimate) + series.scale.suffix, INK)]
    ends += [(line.value, line.name, line.colour) for line in series.lines]
    heights = [_FRAME.height * (values[1] - value) / (values[1] - values[0]) for value, _, _ in ends]
    heights = _spread(heights, gap=13.0, height=_FRAME.height)
    return words + [
        {"px": _FRAME.width + 7, "py": py, "text": text, "colour": colour}
        for py, (_, text, colour) in zip(heights, ends, strict=True)
    ]


def _stage_words(marks: Sequence[tuple[float, str]]) -> list[dict[str, Any]]:
    """Place labels of stages above the plot; one without room is left out (its line and the description remain)."""
    placed: list[dict[str, Any]] = []
    room = float(_FRAME.width + _FRAME.right)
    for px, label in reversed(marks):
        start = min(px, _FRAME.width + _FRAME.right - _CHARACTER * len(label))
        if start + _CHARACTER * len(label) <= room:
            placed.append({"px": start, "py": -9, "text": label, "colour": MUTED})
            room = start - _CHARACTER
    return placed[::-1]


def _spread(pixels: Sequence[float], *, gap: float, height: float) -> list[float]:
    """Move positions so that any two are `gap` apart and all are above `height`; their order is kept."""
    order = sorted(range(len(pixels)), key=lambda i: pixels[i])
    result = list(pixels)
    for before, after in pairwise(order):
        result[after] = max(result[after], result[before] + gap)
    limit = height
    for i in reversed(order):
        result[i] = min(result[i], limit)
        limit = result[i] - gap
    return [round(v, 1) for v in result]


def _what(metric: Mapping[str, Any], series: Series, limit: int) -> str:
    arms = f"{plain_text(metric.get('treatment'), limit)} minus {plain_text(metric.get('control'), limit)}"
    unit = (series.scale.prefix + series.scale.suffix).strip()
    return series.what + (f"{arms}, in {unit}" if unit else arms)


def _description(metric: Mapping[str, Any], series: Series) -> str:
    first, end = (_date(series.points[i]["t"]) for i in (0, -1))
    last = series.last
    estimate, lower, upper = (series.words(last[name]) for name in ("estimate", "lower", "upper"))
    parts = [f"{_what(metric, series, 40)}, from {first} to {end}."]
    parts.append(f"At the end {estimate}, interval {lower} to {upper}.")
    parts += [f"Margin at {series.words(line.value)}." for line in series.lines if line.name == "margin"]
    if series.proven_at is not None:
        parts.append(f"Harm proven on {_date(series.proven_at)}.")
    parts.append("Stages: " + ", ".join(f"{label} from {_date(at)}" for at, label in series.stages[:20]) + ".")
    return " ".join(parts)


def _date(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M} UTC"
