"""Unfinished ends of files that are in quarantine as truncated: a file that grew, or came again, may hold the rest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import duckdb

from abtest.ingest.base import RAW_LIMIT, mapping, parse_object, whole_or_none
from abtest.store.load_files import STDIN
from abtest.store.load_pieces import Piece, Pieces
from abtest.store.privacy import OUTLINE


@dataclass(frozen=True, slots=True)
class End:
    """An unfinished record in quarantine.

    Attributes:
        path: The file it was seen in.
        offset: Where it begins.
        raw: What is kept of its bytes: the first ones, or their outline.
        file_id: The load that saw it.
    """

    path: str
    offset: int
    raw: bytes
    file_id: int

    def begins(self, content: bytes) -> bool:
        """Tell whether a content begins with these bytes."""
        if not self.raw.startswith(OUTLINE):
            return content.startswith(self.raw)
        size, digest = self._outline
        return hashlib.sha256(content[:size]).hexdigest() == digest

    def is_same(self, content: bytes) -> bool:
        """Tell whether a content is these bytes."""
        size = self._outline[0] if self.raw.startswith(OUTLINE) else len(self.raw)
        return size == len(content) and self.begins(content)

    @property
    def _outline(self) -> tuple[int, str]:
        found = mapping(parse_object(self.raw))
        return whole_or_none(found.get("bytes")) or 0, str(found.get("sha256"))


class Unfinished:
    """All unfinished ends of a store, and those of the load under way."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        """Read them."""
        query = "SELECT path, byte_offset, raw, file_id FROM quarantine WHERE reason = 'truncated'"
        self._ends = [
            End(path, offset, bytes(raw or b""), file_id)
            for path, offset, raw, file_id in con.execute(query).fetchall()
        ]

    def add(self, end: End) -> None:
        """Note one that goes to quarantine."""
        self._ends.append(end)

    def discard(self, file_ids: set[int]) -> None:
        """Forget those of loads that were not stored after all."""
        self._ends = [end for end in self._ends if end.file_id not in file_ids]

    def of(self, path: str, after: Piece | None, pieces: Pieces) -> Ends:
        """Return those that a file may complete, which is read on after a piece, or from its beginning (None)."""
        if not self._ends:
            return Ends({}, {})
        at = after.end if after else 0
        ids = pieces.siblings_at(after)
        sure: dict[int, list[End]] = {}
        likely: dict[int, list[End]] = {}
        for end in self._ends:
            if after is not None and end.offset == at and end.file_id in ids:
                sure.setdefault(end.offset, []).append(end)
            elif after is None and (end.path == path != STDIN or (end.offset == 0 and end.file_id in ids)):
                likely.setdefault(end.offset, []).append(end)
        return Ends(sure, likely)


@dataclass
class Ends:
    """Ends by offset.

    Attributes:
        sure: Of the very content that is read on.
        likely: Of a file of this name, which may have had another content: the bytes have to agree.
        kept: Those that are as unfinished as before.
    """

    sure: dict[int, list[End]]
    likely: dict[int, list[End]]
    kept: list[End] = field(default_factory=list[End])

    def __bool__(self) -> bool:
        """Tell whether there may be any."""
        return bool(self.sure or self.likely)

    def keep_what_begins(self, content: bytes) -> None:
        """Leave out the sure ones with other bytes than those that follow now: two files may go on differently."""
        begin = content[: RAW_LIMIT + 64].lstrip()
        self.sure = {offset: [end for end in ends if end.begins(begin)] for offset, ends in self.sure.items()}

    def completed(self, offset: int, raw: bytes) -> list[End]:
        """Return those that a whole record at this offset replaces."""
        return [*self.sure.get(offset, ()), *(end for end in self.likely.get(offset, ()) if end.begins(raw))]

    def keep(self, offset: int, raw: bytes) -> bool:
        """Tell whether one of these is the same, still unfinished."""
        same = [end for ends in (self.sure, self.likely) for end in ends.get(offset, ()) if end.is_same(raw)]
        self.kept += same
        return bool(same)

    def all(self) -> list[End]:
        """Return all of them."""
        return [end for ends in (*self.sure.values(), *self.likely.values()) for end in ends]
