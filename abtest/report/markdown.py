"""The report as Markdown (GFM), for a pull request, a chat or a wiki: all tables; the pictures are in the HTML only."""

from __future__ import annotations

from abtest.display import Table, escape_markdown, format_time, shorten
from abtest.report.model import Chapter, Facts, Headline, Listing, Paragraph, Pictures, ReportModel


def render(model: ReportModel) -> str:
    """Return the whole report."""
    board = Table(["Experiment", "Verdict", "Since", "What to do"], [_board_row(line) for line in model.headlines])
    until = escape_markdown(f"Evidence until {format_time(model.as_of)}.")
    lines = [f"# {escape_markdown(model.title)}", until, board.to_markdown()]
    for chapter in model.chapters:
        lines += _chapter(chapter)
    source = "; ".join(escape_markdown(f"{shorten(k, 60)}: {shorten(v, 200)}") for k, v in model.generated_from.items())
    lines += ["---", f"Report {model.report_id}." + (f" Made from {source}." if source else "")]
    return "\n\n".join(lines) + "\n"


def _board_row(line: Headline) -> list[str]:
    return [f"{line.experiment}, revision {line.revision}", verdict(line), format_time(line.since), line.todo]


def verdict(line: Headline) -> str:
    """Return the verdict with its sign and its stage."""
    return f"{line.mark} {line.words}" + (f" ({line.stage})" if line.stage else "")


def _chapter(chapter: Chapter) -> list[str]:
    line = chapter.headline
    lines = [f"## {escape_markdown(f'{line.experiment}, revision {line.revision}: {line.words}')}"]
    for part in chapter.parts:
        texts = [_block(block) for block in part.blocks if not isinstance(block, Pictures)]
        lines += [f"### {escape_markdown(part.title)}"] if part.title and texts else []
        lines += texts
    return lines


def _block(block: Table | Paragraph | Facts | Listing) -> str:
    if isinstance(block, Table):
        return block.to_markdown()
    if isinstance(block, Paragraph):
        text = escape_markdown(block.text)
        return f"**{text}**" if block.tone == "lead" else text
    if isinstance(block, Facts):
        return "\n".join(f"- {escape_markdown(label)}: {escape_markdown(text)}" for label, text in block.items)
    labels = [f"**{escape_markdown(item.label)}**: " if item.label else "" for item in block.items]
    return "\n".join(f"- {label}{escape_markdown(i.text)}" for label, i in zip(labels, block.items, strict=True))
