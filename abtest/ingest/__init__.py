"""Log formats: bytes of one line in; records, rejects and ignored counts out. Pure: no files, no database.

A new format is one new module in this package that defines `FORMAT` (a `base.Format`); nothing else has to change.
"""

from abtest.ingest.base import Format, Ignored, Item, Reject
from abtest.ingest.registry import detect, formats, get

__all__ = ["Format", "Ignored", "Item", "Reject", "detect", "formats", "get"]
