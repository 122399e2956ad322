"""Decide about a release: analyse, apply the rules, write the ledger, act. The same input gives the same decision id."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from abtest.analysis.analyze import analyze_evidence
from abtest.analysis.evidence import Evidence
from abtest.analysis.read import read
from abtest.analysis.segment_read import Which
from abtest.analysis.times import parse_moment, to_text, to_us
from abtest.errors import ActuatorError, SpecError, UsageError, did_you_mean
from abtest.results import Action, Analysis, Decision, DecisionName, Finding
from abtest.rollout import outbox
from abtest.rollout.actuators import actuator_type
from abtest.rollout.actuators.base import ActuatorOutcome, HaltRequest, ShareRequest, TrafficActuator
from abtest.rollout.eta import eta_hours
from abtest.rollout.rules import EXIT, Facts, Outcome, conclude, next_stage
from abtest.spec import Experiment, canonical_sha256
from abtest.store import ledger
from abtest.store.store import Store

DECISIONS: tuple[DecisionName, ...] = ("promote", "hold", "halt", "ship")


def decide(
    store: Store,
    experiment: Experiment,
    *,
    as_of_us: int | None = None,
    dry_run: bool = False,
    findings: Sequence[Finding] = (),
    progress: Callable[[str], None] | None = None,
) -> Decision:
    """Decide, record and act; see `decide_with_analysis` for the analysis too."""
    decision, _ = decide_with_analysis(
        store, experiment, as_of_us=as_of_us, dry_run=dry_run, findings=findings, progress=progress
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
    findings: Sequence[Finding] = (),
    progress: Callable[[str], None] | None = None,
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
        findings: Further findings from elsewhere (versions, indexes) to report with the decision.
        progress: Called with a word before each slow step.

    Raises:
        SpecError: more than one treatment.
        LedgerError: the ledger was tampered with; nothing is decided on top of it.
        ActuatorError: the flag file could not carry out a halt; nothing is written.
    """
    if len(experiment.treatments) != 1:
        raise SpecError(
            f"decide takes exactly one treatment, this spec has {len(experiment.treatments)}", key="treatments",
            hint="`abtest analyze` compares any number",
        )  # fmt: skip
    ledger.verify(store.connection)
    past = ledger.entries(store.connection, experiment=experiment.id, revision=experiment.revision)
    evidence = read(
        store, experiment, as_of_us=as_of_us, history=allocation_history(past), series=series, segments=segments, progress=progress
    )  # fmt: skip
    analysis = analyze_evidence(evidence)
    facts = _facts(experiment, evidence, past, judge_age=as_of_us is None)
    outcome = conclude(experiment, analysis, facts, findings)
    decision = _decision(analysis, outcome, past, facts, dry_run)
    if not check_flag:
        return replace(decision, dry_run=True), analysis
    _check_flag(experiment, decision)
    if dry_run or store.read_only:
        actions = _act(store, experiment, decision, past, dry_run=True)
        actions += outbox.would_tell(store, experiment, decision, past)
        return replace(decision, dry_run=True, actions=actions), analysis
    _record(store, experiment, decision, analysis, evidence.max_file, past)
    try:
        actions = _act(store, experiment, decision, past, dry_run=False)
    except ActuatorError:
        outbox.tell(store, experiment, decision, past)  # the flag did not move: somebody must know all the more
        raise
    return replace(decision, actions=actions + outbox.tell(store, experiment, decision, past)), analysis


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


def allocation_history(past: Sequence[ledger.Entry]) -> list[tuple[int, float]]:
    """Return the changes of the split that abtest wrote into the flag file: (time, treatment's share)."""
    return [(int(e.body["at_us"]), float(e.body["share"])) for e in past if e.kind == "action" and "share" in e.body]


# -- parts -------------------------------------------------------------------------------------------------------


def _facts(experiment: Experiment, evidence: Evidence, past: Sequence[ledger.Entry], *, judge_age: bool) -> Facts:
    now = time.time_ns() // 1000
    rows = [r for r in evidence.stages if r["stage"] == evidence.stratum.index]
    treated = [r for r in rows if r["arm"] != experiment.control]
    first = min((int(r["first_us"]) for r in treated), default=None)
    hours = (evidence.as_of_us - first) / 3.6e9 if first is not None and evidence.as_of_us is not None else 0.0
    units = {str(r["arm"]): int(r["units"]) for r in rows}
    age = (now - evidence.as_of_us) / 1e6 if judge_age and evidence.as_of_us is not None else None
    standing, latched = _override_in_force(past, now), _latched(past)
    return Facts(
        stage_hours=max(hours, 0.0),
        stage_units=min((units.get(a, 0) for a in experiment.arm_names), default=0),
        age_seconds=age,
        latched=None if standing or latched is None else str(latched.body["summary"]),
        override=standing,
    )


def _override_in_force(past: Sequence[ledger.Entry], now_us: int) -> Mapping[str, Any] | None:
    overrides = [e for e in past if e.kind == "override"]
    return overrides[-1].body if overrides and int(overrides[-1].body["expires_us"]) > now_us else None


def _latched(past: Sequence[ledger.Entry]) -> ledger.Entry | None:
    """Return the first halt by evidence that no later override lifted."""
    standing: ledger.Entry | None = None
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


