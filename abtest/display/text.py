"""Text from logs and specs made harmless: on one line, escaped for HTML and Markdown, measured for terminals."""

from __future__ import annotations

import html
import re
import unicodedata

NOTHING = "\u2013"
"""Shown where a value is not known."""
# Direction overrides and isolates can make a reader see another text than the one stored.
_HOSTILE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]")
_SPACES = re.compile(r"[\s\u2028\u2029]+")


def clean(text: object) -> str:
    """Return `text` on one line, with control characters and direction overrides replaced by U+FFFD."""
    return _HOSTILE.sub("\ufffd", _SPACES.sub(" ", str(text))).strip()


def shorten(text: object, limit: int = 80) -> str:
    """Return cleaned text of at most `limit` characters; what was cut is marked with an ellipsis."""
    line = clean(text)
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def escape_html(text: object) -> str:
    """Return cleaned text that is safe as HTML content and inside a quoted attribute."""
    return html.escape(clean(text), quote=True)


def escape_markdown(text: object) -> str:
    """Return cleaned text that Markdown shows as it is, in a paragraph, a list item or a table cell.

    HTML becomes entities (some renderers do not honour a backslash before "<"). Brackets are escaped only where they
    could form a link, and underscores only at the edge of a word, so that "refusal_rate [+1.9, +4.6]" stays readable.
    """
    line = html.escape(clean(text), quote=False)
    line = re.sub(r"([\\`*|~$])", r"\\\1", line)
    line = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", line)
    line = re.sub(r"\](?=[(\[:])", r"\\]", line)
    line = re.sub(r"^([-+#=]+)(?=\s|$)", r"\\\1", line)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", line)


def text_width(text: str) -> int:
    """Return how many terminal columns `text` takes: wide characters take two, combining marks none."""
    marks = ("Mn", "Me", "Cf")
    return sum(
        0 if unicodedata.category(c) in marks else 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1
        for c in text
    )
