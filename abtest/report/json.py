"""The report for machines: `abtest.report/1`."""

from __future__ import annotations

import json
from dataclasses import asdict

from abtest.report.model import ReportModel


def render(model: ReportModel) -> str:
    """Return the report as one JSON object: `{schema, report_id, title, as_of, board, experiments, generated_from}`.

    `experiments` holds `decision`, `analysis` and `history` of each entry, whole and unchanged; `board` is one line an
    experiment. Characters outside ASCII are escaped, so that no text can harm a terminal or a page that shows it.
    """
    document = {
        "schema": "abtest.report/1",
        "report_id": model.report_id,
        "title": model.title,
        "as_of": model.as_of,
        "board": [asdict(line) for line in model.headlines],
        "experiments": list(model.experiments),
        "generated_from": dict(model.generated_from),
    }
    return json.dumps(document, indent=1, allow_nan=False, default=str) + "\n"
