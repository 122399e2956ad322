"""Pictures of a calibration: how soon harm is found, how often the policy halts or promotes by mistake.

detection   share of runs that have found each harm, over the hours since the first exposure
halts       false halts with their exact interval, against what the policy promises
promotes    promotions in spite of a harm of one margin and more, against alpha
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

_BAND = 76
"""Height of one metric in `detection`; its curves have `_CURVE` of it."""
_CURVE = 46
_ROW = 34
_LEGEND = 16
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2])
_DASH_WORDS = ("solid", "dashed", "dotted", "dash-dot")
_LEFT, _RIGHT = 8, 56


def detection(calibration: Mapping[str, Any]) -> Any:
    """Return the picture of the share of runs in which each harm had been found, by hours since the first exposure.

    Args:
        calibration: `abtest.calibrate/1`.

    Raises:
        InvalidInputError: no harm was injected.
    """
    import altair

    bands = _by_metric(calibration)
    hours = float(calibration["baseline"]["hours"])
    height = _BAND * len(bands) + _LEGEND
    width = WIDTH - _LEFT - _RIGHT
    lines: list[dict[str, Any]] = []
    names = list(dict.fromkeys(f"{s['multiple']:g}" for _, studies in bands for s in studies))
    legend = ", ".join(f"{_DASH_WORDS[i % len(_DASHES)]} {name} x margin" for i, name in enumerate(names))
    words: list[dict[str, Any]] = [{"px": 0, "py": 6, "text": plain_text(legend, 62), "colour": MUTED}]
    ground: list[dict[str, Any]] = []
    for index, (metric, studies) in enumerate(bands):
        top = _LEGEND + _BAND * index + _BAND - _CURVE - 6
        words.append({"px": 0, "py": top - 12, "text": plain_text(metric, 44), "colour": INK})
        ground += [{"y": float(top + _CURVE * (1 - share)), "x": 0.0, "x2": hours} for share in (0.0, 1.0)]
        ends: list[tuple[float, str]] = []
        for i, study in enumerate(studies):
            name = f"{study['multiple']:g} x"
            dash = _DASHES[names.index(name.removesuffix(" x")) % len(_DASHES)]
            curve = _curve(study, hours)
            lines += [
                {"series": f"{index}-{i}", "order": k, "t": t, "y": round(top + _CURVE * (1 - s), 2), "dash": dash}
                for k, (t, s) in enumerate(curve)
            ]
            ends.append((top + _CURVE * (1 - curve[-1][1]), name))
        words += [{"px": width + 5, "py": y, "text": name, "colour": INK} for y, name in _apart(ends)]
    y = altair.Y("y:Q", scale=altair.Scale(domain=[height, 0], nice=False, zero=False), axis=None)
    axis = altair.Axis(
        title=None, values=_ticks(hours), labelExpr="datum.value == 0 ? 'start' : datum.value / 24 + ' d'"
    )
    x_scale = altair.Scale(domain=[0, hours], nice=False)
    rules = layer(ground).mark_rule(color=MUTED, opacity=0.5)
    marks = layer(lines).mark_line(interpolate="step-after", strokeWidth=2, color=BLUE)
    layers = [
        rules.encode(x=altair.X("x:Q", scale=x_scale, axis=axis), x2="x2:Q", y=y),
        marks.encode(
            x=altair.X("t:Q", scale=x_scale, axis=axis), y=y, detail="series:N", order="order:Q", strokeDash=as_is("dash")
        ),
        text_layer(words),
    ]  # fmt: skip
    found = "; ".join(_found(metric, studies) for metric, studies in bands)
    title = "Share of runs that have found each harm, over time (from none, below, to all, above)"
    return finish(layers, Frame(width, height, _LEFT, 6, _RIGHT, 22), title, f"{title}. {found}.")


def halts(calibration: Mapping[str, Any]) -> Any:
    """Return the picture of the false halts: their share, its exact interval, and what the policy promises."""
    share = calibration["false_halts"]
    return _rates([("false halts", share)], float(calibration["nominal"]), "False halts", "promised")


def promotes(calibration: Mapping[str, Any]) -> Any:
    """Return the picture of promotions in spite of a harm of one margin and more, with alpha.

    Raises:
        InvalidInputError: no harm was injected.
    """
    rows = [
        (f"{metric}, {study['multiple']:g} x margin", study["promoted"])
        for metric, studies in _by_metric(calibration) for study in studies
    ]  # fmt: skip
    return _rates(rows, float(calibration["alpha"]), "Promoted in spite of the harm", "alpha")


PICTURES: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "detection": detection,
    "halts": halts,
    "promotes": promotes,
}
"""Every picture by its name."""


# -- parts -------------------------------------------------------------------------------------------------------


def _by_metric(calibration: Mapping[str, Any]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for study in calibration["harms"]:
        if study["status"] == "ok":
            found.setdefault(str(study["metric"]), []).append(study)
    if not found:
        raise InvalidInputError("no harm was injected, there is nothing to draw", hint='plot("halts") needs none')
    return list(found.items())


def _curve(study: Mapping[str, Any], hours: float) -> list[tuple[float, float]]:
    """Return the steps of the share that has found the harm."""
    runs = int(study["detected"]["runs"])
    steps = [(0.0, 0.0)] + [(float(at), (i + 1) / runs) for i, at in enumerate(study["hours"])]
    return [*steps, (hours, steps[-1][1])]


def _apart(ends: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return labels at least a line apart, in their order from above; equal ends share a line."""
    joined: list[tuple[float, list[str]]] = []
    for y, name in sorted(ends):
        if joined and y - joined[-1][0] < 12:
            joined[-1][1].append(name.removesuffix(" x"))
        else:
            joined.append((y, [name.removesuffix(" x")]))
    return [(y, f"{', '.join(sorted(names, key=float))} x") for y, names in joined]


