"""kill -9 at random moments: the store opens, is consistent, and the next run finishes the work."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_samples import KILLS, LINES, Nursery, check, line, write_logs

from abtest.store import store as store_module
from abtest.store.store import Store, schema_version

FILES = 12


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    made = Nursery(tmp_path / "scratch")
    yield made
    made.close()


def how_long(nursery: Nursery, name: str, db: Path, *logs: Path) -> float:
    """Return the seconds of a run that is not the first one: that one warms everything up."""
    assert nursery.run(name, db.with_name("warm-up.duckdb"), *logs) == 0
    started = time.monotonic()
    assert nursery.run(name, db, *logs) == 0
    return time.monotonic() - started


def test_kill_during_ingest(tmp_path: Path, nursery: Nursery) -> None:
    """Each killed run goes on where the one before was killed; when all is in, a new store begins."""
    logs = tmp_path / "logs"
    calls = write_logs(logs, FILES)
    takes = how_long(nursery, "ingest", tmp_path / "first.duckdb", logs)
    assert check(tmp_path / "first.duckdb") == calls
    rng = random.Random(20261123)
    killed = stores = 0
    seen: set[int] = set()
    while killed < KILLS:
        stores += 1
        db = tmp_path / f"{stores}.duckdb"
        have = 0
        while have < calls and killed < KILLS:
            started = time.monotonic()
            code = nursery.run("ingest", db, logs, kill_after=rng.uniform(0, 0.9 * takes))
            assert code in (0, -signal.SIGKILL)
            killed += code != 0
            if not code and not have:  # the machine is faster now
                takes = min(takes, time.monotonic() - started)
            now = check(db)
            assert now >= have  # what was stored stays
            have = now
            seen.add(have)
        assert nursery.run("ingest", db, logs) == 0
        assert check(db) == calls
        db.unlink()
    assert len(seen) >= 4  # the moments were not all before the first commit, nor all after the last one
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == []


def test_kill_during_a_large_file(tmp_path: Path, nursery: Nursery) -> None:
    """Other processes check it, and it is stored in rounds: all of it is there, or nothing."""
    log = tmp_path / "large.ndjson"
    log.write_bytes(b"".join(line(n) for n in range(200 * LINES)) + b"bad\n")
    takes = how_long(nursery, "large", tmp_path / "first.duckdb", log)
    assert check(tmp_path / "first.duckdb") == 200 * LINES
    rng = random.Random(5)
    seen: set[int] = set()
    db = tmp_path / "s.duckdb"
    for _ in range(KILLS // 2):
        nursery.run("large", db, log, kill_after=rng.uniform(0.2 * takes, takes))
        seen.add(check(db))
        if check(db):
            db.unlink()
    assert seen <= {0, 200 * LINES}
    assert 0 in seen
    assert nursery.run("large", db, log) == 0
    assert check(db) == 200 * LINES
    for _ in range(20):  # a worker of a killed load ends when its piece is done; until then it holds the folder
        if not any((tmp_path / "scratch").iterdir()):
            break
        time.sleep(0.5)
        assert nursery.run("large", db, log) == 0
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == []


def test_kill_while_a_log_is_followed(tmp_path: Path, nursery: Nursery) -> None:
    """The log grows between the kills, by half lines too; the file must never be counted from a wrong place."""
    logs = tmp_path / "logs"
    logs.mkdir()
    db = tmp_path / "s.duckdb"
    live = logs / "live.ndjson"
    rng = random.Random(7)
    written, rest = 0, b""
    for _ in range(KILLS):
        new = b"".join(line(written + n) for n in range(LINES))
        written += LINES
        cut = len(new) - rng.choice([0, 1, 40])
        with live.open("ab") as stream:
            stream.write(rest + new[:cut])
        rest = new[cut:]
        if rng.random() < 0.2 and not rest:
            live.rename(logs / f"live.ndjson.{written}")
        assert nursery.run("ingest", db, logs, kill_after=rng.uniform(0, 0.15)) in (0, -signal.SIGKILL)
    with live.open("ab") as stream:
        stream.write(rest)
    assert nursery.run("ingest", db, logs) == 0
    with Store(db) as store:
        row = store.connection.execute("SELECT count(*), count(DISTINCT interaction_id) FROM interaction").fetchone()
        assert row == (written, written)
        assert store.connection.execute("SELECT sum(inserted) FROM file_ledger").fetchone() == (written,)
        assert store.connection.execute("SELECT count(*) FROM quarantine").fetchone() == (0,)


def test_kill_during_migration(tmp_path: Path, nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every migration is whole or not there; the next opening goes on with the one that is missing."""
    old = tmp_path / "old.duckdb"
    known = store_module._migrations()
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_migrations", lambda: {1: known[1]})
        with Store(old) as store:
            store.connection.execute(
                """INSERT INTO interaction (interaction_id, ts_us, model, exposed, turn, is_error, source, file_id)
                SELECT 'i' || n, n, 'm', true, 1, false, 'native', 1 FROM range(60000) r(n)"""
            )
            store.connection.execute(
                "INSERT INTO file_ledger VALUES (1, '/old.ndjson', 'x', 1, 'native', 60000, 60000, 60000, 0, 0, 0, 0, 0)"
            )
    db = tmp_path / "s.duckdb"
    shutil.copyfile(old, db)
    takes = how_long(nursery, "open", db)
    rng = random.Random(11)
    versions: set[int] = set()
    for _ in range(KILLS):
        db.unlink()
        db.with_suffix(".duckdb.wal").unlink(missing_ok=True)
        shutil.copyfile(old, db)
        assert nursery.run("open", db, kill_after=rng.uniform(0, takes)) in (0, -signal.SIGKILL)
        versions.add(version_of(db))
        assert check(db) == 60_000
    assert versions <= set(range(1, schema_version() + 1))


def version_of(path: Path) -> int:
    """Return the version without opening the store as a store, which would finish the migration."""
    import duckdb

    with duckdb.connect(str(path)) as con:
        row = con.execute("SELECT max(version) FROM schema_version").fetchone()
    return int(row[0]) if row else 0
