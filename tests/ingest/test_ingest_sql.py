"""The lists of columns in sql/load and in the migration say what the records say."""

from __future__ import annotations

import re

import duckdb
import pytest

from abtest.ingest.validate import MODELS
from abtest.store.files import load_sql, sql_root
from abtest.store.load_report import TABLES

NAMES = {"ts": "ts_us", "updated_at": "updated_us"}
TEXT = ("prompt_text", "response_text")
KEYS = {"interaction": {"interaction_id"}, "score": {"score_id", "updated_us"}}


def columns(table: str) -> list[str]:
    fields = [name for name in MODELS[table].model_fields if name != "type" and name not in TEXT]
    return [NAMES.get(name, name) for name in fields]


@pytest.mark.parametrize("table", TABLES)
def test_tables_have_the_fields_of_the_records(con: duckdb.DuckDBPyConnection, table: str) -> None:
    stored = [row[0] for row in con.execute(f"SELECT column_name FROM (DESCRIBE {table})").fetchall()]
    assert sorted(stored) == sorted([*columns(table), "source", "file_id"])


@pytest.mark.parametrize("table", TABLES)
def test_insert_names_every_column_twice_in_the_same_order(table: str) -> None:
    listed = re.findall(r"INSERT INTO \w+ \((.*?)\)\s*SELECT(.*?)FROM", load_sql(f"load/insert_{table}"), re.DOTALL)[0]
    into, selected = ([name.strip().removeprefix("s.") for name in part.split(",")] for part in listed)
    assert into == selected
    assert sorted(into) == sorted([*columns(table), "source", "file_id"])


@pytest.mark.parametrize("table", ["interaction", "score"])
def test_a_conflict_looks_at_every_column(table: str) -> None:
    compared = re.findall(r"WHEN s\.(\w+) IS DISTINCT FROM c\.(\w+)", load_sql(f"load/known_{table}"))
    assert all(left == right for left, right in compared)
    assert {left for left, _ in compared} == set(columns(table)) - KEYS[table]


def test_assignments_are_compared_in_every_column() -> None:
    compared = re.findall(r"t\.(\w+) (?:=|IS NOT DISTINCT FROM) l\.\1", load_sql("load/match_assignment"))
    assert compared == columns("assignment")


def test_no_banned_function_in_the_load() -> None:
    banned = r"\b(any_value|first|anti join|group by all|approx_\w+|date_diff|epoch_us|hugeint|list_\w+)\s*\("
    for path in (sql_root() / "load").glob("*.sql"):
        text = path.read_text()
        if path.name.startswith("stage_"):  # they read JSON files, which only DuckDB does
            text = text.replace("EPOCH_US(CAST(UPPER(ts) AS TIMESTAMPTZ))", "")
        assert not re.search(banned, text, re.IGNORECASE), path.name
