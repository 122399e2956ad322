"""`watch`, tick by tick: what it does when something is new, when nothing is, and when something does not work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from watch_samples import HOUR, MINUTE, Release, decisions

import abtest
from abtest.errors import SpecError, UsageError
from abtest.rollout import publish, watch_ticks
from abtest.rollout.decide import override
from abtest.spec import Experiment
from abtest.store.store import Store
from tests.cli.runner import call


@pytest.fixture
def live(tmp_path: Path) -> Release:
    return Release(tmp_path)


def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often a watch opens the store from now on."""
    times: list[int] = []

    class Counted(Store):
        def __init__(self, *args: Any, **more: Any) -> None:
            times.append(1)
            super().__init__(*args, **more)

    monkeypatch.setattr(watch_ticks, "Store", Counted)
    return times


# --- new rows, and none ------------------------------------------------------------------------------------------


def test_it_takes_decides_acts_and_publishes(live: Release) -> None:
    live.call(400, 100)
    watcher = live.watcher()
    watcher.tick()
    assert decisions(watcher) == [("promote", "all_safe")]
    assert live.weights() == {"candidate": 20, "baseline": 80}  # another system controls the traffic
    live.now_us += MINUTE
    live.call(400, 100, refused=0.6, new="v")
    watcher.tick()
    assert decisions(watcher) == [("halt", "harm")]
    assert live.weights() == {"candidate": 0, "baseline": 100}
    assert (watcher.failed_ticks, watcher.inserted) == (0, 1000)
    status = live.published()
    (row,) = status["experiments"]
    assert (status["schema"], row["decision"], row["halt"], row["exit_code"]) == (
        "abtest.status/1",
        "halt",
        "waiting",
        20,
    )
    one = publish.get(publish.folder_of(live.db), "live.json")
    assert one is not None
    assert (one["decision"]["schema"], one["analysis"]["schema"]) == ("abtest.decision/1", "abtest.analysis/1")
    assert one["decision"]["decision_id"] == row["decision_id"]
    assert [line for line in live.said if "HALT at canary 20 %: refusal_rate" in line]
    assert [e.body["decision"] for e in live.entries("decision")] == ["promote", "halt"]
    assert all(e.body["watch"] for e in live.entries("decision"))
    assert len(live.done()) == 1


