"""What people see: one report model, its sections, three renderers (HTML, Markdown, JSON), published atomically.

model.py      Entry in, ReportModel out; the blocks a section may use
context.py    what a section may know of one experiment
headline.py   verdict in words, since when, what to do
sections/     one file a section, found by itself
assemble.py   build: entries -> model
html.py · markdown.py · json.py   render: model -> text
write.py      write_report: the files, all or nothing
"""

from abtest.report.assemble import build
from abtest.report.model import Entry, ReportModel
from abtest.report.write import write_report

__all__ = ["Entry", "ReportModel", "build", "write_report"]
