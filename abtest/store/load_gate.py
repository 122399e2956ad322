"""The gate: validates a piece of a native log, and says which of its lines DuckDB may read as they are.

A line is *plain* when DuckDB's own reader makes of it the very row that the spool would: an interaction that passes the
models of `abtest.ingest.validate`, no key twice, attributes in canonical form. Every other line is *special*: it takes
the careful way, one by one, and is written anew or rejected. What is valid is decided there, never here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from pydantic_core import to_json

from abtest.ingest.base import Reject
from abtest.ingest.native import FORMAT as NATIVE
from abtest.ingest.validate import LoggedInteraction
from abtest.records import AnyRecord
from abtest.store.load_report import TABLES
from abtest.store.load_spool import loader_keys

Places = NDArray[np.int64]
Bytes = NDArray[np.uint8]

_NEWLINE, _QUOTE, _COLON, _BACKSLASH = b'\n":\\'
_SPACE = np.isin(np.arange(256), list(b" \t\r"))
_SPACE_OR_QUOTE = _SPACE | (np.arange(256) == _QUOTE)
BLOCK_BYTES = 512 * 1024
"""What is looked at in one go, small enough for the caches of a core."""

_SPECIAL = -1
_FLAT = frozenset((str, int, float, bool, type(None)))
_ATTRIBUTES = b'"attributes":'
_HEAD = 48
"""Bytes in which most writers put the type of a record."""


@dataclass(frozen=True)
class Piece:
    """Whole lines of a log, in a file of their own.

    Attributes:
        path: The file. Every line in it ends with a newline; there is no byte order mark.
        line: Lines of the log before it.
        offset: Bytes of the log before it.
    """

    path: str
    line: int
    offset: int


@dataclass(frozen=True)
class Rows:
    """The rows of one table in a piece, in the order of their lines.

    Attributes:
        path: The NDJSON file from which DuckDB reads them.
        longest: Bytes of its longest line.
        lines: The number of each row's line in the log, from 1.
        offsets: The byte offset of each row's line in the log.
    """

    path: str
    longest: int
    lines: Places
    offsets: Places


@dataclass(frozen=True)
class Passed:
    """What became of a piece: rows by table, and rejects. Blank lines are neither."""

    piece: Piece
    tables: dict[str, Rows]
    rejects: list[Reject] = field(default_factory=list[Reject])


def check(piece: Piece) -> Passed:
    """Validate the lines of a piece; files for its rows are written beside it, where its own will not do."""
    data = Path(piece.path).read_bytes()
    starts: list[Places] = []
    special: list[tuple[int, bytes]] = []
    longest = begin = lines = 0
    while begin < len(data):
        end = data.rfind(b"\n", begin, begin + BLOCK_BYTES) + 1 or data.find(b"\n", begin) + 1
        block = data[begin:end]
        ends, found = _check_block(block)
        special += [(lines + index, line) for index, line in found]
        longest = max(longest, int(np.diff(ends, prepend=-1).max()))
        starts += [np.array([begin]), ends[:-1] + (begin + 1)]
        lines += len(ends)
        begin = end
    places = np.concatenate(starts)
    if special:
        return _sort(piece, data, places, special)
    rows = Rows(piece.path, longest, np.arange(piece.line + 1, piece.line + 1 + lines), places + piece.offset)
    return Passed(piece, {"interaction": rows})


def _check_block(block: bytes) -> tuple[Places, list[tuple[int, bytes]]]:
    """Return where the lines of a block end, and which of them are special."""
    content = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(content == _NEWLINE)
    lines = block.split(b"\n")[:-1]
    keys = np.array([_plain_keys(line) for line in lines], np.int64)
    special = np.flatnonzero((keys == _SPECIAL) | (keys != _keys_seen(content, ends)))
    return ends, [(index, lines[index]) for index in special.tolist()]


def _plain_keys(line: bytes) -> int:
    """Validate a line as an interaction; return how many keys it has at all levels, or `_SPECIAL`."""
    head = line[:_HEAD]
    if b'"score"' in head or b'"assignment"' in head:
        return _SPECIAL
    try:
        record = _validate(line)
    except ValidationError:
        return _SPECIAL
    keys = len(record.model_fields_set)
    attributes = record.attributes
    if not attributes:
        return keys
    return keys + len(attributes) if _is_canonical(attributes, line) else _SPECIAL


_validate = LoggedInteraction.__pydantic_validator__.validate_json


def _is_canonical(attributes: dict[str, Any], line: bytes) -> bool:
    """Tell whether DuckDB makes of the attributes in a line what it makes of their canonical form.

    It drops white space and spells texts anew, so order and numbers are what counts; nesting is left to the careful way.
    """
    kinds = set(map(type, attributes.values()))
    if not kinds <= _FLAT or (float in kinds and not all(map(math.isfinite, _floats(attributes)))):
        return False
    ordered = {key: attributes[key] for key in sorted(attributes)}
    at = line.rfind(_ATTRIBUTES) + len(_ATTRIBUTES)
    if line.startswith(to_json(ordered), at):
        return True
    # As Python's json writes it, white space and all; its floats are spelled otherwise.
    return float not in kinds and line.startswith(b" " + json.dumps(ordered).encode(), at)


def _floats(attributes: dict[str, Any]) -> Iterator[float]:
    return (value for value in attributes.values() if isinstance(value, float))


def _keys_seen(content: Bytes, ends: Places) -> Places:
    r"""Count the keys in each line by their `":`; `_SPECIAL` where that cannot be trusted.

    pydantic and DuckDB each keep one of two equal keys, so the count of the model is compared with this one. Of a valid
    line, each key has its `":` unless there is space before the colon; a `\":` is text, unless the backslash is itself
    escaped. Both doubts are `_SPECIAL`. What else has a `":` (a text that begins with a colon) counts too high.
    """
    colons = np.flatnonzero(content == _COLON)
    colons = colons[colons > 2]  # no key of ours is so short that its colon could be before
    before = content[colons - 1]
    second = content[colons - 2]
    quoted = before == _QUOTE
    escaped = quoted & (second == _BACKSLASH)
    doubtful = (escaped & (content[colons - 3] == _BACKSLASH)) | (_SPACE[before] & _SPACE_OR_QUOTE[second])
    counted = colons[quoted & ~escaped]
    keys = np.diff(np.searchsorted(counted, ends), prepend=0)
    keys[np.searchsorted(ends, colons[doubtful])] = _SPECIAL
    return keys


def _sort(piece: Piece, data: bytes, starts: Places, special: Sequence[tuple[int, bytes]]) -> Passed:
    """Write the special lines anew, and the plain ones between them in runs."""
    kept: dict[str, list[bytes]] = {table: [] for table in TABLES}
    places: dict[str, list[int]] = {table: [] for table in TABLES}
    rejects: list[Reject] = []
    run = 0  # where the run of plain lines under way begins
    for index, line in special:
        start = int(starts[index])
        kept["interaction"].append(data[run:start])
        run = start + len(line) + 1
        text = line.strip()
        if not text:
            continue
        for item in NATIVE.read(text, piece.line + index + 1, piece.offset + start):
            if isinstance(item, Reject):
                rejects.append(item)
            elif isinstance(item, AnyRecord):
                kept[item.type].append(b"{%b,%b\n" % (loader_keys(item), text[1:]))
                places[item.type].append(index)
    kept["interaction"].append(data[run:])
    is_kept = np.ones(len(starts), bool)
    is_kept[[index for index, _ in special]] = False
    is_kept[places["interaction"]] = True
    places["interaction"] = np.flatnonzero(is_kept).tolist()
    tables: dict[str, Rows] = {}
    for table, parts in kept.items():
        if places[table]:
            path = f"{piece.path}.{table}"
            where = np.array(places[table], np.int64)
            tables[table] = Rows(path, _write(path, parts), where + piece.line + 1, starts[where] + piece.offset)
    return Passed(piece, tables, rejects)


def _write(path: str, parts: Sequence[bytes]) -> int:
    """Write a file; returns the length of its longest line."""
    data = b"".join(parts)
    Path(path).write_bytes(data)
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
    return int(np.diff(ends, prepend=-1).max())
