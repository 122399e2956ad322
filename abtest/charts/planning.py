"""The planning curve: what each metric can tell over the days of the ramp, in units of what it is asked to tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from abtest.charts.base import BLUE, INK, MUTED, TONES, WIDTH, Frame, finish, layer, plain_text, text_layer
from abtest.errors import InvalidInputError

_BAND, _CURVE = 66, 40
_REACH = (0.25, 4.0)
"""The smallest and the largest distance drawn, in margins, on a logarithmic axis."""
_LEFT, _RIGHT = 8, 74


def planning_curve(plan: Mapping[str, Any]) -> Any:
    """Return the picture of the smallest difference that each metric resolves over time; below the line it is decided.

    Args:
        plan: `abtest.plan/1`.

    Raises:
        InvalidInputError: nothing is planned.
    """
    import altair

    curves = [c for c in plan["curves"] if c["points"]]
    if not curves:
        raise InvalidInputError("nothing is planned, there is nothing to draw", hint="give the spec a guardrail")
    days = max(p["day"] for c in curves for p in c["points"])
    width, height = WIDTH - _LEFT - _RIGHT, _BAND * len(curves) + 14
    lines: list[dict[str, Any]] = []
    words: list[dict[str, Any]] = []
    ground: list[dict[str, Any]] = []
    for index, curve in enumerate(curves):
        top = 14 + _BAND * index + _BAND - _CURVE - 4
        asked = "MDE" if curve["question"] == "better" else "margin"
        words.append({"px": 0, "py": top - 9, "text": plain_text(curve["metric"], 40), "colour": INK})
        ground.append({"y": top + _place(1.0), "x": 0.0, "x2": days})
        last = curve["points"][-1]
        decided = next((p["day"] for p in curve["points"] if p["resolves"] <= 1), None)
        tone = TONES["inconclusive"] if decided is None else TONES["safe"]
        said = f"\u25c7 {last['resolves']:.1f} {asked}s" if decided is None else f"\u2713 day {_day(decided)}"
        words.append({"px": width + 5, "py": top + _place(last["resolves"]), "text": said, "colour": tone})
        lines += [
            {"series": str(index), "t": p["day"], "y": round(top + _place(p["resolves"]), 2)} for p in curve["points"]
        ]
    stages = [s for s in plan["stages"] if s["starts"] is not None and s["starts"] < days]
    words += _stage_words(stages, days, width)
    y = altair.Y("y:Q", scale=altair.Scale(domain=[height, 0], nice=False, zero=False), axis=None)
    axis = altair.Axis(title=None, tickCount=6, labelExpr="datum.value == 0 ? 'start' : datum.label + ' d'")
    x_scale = altair.Scale(domain=[0, days], nice=False)

    def x(field: str) -> Any:
        return altair.X(f"{field}:Q", scale=x_scale, axis=axis)

    starts = [{"x": s["starts"], "y": 14, "y2": height} for s in stages if s["starts"] > 0]
    layers = [
        layer(starts).mark_rule(color=MUTED, opacity=0.5, strokeDash=[2, 3]).encode(x=x("x"), y=y, y2="y2:Q"),
        layer(ground).mark_rule(color=TONES["harm"], strokeDash=[4, 2]).encode(x=x("x"), x2="x2:Q", y=y),
        layer(lines).mark_line(strokeWidth=2, color=BLUE).encode(x=x("t"), y=y, detail="series:N"),
        text_layer(words),
    ]
    title = "Smallest difference that is resolved, by day; a metric is decided when its curve is below the dashed line"
    found = "; ".join(_said(c) for c in curves)
    return finish(layers, Frame(width, height, _LEFT, 4, _RIGHT, 22), title, f"{title}. {found}.")


def _place(resolves: float) -> float:
    """Return where a distance stands below the top of its band, in pixels."""
    low, high = (math.log(v) for v in _REACH)
    return _CURVE * (high - min(max(math.log(resolves), low), high)) / (high - low)


def _day(day: float) -> str:
    return f"{day:.1f}" if day < 10 else f"{day:.0f}"


def _stage_words(stages: Sequence[Mapping[str, Any]], days: float, width: int) -> list[dict[str, Any]]:
    """Return the labels of the stages along the top, those for which there is room."""
    out: list[dict[str, Any]] = []
    free = -1.0
    for stage in stages:
        at, text = width * stage["starts"] / days, plain_text(stage["label"], 16)
        if at >= free and at + 6 * len(text) <= width + _RIGHT:
            out.append({"px": at, "py": 6, "text": text, "colour": MUTED})
            free = at + 6.5 * len(text)
    return out


def _said(curve: Mapping[str, Any]) -> str:
    decided = next((p["day"] for p in curve["points"] if p["resolves"] <= 1), None)
    name = plain_text(curve["metric"], 40)
    return f"{name}: not decided by then" if decided is None else f"{name}: day {_day(decided)}"
