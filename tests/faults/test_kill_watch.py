"""kill -9 of `watch` at random moments: the halt is acted upon exactly once, no row is doubled, the ledger is whole.

Each round is a release that is about to be halted. A watch is killed again and again while it takes rows, decides, writes the
flag file, tells the webhook and publishes; rows come between the kills. In the end one is left alone, and must find the world
as if nobody had ever been killed.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from abtest.rollout import publish
from abtest.rollout.replay import replay_all
from abtest.store import ledger
from abtest.store.store import Store
from tests.rollout.watch_samples import MINUTE, Release
from tests.rollout.webhook_receiver import SECRET, SECRET_ENV, running

KILLS = {"full": 200, "fifty": 50}.get(os.environ.get("ABTEST_CALIBRATE", ""), 6)
A_ROUND = 4
"""Kills before a watch is left alone."""

# Forked, so that fifty processes start in the time of a few; the clock is the sample's, and moves at each start.
NURSERY = """
import os, signal, sys, time
import abtest
from abtest.release import release_findings
from abtest.rollout import deliver, outbox, watch
from abtest.rollout.watch_ticks import Watcher
import abtest.rollout.actuators, abtest.ingest.registry, abtest.store.containers.registry, abtest.analysis.analyze
import abtest.lineage.findings, abtest.store.load, scipy.special
abtest.rollout.actuators.actuator_types()
abtest.ingest.registry.formats()
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for command in sys.stdin:
    delay, ticks, now, spec, logs, db = command.rstrip("\\n").split("\\t")
    started = time.monotonic()
    pid = os.fork()
    if not pid:
        try:
            # A message that a killed watch had in hand is due after its lease; nobody here waits for that.
            outbox._wait, deliver._lease = lambda *_: 0.0, lambda *_: 0.0
            abtest.watch(spec, logs, db=db, every=0.01, max_ticks=int(ticks), clock=lambda: int(now), findings=release_findings)
            os._exit(0)
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr, flush=True)
            os._exit(1)
    until = started + float(delay or "inf")
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        time.sleep(0.001)
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)  # its id is its own until we have waited for it
            ended = os.waitpid(pid, 0)
            break
    print(os.waitstatus_to_exitcode(ended[1]), time.monotonic() - started, file=answers, flush=True)
"""


class Nursery:
    """Starts watches that can be killed."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, SECRET_ENV: SECRET},
        )  # fmt: skip

    def watch(self, live: Release, ticks: int, kill_after: float | None = None) -> tuple[int, float]:
        """Run some ticks; returns the exit code, negative for a signal, and the seconds it took."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        delay = "" if kill_after is None else str(kill_after)
        words = [delay, str(ticks), str(live.now_us), str(live.spec), str(live.logs), str(live.db)]
        self.process.stdin.write("\t".join(words) + "\n")
        self.process.stdin.flush()
        code, seconds = self.process.stdout.readline().split()
        return int(code), float(seconds)

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


def about_to_halt(folder: Path, url: str) -> Release:
    folder.mkdir()
    live = Release(folder, halt=f'webhook = {{ url = "{url}", secret_env = "{SECRET_ENV}" }}')
    live.call(400, 100)
    live.now_us += MINUTE
    live.call(400, 100, refused=0.7, new="bad", file="b.jsonl")
    return live


def check_the_end(live: Release, ids: list[str]) -> None:
    """Compare the world with what one undisturbed watch leaves."""
    with Store(live.db) as store:
        ledger.verify(store.connection)
        entries = ledger.entries(store.connection)
        row = store.connection.execute("SELECT count(*), count(DISTINCT interaction_id) FROM interaction").fetchone()
        assert row == (live.rows, live.rows)
        waiting = store.connection.execute("SELECT count(*) FROM outbox WHERE delivered_us IS NULL").fetchone()
        assert waiting == (0,)
        assert {r.status for r in replay_all(store)} == {"same"}
    decided = [e for e in entries if e.kind == "decision"]
    assert len({e.decision_id for e in decided}) == len(decided), "a decision is there twice"
    began = next(e for e in decided if e.body["decision"] == "halt")
    assert {e.body["decision"] for e in decided if e.seq > began.seq} <= {"halt"}
    flagged = [e for e in entries if e.kind == "action" and e.body["actuator"] == "flagd"]
    assert [e.body["status"] for e in flagged] == ["begun", "done"]
    assert {e.decision_id for e in flagged} == {began.decision_id}
    assert flagged[0].body["original"]["targeting"]["fractional"][1:] == [["candidate", 20], ["baseline", 80]]
    assert live.weights() == {"candidate": 0, "baseline": 100}
    flag = json.loads(live.flags.read_text())["flags"]["support-model"]
    assert flag["metadata"]["abtest.decision_id"] == began.decision_id
    # At least once, always under the same id, and noted as accepted once.
    assert ids
    assert len(set(ids)) == 1
    assert len([e for e in entries if e.kind == "action" and e.body["actuator"] == "webhook"]) == 1
    assert [e.body["event"] for e in entries if e.kind == "watch"] == ["halt_confirmed"]
    status = publish.get(publish.folder_of(live.db))
    assert status is not None
    assert (status["experiments"][0]["halt"], status["watch"]["failing"]) == ("halt_confirmed", [])
    folder = publish.folder_of(live.db)
    assert sorted(p.name for p in folder.iterdir()) == ["live.json", "status.json"]
    assert [p.name for p in live.folder.iterdir() if p.name.endswith(".abtest")] == []


def test_killed_at_random_moments_it_acts_once(tmp_path: Path, nursery: Nursery) -> None:
    rng = random.Random(20261123)
    killed = rounds = 0
    begun_open = told_again = 0
    with running() as receiver:
        first = about_to_halt(tmp_path / "undisturbed", receiver.url)
        nursery.watch(first, 2)  # the first one warms up
        takes = nursery.watch(about_to_halt(tmp_path / "timed", receiver.url), 2)[1]
        while killed < KILLS:
            rounds += 1
            receiver.got.clear()
            live = about_to_halt(tmp_path / f"round-{rounds}", receiver.url)
            for _ in range(min(A_ROUND, KILLS - killed)):
                code, seconds = nursery.watch(live, 2, rng.uniform(0.1, 1.0) * takes)
                assert code in (0, -9)
                killed += code != 0
                takes = min(takes, seconds) if code == 0 else takes
                if live.db.exists():
                    notes = [e.body["status"] for e in live.entries("action") if e.body["actuator"] == "flagd"]
                    begun_open += notes == ["begun"]
            assert nursery.watch(live, 2)[0] == 0
            live.now_us += MINUTE
            live.call(100, 0, new="after", file="c.jsonl")
            assert nursery.watch(live, 2)[0] == 0
            ids = [got.id for got in receiver.got]
            told_again += len(ids) > 1
            check_the_end(live, ids)
    print(
        f"{killed} kills in {rounds} rounds; {begun_open} left an action open, {told_again} rounds told the webhook twice"
    )
