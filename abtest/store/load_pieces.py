"""What is known of contents: files as chains of pieces, so that whatever begins like a known file is read on from there.

A piece is what one load took of one file. Its parent is the piece before it in the same content, so that all pieces
form trees: a file that grew is a branch, and a rotated, copied or packed file is found by walking the tree along its
bytes. Names do not matter for that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import duckdb

from abtest.store.containers.base import EDGE_BYTES, edge_digest
from abtest.store.load_files import LogFile

PROBE_BYTES = 64 * 1024 * 1024
"""A plain file that is still in its place, with more known content than this, is compared at its edges only."""

_COLUMNS = """file_id, parent_id, COALESCE(root_id, file_id), COALESCE(start_byte, 0), bytes, end_number, sha256, head, tail,
container, source"""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one load took of a file.

    Attributes:
        file_id: Its row in the ledger.
        parent: The piece before it; None for the first one.
        root: The first one.
        start: Byte offset in the unpacked content.
        size: Bytes.
        end_number: Numbered texts (lines) before its end; None when it was taken before there were pieces.
        sha256: Of its bytes.
        head: Digest of its first bytes; None like `end_number`.
        tail: Digest of its last bytes; None like `end_number`.
        container: How it was read.
        source: The log format.
    """

    file_id: int
    parent: int | None
    root: int
    start: int
    size: int
    end_number: int | None
    sha256: str
    head: str | None
    tail: str | None
    container: str | None
    source: str

    @property
    def end(self) -> int:
        """Byte offset of its end."""
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class Match:
    """The longest known beginning of a file: its last piece, and whether nothing follows."""

    piece: Piece
    is_all: bool