def test_a_tick_without_news_opens_nothing(live: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    live.call(400, 100)
    watcher = live.watcher()
    watcher.tick()
    watcher.tick()
    times = opened(monkeypatch)
    said = len(live.said)
    for _ in range(3):
        live.now_us += MINUTE
        watcher.tick()
    assert times == []
    assert len(live.said) == said
    heart = live.published()["watch"]
    assert (heart["ticks"], heart["failed_ticks"], heart["last_tick_us"]) == (5, 0, live.now_us)
    live.call(1, 0)
    watcher.tick()
    assert times == [1]  # one opening for rows and decision


def test_the_same_said_on_new_rows_is_recorded_once_an_hour(live: Release) -> None:
    watcher = live.watcher()
    for k in range(3):
        live.call(400, 100, new=f"k{k}")
        watcher.tick()
        live.now_us += MINUTE
    (entry,) = live.entries("decision")
    live.now_us = entry.recorded_us + HOUR  # the ledger has the machine's clock
    live.call(400, 100, new="later")
    watcher.tick()
    first, second = live.entries("decision")
    assert first.decision_id != second.decision_id
    assert [e.body["decision"] for e in (first, second)] == ["promote", "promote"]


def test_the_last_decision_is_recorded_when_it_ends(live: Release) -> None:
    watcher = live.watcher()
    for k in range(2):
        live.call(400, 100, new=f"k{k}")
        watcher.tick()
    shown = watcher.specs[0].decision
    assert shown is not None
    assert len(live.entries("decision")) == 1
    watcher.close()
    assert [e.decision_id for e in live.entries("decision")][-1] == shown.decision_id
    assert live.published()["watch"]["stopped"] is True
    count = len(live.entries())
    watcher.close()
    assert len(live.entries()) == count


def test_a_new_watch_doubles_nothing(live: Release) -> None:
    live.call(400, 100, refused=0.6)
    live.watcher().tick()
    entries, flag = len(live.entries()), live.flags.read_bytes()
    again = live.watcher()
    again.tick()
    assert decisions(again) == [("halt", "harm")]
    assert again.inserted == 0
    assert (len(live.entries()), live.flags.read_bytes()) == (entries, flag)


def test_rows_after_the_halt_are_no_evidence(live: Release) -> None:
    live.call(400, 100, refused=0.6)
    watcher = live.watcher()
    watcher.tick()
    live.now_us += MINUTE
    for _ in range(3):  # everybody gets the control now, the treatment's units too
        for arm in ("baseline", "candidate"):
            live.call(100, 0, new=f"u-{arm}".replace("u-baseline", "u"))
        live.now_us += MINUTE
        watcher.tick()
    assert decisions(watcher) == [("halt", "harm")]
    assert watcher.specs[0].done is not None
    assert watcher.specs[0].done.analysis.check("contamination").status == "ok"
    assert {a.name: a.units for a in watcher.specs[0].done.analysis.arms} == {"baseline": 400, "candidate": 100}


# --- overrides, specs, clocks ------------------------------------------------------------------------------------


def test_an_override_gets_in_and_expires(live: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    live.call(400, 100)
    watcher = live.watcher()
    watcher.tick()
    monkeypatch.setattr("abtest.rollout.decide.time.time_ns", lambda: live.now_us * 1000)
    with live.store() as store:
        override(
            store, watcher.specs[0].experiment, "hold", reason="incident", actor="kim", expires="2026-11-01T00:30:00Z"
        )
    live.now_us += MINUTE
    watcher.tick()
    assert decisions(watcher) == [("hold", "override")]
    times = opened(monkeypatch)
    watcher.tick()
    assert times == []
    live.now_us += 30 * MINUTE  # it has expired: decided again though nothing is new
    watcher.tick()
    assert decisions(watcher) == [("promote", "all_safe")]
    assert times == [1]


def test_an_override_that_comes_while_messages_are_sent_is_seen(live: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    live.call(400, 100)
    watcher = live.watcher()
    monkeypatch.setattr("abtest.rollout.decide.time.time_ns", lambda: live.now_us * 1000)

    def tell(db: Path, taken: Any, experiments: Any, decisions: Any) -> Any:
        monkeypatch.setattr(watch_ticks, "tell_closed", lambda *given: given[3])
        with live.store() as store:
            override(store, experiments[0], "halt", reason="now", actor="kim", expires="2026-11-01T00:30:00Z")
        return decisions

    monkeypatch.setattr(watch_ticks, "tell_closed", tell)
    watcher.tick()
    assert decisions(watcher) == [("promote", "all_safe")]
    watcher.tick()  # no new rows
    assert decisions(watcher) == [("halt", "override")]
    assert live.weights()["candidate"] == 0


def test_a_spec_may_be_edited_and_a_bad_edit_changes_nothing(live: Release) -> None:
    live.call(2000, 500, refused=0.04)
    watcher = live.watcher()
    watcher.tick()
    first = watcher.specs[0].decision
    assert first is not None
    assert first.decision == "promote"
    live.write_spec(margin='"much"')
    for _ in range(2):
        watcher.tick()
    assert watcher.result().exit_code == 2
    assert watcher.specs[0].decision == first  # it stays in force
    heart = live.published()["watch"]
    assert (heart["failed_ticks"], heart["failing"][0]["code"]) == (2, "spec")
    live.write_spec(margin=0.001)
    watcher.tick()
    second = watcher.specs[0].decision
    assert second is not None
    assert second.policy_sha256 != first.policy_sha256
    assert second.decision == "halt"
    assert live.events() == ["failed", "policy_changed", "recovered"]
    changed = live.entries("watch")[1]
    assert changed.body["changed"] == ["metrics"]
    assert any("the policy was edited (metrics)" in line for line in live.said)
    assert live.published()["watch"]["failing"] == []
    live.write_spec(id="another")
    watcher.tick()
    assert "the id was changed" in live.published()["watch"]["failing"][0]["message"]


def test_logs_that_stop_are_told_although_the_spec_has_no_limit(live: Release) -> None:
    live.call(400, 100)
    watcher = live.watcher()
    watcher.tick()
    live.now_us += HOUR - MINUTE
    watcher.tick()
    assert decisions(watcher) == [("promote", "all_safe")]
    live.now_us += 2 * MINUTE
    watcher.tick()
    assert decisions(watcher) == [("hold", "stale")]
    assert watcher.result().exit_code == 40
    last = live.entries("decision")[-1]
    assert last.body["extra"][0]["code"] == "stale"
    assert "have stopped" in last.body["summary"]
    live.call(1, 0)
    watcher.tick()
    assert decisions(watcher) == [("promote", "all_safe")]
    assert [e.body["reason"] for e in live.entries("decision")] == ["all_safe", "stale", "all_safe"]


def test_old_logs_are_history_and_not_stale(live: Release) -> None:
    live.call(400, 100)
    live.now_us += 48 * HOUR
    watcher = live.watcher()
    for _ in range(3):
        watcher.tick()
        live.now_us += 2 * HOUR
    assert decisions(watcher) == [("promote", "all_safe")]


def test_stale_for_long_halts_where_the_policy_says_so(tmp_path: Path) -> None:
    more = '[freshness]\nmax_age = "10m"\n[policy]\non_stale = "halt"\non_stale_after = "30m"\n'
    live = Release(tmp_path, more=more)
    live.call(400, 100)
    watcher = live.watcher()
    seen = []
    for _ in range(4):
        watcher.tick()
        seen.append(decisions(watcher)[0])
        live.now_us += 11 * MINUTE
    assert seen == [("promote", "all_safe"), ("hold", "stale"), ("hold", "stale"), ("halt", "stale")]
    assert live.weights()["candidate"] == 0
    aged = [e.body["facts"]["age_seconds"] for e in live.entries("decision")]
    assert aged == [0.0, 660.0, 1980.0]


# --- dry run, publishing -----------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_be_done_once(live: Release) -> None:
    live.call(400, 100, refused=0.6)
    flag = live.flags.read_bytes()
    watcher = live.watcher(dry_run=True)
    for _ in range(3):
        watcher.tick()
        live.call(10, 2, new="v")
    watcher.close()
    assert live.flags.read_bytes() == flag
    assert [e.kind for e in live.entries()] == ["watch"]
    assert live.events() == ["would_halt"]
    (row,) = live.published()["experiments"]
    assert (row["decision"], live.published()["watch"]["dry_run"]) == ("halt", True)


# --- the command and the function --------------------------------------------------------------------------------


def test_the_command_prints_one_object(live: Release, capsys: pytest.CaptureFixture[str]) -> None:
    live.call(400, 100, refused=0.6)
    more = ("--db", live.db, "--every", "50ms", "--max-ticks", "2")
    result = call(capsys, "watch", live.spec, "--logs", live.logs, *more, "--json")
    assert result.code == 20
    data = result.json
    assert (data["schema"], data["ticks"], data["failed_ticks"], data["last_error"]) == ("abtest.watch/1", 2, 0, None)
    assert data["decisions"][0]["schema"] == "abtest.decision/1"
    assert "HALT" in result.err
    elsewhere = live.folder / "elsewhere"
    again = call(capsys, "watch", live.spec, "--logs", live.logs, *more, "--exit-zero", "--publish", elsewhere)
    assert again.code == 0
    assert again.out.splitlines()[-1].startswith("live: HALT at canary 20 %")
    status = call(capsys, "status", "--db", live.db)
    assert "HALT" in status.out
    assert "watch was stopped" in status.out
    there = call(capsys, "status", "--db", live.db, "--published", elsewhere, "--json").json
    assert (there["watch"]["inserted"], there["watch"]["state"], there["source"]) == (0, "stopped", "store")
    assert call(capsys, "verify", "--db", live.db).code == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--every", "soon"), "is no time"),
        (("--every", "1ms"), "too short"),
        (("--logs", "-"), "stdin cannot be watched"),
        (("--redact", "--keep-text"), "exclude each other"),
        (("--max-ticks", "0"), "max-ticks"),
    ],
)
def test_wrong_calls(live: Release, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], words: str) -> None:
    logs = () if "--logs" in argv else ("--logs", live.logs)
    result = call(capsys, "watch", live.spec, *logs, "--db", live.db, *argv)
    assert result.code == 2
    assert words in result.err
    assert not live.db.exists()


