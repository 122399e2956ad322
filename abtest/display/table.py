"""One small table, shown as aligned text, Markdown, HTML or a polars DataFrame."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from abtest.display.numbers import format_effect, format_harm, format_margin, format_value
from abtest.display.text import NOTHING, clean, escape_html, escape_markdown, shorten, text_width
from abtest.display.words import verdict_tone, verdict_words
from abtest.errors import InvalidInputError

if TYPE_CHECKING:
    import polars

Align = Literal["left", "right"]


@dataclass(frozen=True)
class Column:
    """A column: its heading and on which side its cells stand."""

    label: str
    align: Align = "left"


@dataclass(frozen=True)
class Cell:
    """A cell with a look: `tone` is "good", "bad", "warn", "muted" or ""; it adds to the text, it never replaces it."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A small table for people that can be shown in four ways.

    Attributes:
        columns: Headings; a plain string stands left.
        rows: One sequence a row, as long as `columns`; cells are text, numbers, booleans, None or `Cell`.
        title: Shown above.
        notes: Sentences shown below.
        data: Records with raw values for `to_polars`; without them the cells of `rows` are used.

    Raises:
        InvalidInputError: When a row has another number of cells than there are columns.
    """

    columns: Sequence[str | Column]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    notes: Sequence[str] = ()
    data: Sequence[Mapping[str, Any]] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, 1):
            if len(row) != len(self.columns):
                raise InvalidInputError(f"row {number} has {len(row)} cells, the table has {len(self.columns)} columns")

    def __str__(self) -> str:
        return self.to_text()

    @property
    def heads(self) -> list[Column]:
        """The columns, each as a `Column`."""
        return [c if isinstance(c, Column) else Column(c) for c in self.columns]

    def without_empty_columns(self) -> Table:
        """Return the table without the columns in which no row knows anything."""
        keep = [i for i in range(len(self.columns)) if any(_cell_text(row[i]) != NOTHING for row in self.rows)]
        rows = [[row[i] for i in keep] for row in self.rows]
        return Table([self.columns[i] for i in keep], rows, self.title, self.notes, self.data)

    def to_text(self) -> str:
        """Return aligned plain text for a terminal."""
        heads = self.heads
        grid = [[shorten(_cell_text(cell), 120) for cell in row] for row in self.rows]
        labels = [shorten(head.label, 120) for head in heads]
        widths = [max(text_width(row[i]) for row in [labels, *grid]) for i in range(len(heads))]
        lines = [_text_line(labels, heads, widths), "  ".join("-" * w for w in widths)]
        lines += [_text_line(row, heads, widths) for row in grid]
        return "\n".join([*([clean(self.title), ""] if self.title else []), *lines, *map(clean, self.notes)])

    def to_markdown(self) -> str:
        """Return a Markdown (GFM) table."""
        heads = self.heads
        lines = [
            [escape_markdown(head.label) for head in heads],
            ["---:" if head.align == "right" else ":---" for head in heads],
            *([escape_markdown(_cell_text(cell)) for cell in row] for row in self.rows),
        ]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        title = [f"**{escape_markdown(self.title)}**"] if self.title else []
        return "\n\n".join([*title, body, *map(escape_markdown, self.notes)])

    def to_html(self, *, styled: bool = False) -> str:
        """Return an HTML table with classes only, or with `styled` the alignment in it (for notebooks)."""
        heads = self.heads
        side = [f' style="text-align:{head.align}"' if styled else "" for head in heads]
        top = "".join(
            f'<th scope="col" class="{h.align}"{s}>{escape_html(h.label)}</th>'
            for h, s in zip(heads, side, strict=True)
        )
        rows = "".join(
            "<tr>" + "".join(_html_cell(c, h, s) for c, h, s in zip(row, heads, side, strict=True)) + "</tr>\n"
            for row in self.rows
        )
        caption = f"<caption>{escape_html(self.title)}</caption>" if self.title else ""
        notes = "".join(f'<p class="note">{escape_html(note)}</p>' for note in self.notes)
        return f"<table>{caption}<thead><tr>{top}</tr></thead>\n<tbody>\n{rows}</tbody></table>{notes}"

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        return self.to_html(styled=True)

    def to_polars(self) -> polars.DataFrame:
        """Return the raw values: `data` where the table has it (nested values left out), else its cells."""
        import polars

        if self.data is None:
            names = _distinct([head.label for head in self.heads])
            records = [dict(zip(names, map(_raw, row), strict=True)) for row in self.rows]
        else:
            names = list(dict.fromkeys(k for r in self.data for k, v in r.items() if _is_scalar(v)))
            records = [{name: r.get(name) if _is_scalar(r.get(name)) else None for name in names} for r in self.data]
        columns = {name: [_encodable(record[name]) for record in records] for name in names}
        return polars.DataFrame(columns, strict=False)


def metrics_table(metrics: Sequence[Mapping[str, Any]], *, title: str = "") -> Table:
    """Return the table of `MetricResult` dicts: values, effect with interval, margin, harm and verdict."""
    several = len({m.get("treatment") for m in metrics}) > 1
    columns = ["Metric", Column("Control", "right"), Column("Treatment", "right"), Column("Change", "right")]
    columns += [Column("Relative", "right"), Column("Margin", "right"), Column("Harm", "right"), "Verdict"]
    rows = [
        [
            metric_label(m, with_treatment=several),
            format_value(m, m.get("control_value")),
            format_value(m, m.get("treatment_value")),
            format_effect(m),
            format_effect(m, relative=True),
            format_margin(m),
            format_harm(m),
            Cell(verdict_words(m), verdict_tone(m)),
        ]
        for m in metrics
    ]
    return Table(columns, rows, title=title, data=list(metrics)).without_empty_columns()


def metric_label(metric: Mapping[str, Any], *, with_treatment: bool = False) -> str:
    """Return the metric's name with its segment and, where asked, its treatment."""
    parts = [shorten(metric.get("metric"), 60)]
    if metric.get("segment"):
        parts.append(f"({shorten(metric['segment'], 40)})")
    if with_treatment:
        parts.append(f"in {shorten(metric.get('treatment'), 40)}")
    return " ".join(parts)


def _cell_text(cell: Any) -> str:
    value = _raw(cell)
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if math.isfinite(value) else NOTHING
    return clean(value)


def _raw(cell: Any) -> Any:
    return cell.text if isinstance(cell, Cell) else cell


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _distinct(names: Sequence[str]) -> list[str]:
    """Number the names that occur more than once: "n", "n (2)"."""
    taken: list[str] = []
    for name in names:
        candidate, count = name, 1
        while candidate in taken:
            count += 1
            candidate = f"{name} ({count})"
        taken.append(candidate)
    return taken


def _encodable(value: Any) -> Any:
    """Replace lone surrogates, which no column of text can hold."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _text_line(cells: Sequence[str], heads: Sequence[Column], widths: Sequence[int]) -> str:
    parts = [
        " " * (width - text_width(cell)) + cell if head.align == "right" else cell + " " * (width - text_width(cell))
        for cell, head, width in zip(cells, heads, widths, strict=True)
    ]
    return "  ".join(parts).rstrip()


def _html_cell(cell: Any, head: Column, side: str) -> str:
    tone = f" {escape_html(cell.tone)}" if isinstance(cell, Cell) and cell.tone else ""
    label = escape_html(head.label)
    return f'<td class="{head.align}{tone}" data-label="{label}"{side}>{escape_html(_cell_text(cell))}</td>'
