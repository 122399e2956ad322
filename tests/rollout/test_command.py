"""The command hook: no shell, the decision on stdin, a time limit, and never again once it has ended with 0."""

from __future__ import annotations

import inspect
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from watch_samples import Release

from abtest.errors import ActuatorError, SpecError
from abtest.rollout import deliver, outbox
from abtest.rollout.actuators import actuator_types
from abtest.rollout.actuators.base import Actuator, HaltRequest, TrafficActuator
from abtest.rollout.actuators.command import CommandHook
from abtest.rollout.actuators.webhook import Message
from abtest.rollout.decide import decide
from abtest.spec import Experiment
from abtest.store import ledger
from tests.cli.runner import call

REQUEST = HaltRequest("swap", 1, "d" * 64, "p" * 64, "baseline", ("candidate",))
MESSAGE = Message("cmd_1", json.dumps({"type": "abtest.experiment.halted", "data": {"decision": "halt"}}))


def script(folder: Path, body: str, name: str = "hook.sh", *, mode: int = 0o755) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(mode)
    return path


def hook(folder: Path, *argv: str, timeout: float = 5.0) -> CommandHook:
    return CommandHook(argv or ("./hook.sh",), timeout, folder)


# --- the registry -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(actuator_types()))
def test_every_actuator_can_be_dry_run_and_says_what_it_would_do(name: str, tmp_path: Path) -> None:
    """The contract of the registry, on a real target of each; a dry run leaves the folder as it was."""
    flags = tmp_path / "flags.json"
    variants = {"baseline": "a", "candidate": "b"}
    split = {"fractional": [["candidate", 5], ["baseline", 95]]}
    flag = {"state": "ENABLED", "variants": variants, "defaultVariant": "baseline", "targeting": split}
    flags.write_text(json.dumps({"flags": {"k": flag}}))
    script(tmp_path, "touch ran")
    options: dict[str, dict[str, Any]] = {
        "flagd": {"path": flags, "key": "k"},
        "webhook": {"url": "https://hooks.example.com/x", "secret_env": "ABTEST_NO_SUCH_SECRET"},
        "command": {"argv": ("./hook.sh",), "timeout": 5.0, "folder": tmp_path},
    }
    assert set(options) == set(actuator_types()), "a new actuator: say here how one is made"
    made = actuator_types()[name](**options[name])
    assert isinstance(made, Actuator)
    assert isinstance(made, TrafficActuator) == (name == "flagd")
    assert "Raises:" in (type(made).check.__doc__ or "")
    assert list(inspect.signature(made.halt).parameters) == ["request", "dry_run"]
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    action = made.halt(REQUEST, dry_run=True).action
    assert (action.actuator, action.status) == (name, "dry_run")
    assert action.detail.startswith("would ")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


# --- one start -----------------------------------------------------------------------------------------------------


def test_it_gets_the_decision_and_the_event(tmp_path: Path) -> None:
    script(tmp_path, 'cat > got.json; echo "$ABTEST_EVENT $ABTEST_EVENT_ID $1 $2" > env; pwd > where; echo noise')
    answer = hook(tmp_path, "./hook.sh", "$HOME; touch x", "a b").send(MESSAGE)
    assert answer.outcome == "accepted"
    assert answer.detail.startswith("exit status 0 after 0.")
    assert json.loads((tmp_path / "got.json").read_text()) == {"decision": "halt"}
    # No shell ever saw the arguments.
    assert (tmp_path / "env").read_text() == "abtest.experiment.halted cmd_1 $HOME; touch x a b\n"
    assert (tmp_path / "where").read_text().strip() == str(tmp_path.resolve())


def test_a_large_decision_that_nobody_reads_keeps_nobody_waiting(tmp_path: Path) -> None:
    script(tmp_path, "exit 0")
    body = json.dumps({"type": "t", "data": {"text": "x" * 2_000_000}})
    assert hook(tmp_path).send(Message("cmd_1", body)).outcome == "accepted"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("echo first >&2; echo 'no route to host' >&2; exit 3", "exit status 3 after 0.0 s: no route to host"),
        ("exit 1", "exit status 1 after 0.0 s"),
        ("kill -TERM $$", "ended by signal 15 after 0.0 s"),
        ("printf 'a\\033[31m\\n\\n' >&2; exit 9", "exit status 9 after 0.0 s: a?[31m"),
    ],
)
def test_what_fails_is_told_with_status_and_last_words(tmp_path: Path, body: str, detail: str) -> None:
    script(tmp_path, body)
    answer = hook(tmp_path).send(MESSAGE)
    assert answer.outcome == "failed"
    assert answer.detail.replace("0.1 s", "0.0 s").replace("0.2 s", "0.0 s") == detail


