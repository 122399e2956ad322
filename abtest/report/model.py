"""The one model of a report: built once from results, then shown as HTML, Markdown and JSON.

A report is a board (one `Headline` an experiment) and a `Chapter` an experiment. A chapter is a list of sections, and
a section is a list of blocks: `Paragraph`, `Facts`, `Listing`, `Pictures` or `abtest.display.Table`. A renderer knows
the blocks and nothing of statistics; a section knows the results and nothing of HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from abtest.display import Table
from abtest.results import Analysis, Decision

if TYPE_CHECKING:
    from abtest.lineage.release_versions import ReleaseVersions
    from abtest.report.context import Context


@dataclass(frozen=True)
class Entry:
    """What the report says of one experiment comes from here.

    Attributes:
        analysis: The measured evidence.
        decision: What was decided on it; None when nothing was decided yet.
        history: Earlier decisions as dicts (`abtest.decision/1`, or a part of it), in any order; `decision` may be one.
        versions: What its arms ran (`abtest.lineage.release_versions`); None when nobody looked.
        looks: Recorded looks at its indexes (`abtest.lineage.index_findings.index_looks`).
        tradeoffs: Recorded tradeoffs about it (`abtest.tradeoff.latest`).
    """

    analysis: Analysis
    decision: Decision | None = None
    history: Sequence[Mapping[str, Any]] = ()
    versions: ReleaseVersions | None = None
    looks: Sequence[Mapping[str, Any]] = ()
    tradeoffs: Sequence[Mapping[str, Any]] = ()


# --- blocks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paragraph:
    """Some sentences; `tone` is "lead", "note", "bad", "warn" or ""."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Facts:
    """Pairs of a label and a short text."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Item:
    """A line of a list: a label with a tone ("good", "bad", "warn", "muted"), or none, then the text."""

    label: str
    text: str
    tone: str = ""


@dataclass(frozen=True)
class Listing:
    """A list of items."""

    items: Sequence[Item]


@dataclass(frozen=True)
class Picture:
    """A static SVG element with its caption; the text alternative is inside the SVG (`<title>` and `<desc>`)."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Pictures:
    """Pictures that stand side by side where there is room, with a note on how to read them."""

    items: Sequence[Picture]
    note: str = ""


Block: TypeAlias = Paragraph | Facts | Listing | Pictures | Table


# --- the whole ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Section:
    """A part of a chapter: a file in `abtest/report/sections/` defines one as `SECTION`.

    Attributes:
        key: Short name, unique; the HTML class of the section.
        title: Heading; empty for the opening part.
        order: Where it stands; sections are sorted by it.
        build: Turns the context of one experiment into blocks; no blocks, no section.
    """

    key: str
    title: str
    order: int
    build: Callable[[Context], Sequence[Block]]


@dataclass(frozen=True)
class Part:
    """A section with its blocks, ready to be shown."""

    key: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Headline:
    """One line of the board: which release, what was decided, since when, why, and what to do.

    `since` is an ISO time or None; `tone` is "good", "bad", "warn" or "muted"; `mark` is a sign that goes with it.
    """

    anchor: str
    experiment: str
    revision: int
    decision: str | None
    words: str
    tone: str
    mark: str
    stage: str
    since: str | None
    why: str
    todo: str


@dataclass(frozen=True)
class Chapter:
    """Everything about one experiment."""

    headline: Headline
    parts: Sequence[Part]


@dataclass(frozen=True)
class ReportModel:
    """A whole report.

    Attributes:
        title: Heading of the page.
        as_of: ISO time of the newest evidence in it; None when there is none.
        chapters: One an experiment, in the order of the entries.
        generated_from: What it was made from (store, versions); shown at the end.
        experiments: `{"decision", "analysis", "history"}` of each entry, as JSON-ready objects.
        report_id: sha256 over all of it: the three files of one report carry the same id.
    """

    title: str
    as_of: str | None
    chapters: Sequence[Chapter]
    generated_from: Mapping[str, Any]
    experiments: Sequence[Mapping[str, Any]] = field(repr=False)
    report_id: str = ""

    @property
    def headlines(self) -> list[Headline]:
        """The board: one headline an experiment."""
        return [chapter.headline for chapter in self.chapters]