def _ticks(hours: float) -> list[float]:
    days = hours / 24
    step = next((s for s in (0.25, 0.5, 1, 2, 5, 7, 14, 28) if days / s <= 6), 56)
    return [24 * step * k for k in range(int(days / step + 1e-9) + 1)]


def _found(metric: str, studies: Sequence[Mapping[str, Any]]) -> str:
    parts = [f"{s['multiple']:g} margins in {s['detected']['count']} of {s['detected']['runs']} runs" for s in studies]
    return f"{plain_text(metric, 40)}: {', '.join(parts)}"


def _rates(rows: Sequence[tuple[str, Mapping[str, Any]]], limit: float, title: str, name: str) -> Any:
    """Return shares with their intervals against a limit; above it they are drawn as harm, and said to be above."""
    import altair

    drawn: list[dict[str, Any]] = []
    words: list[dict[str, Any]] = []
    said: list[str] = []
    for index, (label, share) in enumerate(rows):
        low, high, value = (number(share[k]) for k in ("lower", "upper", "share"))
        above = low is not None and low > limit
        tone = (
            "unknown"
            if low is None or high is None
            else "harm"
            if above
            else "safe"
            if high < limit
            else "inconclusive"
        )
        verdict = {"unknown": "? no run", "harm": f"\u2715 above {name}", "safe": f"\u2713 below {name}"}.get(tone, "")
        y = _ROW * index + 24
        words.append({"px": 0, "py": y - 14, "text": plain_text(f"{label}  {verdict}", 52), "colour": INK})
        said.append(f"{plain_text(label, 60)}: {share['count']} of {share['runs']}")
        if low is not None and high is not None and value is not None:
            drawn.append({"y": y, "lower": 100 * low, "upper": 100 * high, "share": 100 * value, "colour": TONES[tone]})
    top = max([1.3 * 100 * limit, *(row["upper"] for row in drawn)])
    height = _ROW * len(rows)
    x_scale = altair.Scale(domain=[0, top], nice=False)
    ticks = altair.Axis(title=None, tickCount=5, labelExpr="datum.label + ' %'")
    y = altair.Y("y:Q", scale=altair.Scale(domain=[height, 0], nice=False, zero=False), axis=None)

    def x(field: str) -> Any:
        return altair.X(f"{field}:Q", scale=x_scale, axis=ticks)

    edge = layer([{"x": 100 * limit, "y": 17 + _ROW * i, "y2": 31 + _ROW * i} for i in range(len(rows))])
    layers = [
        edge.mark_rule(color=TONES["harm"], strokeDash=[4, 2], strokeWidth=2).encode(x=x("x"), y=y, y2="y2:Q"),
        layer(drawn).mark_rule(strokeWidth=3).encode(x=x("lower"), x2="upper:Q", y=y, color=as_is("colour")),
        layer(drawn).mark_point(filled=True, size=60, opacity=1).encode(x=x("share"), y=y, color=as_is("colour")),
        text_layer(words),
    ]
    whole = f"{title}, with exact 95 % intervals; the dashed line is {name}, {100 * limit:g} %"
    return finish(layers, Frame(WIDTH - 40, height, 20, 4, 20, 22), whole, f"{whole}. {'; '.join(said)}.")
