"""Reading the series of a metric into the unit of the picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from abtest.charts.base import MUTED, TONES, Scale, number, plain_text, scale_of
from abtest.errors import InvalidInputError

MAX_POINTS = 120
"""A longer series is thinned to this many points for the picture."""


@dataclass(frozen=True)
class Line:
    """A value that the effect is compared with: its name, colour and dash."""

    value: float
    name: str
    colour: str
    dash: tuple[int, int]


@dataclass(frozen=True)
class Series:
    """A series in the unit of the picture: times in epoch milliseconds, None where nothing is known.

    `what` says which number is drawn, `lines` are zero and the margin, `stages` the start and the label of each stage.
    """

    points: list[dict[str, Any]]
    scale: Scale
    what: str
    lines: list[Line]
    proven_at: int | None
    stages: list[tuple[int, str]]

    @property
    def last(self) -> dict[str, Any]:
        """The last point with an estimate."""
        return next(p for p in reversed(self.points) if p["estimate"] is not None)

    def words(self, value: float | None) -> str:
        """Return a number, signed, with the decimals that fit the last interval (as `abtest.display.format_effect`)."""
        if value is None:
            return "unknown"
        lower, upper = self.last["lower"], self.last["upper"]
        radius = (upper - lower) / 2 if lower is not None and upper is not None else self.last["estimate"]
        places = min(max(1 - math.floor(math.log10(abs(radius))), 0), 8) if radius else 1
        return f"{'-' if value < 0 else '+'}{self.scale.prefix}{abs(value):,.{places}f}"


def has_series(metric: Mapping[str, Any]) -> bool:
    """Return whether `effect_over_time` has something to draw for this metric."""
    return any(number(p.get("estimate")) is not None for p in metric.get("series") or ())


def harm_proven_at(metric: Mapping[str, Any]) -> str | None:
    """Return the first time of the series at which the lower bound of the harm was past the margin, or None."""
    limit = _limit(metric)
    if limit is None:
        return None
    for point in metric.get("series") or ():
        bound = number(point.get("harm_lower"))
        if bound is not None and bound > limit:
            return str(point.get("at"))
    return None


def read(metric: Mapping[str, Any]) -> Series:
    """Return the series of a `MetricResult` dict.

    Raises:
        InvalidInputError: When the series has no estimate at all, or a time that is no ISO time.
    """
    if not has_series(metric):
        raise InvalidInputError(
            f"metric {plain_text(metric.get('metric'), 60)!r} has no series to draw",
            hint="analyse an experiment with data; has_series() tells which metrics can be drawn",
        )
    scale = Scale(100.0, "", " pp") if _of_exceedance(metric) else scale_of(metric)
    points = sorted((_point(p, scale.factor) for p in metric["series"]), key=lambda p: p["t"])
    labels = {s.get("index", s.get("stage")): s.get("label") for s in metric.get("stages") or ()}
    stages: list[tuple[int, str]] = []
    for i, p in enumerate(points):
        if i == 0 or p["stage"] != points[i - 1]["stage"]:
            stages.append((p["t"], plain_text(labels.get(p["stage"]) or f"stage {p['stage']}", 24)))
    proof = harm_proven_at(metric)
    proven_at = None if proof is None else milliseconds(proof)
    what = "calls past the limit, " if _of_exceedance(metric) else ""
    return Series(_thinned(points, proven_at), scale, what, _lines(metric, scale.factor), proven_at, stages)


def milliseconds(value: Any) -> int:
    """Return an ISO time in epoch milliseconds; a time without a zone is UTC."""
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError as error:
        text = plain_text(value, 40)
        raise InvalidInputError(f"{text!r} is no ISO time", hint="write 2026-11-22T14:00:00Z") from error
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _of_exceedance(metric: Mapping[str, Any]) -> bool:
    """Return whether the series is not in the metric's unit: a quantile is followed by the share of calls past a limit.

    Control's limit is its own quantile; the treatment's is that plus the margin, so 0 is harm exactly at the margin.
    """
    details = metric.get("details")
    return isinstance(details, Mapping) and details.get("series_unit") == "exceedance"


def _limit(metric: Mapping[str, Any]) -> float | None:
    """Return what the harm bounds of the series are compared with."""
    margin = number(metric.get("margin"))
    return 0.0 if margin is not None and _of_exceedance(metric) else margin


def _lines(metric: Mapping[str, Any], factor: float) -> list[Line]:
    """Return zero and the margin on the axis of the effect; a relative margin is taken at the control's level now."""
    margin = number(metric.get("margin"))
    zero = Line(0.0, "no change", MUTED, (1, 0))
    if margin is None:
        return [zero]
    if _of_exceedance(metric):
        return [Line(0.0, "margin", TONES["harm"], (5, 3))]
    if metric.get("margin_kind") == "relative":
        level = number(metric.get("control_value"))
        if level is None:
            return [zero]
        margin *= abs(level)
    value = factor * (-margin if metric.get("better") == "higher" else margin)
    return [zero, Line(value, "margin", TONES["harm"], (5, 3))]


def _point(point: Mapping[str, Any], factor: float) -> dict[str, Any]:
    estimate, lower, upper = (number(point.get(name)) for name in ("estimate", "ci_lower", "ci_upper"))
    stage = point.get("stage")
    return {
        "t": milliseconds(point.get("at")),
        "stage": stage if isinstance(stage, int) else 0,
        "estimate": None if estimate is None else estimate * factor,
        "lower": None if lower is None else lower * factor,
        "upper": None if upper is None else upper * factor,
    }


def _thinned(points: list[dict[str, Any]], proven_at: int | None) -> list[dict[str, Any]]:
    """Keep at most `MAX_POINTS`: first, last, both sides of a new stage and of the proof of harm, the rest evenly."""
    n = len(points)
    if n <= MAX_POINTS:
        return points
    edges = [i for i in range(1, n) if points[i]["t"] == proven_at or points[i]["stage"] != points[i - 1]["stage"]]
    keep = {0, n - 1, *(j for i in edges[-MAX_POINTS // 4 :] for j in (i - 1, i))}
    room = MAX_POINTS - len(keep)
    keep |= {round((k + 1) * (n - 1) / (room + 1)) for k in range(room)}
    return [points[i] for i in sorted(keep)]
