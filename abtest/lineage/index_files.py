"""Reads what `index-drift` and `index-compare` are given: exports of an index, probes, documents, queries, golden sets, runs.

NDJSON, a JSON array, CSV or Parquet (plain, gzip or zstd, as for logs), and TREC's qrels and run files. Columns that
are not known are left alone. A row that cannot be read is counted, and named with its number; it is never guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import duckdb
import numpy as np
import numpy.typing as npt

from abtest.errors import LogReadError
from abtest.ingest.base import Reject, epoch_micros, parse_object
from abtest.ingest.cells import TIME, parsed
from abtest.store.containers.base import Reading
from abtest.store.containers.registry import choose
from abtest.store.load_files import PARQUET, LogFile

Vector = npt.NDArray[np.float32]
Row = dict[str, Any]
Given = str | Path | Iterable[Mapping[str, Any]]
"""A file, or its rows."""

_BATCH = 2048
_SPACE = re.compile(r"\s+")
_TREC_FIELDS = {4: ("query_id", "iteration", "doc_id", "relevance"), 6: ("query_id", "iteration", "doc_id", "rank", "score", "tag")}  # fmt: skip


Several = Given | Mapping[str, Given] | Sequence[str | Path]
"""One input, inputs by name, or several files."""


def named_inputs(given: Several) -> list[tuple[str | None, Given]]:
    """Return each input with its name; only a mapping names them."""
    if isinstance(given, Mapping):
        return [(str(name), cast("Given", each)) for name, each in given.items()]
    if isinstance(given, (str, Path)):
        return [(None, given)]
    if isinstance(given, Sequence) and given and all(isinstance(each, (str, Path)) for each in given):
        return [(None, cast("Path", each)) for each in given]
    return [(None, cast("Given", given))]


class RowError(Exception):
    """A row that cannot be used; the text says why."""


class Export:
    """One file, row by row.

    Attributes:
        name: As the user named it.
        rows: Rows seen so far, those that could not be used included.
        rejected: Rows that could not be used.
        first: Why the first of them could not: "line 7: ...".
        trec: Whether it is a TREC file.
    """

    def __init__(self, given: Given, *, vectors_of: frozenset[str] | None = None) -> None:
        """Look at the file; raises LogReadError when there is none.

        Args:
            given: The file, or its rows.
            vectors_of: Read vectors of these ids only; of the others the size (`vector_size`). Parquet alone makes use of it.
        """
        self._vectors_of = vectors_of
        self.name = str(given) if isinstance(given, (str, Path)) else "(rows)"
        self._memory = None if isinstance(given, (str, Path)) else given
        if isinstance(given, (str, Path)):
            if Path(given).is_dir():
                raise LogReadError("is a folder, one file is needed", file=self.name)
            self._file = LogFile(Path(given), self.name)
        self._number = 0
        self._line = 0  # of text files; rows of other kinds are counted
        self.rows = 0
        self.rejected = 0
        self.first = ""
        self.trec = False

    def __iter__(self) -> Iterator[Row]:
        """Yield each row as a dict; raises LogReadError when the file cannot be read whole."""
        for row in self._rows() if self._memory is None else map(dict, self._memory):
            self.rows += 1
            self._number = self._line or self.rows
            if isinstance(row, str):
                self.reject(row)
            else:
                yield row

    def reject(self, why: str | RowError) -> None:
        """Count the row that was yielded last as one that cannot be used."""
        self.rejected += 1
        self.first = self.first or f"row {self._number}: {why}"

    def check(self) -> None:
        """Refuse a file with a row that cannot be used: for files in which every row counts.

        Raises:
            LogReadError: names the first such row.
        """
        if self.rejected:
            more = f" (and {self.rejected - 1} more rows)" if self.rejected > 1 else ""
            raise LogReadError(f"{self.first}{more}", file=self.name, hint="every row counts here: mend the file")

    def to_dict(self) -> dict[str, Any]:
        """Return what is said of the file: name, rows, rejected, first_reject."""
        return {"file": self.name, "rows": self.rows, "rejected": self.rejected, "first_reject": self.first or None}

    def _rows(self) -> Iterator[Row | str]:
        head = self._file.head()
        if not head.strip():
            raise LogReadError("is empty", file=self.name, hint="one JSON object a line, or Parquet")
        fields = _trec_fields(head)
        self.trec = fields is not None
        return self._parquet() if head.startswith(PARQUET) else self._trec(fields) if fields else self._texts()

    # -- kinds of files --------------------------------------------------------------------------------------------------

    def _texts(self) -> Iterator[Row | str]:
        reading = Reading(self._file)
        for item in choose(self._file).texts(reading):
            if isinstance(item, Reject):
                self._line = item.line
                yield item.reason
            else:
                self._line = item[1]
                yield parse_object(item[0])
        if reading.tail is not None:
            self._line = reading.tail.number
            yield parse_object(reading.tail.text or reading.tail.raw)

    def _parquet(self) -> Iterator[Row]:
        """Read with DuckDB directly: a vector stays a list of numbers and never becomes text."""
        try:
            with duckdb.connect(
                config={"autoinstall_known_extensions": False, "autoload_known_extensions": False}
            ) as con:
                con.execute("SET TimeZone = 'UTC'")
                name = re.sub(r"([*?\[\]])", r"[\1]", str(self._file.path))  # no pattern, just this file
                result = self._selected(con, {"path": name})
                names = [str(column[0]) for column in result.description or ()]
                while rows := result.fetchmany(_BATCH):
                    for row in rows:
                        yield dict(zip(names, row, strict=True))
        except duckdb.Error as error:
            reason = str(error).splitlines()[0][:200]
            raise LogReadError(f"Parquet is damaged: {reason}", file=self.name, hint="write it again") from error

    def _selected(self, con: duckdb.DuckDBPyConnection, params: dict[str, Any]) -> duckdb.DuckDBPyConnection:
        """Run the query of a Parquet file; millions of vectors that nothing is compared with never leave it."""
        table = "read_parquet($path, hive_partitioning = FALSE)"
        kinds = {str(r[0]): str(r[1]) for r in con.execute(f"DESCRIBE SELECT * FROM {table}", params).fetchall()}  # noqa: S608 - constants
        lists = kinds.get("vector", "").endswith("]")
        if self._vectors_of is None or not lists or "id" not in kinds or "vector_size" in kinds:
            return con.execute(f"SELECT * FROM {table}", params)  # noqa: S608 - constants
        con.execute(
            "CREATE TABLE wanted AS SELECT UNNEST(CAST($ids AS VARCHAR[])) AS id", {"ids": sorted(self._vectors_of)}
        )
        return con.execute(
            f"""SELECT * EXCLUDE (vector), LEN(vector) AS vector_size,
              CASE WHEN CAST(id AS VARCHAR) IN (SELECT w.id FROM wanted w) THEN vector END AS vector
            FROM {table}""",  # noqa: S608 - constants
            params,
        )

    def _trec(self, fields: tuple[str, ...]) -> Iterator[Row | str]:
        rest = b""
        for chunk in self._file.chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            yield from _trec_rows(lines, fields)
        yield from _trec_rows([rest], fields)


def _trec_fields(head: bytes) -> tuple[str, ...] | None:
    """Return TREC's columns when the first line has four or six fields between spaces and is no JSON; else None."""
    try:
        line = head.lstrip().split(b"\n", 1)[0].decode()
    except UnicodeDecodeError:
        return None
    return None if line[:1] in "{[" else _TREC_FIELDS.get(len(line.split()))


