"""Readers of the snapshot during many ingests, and kills during a snapshot: always a whole copy, old or new.

`ABTEST_CALIBRATE=full` runs 1,000 ingests and 200 kills; the default is the reduced size of continuous integration.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from abtest.store.snapshot import snapshot, snapshot_file
from abtest.store.store import Store

FULL = os.environ.get("ABTEST_CALIBRATE") == "full"
INGESTS = 1000 if FULL else 20
KILLS = 200 if FULL else 8

READER = """
import json, sys, time
from pathlib import Path
import duckdb
target, stop = Path(sys.argv[1]), Path(sys.argv[2])
looks, seen = 0, [0]
while not stop.exists() or not looks:
    con = duckdb.connect(str(target), read_only=True)
    stored, ledger, files, texts = con.execute('''
        select (select count(*) from interaction) + (select count(*) from score), (select coalesce(sum(inserted), 0) from file_ledger),
               (select count(*) from file_ledger), (select count(distinct interaction_id) from interaction)''').fetchone()
    rows = con.execute("select count(*) from interaction where attributes is null").fetchone()[0]
    found = con.execute("select count(*) from score_target t join interaction i using (interaction_id)").fetchone()[0]
    con.close()
    assert stored == ledger, (stored, ledger)
    assert texts * 2 == stored and found == texts and rows == texts, (texts, stored, found, rows)
    assert files >= seen[-1], "an older copy came after a newer one"
    seen.append(files)
    looks += 1
    time.sleep(0.003)  # leave some of the machine to the writer
print(json.dumps({"looks": looks, "states": len(set(seen)), "last": seen[-1]}))
"""


def log(folder: Path, number: int, size: int = 20) -> Path:
    """Write a small log: calls, and a score for each."""
    path = folder / f"log-{number:05}.jsonl"
    with path.open("w") as file:
        for k in range(size):
            name = f"i{number}-{k}"
            file.write(
                json.dumps({"interaction_id": name, "ts": "2026-11-01T10:00:00Z", "model": "m", "unit_id": f"u{k}"})
                + "\n"
            )
            file.write(json.dumps({"type": "score", "score_id": f"s{name}", "ts": "2026-11-01T10:00:01Z", "name": "n",
                                   "scorer_kind": "user", "value": 1, "interaction_id": name}) + "\n")  # fmt: skip
    return path


@pytest.mark.parametrize("every", [1, 10])
def test_readers_of_the_snapshot_never_fail_and_never_see_half(tmp_path: Path, every: int) -> None:
    db, target, stop = tmp_path / "s.duckdb", tmp_path / "published.duckdb", tmp_path / "stop"
    logs = tmp_path / "logs"
    logs.mkdir()
    with Store(db) as store:
        snapshot(store.connection, target)
    argv = [sys.executable, "-c", READER, str(target), str(stop)]
    readers = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2 if FULL else 1)
    ]
    try:
        for number in range(1, INGESTS + 1):
            with Store(db) as store:
                assert store.ingest(log(logs, number)).inserted == 40
                if number % every == 0:
                    snapshot(store.connection, target)
        stop.touch()
        ends = [reader.communicate(timeout=60) for reader in readers]
    finally:
        for reader in readers:
            reader.kill()
    for reader, (out, err) in zip(readers, ends, strict=True):
        assert reader.returncode == 0, err
        seen = json.loads(out)
        print(seen)
        assert seen["looks"] > 1
        assert seen["last"] <= INGESTS
    with Store(target, read_only=True) as copy:
        assert copy.last_file() == INGESTS // every * every
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


WRITER = """
import sys
from abtest.store.snapshot import snapshot
from abtest.store.store import Store
with Store(sys.argv[1]) as store:
    print("up", flush=True)
    while True:
        snapshot(store.connection, sys.argv[2])
        print("done", flush=True)
"""


def test_a_kill_during_a_snapshot_leaves_a_whole_copy_and_the_next_one_sweeps(tmp_path: Path) -> None:
    db, target = tmp_path / "s.duckdb", tmp_path / "published.duckdb"
    with Store(db) as store:
        store.ingest(log(tmp_path, 1, size=20_000))
        snapshot(store.connection, target)
    rng = random.Random(20261123)
    left_behind = 0
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(db), str(target)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        time.sleep(rng.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        left_behind += any(p.name.startswith(".published") for p in tmp_path.iterdir())
        with Store(target, read_only=True) as copy:  # whole, be it the old or the new one
            (found,) = copy.engine.rows(
                "SELECT (SELECT count(*) FROM interaction) AS calls, (SELECT count(*) FROM score_target) AS targets,"
                " (SELECT sum(inserted) FROM file_ledger) AS ledger"
            )
        assert found == {"calls": 20_000, "targets": 20_000, "ledger": 40_000}
    assert left_behind > KILLS // 4  # the kills did hit
    snapshot_file(db, target)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    assert not list(tmp_path.glob("*.wal*"))
