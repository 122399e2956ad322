"""Publishing a report: all files are written whole beside their place, then renamed into it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from abtest.errors import UsageError
from abtest.report import html, json, markdown
from abtest.report.assemble import build
from abtest.report.model import Entry


def write_report(
    entries: Sequence[Entry],
    out: Path,
    *,
    generated_from: Mapping[str, Any] | None = None,
    title: str = "Release report",
) -> dict[str, Path]:
    """Write report.html (also as index.html), report.md and report.json into the folder `out`.

    A reader sees the old report or the new one, never half a file: everything is written to a staging folder beside
    `out` first. A new `out` appears with one rename; in one that exists each file is replaced by a rename (other
    files in it are left alone), the page last. All files of one report carry the same id.

    Returns:
        The paths: {"html", "index", "markdown", "json"}.

    Raises:
        NoDataError: When there is no entry.
        UsageError: When the folder cannot be written.
    """
    model = build(entries, generated_from=generated_from, title=title)
    page = html.render(model)
    files = {
        "json": ("report.json", json.render(model)),
        "markdown": ("report.md", markdown.render(model)),
        "index": ("index.html", page),
        "html": ("report.html", page),
    }
    out = Path(out)
    try:
        _publish(out, {name: text.encode() for name, text in files.values()})
    except OSError as error:
        raise UsageError(
            f"the report cannot be written: {error.strerror or error}", file=str(out), hint="give a folder to write to"
        ) from error
    return {kind: out / name for kind, (name, _) in files.items()}


def _publish(out: Path, files: Mapping[str, bytes]) -> None:
    place = out.absolute()
    place.parent.mkdir(parents=True, exist_ok=True)
    staging = place.parent / f".{place.name}.staging-{uuid.uuid4().hex}"
    staging.mkdir()
    try:
        for name, content in files.items():
            with (staging / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if place.exists():
            for name in files:
                (staging / name).replace(place / name)
        else:
            staging.rename(place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
