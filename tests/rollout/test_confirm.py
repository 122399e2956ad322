"""A halt is confirmed by the logs: the treatment falls silent while control goes on, or somebody is told loudly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from watch_samples import MINUTE, Release, decisions

from abtest.rollout.confirm import units_needed
from abtest.rollout.watch_ticks import Watcher
from tests.rollout.webhook_receiver import SECRET, SECRET_ENV, running

SECOND = 10**6


def halted(live: Release) -> Watcher:
    """Return a watch that has just halted; the flag was changed at `live.now_us` or a moment later."""
    live.call(400, 100, refused=0.6)
    watcher = live.watcher()
    watcher.tick()
    assert decisions(watcher) == [("halt", "harm")]
    return watcher


def confirmations(live: Release) -> list[dict[str, Any]]:
    return [dict(e.body) for e in live.entries("watch") if e.body["event"].startswith("halt_")]


def codes(watcher: Watcher) -> dict[str, str]:
    decision = watcher.specs[0].decision
    assert decision is not None
    return {f.code: f.severity for f in decision.findings}


@pytest.fixture
def live(tmp_path: Path) -> Release:
    return Release(tmp_path)


@pytest.mark.parametrize(("share", "units"), [(0.01, 459), (0.05, 90), (0.2, 21), (0.5, 7), (None, 100)])
def test_how_many_units_are_no_chance(share: float | None, units: int) -> None:
    assert units_needed(share) == units
    if share is not None:
        assert (1 - share) ** units <= 0.01 < (1 - share) ** (units - 1)


def test_silence_is_claimed_when_enough_control_follows(live: Release) -> None:
    watcher = halted(live)
    start = live.now_us
    live.call(40, 10, at_us=start + 3 * SECOND)  # clients that had not reloaded yet
    live.call(20, 0, at_us=start + 10 * SECOND, new="w")  # 21 are asked for at 20 %
    live.now_us = start + MINUTE
    watcher.tick()
    assert confirmations(live) == []
    assert live.published()["experiments"][0]["halt"] == "waiting"
    live.call(21, 0, at_us=start + 20 * SECOND, new="w")
    watcher.tick()
    (seen,) = confirmations(live)
    assert (seen["event"], seen["control_units"], seen["needed"]) == ("halt_confirmed", 21, 21)
    assert 2 < seen["seconds"] < 3  # from the flag file, which was written a moment after `start`
    assert codes(watcher)["halt_confirmed"] == "info"
    assert watcher.result().exit_code == 20
    assert any("HALT CONFIRMED, traffic of candidate stopped 2." in line for line in live.said)
    assert live.published()["experiments"][0]["halt"] == "halt_confirmed"
    # Once in the ledger, whoever looks again.
    live.call(50, 0, at_us=start + 30 * SECOND, new="x")
    watcher.tick()
    live.watcher().tick()
    assert len(confirmations(live)) == 1


def test_no_call_at_all_after_the_halt(live: Release) -> None:
    watcher = halted(live)
    live.now_us += MINUTE
    live.call(30, 0, new="w")
    watcher.tick()
    (seen,) = confirmations(live)
    assert (seen["event"], seen["seconds"]) == ("halt_confirmed", 0.0)


def test_silence_of_everybody_proves_nothing(live: Release) -> None:
    watcher = halted(live)
    live.now_us += 30 * MINUTE
    watcher.tick()
    assert confirmations(live) == []
    assert "halt_confirmed" not in codes(watcher)


def test_traffic_that_goes_on_is_loud_and_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_ENV, SECRET)
    with running() as receiver:
        webhook = f'webhook = {{ url = "{receiver.url}", secret_env = "{SECRET_ENV}" }}\nconfirm_within = "2m"'
        live = Release(tmp_path, halt=webhook)
        watcher = halted(live)
        for _ in range(4):
            live.now_us += MINUTE
            live.call(80, 20, new="w")
            watcher.tick()
        (seen,) = confirmations(live)
        assert seen["event"] == "halt_not_effective"
        assert 120 < seen["seconds"] < 180  # the first look after the grace
        assert codes(watcher)["halt_not_effective"] == "critical"
        decision = watcher.specs[0].decision
        assert decision is not None
        assert decision.summary.startswith("HALT IS NOT EFFECTIVE: candidate still gets traffic")
        assert watcher.result().exit_code == 20
        assert live.published()["experiments"][0]["halt"] == "halt_not_effective"
        events = [json.loads(got.body) for got in receiver.got]
        assert [e["type"] for e in events] == ["abtest.experiment.halted", "abtest.experiment.halt_not_effective"]
        assert len({got.id for got in receiver.got}) == 2
        assert "halt_not_effective" in [f["code"] for f in events[1]["data"]["findings"]]
        # Somebody stopped it by hand: it takes silence as long as the grace to believe it.
        live.now_us += MINUTE
        live.call(80, 0, new="x")
        watcher.tick()
        assert len(confirmations(live)) == 1
        live.now_us += 2 * MINUTE
        live.call(80, 0, new="y")
        watcher.tick()
    assert [c["event"] for c in confirmations(live)] == ["halt_not_effective", "halt_confirmed"]
    assert len(receiver.got) == 2
    assert "halt_not_effective" not in codes(watcher)


def test_traffic_that_comes_back_undoes_the_confirmation(live: Release) -> None:
    watcher = halted(live)
    live.now_us += MINUTE
    live.call(30, 0, new="w")
    watcher.tick()
    live.call(1, 1, at_us=live.now_us - 30 * SECOND, new="x")  # a row that comes late, from before it was confirmed
    live.now_us += MINUTE
    watcher.tick()
    assert [c["event"] for c in confirmations(live)] == ["halt_confirmed"]
    live.call(1, 1, new="y")
    watcher.tick()
    assert [c["event"] for c in confirmations(live)] == ["halt_confirmed", "halt_not_effective"]


def test_a_slow_stop_seen_late_is_a_stop(live: Release) -> None:
    """The watch was away for an hour: the last call came after the grace, but an hour of control has followed."""
    halted(live)
    start = live.now_us
    live.call(40, 10, at_us=start + 6 * MINUTE, new="w")
    live.call(100, 0, at_us=start + 60 * MINUTE, new="x")
    live.now_us = start + 60 * MINUTE
    live.watcher().tick()
    (seen,) = confirmations(live)
    assert seen["event"] == "halt_confirmed"
    assert 358 < seen["seconds"] < 360


def test_calls_that_do_not_count_are_no_traffic(live: Release) -> None:
    """Mirrored calls that nobody saw, embeddings, and other experiments say nothing about the halt."""
    watcher = halted(live)
    live.now_us += 10 * MINUTE
    live.call(30, 10, new="w", exposed=False)
    live.call(30, 10, new="w", operation="embeddings")
    live.call(30, 10, new="w", experiment_id="another")
    watcher.tick()
    assert confirmations(live) == []
    live.call(30, 0, new="w")
    watcher.tick()
    assert [(c["event"], c["seconds"]) for c in confirmations(live)] == [("halt_confirmed", 0.0)]


def test_an_assignment_from_before_the_halt_says_nothing_about_after_it(live: Release) -> None:
    """Logs whose calls carry no variant: what a unit was assigned a week ago is not what it is given now."""
    at = "2026-11-01T00:00:00+00:00"
    rows = []
    for arm, count in (("baseline", 400), ("candidate", 100)):
        for n in range(count):
            unit = f"{arm}-{n}"
            rows.append({"type": "assignment", "experiment_id": "live", "unit_id": unit, "variant": arm, "ts": at})
            refused = arm == "candidate" and n < 60
            rows.append({"interaction_id": f"c-{unit}", "ts": at, "model": "m", "unit_id": unit, "refused": refused})
    (live.logs / "assigned.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    watcher = live.watcher()
    watcher.tick()
    assert decisions(watcher) == [("halt", "harm")]
    live.now_us += 10 * MINUTE
    after = "2026-11-01T00:10:00+00:00"
    late = [
        {"interaction_id": f"late-{n}", "ts": after, "model": "m", "unit_id": f"candidate-{n}", "refused": False}
        for n in range(50)
    ]
    (live.logs / "late.jsonl").write_text("".join(json.dumps(r) + "\n" for r in late))
    watcher.tick()
    assert confirmations(live) == []
    new = [
        {"type": "assignment", "experiment_id": "live", "unit_id": f"candidate-{n}", "variant": "baseline", "ts": after}
        for n in range(50)
    ]
    calls = [
        {"interaction_id": f"new-{n}", "ts": "2026-11-01T00:11:00+00:00", "model": "m", "unit_id": f"candidate-{n}"}
        for n in range(50)
    ]
    (live.logs / "new.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [*new, *calls]))
    live.now_us += MINUTE
    watcher.tick()
    assert [c["event"] for c in confirmations(live)] == ["halt_confirmed"]


def test_an_override_that_lifts_the_halt_ends_the_watching(live: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    from abtest.rollout.decide import override

    watcher = halted(live)
    monkeypatch.setattr("abtest.rollout.decide.time.time_ns", lambda: live.now_us * 1000)
    with live.store() as store:
        override(
            store, watcher.specs[0].experiment, "promote", reason="known", actor="kim", expires="2026-11-02T00:00:00Z"
        )
    live.now_us += 10 * MINUTE
    live.call(80, 20, new="w")
    watcher.tick()
    assert decisions(watcher) == [("promote", "override")]
    assert confirmations(live) == []
