"""Records, log files and an empty store, for the tests of twins, scores, privacy and retention."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from abtest.store import store as store_module
from abtest.store.files import load_sql
from abtest.store.load import load
from abtest.store.load_report import TABLES, IngestReport

Con = duckdb.DuckDBPyConnection
START = datetime(2026, 11, 1, 10, 0, tzinfo=UTC)
NOW = 2**61
"""A max_file that sees everything that holds now."""


def moment(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def micros(seconds: float) -> int:
    return int((START + timedelta(seconds=seconds)).timestamp() * 1e6)


def call(interaction_id: str = "i1", at: float = 0, **fields: Any) -> dict[str, Any]:
    return {"interaction_id": interaction_id, "ts": moment(at), "model": "m", **fields}


def score(score_id: str = "s1", at: float = 60, **fields: Any) -> dict[str, Any]:
    base = {
        "type": "score",
        "score_id": score_id,
        "ts": moment(at),
        "name": "helpful",
        "scorer_kind": "user",
        "value": 1,
    }
    return {**base, **fields}


def assignment(unit_id: str = "u1", at: float = 0, **fields: Any) -> dict[str, Any]:
    base = {"type": "assignment", "experiment_id": "e", "unit_id": unit_id, "variant": "x", "ts": moment(at)}
    return {**base, **fields}


def litellm(call_id: str, response_id: str, at: float = 0, **fields: Any) -> dict[str, Any]:
    """A gateway's row for a call, as LiteLLM writes it."""
    begin = (START + timedelta(seconds=at)).timestamp()
    return {
        "id": response_id, "litellm_call_id": call_id, "call_type": "acompletion", "status": "success", "model": "m",
        "startTime": begin, "endTime": begin + 0.5, "response_time": 0.5, "prompt_tokens": 3, "completion_tokens": 5,
        "total_tokens": 8, "response_cost": 0.25, "metadata": {}, "request_tags": [], "model_parameters": {},
        "response": {"id": response_id, "choices": [{"finish_reason": "stop", "message": {"content": "hi"}}]}, **fields,
    }  # fmt: skip


def empty() -> Con:
    """Return an empty store in memory."""
    con = duckdb.connect(config={"threads": 1})
    con.execute("SET TimeZone = 'UTC'")
    for name in store_module._migrations().values():
        con.execute(load_sql(f"migrations/{name}"))
    return con


class Writer:
    """Writes each load into a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = 0

    def __call__(self, *records: dict[str, Any] | bytes, name: str | None = None) -> Path:
        self.number += 1
        path = self.folder / (name or f"log-{self.number:04}.jsonl")
        lines = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in records]
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path

    def load(self, con: Con, *records: dict[str, Any] | bytes, **options: Any) -> IngestReport:
        return check(con, load(con, [self(*records)], **options))


def rows(con: Con, query: str, *params: Any) -> list[tuple[Any, ...]]:
    return con.execute(query, params or None).fetchall()


def check(con: Con, report: IngestReport) -> IngestReport:
    """The counts add up, in the report and against the tables."""
    parts = (report.inserted, report.duplicates, report.conflicts, report.quarantined, report.ignored)
    assert report.records == sum(parts)
    assert report.inserted == sum(report.by_table.values())
    ledger = rows(
        con,
        "SELECT coalesce(sum(records), 0), coalesce(sum(inserted + duplicates + conflicts + quarantined + ignored), 0) FROM file_ledger",
    )
    assert ledger[0][0] == ledger[0][1]
    json.dumps(report.to_dict(), allow_nan=False)
    return report


def stored(con: Con) -> int:
    return sum(rows(con, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES)


def members(con: Con, max_file: int = NOW) -> set[tuple[str, tuple[str, ...]]]:
    """Return the calls that several rows tell of, as of a load: the id of each with its members."""
    found: dict[str, list[str]] = {}
    query = "SELECT merged_id, interaction_id FROM twin WHERE file_id <= ? AND until_file > ? ORDER BY ALL"
    for merged_id, interaction_id in rows(con, query, max_file, max_file):
        found.setdefault(merged_id, []).append(interaction_id)
    return {(merged_id, tuple(ids)) for merged_id, ids in found.items()}


def merged(con: Con, max_file: int = NOW) -> list[dict[str, Any]]:
    """Return the rows that stand for them."""
    query = "SELECT * EXCLUDE (file_id, until_file) FROM merged_interaction WHERE file_id <= ? AND until_file > ? ORDER BY ALL"
    cursor = con.execute(query, [max_file, max_file])
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def calls(con: Con, max_file: int = NOW) -> list[str]:
    """Return the ids of the calls that count, as the queries should see them."""
    query = """SELECT i.interaction_id FROM interaction i
        WHERE i.file_id <= $f AND NOT EXISTS (
            SELECT 1 FROM twin w WHERE w.interaction_id = i.interaction_id AND w.file_id <= $f AND w.until_file > $f)
        UNION ALL
        SELECT interaction_id FROM merged_interaction WHERE file_id <= $f AND until_file > $f
        ORDER BY 1"""
    return [row[0] for row in con.execute(query, {"f": max_file}).fetchall()]


def targets(con: Con, max_file: int = NOW) -> dict[str, str]:
    """Return which call each score belongs to, a call that was logged twice by its one row."""
    query = """SELECT t.score_id, coalesce(w.merged_id, t.interaction_id)
        FROM score_target t
        LEFT JOIN twin w ON w.interaction_id = t.interaction_id AND w.file_id <= $f AND w.until_file > $f
        WHERE t.file_id <= $f AND t.until_file > $f"""
    found = con.execute(query, {"f": max_file}).fetchall()
    assert len(dict(found)) == len(found)
    return dict(found)


def ambiguous(con: Con) -> set[str]:
    return {row[0] for row in rows(con, "SELECT score_id FROM ambiguous_score")}
