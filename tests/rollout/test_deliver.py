"""Messages are sent while the store is closed: a receiver that fails, hangs, is gone or restarts keeps nobody out.

What arrives is checked with `standardwebhooks`, the reference library of the receiving side.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from watch_samples import Release

from abtest.rollout import deliver, outbox
from abtest.store import ledger
from abtest.store.store import Store
from tests.cli.runner import call
from tests.rollout.webhook_receiver import SECRET, SECRET_ENV, Receiver, running


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_ENV, SECRET)
    monkeypatch.setattr(deliver, "_SECOND_TRY_AFTER", 0.02)


class Clock:
    """The outbox's clock and the watch's, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, live: Release) -> None:
        self.ahead, self.live = 0.0, live
        monkeypatch.setattr(outbox, "_now_us", self.now)
        live.now_us = self.now()

    def now(self) -> int:
        return time.time_ns() // 1000 + int(self.ahead * 1e6)

    def later(self, seconds: float) -> None:
        self.ahead += seconds
        self.live.now_us = self.now()


def release(folder: Path, receiver: Receiver) -> Release:
    made = Release(folder, halt=f'webhook = {{ url = "{receiver.url}", secret_env = "{SECRET_ENV}" }}')
    made.call(400, 100, refused=0.6)
    return made


def verified(receiver: Receiver) -> list[dict[str, Any]]:
    """Return the events that arrived, each accepted by the reference library."""
    standardwebhooks = pytest.importorskip("standardwebhooks")
    reference = standardwebhooks.Webhook(SECRET)
    return [reference.verify(got.body, got.headers) for got in receiver.got]


def waits(live: Release) -> list[outbox.Queued]:
    with live.store() as store:
        return outbox.waiting(store)


@pytest.mark.parametrize("answers", [(500, 503, 404, 200), ((429, {"retry-after": "20"}), 200)])
def test_a_receiver_that_fails_gets_it_under_one_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: tuple[Any, ...]
) -> None:
    with running(*answers) as receiver:
        live = release(tmp_path, receiver)
        clock = Clock(monkeypatch, live)
        watcher = live.watcher()
        for _ in range(4):
            watcher.tick()
            clock.later(25)
        assert waits(live) == []
        assert len(receiver.got) == len(answers)
        assert len({got.id for got in receiver.got}) == 1
        assert len({got.body for got in receiver.got}) == 1
        assert [e["type"] for e in verified(receiver)] == ["abtest.experiment.halted"] * len(answers)
        assert live.weights()["candidate"] == 0
        (entry,) = [e for e in live.entries("action") if e.body["actuator"] == "webhook"]
        assert (entry.body["status"], entry.body["attempts"]) == ("done", len(answers))


def test_a_receiver_that_is_gone_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(410) as receiver:
        live = release(tmp_path, receiver)
        clock = Clock(monkeypatch, live)
        watcher = live.watcher()
        for _ in range(4):
            watcher.tick()
            clock.later(3600)
        assert len(receiver.got) == 1
        assert "410 Gone" in live.published()["watch"]["failing"][0]["message"]
        assert watcher.result().exit_code in (20, 40)


def test_a_receiver_that_restarts_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(500) as before:
        live = release(tmp_path, before)
        clock = Clock(monkeypatch, live)
        watcher = live.watcher()
        watcher.tick()
        clock.later(30)
    watcher.tick()  # nobody listens
    assert waits(live)[0].problem == "Connection refused"
    clock.later(120)
    with running(port=before.port) as after:
        watcher.tick()
    assert [got.id for got in after.got] == [before.got[0].id]
    assert len(verified(after)) == 1
    assert waits(live) == []


def test_a_receiver_that_hangs_does_not_hold_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(deliver, "TIMEOUT_SECONDS", 0.6)
    with running("hang") as receiver:
        live = release(tmp_path, receiver)
        with live.store() as store:
            store.ingest(live.logs)
        codes: list[int] = []

        def decide() -> None:
            codes.append(call(capsys, "decide", live.spec, "--db", live.db).code)

        deciding = threading.Thread(target=decide)
        deciding.start()
        while not receiver.got:
            time.sleep(0.005)
        # The message is under way, and its receiver says nothing: the store is free for everybody.
        started = time.monotonic()
        with Store(live.db, wait=0.3) as store:
            assert [e.body["decision"] for e in ledger.entries(store.connection, kind="decision")] == ["halt"]
        assert time.monotonic() - started < 0.4
        assert deciding.is_alive(), "it was not under way any more"
        deciding.join()
    assert codes == [20]
    assert live.weights()["candidate"] == 0
    (message,) = waits(live)
    assert (message.attempts, message.problem) == (2, "no answer within 0.6 s")


def test_what_cannot_be_noted_is_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is taken by somebody else while the message is under way: it was sent, and comes once more."""
    with running() as receiver:
        live = release(tmp_path, receiver)
        clock = Clock(monkeypatch, live)
        real, blocked = deliver.send, []

        def send(*args: Any, **more: Any) -> None:
            real(*args, **more)
            if not blocked:
                blocked.append(1)
                monkeypatch.setattr(deliver, "Store", locked)

        def locked(*args: Any, **more: Any) -> Any:
            monkeypatch.setattr(deliver, "Store", Store)
            from abtest.errors import StoreLockedError

            raise StoreLockedError("the store is held by process 1")

        monkeypatch.setattr(deliver, "send", send)
        watcher = live.watcher()
        watcher.tick()
        assert "what came of the messages was not noted" in live.published()["watch"]["failing"][0]["message"]
        clock.later(60)
        watcher.tick()
        assert len({got.id for got in receiver.got}) == 1
        assert len(receiver.got) == 2
        assert waits(live) == []
        assert json.loads(receiver.got[0].body) == json.loads(receiver.got[1].body)