def test_privacy_options_are_those_of_ingest(
    live: Release, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABTEST_UNIT_KEY", "k" * 40)
    live.call(400, 100)
    call(capsys, "watch", live.spec, "--logs", live.logs, "--db", live.db, "--max-ticks", "1", "--hash-units")
    with live.store() as store:
        rows = store.connection.execute(
            "select count(*), count(*) filter (where unit_id like 'u-%') from interaction"
        ).fetchone()
    assert rows == (500, 0)


def test_a_bad_spec_or_the_same_one_twice_is_refused_at_the_start(live: Release) -> None:
    with pytest.raises(UsageError, match="is there twice"):
        live.watcher(live)
    with pytest.raises(SpecError, match="no such file"):
        abtest.watch(live.folder / "missing.toml", live.logs, db=live.db, max_ticks=1)
    two = Experiment.from_toml(live.spec).model_copy(update={"treatments": ["candidate", "other"]})
    with pytest.raises(SpecError, match="exactly one treatment"):
        abtest.watch(two, live.logs, db=live.db, max_ticks=1)
    with pytest.raises(UsageError, match="at least one spec"):
        abtest.watch([], live.logs, db=live.db, max_ticks=1)


def test_watch_in_python(live: Release) -> None:
    live.call(400, 100, refused=0.6)
    lines: list[str] = []
    result = abtest.watch(
        Experiment.from_toml(live.spec), str(live.logs), db=live.db, every=0.05, max_ticks=2, tell=lines.append
    )
    assert (result.ticks, result.inserted, result.exit_code) == (2, 500, 20)
    assert "HALT" in lines[0]
    assert result.to_polars().height == 1
    assert "refusal_rate" in result._repr_html_()
    assert "HALT" in repr(result)
    assert list((live.folder / "s.duckdb.published").iterdir())


def test_logs_that_come_later(live: Release) -> None:
    watcher = live.watcher()
    watcher.tick()
    assert decisions(watcher) == [("hold", "no_data")]
    live.call(400, 100)
    watcher.tick()
    assert decisions(watcher) == [("promote", "all_safe")]
