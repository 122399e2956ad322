"""Decide about a release: analyse, apply the rules, write the ledger, act. The same input gives the same decision id.

The steps are functions of their own, so that a replay can take them again with what the ledger kept: `read` and
`analyze_evidence` (abtest.analysis), `facts_of`, `conclude`, `decision_of`; see `body_of` for what an entry holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from abtest.analysis.analyze import analyze_evidence
from abtest.analysis.evidence import Evidence
from abtest.analysis.read import read
from abtest.analysis.segment_read import Which
from abtest.analysis.times import parse_moment, to_text
from abtest.errors import ActuatorError, SpecError, UsageError, did_you_mean
from abtest.results import Action, Analysis, Decision, DecisionName, Finding
from abtest.rollout import outbox
from abtest.rollout.act import act, flag_of, flag_problem, settle
from abtest.rollout.confirm import Confirmation, confirm
from abtest.rollout.deliver import tell
from abtest.rollout.facts import allocation_history, carried_out_us, facts_of, newest_call_us, standing_halt
from abtest.rollout.record import body_of, decision_of, record
from abtest.rollout.rules import EXIT, Facts, conclude
from abtest.spec import Experiment
from abtest.store import ledger
from abtest.store.query import Scan
from abtest.store.store import Store

DECISIONS: tuple[DecisionName, ...] = ("promote", "hold", "halt", "ship")

FindingsOf = Callable[[Store, Experiment, int | None, int], Sequence[Finding]]
"""Finds what else is to be reported, at the watermark of the decision: (store, experiment, as_of_us, max_file)."""
Findings = Sequence[Finding] | FindingsOf


@dataclass(frozen=True)
class Watching:
    """How `watch` decides: again and again, on a ledger that it has verified, and without ending at the first failure.

    Attributes:
        again_after_us: A decision that says what the last entry of the ledger says is kept only after so long.
        silence: Gets the moment of the experiment's newest call; says what is to be reported of it.
    """

    again_after_us: int
    silence: Callable[[int | None], Sequence[Finding]] = lambda _: ()


@dataclass(frozen=True)
class Decided:
    """All that came of deciding.

    Attributes:
        decision: What was decided, with what was done.
        analysis: What it was decided from.
        facts: What the rules knew besides.
        confirmation: What the logs say of the halt that stands; None when nothing is halted.
        body: What the ledger keeps of it.
        scan: How its calls were read.
        closed: It is halted, and rows after the halt are no evidence any more.
        recorded: Whether an entry was added.
    """

    decision: Decision
    analysis: Analysis
    facts: Facts
    confirmation: Confirmation | None
    body: Mapping[str, Any]
    scan: Scan
    closed: bool = False
    recorded: bool = False


def decide(
    store: Store,
    experiment: Experiment,
    *,
    as_of_us: int | None = None,
    dry_run: bool = False,
    findings: Findings = (),
    progress: Callable[[str], None] | None = None,
    deliver: bool = True,
) -> Decision:
    """Decide, record and act; see `decide_with_analysis` for the analysis too."""
    decision, _ = decide_with_analysis(
        store, experiment, as_of_us=as_of_us, dry_run=dry_run, findings=findings, progress=progress, deliver=deliver
    )
    return decision


def decide_with_analysis(
    store: Store,
    experiment: Experiment,
    *,
    as_of_us: int | None = None,
    dry_run: bool = False,
    check_flag: bool = True,
    series: bool = False,
    segments: Which = "guardrails",
    findings: Findings = (),
    progress: Callable[[str], None] | None = None,
    deliver: bool = True,
    now_us: int | None = None,
) -> tuple[Decision, Analysis]:
    """Decide about an experiment with exactly one treatment.

    Args:
        store: An open store; the decision is appended to its ledger unless `dry_run` or the store is read-only.
        experiment: What is asked.
        as_of_us: Watermark by event time; default: the newest event.
        dry_run: Say what would be done; write and touch nothing.
        check_flag: Look at the flag file at all; a report does not.
        series: Say how every metric's interval grew, too (`analyze`).
        segments: Which levels the analysis has; the decision needs those that are guardrails only.
        findings: Further findings from elsewhere (versions, indexes) to report with the decision: a list, or a function
            of (store, experiment, as_of_us, max_file) that is called with the watermark of this decision.
        progress: Called with a word before each slow step.
        deliver: Tell webhook and command now, while the store is open; else `abtest.rollout.deliver` does it afterwards.
        now_us: The clock, microseconds since 1970; default: this machine's.

    Raises:
        SpecError: more than one treatment.
        LedgerError: the ledger was tampered with; nothing is decided on top of it.
        ActuatorError: the flag file could not carry out a halt; nothing is written.
    """
    done = decide_fully(
        store, experiment, as_of_us=as_of_us, dry_run=dry_run, check_flag=check_flag, series=series, segments=segments,
        findings=findings, progress=progress, deliver=deliver, now_us=now_us,
    )  # fmt: skip
    return done.decision, done.analysis


def decide_fully(
    store: Store,
    experiment: Experiment,
    *,
    as_of_us: int | None = None,
    dry_run: bool = False,
    check_flag: bool = True,
    series: bool = False,
    segments: Which = "guardrails",
    findings: Findings = (),
    progress: Callable[[str], None] | None = None,
    deliver: bool = True,
    now_us: int | None = None,
    watching: Watching | None = None,
) -> Decided:
    """Decide as `decide_with_analysis` does, and return all that came of it; raises what it raises.

    With `watching` it decides as `watch` does: what an actuator cannot do is a failed action of the decision instead of an error.
    """
    check_decidable(experiment)
    if watching is None:
        ledger.verify(store.connection)
    now_us, began = time.time_ns() // 1000 if now_us is None else now_us, time.monotonic_ns()
    writing = check_flag and not dry_run and not store.read_only
    past = ledger.entries(store.connection, experiment=experiment.id, revision=experiment.revision)
    past = settle(store, experiment, past) if writing else past
    history = allocation_history(past)
    until_us = evidence_until(store, past, now_us) if as_of_us is None else as_of_us
    evidence = read(
        store, experiment, as_of_us=until_us, history=history, series=series, segments=segments, progress=progress
    )
    analysis = analyze_evidence(evidence)
    facts = facts_of(experiment, evidence, past, now_us=now_us, judge_age=until_us is None)
    share = evidence.stratum.share
    confirmed = confirm(store, experiment, evidence.scan, past, share=share, now_us=now_us, write=writing)
    extra = [*_found(findings, store, experiment, evidence), *_finding(confirmed, experiment)]
    extra += watching.silence(newest_call_us(evidence)) if watching is not None else ()
    outcome = conclude(experiment, analysis, facts, extra)
    decision = decision_of(analysis, outcome, past, facts, dry_run)
    body = body_of(experiment, decision, evidence, facts, extra, history, analysis.evidence_sha256)
    body |= {"watch": True} if watching is not None else {}
    done = Decided(
        decision, analysis, facts, confirmed, body, evidence.scan, closed=as_of_us is None and until_us is not None
    )
    if not check_flag:
        return replace(done, decision=replace(decision, dry_run=True))
    problem = flag_problem(experiment, decision)
    if problem is not None and watching is None:
        raise problem
    since_us = evidence.stratum.since_us

    def acting(*, only_say: bool) -> tuple[Action, ...]:
        if problem is not None:
            raise problem
        at_us = now_us + (time.monotonic_ns() - began) // 1000  # reading took its time
        return act(store, experiment, decision, past, at_us=at_us, since_us=since_us, dry_run=only_say)

    if not writing:
        actions = _or_failed(experiment, lambda: acting(only_say=True), watching)
        actions += outbox.would_tell(store, experiment, decision, past)
        return replace(done, decision=replace(decision, dry_run=True, actions=actions))
    again_after_us = None if watching is None else watching.again_after_us
    recorded = record(store, experiment, decision, body, past, again_after_us=again_after_us, now_us=now_us)
    try:
        actions = _or_failed(experiment, lambda: acting(only_say=False), watching)
    except ActuatorError:
        if deliver:
            tell(store, experiment, decision, past)  # the flag did not move: somebody must know all the more
        raise
    if deliver:
        actions += tell(store, experiment, decision, past)
    return replace(done, decision=replace(decision, actions=actions), recorded=recorded)


def override(
    store: Store, experiment: Experiment, decision: str, *, reason: str, actor: str, expires: str
) -> ledger.Entry:
    """Record a human decision that stands until it expires; it never hides what the evidence says.

    Raises:
        UsageError: an unknown decision, an empty reason or actor, an expiry in the past.
    """
    if decision not in DECISIONS:
        raise UsageError(f"{decision!r} is no decision", key="--decision", hint=did_you_mean(decision, DECISIONS))
    for key, text in (("--reason", reason), ("--actor", actor)):
        if not text.strip():
            raise UsageError("must not be empty", key=key)
    until = parse_moment(expires, key="--expires")
    if until <= time.time_ns() // 1000:
        raise UsageError(f"{expires!r} is in the past", key="--expires")
    body = {"decision": decision, "reason": reason, "actor": actor, "expires": to_text(until), "expires_us": until}
    return ledger.append(store.connection, "override", experiment.id, experiment.revision, body)


def check_decidable(experiment: Experiment) -> None:
    """Refuse a spec that nothing can be decided about; raises SpecError."""
    if len(experiment.treatments) != 1:
        raise SpecError(
            f"decide takes exactly one treatment, this spec has {len(experiment.treatments)}", key="treatments",
            hint="`abtest analyze` compares any number",
        )  # fmt: skip


def evidence_until(store: Store, past: Sequence[ledger.Entry], now_us: int) -> int | None:
    """Return the moment after which rows are no evidence, because abtest had halted the release; None while it runs."""
    began = standing_halt(past, now_us)
    at_us = carried_out_us(began, past) if began is not None else None
    newest = store.newest_us() if at_us is not None else None
    return at_us if at_us is not None and newest is not None and newest > at_us else None


# -- parts -------------------------------------------------------------------------------------------------------


def _found(findings: Findings, store: Store, experiment: Experiment, evidence: Evidence) -> Sequence[Finding]:
    if callable(findings):
        return findings(store, experiment, evidence.as_of_us, evidence.max_file)
    return findings


def _finding(confirmed: Confirmation | None, experiment: Experiment) -> Sequence[Finding]:
    found = confirmed.finding(experiment) if confirmed is not None else None
    return [found] if found is not None else []


def _or_failed(
    experiment: Experiment, acting: Callable[[], tuple[Action, ...]], watching: Watching | None
) -> tuple[Action, ...]:
    """Act; for `watch` what could not be done is an action that failed."""
    try:
        return acting()
    except ActuatorError as error:
        if watching is None:
            raise
        flag = flag_of(experiment)
        return (Action(flag.name if flag else "flag", "failed", str(error)),)


__all__ = [
    "DECISIONS", "EXIT", "Decided", "Findings", "FindingsOf", "Watching", "allocation_history", "body_of", "decide", "decide_fully",
    "decide_with_analysis", "decision_of", "facts_of", "override",
]  # fmt: skip
