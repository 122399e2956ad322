"""Total cost a month over the volume: baseline and technique, the technique's band, where they cross, and the volume now."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from abtest.charts.base import (
    BLUE,
    INK,
    MUTED,
    TONES,
    WIDTH,
    Frame,
    as_is,
    finish,
    layer,
    number,
    plain_text,
    text_layer,
)
from abtest.errors import InvalidInputError

_ZERO = "datum.value == 0 ? '0' : datum.label"
_HEIGHT, _POINTS = 210, 25
_FRAME = Frame(width=WIDTH - 74, height=_HEIGHT, left=62, top=40, right=12, bottom=40)


def cost_over_volume(comparison: Mapping[str, Any], *, tasks_a_month: float | None = None) -> Any:
    """Return total cost a month over tasks a month (an `altair.LayerChart`).

    The technique's line is what it costs to bring the baseline's successes; its band is the interval of the saving a task. The hatch under
    the axis is the interval of the break-even volume; an interval without an upper end goes on past the picture.

    Args:
        comparison: A `Comparison` of `abtest.tradeoff/1`.
        tasks_a_month: The volume now.

    Raises:
        InvalidInputError: When the cost of a task is not known.
    """
    per_task = number(comparison["baseline"]["cost_per_task"]["value"])
    saving = {k: number(comparison["saving"][k]) for k in ("value", "lower", "upper")}
    if per_task is None or saving["value"] is None:
        raise InvalidInputError("the cost of a task is not known, so there is nothing to draw")
    fixed = [number(comparison[side]["fixed_a_month"]) or 0.0 for side in ("baseline", "facts")]
    even = comparison["break_even"]
    end = _end(even, tasks_a_month)
    points = [_point(end * i / (_POINTS - 1), per_task, saving, fixed) for i in range(_POINTS)]
    top = 1.05 * max(p[name] for p in points for name in ("baseline", "technique", "upper"))
    names = [plain_text(comparison["baseline"]["name"], 24), plain_text(comparison["technique"], 24)]
    layers = [*_lines(points, end, top), *_marks(even, tasks_a_month, end, top), text_layer(_words(names))]
    if tasks_a_month is not None and tasks_a_month > end:
        beyond = [{"px": _FRAME.width, "py": -28, "text": f"now {_short(tasks_a_month)} →", "colour": INK}]
        layers.append(text_layer(beyond, "right"))
    return finish(
        layers, _FRAME, f"Total cost a month: {names[1]} against {names[0]}", _sentence(names, even, tasks_a_month)
    )


def _end(even: Mapping[str, Any], now: float | None) -> float:
    """Return how far the picture goes: past the break-even and its interval, and past the volume now, when both fit."""
    known = [v for k in ("value", "upper") if (v := number(even.get(k))) is not None and v > 0]
    lower = number(even.get("lower"))
    base = max(known[:1] or [lower or 0.0])
    reach = [1.25 * v for v in known if v <= 5 * base] + [2.0 * base]
    if now is not None and (base == 0 or now <= 8 * base):
        reach.append(1.25 * now)
    return max([*reach, 0.0]) or 1000.0


def _point(volume: float, per_task: float, saving: Mapping[str, float | None], fixed: list[float]) -> dict[str, float]:
    value = saving["value"] or 0.0
    low, high = (value if saving[k] is None else saving[k] for k in ("lower", "upper"))
    costs = [fixed[1] + volume * (per_task - (s or 0.0)) for s in (value, high, low)]
    return {
        "volume": volume, "baseline": fixed[0] + volume * per_task, "technique": costs[0], "lower": max(costs[1], 0.0),
        "upper": costs[2],
    }  # fmt: skip


def _axes(end: float, top: float) -> tuple[Any, Any]:
    """Return x and y, each a function of the field's name."""
    import altair

    words: dict[str, Any] = {"titleColor": INK, "titleFontSize": 11, "titleFontWeight": "normal"}
    x_axis = altair.Axis(title="tasks a month", format="~s", labelExpr=_ZERO, tickCount=5, **words)
    y_axis = altair.Axis(title=None, format="$~s", labelExpr=_ZERO, tickCount=5)
    x_scale = altair.Scale(domain=[0, end], nice=False)
    y_scale = altair.Scale(domain=[0, top], nice=False)
    return (
        lambda name: altair.X(f"{name}:Q", scale=x_scale, axis=x_axis),
        lambda name: altair.Y(f"{name}:Q", scale=y_scale, axis=y_axis),
    )


