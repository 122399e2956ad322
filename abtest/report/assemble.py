"""From entries to the model: the board, a chapter an experiment, and the id of the whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from abtest.errors import NoDataError
from abtest.report.context import Context, tidy
from abtest.report.headline import headline
from abtest.report.model import Chapter, Entry, Part, ReportModel
from abtest.report.sections import all_sections
from abtest.results import plain


def build(
    entries: Sequence[Entry], *, generated_from: Mapping[str, Any] | None = None, title: str = "Release report"
) -> ReportModel:
    """Build the report of one experiment or many; the same entries give the same model, to the byte.

    Args:
        entries: One an experiment, in the order of the report.
        generated_from: What the report was made from (store file, version of abtest); no time of the clock in it.
        title: Heading of the page.

    Raises:
        NoDataError: When there is no entry.
    """
    if not entries:
        raise NoDataError(
            "there is no experiment to report", hint="name an experiment file, or run abtest decide first"
        )
    experiments = [_raw(entry) for entry in entries]
    source = plain(dict(generated_from or {}))
    content = {"title": title, "generated_from": source, "experiments": experiments}
    return ReportModel(
        title=str(tidy(title)),
        as_of=_newest([entry.analysis.as_of for entry in entries]),
        chapters=[_chapter(entry, f"e{number}") for number, entry in enumerate(entries, 1)],
        generated_from=source,
        experiments=experiments,
        report_id=hashlib.sha256(canonical(content).encode()).hexdigest(),
    )


def canonical(value: Any) -> str:
    """Return JSON with sorted keys and ASCII only; objects that JSON does not know are written as text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)


def _raw(entry: Entry) -> dict[str, Any]:
    return {
        "decision": entry.decision.to_dict() if entry.decision else None,
        "analysis": entry.analysis.to_dict(),
        "history": [plain(record) for record in entry.history],
        **({"versions": entry.versions.to_dict()} if entry.versions else {}),
        **({"looks": [plain(look) for look in entry.looks]} if entry.looks else {}),
        **({"tradeoffs": [plain(found) for found in entry.tradeoffs]} if entry.tradeoffs else {}),
    }


def _chapter(entry: Entry, anchor: str) -> Chapter:
    context = Context(entry)
    parts = [Part(section.key, section.title, list(section.build(context))) for section in all_sections()]
    return Chapter(headline(context, anchor), [part for part in parts if part.blocks])


def _newest(times: Sequence[str | None]) -> str | None:
    """Return the latest time; one that cannot be read counts as the oldest."""

    def key(text: str) -> datetime:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            return datetime.min.replace(tzinfo=UTC)
        return at if at.tzinfo else at.replace(tzinfo=UTC)

    return max((t for t in times if t is not None), key=key, default=None)
