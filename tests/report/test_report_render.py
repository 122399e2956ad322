"""The three renderers: one content, self-contained, the same on every run, and no text can break out."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import report_samples as samples
from markdown_it import MarkdownIt

from abtest.errors import NoDataError
from abtest.report import build, html, markdown
from abtest.report import json as report_json

VOID = {"meta", "br"}
TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "p", "main", "nav", "ol",
    "ul", "li", "b", "span", "div", "a", "bdi", "small", "br", "article", "section", "dl", "dt", "dd", "table",
    "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "svg", "desc", "g", "path", "line",
    "text", "footer",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "aria-label", "aria-hidden", "href", "id",
    "scope", "data-label", "xmlns", "role", "width", "height", "viewbox", "color", "fill", "font-family",
    "font-size", "transform", "d", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "opacity",
    "x2", "y2", "text-anchor",
}  # fmt: skip


class Page(HTMLParser):
    """Reads a page, checks that tags close in order, keeps tags, attributes and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def values(page: Page, name: str) -> list[str]:
    return [value for key, value in page.attributes if key == name]


@pytest.mark.parametrize("name", ["halted", "nightly", "hostile"])
def test_page_holds_only_harmless_tags_and_asks_nobody(name, request):
    text = html.render(request.getfixturevalue(name))
    page = Page(text)
    assert page.tags <= TAGS
    assert {key for key, _ in page.attributes} <= ATTRIBUTES
    anchors = values(page, "href")
    assert anchors
    assert all(re.fullmatch(r"#e\d+", anchor) for anchor in anchors)
    assert {anchor[1:] for anchor in anchors} == set(values(page, "id"))
    without_namespace = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "http" not in re.sub(r">[^<]*<", "><", without_namespace).replace("http-equiv", "")
    assert "@import" not in text
    assert "url(" not in text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)


def test_policy_allows_the_style_sheet_by_hash_and_nothing_else(halted):
    text = html.render(halted)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert policy in values(Page(text.replace("&#39;", "'")), "content")
    assert "style=" not in text  # an inline style would need a wider policy


def test_page_tells_what_a_stranger_needs(halted):
    shown = " ".join(Page(html.render(halted)).text)
    who_and_when = ["support-bot-sonnet-swap", "Stopped", "since 19 Nov 2026, 17:00 UTC"]
    why = ["refusal_rate +3.1 pp [+1.9, +4.6] is past its margin of +1 pp", "harm proven", "sample ratio"]
    then = ["What to do", "How sure", "Make sure that candidate gets no more traffic."]
    for words in (*who_and_when, *why, *then, "a1" * 32, halted.report_id, "abtest.duckdb"):
        assert words in shown


def test_pages_are_light_dark_printable_and_fit_a_phone(halted):
    text = html.render(halted)
    for words in (
        "prefers-color-scheme: dark",
        "@media print",
        "max-width: 720px",
        'name="viewport"',
        "<!DOCTYPE html>",
    ):
        assert words in text
    assert text.startswith("<!DOCTYPE html>")


def test_every_picture_has_a_text_alternative(nightly):
    text = html.render(nightly)
    pictures = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    assert len(pictures) >= 10
    for picture in pictures:
        assert 'role="img"' in picture
        assert re.search(r"<title>[^<]+</title><desc>[^<]+</desc>", picture)
        assert len(picture) <= 20_000


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("look", [0, 1])
def test_text_has_contrast_in_both_looks(look, halted):
    block = re.findall(r":root \{(.*?)\}", html.render(halted), re.DOTALL)[look]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
    pairs = [(ink, ground) for ink in ("ink", "quiet", "link", "good", "bad", "warn") for ground in ("page", "card")]
    pairs += [(tone, f"{tone}-soft") for tone in ("good", "bad", "warn")] + [("ink", "muted-soft")]
    for ink, ground in pairs:
        light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


# --- Markdown -------------------------------------------------------------------------------------------------------


