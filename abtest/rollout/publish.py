"""The small copy that readers get at each tick of `watch`: JSON files, replaced whole, never opened half written.

`status.json` is `abtest.status/1` with the heartbeat of the watch; each experiment has one file (`abtest.published/1`) with its
last decision and analysis. Readers need no DuckDB and are in nobody's way.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abtest.errors import StoreError

STATUS = "status.json"
_SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


def folder_of(db: Path) -> Path:
    """Return the folder that is published beside a store: DBFILE.published."""
    return db.with_name(f"{db.name}.published")


def file_of(experiment: str) -> str:
    """Return the name of an experiment's file; ids that are no file names get a hash behind what can be kept of them."""
    if _SAFE.fullmatch(experiment) and f"{experiment}.json" != STATUS:
        return f"{experiment}.json"
    kept = re.sub(r"[^A-Za-z0-9_-]+", "-", experiment).strip("-")[:60]
    return f"{kept}-{hashlib.sha256(experiment.encode()).hexdigest()[:12]}.json"


def put(folder: Path, name: str, data: Mapping[str, Any]) -> None:
    """Write one file whole: readers see the old one or the new one.

    Raises:
        StoreError: The folder cannot be written to.
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(handle)
                os.fchmod(handle, 0o644)  # readers are other users, too
            Path(temporary).replace(folder / name)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise StoreError(
            f"nothing can be published here: {error.strerror or error}", file=str(folder), hint="give another --publish"
        ) from error


def get(folder: Path, name: str = STATUS) -> dict[str, Any] | None:
    """Return a published file; None when there is none, or none that can be read."""
    try:
        data = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def tidy(folder: Path) -> None:
    """Remove what a killed writer left behind."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()
