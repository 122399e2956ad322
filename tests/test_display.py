"""Numbers, words and tables for people: units, unknowns, and text that must do no harm."""

from __future__ import annotations

import html.parser
import json

import polars
import pytest
from markdown_it import MarkdownIt

from abtest.display import (
    NOTHING,
    STATUS_WORDS,
    Cell,
    Column,
    Table,
    clean,
    escape_html,
    escape_markdown,
    format_effect,
    format_harm,
    format_margin,
    format_pvalue,
    format_share,
    format_time,
    format_value,
    metric_label,
    metrics_table,
    shorten,
    text_width,
    verdict_tone,
    verdict_words,
)
from abtest.errors import InvalidInputError

REFUSALS = {
    "metric": "refusal_rate", "kind": "proportion", "role": "guardrail", "better": "lower", "unit": "proportion",
    "treatment": "candidate", "control_value": 0.021, "treatment_value": 0.0521, "estimate": 0.0311,
    "ci_lower": 0.0190, "ci_upper": 0.0461, "relative_estimate": 1.48, "relative_ci_lower": 0.86,
    "relative_ci_upper": 2.31, "margin": 0.01, "margin_kind": "points", "harm_lower": 0.0187, "harm_upper": 0.042,
    "verdict": "harm", "status": "ok", "series": [{"at": "x"}],
}  # fmt: skip
LATENCY = {
    "metric": "latency_p99", "kind": "quantile", "role": "guardrail", "better": "lower", "unit": "ms",
    "treatment": "candidate", "control_value": 2140.0, "treatment_value": 2262.0, "estimate": 122.0, "ci_lower": -64.0,
    "ci_upper": 310.0, "relative_estimate": 0.38, "relative_ci_lower": 0.21, "relative_ci_upper": 0.57, "margin": 0.4,
    "margin_kind": "relative", "harm_lower": -0.05, "harm_upper": 0.16, "verdict": "safe", "status": "ok",
}  # fmt: skip
COST = {"kind": "ratio", "unit": "USD", "estimate": 0.0042, "ci_lower": -0.0011, "ci_upper": 0.0095, "better": "lower"}

HOSTILE = (
    "<script>alert(1)</script> | `x` [a](javascript:x) ![i](http://e/x) <b onmouseover=x> **b** "
    "\u202egnp.exe\x00\x1b[31m"
)
WIDE = {"estimate": 1234.0, "ci_lower": 1000.0, "ci_upper": 2000.0}


@pytest.mark.parametrize(
    ("metric", "relative", "expected"),
    [
        (REFUSALS, False, "+3.1 pp [+1.9, +4.6]"),
        (LATENCY, False, "+122 ms [-64, +310]"),
        (LATENCY, True, "+38 % [+21, +57]"),
        (COST, False, "+$0.0042 [-$0.0011, +$0.0095]"),
        ({"unit": "", "estimate": -0.0071, "ci_lower": -0.011, "ci_upper": 0.025}, False, "-0.007 [-0.011, +0.025]"),
        ({"unit": "tokens", **WIDE}, False, "+1,234 tokens [+1,000, +2,000]"),
        ({"unit": "usd per call", **WIDE}, False, "+$1,234 per call [+$1,000, +$2,000]"),
    ],
)  # fmt: skip
def test_effect_in_the_unit_of_the_metric(metric, relative, expected):
    assert format_effect(metric, relative=relative) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"estimate": None}, NOTHING),
        ({"estimate": float("nan")}, NOTHING),
        ({"ci_lower": None, "ci_upper": None}, "+3.1 pp"),
        ({"ci_upper": None}, "+3.1 pp [+1.9, \u2013]"),
        ({"ci_lower": float("-inf")}, "+3.1 pp [\u2013, +4.6]"),
        ({"estimate": 0.0, "ci_lower": 0.0, "ci_upper": 0.0}, "0 pp [0, 0]"),
        ({"estimate": -0.00001, "ci_lower": -0.01, "ci_upper": 0.017}, "0.0 pp [-1.0, +1.7]"),
    ],
)  # fmt: skip
def test_what_is_unknown_is_a_dash_and_never_a_zero(changes, expected):
    assert format_effect({**REFUSALS, **changes}) == expected


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        (REFUSALS, 0.0521, "5.21 %"),
        (REFUSALS, 0.0, "0 %"),
        (REFUSALS, None, NOTHING),
        (LATENCY, 2140.0, "2,140 ms"),
        (COST, 0.01234, "$0.0123"),
        (COST, -0.5, "-$0.500"),
        ({"unit": "1"}, 0.71234, "0.712"),
        ({"unit": ""}, 3.2e15, "3.2e+15"),
    ],
)
def test_value(metric, value, expected):
    assert format_value(metric, value) == expected


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (REFUSALS, "+1 pp"),
        (LATENCY, "+40 %"),
        ({**REFUSALS, "margin": 0.07}, "+7 pp"),  # 0.07 * 100 is 7.000000000000001
        ({**REFUSALS, "better": "higher", "margin": 0.02}, "-2 pp"),
        ({**COST, "margin": 0.005, "margin_kind": "absolute"}, "+$0.005"),
        ({"unit": "ms", "margin": 1200, "margin_kind": "absolute"}, "+1,200 ms"),
        ({**REFUSALS, "margin": None}, NOTHING),
    ],
)
def test_margin_is_signed_in_the_direction_of_harm(metric, expected):
    assert format_margin(metric) == expected


