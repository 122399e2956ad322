"""`watch` when something does not work: told once, recorded, shown, tried again; the last decision stays in force."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from watch_samples import Release, decisions

from abtest.cli.status import status_of
from abtest.rollout import publish, watch_ticks
from tests.cli.runner import call


@pytest.fixture
def live(tmp_path: Path) -> Release:
    return Release(tmp_path)


HOLD = """
import sys
from abtest.store.store import Store
with Store(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_locked_store_is_told_and_tried_again(live: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_ticks, "_WAIT_SECONDS", 0.05)
    live.call(400, 100)
    watcher = live.watcher()
    watcher.tick()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(live.db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        live.call(400, 100, refused=0.6, new="v")
        for _ in range(2):
            watcher.tick()
        assert watcher.result().exit_code == 40
        # `status` answers all the same, from what was published.
        found = status_of(live.db)
        assert (found["source"], found["experiments"][0]["decision"]) == ("published", "promote")
        assert found["watch"]["failing"][0]["code"] == "store_locked"
        holder.communicate("")
    watcher.tick()
    assert decisions(watcher) == [("halt", "harm")]
    assert live.events() == ["failed", "recovered"]
    assert live.entries("watch")[1].body["failed_ticks"] == 2
    assert status_of(live.db)["source"] == "store"
    assert [line for line in live.said if "FAILED" in line] == [
        line for line in live.said if line.startswith("store: FAILED, ")
    ]


def test_logs_that_cannot_be_read_do_not_end_the_decisions(live: Release) -> None:
    live.call(400, 100, refused=0.6)
    (live.logs / "b.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00 this is no gzip")
    os.utime(live.logs / "b.jsonl.gz", (1, 1))  # nobody is writing to it any more
    watcher = live.watcher()
    watcher.tick()
    assert decisions(watcher) == [("halt", "harm")]
    assert [f.code for f in watcher.result().failing] == ["log_read"]
    assert watcher.result().exit_code == 40
    (live.logs / "b.jsonl.gz").unlink()
    watcher.tick()
    assert live.events() == ["failed", "recovered"]
    assert watcher.result().exit_code == 20


def test_a_flag_file_that_is_gone_is_told_and_halted_when_it_is_back(live: Release) -> None:
    live.call(400, 100, refused=0.6)
    kept = live.flags.read_bytes()
    live.flags.unlink()
    watcher = live.watcher()
    for _ in range(2):
        watcher.tick()
    assert decisions(watcher) == [("halt", "harm")]
    assert [e.body["decision"] for e in live.entries("decision")] == ["halt"]  # decided and recorded all the same
    assert live.published()["watch"]["failing"][0]["code"] == "actuator"
    assert live.published()["experiments"][0]["problem"] is not None
    live.flags.write_bytes(kept)
    watcher.tick()
    assert live.weights()["candidate"] == 0
    assert len(live.done()) == 1
    assert live.events() == ["failed", "recovered"]
    assert live.published()["experiments"][0]["problem"] is None
    assert watcher.result().exit_code == 20


def test_one_broken_experiment_does_not_stop_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live, other = Release(tmp_path), Release(tmp_path, name="other")
    for one in (live, other):
        one.call(400, 100, refused=0.6, file=f"{one.name}.jsonl")
    real = watch_ticks.decide_fully

    def crash(store: Any, experiment: Any, **more: Any) -> Any:
        if experiment.id == "live":
            raise ZeroDivisionError("a bug")
        return real(store, experiment, **more)

    monkeypatch.setattr(watch_ticks, "decide_fully", crash)
    watcher = live.watcher(other)
    watcher.tick()
    assert decisions(watcher) == [("halt", "harm")]
    assert [(f.scope, f.code, f.message) for f in watcher.result().failing] == [
        ("live", "crash", "ZeroDivisionError: a bug")
    ]
    monkeypatch.undo()
    watcher.tick()  # tried again though nothing is new
    assert decisions(watcher) == [("halt", "harm")] * 2


def test_a_ledger_that_was_changed_decides_nothing(live: Release) -> None:
    live.call(400, 100)
    watcher = live.watcher()
    watcher.tick()
    with live.store() as store:
        store.connection.execute("update ledger set body = replace(body, 'promote', 'halt')")
    live.call(400, 100, refused=0.6, new="v")
    watcher.tick()
    assert decisions(watcher) == [("promote", "all_safe")]
    assert watcher.result().exit_code == 30
    assert live.weights()["candidate"] == 20


def test_what_a_killed_watch_left_failing_is_taken_over(live: Release) -> None:
    live.call(400, 100)
    kept = live.flags.read_bytes()
    live.flags.unlink()
    for _ in range(2):
        live.watcher().tick()  # and killed
    assert live.events() == ["failed"]
    live.flags.write_bytes(kept)
    live.watcher().tick()
    again = live.watcher()
    again.tick()
    again.close()
    assert live.events() == ["failed", "recovered"]


def test_status_says_when_nobody_looks_any_more(live: Release, capsys: pytest.CaptureFixture[str]) -> None:
    live.call(400, 100)
    live.watcher().tick()
    folder, first = publish.folder_of(live.db), dict(live.published())

    def told(**changes: Any) -> str:
        data = dict(first)
        data["watch"] = {**data["watch"], "last_tick_us": time.time_ns() // 1000, **changes}
        publish.put(folder, publish.STATUS, data)
        return call(capsys, "status", "--db", live.db).out

    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    assert "watch is running" in told()
    assert "watch is DEAD" in told(pid=gone.pid)
    assert "watch is SILENT" in told(last_tick_us=time.time_ns() // 1000 - 3600 * 10**6)
    assert "watch was stopped" in told(stopped=True, pid=gone.pid)
    assert "watch is running" in told(host="another machine", pid=gone.pid)
    (folder / publish.STATUS).write_text("{ no JSON")
    plain = call(capsys, "status", "--db", live.db, "--json")
    assert (plain.json["watch"], plain.json["source"], len(plain.json["experiments"])) == (None, "store", 1)


def test_nothing_can_be_published(live: Release) -> None:
    live.call(400, 100, refused=0.6)
    blocked = live.folder / "blocked"
    blocked.write_text("a file")
    watcher = live.watcher()
    watcher.folder = blocked
    watcher.tick()
    assert live.weights()["candidate"] == 0
    assert [f.scope for f in watcher.result().failing] == ["@publish"]
    assert "give another --publish" in watcher.result().failing[0].message
