"""The store file: migrations, frozen constants, ledger."""

from __future__ import annotations

import pytest

from abtest.errors import LedgerError, NoDataError, StoreVersionError
from abtest.store import files, ledger, store
from abtest.store.store import Store, schema_version


def test_a_new_store_has_the_newest_schema(tmp_path):
    with Store(tmp_path / "s.duckdb") as opened:
        assert opened.engine.rows("select version from schema_version") == [{"version": schema_version()}]
        assert opened.newest_us() is None
        assert opened.last_file() == 0
    with Store(tmp_path / "s.duckdb", read_only=True) as again:
        assert again.engine.rows("select count(*) as n from interaction") == [{"n": 0}]


def test_read_only_needs_a_store(tmp_path):
    with pytest.raises(NoDataError, match="no store"):
        Store(tmp_path / "s.duckdb", read_only=True)
    assert not (tmp_path / "s.duckdb").exists()


def test_migrations_go_forward_one_by_one_and_a_failed_one_leaves_the_old_version(tmp_path, monkeypatch):
    path = tmp_path / "s.duckdb"
    known = store._migrations()
    monkeypatch.setattr(store, "_migrations", lambda: {1: known[1]})
    with Store(path) as old:
        old.connection.execute("insert into quarantine values (1, 1, 'p', 1, 0, null, 'r', null, 's', 0)")
    monkeypatch.setattr(store, "_migrations", lambda: {**known, 3: "0003_broken"})
    load = files.load_sql
    monkeypatch.setattr(
        store,
        "load_sql",
        lambda name: "create table half (a integer); select no_such_function()" if "broken" in name else load(name),
    )
    with pytest.raises(Exception, match="no_such_function"):
        Store(path)
    monkeypatch.undo()
    with Store(path) as after:
        assert after.engine.rows("select version from schema_version") == [{"version": schema_version()}]
        assert after.engine.rows("select count(*) as n from quarantine") == [{"n": 1}]
        assert after.engine.rows("select count(*) as n from duckdb_tables() where table_name = 'half'") == [{"n": 0}]


def test_an_old_store_cannot_be_opened_read_only(tmp_path, monkeypatch):
    known = store._migrations()
    monkeypatch.setattr(store, "_migrations", lambda: {1: known[1]})
    Store(tmp_path / "s.duckdb").close()
    monkeypatch.undo()
    with pytest.raises(StoreVersionError, match="old schema version 1"):
        Store(tmp_path / "s.duckdb", read_only=True)


def test_frozen_constants_are_written_once(tmp_path):
    with Store(tmp_path / "s.duckdb") as opened:
        opened.freeze("e", 1, "m", {"variance": 1.5}, source="warm-up", watermark_us=7, file_id=1)
        opened.freeze("e", 1, "m", {"variance": 9.9, "baseline": 0.1}, source="later", watermark_us=8, file_id=2)
        assert opened.frozen("e", 1) == {"m": {"variance": 1.5, "baseline": 0.1}}
        assert opened.frozen("e", 2) == {}
        # A replay sees what was known then.
        assert opened.frozen("e", 1, as_of_us=7) == {"m": {"variance": 1.5}}
        assert opened.frozen("e", 1, max_file=1) == {"m": {"variance": 1.5}}
        assert opened.frozen("e", 1, max_file=0) == {}


def test_ledger_chain(tmp_path):
    with Store(tmp_path / "s.duckdb") as opened:
        con = opened.connection
        for i in range(5):
            ledger.append(con, "decision", "e", 1, {"i": i, "decision": "hold"}, decision_id=f"id-{i}")
        assert ledger.verify(con) == 5
        assert [e.body["i"] for e in ledger.entries(con, experiment="e")] == list(range(5))
        assert ledger.entries(con, experiment="other") == []
        for edit in (
            "update ledger set body = '{}' where seq = 3",
            "delete from ledger where seq = 2",
            "update ledger set recorded_us = 0 where seq = 5",
            "update ledger set hash = previous_hash where seq = 4",
            "insert into ledger select 6, kind, experiment, revision, recorded_us, decision_id, body, hash, hash from ledger where seq = 5",
        ):
            con.execute("begin")
            con.execute(edit)
            with pytest.raises(LedgerError):
                ledger.verify(con)
            con.execute("rollback")
        assert ledger.verify(con) == 5


def test_extensions_are_never_fetched(tmp_path):
    with Store(tmp_path / "s.duckdb") as opened:
        rows = opened.engine.rows(
            "select name, value from duckdb_settings() where name in ('autoinstall_known_extensions', 'autoload_known_extensions', 'TimeZone')"
        )
        assert {r["name"]: r["value"] for r in rows} == {
            "autoinstall_known_extensions": "false", "autoload_known_extensions": "false", "TimeZone": "UTC",
        }  # fmt: skip
