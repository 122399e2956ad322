"""Stores made from records, for the tests of the analysis layer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from abtest.store.store import Store

Record = dict[str, Any]


class StoreMaker:
    """Writes records as native NDJSON and ingests them through `Store.ingest`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stores: list[Store] = []
        self.files = 0

    def __call__(self, *files: Sequence[Record]) -> Store:
        """Return a new store that loaded one file after the other."""
        store = Store(self.folder / f"store{len(self.stores)}.duckdb")
        self.stores.append(store)
        for records in files:
            self.add(store, records)
        return store

    def write(self, records: Sequence[Record]) -> Path:
        self.files += 1
        path = self.folder / f"log{self.files:04d}.ndjson"
        path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
        return path

    def add(self, store: Store, *files: Sequence[Record]) -> None:
        """Load more; several files go in one call of ingest."""
        report = store.ingest(*[self.write(records) for records in files], source="native")
        assert not report.reasons, report.reasons
        assert not report.failed_files

    def close(self) -> None:
        for store in self.stores:
            store.close()


def by_cell(table: Any, *columns: str) -> dict[tuple[str, int], tuple[int, ...]]:
    """Return (arm, stage) -> sums of columns."""
    out: dict[tuple[str, int], tuple[int, ...]] = {}
    for row in table:
        key = (row["arm"], row["stage"])
        old = out.get(key, (0,) * len(columns))
        out[key] = tuple(s + row[c] for s, c in zip(old, columns, strict=True))
    return out
