"""Following: what is new is taken at each tick, others get in between, a stop is clean, an error is not the end."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from governance_tools import call, rows

from abtest.errors import StoreError, StoreLockedError
from abtest.store import follow as module
from abtest.store.follow import Follower, follow, stop_on_signals
from abtest.store.store import Store
from tests.cli.runner import call as run


def lines(*names: str, end: bytes = b"\n") -> bytes:
    return b"\n".join(json.dumps(call(name)).encode() for name in names) + end


def ids(db: Path) -> list[str]:
    with Store(db) as store:
        return [r[0] for r in rows(store.connection, "SELECT interaction_id FROM interaction ORDER BY 1")]


def test_new_and_growing_files_are_taken_as_they_come(tmp_path: Path) -> None:
    db, logs = tmp_path / "s.duckdb", tmp_path / "logs"
    follower = Follower(db, [logs, tmp_path / "more*.jsonl"])
    assert follower.tick() is None  # nothing there yet, not even a folder
    assert not db.exists()
    logs.mkdir()
    assert follower.tick() is None
    (logs / "a.jsonl").write_bytes(lines("a1", "a2") + b'{"interaction_id": "a3", ')
    report = follower.tick()
    assert report is not None
    assert (report.inserted, report.quarantined, report.waiting_lines) == (2, 0, 1)
    assert follower.tick() is None  # nothing new, and the store is not touched
    with (logs / "a.jsonl").open("ab") as file:
        file.write(b'"ts": "2026-11-01T10:00:00Z", "model": "m"}\n' + lines("a4"))
    (tmp_path / "more-1.jsonl").write_bytes(lines("m1"))
    report = follower.tick()
    assert report is not None
    assert (report.inserted, report.duplicates, report.quarantined) == (3, 0, 0)
    assert ids(db) == ["a1", "a2", "a3", "a4", "m1"]
    # Rotation: renamed, and a new file under the old name.
    (logs / "a.jsonl").rename(logs / "a.jsonl.1")
    (logs / "a.jsonl").write_bytes(lines("a5"))
    follower.tick()
    assert ids(db) == ["a1", "a2", "a3", "a4", "a5", "m1"]
    (logs / "a.jsonl.1").unlink()
    assert follower.tick() is not None
    assert ids(db)[-2:] == ["a5", "m1"]


def test_an_unfinished_line_is_looked_at_again_although_the_file_has_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, log = tmp_path / "s.duckdb", tmp_path / "a.jsonl"
    log.write_bytes(lines("a1") + b'{"interaction_id": "a2"')
    follower = Follower(db, [log])
    report = follower.tick()
    assert report is not None
    assert (report.inserted, report.waiting_lines) == (1, 1)
    assert follower.tick() is None
    monkeypatch.setattr(module.time, "monotonic", lambda: 10.0**9)
    os.utime(log, (1, 1))  # quiet for long
    report = follower.tick()
    assert report is not None
    assert (report.waiting_lines, report.reasons, ids(db)) == (0, {"truncated": 1}, ["a1"])


def test_a_tick_that_fails_is_made_up_for_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db, log = tmp_path / "s.duckdb", tmp_path / "a.jsonl"
    log.write_bytes(lines("a1"))
    follower = Follower(db, [log], wait=0.1)
    holder = "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        errors: list[Any] = []
        ticks = follow(follower.tick, every=0.01, stop=threading.Event(), max_ticks=2, on_error=errors.append)
        assert ticks == 2
        assert [type(e) for e in errors] == [StoreLockedError] * 2
        assert str(other.pid) in str(errors[0])
        other.communicate()
    db.unlink()
    report = follower.tick()
    assert report is not None
    assert report.inserted == 1


def test_the_loop_keeps_its_pace_and_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    at: list[float] = []

    def tick() -> None:
        at.append(time.monotonic())
        if len(at) == 4:
            stop.set()
        if len(at) == 2:
            raise StoreError("broken")

    assert follow(tick, every=0.05, stop=stop) == 4
    gaps = [b - a for a, b in itertools.pairwise(at)]
    assert all(0.04 < gap < 2 for gap in gaps)
    assert follow(tick, every=0.05, stop=stop) == 0

    def crash() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # a bug is no bad tick
        follow(crash, every=0.01, stop=threading.Event())


def test_signals_stop_and_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(2)
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_command_counts_all_ticks_in_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db, log = tmp_path / "s.duckdb", tmp_path / "a.jsonl"
    log.write_bytes(lines("a1") + b"bad\n" + lines("a2"))
    argv = ["ingest", tmp_path, "--db", db, "--follow", "--every", 0.05, "--max-ticks", 2]
    done = run(capsys, *argv, "--json")
    assert done.code == 0
    data = done.json
    assert (data["schema"], data["ticks"], data["errors"], data["inserted"], data["quarantined"]) == (
        "abtest.ingest/1",
        2,
        0,
        2,
        1,
    )
    assert data["by_table"]["interaction"] == 2
    assert "2 inserted, 1 in quarantine" in done.err
    assert "0 records inserted in 2 looks" in run(capsys, *argv).out
    assert run(capsys, "ingest", log, "--db", db, "--max-ticks", 1).code == 2
    assert run(capsys, "ingest", "-", "--db", db, "--follow").code == 2
    assert run(capsys, "ingest", tmp_path / "never", "--db", db, "--follow", "--max-ticks", 1).code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_follows_lets_others_in_and_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    db, logs = tmp_path / "s.duckdb", tmp_path / "logs"
    logs.mkdir()
    argv = [
        sys.executable,
        "-m",
        "abtest.cli.main",
        "ingest",
        str(logs),
        "--db",
        str(db),
        "--follow",
        "--every",
        "0.05",
        "--json",
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            log = logs / "app.jsonl"
            for k in range(5):
                with log.open("ab") as file:
                    file.write(lines(f"i{k}"))
                wait_for(db, [f"i{n}" for n in range(k + 1)])
            process.send_signal(number)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0, err
    data = json.loads(out)
    assert (data["inserted"], data["errors"]) == (5, 0)
    assert "Traceback" not in err
    assert not (tmp_path / "s.duckdb.wal").exists()


def wait_for(db: Path, expected: list[str]) -> None:
    """Look from outside, as any other command would, until the rows are there."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if db.exists() and ids(db) == expected:
            return
        time.sleep(0.05)
    raise AssertionError(f"{expected} never came")
