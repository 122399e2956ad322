"""An empty store and a way to write logs, shared by the ingest tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from abtest.store.files import load_sql, sql_root

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database with all tables."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET autoload_known_extensions = false")
    connection.execute("SET threads = 1")
    for migration in sorted((sql_root() / "migrations").glob("*.sql")):
        connection.execute(load_sql(f"migrations/{migration.stem}"))
    yield connection
    connection.close()


@pytest.fixture
def fixtures() -> Path:
    return FIXTURES


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write objects (as JSON) and bytes (as they are), one a line."""

    def write(*lines: dict[str, Any] | bytes, name: str = "log.ndjson", end: bytes = b"\n") -> Path:
        path = tmp_path / name
        raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        path.write_bytes(b"\n".join(raw) + end)
        return path

    return write


@pytest.fixture
def call() -> Callable[..., dict[str, Any]]:
    """Return a minimal interaction; keyword arguments add to it."""

    def call(interaction_id: str = "i1", **fields: Any) -> dict[str, Any]:
        return {"interaction_id": interaction_id, "ts": "2026-11-01T10:00:00Z", "model": "m", **fields}

    return call