def test_after_its_time_it_is_ended_with_all_it_has_started(tmp_path: Path) -> None:
    script(tmp_path, "sleep 60 & echo $! > child; sleep 60")
    started = time.monotonic()
    answer = hook(tmp_path, timeout=0.4).send(MESSAGE)
    assert time.monotonic() - started < 3
    assert (answer.outcome, answer.detail) == ("failed", "did not end within 0.4 s and was ended")
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.02)
    else:
        pytest.fail("the child goes on")


def test_a_child_that_stays_behind_does_not_hold_it_up(tmp_path: Path) -> None:
    script(tmp_path, "sleep 5 & exit 0")
    started = time.monotonic()
    assert hook(tmp_path).send(MESSAGE).outcome == "accepted"
    assert time.monotonic() - started < 3


def test_a_program_that_is_not_there_or_may_not_run(tmp_path: Path) -> None:
    with pytest.raises(ActuatorError, match=r"no such program: './hook.sh' \(argv = "):
        hook(tmp_path).check()
    script(tmp_path, "exit 0", mode=stat.S_IRUSR)
    with pytest.raises(ActuatorError, match=r"may not be executed: './hook.sh' \(chmod \+x\)"):
        hook(tmp_path).check()
    with pytest.raises(ActuatorError, match="no such program: 'abtest-no-such-program'"):
        hook(tmp_path, "abtest-no-such-program").send(MESSAGE)
    assert "no such program" in hook(tmp_path, "./other.sh").would_tell()
    assert hook(tmp_path, "sh").check() == ()
    (tmp_path / "text").write_text("no script")
    (tmp_path / "text").chmod(0o755)
    assert "could not be started: Exec format error" in hook(tmp_path, "./text").send(MESSAGE).detail


def test_halt_starts_it_once_and_says_what_failed(tmp_path: Path) -> None:
    script(tmp_path, "cat > got.json")
    assert hook(tmp_path).halt(REQUEST).action.status == "done"
    assert json.loads((tmp_path / "got.json").read_text())["decision_id"] == "d" * 64
    script(tmp_path, "exit 4")
    with pytest.raises(ActuatorError, match="exit status 4"):
        hook(tmp_path).halt(REQUEST)


# --- the spec ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ({"argv": []}, "argv"),
        ({"argv": ["  "]}, "the program is empty"),
        ({"argv": "./hook.sh"}, "argv"),
        ({"argv": ["a\0b"]}, "zero byte"),
        ({"argv": ["x"], "timeout": "0s"}, "at most 60 seconds"),
        ({"argv": ["x"], "timeout": "2m"}, "at most 60 seconds"),
        ({"argv": ["x"], "timeout": 5}, "timeout"),
        ({"argv": ["x"], "shell": True}, "shell"),
        ({}, "argv"),
    ],
)
def test_the_spec_refuses_what_cannot_be_started(live: Release, command: dict[str, Any], words: str) -> None:
    data = Experiment.from_toml(live.spec).model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    with pytest.raises(SpecError, match=words):
        Experiment.from_dict({**data, "halt": {"command": command}})


def test_the_command_is_no_part_of_the_policy(tmp_path: Path) -> None:
    plain = Experiment.from_toml(Release(tmp_path).spec)
    told = Experiment.from_toml(Release(tmp_path, halt='command = { argv = ["./x"] }\nconfirm_within = "1m"').spec)
    assert plain.policy_sha256() == told.policy_sha256()
    assert told.halt.command is not None
    assert (told.halt.command.timeout, told.halt.confirm_within, plain.halt.confirm_within) == ("10s", "1m", "5m")


# --- through the outbox --------------------------------------------------------------------------------------------

COUNTING = 'cat > "got-$(ls | grep -c ^got)-$ABTEST_EVENT_ID.json"'


@pytest.fixture
def live(tmp_path: Path) -> Release:
    made = Release(tmp_path, halt='command = { argv = ["./hook.sh"], timeout = "2s" }')
    made.call(400, 100, refused=0.6)
    return made


