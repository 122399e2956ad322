"""The line that everybody reads: verdict in words, since when, what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import report_samples as samples

from abtest.report.context import Context
from abtest.report.headline import headline
from abtest.report.model import Entry, Headline
from abtest.results import Action, Decision, Finding


def line(entry: Entry) -> Headline:
    return headline(Context(entry), "e1")


def changed(entry: Entry, **fields) -> Entry:
    assert entry.decision is not None
    return replace(entry, decision=replace(entry.decision, **fields))


def test_a_halt_that_was_carried_out():
    shown = line(samples.halted())
    assert (shown.words, shown.tone, shown.stage) == ("Stopped", "bad", "canary 5 %")
    assert shown.since == samples.hour(32)  # the first halt of the unbroken run, not the latest
    assert shown.why == "HALT at canary 5 %: refusal_rate +3.1 pp [+1.9, +4.6] is past its margin of +1 pp"
    assert shown.todo == (
        "The stop was carried out (flag, webhook). Make sure that candidate gets no more traffic. "
        "Mend it and start a new revision; this one stays stopped."
    )


@pytest.mark.parametrize(
    ("actions", "words", "todo"),
    [
        ((), "Stopped", "Make sure that candidate gets no more traffic."),
        ((Action("flagd", "failed"),), "Stop did not work", "Take candidate out of traffic by hand now: flagd failed."),
        ((Action("flagd", "done"), Action("webhook", "failed")), "Stopped", "webhook failed: tell who must know."),
    ],
)  # fmt: skip
def test_a_halt_says_what_was_done(actions, words, todo):
    shown = line(changed(samples.halted(), actions=actions))
    assert shown.words == words
    assert todo in shown.todo


def test_a_halt_without_effect_is_loud():
    finding = Finding("halt_not_effective", "critical", None, "candidate still has 120 calls an hour")
    shown = line(changed(samples.halted(), findings=(finding,)))
    assert (shown.words, shown.tone) == ("Stop did not work", "bad")
    assert shown.todo == "Take candidate out of traffic by hand now: it still gets traffic."


def test_a_dry_run_says_that_nothing_was_changed():
    tried = replace(changed(samples.halted(), dry_run=True, actions=(Action("flagd", "dry_run"),)), history=())
    assert line(tried).words == "Would be stopped (dry run)"
    assert line(tried).todo.startswith("Nothing was changed.")


def test_a_dry_run_that_repeats_a_recorded_halt_is_a_halt():
    again = changed(samples.halted(), dry_run=True, actions=())
    assert line(again).words == "Stopped"
    record = {"decision": "halt", "decision_id": again.decision.decision_id, "as_of": samples.hour(49)}
    assert line(replace(again, history=(record,))).words == "Stopped"


@pytest.mark.parametrize(
    ("fields", "words", "todo"),
    [
        ({"exit_code": 30}, "On hold: data not trusted", "Do not read the effects yet."),
        ({"exit_code": 40}, "On hold: no data", "Check that logs arrive"),
        ({"exit_code": 10, "reason": "inconclusive", "next": {"eta_hours": 7.2, "needs": ["cost below its margin."]}},
         "On hold", "Keep the share and wait about 7 hours. Open: cost below its margin."),
        ({"exit_code": 10, "next": {"eta_hours": 0.5}}, "On hold", "Keep the share and wait about 30 minutes."),
        ({"exit_code": 10, "next": {"eta_hours": 100}}, "On hold", "Keep the share and wait about 4 days."),
        ({"exit_code": 10, "next": {"eta_hours": None, "needs": [{"units": 500}]}}, "On hold",
         "Keep the share and wait. Open: units 500."),
        ({"exit_code": 10, "reason": "harm_hold"}, "On hold", "Do not widen."),
        ({"decision": "promote", "reason": "override"}, "Widen by override", "Raise the share of candidate"),
        ({"decision": "promote", "reason": "timeout"}, "Widen: no harm shown in time", "Raise the share of candidate"),
        ({"decision": "promote", "reason": "all_safe", "actions": (Action("flagd", "done"),)}, "Safe to widen",
         "The share of candidate was raised (flagd)."),
        ({"decision": "ship", "reason": "superior"}, "Ready to ship", "Give candidate all traffic."),
    ],
)  # fmt: skip
def test_words_of_the_other_decisions(fields, words, todo):
    shown = line(changed(samples.holding(), **fields))
    assert shown.words == words
    assert shown.todo.startswith(todo)
    if fields.get("reason") in ("override", "timeout"):
        assert shown.tone == "warn"  # not proven safe, so it must not look safe


def test_without_a_decision():
    shown = line(samples.empty())
    assert (shown.words, shown.tone, shown.since, shown.decision) == ("Not decided", "muted", None, None)
    assert shown.why == "There is no evidence yet, and nothing was decided."
    measured = replace(samples.halted(), decision=None)
    assert line(measured).why == "The evidence was analysed, but nothing was decided on it yet."


def decision(word: str, hours: int, stage: int, **fields) -> dict:
    return {"decision": word, "as_of": samples.hour(hours), "stage": {"index": stage}, "revision": 1, **fields}


@pytest.mark.parametrize(
    ("word", "history", "expected"),
    [
        ("hold", [decision("hold", 40, 2), decision("hold", 30, 2)], 30),
        ("hold", [decision("hold", 40, 2), decision("promote", 35, 1), decision("hold", 20, 1)], 40),
        ("hold", [decision("hold", 40, 1)], 49),  # another stage counts anew
        ("halt", [decision("halt", 40, 1)], 40),  # a halt latches over stages
        ("halt", [decision("halt", 40, 2, revision=7)], 49),  # another revision is another experiment
        ("halt", [{"actuator": "flagd", "status": "done", "as_of": samples.hour(45)}, decision("halt", 40, 2)], 40),
        ("hold", [], 49),
    ],
)
def test_since_when(word, history, expected):
    entry = replace(changed(samples.holding(), decision=word), history=tuple(history))
    assert Context(entry).since() == samples.hour(expected)


def test_every_decision_of_the_contract_has_words_and_a_step():
    entry = samples.healthy()
    assert isinstance(entry.decision, Decision)
    seen = {line(changed(entry, decision=word)).words for word in ("promote", "hold", "halt", "ship")}
    assert len(seen) == 4