def _lines(points: list[dict[str, float]], end: float, top: float) -> list[Any]:
    x, y = _axes(end, top)
    data: list[dict[str, Any]] = [{k: float(f"{v:.8g}") for k, v in p.items()} for p in points]
    band = layer(data).mark_area(color=BLUE, opacity=0.2).encode(x=x("volume"), y=y("lower"), y2="upper:Q")
    base = layer(data).mark_line(color=MUTED, strokeDash=[6, 3], strokeWidth=2).encode(x=x("volume"), y=y("baseline"))
    own = layer(data).mark_line(color=BLUE, strokeWidth=2.5).encode(x=x("volume"), y=y("technique"))
    return [band, base, own]


def _marks(even: Mapping[str, Any], now: float | None, end: float, top: float) -> list[Any]:
    """Return the break-even with its interval on the axis, and the volume now."""
    x, y = _axes(end, top)
    layers: list[Any] = []
    value, lower, upper = (number(even.get(k)) for k in ("value", "lower", "upper"))
    if even.get("status") in ("ok", "unbounded", "below"):
        span = [{"a": min(lower or 0.0, end), "b": end if upper is None else min(upper, end), "y": top * 0.012}]
        layers.append(layer(span).mark_rule(color=TONES["safe"], strokeWidth=5).encode(x=x("a"), x2="b:Q", y=y("y")))
        if value is not None and value <= end:
            at = [{"x": value, "y": 0.0, "y2": top, "text": f"break-even {_short(value)}"}]
            layers.append(
                layer(at).mark_rule(color=TONES["safe"], strokeDash=[2, 2]).encode(x=x("x"), y=y("y"), y2="y2:Q")
            )
            layers.append(_label(at, x, y, top * 0.985, left=value > end * 0.6))
    if now is not None and now <= end:
        at = [{"x": now, "y": 0.0, "y2": top, "text": f"now {_short(now)}"}]
        layers.append(layer(at).mark_rule(color=MUTED).encode(x=x("x"), y=y("y"), y2="y2:Q"))
        layers.append(_label(at, x, y, top * 0.08, left=now > end * 0.6))
    return layers


def _label(at: list[dict[str, Any]], x: Any, y: Any, height: float, *, left: bool) -> Any:
    rows = [{"x": at[0]["x"], "y": height, "text": at[0]["text"], "colour": INK}]
    marks = layer(rows).mark_text(
        align="right" if left else "left", dx=-4 if left else 4, baseline="middle", fontSize=11
    )
    return marks.encode(x=x("x"), y=y("y"), text="text:N", color=as_is("colour"))


def _words(names: list[str]) -> list[dict[str, Any]]:
    """Return the legend: dashes and words say which line is which, not only colour."""
    return [
        {"px": 0, "py": -28, "text": f"- - {names[0]}", "colour": MUTED},
        {"px": 0, "py": -12, "text": f"—— {names[1]}, with its band", "colour": BLUE},
    ]


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.3g} M"
    step = 10 ** max(math.floor(math.log10(value)) - 2, 0) if value > 0 else 1
    return f"{round(value / step) * step:,.0f}"


def _sentence(names: list[str], even: Mapping[str, Any], now: float | None) -> str:
    lower, upper = (number(even.get(k)) for k in ("lower", "upper"))
    value = number(even.get("value"))
    status = even.get("status")
    words = {
        "never": f"{names[1]} costs more at every volume.",
        "always": f"{names[1]} costs less at every volume.",
        "unbounded": f"{names[1]} pays above at least {_short(lower)} tasks a month, perhaps never."
        if lower
        else "No volume is known.",
        "below": f"{names[1]} pays below a volume.",
    }.get(str(status), "The break-even is not known.")
    if status == "ok" and value is not None and upper is not None:
        words = (
            f"{names[1]} pays above {_short(value)} tasks a month, interval {_short(lower or 0.0)} to {_short(upper)}."
        )
    return words + ("" if now is None else f" The volume now is {_short(now)}.")