def _decision(
    analysis: Analysis, outcome: Outcome, past: Sequence[ledger.Entry], facts: Facts, dry_run: bool
) -> Decision:
    decision_id = canonical_sha256({
        "experiment": analysis.experiment, "revision": analysis.revision,
        "evidence": analysis.evidence_sha256, "policy": analysis.policy_sha256, "decision": outcome.decision,
    })  # fmt: skip
    decided = [e for e in past if e.kind == "decision" and e.decision_id != decision_id]
    eta = eta_hours(analysis, facts.stage_hours) if outcome.decision == "hold" else None
    return Decision(
        experiment=analysis.experiment, revision=analysis.revision, stage=analysis.stage,
        decision=outcome.decision, reason=outcome.reason, summary=_with_eta(outcome, eta), findings=outcome.findings,
        metrics=analysis.metrics, as_of=analysis.as_of, decision_id=decision_id, policy_sha256=analysis.policy_sha256,
        previous_decision_id=decided[-1].decision_id if decided else None,
        dry_run=dry_run, next={"eta_hours": eta, "needs": list(outcome.needs)}, checks=analysis.checks, exit_code=outcome.exit_code,
    )  # fmt: skip


def _with_eta(outcome: Outcome, eta: float | None) -> str:
    if eta is None or outcome.reason != "inconclusive":
        return outcome.summary
    span = f"{eta:.0f} hours" if eta < 72 else f"{eta / 24:.0f} days"
    return f"{outcome.summary} (about {span} more at this pace)" if eta >= 0.5 else outcome.summary


def _record(
    store: Store,
    experiment: Experiment,
    decision: Decision,
    analysis: Analysis,
    max_file: int,
    past: Sequence[ledger.Entry],
) -> None:
    """Append the decision once, with the spec it was made by and the message to send: recomputing it adds nothing."""
    last = next((e for e in reversed(past) if e.kind == "decision"), None)
    body = {
        "decision": decision.decision, "reason": decision.reason, "summary": decision.summary, "exit_code": decision.exit_code,
        "stage": decision.stage.to_dict(), "as_of": decision.as_of, "max_file": max_file,
        "evidence_sha256": analysis.evidence_sha256, "policy_sha256": decision.policy_sha256,
        "findings": [f.to_dict() for f in decision.findings],
        "spec": experiment.model_dump(mode="json", exclude={"halt"}, exclude_none=True, exclude_defaults=True),
    }  # fmt: skip
    con, ident = store.connection, decision.decision_id
    with outbox.atomic(con):
        if last is None or last.decision_id != ident:
            ledger.append(con, "decision", decision.experiment, decision.revision, body, decision_id=ident)
        outbox.enqueue(store, experiment, decision, past)


def _flag(experiment: Experiment) -> TrafficActuator | None:
    target = experiment.halt.flag
    if target is None:
        return None
    made = actuator_type(target.format)(path=experiment.folder / target.file, key=target.key, variants=target.variants)  # type: ignore[call-arg]
    assert isinstance(made, TrafficActuator)
    return made


def _check_flag(experiment: Experiment, decision: Decision) -> None:
    """Find out now that a halt could not be carried out, not on the night it is needed."""
    flag = _flag(experiment)
    if flag is None:
        return
    try:
        flag.check(experiment.arm_names)
    except ActuatorError as error:
        if decision.decision == "halt":
            error.hint = f"{error.hint or 'mend it'}; the decision is: {decision.summary}"
        raise


def _act(
    store: Store, experiment: Experiment, decision: Decision, past: Sequence[ledger.Entry], *, dry_run: bool
) -> tuple[Action, ...]:
    flag = _flag(experiment)
    if flag is None:
        return ()
    if decision.decision == "halt":
        latched = _latched(past)
        # A halt that stands keeps the id it was carried out under, so that acting again changes nothing.
        ident = latched.decision_id if latched is not None and latched.decision_id else decision.decision_id
        request = HaltRequest(**_request(experiment, decision, ident))
        outcome = flag.halt(request, dry_run=True)
        if dry_run or outcome.action.status == "already_done":
            return (outcome.action,)
        # The ledger knows what the flag said before it is changed: a crash in between loses nothing.
        _note(store, decision, outcome, {"status": "begun"})
        outcome = flag.halt(request)
        _note(store, decision, outcome, {})
        return (outcome.action,)
    following = next_stage(experiment, decision.stage)
    if (
        decision.decision == "promote"
        and experiment.traffic.control == "abtest"
        and following is not None
        and following.share
    ):
        request = ShareRequest(**_request(experiment, decision, decision.decision_id), share=following.share)
        outcome = flag.set_share(request, dry_run=dry_run)
        at_us = to_us(datetime.now(UTC))
        if outcome.action.status == "done":
            _note(store, decision, outcome, {"share": following.share, "at_us": at_us})
        return (outcome.action,)
    return ()


def _request(experiment: Experiment, decision: Decision, ident: str) -> dict[str, Any]:
    return {
        "experiment": experiment.id, "revision": experiment.revision, "decision_id": ident,
        "policy_sha256": decision.policy_sha256, "control": experiment.control, "treatments": tuple(experiment.treatments),
    }  # fmt: skip


def _note(store: Store, decision: Decision, outcome: ActuatorOutcome, more: Mapping[str, Any]) -> None:
    body = {**outcome.action.to_dict(), "original": outcome.original, **more}
    ledger.append(
        store.connection, "action", decision.experiment, decision.revision, body, decision_id=decision.decision_id
    )


__all__ = ["DECISIONS", "EXIT", "allocation_history", "decide", "decide_with_analysis", "override"]
