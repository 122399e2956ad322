"""Versions above, metrics below, on one axis of time: what changed when, and what moved after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
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

_LEFT, _TOP, _PANEL, _GAP = 46, 40, 74, 30
_PLOT = WIDTH - _LEFT - 14
_COLOURS = (BLUE, TONES["safe"], "#a06fc9", "#b8843a", MUTED)
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [1, 3])
"""Versions differ by dash and by name, too, never by colour alone."""
_CHARACTER = 6.0
_SMOOTH = 6
"""Hours over which a metric's share is drawn: hours alone jump about."""
_TOLD = ("reached_half", "appeared", "metric_shift")


def timeline_chart(timeline: Mapping[str, Any], surface: str | None = None) -> Any:
    """Return the picture of one surface (an `altair.LayerChart`).

    Above, the hourly share of each version; below, one panel a metric that changed. A line stands where a version reached
    half of the traffic and where a metric changed, each with its words.

    Args:
        timeline: A `Timeline` as a dict.
        surface: Which surface; default: the one where a metric changed, else the one with most events.

    Raises:
        InvalidInputError: There is nothing to draw.
    """
    tracks = list(timeline.get("tracks") or [])
    events = [e for e in timeline.get("events") or [] if e.get("at")]
    where = surface if surface is not None else _busiest(tracks, events)
    mine = [t for t in tracks if t.get("surface") == where]
    shares = [t for t in mine if "manifest_id" in t][: len(_COLOURS)]
    metrics = [t for t in mine if "metric" in t][:3]
    if not shares:
        raise InvalidInputError("there is nothing to draw", hint="a timeline with calls on this surface")
    here = [e for e in events if e.get("surface") == where]
    times = [_ms(at) for t in mine for at in t["at"]]
    x = _Axis(min(times), max(times) + 3_600_000)
    lines: list[dict[str, Any]] = []
    words: list[dict[str, Any]] = [
        _word(-_LEFT + 6, -_TOP + 10, f"{plain_text(where or 'all calls', 40)}: share of calls", INK)
    ]
    for k, track in enumerate(shares):
        lines += _line(x, track["at"], track["share"], 0, 1.0, _COLOURS[k], _DASHES[k], f"v{k}")
        words.append(_word(x.width - 4, 0, "", INK))
    words += _legend(shares)
    words += [_word(-8, 0, "100 %", MUTED, "right"), _word(-8, _PANEL, "0", MUTED, "right")]
    for k, track in enumerate(metrics, 1):
        top = k * (_PANEL + _GAP)
        values = _smooth(track["share"])
        most = max([*values, 1e-9]) * 1.1
        lines += _line(x, track["at"], values, top, most, INK, [1, 0], f"m{k}")
        name = plain_text(track.get("words") or track["metric"], 52)
        words += [
            _word(0, top - 9, f"{name}, mean of {_SMOOTH} hours", INK),
            _word(-8, top + 4, _percent(most), MUTED, "right"),
        ]
        words.append(_word(-8, top + _PANEL, "0", MUTED, "right"))
    height = (len(metrics) + 1) * _PANEL + len(metrics) * _GAP
    rules, told = _rules(x, here, metrics, height)
    words += [*told, *x.ticks(height)]
    frame = Frame(_PLOT, height, _LEFT, _TOP, 14, 24)
    layers = [
        _drawn(lines),
        _ruled(rules),
        *(text_layer([w for w in words if w["align"] == a], a) for a in ("left", "right")),
    ]
    title = f"Versions and metrics on {plain_text(where or 'all calls', 60)}"
    return finish(
        layers, frame, title, " ".join(plain_text(e["message"], 300) + "." for e in here[:20]) or "Nothing changed."
    )


