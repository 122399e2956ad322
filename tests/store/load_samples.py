"""Logs to load, and what every load has to keep."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from abtest.ingest import Format, Item
from abtest.ingest.base import parse_object, reject
from abtest.ingest.validate import from_json
from abtest.store.load_report import TABLES, IngestReport
from abtest.store.store import Store


def call(interaction_id: str = "i1", **fields: Any) -> dict[str, Any]:
    """Return a small interaction."""
    return {"interaction_id": interaction_id, "ts": "2026-11-01T10:00:00Z", "model": "m", **fields}


def line(interaction_id: str, **fields: Any) -> bytes:
    """Return it as a line."""
    return json.dumps(call(interaction_id, **fields)).encode() + b"\n"


def lines(ids: Iterable[str], **fields: Any) -> bytes:
    return b"".join(line(each, **fields) for each in ids)


def one(store: Store, query: str, *values: Any) -> Any:
    row = store.connection.execute(query, values).fetchone()
    return row[0] if row else None


def ids(store: Store) -> list[str]:
    """Return the ids of all interactions, in order; with repeats, if there should be any."""
    found = store.connection.execute("SELECT interaction_id FROM interaction ORDER BY 1").fetchall()
    return [name for (name,) in found]


def check(store: Store, report: IngestReport) -> IngestReport:
    """Everything adds up: the report in itself, the ledger with the tables."""
    parts = (report.inserted, report.duplicates, report.conflicts, report.quarantined, report.ignored)
    assert report.records == sum(parts)
    assert report.inserted == sum(report.by_table.values())
    assert sum(report.reasons.values()) == report.quarantined + report.conflicts
    check_ledger(store)
    json.dumps(report.to_dict(), allow_nan=False)
    return report


def check_ledger(store: Store) -> None:
    """The ledger says what is in the tables; every piece begins where its parent ends; no id is there twice."""
    stored = sum(one(store, f"SELECT count(*) FROM {table}") for table in TABLES)
    assert stored == one(store, "SELECT coalesce(sum(inserted), 0) FROM file_ledger")
    assert one(store, "SELECT count(*) FROM quarantine") <= one(
        store, "SELECT coalesce(sum(quarantined + conflicts), 0) FROM file_ledger"
    )
    assert len(set(ids(store))) == len(ids(store))
    wrong = (
        "SELECT count(*) FROM file_ledger WHERE records <> inserted + duplicates + conflicts + quarantined + ignored"
    )
    assert one(store, wrong) == 0
    torn = """SELECT count(*) FROM file_ledger c LEFT JOIN file_ledger p ON p.file_id = c.parent_id
    WHERE c.parent_id IS NOT NULL AND (p.file_id IS NULL OR c.start_byte <> p.start_byte + p.bytes)"""
    assert one(store, torn) == 0


class Plain(Format):
    """The keys of `duckdb_dirty`: id, x, n and t; everything else about a line is judged as in the native format."""

    name: ClassVar[str] = "plain"
    description: ClassVar[str] = "test"
    names: ClassVar[dict[bytes, bytes]] = {
        b"id": b"interaction_id", b"x": b"latency_ms", b"n": b"input_tokens", b"t": b"ts",
    }  # fmt: skip

    def sniff(self, objects: Sequence[Mapping[str, Any]]) -> float:
        return 0.0

    def read(self, line: bytes, number: int, offset: int) -> Sequence[Item]:
        renamed = re.sub(rb'"(id|x|n|t)"(\s*:)', lambda m: b'"%b"%b' % (self.names[m[1]], m[2]), line)
        if renamed.startswith(b"{"):
            time = b"" if b'"ts"' in renamed else b'"ts":"2026-01-01T00:00:00Z",'
            renamed = b'{"model":"m",' + time + renamed[1:]
        record = from_json(renamed) if isinstance(parse_object(line, allow_nan=True), dict) else parse_object(line)
        return (reject(line, number, offset, record),) if isinstance(record, str) else (record,)  # type: ignore[return-value]


FIXTURES = Path(__file__).parent / "fixtures"
