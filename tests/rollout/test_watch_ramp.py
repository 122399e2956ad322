"""The ramp as `watch` climbs it: the next share is written when a stage is done, each stage has its own clock, no crash loses one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from watch_samples import HOUR, MINUTE, Release, decisions

from abtest.errors import ActuatorError
from abtest.rollout import act
from abtest.rollout.actuators.flagd import FlagdFile
from abtest.rollout.decide import allocation_history, decide, override
from abtest.spec import Experiment

RAMP = """
[[ramp]]
stage = "canary"
share = 0.1
min_hours = 2
min_units = 50
[[ramp]]
stage = "canary"
share = 0.2
min_hours = 2
min_units = 50
[[ramp]]
stage = "ab"
share = 0.5
min_hours = 2
min_units = 50
[traffic]
control = "abtest"
"""


@pytest.fixture
def live(tmp_path: Path) -> Release:
    return Release(tmp_path, ramp=RAMP, share=10)


def hour(live: Release, tag: object, share: int) -> None:
    """An hour of traffic that the flag splits as it says now: new units, harmless."""
    live.now_us += MINUTE
    live.call(6 * (100 - share), 6 * share, new=f"h{tag}")
    live.now_us += HOUR - MINUTE


def history(live: Release) -> list[tuple[int, float]]:
    with live.store() as store:
        from abtest.store import ledger

        return allocation_history(ledger.entries(store.connection, experiment="live", revision=1))


def share_notes(live: Release) -> list[tuple[float, str]]:
    return [(e.body["share"], e.body["status"]) for e in live.entries("action") if "share" in e.body]


def test_every_stage_bakes_by_its_own_clock_and_is_widened_once(live: Release) -> None:
    watcher = live.watcher()
    seen: list[tuple[int, str, str, int]] = []
    for tag in range(7):
        share = live.weights()["candidate"]
        hour(live, tag, share)
        watcher.tick()
        decision = watcher.specs[0].decision
        assert decision is not None
        seen.append((share, decision.stage.label, decision.decision, live.weights()["candidate"]))
        assert watcher.failed_ticks == 0
    stages = [label for _, label, _, _ in seen]
    assert sorted(set(stages), key=stages.index) == ["canary 10 %", "canary 20 %", "A/B 50 %"]
    for label, after in (("canary 10 %", 20), ("canary 20 %", 50)):
        own = [(decision, weight) for _, stage, decision, weight in seen if stage == label]
        # Held until the stage's own two hours are over, then promoted, and the flag says the next share.
        assert [d for d, _ in own] == ["hold", "hold", "promote"]
        assert own[-1][1] == after
    assert [share for share, status in share_notes(live) if status == "done"] == [0.2, 0.5]
    (start, first), (_, second), (_, third) = history(live)
    assert (start, first, second, third) == (0, 0.1, 0.2, 0.5)
    baked = [e for e in live.entries("decision") if e.body["decision"] == "promote"]
    assert all(e.body["facts"]["stage_hours"] >= 2 for e in baked)
    # All stages are compared one by one, nothing is pooled, and the split is what the ledger says.
    assert watcher.specs[0].done is not None
    analysis = watcher.specs[0].done.analysis
    assert analysis.check("sample_ratio").status == "ok"
    assert [s["share"] for s in analysis.metric("refusal_rate").stages] == [0.1, 0.2, 0.5]


def promoted(live: Release) -> Any:
    """A first stage that is done: two hours of rows, decided by nobody yet."""
    for tag in range(3):
        hour(live, tag, 10)
    return live.watcher()


def test_until_rows_of_the_new_stage_come_nothing_is_widened_again(live: Release) -> None:
    watcher = promoted(live)
    watcher.tick()
    assert live.weights()["candidate"] == 20
    written = live.flags.read_bytes()
    for k in range(3):  # rows from before the change come late: the old stage is promoted on other evidence
        live.call(9, 1, at_us=live.now_us - HOUR, new=f"late{k}")
        watcher.tick()
    assert decisions(watcher) == [("promote", "all_safe")]
    assert live.flags.read_bytes() == written
    assert share_notes(live) == [(0.2, "begun"), (0.2, "done")]


class DiedError(BaseException):
    """Stands for kill -9."""


def die_after_the_flag(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    real = getattr(FlagdFile, method)

    def change(self: Any, request: Any, *, dry_run: bool = False) -> Any:
        outcome = real(self, request, dry_run=dry_run)
        if not dry_run:
            raise DiedError
        return outcome

    monkeypatch.setattr(FlagdFile, method, change)


def die_before_the_flag(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    real = getattr(FlagdFile, method)

    def change(self: Any, request: Any, *, dry_run: bool = False) -> Any:
        if not dry_run:
            raise DiedError
        return real(self, request, dry_run=True)

    monkeypatch.setattr(FlagdFile, method, change)


def test_a_crash_between_flag_and_note_keeps_the_history(live: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = promoted(live)
    with monkeypatch.context() as patch:
        die_after_the_flag(patch, "set_share")
        with pytest.raises(DiedError):
            watcher.tick()
    assert live.weights()["candidate"] == 20
    assert share_notes(live) == [(0.2, "begun")]
    at = live.now_us
    assert [share for _, share in history(live)] == [0.1, 0.2]  # known although nobody noted the end
    hour(live, "a", 20)
    hour(live, "b", 20)
    again = live.watcher()
    again.tick()
    assert share_notes(live) == [(0.2, "begun"), (0.2, "done")]
    decision = again.specs[0].decision
    assert decision is not None
    assert (decision.stage.label, decision.reason) == ("canary 20 %", "baking")
    assert at <= history(live)[1][0] < at + MINUTE
    assert live.weights()["candidate"] == 20


def test_a_crash_before_the_flag_is_no_change(live: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = promoted(live)
    with monkeypatch.context() as patch:
        die_before_the_flag(patch, "set_share")
        with pytest.raises(DiedError):
            watcher.tick()
    assert live.weights()["candidate"] == 10
    live.call(540, 60, refused=0.9, new="bad")  # what comes next is no reason to widen
    again = live.watcher()
    again.tick()
    assert share_notes(live) == [(0.2, "begun"), (0.2, "dropped")]
    assert [share for _, share in history(live)] == [0.1]
    assert decisions(again) == [("halt", "harm")]
    assert live.weights()["candidate"] == 0


def test_a_crash_before_the_flag_and_the_same_evidence_promotes(live: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = promoted(live)
    with monkeypatch.context() as patch:
        die_before_the_flag(patch, "set_share")
        with pytest.raises(DiedError):
            watcher.tick()
    live.watcher().tick()
    assert live.weights()["candidate"] == 20
    assert share_notes(live) == [(0.2, "begun"), (0.2, "dropped"), (0.2, "begun"), (0.2, "done")]
    assert [share for _, share in history(live)] == [0.1, 0.2]


@pytest.mark.parametrize("moment", [die_after_the_flag, die_before_the_flag])
def test_a_crash_around_a_halt_is_noted_once(live: Release, monkeypatch: pytest.MonkeyPatch, moment: Any) -> None:
    live.call(540, 60, refused=0.9)
    with monkeypatch.context() as patch:
        moment(patch, "halt")
        with pytest.raises(DiedError):
            live.watcher().tick()
    for _ in range(2):
        live.watcher().tick()
    notes = live.entries("action")
    assert [e.body["status"] for e in notes] == ["begun", "done"]
    assert notes[0].body["original"]["targeting"]["fractional"][1] == ["candidate", 10]
    assert live.weights()["candidate"] == 0
    assert [e.body["decision"] for e in live.entries("decision")] == ["halt"]


def test_an_override_promotes_by_one_stage_however_long_it_stands(
    live: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = live.watcher()
    hour(live, "a", 10)
    watcher.tick()
    monkeypatch.setattr("abtest.rollout.decide.time.time_ns", lambda: live.now_us * 1000)
    with live.store() as store:
        override(
            store, watcher.specs[0].experiment, "promote", reason="known", actor="kim", expires="2026-11-30T00:00:00Z"
        )
    for tag in range(3):
        watcher.tick()
        hour(live, f"o{tag}", live.weights()["candidate"])
    assert decisions(watcher) == [("promote", "override")]
    assert live.weights()["candidate"] == 20
    assert [share for share, status in share_notes(live) if status == "done"] == [0.2]


def test_deciding_at_an_earlier_moment_does_not_narrow_the_split(live: Release) -> None:
    watcher = promoted(live)
    watcher.tick()
    first = live.now_us
    for tag in range(3):
        hour(live, f"b{tag}", 20)
    watcher.tick()
    assert live.weights()["candidate"] == 50
    with live.store() as store:
        early = decide(store, Experiment.from_toml(live.spec), as_of_us=first)
    assert [(a.actuator, a.status) for a in early.actions] == [("flagd", "already_done")]
    assert live.weights()["candidate"] == 50


def test_a_dry_run_widens_nothing(live: Release) -> None:
    promoted(live)
    watcher = live.watcher(dry_run=True)
    watcher.tick()
    decision = watcher.specs[0].decision
    assert decision is not None
    assert [(decision.decision, a.status) for a in decision.actions] == [("promote", "dry_run")]
    assert live.weights()["candidate"] == 10
    assert live.entries() == []


def test_settling_waits_for_a_flag_file_that_cannot_be_read(live: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = promoted(live)
    with monkeypatch.context() as patch:
        die_after_the_flag(patch, "set_share")
        with pytest.raises(DiedError):
            watcher.tick()
    kept = live.flags.read_bytes()
    live.flags.write_text("{")
    with live.store() as store:
        from abtest.store import ledger

        spec = Experiment.from_toml(live.spec)
        past = ledger.entries(store.connection)
        assert act.settle(store, spec, past) == past
        with pytest.raises(ActuatorError):
            decide(store, spec)
    assert share_notes(live) == [(0.2, "begun")]
    live.flags.write_bytes(kept)
    live.watcher().tick()
    assert share_notes(live)[-1] == (0.2, "done")
    assert json.loads(live.flags.read_text())["flags"]["support-model"]["targeting"]["fractional"][1][1] == 20
