"""Stores made of records, and the answer about them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import abtest as ab
from abtest.store.store import Store

Record = dict[str, Any]
MakeStore = Callable[[Sequence[Record]], Store]


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[MakeStore]:
    stores: list[Store] = []

    def make(records: Sequence[Record]) -> Store:
        path = tmp_path / f"log{len(stores)}.ndjson"
        path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
        store = Store(tmp_path / f"store{len(stores)}.duckdb")
        stores.append(store)
        report = store.ingest(path, source="native")
        assert not report.reasons, report.reasons
        return store

    yield make
    for store in stores:
        store.close()


@pytest.fixture(scope="session")
def stores_by_content(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Store]]:
    """Keep one store for the same records: a question writes nothing to it."""
    stores: dict[str, Store] = {}
    yield stores
    for store in stores.values():
        store.close()


@pytest.fixture
def ask(stores_by_content: dict[str, Store], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ab.Tradeoff]:
    """Return the answer on records under a spec (a dict)."""

    def run(records: Sequence[Record], spec: dict[str, Any], **named: Any) -> ab.Tradeoff:
        text = "".join(json.dumps(r) + "\n" for r in records)
        key = hashlib.sha256(text.encode()).hexdigest()
        if key not in stores_by_content:
            folder = tmp_path_factory.mktemp("tradeoff")
            (folder / "log.ndjson").write_text(text, encoding="utf-8")
            store = stores_by_content[key] = Store(folder / "store.duckdb")
            report = store.ingest(folder / "log.ndjson", source="native")
            assert not report.reasons, report.reasons
        return ab.tradeoff(stores_by_content[key], ab.TradeoffSpec.from_dict(spec), **named)

    return run
