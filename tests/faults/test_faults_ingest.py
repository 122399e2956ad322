"""A full disk, a folder that cannot be written, a lock, a clock that goes backwards: an error or fine, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_samples import LINES, check, line, write_logs

from abtest.errors import StoreError, StoreLockedError
from abtest.store.store import Store

RUN = """
import json, resource, sys
from abtest.errors import StoreError
from abtest.store.store import Store
limit = int(sys.argv[1])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with Store(sys.argv[2]) as store:
        print(json.dumps(store.ingest(*sys.argv[3:]).to_dict()))
except StoreError as error:
    print(json.dumps(error.to_dict()))
"""


def run(db: Path, *logs: Path, limit: int = 0, scratch: Path | None = None) -> dict[str, Any]:
    """Ingest in a process of its own, which may write no file longer than `limit`; returns the report or the error."""
    environment = {**os.environ, "TMPDIR": str(scratch)} if scratch else None
    command = [sys.executable, "-c", RUN, str(limit), str(db), *map(str, logs)]
    done = subprocess.run(command, capture_output=True, check=False, env=environment, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # DuckDB may have drawn a progress bar before it


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB; needs the right to mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def large_log(path: Path, rows: int) -> None:
    """Write calls that do not pack."""
    import secrets

    with path.open("wb") as stream:
        for n in range(rows):
            stream.write(line(n, session_id=secrets.token_hex(300)))


@pytest.mark.parametrize("limit", [400_000, 1_500_000, 4_000_000, 9_000_000])
def test_a_store_that_cannot_grow(tmp_path: Path, limit: int) -> None:
    """Whatever file hits the limit (spool, write-ahead log, database): a StoreError; what was stored before stays."""
    db = tmp_path / "s.duckdb"
    logs = tmp_path / "logs"
    calls = write_logs(logs, 3)
    assert run(db, logs)["inserted"] == calls
    large_log(tmp_path / "large.ndjson", 15_000)
    answer = run(db, tmp_path / "large.ndjson", limit=limit)
    assert answer["schema"] == "abtest.error/1", answer
    assert answer["code"] == "store"
    assert check(db) == calls
    assert run(db, tmp_path / "large.ndjson")["inserted"] == 15_000 - calls
    with Store(db) as store:
        assert store.connection.execute("SELECT count(*) FROM interaction").fetchone() == (15_000,)


def test_a_full_disk_under_the_store(tmp_path: Path, small_disk: Path) -> None:
    db = small_disk / "s.duckdb"
    logs = tmp_path / "logs"
    calls = write_logs(logs, 3)
    assert run(db, logs)["inserted"] == calls
    large_log(tmp_path / "large.ndjson", 15_000)
    answer = run(db, tmp_path / "large.ndjson")
    assert (answer["schema"], answer["code"]) == ("abtest.error/1", "store")
    assert "disk" in (answer["hint"] or "") + answer["message"]
    assert check(db) == calls


def test_a_full_disk_under_the_scratch_folder(tmp_path: Path, small_disk: Path) -> None:
    large_log(tmp_path / "large.ndjson", 15_000)
    answer = run(tmp_path / "s.duckdb", tmp_path / "large.ndjson", scratch=small_disk)
    assert (answer["schema"], answer["code"]) == ("abtest.error/1", "store")
    assert list(small_disk.iterdir()) == []
    assert check(tmp_path / "s.duckdb") == 0
    assert run(tmp_path / "s.duckdb", tmp_path / "large.ndjson")["inserted"] == 15_000


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    calls = write_logs(tmp_path / "logs", 3)
    assert run(folder / "s.duckdb", tmp_path / "logs")["inserted"] == calls
    mounted = False
    if os.geteuid() == 0:  # who may do everything needs a file system that may not
        mounted = not subprocess.run(["mount", "--bind", folder, folder], capture_output=True, check=False).returncode
        if not mounted or subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=False).returncode:
            pytest.skip("no right to mount a file system")
    else:
        (folder / "s.duckdb").chmod(0o400)
        folder.chmod(0o500)
    try:
        (tmp_path / "logs" / "new.ndjson").write_bytes(line(1_000_000))
        with pytest.raises(StoreError, match=r"s\.duckdb"):
            Store(folder / "s.duckdb", wait=0.1)
        with pytest.raises(StoreError):
            Store(folder / "other.duckdb", wait=0.1)
        with Store(folder / "s.duckdb", read_only=True) as store:
            assert store.last_file() > 0
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder], check=True)
        else:
            folder.chmod(0o700)
            (folder / "s.duckdb").chmod(0o600)
    assert run(folder / "s.duckdb", tmp_path / "logs")["inserted"] == 1


def test_logs_in_a_folder_that_cannot_be_written_are_read(tmp_path: Path) -> None:
    calls = write_logs(tmp_path / "logs", 3)
    for path in (tmp_path / "logs").iterdir():
        path.chmod(0o400)
    (tmp_path / "logs").chmod(0o500)
    try:
        assert run(tmp_path / "s.duckdb", tmp_path / "logs")["inserted"] == calls
    finally:
        (tmp_path / "logs").chmod(0o700)


def test_a_lock_held_by_another_process_names_it(tmp_path: Path) -> None:
    db = tmp_path / "s.duckdb"
    code = "import sys\nfrom abtest.store.store import Store\nwith Store(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        started = time.monotonic()
        with pytest.raises(StoreLockedError, match=str(holder.pid)):
            Store(db, wait=0.3)
        assert 0.3 <= time.monotonic() - started < 5
        holder.communicate()
    with Store(db) as store:  # it is free again
        assert store.last_file() == 0


def test_a_clock_that_goes_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing depends on the time of the ingest: neither what is new, nor the order of loads."""
    logs = tmp_path / "logs"
    logs.mkdir()
    now = time.time_ns()
    path = logs / "a.ndjson"
    with Store(tmp_path / "s.duckdb") as store:
        for n, shift in enumerate((0, -86_400, -10 * 365 * 86_400, 86_400, -1)):
            monkeypatch.setattr(time, "time_ns", lambda shift=shift: now + shift * 1_000_000_000)
            with path.open("ab") as stream:
                stream.write(b"".join(line(n * LINES + k) for k in range(LINES)) + line(n * LINES + LINES)[:9])
            report = store.ingest(logs, final=False)
            assert report.inserted == LINES
            assert store.ingest(logs, final=False).records == 0
            with path.open("rb+") as stream:
                stream.truncate(path.stat().st_size - 9)
        report = store.ingest(logs)
        assert (report.records, store.last_file()) == (0, 5)
        found = store.connection.execute("SELECT count(*), count(DISTINCT interaction_id) FROM interaction").fetchone()
        assert found == (5 * LINES, 5 * LINES)
