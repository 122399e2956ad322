"""Processes that can be killed at any moment, and what has to be true of a store after that."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from abtest.store.load_report import TABLES
from abtest.store.store import Store, schema_version

LINES = 60
"""Good lines in each file; one bad line follows them."""

CALIBRATE = os.environ.get("ABTEST_CALIBRATE") == "full"
KILLS = 200 if CALIBRATE else 25


def line(n: int, **fields: Any) -> bytes:
    call = {"interaction_id": f"i{n}", "ts": "2026-11-01T10:00:00Z", "model": "m", "unit_id": f"u{n % 50}", **fields}
    return json.dumps(call).encode() + b"\n"


def write_logs(folder: Path, files: int) -> int:
    """Write logs: plain ones, every third one packed, every fourth one again under another name. Returns the calls."""
    folder.mkdir()
    for n in range(files):
        data = b"".join(line(n * LINES + k, latency_ms=k) for k in range(LINES)) + b"bad %d\n" % n
        name = f"{n:03}.ndjson"
        (folder / (f"{name}.gz" if n % 3 == 2 else name)).write_bytes(gzip.compress(data) if n % 3 == 2 else data)
        if n % 4 == 3:
            (folder / f"{n:03}-again.ndjson").write_bytes(data)
    return files * LINES


def check(path: Path) -> int:
    """Open a store as the next command would, and find it consistent. Returns how many calls it has."""
    with Store(path) as store:

        def one(query: str) -> int:
            row = store.connection.execute(query).fetchone()
            return int(row[0]) if row else 0

        assert one("SELECT max(version) FROM schema_version") == schema_version()
        rows = sum(one(f"SELECT count(*) FROM {table}") for table in TABLES)
        assert rows == one("SELECT coalesce(sum(inserted), 0) FROM file_ledger")
        assert one("SELECT count(*) FROM quarantine") == one("SELECT coalesce(sum(quarantined), 0) FROM file_ledger")
        calls = one("SELECT count(*) FROM interaction")
        assert calls == one("SELECT count(DISTINCT interaction_id) FROM interaction")
        # Whole files or nothing of them.
        assert one("SELECT count(*) FROM interaction i ANTI JOIN file_ledger f ON f.file_id = i.file_id") == 0
        assert one("SELECT count(*) FROM (SELECT 1 FROM interaction GROUP BY file_id HAVING count(*) % 60 <> 0)") == 0
        assert one("SELECT count(*) FROM file_ledger WHERE file_id > (SELECT count(*) FROM file_ledger)") == 0
        assert one("SELECT count(*) FROM file_state s WHERE s.file_id > (SELECT max(file_id) FROM file_ledger)") == 0
        return calls


NURSERY = """
import os, signal, sys, time
from abtest.store import load as module
from abtest.store.store import Store
import abtest.store.load_fast as fast
import abtest.ingest.registry, abtest.store.containers.registry
abtest.ingest.registry.formats()
module.BATCH_FILES = 2
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # DuckDB shows a progress bar on stdout to a Python without a script
for command in sys.stdin:
    name, delay, db, *logs = command.rstrip("\\n").split("\\t")
    pid = os.fork()
    if not pid:
        try:
            with Store(db) as store:
                if name == "large":
                    module.LARGE_BYTES, fast.PIECE_BYTES, fast.ROUND_ROWS = 100_000, 150_000, 3_000
                if name != "open":
                    store.ingest(*logs)
            os._exit(0)
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr, flush=True)
            os._exit(1)
    until = time.monotonic() + float(delay or "inf")
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        time.sleep(0.002)
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)  # its id is its own until we have waited for it
            ended = os.waitpid(pid, 0)
            break
    status = ended[1]
    print(os.waitstatus_to_exitcode(status), file=answers, flush=True)
"""


class Nursery:
    """Forks processes that have imported everything already: two hundred of them start in the time of twenty."""

    def __init__(self, scratch: Path) -> None:
        scratch.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(scratch)},
            text=True,
        )

    def run(self, name: str, db: Path, *logs: Path, kill_after: float | None = None) -> int:
        """Run a process, and kill it after so many seconds; returns its exit code, negative for a signal."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        delay = "" if kill_after is None else str(kill_after)
        self._process.stdin.write("\t".join([name, delay, str(db), *map(str, logs)]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
