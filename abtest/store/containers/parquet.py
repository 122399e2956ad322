"""Parquet: each row becomes one JSON object. DuckDB reads it, a few thousand rows at a time, whatever the row groups."""

from __future__ import annotations

import base64
import json
import math
import re
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, cast

import duckdb

from abtest.errors import LogReadError
from abtest.ingest.base import Reject
from abtest.store.containers.base import Container, Reading, Source, Text

MAGIC = b"PAR1"
BATCH_ROWS = 2_048
_GLOB = re.compile(r"[*?\[\]{}]")
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "memory_limit": "640MB",
    "threads": 1,
}


class Parquet(Container):
    """Names of columns are keys; a null is an absent key.

    Times become ISO text, structs and maps objects, lists arrays, whole floats integers (pandas makes floats of integers
    with gaps). JSON text in a column `attributes` becomes an object. Rows are numbered from 1; the byte offset of a row
    is its index.
    """

    name: ClassVar[str] = "parquet"
    description: ClassVar[str] = "Parquet, one record a row"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)

    def claims(self, file: Source) -> bool:
        """A plain file that begins with Parquet's magic bytes."""
        return file.codec is None and file.head().startswith(MAGIC)

    def texts(self, reading: Reading) -> Iterator[Text | Reject]:
        """Yield one object a row."""
        number = 0
        made = 0
        for names, rows in _batches(reading.file):
            for row in rows:
                number += 1
                text = _to_json(names, row)
                made += len(text)
                yield text, number, number - 1
            reading.file.produced(made)
        reading.finish(reading.file.size, number)


def _batches(file: Source) -> Iterator[tuple[list[str], list[tuple[Any, ...]]]]:
    with _plain_name(file.path) as path:
        try:
            with duckdb.connect(config=_CONFIG) as con:
                con.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = FALSE")
                # The result is streamed: what is not fetched yet is not read yet.
                result = con.execute(
                    "SELECT * FROM read_parquet($path, hive_partitioning = FALSE)", {"path": str(path)}
                )
                names = [str(column[0]) for column in result.description or ()]
                while rows := result.fetchmany(BATCH_ROWS):
                    yield names, rows
        except duckdb.OutOfMemoryException as error:
            raise LogReadError(
                "Parquet needs too much memory", file=file.name, hint="write row groups of at most 100,000 rows"
            ) from error
        except duckdb.Error as error:
            reason = str(error).splitlines()[0][:200]
            raise LogReadError(f"Parquet is damaged: {reason}", file=file.name, hint="write it again") from error


@contextmanager
def _plain_name(path: Path) -> Generator[Path]:
    """Give a file another name where DuckDB would take its own for a pattern."""
    if not _GLOB.search(str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="abtest-") as folder:
        link = Path(folder) / "file.parquet"
        link.symlink_to(path.resolve())
        yield link


def _to_json(names: list[str], row: tuple[Any, ...]) -> bytes:
    fields: dict[str, Any] = {}
    for name, value in zip(names, row, strict=True):
        if value is None:
            continue
        if name == "attributes" and isinstance(value, str):
            fields[name] = _parsed(value)
        else:
            fields[name] = value if type(value) in (str, int, bool) else _plain(value)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _parsed(value: str) -> Any:
    if value.startswith("{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            pass
    return value


def _plain(value: Any) -> Any:
    """Return what JSON knows."""
    for kind, convert in _CONVERT:
        if isinstance(value, kind):
            return convert(value)
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)


def _number(value: float) -> float | int:
    return int(value) if math.isfinite(value) and value.is_integer() and abs(value) < 2**53 else value


def _object(value: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): _plain(inner) for key, inner in value.items() if inner is not None}


def _array(value: list[Any]) -> Any:
    if value and all(
        isinstance(each, dict) and list(cast("dict[str, Any]", each)) == ["key", "value"] for each in value
    ):
        return _object({each["key"]: each["value"] for each in value})  # a map, as Arrow's own writers have it
    return [_plain(each) for each in value]


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


_CONVERT: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (float, _number),
    (datetime, lambda value: value.isoformat(sep=" ")),
    (dict, _object),
    (list, _array),
    (tuple, lambda value: _array(list(value))),
    (Decimal, lambda value: _number(float(value))),
    (date, date.isoformat),
    (time, time.isoformat),
    (timedelta, timedelta.total_seconds),
    (bytes, _text),
)

CONTAINER = Parquet()
