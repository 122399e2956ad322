"""Dicts in, text for people out: aligned text, Markdown, HTML and polars from one table.

Numbers are shown in the unit of the metric: percentage points for a proportion, "$" for a cost, the metric's own unit
for the rest. Unknown numbers are shown as a dash, never as 0. All text that comes from logs or specs is made harmless
here: control characters and direction overrides are replaced, HTML and Markdown are escaped.

    text.py      clean, shorten, escape_html, escape_markdown
    numbers.py   format_effect, format_value, format_margin, format_harm, format_time ...
    words.py     verdict_words, status_words
    table.py     Table, metrics_table
"""

from abtest.display.numbers import (
    Unit,
    format_effect,
    format_harm,
    format_margin,
    format_pvalue,
    format_share,
    format_time,
    format_value,
    margin_unit,
    unit_of,
)
from abtest.display.table import Cell, Column, Table, metric_label, metrics_table
from abtest.display.text import NOTHING, clean, escape_html, escape_markdown, shorten, text_width
from abtest.display.words import STATUS_WORDS, status_words, verdict_tone, verdict_words

__all__ = [
    "NOTHING",
    "STATUS_WORDS",
    "Cell",
    "Column",
    "Table",
    "Unit",
    "clean",
    "escape_html",
    "escape_markdown",
    "format_effect",
    "format_harm",
    "format_margin",
    "format_pvalue",
    "format_share",
    "format_time",
    "format_value",
    "margin_unit",
    "metric_label",
    "metrics_table",
    "shorten",
    "status_words",
    "text_width",
    "unit_of",
    "verdict_tone",
    "verdict_words",
]
