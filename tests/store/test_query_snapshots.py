"""The SQL of a small experiment, word for word, so that a change of a query can be read in its review.

After a change that is meant: ABTEST_SNAPSHOTS=write python -m pytest tests/store/test_query_snapshots.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from query_samples import as_text, queries

from abtest.errors import StoreError
from abtest.store.files import load_sql, sql_root
from abtest.store.query import fill

SNAPSHOTS = Path(__file__).parent / "snapshots"
QUERIES = queries()


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_query_is_its_snapshot(name: str) -> None:
    path, text = SNAPSHOTS / f"{name}.sql", as_text(QUERIES[name])
    if os.environ.get("ABTEST_SNAPSHOTS") == "write":
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), "no snapshot yet: run it with ABTEST_SNAPSHOTS=write"
    assert path.read_text(encoding="utf-8") == text


def test_every_snapshot_and_every_query_file_has_its_query() -> None:
    assert {p.stem for p in SNAPSHOTS.glob("*.sql")} == set(QUERIES)


def test_every_query_file_is_in_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are a part of other queries, too: a file that nothing fills is a file that nothing tests."""
    seen: set[str] = set()

    def load(name: str) -> str:
        seen.add(name)
        return load_sql(name)

    monkeypatch.setattr("abtest.store.query.load_sql", load)
    queries()
    assert {p.stem for p in sql_root().glob("*.sql")} <= seen


def test_queries_are_the_same_every_time() -> None:
    assert queries() == QUERIES


def test_values_are_parameters_and_never_text() -> None:
    """Names of experiments, arms, versions and scores cannot break out: they are not in the SQL at all."""
    for sql, _ in QUERIES.values():
        for value in ("sonnet-swap", "baseline", "candidate", "v13", "helpfulness", "1260", "1.79"):
            assert value not in sql.replace("by_default", "")


def test_a_slot_without_a_value_is_an_error() -> None:
    with pytest.raises(StoreError, match="slots"):
        fill("cell_sums")
    with pytest.raises(StoreError, match="slots"):
        fill("newest", arms="x")
    with pytest.raises(StoreError, match="no query file"):
        fill("nothing")