def test_harm_is_in_the_unit_of_the_margin():
    assert format_harm(REFUSALS) == "+1.9 to +4.2 pp"
    assert format_harm(LATENCY) == "-5 to +16 %"
    assert format_harm({**LATENCY, "harm_upper": None}) == "at least -5.0 %"
    assert format_harm({**LATENCY, "harm_lower": None}) == "at most +16 %"
    assert format_harm({**LATENCY, "harm_lower": None, "harm_upper": None}) == NOTHING


def test_small_formats():
    assert [format_share(x) for x in (0.05, 0.0025, 1 - 0.05, None)] == ["5 %", "0.25 %", "95 %", NOTHING]
    assert [format_pvalue(x) for x in (0.62, 0.0123, 3e-9, None)] == ["0.62", "0.012", "< 0.0001", NOTHING]
    assert format_time("2026-11-22T15:00:00+01:00") == "22 Nov 2026, 14:00 UTC"
    assert format_time("2026-11-02T05:07:00") == "2 Nov 2026, 05:07 UTC"
    assert format_time(None) == NOTHING
    assert format_time("<b>\x00") == "<b>\ufffd"


@pytest.mark.parametrize(
    ("changes", "words", "tone"),
    [
        ({}, "harm proven", "bad"),
        ({"verdict": "safe"}, "safe", "good"),
        ({"verdict": "inconclusive"}, "not decided yet", ""),
        ({"verdict": "unknown", "status": "no_data"}, "no data", "muted"),
        ({"verdict": "unknown", "status": "insufficient"}, "too little data yet", "muted"),
        ({"role": "success", "superior": True, "verdict": "safe"}, "better", "good"),
        ({"role": "success", "superior": False, "verdict": "inconclusive"}, "not shown to be better yet", ""),
        ({"role": "success", "superior": False, "verdict": "harm"}, "worse", "bad"),
        ({"role": "success", "superior": None, "verdict": "unknown", "status": "zero_variance"},
         "no variation, cannot be tested", "muted"),
        ({"role": "info", "verdict": "unknown"}, "for information", ""),
    ],
)  # fmt: skip
def test_verdict_in_words(changes, words, tone):
    metric = {**REFUSALS, **changes}
    assert (verdict_words(metric), verdict_tone(metric)) == (words, tone)


@pytest.mark.parametrize("status", [s for s in STATUS_WORDS if s != "ok"])
@pytest.mark.parametrize("role", ["guardrail", "success", "info"])
def test_no_status_but_ok_reads_as_a_pass(role, status):
    metric = {"role": role, "status": status, "verdict": "unknown", "superior": None}
    assert verdict_words(metric) == STATUS_WORDS[status]
    assert verdict_tone(metric) == "muted"


# --- harmless text --------------------------------------------------------------------------------------------------


def test_clean_replaces_what_controls_a_terminal_or_the_direction():
    assert clean("a\nb\t c\u2028d") == "a b c d"
    assert clean("\x1b[31mred\u202e\u2066\x00\x9b\ud800") == "\ufffd[31mred\ufffd\ufffd\ufffd\ufffd\ufffd"
    assert (
        clean("\u05e9\u05dc\u05d5\u05dd \U0001f469\u200d\U0001f680")
        == "\u05e9\u05dc\u05d5\u05dd \U0001f469\u200d\U0001f680"
    )
    assert len(shorten("x" * 10_000, 80)) == 80


def test_html_is_escaped_also_for_attributes():
    assert escape_html("<b a=\"1\" c='2'>&") == "&lt;b a=&quot;1&quot; c=&#x27;2&#x27;&gt;&amp;"