def _trec_rows(lines: Iterable[bytes], fields: tuple[str, ...]) -> Iterator[Row | str]:
    for line in lines:
        parts = _SPACE.split(line.decode("utf-8", "replace").strip())
        if parts != [""]:
            whole = len(parts) == len(fields)
            yield (
                dict(zip(fields, parts, strict=True)) if whole else f"{len(parts)} fields, TREC has {len(fields)} here"
            )


# --- cells -------------------------------------------------------------------------------------------------------------


def text(row: Mapping[str, Any], key: str, *, needed: bool = False) -> str | None:
    """Return a text, also from a whole number (ids of databases); raises RowError where one is needed and missing."""
    value = row.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or value == "":
        if needed:
            raise RowError(f"{key} is missing")
        return None
    if not isinstance(value, str):
        raise RowError(f"{key} must be a text")
    return value


def number(row: Mapping[str, Any], key: str) -> float | None:
    """Return a finite number, also from its text; None when there is none; raises RowError for anything else."""
    value = row.get(key)
    if value is None or value == "":
        return None
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise RowError(f"{key} must be a number, not {str(value)[:40]!r}")
    return found


def moment(row: Mapping[str, Any], key: str) -> int | None:
    """Return a time as microseconds since 1970 (without a zone: UTC); None when there is none; raises RowError."""
    value = row.get(key)
    if value is None or value == "":
        return None
    if isinstance(value, str) and TIME.match(value):
        try:
            value = datetime.fromisoformat(value.upper())
        except ValueError as error:
            raise RowError(f"{key}: {error}") from error
    if not isinstance(value, datetime):
        raise RowError(f"{key} must be an ISO 8601 time, like 2026-11-20T12:00:00Z")
    return epoch_micros(value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC))


def vector(row: Mapping[str, Any], key: str, *, needed: bool = False) -> Vector | None:
    """Return an embedding as float32 numbers; raises RowError for what is no list of numbers, and for all zeros."""
    value = parsed(row.get(key))
    if value is None or value == "":
        if needed:
            raise RowError(f"{key} is missing")
        return None
    try:
        with np.errstate(over="ignore"):
            found = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        raise RowError(f"{key} must be a list of numbers") from None
    if found.ndim != 1 or not found.size or not np.isfinite(found).all():
        raise RowError(f"{key} must be a list of finite numbers")
    if not found.any():
        raise RowError(f"{key} is all zeros: it has no direction")
    return found
