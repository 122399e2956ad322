"""Pictures: what they show, that they are small, static and the same on every run, and legible in light and dark."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from abtest import display
from abtest.charts import base, effect_over_time, harm_proven_at, has_series, interval_forest, to_svg
from abtest.charts.series import MAX_POINTS, read
from abtest.errors import InvalidInputError

START = datetime(2026, 11, 1, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert(1)</script>\"'&\x00\x1b\u202e\ud800" + "A" * 10_000


def metric(hours: int = 60, **changes):
    series = []
    for i in range(hours):
        radius = 0.6 / math.sqrt(i + 2)
        value = 0.031
        series.append(
            {"at": (START + timedelta(hours=i)).isoformat(), "stage": 1 if i < hours // 3 else 2, "estimate": value,
             "ci_lower": value - radius, "ci_upper": value + radius, "harm_lower": value - radius * 0.2,
             "harm_upper": value + radius}
        )  # fmt: skip
    return {
        "metric": "refusal_rate", "kind": "proportion", "role": "guardrail", "better": "lower", "unit": "proportion",
        "control": "baseline", "treatment": "candidate", "control_value": 0.02, "estimate": 0.031, "margin": 0.01,
        "margin_kind": "points", "harm_lower": 0.019, "harm_upper": 0.046, "verdict": "harm", "status": "ok",
        "stages": [{"index": 1, "label": "canary 1 %"}, {"index": 2, "label": "canary 5 %"}], "series": series,
        **changes,
    }  # fmt: skip


def words(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def text_of(svg: str, tag: str) -> str:
    return ElementTree.fromstring(svg).findtext(f"{SVG}{tag}") or ""


# --- effect over time -----------------------------------------------------------------------------------------------


def test_effect_over_time_names_what_it_shows():
    svg = to_svg(effect_over_time(metric()))
    shown = words(svg)
    assert "refusal_rate: candidate minus baseline, in pp" in shown
    for word in ("canary 1 %", "canary 5 %", "no change", "margin", "harm proven", "+3.1 pp"):
        assert word in shown
    assert "candidate minus baseline, in pp" in words(to_svg(effect_over_time(metric(), titled=False)))
    assert text_of(svg, "title") == "refusal_rate: effect over time"
    description = text_of(svg, "desc")
    assert "At the end +3.1, interval -4.6 to +10.8." in description
    assert "Margin at +1.0." in description
    assert "Harm proven on 2026-11-02 07:00 UTC." in description
    assert "canary 1 % from 2026-11-01 00:00 UTC, canary 5 % from 2026-11-01 20:00 UTC" in description


def test_first_proof_of_harm_is_found():
    # 0.031 - 0.12 / sqrt(i + 2) > 0.01 holds from i = 31 on.
    found = harm_proven_at(metric())
    expected = next(i for i in range(60) if 0.031 - 0.12 / math.sqrt(i + 2) > 0.01)
    assert found == (START + timedelta(hours=expected)).isoformat()
    assert harm_proven_at(metric(margin=0.5)) is None
    assert harm_proven_at(metric(margin=None)) is None
    assert harm_proven_at(metric(series=[])) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 1.0),
        ({"better": "higher"}, -1.0),
        ({"margin": 0.5, "margin_kind": "relative"}, 1.0),  # half of 2 %
        ({"kind": "mean", "unit": "ms", "margin": 120.0, "margin_kind": "absolute"}, 120.0),
    ],
)
def test_margin_stands_where_harm_begins(changes, expected):
    margin = [line.value for line in read(metric(**changes)).lines if line.name == "margin"]
    assert margin == [pytest.approx(expected)]


def test_relative_margin_without_a_level_is_not_drawn():
    lines = read(metric(margin=0.4, margin_kind="relative", control_value=None)).lines
    assert [line.name for line in lines] == ["no change"]


def test_quantile_is_drawn_as_share_of_calls_past_the_limit():
    quantile = metric(kind="quantile", unit="ms", margin=0.4, margin_kind="relative", control_value=2000.0,
                      details={"series_unit": "exceedance"})  # fmt: skip
    series = read(quantile)
    assert [(line.value, line.name) for line in series.lines] == [(0.0, "margin")]
    assert series.scale.suffix == " pp"
    shown = words(to_svg(effect_over_time(quantile, titled=False)))
    assert "calls past the limit, candidate minus baseline, in pp" in shown
    assert "no change" not in shown
    # Its harm bounds are compared with 0, not with the margin of 0.4.
    expected = next(i for i in range(60) if 0.031 - 0.12 / math.sqrt(i + 2) > 0)
    assert harm_proven_at(quantile) == (START + timedelta(hours=expected)).isoformat()


def test_long_series_is_thinned_but_keeps_ends_stages_and_proof():
    long = metric(5000)
    series = read(long)
    assert len(series.points) <= MAX_POINTS
    times = [p["t"] for p in series.points]
    assert times == sorted(set(times))
    hour = 3_600_000
    start = round(START.timestamp() * 1000)
    kept = {(t - start) // hour for t in times}
    assert {0, 4999, 5000 // 3 - 1, 5000 // 3} <= kept
    assert series.proven_at in times
    assert max(b - a for a, b in pairwise(times)) < 60 * hour
    assert len(to_svg(effect_over_time(long))) <= 20_000


def test_many_stages_still_fit():
    many = metric(400)
    for i, point in enumerate(many["series"]):
        point["stage"] = i // 4
    svg = to_svg(effect_over_time(many))
    assert len(read(many).points) <= MAX_POINTS
    assert len(svg) <= 20_000


@pytest.mark.parametrize("hours", [1, 2, 30, 24 * 400])
def test_ticks_are_few_and_round(hours):
    svg = to_svg(effect_over_time(metric(max(hours // 24, 1) if hours > 1000 else hours)))
    ticks = [w for w in words(svg) if re.fullmatch(r"\d\d:\d\d|\d{1,2} [A-Z][a-z]{2}", w)]
    assert 1 <= len(ticks) <= 5 or hours <= 2
    assert len(set(ticks)) == len(ticks)


def test_unknown_points_break_the_line_and_unknown_bounds_reach_the_edge():
    gap = metric(9)
    for key in ("estimate", "ci_lower", "ci_upper"):
        gap["series"][4][key] = None
    gap["series"][6]["ci_upper"] = None
    svg = to_svg(effect_over_time(gap))
    assert svg.count("M") > to_svg(effect_over_time(metric(9))).count("M")
    assert "NaN" not in svg
    assert "null" not in svg


def test_a_series_without_estimates_cannot_be_drawn():
    empty = metric(0)
    unknown = metric(3)
    for point in unknown["series"]:
        point["estimate"] = None
    for case in (empty, unknown):
        assert not has_series(case)
        with pytest.raises(InvalidInputError, match="has no series to draw"):
            effect_over_time(case)
    wrong = metric(3)
    wrong["series"][1]["at"] = "yesterday"
    with pytest.raises(InvalidInputError, match="'yesterday' is no ISO time"):
        effect_over_time(wrong)


# --- forest ---------------------------------------------------------------------------------------------------------

SAFE = metric(metric="latency_p99", unit="ms", kind="quantile", margin=0.4, margin_kind="relative", estimate=120.0,
              relative_estimate=0.05, harm_lower=-0.05, harm_upper=0.22, verdict="safe", series=[])  # fmt: skip
OPEN = metric(metric="csat", better="higher", kind="mean", unit="", margin=0.1, margin_kind="absolute", estimate=-0.02,
              harm_lower=None, harm_upper=0.9, verdict="inconclusive", segment="de", series=[])  # fmt: skip
NONE = metric(
    metric="thumbs", estimate=None, harm_lower=None, harm_upper=None, verdict="unknown", status="no_data", series=[]
)


def test_forest_tells_each_verdict_in_words_and_shape():
    svg = to_svg(interval_forest([metric(series=[]), SAFE, OPEN, NONE]))
    shown = words(svg)
    verdicts = ["\u2715 harm proven", "\u2713 safe", "\u25c7 not decided yet", "? no data"]
    for word in (
        "refusal_rate",
        "latency_p99",
        "csat (de)",
        "thumbs",
        *verdicts,
        "no change",
        "margin",
        "3 \u00d7 margin",
    ):
        assert word in shown
    description = text_of(svg, "desc")
    assert "refusal_rate: harm proven, 1.9 to 4.6 times its margin." in description
    assert "latency_p99: safe, -0.12 to 0.55 times its margin." in description
    assert "csat (de): not decided yet, unknown to 9 times its margin." in description
    assert len(svg) <= 20_000


def test_forest_scales_by_the_margin_and_marks_cut_ends():
    spec = interval_forest([metric(series=[]), SAFE, OPEN, NONE]).to_dict()
    data = list(spec["datasets"].values())
    bars = next(d for d in data if d and "cut_low" in d[0])
    assert [(round(b["lower"], 3), round(b["upper"], 3)) for b in bars[:2]] == [(1.9, 4.6), (-0.125, 0.55)]
    assert [(b["cut_low"], b["cut_high"]) for b in bars] == [(False, False), (False, False), (True, True)]
    dots = next(d for d in data if d and "estimate" in d[0] and "shape" in d[0])
    assert [d["estimate"] for d in dots] == pytest.approx([3.1, 0.125, 0.2])  # higher is better: -0.02 is harm of 0.02
    assert len({d["shape"] for d in dots}) == 3
    arrows = next(d for d in data if d and str(d[0].get("shape", "")).startswith("triangle"))
    assert [a["shape"] for a in arrows] == ["triangle-left", "triangle-right"]


@pytest.mark.parametrize("changes", [{"margin": 0.0}, {"margin": None}, {"margin": float("nan")}])
def test_forest_without_a_usable_margin_shows_name_and_verdict_only(changes):
    svg = to_svg(interval_forest([metric(series=[], **changes)]))
    assert {"refusal_rate", "\u2715 harm proven"} <= set(words(svg))
    assert "unknown to unknown" in text_of(svg, "desc")


def test_forest_of_nothing_is_refused():
    with pytest.raises(InvalidInputError, match="no metric to draw"):
        interval_forest([])


# --- the picture as a file ------------------------------------------------------------------------------------------


def test_svg_is_static_and_self_contained():
    for svg in (to_svg(effect_over_time(metric(300))), to_svg(interval_forest([metric(), SAFE]))):
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        assert root.get("viewBox")
        tags = {node.tag.removeprefix(SVG) for node in root.iter()}
        assert tags <= {"svg", "title", "desc", "g", "path", "line", "text", "rect"}
        names = {name for node in root.iter() for name in node.attrib}
        assert not {n for n in names if n.startswith("on") or "href" in n or n in ("style", "id", "clip-path")}
        assert "url(" not in svg
        assert base.INK not in svg
        assert "currentColor" in svg
        assert not any(node.get("fill") == "white" for node in root.iter())
        assert len(svg) <= 20_000


def test_svg_is_the_same_in_another_process_time_zone_and_hash_seed():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import test_charts as t\n"
        "sys.stdout.buffer.write(t.to_svg(t.effect_over_time(t.metric())).encode())\n"
        "sys.stdout.buffer.write(t.to_svg(t.interval_forest([t.metric(), t.SAFE, t.OPEN])).encode())\n"
    )
    here = to_svg(effect_over_time(metric())) + to_svg(interval_forest([metric(), SAFE, OPEN]))
    assert here == to_svg(effect_over_time(metric())) + to_svg(interval_forest([metric(), SAFE, OPEN]))
    environment = {**os.environ, "TZ": "Asia/Kolkata", "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", code, os.path.dirname(__file__)]  # noqa: PTH120
    other = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    assert other.decode() == here


def test_hostile_text_stays_text():
    bad = metric(4, metric=HOSTILE, control=HOSTILE, treatment=HOSTILE, unit=HOSTILE, kind=HOSTILE, segment=HOSTILE,
                 verdict=HOSTILE, status=HOSTILE, stages=[{"index": 1, "label": HOSTILE}])  # fmt: skip
    for svg in (to_svg(effect_over_time(bad)), to_svg(interval_forest([bad, bad]))):
        root = ElementTree.fromstring(svg)  # well-formed, so nothing broke out
        assert not list(root.iter(f"{SVG}script"))
        assert "<script" not in svg
        assert len(svg.encode()) <= 20_000
        assert all(len(text) <= 120 for text in words(svg))
        assert not re.search("[\x00-\x08\x1b\u202e]", svg)


@pytest.mark.parametrize(
    ("kind", "unit"),
    [("proportion", ""), ("mean", "ms"), ("ratio", "USD"), ("mean", "$"), ("mean", "usd per call"), ("mean", "1"),
     ("mean", ""), ("mean", "share"), ("count", "tokens"), ("proportion", "ms")],
)  # fmt: skip
def test_charts_and_display_write_the_same_unit(kind, unit):
    case = {"kind": kind, "unit": unit}
    shown = display.unit_of(case)
    scale = base.scale_of(case)
    assert (scale.factor, scale.prefix, scale.suffix) == (shown.factor, shown.prefix, shown.suffix)


def test_number_at_the_end_is_the_number_in_the_table():
    case = metric(metric="cost", kind="ratio", unit="USD", margin=None)
    last = case["series"][-1]
    case |= {name: last[name] for name in ("estimate", "ci_lower", "ci_upper")}
    assert display.format_effect(case).startswith(read(case).words(last["estimate"]))
    assert "+$0.031" in words(to_svg(effect_over_time(case)))


def contrast(first: str, second: str) -> float:
    """WCAG 2.2 contrast ratio of two #rrggbb colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("page", ["#ffffff", "#1b1e23"])
@pytest.mark.parametrize("colour", sorted({*base.TONES.values(), base.MUTED, base.BLUE}))
def test_colours_are_seen_on_light_and_dark(colour, page):
    assert contrast(colour, page) >= 3.0