@pytest.mark.parametrize(
    "text", [HOSTILE, "# h", "- item", "1. one", "> q", "---", "=== ", "[x]: http://e", "[a][b]", "$x$", "~~s~~", "*",
             "a_b_c _d_", "&lt;b&gt;", "<http://e>", "\\<script>", "```", "+3.1 pp [+1.9, +4.6]"],
)  # fmt: skip
def test_markdown_shows_text_as_it_is(text):
    renderer = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough")
    page = renderer.render(escape_markdown(text))
    assert page.startswith("<p>")
    shown = page.strip().removeprefix("<p>").removesuffix("</p>")
    assert "<" not in shown
    assert html.unescape(shown) == clean(text)
    cell = renderer.render(Table(["a", "b"], [[text, "end"]]).to_markdown())
    assert cell.count("<td") == 2


def test_names_and_intervals_stay_readable_in_raw_markdown():
    assert escape_markdown("refusal_rate +3.1 pp [+1.9, +4.6]") == "refusal_rate +3.1 pp [+1.9, +4.6]"


# --- tables ---------------------------------------------------------------------------------------------------------

TABLE = Table(
    ["Name", Column("n", "right"), "ok"],
    [["refusal_rate", 1234, True], ["\u6f22\u5b57 \U0001f680", None, False], [Cell("x|y", "bad"), 0.123456, None]],
    title="A title",
    notes=["A note."],
)


def test_text_is_aligned_also_for_wide_characters():
    lines = TABLE.to_text().splitlines()
    assert lines[0] == "A title"
    assert lines[2] == "Name               n  ok"
    assert lines[4] == "refusal_rate   1,234  yes"
    assert lines[6] == "x|y           0.1235  " + NOTHING
    assert lines[-1] == "A note."
    ends = {text_width(line[: line.rindex(end)]) for line, end in ((lines[4], "yes"), (lines[5], "no"))}
    assert len(ends) == 1
    assert str(TABLE) == TABLE.to_text()


def test_markdown_table():
    lines = TABLE.to_markdown().splitlines()
    assert lines[0] == "**A title**"
    assert lines[2:5] == ["| Name | n | ok |", "| :--- | ---: | :--- |", "| refusal_rate | 1,234 | yes |"]
    assert lines[6].startswith("| x\\|y | ")


class _Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def test_html_table_holds_no_foreign_tag():
    table = Table([HOSTILE, Column(HOSTILE, "right")], [[HOSTILE, Cell(HOSTILE, HOSTILE)]], HOSTILE, [HOSTILE])
    for page in (table.to_html(), table._repr_html_()):
        parser = _Tags()
        parser.feed(page)
        assert {tag for tag, _ in parser.seen} == {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
        assert {name for _, attrs in parser.seen for name in attrs} <= {"class", "scope", "data-label", "style"}
    assert "style=" not in TABLE.to_html()
    assert '<td class="left bad" data-label="Name">x|y</td>' in TABLE.to_html()


def test_polars_keeps_raw_values():
    frame = metrics_table([REFUSALS, LATENCY]).to_polars()
    assert isinstance(frame, polars.DataFrame)
    assert frame["estimate"].to_list() == [0.0311, 122.0]
    assert "series" not in frame.columns
    plain = Table(["n", "n", "s"], [[1, 2, "a"], [None, 3, "\ud800"]]).to_polars()
    assert plain.columns == ["n", "n (2)", "s"]
    assert plain.rows() == [(1, 2, "a"), (None, 3, "?")]
    assert Table(["a"], []).to_polars().shape == (0, 1)
    assert metrics_table([]).to_polars().shape == (0, 0)


def test_metrics_table_drops_columns_nobody_knows():
    table = metrics_table([{"metric": "x", "kind": "mean", "role": "info", "status": "no_data"}])
    assert [head.label for head in table.heads] == ["Metric", "Verdict"]
    assert "no data" in table.to_text()
    full = metrics_table([REFUSALS, {**LATENCY, "treatment": "other", "segment": "de"}])
    assert "latency_p99 (de) in other" in full.to_text()
    assert metric_label(REFUSALS) == "refusal_rate"


def test_row_of_another_length_is_refused():
    with pytest.raises(InvalidInputError, match="row 1 has 1 cells, the table has 2 columns"):
        Table(["a", "b"], [["x"]])


def test_display_works_on_what_json_gives_back():
    assert metrics_table(json.loads(json.dumps([REFUSALS]))).to_text() == metrics_table([REFUSALS]).to_text()
