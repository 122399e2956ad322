"""The first records of a file, and the format that they are in."""

from __future__ import annotations

from abtest.errors import LogReadError
from abtest.ingest import Format, Reject, detect, formats, get
from abtest.ingest.base import parse_object
from abtest.store.containers.base import Container, Reading
from abtest.store.load_files import LogFile
from abtest.store.load_pieces import Piece

SAMPLE_TEXTS = 20
SAMPLE_BYTES = 1 << 18
"""What of a file is looked at to find its format."""


def sample_of(container: Container, file: LogFile) -> tuple[list[bytes], int]:
    """Return the first JSON texts of a file (or what stands in their place); if there are none, also how many lines."""
    reading = Reading(file)
    found: list[bytes] = []
    size = 0
    for item in container.texts(reading):
        text = item.raw if isinstance(item, Reject) else item[0]
        found.append(text)
        size += len(text)
        if len(found) >= SAMPLE_TEXTS or size >= SAMPLE_BYTES:
            return found, 0
    if not found and reading.tail:
        found = [reading.tail.text or reading.tail.raw]
    return found, reading.lines


def format_of(file: LogFile, sample: list[bytes], source: str, after: Piece | None) -> Format:
    """Return the format: the named one, else the one that fits the first records, else that of the piece before.

    A file without any JSON object in its first records is no log, unless it begins like one: then its lines are
    quarantined one by one as broken native ones (a file whose writer has just begun).

    Raises:
        LogReadError: Nothing fits.
    """
    objects = [value for text in sample if isinstance(value := parse_object(text), dict)]
    if not objects and any(b"\x00" in text for text in sample):
        raise LogReadError("is a binary file", file=file.name, hint="logs are text, one JSON object a line")
    if source != "auto":
        return get(source)
    if not objects and sample[0].startswith(b"{"):
        return get("native")
    try:
        return detect(objects, file=file.name)
    except LogReadError:
        if after is None or after.source not in formats():
            raise
        return get(after.source)