class _Axis:
    """The axis of time: milliseconds to pixels."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.width = first, max(last, first + 1), _PLOT

    def at(self, ms: int) -> float:
        """Return the pixel of a time, within the plot."""
        part = (ms - self.first) / (self.last - self.first)
        return round(self.width * min(max(part, 0.0), 1.0), 1)

    def ticks(self, height: int) -> list[dict[str, Any]]:
        """Return the words under the axis: at most five days or hours."""
        hour = 3_600_000
        steps = [hour * h for h in (1, 2, 3, 6, 12, 24, 48, 96, 168, 336, 720, 2160, 8760)]
        step = next((s for s in steps if (self.last - self.first) / s <= 5), steps[-1])
        places = range(-(-self.first // step) * step, self.last + 1, step)
        form = "%H:%M" if step < 24 * hour else "%-d %b"
        return [
            _word(
                min(self.at(ms), self.width - 5 * _CHARACTER),
                height + 12,
                datetime.fromtimestamp(ms / 1000, UTC).strftime(form),
                MUTED,
            )
            for ms in places
        ]


def _line(
    x: _Axis, at: Sequence[str], values: Sequence[Any], top: int, most: float, colour: str, dash: list[int], key: str
) -> list[dict[str, Any]]:
    return [
        {
            "px": x.at(_ms(t)),
            "py": round(top + _PANEL * (1 - min(v / most, 1.0)), 1),
            "colour": colour,
            "dash": dash,
            "key": key,
        }
        for t, value in zip(at, values, strict=True)
        if (v := number(value)) is not None
    ]


def _drawn(points: list[dict[str, Any]]) -> Any:
    import altair

    px, py = altair.X("px:Q", scale=None, axis=None), altair.Y("py:Q", scale=None, axis=None)
    marks = layer(points).mark_line(strokeWidth=1.6, interpolate="step-after")
    return marks.encode(x=px, y=py, color=as_is("colour"), strokeDash=as_is("dash"), detail="key:N")


def _ruled(rules: list[dict[str, Any]]) -> Any:
    import altair

    px = altair.X("px:Q", scale=None, axis=None)
    py, end = altair.Y("py:Q", scale=None, axis=None), altair.Y2("py2:Q")
    return (
        layer(rules)
        .mark_rule(strokeWidth=1.2)
        .encode(x=px, y=py, y2=end, color=as_is("colour"), strokeDash=as_is("dash"))
    )


def _rules(
    x: _Axis, events: Sequence[Mapping[str, Any]], metrics: Sequence[Mapping[str, Any]], height: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the lines at changes and their words: versions through all panels, a metric's change in its own."""
    rules: list[dict[str, Any]] = []
    words: list[dict[str, Any]] = []
    halves = any(e["kind"] == "reached_half" for e in events)
    room = -1.0
    for e in events:
        if e["kind"] not in _TOLD or (e["kind"] == "appeared" and halves):
            continue
        px = x.at(_ms(e["at"]))
        if e["kind"] == "metric_shift":
            k = next((k for k, t in enumerate(metrics, 1) if t["metric"] == e.get("metric")), None)
            if k is None:
                continue
            top = k * (_PANEL + _GAP)
            text = f"{_percent(e['before'])} to {_percent(e['after'])}"
            rules.append({"px": px, "py": top, "py2": top + _PANEL, "colour": TONES["harm"], "dash": [1, 0]})
            words.append(_beside(px, top + 8, text, TONES["harm"]))
            continue
        rules.append({"px": px, "py": 0, "py2": height, "colour": MUTED, "dash": [3, 3]})
        text = "reaches 50 %" if e["kind"] == "reached_half" else "appears"
        if px > room:
            words.append(_beside(px, 8, text, MUTED))
            room = px + _CHARACTER * len(text)
    return rules, words


def _beside(px: float, py: float, text: str, colour: str) -> dict[str, Any]:
    """Return words to the right of a line, or to the left where there is no room."""
    if px + 4 + _CHARACTER * len(text) <= _PLOT:
        return _word(px + 4, py, text, colour)
    return _word(px - 4, py, text, colour, "right")


def _legend(shares: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the names of the versions in a row above the plot, each with the dash it is drawn in."""
    signs = ("━━", "╍╍", "┅┅", "╍┅", "··")
    words: list[dict[str, Any]] = []
    px = float(6 - _LEFT)
    for k, track in enumerate(shares):
        text = f"{signs[k]} {plain_text(track.get('words') or '', 24)}"
        if px + _CHARACTER * len(text) > _PLOT + 14:
            break
        words.append(_word(px, -12, text, _COLOURS[k]))
        px += _CHARACTER * (len(text) + 2)
    return words


def _word(px: float, py: float, text: str, colour: str, align: str = "left") -> dict[str, Any]:
    return {"px": round(px, 1), "py": round(py, 1), "text": text, "colour": colour, "align": align}


def _smooth(values: Sequence[Any]) -> list[float]:
    known = [v for value in values if (v := number(value)) is not None]
    return [sum(known[max(k - _SMOOTH + 1, 0) : k + 1]) / min(k + 1, _SMOOTH) for k in range(len(known))]


def _busiest(tracks: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]) -> str | None:
    shifted = next((e for e in events if e["kind"] == "metric_shift"), None)
    if shifted is not None:
        return shifted.get("surface")
    counts: dict[Any, int] = {t.get("surface"): 0 for t in tracks}
    for e in events:
        if e.get("surface") in counts:
            counts[e.get("surface")] += 1
    return max(counts, key=lambda s: (counts[s], str(s)), default=None)


def _percent(value: Any) -> str:
    points = 100.0 * (number(value) or 0.0)
    return f"{points:.{0 if points >= 10 else 1}f} %"


def _ms(text: str) -> int:
    at = datetime.fromisoformat(str(text))
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
