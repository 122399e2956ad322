"""The whole way, live: a service with the real OpenFeature client, its log, and `abtest watch`, each a process of its own.

The candidate turns bad while everything runs. `watch` reads it in the log, decides, writes the flag file; the client reloads it;
the candidate's calls end in the log; `watch` sees that, and confirms the halt. Nobody is told anything another way.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from abtest.analysis.times import parse_moment
from abtest.store import ledger
from abtest.store.store import Store

pytest.importorskip("openfeature.contrib.provider.flagd", reason="openfeature-provider-flagd is not installed")

HERE = Path(__file__).parent
FULL = os.environ.get("ABTEST_CALIBRATE") == "full"
USERS = 400
"""Enough for control to have the 200 units of a warm-up."""
SPEC = """
id = "live"
control = "baseline"
treatments = ["candidate"]
[[metrics]]
name = "refusal_rate"
kind = "proportion"
event = "refused"
better = "lower"
guardrail = { margin = { points = 0.05 }, action = "halt" }
[[ramp]]
stage = "canary"
share = 0.4
[[ramp]]
stage = "ab"
share = 0.5
[halt]
flag = { file = "flags.json", key = "support-model" }
confirm_within = "5s"
"""
SPLIT = {
    "fractional": [{"cat": [{"var": "$flagd.flagKey"}, {"var": "targetingKey"}]}, ["candidate", 40], ["baseline", 60]]
}
FLAG = {
    "state": "ENABLED", "variants": {"baseline": "gpt", "candidate": "sonnet"}, "defaultVariant": "baseline", "targeting": SPLIT,
}  # fmt: skip


class Release:
    """A running service: client and logger; `rounds` is what the logger has written."""

    def __init__(self, folder: Path, bad_after: float, every_ms: int) -> None:
        self.folder, self.logs, self.db = folder, folder / "logs", folder / "s.duckdb"
        self.logs.mkdir()
        (folder / "experiment.toml").write_text(SPEC, encoding="utf-8")
        (folder / "flags.json").write_text(json.dumps({"flags": {"support-model": FLAG}}), encoding="utf-8")
        self.rounds: list[dict[str, Any]] = []
        self.client = subprocess.Popen(
            [sys.executable, str(HERE / "flag_client.py"), str(folder / "flags.json"), "support-model", "--users", str(USERS),
             "--poll-ms", "200", "--every-ms", str(every_ms)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.logger = subprocess.Popen(
            [sys.executable, str(HERE / "live_logger.py"), str(self.logs), "--bad-after", str(bad_after)],
            stdin=self.client.stdout, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.client.stdout is not None
        self.client.stdout.close()  # the logger has it
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.logger.stdout is not None
        for line in self.logger.stdout:
            self.rounds.append(json.loads(line))

    def watch(self, *more: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "abtest.cli.main",
            "watch",
            str(self.folder / "experiment.toml"),
            "--logs",
            str(self.logs),
        ]
        return subprocess.Popen(
            [*command, "--db", str(self.db), "--every", "300ms", "--json", *more],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def published(self) -> dict[str, Any]:
        try:
            data = json.loads((self.folder / "s.duckdb.published" / "status.json").read_text())
        except FileNotFoundError:
            return {}
        return data["experiments"][0] if data["experiments"] else {}

    def wait(self, wanted: Any, seconds: float = 60.0) -> None:
        until = time.monotonic() + seconds
        while not wanted():
            assert time.monotonic() < until, f"waited in vain; published: {self.published()}"
            assert self.client.poll() is None
            assert self.logger.poll() is None
            time.sleep(0.02)

    def close(self) -> None:
        assert self.client.stdin is not None
        assert self.logger.stdout is not None
        self.client.stdin.close()
        for process in (self.client, self.logger):
            if process.poll() is None:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.reader.join(5)
        self.logger.stdout.close()


@contextmanager
def release(folder: Path, bad_after: float, every_ms: int = 250) -> Iterator[Release]:
    made = Release(folder, bad_after, every_ms)
    try:
        yield made
    finally:
        made.close()


def stop(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert out, err
    return process.returncode, json.loads(out)


def assert_halted_once(live: Release) -> dict[str, Any]:
    """The ledger is whole, the flag was changed once, no row is there twice; returns the event that confirmed the halt."""
    with Store(live.db) as store:
        ledger.verify(store.connection)
        entries = ledger.entries(store.connection)
        counts = store.connection.execute("SELECT count(*), count(DISTINCT interaction_id) FROM interaction").fetchone()
    assert counts is not None
    assert counts[0] == counts[1] > 0
    decisions = [e for e in entries if e.kind == "decision"]
    assert len({e.decision_id for e in decisions}) == len(decisions), "a decision was recorded twice"
    began = next(e for e in decisions if e.body["decision"] == "halt")
    done = [e for e in entries if e.kind == "action" and e.body["status"] == "done"]
    assert [e.decision_id for e in done] == [began.decision_id]
    flag = json.loads((live.folder / "flags.json").read_text())["flags"]["support-model"]
    assert flag["targeting"]["fractional"][1:] == [["candidate", 0], ["baseline", 100]]
    assert flag["metadata"]["abtest.decision_id"] == began.decision_id
    (confirmed,) = [e for e in entries if e.kind == "watch" and e.body["event"] == "halt_confirmed"]
    assert confirmed.decision_id == began.decision_id
    return {**confirmed.body, "decided_us": began.recorded_us, "confirmed_us": confirmed.recorded_us}


def test_a_regression_is_found_halted_and_confirmed_while_it_happens(tmp_path: Path) -> None:
    with release(tmp_path, bad_after=3.0) as live:
        watching = live.watch()
        try:
            live.wait(lambda: live.published().get("decision") is not None)
            assert any(r["candidates"] for r in live.rounds)
            live.wait(lambda: live.published().get("halt") == "halt_confirmed")
            flipped = (tmp_path / "flags.json").stat().st_mtime
            code, told = stop(watching)
        finally:
            if watching.poll() is None:
                watching.kill()
                watching.communicate()
    assert code == 20
    assert (told["schema"], told["failed_ticks"], told["last_error"]) == ("abtest.watch/1", 0, None)
    assert [(d["decision"], d["reason"]) for d in told["decisions"]] == [("halt", "harm")]
    found = assert_halted_once(live)
    bad = next(r["at"] for r in live.rounds if r["bad"])
    last = max(r["at"] for r in live.rounds if r["candidates"])
    halted = parse_moment(found["at"]) / 1e6
    assert 0 <= found["seconds"] < 5
    assert found["seconds"] == pytest.approx(max(0.0, last - halted), abs=0.01)
    assert not any(r["candidates"] for r in live.rounds if r["at"] > last)
    legs = {
        "regression to decision": found["decided_us"] / 1e6 - bad, "decision to flag file": flipped - found["decided_us"] / 1e6,
        "halt to the candidate's last call": found["seconds"], "halt to confirmed": found["confirmed_us"] / 1e6 - halted,
    }  # fmt: skip
    print(", ".join(f"{name} {seconds:.2f} s" for name, seconds in legs.items()))
    assert 0 < legs["regression to decision"] < 30


@pytest.mark.skipif(
    not FULL, reason="fifty processes; tests/faults/test_kill_watch.py does the same without the service"
)
def test_the_same_with_fifty_kills(tmp_path: Path) -> None:
    rng = random.Random(20261123)
    with release(tmp_path, bad_after=40.0, every_ms=1000) as live:
        for _ in range(50):
            watching = live.watch()
            time.sleep(rng.uniform(0.3, 5.0))
            watching.kill()
            watching.communicate()
        watching = live.watch()
        try:
            live.wait(lambda: live.published().get("halt") == "halt_confirmed")
            code, told = stop(watching)
        finally:
            if watching.poll() is None:
                watching.kill()
                watching.communicate()
    assert code == 20
    assert [d["decision"] for d in told["decisions"]] == ["halt"]
    print(assert_halted_once(live))
