"""Pictures of indexes: probe cosines over time, queries by embedding version, recall of candidates against the old index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from abtest.charts.base import BLUE, INK, MUTED, TONES, WIDTH, Frame, as_is, finish, layer, plain_text, text_layer
from abtest.errors import InvalidInputError

_TIMES = Frame(width=WIDTH - 46 - 66, height=130, left=46, top=30, right=66, bottom=22)
_ROW = 38
_DECISIONS = {
    "promote": ("safe", "✓ may replace it"),
    "hold": ("inconclusive", "◇ not proven yet"),
    "halt": ("harm", "✕ worse"),
}
_GREY = ("#4b83d6", "#d5504c", "#2f9968", "#b07d2b", MUTED)
_DASHES: tuple[list[int], ...] = ([], [5, 3], [2, 2], [8, 2, 2, 2], [1, 3])


def probe_cosines(probes: Mapping[str, Any]) -> Any:
    """Return the cosine of the pinned texts to their stored vectors, round by round (an `altair.LayerChart`).

    The line is the median of a round, the bar below it reaches to its lowest reading; dashed is the threshold.

    Args:
        probes: The part `probes` of `abtest.index_drift/1`.

    Raises:
        InvalidInputError: without a round.
    """
    import altair

    points = _thinned(probes["series"])
    if not points:
        raise InvalidInputError("no probe could be compared", hint="probes need a stored vector, or two readings")
    threshold = float(probes["threshold"])
    low = min([p["lowest"] for p in points] + [threshold])
    pad = 0.06 * (1.0 - low)
    x = _time_axis(points[0]["t"], points[-1]["t"])
    scale = altair.Scale(domain=[low - pad, 1.0 + pad], nice=False, zero=False)

    def y(name: str) -> Any:
        return altair.Y(f"{name}:Q", scale=scale, axis=altair.Axis(title=None, tickCount=4))

    dots = {"color": BLUE, "size": 18} if len(points) <= 60 else False
    layers = [
        layer([{"y": threshold}]).mark_rule(color=TONES["harm"], strokeDash=[4, 2]).encode(y=y("y")),
        layer(points).mark_rule(color=BLUE, opacity=0.45).encode(x=x, y=y("lowest"), y2="median:Q"),
        layer(points).mark_line(color=BLUE, strokeWidth=1.6, point=dots).encode(x=x, y=y("median")),
        text_layer(_words("cosine of pinned texts to their stored vectors", [(threshold, "threshold", TONES["harm"])], (low - pad, 1.0 + pad))),
    ]  # fmt: skip
    below = sum(p["median"] < threshold for p in probes["series"])
    words = (
        f"{len(probes['series'])} rounds from {_date(points[0]['t'])} to {_date(points[-1]['t'])}; the median is below the threshold "
        f"{threshold:g} in {below} of them; at the end {points[-1]['median']:.4f}."
    )
    return finish(layers, _TIMES, "Probe cosines over time", words)


def _thinned(series: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return at most 150 points: of rounds that share one, the lowest counts."""
    size = -(-len(series) // 150) or 1
    return [
        {"t": _milliseconds(part[0]["at"]), "median": round(min(p["median"] for p in part), 6),
         "lowest": round(min(p["lowest"] for p in part), 6)}
        for i in range(0, len(series), size) for part in [series[i : i + size]]
    ]  # fmt: skip


def query_versions(queries: Sequence[Mapping[str, Any]]) -> Any:
    """Return calls an hour by the embedding version of their query (an `altair.LayerChart`).

    Versions differ in dash as well as in colour; with more than five the rest is not drawn (the JSON has them).

    Args:
        queries: The part `queries` of `abtest.index_drift/1`.

    Raises:
        InvalidInputError: without a call.
    """
    import altair

    totals: dict[str, dict[int, int]] = {}
    for usage in queries:
        name = str(usage["embedding_model_version"] or "not said")
        for hour in usage["hours"]:
            at = _milliseconds(hour["hour"])
            totals.setdefault(name, {})[at] = totals.get(name, {}).get(at, 0) + hour["calls"]
    if not totals:
        raise InvalidInputError("no call to draw", hint="give a store whose calls name an index or an embedding model")
    names = sorted(totals, key=lambda n: (-sum(totals[n].values()), n))[: len(_DASHES)]
    times = sorted({at for name in names for at in totals[name]})
    top = max(max(totals[name].values()) for name in names)
    x, scale = _time_axis(times[0], times[-1]), altair.Scale(domain=[0, top * 1.05], nice=False)
    y = altair.Y("calls:Q", scale=scale, axis=altair.Axis(title=None, tickCount=3, format="~s"))
    layers: list[Any] = []
    ends: list[tuple[float, str, str]] = []
    for name, colour, dash in zip(names, _GREY, _DASHES, strict=False):
        rows = [{"t": at, "calls": totals[name].get(at, 0)} for at in times]
        mark = layer(rows).mark_line(color=colour, strokeDash=dash or [1, 0], point={"color": colour, "size": 12})
        layers.append(mark.encode(x=x, y=y))
        # Versions of one model differ at the end of their name.
        label = name if len(name) <= 11 else "\u2026" + name[-10:]
        ends.append((float(rows[-1]["calls"]), plain_text(label, 12), colour))
    layers.append(text_layer(_words("calls an hour, by the embedding model of their query", ends, (0.0, top * 1.05))))
    parts = "; ".join(f"{plain_text(n, 60)}: {sum(totals[n].values()):,} calls" for n in names)
    words = f"{parts}; from {_date(times[0])} to {_date(times[-1])}."
    return finish(layers, _TIMES, "Queries by embedding model", words)


def recall_differences(compare: Mapping[str, Any]) -> Any:
    """Return each candidate's change of recall with its interval, and the margin (an `altair.LayerChart`).

    Args:
        compare: `abtest.index_compare/1`.

    Raises:
        InvalidInputError: without a difference.
    """
    import altair

    rows = [row for i, c in enumerate(compare["candidates"]) if (row := _difference(c, i)) is not None]
    if not rows:
        raise InvalidInputError("no difference to draw", hint="golden queries with a relevant document are needed")
    margin = float(compare["margin"])
    low = min([r["lower"] for r in rows] + [-2 * margin])
    high = max([r["upper"] for r in rows] + [margin])
    pad = 0.05 * (high - low)
    frame = Frame(width=WIDTH - 24, height=_ROW * len(rows), left=12, top=6, right=12, bottom=22)
    axis = altair.Axis(title=None, tickCount=4, grid=False, format="+.2~f")
    scale = altair.Scale(domain=[low - pad, high + pad], nice=False, zero=False)
    heights = altair.Scale(domain=[frame.height, 0], nice=False, zero=False)

    def x(name: str) -> Any:
        return altair.X(f"{name}:Q", scale=scale, axis=axis)

    def y(name: str) -> Any:
        return altair.Y(f"{name}:Q", scale=heights, axis=None)

    area = [{"x": low - pad, "x2": -margin, "y": 0, "y2": frame.height}]
    colour, shape = as_is("colour"), as_is("shape")
    layers = [
        layer(area).mark_rect(color=TONES["harm"], opacity=0.1).encode(x=x("x"), x2="x2:Q", y=y("y"), y2="y2:Q"),
        layer(_pieces(0.0, len(rows))).mark_rule(color=MUTED).encode(x=x("x"), y=y("y"), y2="y2:Q"),
        layer(_pieces(-margin, len(rows)))
        .mark_rule(color=TONES["harm"], strokeDash=[4, 2])
        .encode(x=x("x"), y=y("y"), y2="y2:Q"),
        layer(rows).mark_rule(strokeWidth=2.5).encode(x=x("lower"), x2="upper:Q", y=y("y"), color=colour),
        layer(rows)
        .mark_point(filled=True, size=70, opacity=1)
        .encode(x=x("estimate"), y=y("y"), color=colour, shape=shape),
        text_layer([{"px": 0, "py": r["y"] - 18, "text": r["label"], "colour": INK} for r in rows]),
        text_layer(
            [{"px": frame.width, "py": r["y"] - 18, "text": r["words"], "colour": r["colour"]} for r in rows], "right"
        ),
    ]
    words = " ".join(
        f"{r['label']}: {r['estimate']:+.3f} [{r['lower']:+.3f}, {r['upper']:+.3f}], {r['words'][2:]}." for r in rows
    )
    title = f"Change of recall@{compare['k']} against the old index"
    return finish(
        layers, frame, title, f"{words} The margin is {-margin:+g}; left of it the new index is worse than accepted."
    )


def _pieces(at: float, rows: int) -> list[dict[str, Any]]:
    """Return one short line a row: a long one would run through the names."""
    return [{"x": at, "y": _ROW * i + 18, "y2": _ROW * i + 36} for i in range(rows)]


def _difference(candidate: Mapping[str, Any], index: int) -> dict[str, Any] | None:
    found = candidate["differences"].get("recall")
    if not found or found["estimate"] is None:
        return None
    tone, words = _DECISIONS[candidate["decision"]]
    shapes = {"safe": "circle", "inconclusive": "diamond", "harm": "square"}
    return {
        "y": _ROW * index + 27, "label": plain_text(candidate["name"], 32), "words": words, "colour": TONES[tone],
        "shape": shapes[tone], "estimate": found["estimate"], "lower": found["ci_lower"], "upper": found["ci_upper"],
    }  # fmt: skip


def _time_axis(start: int, end: int) -> Any:
    import altair

    if start == end:
        start, end = start - 1_800_000, end + 1_800_000
    words = "utcFormat(datum.value, utchours(datum.value) == 0 ? '%-d %b' : '%H:%M')"
    scale = altair.Scale(type="utc", domain=[start, end], nice=False)
    return altair.X("t:T", scale=scale, axis=altair.Axis(title=None, tickCount=4, labelExpr=words))


def _words(heading: str, ends: Sequence[tuple[float, str, str]], values: tuple[float, float]) -> list[dict[str, Any]]:
    words: list[dict[str, Any]] = [{"px": 6 - _TIMES.left, "py": 8 - _TIMES.top, "text": heading, "colour": INK}]
    used: list[float] = []
    for value, label, colour in ends:
        py = _TIMES.height * (values[1] - value) / (values[1] - values[0])
        while any(abs(py - other) < 13 for other in used):
            py -= 13
        used.append(py)
        words.append({"px": _TIMES.width + 6, "py": round(py, 1), "text": label, "colour": colour})
    return words


def _milliseconds(at: str) -> int:
    return round(datetime.fromisoformat(at).timestamp() * 1000)


def _date(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M} UTC"
