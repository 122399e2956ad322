"""Stores with a known history of versions, written by column straight into the tables: thousands of calls in a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from abtest.store.store import Store

HOUR = 3_600_000_000
MINUTE = 60_000_000
DAY = 24 * HOUR
BEGIN = int(datetime(2026, 11, 2, tzinfo=UTC).timestamp()) * 1_000_000
"""A Monday, midnight; all histories begin here."""

V12 = {
    "prompt_name": "answer",
    "prompt_version": "v12",
    "prompt_sha256": "a" * 64,
    "model": "gpt-4o",
    "model_version": "gpt-4o-2024-08-06",
}
V13 = {**V12, "prompt_version": "v13", "prompt_sha256": "b" * 64}


def add(store: Store, columns: Mapping[str, Sequence[Any]], *, file_id: int | None = None) -> int:
    """Add calls as one load (a column a list; what is not given has a plain value); returns the load's number."""
    number = store.last_file() + 1 if file_id is None else file_id
    size = len(columns["ts_us"])
    plain: dict[str, Sequence[Any]] = {
        "interaction_id": [f"i{number}-{k}" for k in range(size)], "model": ["gpt-4o"] * size, "exposed": [True] * size,
        "turn": [1] * size, "is_error": [False] * size, "source": ["native"] * size, "file_id": [number] * size,
    }  # fmt: skip
    filled = {**plain, **columns}
    values = {name: [None if v is None else _plain(v) for v in column] for name, column in filled.items()}
    listed = ", ".join(f'unnest(${name}) as "{name}"' for name in values)
    store.connection.execute(f"insert into interaction by name select {listed}", values)
    store.connection.execute(
        "insert into file_ledger (file_id, path, sha256, bytes, source, lines, records, inserted, duplicates, conflicts,"
        " quarantined, ignored, ingested_us) values ($id, $path, $path, 1, 'native', 1, 1, 1, 0, 0, 0, 0, $id)",
        {"id": number, "path": f"load-{number}"},
    )
    return number


def calls(manifests: Sequence[Mapping[str, Any]], ts_us: Sequence[int], **more: Sequence[Any]) -> dict[str, list[Any]]:
    """Return the columns of calls: a manifest and a time each, and further columns."""
    names = sorted({name for m in manifests for name in m})
    found: dict[str, list[Any]] = {"ts_us": list(ts_us)}
    found |= {name: [m.get(name) for m in manifests] for name in names}
    return found | {name: list(column) for name, column in more.items()}


def steady(
    manifest: Mapping[str, Any], begin: int, end: int, count: int, rng: np.random.Generator, **more: Any
) -> dict[str, list[Any]]:
    """Return calls of one manifest at random times in [begin, end), in order; further columns are one value for all."""
    times = np.sort(rng.integers(begin, end, count)).tolist()
    return calls([manifest] * count, times, **{name: [value] * count for name, value in more.items()})


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