class Pieces:
    """All pieces of a store, and those of the load under way.

    First pieces are read at once, the later ones of a file when it is looked at: a file that is followed for a month has
    a piece a tick.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        """Read what is first."""
        self._con = con
        self._by_id: dict[int, Piece] = {}
        self._after: dict[int, list[Piece]] = {}
        self._first: dict[str, list[Piece]] = {}
        self._heads: set[int] = {0}
        self._empty: list[Piece] = []
        self._unread = set[int]()
        for row in self._rows("parent_id IS NULL", {}):
            self.add(Piece(*row))
        grown = con.execute("SELECT DISTINCT root_id FROM file_ledger WHERE parent_id IS NOT NULL").fetchall()
        self._unread = {root for (root,) in grown}

    def get(self, file_id: int | None) -> Piece | None:
        """Return a piece by its id."""
        if file_id is None:
            return None
        if file_id not in self._by_id and self._unread:
            row = self._con.execute("SELECT root_id FROM file_ledger WHERE file_id = ?", [file_id]).fetchone()
            self._read(row[0] if row else None)
        return self._by_id.get(file_id)

    def add(self, piece: Piece) -> None:
        """Add a piece; one without bytes (only an unfinished line was seen) leads nowhere and is known by id only."""
        if piece.file_id in self._by_id:
            return
        self._by_id[piece.file_id] = piece
        if piece.head == "":  # rejected lines that were tried again: no part of a file
            return
        if not piece.size:
            self._empty.append(piece)
            return
        if piece.parent is not None:
            self._after.setdefault(piece.parent, []).append(piece)
            return
        self._first.setdefault(piece.head or "", []).append(piece)
        if piece.head:
            self._heads.add(int(piece.head.partition(":")[0]))

    def discard(self, file_ids: Iterable[int]) -> None:
        """Forget pieces that were not stored after all."""
        for file_id in file_ids:
            piece = self._by_id.pop(file_id, None)
            if piece is None or piece.head == "":
                continue
            if not piece.size:
                known = self._empty
            else:
                known = self._first[piece.head or ""] if piece.parent is None else self._after[piece.parent]
            known.remove(piece)

    def after(self, piece: Piece) -> list[Piece]:
        """Return the pieces that follow one."""
        self._read(piece.root)
        return self._after.get(piece.file_id, [])

    def siblings_at(self, piece: Piece | None) -> set[int]:
        """Return the ids under which an unfinished line after this piece (None: at the start) may have been noted."""
        parent = piece.file_id if piece else None
        if piece:
            self._read(piece.root)
        ids = {each.file_id for each in self._empty if each.parent == parent}
        return ids | {parent} if parent is not None else ids

    def _read(self, root: int | None) -> None:
        """Read the later pieces of one file."""
        if root is not None and root in self._unread:
            self._unread.discard(root)
            for row in self._rows("root_id = $root AND parent_id IS NOT NULL", {"root": root}):
                self.add(Piece(*row))

    def _rows(self, where: str, parameters: dict[str, int]) -> list[tuple[Any, ...]]:
        query = f"SELECT {_COLUMNS} FROM file_ledger WHERE {where} ORDER BY file_id"  # noqa: S608 - constants
        return self._con.execute(query, parameters).fetchall()

    def match(self, file: LogFile, candidates: Iterable[int | None]) -> Match | None:
        """Return the longest known beginning of a file; `candidates`: last pieces that it may have held under any name."""
        if file.codec is None:
            for piece in map(self.get, candidates):
                if piece and piece.end > PROBE_BYTES and self._has_edges(file, piece):
                    return Match(piece, file.size == piece.end)
        return self._walk(file)

    def _walk(self, file: LogFile) -> Match | None:
        """Digest the file as far as known pieces fit."""
        head = file.head()[:EDGE_BYTES]
        first = list(self._first.get("", []))
        for length in self._heads:
            if 0 < length <= len(head):
                first += self._first.get(edge_digest(head[:length]), [])
        if file.codec is None:
            first = [piece for piece in first if piece.size <= file.size]
        runs = [_Run(0, first)] if first else []
        best: Piece | None = None
        at = 0
        for chunk in file.chunks() if runs else ():
            waiting, runs = runs, []
            while waiting:
                run = waiting.pop()
                for piece in run.feed(memoryview(chunk), at):
                    if best is None or piece.end > best.end:
                        best = piece
                    if after := self.after(piece):
                        waiting.append(_Run(piece.end, after))
                if run.ends:
                    runs.append(run)
            at += len(chunk)
            if best is not None and at > best.end and not runs:
                break
            if best is None and not runs:
                return None
        return Match(best, at == best.end) if best else None

    def _has_edges(self, file: LogFile, piece: Piece) -> bool:
        """Compare the first bytes of the content and the last ones of a piece with the file."""
        root = self.get(piece.root)
        if file.size < piece.end or root is None or not root.head or not piece.tail:
            return False
        first, last = (int(edge.partition(":")[0]) for edge in (root.head, piece.tail))
        try:
            with file.path.open("rb") as stream:
                begins = edge_digest(stream.read(first)) == root.head
                stream.seek(piece.end - last)
                return begins and edge_digest(stream.read(last)) == piece.tail
        except OSError:
            return False


class _Run:
    """Digests a content from one offset on, and finds the pieces of which it is the digest."""

    def __init__(self, start: int, pieces: Iterable[Piece]) -> None:
        self._sha = hashlib.sha256()
        self._at = start
        self._wanted: dict[int, dict[str, Piece]] = {}
        for piece in pieces:
            self._wanted.setdefault(piece.end, {})[piece.sha256] = piece
        self.ends = sorted(self._wanted, reverse=True)

    def feed(self, chunk: memoryview, at: int) -> list[Piece]:
        """Take a chunk that begins at offset `at`; returns the pieces that end in it and fit."""
        found: list[Piece] = []
        stop = at + len(chunk)
        while self.ends and self.ends[-1] <= stop:
            end = self.ends.pop()
            self._sha.update(chunk[self._at - at : end - at])
            self._at = end
            piece = self._wanted[end].get(self._sha.hexdigest())
            if piece is not None:
                found.append(piece)
        if self.ends and self._at < stop:
            self._sha.update(chunk[self._at - at :])
            self._at = stop
        return found
