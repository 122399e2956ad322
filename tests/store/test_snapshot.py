"""Copies of a store are whole or not there; what a killed process left is swept; exports hold every row."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from governance_tools import Con, Writer, assignment, call, rows, score

from abtest.errors import NoDataError, StoreError, StoreLockedError, UsageError
from abtest.store import ledger
from abtest.store import snapshot as module
from abtest.store.snapshot import export, snapshot, snapshot_file, staging
from abtest.store.store import Store
from tests.cli.runner import call as run


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path, write = tmp_path / "s.duckdb", Writer(tmp_path)
    with Store(path) as store:
        store.ingest(
            write(
                *(call(f"i{k}", unit_id=f"u{k}") for k in range(50)), assignment(), score(interaction_id="i1"), b"bad"
            )
        )
        ledger.append(store.connection, "decision", "e", 1, {"decision": "hold"}, decision_id="d")
    return path


def contents(con: Con, schema: str = "main") -> dict[str, list[tuple[object, ...]]]:
    names = [r[0] for r in rows(con, "SELECT table_name FROM duckdb_tables() WHERE NOT temporary")]
    return {name: rows(con, f'SELECT * FROM {schema}."{name}" ORDER BY ALL') for name in names}


def hidden(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


def test_a_snapshot_is_the_whole_store_and_opens_as_one(db: Path, tmp_path: Path) -> None:
    target = tmp_path / "published.duckdb"
    with Store(db) as store:
        expected = contents(store.connection)
        assert snapshot(store.connection, target) == target.stat().st_size
        # The store goes on, on its own.
        store.connection.execute("DELETE FROM score")
        assert [
            r[0] for r in rows(store.connection, "SELECT database_name FROM duckdb_databases() WHERE NOT internal")
        ] == ["s"]
    with Store(target, read_only=True) as copy:
        assert contents(copy.connection) == expected
        assert ledger.verify(copy.connection) == 1
    assert hidden(tmp_path) == []
    assert not list(tmp_path.glob("*.wal"))


def test_a_file_is_copied_beside_its_readers_and_not_under_a_writer(db: Path, tmp_path: Path) -> None:
    target = tmp_path / "published.duckdb"
    holder = "import duckdb, sys; con = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == 'ro'); print('up', flush=True); sys.stdin.read()"
    for mode in ("ro", "rw"):
        with subprocess.Popen(
            [sys.executable, "-c", holder, str(db), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"up\n"
            if mode == "ro":
                assert snapshot_file(db, target) > 0
            else:
                with pytest.raises(StoreLockedError, match="process that writes"):
                    snapshot_file(db, target, wait=0.2)
            other.communicate()
    with pytest.raises(NoDataError):
        snapshot_file(tmp_path / "none.duckdb", target)
    (tmp_path / "text.duckdb").write_text("this is no database, however long it is " * 500)
    with pytest.raises(StoreError, match="cannot be opened"):
        snapshot_file(tmp_path / "text.duckdb", target)


def test_an_old_reader_keeps_the_old_copy(db: Path, tmp_path: Path) -> None:
    target, write = tmp_path / "published.duckdb", Writer(tmp_path)
    snapshot_file(db, target)
    script = (
        "import duckdb, sys; con = duckdb.connect(sys.argv[1], read_only=True)\n"
        "for _ in range(2):\n"
        "    print(con.execute('select count(*) from interaction').fetchall()[0][0], flush=True); sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "50\n"
        with Store(db) as store:
            store.ingest(write(call("new"), name="new.jsonl"))
            snapshot(store.connection, target)
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == "50\n"
        reader.stdin.write("\n")
        reader.stdin.flush()
    with Store(target, read_only=True) as copy:
        assert rows(copy.connection, "SELECT count(*) FROM interaction") == [(51,)]


def test_wrong_targets_are_refused(db: Path, tmp_path: Path) -> None:
    before = db.read_bytes()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.duckdb").symlink_to(db)
    for target, error in [(db, UsageError), (tmp_path / "link.duckdb", UsageError), (tmp_path / "folder", UsageError),
                          (tmp_path / "no" / "x.duckdb", StoreError)]:  # fmt: skip
        with pytest.raises(error):
            snapshot_file(db, target)
    with Store(db) as store, pytest.raises(UsageError, match="store itself"):
        snapshot(store.connection, db)
    assert db.read_bytes() == before
    assert hidden(tmp_path) == []


def test_a_full_disk_leaves_the_old_copy(db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "it's published.duckdb"
    snapshot_file(db, target)
    before = target.read_bytes()

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "flush", full)
    with pytest.raises(StoreError, match="No space left"):
        snapshot_file(db, target)
    assert target.read_bytes() == before
    assert hidden(tmp_path) == []
    with Store(db) as store, pytest.raises(StoreError, match="No space left"):
        export(store.connection, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_dead_processes_left_is_swept_and_what_live_ones_use_is_not(db: Path, tmp_path: Path) -> None:
    target = tmp_path / "published.duckdb"
    dead, live, other = (tmp_path / f".published.duckdb.tmp-{x}" for x in ("dead", "live", "x"))
    other = tmp_path / ".another.duckdb.tmp-dead"
    stale, fresh = tmp_path / ".abtest-new-old", tmp_path / ".abtest-new-now"
    for folder in (dead, live, other, stale, fresh):
        folder.mkdir()
    (dead / "copy.duckdb").write_bytes(b"half")
    os.utime(stale, (1, 1))
    handle = os.open(live, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        snapshot_file(db, target)
        assert hidden(tmp_path) == [".abtest-new-now", ".another.duckdb.tmp-dead", ".published.duckdb.tmp-live"]
    finally:
        os.close(handle)
    with staging(target) as folder:
        assert not live.exists()
        assert folder.is_dir()
    assert not folder.exists()


def test_export_writes_every_table_and_overwrites_nothing(db: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with Store(db) as store:
        expected = contents(store.connection)
        counts = export(store.connection, folder)
        with pytest.raises(UsageError, match="is there already"):
            export(store.connection, folder)
    assert counts == {name: len(found) for name, found in expected.items()}
    assert sorted(p.name for p in folder.iterdir()) == sorted(f"{name}.parquet" for name in expected)
    with duckdb.connect() as con:
        for name, found in expected.items():
            assert con.execute(f"SELECT * FROM '{folder / name}.parquet' ORDER BY ALL").fetchall() == found, name
    assert hidden(tmp_path) == []


def test_the_commands(db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, folder = tmp_path / "published.duckdb", tmp_path / "parquet"
    done = run(capsys, "snapshot", target, "--db", db, "--json")
    assert (done.code, done.json) == (
        0, {"schema": "abtest.snapshot/1", "file": str(target), "bytes": target.stat().st_size},
    )  # fmt: skip
    assert "bytes" in run(capsys, "snapshot", target, "--db", db).out
    done = run(capsys, "export", folder, "--db", db, "--json").json
    assert (done["schema"], done["tables"]["interaction"]) == ("abtest.export/1", 50)
    again = run(capsys, "export", folder, "--db", db)
    assert (again.code, "is there already" in again.err) == (2, True)
    assert "interaction.parquet: 50 rows" in run(capsys, "export", tmp_path / "p2", "--db", db).out
    assert run(capsys, "snapshot", target, "--db", tmp_path / "none.duckdb").code == 40
    assert run(capsys, "snapshot", db, "--db", db).code == 2
