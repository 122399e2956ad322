"""The picture of docs/performance.md, drawn from its table: `python -m benchmarks.nightly.pictures docs`."""

import re
import sys
from pathlib import Path

from abtest.charts import to_svg
from abtest.charts.base import BLUE, INK, MUTED, WIDTH, Frame, as_is, finish, layer, text_layer

TITLE = "The nightly analysis of 10 million calls"
HEAD = "10,000,000 rows"
BAR = 22


def table_of(page: str, heading: str) -> list[list[str]]:
    """Return the rows of the first table under a heading that begins with this text."""
    part = page[re.search(rf"^#+ {re.escape(heading)}", page, re.MULTILINE).end() :]  # type: ignore[union-attr]
    lines = part[part.index("\n|") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def bars(page: str) -> list[tuple[str, float, str]]:
    """Return (side, times the hand-written SQL, peak) of every side."""
    return [(row[0], float(row[1].split()[0].replace(",", "")), row[-1]) for row in table_of(page, HEAD)]


def words(page: str) -> str:
    """Return what the picture says."""
    return "Time, in times the hand-written one-pass SQL, and peak memory: " + "; ".join(
        f"{name} {value:.2g}, {peak}" for name, value, peak in bars(page)
    )


def nightly(page: str):
    """Return the chart: a bar a side."""
    import altair

    found = bars(page)
    frame = Frame(width=WIDTH - 80, height=2 * BAR * len(found), left=8, top=4, right=72, bottom=4)
    widest = max(value for _, value, _ in found)
    records = [
        {"x": 0, "x2": value / widest * frame.width, "y": BAR * (2 * k + 1) + 2, "y2": BAR * (2 * k + 2) - 2,
         "colour": BLUE if name.startswith("abtest") else MUTED}
        for k, (name, value, _) in enumerate(found)
    ]  # fmt: skip
    marks = layer(records).mark_rect().encode(
        x=altair.X("x:Q", scale=None, axis=None), x2="x2:Q", y=altair.Y("y:Q", scale=None, axis=None), y2="y2:Q",
        color=as_is("colour"),
    )  # fmt: skip
    names = [{"px": 0, "py": BAR * (2 * k + 0.6), "text": name, "colour": INK} for k, (name, _, _) in enumerate(found)]
    numbers = [
        {
            "px": value / widest * frame.width + 5,
            "py": BAR * (2 * k + 1.5),
            "text": f"{value:.2g}, {peak}",
            "colour": INK,
        }
        for k, (_, value, peak) in enumerate(found)
    ]
    return finish([marks, text_layer(names), text_layer(numbers)], frame, TITLE, words(page))


def write(docs: Path) -> None:
    """Draw it beside the page."""
    (docs / "performance").mkdir(exist_ok=True)
    page = (docs / "performance.md").read_text(encoding="utf-8")
    (docs / "performance" / "nightly.svg").write_text(to_svg(nightly(page)), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