def got(live: Release) -> list[Path]:
    return sorted(live.folder.glob("got-*.json"))


def test_a_halt_is_told_to_the_command_once(live: Release, capsys: pytest.CaptureFixture[str]) -> None:
    script(live.folder, COUNTING)
    watcher = live.watcher()
    watcher.tick()
    decision = watcher.specs[0].decision
    assert decision is not None
    assert [(a.actuator, a.status) for a in decision.actions] == [("flagd", "done"), ("command", "done")]
    (one,) = got(live)
    data = json.loads(one.read_text())
    assert (data["schema"], data["decision"], data["decision_id"]) == (
        "abtest.decision/1",
        "halt",
        decision.decision_id,
    )
    assert decision.decision_id[:40] in one.name
    live.call(400, 100, refused=0.6, new="v")
    watcher.tick()
    again = call(capsys, "decide", live.spec, "--db", live.db, "--json")
    assert [(a["actuator"], a["status"]) for a in again.json["actions"]][-1] == ("command", "already_done")
    assert len(got(live)) == 1
    (entry,) = [e for e in live.entries("action") if e.body["actuator"] == "command"]
    assert "exit status 0" in entry.body["detail"]


def test_a_command_that_fails_is_tried_again_until_it_works(live: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    script(live.folder, f"{COUNTING}; echo 'pager is down' >&2; exit 7")
    watcher = live.watcher()
    watcher.tick()
    assert live.weights()["candidate"] == 0  # the flag never waits for it
    assert len(got(live)) == 1
    (failing,) = live.published()["watch"]["failing"]
    assert failing["scope"] == "@messages"
    assert "command ./hook.sh was not told: exit status 7" in failing["message"]
    watcher.tick()
    assert live.published()["watch"]["failing"] == [failing]  # it lasts, though nothing is tried in this tick
    script(live.folder, COUNTING)
    ahead = 20 * 10**6
    monkeypatch.setattr(outbox, "_now_us", lambda: time.time_ns() // 1000 + ahead)
    live.now_us = time.time_ns() // 1000 + ahead
    watcher.tick()
    assert len({p.name.split("-", 2)[2] for p in got(live)}) == 1  # the same id
    assert len(got(live)) == 2
    live.now_us += 10 * 60 * 10**6
    watcher.tick()
    assert len(got(live)) == 2
    assert live.published()["watch"]["failing"] == []
    assert live.events() == ["failed", "recovered"]
    assert [e.body["attempts"] for e in live.entries("action") if e.body["actuator"] == "command"] == [2]


def test_what_stands_in_a_store_is_never_started(live: Release, tmp_path: Path) -> None:
    """A command comes from a spec that was read: a store from somebody else, or another experiment, starts nothing."""
    script(live.folder, COUNTING)
    with live.store() as store:
        store.ingest(live.logs)
        spec = Experiment.from_toml(live.spec)
        decision = decide(store, spec, deliver=False)
        assert decision.decision == "halt"
        assert len(outbox.waiting(store)) == 1
        assert "hook.sh" not in str(store.connection.execute("select * from outbox").fetchall())
        other = Experiment.from_dict(
            {**spec.model_dump(mode="json", exclude={"halt"}, exclude_defaults=True), "id": "other"}
        )
        assert deliver.deliver_due(store, [other]) == ()
        assert got(live) == []
        assert len(deliver.deliver_due(store, [spec])) == 1
        assert len(got(live)) == 1
        ledger.verify(store.connection)


def test_a_killed_round_is_made_again_after_its_lease(live: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    script(live.folder, COUNTING)
    spec = Experiment.from_toml(live.spec)
    with live.store() as store:
        store.ingest(live.logs)
        decide(store, spec, deliver=False)
        taken = deliver.take_due(store, [spec])
        assert len(taken) == 1
        assert deliver.take_due(store, [spec]) == []  # somebody else does not send it meanwhile
    # Here the process is killed. Later another one looks.
    monkeypatch.setattr(outbox, "_now_us", lambda: time.time_ns() // 1000 + 60 * 10**6)
    with live.store() as store:
        assert len(deliver.deliver_due(store, [spec])) == 1
    assert len(got(live)) == 1
    assert os.access(live.folder / "hook.sh", os.X_OK)
