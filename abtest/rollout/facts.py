"""What a decision knows besides its evidence: clocks of the stage, and what the ledger says of halts, overrides, shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abtest.analysis.evidence import Evidence
from abtest.rollout.rules import Facts
from abtest.spec import Experiment
from abtest.store.ledger import Entry


def facts_of(
    experiment: Experiment, evidence: Evidence, past: Sequence[Entry], *, now_us: int, judge_age: bool
) -> Facts:
    """Return the facts of a decision.

    Args:
        experiment: What is asked.
        evidence: Its evidence; the clock of a stage counts from the treatment's first call in it.
        past: The ledger's entries of this experiment and revision, in order.
        now_us: The clock, microseconds since 1970.
        judge_age: Whether the age of the newest call means anything: not where the watermark was chosen.
    """
    rows = [r for r in evidence.stages if r["stage"] == evidence.stratum.index]
    first = min((int(r["first_us"]) for r in rows if r["arm"] != experiment.control), default=None)
    hours = (evidence.as_of_us - first) / 3.6e9 if first is not None and evidence.as_of_us is not None else 0.0
    units = {str(r["arm"]): int(r["units"]) for r in rows}
    newest = newest_call_us(evidence)
    standing, halted = override_in_force(past, now_us), latched(past)
    return Facts(
        stage_hours=max(hours, 0.0),
        stage_units=min((units.get(a, 0) for a in experiment.arm_names), default=0),
        age_seconds=(now_us - newest) / 1e6 if judge_age and newest is not None else None,
        latched=None if standing or halted is None else str(halted.body["summary"]),
        override=standing,
    )


def newest_call_us(evidence: Evidence) -> int | None:
    """Return the moment of the experiment's newest call; of the newest event where it has none; None for an empty store."""
    newest = evidence.population["last_us"]
    return evidence.as_of_us if newest is None else int(newest)


def allocation_history(past: Sequence[Entry]) -> list[tuple[int, float]]:
    """Return the split as abtest itself wrote it into the flag file: (time, treatment's share), the first stage included.

    A change counts from the note that is written before the flag is touched: a crash in between loses nothing. The next
    decision looks what the flag says, and drops the note when the change was not made.
    """
    made: list[tuple[int, float]] = []
    for entry in past:
        body = entry.body
        if entry.kind != "action" or "share" not in body:
            continue
        at, share = int(body["at_us"]), float(body["share"])
        if body["status"] == "dropped":
            made = [row for row in made if row[0] != at]
            continue
        if not made and body.get("from_share") is not None:
            made.append((int(body["from_us"]), float(body["from_share"])))
        if not made or made[-1][1] != share:
            made.append((at, share))
    return made


def open_share(past: Sequence[Entry]) -> Entry | None:
    """Return the note of a change of the share that was begun, and of which nothing says that it was made."""
    notes = [e for e in past if e.kind == "action" and "share" in e.body]
    return notes[-1] if notes and notes[-1].body["status"] == "begun" else None


def override_in_force(past: Sequence[Entry], now_us: int) -> Mapping[str, Any] | None:
    """Return the newest override when it has not expired."""
    overrides = [e for e in past if e.kind == "override"]
    return overrides[-1].body if overrides and int(overrides[-1].body["expires_us"]) > now_us else None


def latched(past: Sequence[Entry]) -> Entry | None:
    """Return the first halt by evidence that no later override lifted."""
    standing: Entry | None = None
    for entry in past:
        if entry.kind == "override" and entry.body["decision"] != "halt":
            standing = None
        elif (
            entry.kind == "decision"
            and entry.body["decision"] == "halt"
            and entry.body["reason"] != "override"
            and standing is None
        ):
            standing = entry
    return standing


def halt_began(past: Sequence[Entry]) -> Entry | None:
    """Return the decision with which the halt that stands began, whoever halted; None when nothing is halted.

    A halt keeps this id however often it is decided again, so that acting again changes nothing.
    """
    began: Entry | None = None
    for entry in past:
        if entry.kind == "decision":
            began = (began or entry) if entry.body["decision"] == "halt" else None
    return began


def standing_halt(past: Sequence[Entry], now_us: int) -> Entry | None:
    """Return the decision with which the halt began that stands now; None when nothing is halted, or an override lifts it."""
    lifted = override_in_force(past, now_us)
    return None if lifted is not None and lifted["decision"] != "halt" else halt_began(past)


def carried_out_us(began: Entry, past: Sequence[Entry]) -> int | None:
    """Return when abtest carried a halt out; None when it did not, because another system controls the traffic.

    What comes after it is no evidence: everybody gets the control then, the treatment's units too, and nothing was randomised.
    """
    own = (e for e in past if e.kind == "action" and e.decision_id == began.decision_id and e.seq > began.seq)
    return min((int(e.body["at_us"]) for e in own if "at_us" in e.body), default=None)
