"""At least once: what is decided is told, through failures, restarts and crashes, and never twice under another id."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from abtest.errors import ActuatorError
from abtest.results import Decision, MetricResult, SeriesPoint, Stage
from abtest.rollout import deliver, outbox
from abtest.rollout.actuators.flagd import FlagdFile
from abtest.rollout.decide import decide, override
from abtest.spec import Experiment
from abtest.store import ledger
from abtest.store.store import Store
from tests.rollout.webhook_receiver import SECRET, SECRET_BYTES, SECRET_ENV, running
from tests.test_spec import BASE

METRIC = MetricResult(
    "refusal_rate", "proportion", "guardrail", "lower", "pp", "baseline", "candidate",
    series=(SeriesPoint("2026-11-01T00:00:00Z", 1, 2, None, None, None, None, None, None),) * 500,
)  # fmt: skip
"""A metric with the series that a message leaves out."""


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv(SECRET_ENV, SECRET)
    monkeypatch.setattr(deliver, "_SECOND_TRY_AFTER", 0.02)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "s.duckdb") as opened:
        yield opened


class Clock:
    """The outbox's clock, moved by hand."""

    def __init__(self, monkeypatch):
        self.ahead = 0.0
        monkeypatch.setattr(outbox, "_now_us", lambda: time.time_ns() // 1000 + int(self.ahead * 1e6))


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def experiment(url, name="swap", revision=1) -> Experiment:
    halt = {"webhook": {"url": url, "secret_env": SECRET_ENV}} if url else {}
    return Experiment.from_dict({**BASE, "id": name, "revision": revision, "halt": halt})


def made(what="halt", ident="a", name="swap", revision=1) -> Decision:
    return Decision(
        name, revision, Stage(1, "canary 5 %"), what, "harm", f"{what.upper()} at canary 5 %", (), (METRIC,),
        "2026-11-20T12:00:00Z", ident * 64, "p" * 64,
    )  # fmt: skip


def record(store, url, decision):
    """Do what `decide` does with a decision; return the webhook's actions."""
    spec = experiment(url, decision.experiment, decision.revision)
    past = ledger.entries(store.connection, experiment=decision.experiment, revision=decision.revision)
    with outbox.atomic(store.connection):
        ledger.append(
            store.connection, "decision", decision.experiment, decision.revision, {"decision": decision.decision},
            decision_id=decision.decision_id,
        )  # fmt: skip
        outbox.enqueue(store, spec, decision, past)
    return deliver.tell(store, spec, decision, past)


def ids(receiver):
    return [got.id for got in receiver.got]


# --- one halt is one message ---------------------------------------------------------------------------------------


def test_a_halt_is_told_once_whatever_is_decided_after_it(store):
    with running() as receiver:
        (first,) = record(store, receiver.url, made())
        (again,) = record(store, receiver.url, made())
        (later,) = record(store, receiver.url, made(ident="b"))
    assert (first.actuator, first.status) == ("webhook", "done")
    assert first.detail.startswith(f"http://127.0.0.1:{receiver.port} accepted msg_aaaa")
    assert "secret-path" not in first.detail
    assert (again.status, later.status) == ("already_done", "already_done")
    assert again.detail == later.detail == first.detail
    assert ids(receiver) == ["msg_" + "a" * 40]
    assert outbox.waiting(store) == []
    (entry,) = ledger.entries(store.connection, kind="action")
    assert (entry.decision_id, entry.body["status"], entry.body["attempts"]) == ("a" * 64, "done", 1)
    assert "secret-path" not in json.dumps(entry.body)
    ledger.verify(store.connection)


def test_the_message_is_the_decision_without_the_series(store):
    with running() as receiver:
        record(store, receiver.url, made())
    (got,) = receiver.got
    event = json.loads(got.body)
    assert set(event) == {"type", "timestamp", "data"}
    assert event["type"] == "abtest.experiment.halted"
    want = made().to_dict()
    assert len(want["metrics"][0].pop("series")) == 500
    assert event["data"] == json.loads(json.dumps(want))
    assert len(got.body) < 20_000
    assert got.is_signed_by(SECRET_BYTES)


@pytest.mark.parametrize("what", ["hold", "promote", "ship"])
def test_only_halts_are_told(store, what):
    with running() as receiver:
        assert record(store, receiver.url, made(what)) == ()
        assert record(store, None, made()) == ()
    assert receiver.got == []
    assert outbox.waiting(store) == []


def test_a_halt_after_an_override_is_another_message_even_with_the_same_evidence(store):
    with running() as receiver:
        for what, ident in (
            ("halt", "a"),
            ("halt", "b"),
            ("hold", "c"),
            ("halt", "a"),
            ("halt", "a"),
            ("hold", "c"),
            ("halt", "d"),
        ):
            record(store, receiver.url, made(what, ident))
        record(store, receiver.url, made("halt", "e", revision=2))
    assert ids(receiver) == ["msg_" + "a" * 40, "msg_" + "a" * 40 + "_2", "msg_" + "d" * 40, "msg_" + "e" * 40]


def test_a_webhook_that_is_added_while_the_halt_stands_is_told_once(store):
    assert record(store, None, made()) == ()
    with running() as receiver:
        assert record(store, receiver.url, made(ident="b"))[0].status == "done"
        assert record(store, receiver.url, made(ident="c"))[0].status == "already_done"
    assert ids(receiver) == ["msg_" + "a" * 40]


# --- receivers that fail -------------------------------------------------------------------------------------------


def test_a_second_try_soon_after(store):
    with running(500, 200) as receiver:
        assert record(store, receiver.url, made())[0].status == "done"
    assert len(set(ids(receiver))) == 1
    assert len(receiver.got) == 2
    assert receiver.got[0].body == receiver.got[1].body


def test_a_receiver_that_fails_is_asked_again_later_under_the_same_id(store, clock):
    with running(500, 500, 503, 404, 200) as receiver:
        (action,) = record(store, receiver.url, made())
        assert action.status == "failed"
        assert "was not told: 2 attempts, the last: answered 500 Internal Server Error" in action.detail
        assert "the next `abtest decide` tries again, not before 20" in action.detail
        assert deliver.deliver_due(store) == ()
        assert len(receiver.got) == 2, "asked before its time"
        clock.ahead += 11
        assert deliver.deliver_due(store) == ()
        assert len(receiver.got) == 4
        (message,) = outbox.waiting(store)
        assert (message.attempts, message.problem) == (4, "answered 404 Not Found")
        clock.ahead += 41
        assert deliver.deliver_due(store) == ("msg_" + "a" * 40,)
        assert len(receiver.got) == 5
        clock.ahead += 86_400
        assert deliver.deliver_due(store) == ()
    assert set(ids(receiver)) == {"msg_" + "a" * 40}
    assert {got.body for got in receiver.got} == {receiver.got[0].body}
    assert all(got.is_signed_by(SECRET_BYTES) for got in receiver.got)
    assert [e.body["attempts"] for e in ledger.entries(store.connection, kind="action")] == [5]


def test_the_wait_doubles_is_spread_and_has_an_end():
    for attempts, longest in ((1, 5), (2, 10), (3, 20), (8, 640), (11, 3600), (5000, 3600)):
        waits = [outbox._wait(attempts, None) for _ in range(200)]
        assert longest / 2 <= min(waits) < max(waits) <= longest
        assert max(waits) - min(waits) > longest / 4
    assert outbox._wait(1, 120) == 120
    assert outbox._wait(1, 1) >= 2.5
    assert outbox._wait(1, float("inf")) == 86_400


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(store, clock, status):
    with running((status, {"retry-after": "1800"}), 200) as receiver:
        assert record(store, receiver.url, made())[0].status == "failed"
        clock.ahead += 1700
        assert deliver.deliver_due(store) == ()
        assert len(receiver.got) == 1
        clock.ahead += 101
        assert len(deliver.deliver_due(store)) == 1
    assert len(receiver.got) == 2


def test_a_receiver_that_hangs_costs_no_more_than_the_round(store, monkeypatch):
    monkeypatch.setattr(deliver, "TIMEOUT_SECONDS", 0.5)
    with running("hang") as receiver:
        started = time.monotonic()
        spec = experiment(receiver.url)
        with outbox.atomic(store.connection):
            outbox.enqueue(store, spec, made(), ())
        assert deliver.deliver_due(store, seconds=0.9) == ()
        took = time.monotonic() - started
    assert 0.8 < took < 1.5
    assert len(receiver.got) == 2
    (message,) = outbox.waiting(store)
    assert message.problem.startswith("no answer within 0.3")


def test_the_limits_of_a_round():
    assert (deliver.TIMEOUT_SECONDS, deliver.LONGEST_SECONDS) == (5, 8)
    assert deliver.OPEN_SECONDS <= 2, "who holds the store open keeps everybody out"


def test_a_receiver_that_restarts_gets_it(store, clock):
    with running(500) as before:
        assert record(store, before.url, made())[0].status == "failed"
    clock.ahead += 3600
    assert deliver.deliver_due(store) == ()
    assert outbox.waiting(store)[0].problem == "Connection refused"
    clock.ahead += 3600
    with running(port=before.port) as after:
        assert len(deliver.deliver_due(store)) == 1
    assert ids(after) == ids(before)[:1]


def test_410_disables_the_address_until_another_one_is_given(store, clock):
    with running(410) as receiver, running() as other:
        (action,) = record(store, receiver.url, made())
        assert (action.status, len(receiver.got)) == ("failed", 1)
        assert "answered 410 Gone: it is not told any more" in action.detail
        clock.ahead += 86_400
        deliver.deliver_due(store)
        assert record(store, receiver.url, made(name="another", ident="b"))[0].status == "failed"
        assert len(receiver.got) == 1, "asked again after 410"
        (entry,) = ledger.entries(store.connection, kind="action")
        assert (entry.body["status"], "410 Gone" in entry.body["detail"]) == ("failed", True)
        assert record(store, other.url, made())[0].status == "done"
        assert ids(other) == ["msg_" + "a" * 40]
        receiver.answers[:] = [200]
        outbox.enable(store, receiver.url)
        assert deliver.deliver_due(store) == ("msg_" + "b" * 40,)


def test_a_changed_address_or_secret_goes_out_at_once(store, monkeypatch):
    with running(404) as wrong, running() as right:
        record(store, wrong.url, made())
        assert record(store, right.url, made("hold", "b")) == ()
        assert len(wrong.got) == 2
    assert ids(right) == ["msg_" + "a" * 40]


def test_a_missing_secret_keeps_the_message(store, monkeypatch):
    monkeypatch.delenv(SECRET_ENV)
    with running() as receiver:
        (action,) = record(store, receiver.url, made())
        assert action.status == "failed"
        assert "the environment variable ABTEST_TEST_SECRET is not set (export it where abtest runs)" in action.detail
        assert receiver.got == []
        assert outbox.waiting(store)[0].attempts == 0
        monkeypatch.setenv(SECRET_ENV, SECRET)
        # At once, and by whatever experiment is decided next.
        assert record(store, None, made("hold", "c", name="another")) == ()
    assert ids(receiver) == ["msg_" + "a" * 40]


def test_a_dead_address_is_asked_for_one_message_a_round_and_holds_up_no_other(store, clock):
    with running(500) as dead, running() as alive:
        for name in ("a", "b", "c"):
            record(store, dead.url, made(name=name, ident=name))
        spec = experiment(alive.url, "mine")
        outbox.enqueue(store, spec, made(name="mine", ident="m"), ())
        clock.ahead += 3600
        before = len(dead.got)
        assert deliver.deliver_due(store, first="mine") == ("msg_" + "m" * 40,)
        assert len(dead.got) == before + 2
        assert len(outbox.waiting(store)) == 3


# --- crashes -------------------------------------------------------------------------------------------------------


def test_the_ledger_and_the_outbox_are_written_together_or_not_at_all(store, monkeypatch):
    monkeypatch.setattr(outbox, "_body", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        record(store, "https://a.example", made())
    assert ledger.entries(store.connection) == []
    assert outbox.waiting(store) == []
    monkeypatch.undo()
    with outbox.atomic(store.connection):  # the transaction was ended: another one can begin
        pass


def run_and_die(script, patch):
    """Run a script in a process of its own that is killed where `patch` would be called."""
    text = f"""
        import os, signal
        from abtest.rollout import deliver, outbox
        {patch} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text) + script], env=environment, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL


def test_killed_between_delivery_and_the_note_of_it(tmp_path):
    with running() as receiver:
        with Store(tmp_path / "s.duckdb") as store, outbox.atomic(store.connection):
            outbox.enqueue(store, experiment(receiver.url), made(), ())
        run_and_die(
            f"from abtest.store.store import Store\ndeliver.deliver_due(Store({str(tmp_path / 's.duckdb')!r}))",
            "outbox.note",
        )
        with Store(tmp_path / "s.duckdb") as store:
            assert deliver.deliver_due(store) == ("msg_" + "a" * 40,)
            assert deliver.deliver_due(store) == ()
    assert ids(receiver) == ["msg_" + "a" * 40] * 2
    assert receiver.got[0].body == receiver.got[1].body


# --- decide --------------------------------------------------------------------------------------------------------


@pytest.fixture
def halting(simulated):
    """A small simulated experiment with a flag, which a person halts; the spec gets the webhook."""
    logs = simulated("refusal-regression", users=300)

    def spec(url):
        text = logs.spec.read_text()
        assert "[halt]\n" in text
        line = f'webhook = {{ url = "{url}", secret_env = "{SECRET_ENV}" }}\n'
        logs.spec.write_text(text.replace("[halt]\n", "[halt]\n" + line))
        experiment = logs.experiment()
        with logs.store() as store:
            override(store, experiment, "halt", reason="complaints", actor="kim", expires="2999-01-01T00:00:00Z")
        return experiment

    return logs, spec


def test_decide_is_killed_before_it_tells_and_the_next_one_does(halting):
    logs, spec = halting
    with running() as receiver:
        halt = spec(receiver.url)
        with logs.store() as store:
            dry = decide(store, halt, dry_run=True)
            assert [(a.actuator, a.status) for a in dry.actions] == [("flagd", "dry_run"), ("webhook", "dry_run")]
            assert outbox.waiting(store) == []
            assert ledger.entries(store.connection, kind="decision") == []
        run_and_die(
            f"from abtest.cli.main import run\nrun(['decide', {str(logs.spec)!r}, '--db', {str(logs.db)!r}])",
            "deliver.take_due",
        )
        assert receiver.got == []
        with logs.store() as store:
            assert len(outbox.waiting(store)) == 1
            second = decide(store, halt)
            assert [(a.actuator, a.status) for a in second.actions] == [("flagd", "already_done"), ("webhook", "done")]
            length = ledger.verify(store.connection)
            third = decide(store, halt)
            assert [a.status for a in third.actions] == ["already_done", "already_done"]
            assert ledger.verify(store.connection) == length
            assert "secret-path" not in json.dumps([dict(e.body) for e in ledger.entries(store.connection)])
    (got,) = receiver.got
    assert got.is_signed_by(SECRET_BYTES)
    data = json.loads(got.body)["data"]
    want = replace(second, actions=()).to_dict()
    for metric in want["metrics"]:
        del metric["series"]
    assert data == json.loads(json.dumps(want))
    assert (data["decision"], data["reason"], data["dry_run"]) == ("halt", "override", False)


def test_decide_tells_of_a_halt_that_the_flag_could_not_carry_out(halting, monkeypatch):
    logs, spec = halting

    def fail(self, request, *, dry_run=False):
        raise ActuatorError("disk full")

    monkeypatch.setattr(FlagdFile, "halt", fail)
    with running() as receiver:
        halt = spec(receiver.url)
        with logs.store() as store:
            with pytest.raises(ActuatorError, match="disk full"):
                decide(store, halt)
            assert outbox.waiting(store) == []
    assert len(receiver.got) == 1