def test_markdown_has_the_board_and_all_tables(nightly):
    text = markdown.render(nightly)
    lines = text.splitlines()
    assert lines[0] == "# Nightly report"
    assert lines[4] == "| Experiment | Verdict | Since | What to do |"
    assert lines[6].startswith(
        "| support-bot-sonnet-swap, revision 1 | \u2715 Stopped (canary 5 %) | 19 Nov 2026, 17:00 UTC |"
    )
    assert len([line for line in lines if line.startswith("## ")]) == 5
    assert "| refusal_rate | 2.10 % | 5.21 % | +3.1 pp [+1.9, +4.6] | +1 pp |" in text
    assert "### Effect over time" not in text  # it has pictures only
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert page.count("<table>") == len(re.findall(r"^\| :?-+:? \|", text, re.MULTILINE))


def test_hostile_markdown_becomes_text(hostile):
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown.render(hostile))
    tags = set(re.findall(r"<([a-z0-9]+)", page))
    assert tags <= {"h1", "h2", "h3", "p", "ul", "li", "strong", "table", "thead", "tbody", "tr", "th", "td", "hr"}
    rows = re.findall(r"<tr>.*?</tr>", page, re.DOTALL)
    tables = re.findall(r"<table>.*?</table>", page, re.DOTALL)
    assert rows
    for table in tables:  # no pipe in a name made a cell of its own
        heads = table.count("<th")
        heads -= table.count("<thead")
        assert all(row.count("<td") in (0, heads) for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL))


# --- JSON -----------------------------------------------------------------------------------------------------------


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_json_is_the_contract(nightly):
    text = report_json.render(nightly)
    document = json.loads(text, parse_constant=refuse)
    assert document["schema"] == "abtest.report/1"
    assert document["as_of"] == samples.hour(49)
    assert document["report_id"] == nightly.report_id
    assert document["generated_from"] == {"store": "abtest.duckdb"}
    assert [e["analysis"]["schema"] for e in document["experiments"]] == ["abtest.analysis/1"] * 5
    first, last = document["experiments"][0], document["experiments"][-1]
    assert first["decision"]["schema"] == "abtest.decision/1"
    assert first["decision"]["decision_id"] == "a1" * 32
    assert len(first["analysis"]["metrics"][0]["series"]) == 50
    assert last["decision"] is None
    assert [line["words"] for line in document["board"]] == [
        "Stopped", "On hold: data not trusted", "Safe to widen", "On hold: no data", "Not decided"
    ]  # fmt: skip


def test_json_keeps_hostile_text_whole_and_in_ascii(hostile):
    text = report_json.render(hostile)
    assert text.isascii()
    document = json.loads(text, parse_constant=refuse)
    assert document["experiments"][0]["analysis"]["experiment"] == samples.HOSTILE + "A" * 10_000


# --- the same bytes -------------------------------------------------------------------------------------------------

ENTRIES = ("halted", "healthy", "unknown")


def all_bytes() -> bytes:
    model = build([getattr(samples, name)() for name in ENTRIES], generated_from={"store": "x"})
    return "\0".join(render(model) for render in (html.render, markdown.render, report_json.render)).encode()


def test_same_input_same_bytes_in_another_process_time_zone_and_hash_seed():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import test_report_render as t; sys.stdout.buffer.write(t.all_bytes())"
    )
    environment = {**os.environ, "TZ": "America/Los_Angeles", "PYTHONHASHSEED": "11"}
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    other = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    assert other == all_bytes()


def test_report_id_follows_the_content(halted):
    same = build([samples.halted()], generated_from={"store": "abtest.duckdb", "abtest": "0.1.0"})
    assert same.report_id == halted.report_id
    assert build([samples.halted()]).report_id != halted.report_id


def test_a_report_of_nothing_is_refused():
    with pytest.raises(NoDataError, match="no experiment to report"):
        build([])


def test_newest_evidence_is_found_across_time_zones():
    entries = [samples.halted(), samples.empty()]
    assert build(entries).as_of == samples.hour(49)
    assert build([samples.empty()]).as_of is None
